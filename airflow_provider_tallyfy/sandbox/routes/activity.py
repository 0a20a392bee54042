"""The activity feed."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import listing, serializers
from airflow_provider_tallyfy.sandbox.errors import RefusedError
from airflow_provider_tallyfy.sandbox.model import Role
from airflow_provider_tallyfy.sandbox.routes.dependencies import Member, SandboxStore

router = APIRouter(prefix="/organizations/{organization}/activity-feeds")


@router.get("")
async def list_activities(
    request: Request, store: SandboxStore, caller: Member, query: listing.Pages
) -> JSONResponse:
    """List the activities, the newest first; a light member gets 403."""
    if caller.member.role is Role.LIGHT:
        raise RefusedError(403, "You don't have permission to view the activity feed.")
    found = listing.activities(store, query)
    return JSONResponse(
        listing.page(found, lambda entry: serializers.activity(store, entry), query, request.url, per_page=20)
    )
