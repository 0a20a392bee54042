"""Runs: list, launch, show, update, archive, restore, delete for good; their kick-off forms and their export."""

from __future__ import annotations

from fastapi import Response

from airflow_provider_tallyfy.sandbox import fields, listing, processes, schemas, serializers
from airflow_provider_tallyfy.sandbox.errors import RefusedError
from airflow_provider_tallyfy.sandbox.model import Run
from airflow_provider_tallyfy.sandbox.routes import dependencies
from airflow_provider_tallyfy.sandbox.routes.dependencies import Member, SandboxStore, ThisRun, With
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import Store

router = dependencies.organization_router("/runs")


@router.get("")
async def list_runs(
    store: dependencies.ListStore, caller: Member, includes: With, query: listing.Pages
) -> Response:
    """List runs."""
    has_values = query.form_fields_values
    return query.answer(
        listing.runs(store, caller, query),
        lambda run: serializers.run(store, run, includes, form_fields_values=has_values),
    )


@router.post("", status_code=201)
async def launch(store: SandboxStore, caller: Member, body: schemas.LaunchRun) -> JSON:
    """Start a process from a template."""
    properties = body.given("checklist_id", "user_id", "tasks")
    if body.user_id is not None:
        properties["started_by"] = body.user_id
    overrides = {step_id: override.given() for step_id, override in body.tasks.items()}
    run = processes.launch(store, caller, body.checklist_id, overrides=overrides, **properties)
    return serializers.run(store, run)


@router.get("/{run_id}")
async def get_run(
    store: dependencies.ItemStore,
    caller: Member,
    run_id: str,
    includes: With,
    form_fields_values: bool = False,
) -> JSON:
    """Show a run; an archived one has ``archived_at`` and no tasks."""
    run = store.run(run_id, caller)
    return serializers.run(store, run, includes, form_fields_values=form_fields_values)


@router.put("/{run_id}")
async def update_run(store: SandboxStore, caller: Member, run: ThisRun, body: schemas.RunProperties) -> JSON:
    """Change a run's properties and kick-off values."""
    processes.update(store, caller, run, **body.given())
    return serializers.run(store, run)


@router.delete("/{run_id}")
async def archive_run(store: SandboxStore, caller: Member, run: ThisRun) -> JSON:
    """Archive a run and its tasks."""
    if run.archived_at is None:
        run.archived_at = run.last_updated = store.now()
        _record(store, "archived", run, caller, f"Archived process: {run.name}")
    return serializers.run(store, run)


@router.put("/{run_id}/activate")
async def activate_run(store: SandboxStore, caller: Member, run: ThisRun) -> JSON:
    """Restore an archived run and its tasks."""
    if run.archived_at is not None:
        run.archived_at, run.last_updated = None, store.now()
        _record(store, "unarchived", run, caller, f"Restored process: {run.name}")
    return serializers.run(store, run)


@router.delete("/{run_id}/delete")
async def delete_run(store: SandboxStore, caller: Member, run: ThisRun) -> Response:
    """Delete an archived run and its tasks for good; the answer has an empty body, as documented."""
    if caller.role != "Admin":
        raise RefusedError(403, "You don't have permission to delete this process.")
    if run.archived_at is None:
        raise RefusedError(422, "The process must be archived before it can be deleted permanently.")
    del store.runs[run.id]
    for task_id in run.tasks:
        store.remove_task(task_id)
    _record(store, "deleted", run, caller, f"Deleted process: {run.name}")
    return Response()


@router.post("/{run_id}/complete-prerun")
async def complete_kickoff(store: SandboxStore, caller: Member, run: ThisRun) -> JSON:
    """Complete the kick-off form of a process."""
    fields.require(run.checklist.prerun, run.prerun, surface="prerun")
    run.kickoff_is_open, run.last_updated = False, store.now()
    _record(store, "updated", run, caller, f"Completed the kick-off form: {run.name}", settle=True)
    return serializers.run(store, run)


@router.delete("/{run_id}/complete-prerun")
async def reopen_kickoff(store: SandboxStore, caller: Member, run: ThisRun) -> JSON:
    """Reopen the kick-off form, which makes a complete process active again."""
    run.kickoff_is_open, run.last_updated = True, store.now()
    _record(store, "re-opened", run, caller, f"Reopened the kick-off form: {run.name}", settle=True)
    return serializers.run(store, run)


@router.post("/{run_id}/export")
async def export(store: SandboxStore, caller: Member, run: ThisRun) -> JSON:
    """Return a process with all its tasks and answers; a light member may not."""
    if caller.role == "Light":
        raise RefusedError(403, "You don't have permission to export this process.")
    includes = serializers.Includes("tasks.form_fields,tasks.threads,ko_form_fields,tags")
    return serializers.run(store, run, includes)


def _record(
    store: Store, verb: str, run: Run, caller: Member, description: str, *, settle: bool = False
) -> None:
    store.record(verb, run, caller.id, description)
    if settle:
        processes.settle(store, run)
    store.changed(run)
