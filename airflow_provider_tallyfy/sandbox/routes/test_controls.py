"""``/_sandbox/…``: faults, statistics, clock, behavior, feed, runs and tokens. Only with --test-controls."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request

from airflow_provider_tallyfy.sandbox import processes
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.clock import as_text
from airflow_provider_tallyfy.sandbox.controls import Controls, Fault
from airflow_provider_tallyfy.sandbox.errors import invalid
from airflow_provider_tallyfy.sandbox.routes.dependencies import NO_CONTENT, SandboxStore
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import FeedFaults

router = APIRouter(prefix="/_sandbox")


async def _controls(request: Request) -> Controls:
    controls: Controls = request.app.state.controls
    return controls


TestControls = Annotated[Controls, Depends(_controls)]
Text = Annotated[str, Body()]


@router.get("/faults")
async def list_faults(controls: TestControls) -> JSON:
    """List the faults, with how often each matched and was applied."""
    return {"data": controls.faults}


@router.post("/faults")
async def add_faults(controls: TestControls, faults: list[Fault]) -> JSON:
    """Add faults; if several match a request, the one that was added first applies."""
    controls.faults.extend(faults)
    return await list_faults(controls)


@router.delete("/faults", **NO_CONTENT)
async def remove_faults(controls: TestControls) -> None:
    """Remove all faults."""
    controls.faults.clear()


@router.get("/stats")
async def statistics(controls: TestControls) -> JSON:
    """Show the number of requests since the start, or since the last reset."""
    return controls.statistics()


@router.delete("/stats", **NO_CONTENT)
async def clear_statistics(controls: TestControls) -> None:
    """Reset the count of requests."""
    controls.requests.clear()


@router.get("/clock")
async def show_clock(store: SandboxStore) -> JSON:
    """Show the sandbox's time."""
    return {"now": as_text(store.now()), "offset_seconds": store.clock.offset_seconds}


@router.post("/clock")
async def move_clock(
    store: SandboxStore,
    advance: Annotated[float | None, Body()] = None,
    moment: Annotated[datetime | None, Body(alias="set")] = None,
) -> JSON:
    """Move the clock by seconds, or set it to a moment."""
    if advance is not None and moment is None:
        store.clock.advance(advance)
    elif moment is not None and advance is None:
        store.clock.set(moment)
    else:
        raise invalid({"advance": ["Give either advance (seconds) or set (an ISO 8601 moment)."]})
    store.changed()
    return await show_clock(store)


@router.post("/runs", status_code=201)
async def create_runs(
    store: SandboxStore,
    count: Annotated[int, Body(ge=1, le=100_000)],
    checklist_id: Text = RELEASE_CHECKLIST_ID,
    name: Text = "Load test",
    prerun: Annotated[JSON | None, Body()] = None,
) -> JSON:
    """Launch many runs at once."""
    caller = next(iter(store.members.values()))
    runs = [
        processes.launch(store, caller, checklist_id, name=f"{name} {number}", prerun=prerun)
        for number in range(1, count + 1)
    ]
    return {"data": [run.id for run in runs]}


@router.post("/activity")
async def change_feed(store: SandboxStore, faults: FeedFaults) -> FeedFaults:
    """Make the activity feed late or incomplete; an empty object ends both."""
    store.feed_faults = faults
    return faults


@router.get("/behavior")
async def show_behavior(store: SandboxStore) -> Behavior:
    """Show what the sandbox does if the sources on Tallyfy disagree."""
    return store.behavior


@router.post("/behavior")
async def change_behavior(store: SandboxStore, body: Behavior) -> Behavior:
    """Change the given fields of the sandbox's behavior; the others stay."""
    store.behave(store.behavior.model_copy(update=body.model_dump(exclude_unset=True)))
    return store.behavior


@router.get("/completions")
async def count_completions(store: SandboxStore) -> dict[str, int]:
    """Show how often each task was completed, by task id."""
    completed = (entry for entry in store.activities if (entry.verb, entry.type) == ("completed", "Task"))
    return Counter(entry.auditable_id for entry in completed)


@router.post("/tokens", status_code=201)
async def grant_token(
    store: SandboxStore,
    token: Annotated[str, Body(min_length=1)],
    user_id: Annotated[int, Body()],
    expires_in: Annotated[int | None, Body()] = None,
) -> JSON:
    """Grant a token to a member, as when it is rotated, for some seconds of the sandbox's clock."""
    if user_id not in store.members:
        raise invalid({"user_id": ["The selected user is not a member of the organization."]})
    store.access.grant(user_id, token=token, seconds=expires_in)
    return {"user_id": user_id, "expires_in": expires_in}


@router.delete("/tokens", **NO_CONTENT)
async def revoke_token(store: SandboxStore, token: Annotated[str, Body(embed=True)]) -> None:
    """Revoke a token, as a user's logout does."""
    store.access.revoke(token)
