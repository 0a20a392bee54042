"""What the handlers share: their router, and their dependencies, such as the store, the caller and ``with``."""

from __future__ import annotations

import copy
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import model, tasks
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.controls import is_from_page
from airflow_provider_tallyfy.sandbox.errors import RefusedError
from airflow_provider_tallyfy.sandbox.model import Checklist, Run, Step, Task
from airflow_provider_tallyfy.sandbox.serializers import JSON, Includes
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION, Store
from airflow_provider_tallyfy.sandbox.templates import part


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    tasks.expire(store)
    return store


def behavior_towards(request: Request) -> Behavior:
    """Return what the sandbox does for a request; the web page gets the defaults but for the next task."""
    store: Store = request.app.state.store
    return Behavior(next_task=store.behavior.next_task) if is_from_page(request.headers) else store.behavior


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


async def _caller(request: Request, store: SandboxStore) -> model.Member:
    await named_client(request)
    member = store.access.member(request.headers.get("Authorization"))
    if request.path_params.get("organization", ORGANIZATION) != ORGANIZATION:
        raise RefusedError(403, "You don't have permission to access this organization.")
    return member


async def _run(store: SandboxStore, caller: Member, run_id: str) -> Run:
    return store.run(run_id, caller)


async def _task(request: Request, store: SandboxStore, caller: Member, task_id: str) -> Task:
    return store.task(task_id, caller, request.path_params.get("run_id"))


async def _subject(request: Request, store: SandboxStore, caller: Member) -> Run | Task:
    ids = request.path_params
    if "task_id" in ids:
        return store.task(ids["task_id"], caller, ids.get("run_id"))
    return store.run(ids["run_id"], caller)


async def _checklist(store: SandboxStore, checklist_id: str) -> Checklist:
    # A copy to change and save, since a process keeps the version that it was launched with.
    return copy.deepcopy(store.checklist(checklist_id))


async def _step(checklist: ThisChecklist, step_id: str) -> Step:
    return part(checklist.steps, step_id)


async def _includes(request: Request) -> Includes:
    # "with" cannot be a parameter's name, and not every FastAPI version supports aliases in a query model.
    return Includes(request.query_params.get("with"))


SandboxStore = Annotated[Store, Depends(_store)]
# For reads, which may lag.
ItemStore = Annotated[Store, Depends(_item_store)]
ListStore = Annotated[Store, Depends(_list_store)]
Member = Annotated[model.Member, Depends(_caller)]
# The run or task that the path names, for writes.
ThisRun = Annotated[Run, Depends(_run)]
ThisTask = Annotated[Task, Depends(_task)]
Subject = Annotated[Run | Task, Depends(_subject)]
ThisChecklist = Annotated[Checklist, Depends(_checklist)]
ThisStep = Annotated[Step, Depends(_step)]
# The body of a write whose fields writes.py takes.
Given = Annotated[JSON, Body()]
With = Annotated[Includes, Depends(_includes)]


class DataResponse(JSONResponse):
    """An answer that shows one thing: what a handler returns, in ``data``."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return super().render({"data": content})


def organization_router(path: str = "") -> APIRouter:
    """Return a router for a path of the organization, to which every request needs a user's token."""
    return APIRouter(
        prefix=f"/organizations/{{organization}}{path}",
        dependencies=[Depends(_caller)],
        default_response_class=DataResponse,
    )


async def need_admin(caller: Member) -> None:
    """Raise 403 unless the caller is an admin."""
    if caller.role != "Admin":
        raise RefusedError(403, "You don't have permission to perform this action.")


# Of a handler that returns nothing. An older FastAPI, such as Airflow 3.0's, takes ``None`` for a body.
NO_CONTENT: dict[str, Any] = {"status_code": 204, "response_model": None}
# Of a handler that only an admin may call.
ADMIN = [Depends(need_admin)]
