"""Comments and issues on tasks and runs; an open issue blocks completion until it is resolved."""

from __future__ import annotations

from airflow_provider_tallyfy.sandbox import tasks
from airflow_provider_tallyfy.sandbox.access import Caller
from airflow_provider_tallyfy.sandbox.errors import RefusedError, not_found
from airflow_provider_tallyfy.sandbox.model import CommentState, Run, Task, Thread, ThreadLabel
from airflow_provider_tallyfy.sandbox.store import HourlyCap, Store


def comment(
    store: Store,
    caller: Caller,
    subject: Task | Run,
    content: str,
    *,
    label: ThreadLabel = ThreadLabel.COMMENT,
    state: CommentState | None = None,
    sent_to: tuple[int, ...] = (),
) -> Thread:
    """Add a comment; the label ``problem`` makes it an issue, which reopens a completed task."""
    store.spend(HourlyCap.COMMENT)
    now = store.now()
    thread = Thread(
        id=store.new_id(),
        content=content,
        author_id=caller.member.id,
        label=label,
        created_at=now,
        updated_at=now,
        task_id=subject.id if isinstance(subject, Task) else None,
        run_id=subject.run_id if isinstance(subject, Task) else subject.id,
        state=state or CommentState(store.behavior.comment_state),
        sent_to=sent_to,
    )
    is_issue = label is ThreadLabel.PROBLEM
    store.record(
        "issue-reported" if is_issue else "commented", subject, caller.member.id, content, text=content
    )
    if is_issue and isinstance(subject, Task) and subject.completed_at is not None:
        tasks.undo_completion(store, caller, subject)
    subject.threads.append(thread)
    store.changed(subject)
    return thread


def resolve(
    store: Store,
    caller: Caller,
    subject: Task | Run,
    thread_id: str,
    content: str,
    *,
    state: CommentState | None = None,
) -> Thread:
    """Resolve an open issue with a comment."""
    issue = find(subject, thread_id)
    if not issue.is_open_issue:
        raise RefusedError(422, "This is not an open issue.")
    answer = comment(store, caller, subject, content, label=ThreadLabel.RESOLVE, state=state)
    issue.resolve_id = answer.id
    issue.updated_at = store.now()
    store.record("issue-resolved", subject, caller.member.id, content, text=content)
    store.changed(subject)
    return answer


def edit(
    store: Store,
    caller: Caller,
    subject: Task,
    thread_id: str,
    content: str,
    *,
    state: CommentState | None = None,
) -> Thread:
    """Change the text of the caller's own comment, and its state if one is given."""
    thread = find(subject, thread_id)
    if thread.author_id != caller.member.id:
        raise RefusedError(403, "Only its author can change a comment.")
    thread.content, thread.updated_at = content, store.now()
    thread.state = state or thread.state
    store.changed(subject)
    return thread


def delete(store: Store, caller: Caller, subject: Task, thread_id: str) -> None:
    """Delete a comment."""
    subject.threads.remove(find(subject, thread_id))
    store.record("comment-deleted", subject, caller.member.id, "Deleted a comment")
    store.changed(subject)


def find(subject: Task | Run, thread_id: str) -> Thread:
    """Return one of a subject's threads, or raise 404."""
    for thread in subject.threads:
        if thread.id == thread_id:
            return thread
    raise not_found()
