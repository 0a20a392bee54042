"""``/_sandbox/…``: faults, statistics, clock, behavior, feed, runs and tokens. Only with --test-controls."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field, model_validator

from airflow_provider_tallyfy.sandbox import processes
from airflow_provider_tallyfy.sandbox.access import Caller
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.clock import as_text
from airflow_provider_tallyfy.sandbox.controls import Controls, Fault
from airflow_provider_tallyfy.sandbox.errors import invalid
from airflow_provider_tallyfy.sandbox.routes.dependencies import SandboxStore
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.sandbox.store import FeedFaults

router = APIRouter(prefix="/_sandbox")


async def _controls(request: Request) -> Controls:
    controls: Controls = request.app.state.controls
    return controls


TestControls = Annotated[Controls, Depends(_controls)]


class MoveClock(BaseModel):
    """``{"advance": seconds}`` or ``{"set": moment}``."""

    advance: float | None = None
    set: datetime | None = None

    @model_validator(mode="after")
    def _is_one(self) -> MoveClock:
        if (self.advance is None) == (self.set is None):
            raise ValueError("give either advance (seconds) or set (an ISO 8601 moment)")
        return self


class CreateRuns(BaseModel):
    """How many runs of which template to launch."""

    count: int = Field(ge=1, le=100_000)
    checklist_id: str = RELEASE_CHECKLIST_ID
    name: str = "Load test"
    prerun: dict[str, Any] = {}


class ChangeFeed(BaseModel):
    """How the activity feed lags: ``delay`` seconds late, without the entries of the ``missing`` verbs."""

    delay: float = Field(0, ge=0)
    missing: list[str] = []


class GrantToken(BaseModel):
    """A token for a member, and after how many seconds of the sandbox's clock it expires."""

    token: str = Field(min_length=1)
    user_id: int
    expires_in: int | None = None


class RevokeToken(BaseModel):
    """The token to revoke."""

    token: str


@router.get("/faults")
async def list_faults(controls: TestControls) -> JSONResponse:
    """List the faults, with how often each matched and was applied."""
    return JSONResponse({"data": [fault.model_dump(mode="json") for fault in controls.faults]})


@router.post("/faults")
async def add_faults(controls: TestControls, faults: Annotated[list[Fault], Body()]) -> JSONResponse:
    """Add faults; if several match a request, the one that was added first applies."""
    controls.faults.extend(faults)
    return await list_faults(controls)


@router.delete("/faults")
async def remove_faults(controls: TestControls) -> Response:
    """Remove all faults."""
    controls.faults.clear()
    return Response(status_code=204)


@router.get("/stats")
async def statistics(controls: TestControls) -> JSONResponse:
    """Show the number of requests since the start, or since the last reset."""
    return JSONResponse(controls.statistics())


@router.delete("/stats")
async def clear_statistics(controls: TestControls) -> Response:
    """Reset the count of requests."""
    controls.requests.clear()
    return Response(status_code=204)


@router.get("/clock")
async def show_clock(store: SandboxStore) -> JSONResponse:
    """Show the sandbox's time."""
    return JSONResponse({"now": as_text(store.now()), "offset_seconds": store.clock.offset_seconds})


@router.post("/clock")
async def move_clock(store: SandboxStore, body: MoveClock) -> JSONResponse:
    """Move the clock."""
    if body.advance is not None:
        store.clock.advance(body.advance)
    elif body.set is not None:
        store.clock.set(body.set)
    store.changed()
    return await show_clock(store)


@router.post("/runs")
async def create_runs(store: SandboxStore, body: CreateRuns) -> JSONResponse:
    """Launch many runs at once."""
    caller = Caller(next(iter(store.members.values())))
    runs = [
        processes.launch(store, caller, body.checklist_id, name=f"{body.name} {number}", prerun=body.prerun)
        for number in range(1, body.count + 1)
    ]
    return JSONResponse({"data": [run.id for run in runs]}, status_code=201)


@router.post("/activity")
async def change_feed(store: SandboxStore, body: ChangeFeed) -> JSONResponse:
    """Make the activity feed late or incomplete; an empty object ends both."""
    store.feed_faults = FeedFaults(body.delay, frozenset(body.missing))
    return JSONResponse(body.model_dump())


@router.get("/behavior")
async def show_behavior(store: SandboxStore) -> JSONResponse:
    """Show what the sandbox does if the sources on Tallyfy disagree."""
    return JSONResponse(store.behavior.model_dump())


@router.post("/behavior")
async def change_behavior(store: SandboxStore, body: Behavior) -> JSONResponse:
    """Change the given fields of the sandbox's behavior; the others stay."""
    store.behave(store.behavior.model_copy(update=body.model_dump(exclude_unset=True)))
    return await show_behavior(store)


@router.get("/completions")
async def count_completions(store: SandboxStore) -> JSONResponse:
    """Show how often each task was completed, by task id."""
    return JSONResponse(
        Counter(
            entry.auditable_id
            for entry in store.activities
            if entry.verb == "completed" and entry.type == "Task"
        )
    )


@router.post("/tokens")
async def grant_token(store: SandboxStore, body: GrantToken) -> JSONResponse:
    """Grant a token, as when it is rotated."""
    if body.user_id not in store.members:
        raise invalid({"user_id": ["The selected user is not a member of the organization."]})
    store.access.grant(body.user_id, token=body.token, seconds=body.expires_in)
    return JSONResponse(body.model_dump(exclude={"token"}), status_code=201)


@router.delete("/tokens")
async def revoke_token(store: SandboxStore, body: RevokeToken) -> Response:
    """Revoke a token, as a user's logout does."""
    store.access.revoke(body.token)
    return Response(status_code=204)
