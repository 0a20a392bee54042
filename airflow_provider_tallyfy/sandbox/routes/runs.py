"""Runs: list, launch, show, update, archive, restore, delete for good, and comments and issues on them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import listing, processes, schemas, serializers, threads
from airflow_provider_tallyfy.sandbox.model import ThreadLabel
from airflow_provider_tallyfy.sandbox.routes.dependencies import (
    ItemStore,
    ListStore,
    Member,
    SandboxStore,
    With,
)

router = APIRouter(prefix="/organizations/{organization}/runs")


@router.get("")
async def list_runs(
    request: Request, store: ListStore, caller: Member, includes: With, query: listing.RunFilters
) -> JSONResponse:
    """List runs."""
    return JSONResponse(
        listing.page(
            listing.runs(store, caller, query),
            lambda run: serializers.run(store, run, includes, form_fields_values=query.form_fields_values),
            query,
            request.url,
        )
    )


@router.post("")
async def launch(store: SandboxStore, caller: Member, body: schemas.LaunchRun) -> JSONResponse:
    """Start a process from a template."""
    properties = body.properties("tags", "folders", "parent_id")
    if body.user_id is not None:
        properties["started_by"] = body.user_id
    overrides = {
        step_id: {"owners": override.owners and override.owners.owners(), "deadline": override.deadline}
        for step_id, override in (body.tasks or {}).items()
    }
    run = processes.launch(
        store, caller, body.checklist_id, prerun=body.prerun, overrides=overrides, **properties
    )
    return JSONResponse({"data": serializers.run(store, run)}, status_code=201)


@router.get("/{run_id}")
async def get_run(
    store: ItemStore, caller: Member, run_id: str, includes: With, form_fields_values: bool = False
) -> JSONResponse:
    """Show a run; an archived one has ``archived_at`` and no tasks."""
    run = store.run(run_id, caller)
    return JSONResponse(
        {"data": serializers.run(store, run, includes, form_fields_values=form_fields_values)}
    )


@router.put("/{run_id}")
async def update_run(
    store: SandboxStore, caller: Member, run_id: str, body: schemas.UpdateRun
) -> JSONResponse:
    """Change a run's properties and kick-off values; replace its members and groups."""
    run = store.run(run_id, caller)
    processes.update(store, caller, run, prerun=body.prerun, **body.properties())
    return JSONResponse({"data": serializers.run(store, run)})


@router.delete("/{run_id}")
async def archive_run(store: SandboxStore, caller: Member, run_id: str) -> JSONResponse:
    """Archive a run."""
    run = store.run(run_id, caller)
    processes.archive(store, caller, run)
    return JSONResponse({"data": serializers.run(store, run)})


@router.put("/{run_id}/activate")
async def activate_run(store: SandboxStore, caller: Member, run_id: str) -> JSONResponse:
    """Restore an archived run."""
    run = store.run(run_id, caller)
    processes.activate(store, caller, run)
    return JSONResponse({"data": serializers.run(store, run)})


@router.delete("/{run_id}/delete")
async def delete_run(store: SandboxStore, caller: Member, run_id: str) -> Response:
    """Delete an archived run for good; the answer has an empty body, as documented."""
    processes.delete(store, caller, store.run(run_id, caller))
    return Response()


@router.post("/{run_id}/comment")
async def comment(
    store: SandboxStore, caller: Member, run_id: str, body: schemas.WriteComment
) -> JSONResponse:
    """Comment on a run."""
    run = store.run(run_id, caller)
    thread = threads.comment(store, caller, run, body.content, label=body.label, state=body.state)
    return JSONResponse({"data": serializers.thread(thread)}, status_code=201)


@router.post("/{run_id}/problem")
async def report_issue(
    store: SandboxStore, caller: Member, run_id: str, body: schemas.ReportIssue
) -> JSONResponse:
    """Report an issue on a run; its tasks cannot change until it is resolved."""
    run = store.run(run_id, caller)
    thread = threads.comment(store, caller, run, body.content, label=ThreadLabel.PROBLEM)
    return JSONResponse({"data": serializers.thread(thread)}, status_code=201)


@router.post("/{run_id}/resolved-threads")
async def resolve_issue(
    store: SandboxStore, caller: Member, run_id: str, body: schemas.ResolveIssue
) -> JSONResponse:
    """Resolve an issue on a run."""
    thread = threads.resolve(
        store, caller, store.run(run_id, caller), body.thread_id, body.content, state=body.state
    )
    return JSONResponse({"data": serializers.thread(thread)}, status_code=201)
