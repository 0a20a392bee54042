"""Runs: launch, list, show, update, archive, restore, delete for good; their kick-off forms and their export."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from typing import Any

from fastapi import Response
from pydantic import Field

from airflow_provider_tallyfy.sandbox import dependencies, fields, listing, serializers
from airflow_provider_tallyfy.sandbox.dependencies import Body, Caller, SandboxStore, ThisRun, With
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid
from airflow_provider_tallyfy.sandbox.model import Member, Owners, Run, Task
from airflow_provider_tallyfy.sandbox.rules import apply_rules
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import Store, association_id

router = dependencies.organization_router("/runs")

# The verb and the description that the feed has for an action of a rule.
_BY_RULE = {
    "hide": ("disabled", "Hid task"),
    "show": ("enabled", "Showed task"),
    "deadline": ("updated", "Moved deadline"),
    "reopen": ("re-opened", "Reopened task"),
}
_ASSIGNED_BY_RULE = ("owners-updated", "Changed assignees")


class TaskOverride(Body):
    """What a launch can change in the task of a step."""

    owners: Owners | None = None
    deadline: dependencies.Moment | None = None
    deadline_set_by_hand: bool = False


class RunProperties(Body):
    """The properties of a run that a launch and an update can set."""

    name: str | None = Field(None, max_length=550)
    summary: str | None = None
    owner_id: int | None = None
    starred: bool | None = None
    is_public: bool | None = None
    users: tuple[int, ...] | None = None
    groups: tuple[str, ...] | None = None
    prerun: dependencies.Map[Any] | None = None


class LaunchRun(RunProperties):
    """``POST …/runs``."""

    checklist_id: dependencies.Text
    user_id: int | None = None
    parent_id: str | None = None
    tasks: dependencies.Map[TaskOverride] = Field({})
    tags: tuple[str, ...] | None = None
    folders: tuple[str, ...] | None = None


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
    people = {"owner_id": caller.id, "started_by": caller.id}
    run = Run(
        id=run_id or store.new_id(),
        increment_id=store.new_increment(),
        checklist=checklist,
        name=name or f"{checklist.title} - {now:%Y-%m-%d}",
        prerun=values,
        created_at=now,
        last_updated=now,
        **people | properties,
    )
    _add_tasks(store, run, overrides or {})
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
    _record(store, "updated", run, caller, "Updated process")


def run_rules(store: Store, run: Run, actor_id: int, *, is_launch: bool = False) -> list[Task]:
    """Run the rules of a run, and return the tasks that they changed.

    The feed gets a row of type ``execution`` for each, but none for what is hidden or shown at the launch.
    """
    done = apply_rules(run, store.now())
    for task, verb in done:
        if verb == "deadline" and task.deadline is not None:
            task.deadline = store.working_time(task.deadline)
        if not (is_launch and verb in ("hide", "show")):
            recorded, text = _BY_RULE.get(verb, _ASSIGNED_BY_RULE)
            store.record(recorded, task, actor_id, f"{text} by a rule: {task.title}", entry_type="execution")
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
    for attribute, name in (("owner_id", "owner_id"), ("started_by", "user_id")):
        if attribute in properties and properties[attribute] not in store.members:
            errors[name] = ["The selected user is not a member of the organization."]
    known: dict[str, Collection[Any]] = {
        "users": store.members,
        "groups": store.groups,
        "tags": store.tags,
        "folders": store.folders,
    }
    for attribute, items in known.items():
        if any(key not in items for key in properties.get(attribute, ())):
            errors[attribute] = [f"The selected {attribute} are invalid."]
    parent_id = properties.get("parent_id")
    if parent_id is not None and parent_id not in store.runs:
        errors["parent_id"] = ["The selected parent id is invalid."]
    if errors:
        raise invalid(errors)


def _add_tasks(store: Store, run: Run, overrides: Mapping[str, Mapping[str, Any]]) -> None:
    """Add a task for each step of the run's template, or raise 422."""
    now, copied = run.created_at, ("alias", "title", "position", "summary", "captures")
    for step in run.checklist.steps:
        override = overrides.get(step.id, {})
        owners = override.get("owners") or step.owners or Owners(users=(run.started_by,))
        store.check_owners(owners, f"tasks.{step.id}.owners.")
        deadline = override.get("deadline")
        if deadline is None and step.deadline_after is not None:
            deadline = now + step.deadline_after
        task = Task(
            # Derived from the run and the step, so that the tasks of a seeded run have fixed ids too.
            id=uuid.uuid5(uuid.NAMESPACE_OID, f"{run.id}/{step.id}").hex,
            increment_id=store.new_increment(),
            task_type=step.step_type,
            owners=owners,
            created_at=now,
            last_updated=now,
            starter_id=run.started_by,
            started_at=now + step.start_after,
            deadline=deadline and store.working_time(deadline),
            deadline_set_by_hand=override.get("deadline_set_by_hand", False),
            run_id=run.id,
            checklist_id=run.checklist.id,
            step_id=step.id,
            webhook=step.settings.get("webhook"),
            can_complete_only_assignees=step.can_complete_only_assignees,
            **{name: getattr(step, name) for name in copied},
        )
        run.tasks[task.id] = task


@router.get("")
async def list_runs(
    store: dependencies.ListStore, caller: Caller, includes: With, query: listing.Pages
) -> Response:

    def show(run: Run) -> JSON:
        return serializers.run(store, run, includes, form_fields_values=query.form_fields_values)

    return query.answer(listing.runs(store, caller, query), show)


@router.post("", status_code=201)
async def launch_run(store: SandboxStore, caller: Caller, body: LaunchRun) -> JSON:
    properties = body.given("checklist_id", "user_id", "tasks")
    if body.user_id is not None:
        properties["started_by"] = body.user_id
    overrides = {step_id: override.given() for step_id, override in body.tasks.items()}
    run = launch(store, caller, body.checklist_id, overrides=overrides, **properties)
    return serializers.run(store, run)


@router.get("/{run_id}")
async def get_run(
    store: dependencies.ItemStore,
    caller: Caller,
    run_id: str,
    includes: With,
    form_fields_values: bool = False,
) -> JSON:
    """Show a run; an archived one has ``archived_at`` and no tasks."""
    run = store.run(run_id, caller)
    return serializers.run(store, run, includes, form_fields_values=form_fields_values)


@router.put("/{run_id}")
async def update_run(store: SandboxStore, caller: Caller, run: ThisRun, body: RunProperties) -> JSON:
    update(store, caller, run, **body.given())
    return serializers.run(store, run)


@router.delete("/{run_id}")
async def archive_run(store: SandboxStore, caller: Caller, run: ThisRun) -> JSON:
    if run.archived_at is None:
        run.archived_at = store.now()
        _record(store, "archived", run, caller, "Archived process")
    return serializers.run(store, run)


@router.put("/{run_id}/activate")
async def activate_run(store: SandboxStore, caller: Caller, run: ThisRun) -> JSON:
    if run.archived_at is not None:
        run.archived_at = None
        _record(store, "unarchived", run, caller, "Restored process")
    return serializers.run(store, run)


@router.delete("/{run_id}/delete")
async def delete_run(store: SandboxStore, caller: Caller, run: ThisRun) -> Response:
    """Delete an archived run and its tasks for good; the answer has an empty body, as documented."""
    dependencies.check_deletable(caller, "process", run.archived_at)
    del store.runs[run.id]
    for task_id in run.tasks:
        store.remove_task(task_id)
    store.record("deleted", run, caller.id, f"Deleted process: {run.name}")
    store.changed(run)
    return Response()


@router.post("/{run_id}/complete-prerun")
async def complete_kickoff(store: SandboxStore, caller: Caller, run: ThisRun) -> JSON:
    fields.require(run.checklist.prerun, run.prerun, surface="prerun")
    run.kickoff_is_open = False
    _record(store, "updated", run, caller, "Completed the kick-off form")
    return serializers.run(store, run)


@router.delete("/{run_id}/complete-prerun")
async def reopen_kickoff(store: SandboxStore, caller: Caller, run: ThisRun) -> JSON:
    """Reopen the kick-off form, which makes a complete process active again."""
    run.kickoff_is_open = True
    _record(store, "re-opened", run, caller, "Reopened the kick-off form")
    return serializers.run(store, run)


@router.post("/{run_id}/export")
async def export(store: SandboxStore, caller: Caller, run: ThisRun) -> JSON:
    """Return a process with all its tasks and answers; a light member may not."""
    if caller.role == "Light":
        raise RefusedError(403, "You don't have permission to export this process.")
    includes = serializers.Includes("tasks.form_fields,tasks.threads,ko_form_fields,tags")
    return serializers.run(store, run, includes)


@router.get("/{run_id}/form-fields")
async def get_form_fields(store: SandboxStore, run: ThisRun) -> JSON:
    """Show the fields of a process with their answers; ``value_id`` is the id of an answer that there is."""
    return {
        "id": run.id,
        "name": run.name,
        "ko_form_fields": serializers.kickoff_form(store, run)["data"],
        "form_fields": [
            {
                "task_id": task.id,
                **serializers.form_field(store, field, task.taskdata),
                "value_id": association_id(task.id, field.id) if field.id in task.taskdata else None,
            }
            for task in run.visible_tasks
            for field in task.captures
        ],
    }


def _record(store: Store, verb: str, run: Run, caller: Member, text: str) -> None:
    """Record a change of a run in the feed, and settle the run."""
    run.last_updated = store.now()
    store.record(verb, run, caller.id, f"{text}: {run.name}")
    settle(store, run)
    store.changed(run)
