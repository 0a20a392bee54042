"""The sandbox in a child process, over HTTP or TLS, which keeps track of the runs that were read."""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.sandbox.seeds import seeded_store
from airflow_provider_tallyfy.sandbox.server import SandboxUvicorn, listen
from benchmarks.organization import Organization
from benchmarks.processes import Process
from dev.certificate import make_certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dev.certificate import Certificate

_RUN = re.compile(r"/runs(?:/([0-9a-f]{32}))?$")
_ID = re.compile(rb'"id":"([0-9a-f]{32})"')


@contextmanager
def running_server(*, tls: bool = False) -> Iterator[tuple[Path, Process, Organization]]:
    """Run a sandbox for the duration of the ``with`` block, and yield a temporary folder with it."""
    with TemporaryDirectory(prefix="tallyfy-bench-") as name:
        folder = Path(name)
        certificate = make_certificate(folder) if tls else None
        authority = None if certificate is None else certificate.authority
        with Process("The sandbox", _serve, certificate, folder / "server.out") as server:
            yield folder, server, Organization(server.call("url"), authority)


class ReadTracker:
    """
    Keeps the ids of runs that were not read yet with their next task, by themselves or in a list.

    So the time until all waits were polled once is measured in the same way for all implementations.

    :param app: the application behind it
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.unread: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and search its response for runs while there are any that were not read."""
        is_poll = (
            self.unread
            and scope["type"] == "http"
            and scope["method"] == "GET"
            and b"next_task" in scope["query_string"]
        )
        found = _RUN.search(scope["path"]) if is_poll else None

        async def tracked(message: Message) -> None:
            await send(message)
            if found and message["type"] == "http.response.body":
                read = {found[1]} if found[1] else {id_.decode() for id_ in _ID.findall(message["body"])}
                self.unread -= read

        await self._app(scope, receive, tracked if found else send)


def _serve(connection: Connection, certificate: Certificate | None) -> None:
    """Serve TLS, or plain HTTP without a certificate, until the other end of the connection is closed."""
    asyncio.run(_serve_until_closed(connection, certificate))


async def _serve_until_closed(connection: Connection, certificate: Certificate | None) -> None:
    listener = listen("127.0.0.1", 0)
    files = None if certificate is None else (certificate.certificate, certificate.key)
    store = seeded_store("demo")
    server = SandboxUvicorn(store, test_controls=True, certificate=files)
    tracker = ReadTracker(server.application)
    server.config.app = tracker
    # Thousands of waits may connect at once; one that is refused would connect again seconds later.
    server.config.backlog = 10_000

    def respond() -> None:
        try:
            command, *arguments = connection.recv()
        except EOFError:
            asyncio.get_running_loop().remove_reader(connection.fileno())
            server.should_exit = server.force_exit = True
            return
        connection.send(_carry_out(command, arguments))

    def _carry_out(command: str, arguments: list[Any]) -> Any:
        match command:
            case "url":
                scheme = "http" if certificate is None else "https"
                return f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
            case "track":
                tracker.unread = set(arguments[0])
            case "unread":
                return len(tracker.unread)
            case "change":
                function, *arguments = arguments
                return function(store, *arguments)
        return None

    with listener:
        asyncio.get_running_loop().add_reader(connection.fileno(), respond)
        await server.serve(sockets=[listener])
