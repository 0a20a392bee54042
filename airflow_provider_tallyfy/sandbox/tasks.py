"""Tasks, of runs and one-off: list, show, update, complete, reopen, create, archive, delete; answers by their id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from pydantic import Field, model_validator

from airflow_provider_tallyfy.sandbox import dependencies, fields, listing, runs, serializers, templates
from airflow_provider_tallyfy.sandbox.dependencies import (
    NO_CONTENT,
    Body,
    Caller,
    ListStore,
    Moment,
    SandboxStore,
    ThisTask,
    With,
)
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid, not_found
from airflow_provider_tallyfy.sandbox.model import Checklist, Member, Owners, Run, Task, TaskType, guest_code
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import Store, associated, association_id

router = dependencies.organization_router()
_Title = Annotated[str, Field(min_length=1, max_length=600)]


class CompleteTask(Body):
    """``POST …/completed-tasks``."""

    task_id: dependencies.Text
    is_approved: bool | None = None
    override_user: int | None = None
    taskdata: Any = None

    @model_validator(mode="after")
    def _is_completion_only(self) -> CompleteTask:
        if self.taskdata is not None:
            raise ValueError("form values and the completion must be sent one after the other")
        return self


class TaskProperties(Body):
    """The properties that a new one-off task and an update of a task can set."""

    started_at: Moment | None = None
    max_assignable: int | None = Field(None, ge=0)
    prevent_guest_comment: bool | None = None
    webhook: str | None = None
    top_secret: bool | None = None


class UpdateTask(TaskProperties):
    """``PUT …/tasks/{task}``, of a run or one-off."""

    title: _Title | None = None
    summary: str | None = None
    deadline: Moment | None = None
    owners: Owners | None = None
    position: int | None = None
    taskdata: dependencies.Map[Any] | None = None
    status: Any = None

    @model_validator(mode="after")
    def _is_no_completion(self) -> UpdateTask:
        if self.taskdata is not None and self.status in ("complete", "completed"):
            raise ValueError("form values and the completion must be sent one after the other")
        return self


class CreateTask(TaskProperties):
    """``POST …/tasks``."""

    title: _Title
    task_type: TaskType
    owners: Owners
    deadline: Moment
    description: str | None = None
    summary: str | None = None
    everyone_must_complete: bool = False
    can_complete_only_assignees: bool = False
    tags: tuple[str, ...] = ()
    form_fields: tuple[JSON, ...] = ()
    run_id: str | None = None
    separate_task_for_each_assignee: bool = False


def complete(
    store: Store,
    caller: Member,
    task: Task,
    *,
    is_approved: bool | None = None,
    override_user: int | None = None,
) -> list[Task]:
    """Complete a task, an approval with its decision, and return the tasks that rules changed.

    A second completion follows :attr:`Behavior.second_completion`.
    """
    completed_before = task.completed_at is not None
    if completed_before and store.behavior.second_completion == "refuse":
        raise RefusedError(422, "This task is already completed.")
    if task.hidden:
        raise RefusedError(422, "This task is hidden by a rule and cannot be completed.")
    _refuse_while_issue_open(store, task)
    if task.can_complete_only_assignees and not store.is_assigned(task, caller):
        raise RefusedError(403, "Only assignees can complete this task.")
    if override_user is not None and override_user not in store.members:
        raise invalid({"override_user": ["The selected override user is invalid."]})
    if task.task_type == "approval" and is_approved is None:
        raise invalid({"is_approved": ["The is approved field is required for an approval task."]})
    fields.require(task.captures, task.taskdata, surface="taskdata")

    completer_id = caller.id if override_user is None else override_user
    if not completed_before or store.behavior.second_completion == "overwrite":
        task.completed_at = task.last_updated = store.now()
        task.completer_id = completer_id
        if task.expires:
            # tallyfy/mcp-public: a user acknowledges such a task, unless the request sends false.
            task.is_approved = is_approved is not False
        else:
            task.is_approved = is_approved if task.task_type == "approval" else None
    return _end(store, caller.id, task, completer_id)


def expire(store: Store) -> None:
    """Complete the tasks that end themselves at their deadline, if that has passed; they have no completer."""
    now = store.now()
    for task in [task for task in store.expiring.values() if task.is_pending]:
        if task.deadline is not None and task.deadline <= now and not store.is_archived(task):
            task.completed_at, task.last_updated, task.is_approved = task.deadline, now, False
            _end(store, task.starter_id, task, None)


def undo_completion(store: Store, caller: Member, task: Task) -> list[Task]:
    """Put a completed task back in progress, whatever issues it has, and return the tasks that rules changed."""
    task.reopen()
    task.last_updated = store.now()
    return _record(store, "re-opened", caller.id, task, "Reopened")


def update(
    store: Store, caller: Member, task: Task, *, taskdata: Mapping[str, Any] | None = None, **properties: Any
) -> None:
    """Change the given properties and form values of a task; a completed task cannot be changed."""
    if task.completed_at is not None:
        raise invalid({"task": ["A completed task cannot be updated."]})
    _refuse_while_issue_open(store, task, of_run_only=True)
    if "owners" in properties:
        store.check_owners(properties["owners"])
    if taskdata is not None:
        task.taskdata |= fields.accept(task.captures, taskdata, surface="taskdata", members=store.members)
        task.in_progress = True
    for attribute, value in properties.items():
        setattr(task, attribute, value)
    if "deadline" in properties:
        task.deadline = store.working_time(properties["deadline"])
    task.last_updated = store.now()
    _record(store, "owners-updated" if "owners" in properties else "updated", caller.id, task, "Updated")


def create(
    store: Store,
    caller: Member,
    *,
    owners: Owners,
    deadline: datetime,
    run_id: str | None = None,
    **properties: Any,
) -> Task:
    """Create a one-off task, by itself or in a run."""
    store.check_owners(owners)
    others = {} if run_id is None else store.run(run_id, caller).tasks
    now = store.now()
    task = Task(
        id=store.new_id(),
        increment_id=store.new_increment(),
        alias=f"one-off-{store.new_id()[:8]}",
        position=1 + max((each.position for each in others.values()), default=0),
        owners=owners,
        deadline=store.working_time(deadline),
        created_at=now,
        last_updated=now,
        starter_id=caller.id,
        run_id=run_id,
        **properties,
    )
    store.add_tasks([task])
    others[task.id] = task
    _record(store, "created", caller.id, task, "Created")
    return task


def create_for_each(store: Store, caller: Member, *, owners: Owners, **properties: Any) -> Task:
    """Create a process without a template, with a one-off task for each assignee, and return the first of them.

    A task goes to each member of a group, too. That the answer shows one task only is from tallyfy/mcp-public.
    """
    members = (
        user for group in owners.groups if group in store.groups for user in store.groups[group].members
    )
    each = [Owners(users=(user,)) for user in dict.fromkeys((*owners.users, *members))]
    each += [Owners(guests=(guest,)) for guest in owners.guests]
    store.check_owners(owners)
    if not each:
        raise invalid({"owners": ["At least one assignee is required."]})
    now, title = store.now(), properties["title"]
    checklist = Checklist(id=store.new_id(), title=title, alias="", created_at=now)
    run = Run(store.new_id(), store.new_increment(), checklist, title, caller.id, caller.id, now, now)
    store.runs[run.id] = run
    store.record("created", run, caller.id, f"Launched process: {run.name}")
    properties["run_id"] = run.id
    first, *_ = [create(store, caller, owners=one, **properties) for one in each]
    return first


def _refuse_while_issue_open(store: Store, task: Task, *, of_run_only: bool = False) -> None:
    run = store.run_of(task)
    if run is not None and run.has_open_issue:
        raise RefusedError(
            409, "The process has an open issue; its tasks cannot change until it is resolved."
        )
    if task.has_open_issue and not of_run_only:
        raise RefusedError(409, "The task has an open issue and cannot be completed until it is resolved.")


def _end(store: Store, actor_id: int, task: Task, completer_id: int | None) -> list[Task]:
    decision = {True: "Approved", False: "Rejected", None: "Completed"}[task.is_approved]
    if task.expires:
        decision = "Acknowledged" if task.is_approved else "Expired"
    return _record(store, "completed", actor_id, task, decision, by=completer_id)


def _record(
    store: Store, verb: str, actor_id: int, task: Task, text: str, *, by: int | None = None
) -> list[Task]:
    """Record a change of a task in the feed, run the rules of its run, and return the tasks that they changed.

    :param by: whom the feed names, if that is not the actor.
    """
    store.record(verb, task, by or actor_id, f"{text} task: {task.title}")
    run = store.run_of(task)
    changed: list[Task] = []
    if run is not None:
        changed = runs.run_rules(store, run, actor_id)
        run.last_updated = store.now()
        runs.settle(store, run)
    store.changed(task)
    return changed


_ListTasks = Callable[[Iterable[Task], str], Response]


async def _list_tasks(store: ListStore, includes: With, query: listing.Pages) -> _ListTasks:
    """Return the function that answers a request for a list of tasks, given all of them and the default order."""

    def list_tasks(found: Iterable[Task], sort: str) -> Response:
        matching = listing.tasks_found(store, found, query, sort=sort)
        return query.answer(matching, lambda task: serializers.task(store, task, includes))

    return list_tasks


async def _visible_tasks(store: ListStore, caller: Caller, query: listing.Pages) -> Iterable[Task]:
    return listing.organization_tasks(store, caller, query.given("archived"))


ListTasks = Annotated[_ListTasks, Depends(_list_tasks)]
VisibleTasks = Annotated[Iterable[Task], Depends(_visible_tasks)]


@router.get("/runs/{run_id}/tasks")
async def list_run_tasks(store: ListStore, caller: Caller, run_id: str, list_tasks: ListTasks) -> Response:
    """List a run's tasks, including hidden ones; those of an archived run are gone with it."""
    run = store.run(run_id, caller)
    return list_tasks(() if run.archived_at is not None else run.tasks.values(), "position")


@router.get("/tasks")
async def list_organization_tasks(visible: VisibleTasks, list_tasks: ListTasks) -> Response:
    return list_tasks(visible, "newest")


@router.get("/me/tasks")
async def list_my_tasks(
    store: ListStore, caller: Caller, visible: VisibleTasks, query: listing.Pages, list_tasks: ListTasks
) -> Response:
    """List the tasks assigned to the caller; only the active ones if no status is given, as at Tallyfy."""
    is_any = query.given("status") is not None
    mine = (task for task in visible if store.is_assigned(task, caller) and (is_any or task.is_pending))
    return list_tasks(mine, "deadline")


@router.get("/users/{user_id}/tasks")
async def list_user_tasks(
    store: ListStore, user_id: int, visible: VisibleTasks, list_tasks: ListTasks
) -> Response:
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
async def get_task(
    request: Request, store: dependencies.ItemStore, caller: Caller, task_id: str, includes: With
) -> JSON:
    """Show a task: of the run that the path names, or any."""
    return _shown(store, store.task(task_id, caller, request.path_params.get("run_id")), includes)


@router.put("/runs/{run_id}/tasks/{task_id}")
async def update_run_task(store: SandboxStore, caller: Caller, task: ThisTask, body: UpdateTask) -> JSON:
    """Change a task of a run, including its form values."""
    update(store, caller, task, **body.given("status"))
    return _shown(store, task)


@router.post("/runs/{run_id}/completed-tasks")
@router.post("/completed-tasks")
async def complete_task(request: Request, store: SandboxStore, caller: Caller, body: CompleteTask) -> JSON:
    """Complete a one-off task, or a task of a run, and show which of the run's tasks the rules hid or showed."""
    run_id = request.path_params.get("run_id")
    task = store.task(body.task_id, caller, run_id)
    _refuse_without_run(task, run_id)
    changed = complete(store, caller, task, **body.given("task_id"))
    shown = serializers.task(store, task)
    if run_id is not None:
        by_rules = {each.id: {"title": each.title, "status": each.status} for each in changed}
        shown["tasks_changed_by_rules"] = by_rules
    return shown


@router.delete("/runs/{run_id}/completed-tasks/{task_id}")
@router.delete("/completed-tasks/{task_id}")
async def reopen_task(request: Request, store: SandboxStore, caller: Caller, task: ThisTask) -> JSON:
    """Reopen a completed task, of a run or one-off."""
    _refuse_without_run(task, request.path_params.get("run_id"))
    if task.completed_at is None:
        raise RefusedError(422, "This task is not completed.")
    _refuse_while_issue_open(store, task)
    undo_completion(store, caller, task)
    return _shown(store, task)


@router.post("/tasks", status_code=201)
async def create_task(store: SandboxStore, caller: Caller, body: CreateTask) -> JSON:
    """Create a one-off task, or a process that has one for each assignee."""
    if any(tag not in store.tags for tag in body.tags):
        raise invalid({"tags": ["The selected tags are invalid."]})
    task = (create_for_each if body.separate_task_for_each_assignee else create)(
        store,
        caller,
        **body.given("description", "summary", "form_fields", "separate_task_for_each_assignee"),
        summary=body.description or body.summary or "",
        captures=[templates.new_field(store, field) for field in body.form_fields],
    )
    return _shown(store, task)


@router.post("/tasks/{task_id}/clone", status_code=201)
async def clone_task(store: SandboxStore, caller: Caller, task: ThisTask) -> JSON:
    """Copy a task as a one-off task, open and without its answers, in the same process if it is in one."""
    names = ("owners", "run_id", "title", "task_type", "deadline", "summary", "tags", "captures", "webhook")
    return _shown(store, create(store, caller, **{name: getattr(task, name) for name in names}))


@router.put("/tasks/{task_id}")
async def update_task(store: SandboxStore, caller: Caller, task: ThisTask, body: UpdateTask) -> JSON:
    """Change a one-off task; title, deadline and owners are required each time."""
    _refuse_without_run(task, None)
    if missing := {"title", "deadline", "owners"} - body.given().keys():
        raise invalid({name: [f"The {name} field is required."] for name in sorted(missing)})
    update(store, caller, task, **body.given("status"))
    return _shown(store, task)


@router.delete("/tasks/{task_id}", **NO_CONTENT)
async def archive_task(store: SandboxStore, caller: Caller, task: ThisTask) -> None:
    _need_one_off(task)
    task.archived_at = store.now()
    _record(store, "archived", caller.id, task, "Archived")


@router.put("/tasks/{task_id}/restore")
async def restore_task(store: SandboxStore, caller: Caller, task_id: str) -> JSON:
    task = store.tasks.get(task_id)
    if task is None or task.archived_at is None or not store.may_see_task(task, caller):
        raise not_found()
    task.archived_at = None
    _record(store, "unarchived", caller.id, task, "Restored")
    return _shown(store, task)


@router.delete("/tasks/{task_id}/delete", **NO_CONTENT)
async def delete_task(store: SandboxStore, caller: Caller, task_id: str) -> None:
    task = store.tasks.get(task_id)
    if task is None or not store.may_see_task(task, caller):
        raise not_found()
    _need_one_off(task)
    store.remove_task(task_id)
    _record(store, "deleted", caller.id, task, "Deleted")


@router.put("/form-field/value")
async def set_value(store: SandboxStore, caller: Caller, given: dependencies.Given) -> JSON:
    """Change an answer by its id; a field without an answer has none, and Tallyfy then fails.

    tallyfy/n8n describes that failure, and has a test that fails once Tallyfy repairs it.
    """
    try:
        pairs = ((task, field_id) for task in store.tasks.values() for field_id in task.taskdata)
        task, field_id = associated(pairs, given.get("id"))
        task = store.task(task.id, caller)
    except RefusedError:
        raise RefusedError(500, 'Attempt to read property "capture" on null') from None
    return _answer(store, caller, task, field_id, given)


@router.post("/guests/{email}/form-field/value")
async def set_value_of_guest(
    store: SandboxStore, caller: Caller, email: str, given: dependencies.Given
) -> JSON:
    """Answer a field, by its id, of an open task that is assigned to a guest."""
    for task in store.tasks.values():
        has_field = any(field.id == given.get("id") for field in task.captures)
        if has_field and task.is_pending and email in task.owners.guests:
            return _answer(store, caller, task, given["id"], given)
    raise not_found()


def _answer(store: Store, caller: Member, task: Task, field_id: str, given: JSON) -> JSON:
    update(store, caller, task, taskdata={field_id: given.get("form_value")})
    value = task.taskdata.get(field_id)
    return {"id": association_id(task.id, field_id), "capture_id": field_id, "value": value}


def _shown(store: Store, task: Task, includes: serializers.Includes = serializers.NOTHING) -> JSON:
    return serializers.task(store, task, includes, with_summary=True)


def _refuse_without_run(task: Task, run_id: str | None) -> None:
    """Raise 404 if a task is in a run, and the path does not name that."""
    if run_id is None and task.run_id is not None:
        raise not_found()


def _need_one_off(task: Task) -> None:
    if task.run_id is not None:
        raise RefusedError(422, "Only one-off tasks can be archived or deleted; archive the process instead.")
