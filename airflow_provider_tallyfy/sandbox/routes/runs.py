"""Runs: list, launch, show, update, archive, restore, delete for good."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import listing, processes, schemas, serializers
from airflow_provider_tallyfy.sandbox.routes.dependencies import (
    ItemStore,
    ListStore,
    Member,
    SandboxStore,
    ThisRun,
    With,
    answer,
)

router = APIRouter(prefix="/organizations/{organization}/runs")


@router.get("")
async def list_runs(
    request: Request, store: ListStore, caller: Member, includes: With, query: listing.Pages
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
    properties = body.given("checklist_id", "user_id", "tasks")
    if body.user_id is not None:
        properties["started_by"] = body.user_id
    overrides = {step_id: override.given() for step_id, override in body.tasks.items()}
    run = processes.launch(store, caller, body.checklist_id, overrides=overrides, **properties)
    return answer(serializers.run(store, run), 201)


@router.get("/{run_id}")
async def get_run(
    store: ItemStore, caller: Member, run_id: str, includes: With, form_fields_values: bool = False
) -> JSONResponse:
    """Show a run; an archived one has ``archived_at`` and no tasks."""
    run = store.run(run_id, caller)
    return answer(serializers.run(store, run, includes, form_fields_values=form_fields_values))


@router.put("/{run_id}")
async def update_run(
    store: SandboxStore, caller: Member, run: ThisRun, body: schemas.RunProperties
) -> JSONResponse:
    """Change a run's properties and kick-off values."""
    processes.update(store, caller, run, **body.given())
    return answer(serializers.run(store, run))


@router.delete("/{run_id}")
async def archive_run(store: SandboxStore, caller: Member, run: ThisRun) -> JSONResponse:
    """Archive a run."""
    processes.archive(store, caller, run)
    return answer(serializers.run(store, run))


@router.put("/{run_id}/activate")
async def activate_run(store: SandboxStore, caller: Member, run: ThisRun) -> JSONResponse:
    """Restore an archived run."""
    processes.activate(store, caller, run)
    return answer(serializers.run(store, run))


@router.delete("/{run_id}/delete")
async def delete_run(store: SandboxStore, caller: Member, run: ThisRun) -> Response:
    """Delete an archived run for good; the answer has an empty body, as documented."""
    processes.delete(store, caller, run)
    return Response()
