"""Comments and issues on tasks and runs; an open issue blocks completion until it is resolved."""

from __future__ import annotations

from airflow_provider_tallyfy.sandbox import dependencies, tasks
from airflow_provider_tallyfy.sandbox.dependencies import (
    NO_CONTENT,
    Body,
    Caller,
    SandboxStore,
    Subject,
    Text,
)
from airflow_provider_tallyfy.sandbox.errors import RefusedError, not_found
from airflow_provider_tallyfy.sandbox.model import CommentState, Member, Run, Task, Thread, ThreadLabel
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.serializers import thread as shown
from airflow_provider_tallyfy.sandbox.store import Store

router = dependencies.organization_router()


class WriteComment(Body):
    """``POST …/comment`` and ``…/problem``, ``PUT …/comment/{thread}``."""

    content: Text
    label: ThreadLabel = "comment"
    state: CommentState | None = None
    sent_to: tuple[int, ...] = ()


class ResolveIssue(Body):
    """``POST …/resolved-threads``."""

    thread_id: Text
    content: Text
    state: CommentState | None = None


@router.post("/tasks/{task_id}/bot-comment", status_code=201)
@router.post("/tasks/{task_id}/comment", status_code=201)
@router.post("/runs/{run_id}/comment", status_code=201)
async def comment(store: SandboxStore, caller: Caller, subject: Subject, body: WriteComment) -> JSON:
    """Comment; the label ``problem`` reports an issue."""
    return shown(_comment(store, caller, subject, **dict(body)))


@router.put("/tasks/{task_id}/comment/{thread_id}")
async def edit_comment(
    store: SandboxStore, caller: Caller, task: dependencies.ThisTask, thread_id: str, body: WriteComment
) -> JSON:
    """Change the text of the caller's own comment, and its state if one is given."""
    thread = _find(task, thread_id)
    if thread.author_id != caller.id:
        raise RefusedError(403, "Only its author can change a comment.")
    thread.content, thread.updated_at = body.content, store.now()
    thread.state = body.state or thread.state
    store.changed(task)
    return shown(thread)


@router.delete("/tasks/{task_id}/comment/{thread_id}", **NO_CONTENT)
async def delete_comment(
    store: SandboxStore, caller: Caller, task: dependencies.ThisTask, thread_id: str
) -> None:
    task.threads.remove(_find(task, thread_id))
    store.record("comment-deleted", task, caller.id, "Deleted a comment")
    store.changed(task)


@router.post("/tasks/{task_id}/problem", status_code=201)
@router.post("/runs/{run_id}/problem", status_code=201)
async def report_issue(store: SandboxStore, caller: Caller, subject: Subject, body: WriteComment) -> JSON:
    """Report an issue: the task, or each task of the run, cannot be completed until it is resolved."""
    thread = _comment(store, caller, subject, body.content, label="problem")
    return shown(thread)


@router.post("/tasks/{task_id}/resolved-threads", status_code=201)
@router.post("/runs/{run_id}/resolved-threads", status_code=201)
async def resolve_issue(store: SandboxStore, caller: Caller, subject: Subject, body: ResolveIssue) -> JSON:
    issue = _find(subject, body.thread_id)
    if not issue.is_open_issue:
        raise RefusedError(422, "This is not an open issue.")
    answer = _comment(store, caller, subject, body.content, label="resolve", state=body.state)
    issue.resolve_id = answer.id
    issue.updated_at = store.now()
    store.record("issue-resolved", subject, caller.id, body.content, text=body.content)
    store.changed(subject)
    return shown(answer)


def _comment(
    store: Store,
    caller: Member,
    subject: Task | Run,
    content: str,
    *,
    label: ThreadLabel = "comment",
    state: CommentState | None = None,
    sent_to: tuple[int, ...] = (),
) -> Thread:
    """Add a comment; the label ``problem`` makes it an issue, which reopens a completed task."""
    store.spend("Comment")
    now = store.now()
    thread = Thread(
        id=store.new_id(),
        content=content,
        author_id=caller.id,
        label=label,
        created_at=now,
        updated_at=now,
        task_id=subject.id if isinstance(subject, Task) else None,
        run_id=subject.run_id if isinstance(subject, Task) else subject.id,
        state=state or store.behavior.comment_state,
        sent_to=sent_to,
    )
    is_issue = label == "problem"
    store.record("issue-reported" if is_issue else "commented", subject, caller.id, content, text=content)
    if is_issue and isinstance(subject, Task) and subject.completed_at is not None:
        tasks.undo_completion(store, caller, subject)
    subject.threads.append(thread)
    store.changed(subject)
    return thread


def _find(subject: Task | Run, thread_id: str) -> Thread:
    for thread in subject.threads:
        if thread.id == thread_id:
            return thread
    raise not_found()
