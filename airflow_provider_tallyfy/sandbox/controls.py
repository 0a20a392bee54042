"""Test controls in front of the API: faults that are injected into answers, and a count of the requests.

The API itself knows nothing of them. Requests of the web page are neither counted nor made to fail.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field, model_validator
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE_CLIENT = "SandboxPage"
_WATCHED = re.compile(r"/(api|oauth)(/|$)")
_IDENTIFIER = re.compile(r"(?<=/)(?:[0-9a-f]{32}|\d+|[^/@]+@[^/]+)(?=/|$)")
_ORGANIZATION = re.compile(r"(?<=/organizations/)[^/]+")


def is_from_page(headers: Headers) -> bool:
    """Tell whether a request comes from the sandbox's web page, to which the test controls do not apply."""
    return headers.get("X-Tallyfy-Client") == PAGE_CLIENT


class FaultAction(StrEnum):
    """What a fault does to a request."""

    STATUS = "status"
    DELAY = "delay"
    DROP = "drop"
    APPLY_THEN_DROP = "apply_then_drop"
    APPLY_THEN_STATUS = "apply_then_status"
    TRUNCATE = "truncate"
    MALFORMED = "malformed"


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
        if self.action is FaultAction.DELAY and self.delay == 0:
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

    def statistics(self) -> dict[str, Any]:
        """Return the number of requests by method and path, and by the shape of the path."""
        routes: Counter[tuple[str, str]] = Counter()
        for (method, path), count in self.requests.items():
            routes[method, normalised(path)] += count
        return {
            "total": self.requests.total(),
            "requests": _rows(self.requests),
            "routes": _rows(routes),
        }


def normalised(path: str) -> str:
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
        if (
            scope["type"] == "http"
            and _WATCHED.match(scope["path"])
            and not is_from_page(Headers(scope=scope))
        ):
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
            case FaultAction.DELAY:
                await self._app(scope, receive, send)
            case FaultAction.STATUS:
                await _answer(fault)(scope, receive, send)
            case FaultAction.DROP:
                await _drop(scope)
            case FaultAction.APPLY_THEN_DROP:
                await self._app(scope, receive, _discard)
                await _drop(scope)
            case FaultAction.APPLY_THEN_STATUS:
                await self._app(scope, receive, _discard)
                await _answer(fault)(scope, receive, send)
            case FaultAction.TRUNCATE:
                await self._app(scope, receive, _truncated(send))
                await _drop(scope, flush=True)
            case FaultAction.MALFORMED:
                await _html("<html><body>Bad gateway</body></html>", 200, {})(scope, receive, send)


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


def _rows(counts: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"method": method, "path": path, "count": count} for (method, path), count in sorted(counts.items())
    ]
