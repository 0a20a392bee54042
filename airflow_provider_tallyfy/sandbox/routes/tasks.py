"""Tasks, of runs and one-off: list, show, update, complete, reopen, create, archive, delete."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

from fastapi import Depends, Request, Response

from airflow_provider_tallyfy.sandbox import listing, schemas, serializers, tasks, templates
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid, not_found
from airflow_provider_tallyfy.sandbox.model import Task, guest_code
from airflow_provider_tallyfy.sandbox.routes import dependencies
from airflow_provider_tallyfy.sandbox.routes.dependencies import (
    NO_CONTENT,
    ItemStore,
    ListStore,
    Member,
    SandboxStore,
    ThisTask,
    With,
)
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import Store

router = dependencies.organization_router()

_ListTasks = Callable[[Iterable[Task], str], Response]


async def _list_tasks(store: ListStore, includes: With, query: listing.Pages) -> _ListTasks:
    """Return the function that answers a request for a list of tasks, given all of them and the default order."""

    def list_tasks(found: Iterable[Task], sort: str) -> Response:
        matching = listing.tasks_found(store, found, query, sort=sort)
        return query.answer(matching, lambda task: serializers.task(store, task, includes))

    return list_tasks


async def _visible_tasks(store: ListStore, caller: Member, query: listing.Pages) -> Iterable[Task]:
    return listing.organization_tasks(store, caller, query.given("archived"))


ListTasks = Annotated[_ListTasks, Depends(_list_tasks)]
VisibleTasks = Annotated[Iterable[Task], Depends(_visible_tasks)]


@router.get("/runs/{run_id}/tasks")
async def list_run_tasks(store: ListStore, caller: Member, run_id: str, list_tasks: ListTasks) -> Response:
    """List a run's tasks, including hidden ones; those of an archived run are gone with it."""
    run = store.run(run_id, caller)
    return list_tasks(() if run.archived_at is not None else run.tasks.values(), "position")


@router.get("/tasks")
async def list_organization_tasks(visible: VisibleTasks, list_tasks: ListTasks) -> Response:
    """List the organization's tasks."""
    return list_tasks(visible, "newest")


@router.get("/me/tasks")
async def list_my_tasks(
    store: ListStore, caller: Member, visible: VisibleTasks, query: listing.Pages, list_tasks: ListTasks
) -> Response:
    """List the tasks assigned to the caller; only the active ones if no status is given, as at Tallyfy."""
    mine = (task for task in visible if store.is_assigned(task, caller))
    if query.given("status") is None:
        mine = (task for task in mine if task.is_pending)
    return list_tasks(mine, "deadline")


@router.get("/users/{user_id}/tasks")
async def list_user_tasks(
    store: ListStore, user_id: int, visible: VisibleTasks, list_tasks: ListTasks
) -> Response:
    """List the tasks assigned to a member."""
    if user_id not in store.members:
        raise not_found()
    member = store.members[user_id]
    return list_tasks((task for task in visible if store.is_assigned(task, member)), "newest")


@router.get("/guests/{guest}/tasks")
async def list_guest_tasks(guest: str, visible: VisibleTasks, list_tasks: ListTasks) -> Response:
    """List the tasks assigned to a guest, named by the email address or by the code in the guest's link."""
    theirs = (
        task for task in visible if any(guest in (email, guest_code(email)) for email in task.owners.guests)
    )
    return list_tasks(theirs, "newest")


@router.get("/runs/{run_id}/tasks/{task_id}")
@router.get("/tasks/{task_id}")
async def get_task(request: Request, store: ItemStore, caller: Member, task_id: str, includes: With) -> JSON:
    """Show a task: of the run that the path names, or any."""
    return _task(store, store.task(task_id, caller, request.path_params.get("run_id")), includes)


@router.put("/runs/{run_id}/tasks/{task_id}")
async def update_run_task(
    store: SandboxStore, caller: Member, task: ThisTask, body: schemas.UpdateTask
) -> JSON:
    """Change a task of a run, including its form values."""
    tasks.update(store, caller, task, **body.given("status"))
    return _task(store, task)


@router.post("/runs/{run_id}/completed-tasks")
@router.post("/completed-tasks")
async def complete_task(
    request: Request, store: SandboxStore, caller: Member, body: schemas.CompleteTask
) -> JSON:
    """Complete a one-off task, or a task of a run, and show which of the run's tasks the rules hid or showed."""
    run_id = request.path_params.get("run_id")
    task = store.task(body.task_id, caller, run_id)
    _refuse_without_run(task, run_id)
    changed = tasks.complete(store, caller, task, **body.given("task_id"))
    shown = serializers.task(store, task)
    if run_id is not None:
        by_rules = {each.id: {"title": each.title, "status": tasks.status(each)} for each in changed}
        shown["tasks_changed_by_rules"] = by_rules
    return shown


@router.delete("/runs/{run_id}/completed-tasks/{task_id}")
@router.delete("/completed-tasks/{task_id}")
async def reopen_task(request: Request, store: SandboxStore, caller: Member, task: ThisTask) -> JSON:
    """Reopen a completed task, of a run or one-off."""
    _refuse_without_run(task, request.path_params.get("run_id"))
    tasks.reopen(store, caller, task)
    return _task(store, task)


@router.post("/tasks", status_code=201)
async def create_task(store: SandboxStore, caller: Member, body: schemas.CreateTask) -> JSON:
    """Create a one-off task, or a process that has one for each assignee."""
    if any(tag not in store.tags for tag in body.tags):
        raise invalid({"tags": ["The selected tags are invalid."]})
    create = tasks.create_for_each if body.separate_task_for_each_assignee else tasks.create
    task = create(
        store,
        caller,
        **body.given("description", "summary", "form_fields", "separate_task_for_each_assignee"),
        summary=body.description or body.summary or "",
        captures=[templates.new_field(store, field) for field in body.form_fields],
    )
    return _task(store, task)


@router.post("/tasks/{task_id}/clone", status_code=201)
async def clone_task(store: SandboxStore, caller: Member, task: ThisTask) -> JSON:
    """Copy a task as a one-off task, open and without its answers, in the same process if it is in one."""
    names = ("owners", "run_id", "title", "task_type", "deadline", "summary", "tags", "captures", "webhook")
    copy = tasks.create(store, caller, **{name: getattr(task, name) for name in names})
    return _task(store, copy)


@router.put("/tasks/{task_id}")
async def update_task(store: SandboxStore, caller: Member, task: ThisTask, body: schemas.UpdateTask) -> JSON:
    """Change a one-off task; title, deadline and owners are required each time."""
    _refuse_without_run(task, None)
    if missing := {"title", "deadline", "owners"} - body.given().keys():
        raise invalid({name: [f"The {name} field is required."] for name in sorted(missing)})
    tasks.update(store, caller, task, **body.given("status"))
    return _task(store, task)


@router.delete("/tasks/{task_id}", **NO_CONTENT)
async def archive_task(store: SandboxStore, caller: Member, task: ThisTask) -> None:
    """Archive a one-off task."""
    _need_one_off(task)
    task.archived_at = store.now()
    store.record("archived", task, caller.id, f"Archived task: {task.title}")
    store.changed(task)


@router.put("/tasks/{task_id}/restore")
async def restore_task(store: SandboxStore, caller: Member, task_id: str) -> JSON:
    """Restore an archived one-off task."""
    task = store.tasks.get(task_id)
    if task is None or task.archived_at is None:
        raise not_found()
    task.archived_at = None
    store.record("unarchived", task, caller.id, f"Restored task: {task.title}")
    store.changed(task)
    return _task(store, task)


@router.delete("/tasks/{task_id}/delete", **NO_CONTENT)
async def delete_task(store: SandboxStore, caller: Member, task_id: str) -> None:
    """Delete a one-off task for good."""
    task = store.tasks.get(task_id)
    if task is None:
        raise not_found()
    _need_one_off(task)
    store.remove_task(task_id)
    store.record("deleted", task, caller.id, f"Deleted task: {task.title}")
    store.changed(task)


def _task(store: Store, task: Task, includes: serializers.Includes = serializers.NOTHING) -> JSON:
    return serializers.task(store, task, includes, with_summary=True)


def _refuse_without_run(task: Task, run_id: str | None) -> None:
    """Raise 404 if a task is in a run, and the path does not name that."""
    if run_id is None and task.run_id is not None:
        raise not_found()


def _need_one_off(task: Task) -> None:
    if task.run_id is not None:
        raise RefusedError(422, "Only one-off tasks can be archived or deleted; archive the process instead.")
