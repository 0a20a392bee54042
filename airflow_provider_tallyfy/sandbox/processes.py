"""Launching, updating and settling runs, and their status."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow_provider_tallyfy.sandbox import fields
from airflow_provider_tallyfy.sandbox.errors import invalid
from airflow_provider_tallyfy.sandbox.model import Member, Owners, Run, Step, Task
from airflow_provider_tallyfy.sandbox.rules import apply_rules
from airflow_provider_tallyfy.sandbox.store import Store

# What the feed says of an action of a rule: its verb, and the beginning of its description.
_BY_RULE = {
    "hide": ("disabled", "Hid task"),
    "show": ("enabled", "Showed task"),
    "deadline": ("updated", "Moved deadline"),
    "reopen": ("re-opened", "Reopened task"),
    **dict.fromkeys(
        ("assign", "assign_only", "unassign", "clear_assignees"),
        ("owners-updated", "Changed assignees"),
    ),
}


def status(run: Run, now: datetime) -> str:
    """Return a run's status: the most severe one that applies."""
    if run.archived_at is not None:
        return "archived"
    if run.has_open_issue:
        return "issue"
    # One plain pass, since a list of thousands of runs calls this for each.
    is_delayed = False
    for task in run.tasks.values():
        if task.is_pending:
            if task.has_open_issue:
                return "problem"
            is_delayed = is_delayed or (task.deadline is not None and task.deadline < now)
    if run.completed_at is not None:
        return "complete"
    return "delayed" if is_delayed else "active"


def launch(
    store: Store,
    caller: Member,
    checklist_id: str,
    *,
    name: str | None = None,
    prerun: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    run_id: str | None = None,
    **properties: Any,
) -> Run:
    """Start a process from a template.

    :param overrides: owners and deadline by step id; an unknown step is ignored, as at Tallyfy.
    :param run_id: the id of a seeded run; random if not given.
    :param properties: attributes of :class:`Run` that the caller may choose.
    """
    checklist = store.checklists.get(checklist_id)
    if checklist is None or checklist.archived_at is not None:
        raise invalid({"checklist_id": ["The selected checklist id is invalid."]})
    values = fields.accept(checklist.prerun, prerun or {}, surface="prerun", members=store.members)
    fields.require(checklist.prerun, values, surface="prerun")
    _check_properties(store, properties)
    now = store.now()
    run = Run(
        id=run_id or store.new_id(),
        increment_id=store.new_increment(),
        checklist=checklist,
        name=name or f"{checklist.title} - {now:%Y-%m-%d}",
        prerun=values,
        **{
            "owner_id": caller.id,
            "started_by": caller.id,
            "created_at": now,
            "last_updated": now,
            **properties,
        },
    )
    run.tasks = {task.id: task for task in _tasks(store, run, overrides or {})}
    run_rules(store, run, caller.id, is_launch=True)
    store.runs[run.id] = run
    store.add_tasks(run.tasks.values())
    store.record("created", run, caller.id, f"Launched process: {run.name}")
    settle(store, run)
    store.changed(run)
    return run


def update(
    store: Store, caller: Member, run: Run, *, prerun: Mapping[str, Any] | None = None, **properties: Any
) -> None:
    """Change the given properties and kick-off values of a run; see :attr:`Behavior.run_update`."""
    if store.behavior.run_update == "replace":
        properties = {"users": (), "groups": (), **properties}
    _check_properties(store, properties)
    if prerun is not None:
        values = fields.accept(run.checklist.prerun, prerun, surface="prerun", members=store.members)
        fields.require(run.checklist.prerun, run.prerun | values, surface="prerun")
        run.prerun |= values
        run_rules(store, run, caller.id)
    for attribute, value in properties.items():
        setattr(run, attribute, value)
    run.last_updated = store.now()
    store.record("updated", run, caller.id, f"Updated process: {run.name}")
    settle(store, run)
    store.changed(run)


def run_rules(store: Store, run: Run, actor_id: int, *, is_launch: bool = False) -> list[Task]:
    """Run the rules of a run, and return the tasks that they changed.

    The feed gets a row of type ``execution`` for each, but none for what is hidden or shown at the launch.
    """
    done = apply_rules(run, store.now())
    for task, verb in done:
        if verb == "deadline" and task.deadline is not None:
            task.deadline = store.working_time(task.deadline)
        if not (is_launch and verb in ("hide", "show")):
            said, description = _BY_RULE[verb]
            store.record(
                said, task, actor_id, f"{description} by a rule: {task.title}", entry_type="execution"
            )
    return list({task.id: task for task, _ in done}.values())


def settle(store: Store, run: Run) -> None:
    """Complete a run that has no open task left, or make it active again if it has one."""
    is_pending = run.kickoff_is_open or any(task.is_pending for task in run.tasks.values())
    done = bool(run.tasks) and not is_pending
    if done and run.completed_at is None:
        run.completed_at = store.now()
        store.record("completed", run, run.started_by, f"Completed process: {run.name}")
    elif not done and run.completed_at is not None:
        run.completed_at = None
        store.record("re-opened", run, run.started_by, f"Reopened process: {run.name}")


def _check_properties(store: Store, properties: Mapping[str, Any]) -> None:
    errors: dict[str, list[str]] = {}
    for attribute in ("owner_id", "started_by"):
        if attribute in properties and properties[attribute] not in store.members:
            errors[attribute] = ["The selected user is not a member of the organization."]
    for attribute, known in (
        ("users", store.members),
        ("groups", store.groups),
        ("tags", store.tags),
        ("folders", store.folders),
    ):
        if any(key not in known for key in properties.get(attribute, ())):
            errors[attribute] = [f"The selected {attribute} are invalid."]
    parent_id = properties.get("parent_id")
    if parent_id is not None and parent_id not in store.runs:
        errors["parent_id"] = ["The selected parent id is invalid."]
    if errors:
        raise invalid(errors)


def _tasks(store: Store, run: Run, overrides: Mapping[str, Mapping[str, Any]]) -> list[Task]:
    errors: dict[str, list[str]] = {}
    tasks = []
    for step in run.checklist.steps:
        override = overrides.get(step.id, {})
        owners = override.get("owners") or step.owners or Owners(users=(run.started_by,))
        errors |= {f"tasks.{step.id}.{key}": messages for key, messages in store.check_owners(owners).items()}
        task = _task(store, run, step, owners, override.get("deadline"))
        task.deadline_set_by_hand = override.get("deadline_set_by_hand", False)
        tasks.append(task)
    if errors:
        raise invalid(errors)
    return tasks


def _task(store: Store, run: Run, step: Step, owners: Owners, deadline: datetime | None) -> Task:
    if deadline is None and step.deadline_after is not None:
        deadline = run.created_at + step.deadline_after
    deadline = deadline and store.working_time(deadline)
    return Task(
        # Derived from the run and the step, so that the tasks of a seeded run have fixed ids too.
        id=uuid.uuid5(uuid.NAMESPACE_OID, f"{run.id}/{step.id}").hex,
        increment_id=store.new_increment(),
        title=step.title,
        alias=step.alias,
        task_type=step.step_type,
        position=step.position,
        owners=owners,
        created_at=run.created_at,
        last_updated=run.created_at,
        starter_id=run.started_by,
        started_at=run.created_at + step.start_after,
        deadline=deadline,
        run_id=run.id,
        checklist_id=run.checklist.id,
        step_id=step.id,
        summary=step.summary,
        captures=step.captures,
        webhook=step.settings.get("webhook"),
        can_complete_only_assignees=step.can_complete_only_assignees,
    )
