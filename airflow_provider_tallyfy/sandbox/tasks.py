"""The operations on a task of a run or a one-off task: complete, reopen, update, create, archive."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from airflow_provider_tallyfy.sandbox import fields, processes
from airflow_provider_tallyfy.sandbox.access import Caller
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid, not_found
from airflow_provider_tallyfy.sandbox.model import Checklist, Owners, Run, Task, TaskType
from airflow_provider_tallyfy.sandbox.rules import apply_rules
from airflow_provider_tallyfy.sandbox.store import Store


class TaskStatus(StrEnum):
    """What a task's status can be."""

    NOT_STARTED = "not-started"
    ACTIVE = "active"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    AUTO_SKIPPED = "auto-skipped"
    HAS_PROBLEM = "hasproblem"


def status(task: Task, now: datetime) -> TaskStatus:
    """Return a task's status at a moment."""
    if task.hidden:
        return TaskStatus.AUTO_SKIPPED
    if task.has_open_issue:
        return TaskStatus.HAS_PROBLEM
    if task.completed_at is not None:
        return TaskStatus.COMPLETED
    if task.in_progress:
        return TaskStatus.IN_PROGRESS
    if task.started_at is None or task.started_at > now:
        return TaskStatus.NOT_STARTED
    return TaskStatus.ACTIVE


def is_completable(store: Store, task: Task) -> bool:
    """Return whether a task can be completed, apart from the caller's rights and missing values."""
    run = store.run_of(task)
    return task.is_pending and not task.has_open_issue and not (run is not None and run.has_open_issue)


def complete(
    store: Store,
    caller: Caller,
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
    if task.can_complete_only_assignees and not store.is_assigned(task, caller.member):
        raise RefusedError(403, "Only assignees can complete this task.")
    if override_user is not None and override_user not in store.members:
        raise invalid({"override_user": ["The selected override user is invalid."]})
    if task.task_type is TaskType.APPROVAL and is_approved is None:
        raise invalid({"is_approved": ["The is approved field is required for an approval task."]})
    fields.require(task.captures, task.taskdata, surface="taskdata")

    completer_id = caller.member.id if override_user is None else override_user
    if not completed_before or store.behavior.second_completion == "overwrite":
        task.completed_at = task.last_updated = store.now()
        task.completer_id = completer_id
        task.is_approved = is_approved if task.task_type is TaskType.APPROVAL else None
    decision = {True: "Approved", False: "Rejected", None: "Completed"}[task.is_approved]
    store.record("completed", task, completer_id, f"{decision} task: {task.title}")
    return _follow_up(store, caller, task)


def reopen(store: Store, caller: Caller, task: Task) -> list[Task]:
    """Reopen a completed task, and return the tasks that rules changed."""
    if task.completed_at is None:
        raise RefusedError(422, "This task is not completed.")
    _refuse_while_issue_open(store, task)
    return undo_completion(store, caller, task)


def undo_completion(store: Store, caller: Caller, task: Task) -> list[Task]:
    """Put a completed task back in progress, whatever issues it has."""
    task.completed_at = task.completer_id = task.is_approved = None
    task.in_progress = True
    task.last_updated = store.now()
    store.record("re-opened", task, caller.member.id, f"Reopened task: {task.title}")
    return _follow_up(store, caller, task)


def update(
    store: Store, caller: Caller, task: Task, *, taskdata: Mapping[str, Any] | None = None, **properties: Any
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
    task.last_updated = store.now()
    verb = "owners-updated" if "owners" in properties else "updated"
    store.record(verb, task, caller.member.id, f"Updated task: {task.title}")
    _follow_up(store, caller, task)


def create(
    store: Store, caller: Caller, *, owners: Owners, run_id: str | None = None, **properties: Any
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
        created_at=now,
        last_updated=now,
        starter_id=caller.member.id,
        run_id=run_id,
        **properties,
    )
    store.tasks[task.id] = task
    if run is not None:
        run.tasks[task.id] = task
    store.record("created", task, caller.member.id, f"Created task: {task.title}")
    _follow_up(store, caller, task)
    return task


def create_for_each(store: Store, caller: Caller, *, owners: Owners, **properties: Any) -> Task:
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
        owner_id=caller.member.id,
        started_by=caller.member.id,
        created_at=now,
        last_updated=now,
    )
    store.runs[run.id] = run
    store.record("created", run, caller.member.id, f"Launched process: {run.name}")
    properties["run_id"] = run.id
    first, *_ = [create(store, caller, owners=one, **properties) for one in each]
    return first


def archive(store: Store, caller: Caller, task: Task) -> None:
    """Archive a one-off task."""
    _refuse_in_run(task)
    task.archived_at = store.now()
    store.record("archived", task, caller.member.id, f"Archived task: {task.title}")
    store.changed(task)


def restore(store: Store, caller: Caller, task_id: str) -> Task:
    """Restore an archived one-off task."""
    task = store.tasks.get(task_id)
    if task is None or task.archived_at is None:
        raise not_found()
    task.archived_at = None
    store.record("unarchived", task, caller.member.id, f"Restored task: {task.title}")
    store.changed(task)
    return task


def delete(store: Store, caller: Caller, task_id: str) -> None:
    """Delete a one-off task for good."""
    task = store.tasks.get(task_id)
    if task is None:
        raise not_found()
    _refuse_in_run(task)
    del store.tasks[task_id]
    store.record("deleted", task, caller.member.id, f"Deleted task: {task.title}")
    store.changed(task)


def _refuse_in_run(task: Task) -> None:
    if task.run_id is not None:
        raise RefusedError(422, "Only one-off tasks can be archived or deleted; archive the process instead.")


def _refuse_while_issue_open(store: Store, task: Task, *, of_run_only: bool = False) -> None:
    run = store.run_of(task)
    if run is not None and run.has_open_issue:
        raise RefusedError(
            409, "The process has an open issue; its tasks cannot change until it is resolved."
        )
    if task.has_open_issue and not of_run_only:
        raise RefusedError(409, "The task has an open issue and cannot be completed until it is resolved.")


def _follow_up(store: Store, caller: Caller, task: Task) -> list[Task]:
    run = store.run_of(task)
    changed: list[Task] = []
    if run is not None:
        changed = apply_rules(run)
        for other in changed:
            verb, done = ("disabled", "Hid") if other.hidden else ("enabled", "Showed")
            store.record(verb, other, caller.member.id, f"{done} task by a rule: {other.title}")
        run.last_updated = store.now()
        processes.settle(store, run)
    store.changed(task)
    return changed
