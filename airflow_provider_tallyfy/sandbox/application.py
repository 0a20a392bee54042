"""The application: all routes, and errors in Tallyfy's format."""

from __future__ import annotations

import asyncio
import uuid

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_tallyfy.sandbox import (
    accounts,
    controls,
    custom_fields,
    files,
    people,
    runs,
    search,
    tasks,
    templates,
    threads,
    web_page,
)
from airflow_provider_tallyfy.sandbox.access import LIMITS
from airflow_provider_tallyfy.sandbox.dependencies import behavior_towards
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid, rate_limited
from airflow_provider_tallyfy.sandbox.store import Store
from airflow_provider_tallyfy.sandbox.webhooks import Webhooks


def build_application(store: Store, *, test_controls: controls.Controls | None = None) -> FastAPI:
    """Return the sandbox as an ASGI application.

    :param store: the state.
    :param test_controls: the test controls, or ``None`` for a sandbox without them.
    """
    modules = [accounts, templates, runs, tasks, threads, custom_fields, people, search, files, web_page]
    if test_controls is not None:
        modules.append(controls)
    # include_router would build each route again, which takes most of the time of a start.
    routes = [route for module in modules for route in module.router.routes]
    application = FastAPI(title="Tallyfy sandbox", openapi_url=None, redirect_slashes=False, routes=routes)
    application.state.store = store
    application.state.controls = test_controls
    application.state.stopping = asyncio.Event()
    store.listeners.add(Webhooks(lambda: application.state.store))

    if test_controls is not None:
        application.add_middleware(controls.ControlsMiddleware, controls=test_controls)
    application.add_middleware(FrontDoorMiddleware, application=application)

    application.exception_handler(RefusedError)(_refuse)
    application.exception_handler(RequestValidationError)(_refuse_input)
    application.exception_handler(ValidationError)(_refuse_input)
    application.exception_handler(HTTPException)(_refuse_route)
    return application


class FrontDoorMiddleware:
    """Prepares each request, and adds ``X-Request-Id`` to its response.

    It completes the tasks that have expired, applies the limit on requests, and reads a ``+`` in a query as a plus:
    according to the official SDK, Tallyfy reads only ``%20`` as a space.
    """

    def __init__(self, app: ASGIApp, application: FastAPI) -> None:
        self._app = app
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request({**scope, "app": self._application})
        store: Store = self._application.state.store
        tasks.expire(store)
        remaining: int | None = None
        retry_after: int | None = None
        if scope["path"].startswith("/api/"):
            limits = LIMITS[behavior_towards(request).rate_limit]
            user = request.headers.get("Authorization", "")
            remaining, retry_after = store.limiter.take(limits, scope["method"], user, store.now())

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = uuid.uuid4().hex
                if remaining is not None:
                    headers["X-RateLimit-Remaining"] = str(remaining)
            await send(message)

        if retry_after is None:
            scope = {**scope, "query_string": scope["query_string"].replace(b"+", b"%2B")}
            await self._app(scope, receive, send_with_headers)
        else:
            message = "You've reached the limit for requests. Please try again later."
            refusal = await _refuse(request, rate_limited(message, retry_after))
            await refusal(scope, receive, send_with_headers)


async def _refuse(request: Request, error: RefusedError) -> JSONResponse:
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    body = error.structured_body if behavior_towards(request).errors == "structured" else error.body
    return JSONResponse(body, status_code=error.status, headers=headers)


async def _refuse_input(request: Request, error: RequestValidationError | ValidationError) -> JSONResponse:
    errors: dict[str, list[str]] = {}
    # FastAPI puts the part of the request before the field's name.
    first = 1 if isinstance(error, RequestValidationError) else 0
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"][first:]) or "body"
        errors.setdefault(name, []).append(f"The {name} field is invalid: {problem['msg']}.")
    return await _refuse(request, invalid(errors))


async def _refuse_route(request: Request, error: HTTPException) -> JSONResponse:
    if error.status_code == 404:
        return await _refuse(request, RefusedError(404, "API endpoint not found", code="ENDPOINT_NOT_FOUND"))
    return await _refuse(request, RefusedError(error.status_code, str(error.detail)))
