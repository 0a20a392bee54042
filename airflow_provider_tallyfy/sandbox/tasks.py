"""The operations on a task of a run or a one-off task: complete, reopen, update, create."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow_provider_tallyfy.sandbox import fields, processes
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid
from airflow_provider_tallyfy.sandbox.model import Checklist, Member, Owners, Run, Task
from airflow_provider_tallyfy.sandbox.store import Store


def status(task: Task) -> str:
    """Return a task's status; tallyfy/mcp-public knows only these four, and an issue is none of them."""
    if task.hidden:
        return "auto-skipped"
    if task.completed_at is not None:
        return "completed"
    return "in-progress" if task.in_progress else "not-started"


def is_completable(store: Store, task: Task) -> bool:
    """Return whether a task can be completed, apart from the caller's rights and missing values."""
    run = store.run_of(task)
    return task.is_pending and not task.has_open_issue and not (run is not None and run.has_open_issue)


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
            # tallyfy/mcp-public: a person acknowledges such a task, unless the request says otherwise.
            task.is_approved = is_approved is not False
        else:
            task.is_approved = is_approved if task.task_type == "approval" else None
    return _end(store, caller.id, task, completer_id)


def expire(store: Store) -> None:
    """Complete the tasks that end themselves at their deadline, if that has passed; they have no completer."""
    now = store.now()
    for task in [task for task in store.expiring.values() if task.is_pending]:
        run = store.run_of(task)
        is_archived = task.archived_at is not None or (run is not None and run.archived_at is not None)
        if task.deadline is not None and task.deadline <= now and not is_archived:
            task.completed_at, task.last_updated, task.is_approved = task.deadline, now, False
            _end(store, task.starter_id, task, None)


def reopen(store: Store, caller: Member, task: Task) -> list[Task]:
    """Reopen a completed task, and return the tasks that rules changed."""
    if task.completed_at is None:
        raise RefusedError(422, "This task is not completed.")
    _refuse_while_issue_open(store, task)
    return undo_completion(store, caller, task)


def undo_completion(store: Store, caller: Member, task: Task) -> list[Task]:
    """Put a completed task back in progress, whatever issues it has."""
    task.reopen()
    task.last_updated = store.now()
    store.record("re-opened", task, caller.id, f"Reopened task: {task.title}")
    return _follow_up(store, caller.id, task)


def update(
    store: Store, caller: Member, task: Task, *, taskdata: Mapping[str, Any] | None = None, **properties: Any
) -> None:
    """Change the given properties and form values of a task; a completed task cannot be changed."""
    if task.completed_at is not None:
        raise invalid({"task": ["A completed task cannot be updated."]})
    _refuse_while_issue_open(store, task, of_run_only=True)
    if "owners" in properties and (errors := store.check_owners(properties["owners"])):
        raise invalid(errors)
    if taskdata is not None:
        task.taskdata |= fields.accept(task.captures, taskdata, surface="taskdata", members=store.members)
        task.in_progress = True
    for attribute, value in properties.items():
        setattr(task, attribute, value)
    if "deadline" in properties:
        task.deadline = store.working_time(properties["deadline"])
    task.last_updated = store.now()
    verb = "owners-updated" if "owners" in properties else "updated"
    store.record(verb, task, caller.id, f"Updated task: {task.title}")
    _follow_up(store, caller.id, task)


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
    if errors := store.check_owners(owners):
        raise invalid(errors)
    run = None if run_id is None else store.run(run_id, caller)
    now = store.now()
    task = Task(
        id=store.new_id(),
        increment_id=store.new_increment(),
        alias=f"one-off-{store.new_id()[:8]}",
        position=1 if run is None else 1 + max((task.position for task in run.tasks.values()), default=0),
        owners=owners,
        deadline=store.working_time(deadline),
        created_at=now,
        last_updated=now,
        starter_id=caller.id,
        run_id=run_id,
        **properties,
    )
    store.add_tasks([task])
    if run is not None:
        run.tasks[task.id] = task
    store.record("created", task, caller.id, f"Created task: {task.title}")
    _follow_up(store, caller.id, task)
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
    if errors := store.check_owners(owners):
        raise invalid(errors)
    if not each:
        raise invalid({"owners": ["At least one assignee is required."]})
    now, title = store.now(), properties["title"]
    run = Run(
        id=store.new_id(),
        increment_id=store.new_increment(),
        checklist=Checklist(id=store.new_id(), title=title, alias="", created_at=now),
        name=title,
        owner_id=caller.id,
        started_by=caller.id,
        created_at=now,
        last_updated=now,
    )
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
    store.record("completed", task, completer_id or actor_id, f"{decision} task: {task.title}")
    return _follow_up(store, actor_id, task)


def _follow_up(store: Store, actor_id: int, task: Task) -> list[Task]:
    run = store.run_of(task)
    changed: list[Task] = []
    if run is not None:
        changed = processes.run_rules(store, run, actor_id)
        run.last_updated = store.now()
        processes.settle(store, run)
    store.changed(task)
    return changed
