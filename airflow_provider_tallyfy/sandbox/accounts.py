"""The caller, tokens and the feed: ``/me``, the organization, ``/oauth/token``, user tokens, ``/activity-feeds``."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from airflow_provider_tallyfy.sandbox import access, listing, serializers
from airflow_provider_tallyfy.sandbox.dependencies import Caller, DataResponse, SandboxStore, named_client
from airflow_provider_tallyfy.sandbox.errors import RefusedError
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION

router = APIRouter()


@router.get("/api/me", response_class=DataResponse)
@router.get("/api/organizations/{organization}/me", response_class=DataResponse)
async def me(store: SandboxStore, caller: Caller) -> JSON:
    return serializers.member(store, caller)


@router.get("/api/me/organizations")
async def my_organizations(store: SandboxStore, caller: Caller, query: listing.Pages) -> Response:
    """List the caller's organizations; there is one."""
    return query.answer([store], serializers.organization)


@router.get("/api/organizations/{organization}", response_class=DataResponse)
async def organization(store: SandboxStore, caller: Caller) -> JSON:
    return serializers.organization(store)


@router.get("/api/organizations/{organization}/activity-feeds")
async def list_activities(store: SandboxStore, caller: Caller, query: listing.Pages) -> Response:
    """List the activities, the oldest first if the query has no order; a light member gets 403."""
    if caller.role == "Light":
        raise RefusedError(403, "You don't have permission to view the activity feed.")
    found = listing.activities(store, query)
    return query.answer(found, lambda entry: serializers.activity(store, entry), per_page=20)


@router.post("/api/applications/{organization}/users/{email}/token", dependencies=[Depends(named_client)])
async def user_token(request: Request, store: SandboxStore, organization: str, email: str) -> JSON:
    if organization != ORGANIZATION:
        raise RefusedError(403, "You don't have application's permissions for this organization!")
    token = store.access.user_token(request.headers.get("Authorization"), email)
    return _bearer(token, access.USER_TOKEN_SECONDS)


@router.post("/oauth/token")
@router.post("/api/oauth/token")
async def application_token(request: Request, store: SandboxStore) -> JSON:
    """Return an application's token for its credentials, which must be form-encoded."""
    if not request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        raise RefusedError(400, "The request body must be form-encoded.", code="invalid_request")
    form = {name: str(value) for name, value in (await request.form()).items()}
    if form.get("grant_type") != "client_credentials":
        raise RefusedError(
            400, "The authorization grant type is not supported.", code="unsupported_grant_type"
        )
    token = store.access.application_token(form.get("client_id"), form.get("client_secret"))
    return _bearer(token, access.APPLICATION_TOKEN_SECONDS)


def _bearer(token: str, seconds: int) -> JSON:
    return {"token_type": "Bearer", "expires_in": seconds, "access_token": token}
