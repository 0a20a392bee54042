"""Tasks, of runs and one-off: list, show, update, complete, reopen, create, and comments and issues on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import listing, schemas, serializers, tasks, threads
from airflow_provider_tallyfy.sandbox.access import Caller
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid, not_found
from airflow_provider_tallyfy.sandbox.model import Task, ThreadLabel
from airflow_provider_tallyfy.sandbox.routes.dependencies import (
    ItemStore,
    ListStore,
    Member,
    SandboxStore,
    With,
)
from airflow_provider_tallyfy.sandbox.store import Store

router = APIRouter(prefix="/organizations/{organization}")


@router.get("/runs/{run_id}/tasks")
async def list_run_tasks(
    request: Request,
    store: ListStore,
    caller: Member,
    run_id: str,
    includes: With,
    query: listing.TaskFilters,
) -> JSONResponse:
    """List a run's tasks, including hidden ones; an archived run has none."""
    run = store.run(run_id, caller)
    if run.archived_at is not None:
        raise not_found()
    return _page(
        request,
        store,
        listing.tasks_found(store, run.tasks.values(), query, sort="position"),
        includes,
        query,
    )


@router.get("/runs/{run_id}/tasks/{task_id}")
async def get_run_task(
    store: ItemStore, caller: Member, run_id: str, task_id: str, includes: With
) -> JSONResponse:
    """Show a task of a run."""
    return _task(store, store.task(task_id, caller, run_id), includes)


@router.put("/runs/{run_id}/tasks/{task_id}")
async def update_run_task(
    store: SandboxStore, caller: Member, run_id: str, task_id: str, body: schemas.UpdateTask
) -> JSONResponse:
    """Change a task of a run, including its form values."""
    task = store.task(task_id, caller, run_id)
    tasks.update(store, caller, task, taskdata=body.taskdata, **body.changes())
    return _task(store, task)


@router.post("/runs/{run_id}/completed-tasks")
async def complete_run_task(
    store: SandboxStore, caller: Member, run_id: str, body: schemas.CompleteTask
) -> JSONResponse:
    """Complete a task of a run, and show which tasks the rules hid or showed."""
    store.run(run_id, caller)
    task = store.task(body.task_id, caller, run_id)
    changed = _complete(store, caller, task, body)
    return JSONResponse(
        {"data": {**serializers.task(store, task), "tasks_changed_by_rules": _statuses(store, changed)}}
    )


@router.delete("/runs/{run_id}/completed-tasks/{task_id}")
async def reopen_run_task(store: SandboxStore, caller: Member, run_id: str, task_id: str) -> JSONResponse:
    """Reopen a completed task of a run."""
    task = store.task(task_id, caller, run_id)
    tasks.reopen(store, caller, task)
    return _task(store, task)


@router.get("/tasks")
async def list_tasks(
    request: Request, store: ListStore, caller: Member, includes: With, query: listing.TaskFilters
) -> JSONResponse:
    """List the organization's tasks."""
    found = listing.organization_tasks(store, caller, query.archived)
    return _page(request, store, listing.tasks_found(store, found, query, sort="newest"), includes, query)


@router.get("/me/tasks")
async def list_my_tasks(
    request: Request, store: ListStore, caller: Member, includes: With, query: listing.TaskFilters
) -> JSONResponse:
    """List the tasks assigned to the caller; only the active ones if no status is given, as at Tallyfy."""
    query.status = query.status or "active"
    mine = (
        task
        for task in listing.organization_tasks(store, caller, query.archived)
        if store.is_assigned(task, caller.member)
    )
    return _page(request, store, listing.tasks_found(store, mine, query, sort="deadline"), includes, query)


@router.get("/users/{user_id}/tasks")
async def list_user_tasks(
    request: Request,
    store: ListStore,
    caller: Member,
    user_id: int,
    includes: With,
    query: listing.TaskFilters,
) -> JSONResponse:
    """List the tasks assigned to a member."""
    if user_id not in store.members:
        raise not_found()
    member = store.members[user_id]
    theirs = (
        task
        for task in listing.organization_tasks(store, caller, query.archived)
        if store.is_assigned(task, member)
    )
    return _page(request, store, listing.tasks_found(store, theirs, query, sort="newest"), includes, query)


@router.get("/guests/{email}/tasks")
async def list_guest_tasks(
    request: Request,
    store: ListStore,
    caller: Member,
    email: str,
    includes: With,
    query: listing.TaskFilters,
) -> JSONResponse:
    """List the tasks assigned to a guest."""
    theirs = (
        task
        for task in listing.organization_tasks(store, caller, query.archived)
        if email in task.owners.guests
    )
    return _page(request, store, listing.tasks_found(store, theirs, query, sort="newest"), includes, query)


@router.post("/tasks")
async def create_task(store: SandboxStore, caller: Member, body: schemas.CreateTask) -> JSONResponse:
    """Create a one-off task."""
    if any(tag not in store.tags for tag in body.tags):
        raise invalid({"tags": ["The selected tags are invalid."]})
    task = tasks.create(
        store,
        caller,
        owners=body.owners.owners(),
        run_id=body.run_id,
        title=body.title,
        task_type=body.task_type,
        deadline=body.deadline,
        summary=body.description or body.summary or "",
        tags=tuple(body.tags),
        captures=tuple(field.form_field(store.new_id()) for field in body.form_fields),
        everyone_must_complete=body.everyone_must_complete,
        can_complete_only_assignees=body.can_complete_only_assignees,
        **body.properties(),
    )
    return JSONResponse({"data": serializers.task(store, task, with_summary=True)}, status_code=201)


@router.get("/tasks/{task_id}")
async def get_task(store: ItemStore, caller: Member, task_id: str, includes: With) -> JSONResponse:
    """Show any task, of a run or one-off."""
    return _task(store, store.task(task_id, caller), includes)


@router.put("/tasks/{task_id}")
async def update_task(
    store: SandboxStore, caller: Member, task_id: str, body: schemas.UpdateTask
) -> JSONResponse:
    """Change a one-off task; title, deadline and owners are required each time."""
    task = _one_off(store.task(task_id, caller))
    missing = {
        name: [f"The {name} field is required."]
        for name in ("title", "deadline", "owners")
        if getattr(body, name) is None
    }
    if missing:
        raise invalid(missing)
    tasks.update(store, caller, task, taskdata=body.taskdata, **body.changes())
    return _task(store, task)


@router.delete("/tasks/{task_id}")
async def archive_task(store: SandboxStore, caller: Member, task_id: str) -> Response:
    """Archive a one-off task."""
    tasks.archive(store, caller, store.task(task_id, caller))
    return Response(status_code=204)


@router.put("/tasks/{task_id}/restore")
async def restore_task(store: SandboxStore, caller: Member, task_id: str) -> JSONResponse:
    """Restore an archived one-off task."""
    return _task(store, tasks.restore(store, caller, task_id))


@router.delete("/tasks/{task_id}/delete")
async def delete_task(store: SandboxStore, caller: Member, task_id: str) -> Response:
    """Delete a one-off task for good."""
    tasks.delete(store, caller, task_id)
    return Response(status_code=204)


@router.post("/completed-tasks")
async def complete_task(store: SandboxStore, caller: Member, body: schemas.CompleteTask) -> JSONResponse:
    """Complete a one-off task."""
    task = _one_off(store.task(body.task_id, caller))
    _complete(store, caller, task, body)
    return JSONResponse({"data": serializers.task(store, task)})


@router.delete("/completed-tasks/{task_id}")
async def reopen_task(store: SandboxStore, caller: Member, task_id: str) -> JSONResponse:
    """Reopen a completed one-off task."""
    task = _one_off(store.task(task_id, caller))
    tasks.reopen(store, caller, task)
    return _task(store, task)


@router.post("/tasks/{task_id}/comment")
async def comment(
    store: SandboxStore, caller: Member, task_id: str, body: schemas.WriteComment
) -> JSONResponse:
    """Comment on a task; the label ``problem`` reports an issue."""
    thread = threads.comment(
        store,
        caller,
        store.task(task_id, caller),
        body.content,
        label=body.label,
        state=body.state,
        sent_to=tuple(body.sent_to),
    )
    return JSONResponse({"data": serializers.thread(thread)}, status_code=201)


@router.put("/tasks/{task_id}/comment/{thread_id}")
async def edit_comment(
    store: SandboxStore, caller: Member, task_id: str, thread_id: str, body: schemas.EditComment
) -> JSONResponse:
    """Change the text of a comment, or its state."""
    thread = threads.edit(
        store, caller, store.task(task_id, caller), thread_id, body.content, state=body.state
    )
    return JSONResponse({"data": serializers.thread(thread)})


@router.delete("/tasks/{task_id}/comment/{thread_id}")
async def delete_comment(store: SandboxStore, caller: Member, task_id: str, thread_id: str) -> Response:
    """Delete a comment."""
    threads.delete(store, caller, store.task(task_id, caller), thread_id)
    return Response(status_code=204)


@router.post("/tasks/{task_id}/problem")
async def report_issue(
    store: SandboxStore, caller: Member, task_id: str, body: schemas.ReportIssue
) -> JSONResponse:
    """Report an issue on a task, which cannot be completed until it is resolved."""
    task = store.task(task_id, caller)
    thread = threads.comment(store, caller, task, body.content, label=ThreadLabel.PROBLEM)
    return JSONResponse({"data": serializers.thread(thread)}, status_code=201)


@router.post("/tasks/{task_id}/resolved-threads")
async def resolve_issue(
    store: SandboxStore, caller: Member, task_id: str, body: schemas.ResolveIssue
) -> JSONResponse:
    """Resolve an issue on a task."""
    thread = threads.resolve(
        store, caller, store.task(task_id, caller), body.thread_id, body.content, state=body.state
    )
    return JSONResponse({"data": serializers.thread(thread)}, status_code=201)


def _page(
    request: Request,
    store: Store,
    found: Sequence[Task],
    includes: serializers.Includes,
    query: listing.TaskQuery,
) -> JSONResponse:
    return JSONResponse(
        listing.page(found, lambda task: serializers.task(store, task, includes), query, request.url)
    )


def _task(store: Store, task: Task, includes: serializers.Includes = serializers.NOTHING) -> JSONResponse:
    return JSONResponse({"data": serializers.task(store, task, includes, with_summary=True)})


def _complete(store: Store, caller: Caller, task: Task, body: schemas.CompleteTask) -> list[Task]:
    return tasks.complete(store, caller, task, is_approved=body.is_approved, override_user=body.override_user)


def _statuses(store: Store, changed: Sequence[Task]) -> dict[str, Any]:
    return {task.id: {"title": task.title, "status": tasks.status(task, store.now())} for task in changed}


def _one_off(task: Task) -> Task:
    if task.run_id is not None:
        raise RefusedError(404, "Resource not found", code="RESOURCE_NOT_FOUND")
    return task
