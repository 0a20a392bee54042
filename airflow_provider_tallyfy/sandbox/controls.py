"""Test controls, ``/_sandbox/…``: faults, statistics, clock, behavior, feed, runs, tokens. Only with --test-controls.

The API does not depend on them. They neither count the requests of the web page nor apply faults to them.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Request
from pydantic import BaseModel, Field, model_validator
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_tallyfy.sandbox import runs
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.clock import as_text
from airflow_provider_tallyfy.sandbox.dependencies import NO_CONTENT, SandboxStore, is_from_page
from airflow_provider_tallyfy.sandbox.errors import invalid
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import FeedFaults

router = APIRouter(prefix="/_sandbox")

_CONTROLLED = re.compile(r"/(api|oauth)(/|$)")
_IDENTIFIER = re.compile(r"(?<=/)(?:[0-9a-f]{32}|\d+|[^/@]+@[^/]+)(?=/|$)")
_ORGANIZATION = re.compile(r"(?<=/organizations/)[^/]+")
FaultAction = Literal[
    "status", "delay", "drop", "apply_then_drop", "apply_then_status", "truncate", "malformed"
]


class Fault(BaseModel):
    """Which requests fail, how often, and how.

    ``times`` is the number of requests that it applies to, or ``None`` for all until it is removed; ``after`` is the
    number of matching requests that pass first. ``status``, ``headers`` and ``body`` are the answer that it gives; a
    body that is not a string is sent as JSON.
    """

    method: str = "*"
    path: re.Pattern[str] = re.compile("")
    times: int | None = Field(1, ge=1)
    after: int = Field(0, ge=0)
    action: FaultAction
    status: int = Field(500, ge=200, le=599)
    headers: dict[str, str] = {}
    body: Any = None
    delay: float = Field(0, ge=0)
    matched: int = 0
    applied: int = 0

    @model_validator(mode="after")
    def _has_delay(self) -> Fault:
        if self.action == "delay" and self.delay == 0:
            raise ValueError("the action delay needs delay, in seconds")
        return self

    def applies_to(self, method: str, path: str) -> bool:
        """Count a request, and return whether the fault applies to it."""
        if self.method not in ("*", method) or not self.path.search(path):
            return False
        if self.times is not None and self.applied >= self.times:
            return False
        self.matched += 1
        if self.matched <= self.after:
            return False
        self.applied += 1
        return True


@dataclass
class Controls:
    """The faults that are set, and the requests received so far."""

    faults: list[Fault] = field(default_factory=list)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)

    def clear(self) -> None:
        """Remove all faults, and reset the count of requests."""
        self.faults.clear()
        self.requests.clear()


def normalized(path: str) -> str:
    """Return a path with its ids replaced: ``/api/organizations/{organization}/runs/{id}``."""
    return _IDENTIFIER.sub("{id}", _ORGANIZATION.sub("{organization}", path))


class ControlsMiddleware:
    """Counts each request to the API, and applies the first fault that matches it.

    :param app: the application behind it.
    :param controls: the faults, and the count.
    """

    def __init__(self, app: ASGIApp, controls: Controls) -> None:
        self._app = app
        self._controls = controls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request, and pass it on or apply a fault to it."""
        fault = None
        is_controlled = scope["type"] == "http" and _CONTROLLED.match(scope["path"])
        if is_controlled and not is_from_page(Headers(scope=scope)):
            method, path = scope["method"], scope["path"]
            self._controls.requests[method, path] += 1
            target = f"{path}?{scope['query_string'].decode()}" if scope["query_string"] else path
            fault = next((fault for fault in self._controls.faults if fault.applies_to(method, target)), None)
        if fault is None:
            await self._app(scope, receive, send)
        else:
            await self._apply(fault, scope, receive, send)

    async def _apply(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.delay:
            # A request that has arrived is carried out, even if the client disconnects meanwhile.
            receive = await _read_whole(receive)
            await asyncio.sleep(fault.delay)
        match fault.action:
            case "delay":
                await self._app(scope, receive, send)
            case "malformed":
                await _html("<html><body>Bad gateway</body></html>", 200, {})(scope, receive, send)
            case "truncate":
                await self._app(scope, receive, _truncated(send))
                await _drop(scope, flush=True)
            case _:
                if fault.action.startswith("apply_then"):
                    await self._app(scope, receive, _discard)
                if fault.action.endswith("status"):
                    await _answer(fault)(scope, receive, send)
                else:
                    await _drop(scope)


async def _read_whole(receive: Receive) -> Receive:
    """Read a whole request, and return a function that replays it."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())

    async def replay() -> Message:
        return messages.pop(0) if messages else await receive()

    return replay


def _truncated(send: Send) -> Send:
    """Return a function that sends the headers unchanged, and only the first half of the body."""

    async def send_half(message: Message) -> None:
        if message["type"] == "http.response.body":
            body = message.get("body", b"")
            message = {**message, "body": body[: len(body) // 2], "more_body": True}
        await send(message)

    return send_half


def _answer(fault: Fault) -> Response:
    """Return the answer that a fault gives."""
    if isinstance(fault.body, str):
        return _html(fault.body, fault.status, fault.headers)
    body = {"message": "Injected by a test."} if fault.body is None else fault.body
    return JSONResponse(body, fault.status, fault.headers)


def _html(body: str, status: int, headers: dict[str, str]) -> Response:
    return Response(body, status, {"Content-Type": "text/html", **headers})


async def _discard(message: Message) -> None:
    """Drop an answer."""


async def _drop(scope: Scope, *, flush: bool = False) -> None:
    # server.py puts the connection there, since ASGI itself cannot leave a request unanswered.
    transport = scope["state"]["transport"]
    if flush:
        transport.close()
    else:
        transport.abort()
    # The server notices in the next pass of the loop that the connection is gone.
    await asyncio.sleep(0)


async def _controls(request: Request) -> Controls:
    controls: Controls = request.app.state.controls
    return controls


TestControls = Annotated[Controls, Depends(_controls)]
_Text = Annotated[str, Body()]


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
    controls.faults.clear()


@router.get("/stats")
async def statistics(controls: TestControls) -> JSON:
    """Show the number of requests since the start or the last reset, by method and path, and by the path's shape."""
    routes: Counter[tuple[str, str]] = Counter()
    for (method, path), count in controls.requests.items():
        routes[method, normalized(path)] += count
    counts = {
        name: [{"method": method, "path": path, "count": each} for (method, path), each in sorted(of.items())]
        for name, of in (("requests", controls.requests), ("routes", routes))
    }
    return {"total": controls.requests.total(), **counts}


@router.delete("/stats", **NO_CONTENT)
async def clear_statistics(controls: TestControls) -> None:
    controls.requests.clear()


@router.get("/clock")
async def show_clock(store: SandboxStore) -> JSON:
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
    checklist_id: _Text = RELEASE_CHECKLIST_ID,
    name: _Text = "Load test",
    prerun: Annotated[JSON | None, Body()] = None,
) -> JSON:
    caller, numbers = next(iter(store.members.values())), range(1, count + 1)
    launched = (
        runs.launch(store, caller, checklist_id, name=f"{name} {each}", prerun=prerun) for each in numbers
    )
    return {"data": [run.id for run in launched]}


@router.post("/activity")
async def change_feed(store: SandboxStore, faults: FeedFaults) -> FeedFaults:
    """Make the activity feed late or incomplete; an empty object ends both."""
    store.feed_faults = faults
    return faults


@router.get("/behavior")
async def show_behavior(store: SandboxStore) -> Behavior:
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
