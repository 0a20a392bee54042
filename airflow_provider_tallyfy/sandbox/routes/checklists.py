"""Templates; they are read-only, and the seeds create them."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import listing, serializers
from airflow_provider_tallyfy.sandbox.errors import not_found
from airflow_provider_tallyfy.sandbox.routes.dependencies import Member, SandboxStore, With

router = APIRouter(prefix="/organizations/{organization}/checklists")


@router.get("")
async def list_checklists(
    request: Request, store: SandboxStore, caller: Member, includes: With, query: listing.Pages
) -> JSONResponse:
    """List templates."""
    found = listing.checklists(store, query)
    return JSONResponse(
        listing.page(found, lambda each: serializers.checklist(store, each, includes), query, request.url)
    )


@router.get("/{checklist_id}")
async def get_checklist(
    store: SandboxStore, caller: Member, checklist_id: str, includes: With
) -> JSONResponse:
    """Show a template with its kick-off fields."""
    return JSONResponse({"data": serializers.checklist(store, store.checklist(checklist_id), includes)})


@router.get("/{checklist_id}/form-fields")
async def get_form_fields(store: SandboxStore, caller: Member, checklist_id: str) -> JSONResponse:
    """Show the fields of a template's kick-off form, and those of its steps."""
    checklist = store.checklist(checklist_id)
    return JSONResponse(
        {
            "data": {
                "id": checklist.id,
                "title": checklist.title,
                "ko_form_fields": [serializers.form_field(store, field) for field in checklist.prerun],
                "form_fields": [
                    serializers.form_field(store, field)
                    for step in checklist.steps
                    for field in step.captures
                ],
            }
        }
    )


@router.get("/{checklist_id}/steps")
async def list_steps(
    request: Request, store: SandboxStore, caller: Member, checklist_id: str, query: listing.Pages
) -> JSONResponse:
    """List a template's steps with their captures."""
    checklist = store.checklist(checklist_id)
    return JSONResponse(
        listing.page(
            checklist.steps, lambda step: serializers.step(store, checklist, step), query, request.url
        )
    )


@router.get("/{checklist_id}/steps/{step_id}")
async def get_step(store: SandboxStore, caller: Member, checklist_id: str, step_id: str) -> JSONResponse:
    """Show a step with its captures."""
    checklist = store.checklist(checklist_id)
    for step in checklist.steps:
        if step.id == step_id:
            return JSONResponse({"data": serializers.step(store, checklist, step)})
    raise not_found()
