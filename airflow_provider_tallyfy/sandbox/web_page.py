"""What the web page needs beside the API: static files, a session without a login, and events for changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.staticfiles import StaticFiles

from airflow_provider_tallyfy.sandbox.access import TOKEN
from airflow_provider_tallyfy.sandbox.dependencies import SandboxStore
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION, Store

_DIRECTORY = Path(__file__).parent / "page"
_RETRY_MILLISECONDS = 1000
_KEEP_ALIVE_SECONDS = 15

router = APIRouter()
router.mount("/page", StaticFiles(directory=_DIRECTORY))


@router.get("/", include_in_schema=False)
@router.get(f"/{ORGANIZATION}/processes/{{run_id}}", include_in_schema=False)
async def index() -> Response:
    """Serve the page, also at the address that a process has in Tallyfy's own app."""
    return FileResponse(_DIRECTORY / "index.html")


@router.get("/_page/session")
async def session(store: SandboxStore) -> JSONResponse:
    """Return what the page needs to call the API; there is no login."""
    return JSONResponse({"organization": ORGANIZATION, "token": TOKEN, "next_task": store.behavior.next_task})


@router.get("/_page/events")
async def events(request: Request) -> StreamingResponse:
    """Send the store's version number now and whenever it changes, until the server stops."""
    return StreamingResponse(
        _versions(request), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


async def _versions(request: Request) -> AsyncIterator[str]:
    state = request.app.state
    changed = asyncio.Event()
    # A reset puts another store in the place of this one, with the same listeners.
    listeners = state.store.listeners
    listeners.add(changed.set)
    end = asyncio.ensure_future(state.stopping.wait())
    try:
        yield f"retry: {_RETRY_MILLISECONDS}\n\n"
        yield _event(state.store)
        while not state.stopping.is_set():
            change = asyncio.ensure_future(changed.wait())
            done, _ = await asyncio.wait(
                {change, end}, timeout=_KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            change.cancel()
            if await request.is_disconnected():
                return
            if change in done:
                changed.clear()
                yield _event(state.store)
            elif not done:
                yield ": still here\n\n"
    finally:
        end.cancel()
        listeners.discard(changed.set)


def _event(store: Store) -> str:
    return f"id: {store.version}\ndata: {store.version}\n\n"
