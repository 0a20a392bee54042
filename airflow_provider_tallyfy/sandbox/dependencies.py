"""What the handlers share: their router, the base of their bodies, and their dependencies, such as the caller."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import fastapi
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import from_json
from starlette.datastructures import Headers

from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.errors import RefusedError
from airflow_provider_tallyfy.sandbox.model import Member, Run, Task
from airflow_provider_tallyfy.sandbox.serializers import JSON, Includes
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION, Store

PAGE_CLIENT = "SandboxPage"
_Value = TypeVar("_Value")


def is_from_page(headers: Headers) -> bool:
    """Return whether a request comes from the sandbox's web page, to which the test controls do not apply."""
    return headers.get("X-Tallyfy-Client") == PAGE_CLIENT


def behavior_towards(request: Request) -> Behavior:
    """Return what the sandbox does for a request; the web page gets the defaults but for the next task."""
    store: Store = request.app.state.store
    return Behavior(next_task=store.behavior.next_task) if is_from_page(request.headers) else store.behavior


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def _item_store(request: Request, store: SandboxStore) -> Store:
    behavior = behavior_towards(request)
    return store.view(behavior, behavior.run_lag)


async def _list_store(request: Request, store: SandboxStore) -> Store:
    behavior = behavior_towards(request)
    return store.view(behavior, behavior.list_lag)


async def named_client(request: Request) -> None:
    """Refuse a request without ``X-Tallyfy-Client``; Tallyfy checks that before the token."""
    if not request.headers.get("X-Tallyfy-Client"):
        raise RefusedError(401, "Unauthorized: the X-Tallyfy-Client header is missing.")


async def _caller(request: Request, store: SandboxStore) -> Member:
    await named_client(request)
    member = store.access.member(request.headers.get("Authorization"))
    if request.path_params.get("organization", ORGANIZATION) != ORGANIZATION:
        raise RefusedError(403, "You don't have permission to access this organization.")
    return member


async def _subject(request: Request, store: SandboxStore, caller: Caller) -> Run | Task:
    ids = request.path_params
    if "task_id" in ids:
        return store.task(ids["task_id"], caller, ids.get("run_id"))
    return store.run(ids["run_id"], caller)


async def _includes(request: Request) -> Includes:
    # "with" cannot be a parameter's name, and not every FastAPI version supports aliases in a query model.
    return Includes(request.query_params.get("with"))


async def need_admin(caller: Caller) -> None:
    """Raise 403 unless the caller is an admin."""
    if caller.role != "Admin":
        raise RefusedError(403, "You don't have permission to perform this action.")


def check_deletable(caller: Member, kind: str, archived_at: datetime | None) -> None:
    """Refuse to delete what is not archived, and everything by a caller who is no admin."""
    if caller.role != "Admin":
        raise RefusedError(403, f"You don't have permission to delete this {kind}.")
    if archived_at is None:
        raise RefusedError(422, f"The {kind} must be archived before it can be deleted permanently.")


SandboxStore = Annotated[Store, Depends(_store)]
# For reads, which may lag.
ItemStore = Annotated[Store, Depends(_item_store)]
ListStore = Annotated[Store, Depends(_list_store)]
Caller = Annotated[Member, Depends(_caller)]
# The run or task that the path names, for writes.
Subject = Annotated[Run | Task, Depends(_subject)]
ThisRun = Annotated[Run, Depends(_subject)]
ThisTask = Annotated[Task, Depends(_subject)]
With = Annotated[Includes, Depends(_includes)]
# The body of a write whose fields a Writable takes.
Given = Annotated[JSON, fastapi.Body()]
# Of a handler that returns nothing. An older FastAPI, such as Airflow 3.0's, takes ``None`` for a body.
NO_CONTENT: dict[str, Any] = {"status_code": 204, "response_model": None}
# Of a handler that only an admin may call.
ADMIN = [Depends(need_admin)]


class DataResponse(JSONResponse):
    """An answer that shows one thing: what a handler returns, in ``data``."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return super().render({"data": content})


class _Request(Request):
    """Refuses ``NaN`` and lone surrogates in JSON, since no answer could show them."""

    async def json(self) -> Any:
        return from_json(await self.body(), allow_inf_nan=False)


class _Route(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return handle_json


def organization_router(path: str = "") -> APIRouter:
    """Return a router for a path of the organization, to which every request needs a user's token."""
    return APIRouter(
        prefix=f"/api/organizations/{{organization}}{path}",
        dependencies=[Depends(_caller)],
        default_response_class=DataResponse,
        route_class=_Route,
    )


def _map_from_php(value: Any) -> Any:
    # PHP has one array type, so an empty list stands for an empty map.
    return {} if value == [] else value


def _wall_clock(value: Any) -> datetime:
    """Read a date as Tallyfy does: an offset is dropped, and the time taken for UTC."""
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    except TypeError:
        raise ValueError("it must be a text with a date") from None


Moment = Annotated[datetime, BeforeValidator(_wall_clock)]
Map = Annotated[dict[str, _Value], BeforeValidator(_map_from_php)]
Text = Annotated[str, Field(min_length=1)]


class Body(BaseModel):
    """A request's body; unknown fields are ignored, as at Tallyfy."""

    def given(self, *without: str) -> dict[str, Any]:
        """Return the fields that were sent and are not null, by name.

        :param without: fields to leave out.
        """
        names = self.model_fields_set.difference(without)
        return {name: value for name, value in self if name in names and value is not None}
