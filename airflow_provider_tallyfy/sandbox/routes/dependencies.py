"""What every handler is given: the store, and the member who calls, or a refusal."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from airflow_provider_tallyfy.sandbox.access import Caller
from airflow_provider_tallyfy.sandbox.errors import RefusedError
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION, Store


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def named_client(request: Request) -> None:
    """Refuse a request that does not say which client it is from; Tallyfy does so before it looks at the token."""
    if not request.headers.get("X-Tallyfy-Client"):
        raise RefusedError(401, "Unauthorized: the X-Tallyfy-Client header is missing.")


async def _caller(request: Request, store: SandboxStore) -> Caller:
    await named_client(request)
    member = store.access.member(request.headers.get("Authorization"))
    if request.path_params.get("organization", ORGANIZATION) != ORGANIZATION:
        raise RefusedError(403, "You don't have permission to access this organization.")
    return Caller(member)


SandboxStore = Annotated[Store, Depends(_store)]
Member = Annotated[Caller, Depends(_caller)]
