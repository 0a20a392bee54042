"""The activity feed."""

from __future__ import annotations

from fastapi import Response

from airflow_provider_tallyfy.sandbox import listing, serializers
from airflow_provider_tallyfy.sandbox.errors import RefusedError
from airflow_provider_tallyfy.sandbox.routes.dependencies import Member, SandboxStore, organization_router

router = organization_router("/activity-feeds")


@router.get("")
async def list_activities(store: SandboxStore, caller: Member, query: listing.Pages) -> Response:
    """List the activities, the newest first; a light member gets 403."""
    if caller.role == "Light":
        raise RefusedError(403, "You don't have permission to view the activity feed.")
    found = listing.activities(store, query)
    return query.answer(found, lambda entry: serializers.activity(store, entry), per_page=20)
