"""The sandbox as an HTTP server: for ``python -m``, and in a thread for tests."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_tallyfy.sandbox.access import TOKEN
from airflow_provider_tallyfy.sandbox.application import build_application
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.controls import Controls
from airflow_provider_tallyfy.sandbox.seeds import Seed, seeded_store
from airflow_provider_tallyfy.sandbox.store import Store

_Result = TypeVar("_Result")


class DroppableProtocol(H11Protocol):
    """HTTP/1.1, with the connection in reach of the application, so that a fault can cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the connection into the state of each of its requests."""
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class SandboxUvicorn(uvicorn.Server):
    """A server that ends the page's event streams when it stops, instead of waiting for them.

    :param announce: called once, when the server listens.
    :param certificate: PEM files of a certificate and of its key, for TLS; plain HTTP if not given.
    """

    def __init__(
        self,
        store: Store,
        *,
        test_controls: bool,
        announce: Callable[[], None] | None = None,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.application = build_application(store, test_controls=Controls() if test_controls else None)
        self._announce = announce
        certificate_file, key_file = certificate or (None, None)
        super().__init__(
            uvicorn.Config(
                self.application,
                http=DroppableProtocol,
                log_level="error",
                lifespan="off",
                timeout_graceful_shutdown=3,
                ssl_certfile=certificate_file,
                ssl_keyfile=key_file,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop on a signal, without raising it again afterwards, as uvicorn does."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then call ``announce``."""
        await super().startup(sockets=sockets)
        if self.started and self._announce is not None:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams, then shut down as usual."""
        self.application.state.stopping.set()
        await super().shutdown(sockets=sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    :param host: the address.
    :param port: the port; 0 takes a free one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm only if the protocol is named; otherwise each answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


class SandboxServer:
    """A running sandbox for a test: real HTTP on a loopback port, in a thread of this process.

    .. code-block:: python

        with SandboxServer() as sandbox:
            requests.get(f"{sandbox.base_url}/me", headers=sandbox.headers)

    :param seed: the data to start with, ``demo`` or ``empty``.
    :param test_controls: whether to serve ``/_sandbox``.
    :param port: the port; 0, the default, takes a free one.
    :param certificate: PEM files of a certificate and of its key, for TLS; plain HTTP if not given.
    :param behavior: fields of :class:`Behavior`, such as ``next_task="object"``; they apply again after a reset.
    """

    def __init__(
        self,
        *,
        seed: Seed = "demo",
        test_controls: bool = True,
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
        **behavior: Any,
    ) -> None:
        self._seed = seed
        self._behavior = Behavior(**behavior)
        self.store: Store = seeded_store(seed, self._behavior)
        self._test_controls = test_controls
        self._requested_port = port
        self._certificate = certificate
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> SandboxServer:
        self._listener = listen("127.0.0.1", self._requested_port)
        self.port: int = self._listener.getsockname()[1]
        listening: Future[None] = Future()
        self._server = SandboxUvicorn(
            self.store,
            test_controls=self._test_controls,
            announce=lambda: listening.set_result(None),
            certificate=self._certificate,
        )
        serve = partial(self._serve, listening)
        self._thread = threading.Thread(target=serve, name="tallyfy-sandbox", daemon=True)
        self._thread.start()
        listening.result(timeout=30)
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=30)
        self._listener.close()
        if self._thread.is_alive():
            raise RuntimeError("The sandbox did not stop within 30 seconds.")

    @property
    def url(self) -> str:
        """The server's root URL, of the page and the test controls."""
        scheme = "http" if self._certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """The API's root URL, to be used as the host of a connection."""
        return f"{self.url}/api"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the API needs."""
        required = {"Authorization": f"Bearer {TOKEN}", "X-Tallyfy-Client": "APIClient"}
        return required | {"Accept": "application/json"}

    def change(self, operation: Callable[[Store], _Result]) -> _Result:
        """Run a function on the store between two requests, and return its result.

        Reads that lag do not show a change that it makes to a run or task, unless it calls ``store.changed`` with it.

        :param operation: the function; it runs in the server's thread.
        """
        if self._loop is None:
            raise RuntimeError("The sandbox is not running: use it in a with statement.")

        async def run() -> _Result:
            return operation(self.store)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=30)

    def reset(self) -> None:
        """Restore the state of the start, faster than a new server."""

        def replace(store: Store) -> None:
            fresh = seeded_store(self._seed, self._behavior)
            fresh.version, fresh.listeners = store.version, store.listeners
            self.store = state.store = fresh
            if state.controls is not None:
                state.controls.clear()
            fresh.changed()

        state = self._server.application.state
        self.change(replace)

    def _serve(self, listening: Future[None]) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve(sockets=[self._listener])

        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for the server
            if not listening.done():
                listening.set_exception(error)
