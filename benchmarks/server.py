"""The sandbox in a process of its own, over HTTP or TLS, which knows which runs it has shown."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.sandbox import tasks
from airflow_provider_tallyfy.sandbox.seeds import seeded_store
from airflow_provider_tallyfy.sandbox.server import SandboxUvicorn, listen

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from airflow_provider_tallyfy.sandbox.store import Store
    from dev.certificate import Certificate

_RUN = re.compile(r"/runs(?:/([0-9a-f]{32}))?$")
_ID = re.compile(rb'"id":"([0-9a-f]{32})"')


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """
    What to serve.

    :param certificate: serves TLS with it, or plain HTTP where it is ``None``.
    """

    certificate: Certificate | None


class Witness:
    """
    Knows which runs have not been shown yet with their next task, alone or in a list.

    So the beginning of all waits has an end that does not depend on who waits, or how.

    :param app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.unseen: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and read its answer while there is something to see in it."""
        is_look = (
            self.unseen
            and scope["type"] == "http"
            and scope["method"] == "GET"
            and b"next_task" in scope["query_string"]
        )
        found = _RUN.search(scope["path"]) if is_look else None

        async def watched(message: Message) -> None:
            await send(message)
            if found and message["type"] == "http.response.body":
                seen = {found[1]} if found[1] else {id_.decode() for id_ in _ID.findall(message["body"])}
                self.unseen -= seen

        await self._app(scope, receive, watched if found else send)


def serve(connection: Connection, settings: ServerSettings) -> None:
    """Serve until the other end of the connection is closed; the target of the server's process."""
    asyncio.run(_serve(connection, settings))


async def _serve(connection: Connection, settings: ServerSettings) -> None:
    listener = listen("127.0.0.1", 0)
    files = (
        None if settings.certificate is None else (settings.certificate.certificate, settings.certificate.key)
    )
    store = seeded_store("demo")
    server = SandboxUvicorn(store, test_controls=True, certificate=files)
    witness = Witness(server.application)
    server.config.app = witness
    # Thousands of waits may call at once; what is refused would come again seconds later, and be counted as slow.
    server.config.backlog = 10_000
    scheme = "http" if settings.certificate is None else "https"

    def answer() -> None:
        try:
            command, *arguments = connection.recv()
        except EOFError:
            asyncio.get_running_loop().remove_reader(connection.fileno())
            server.should_exit = server.force_exit = True
            return
        connection.send(_answer(command, arguments))

    def _answer(command: str, arguments: list[Any]) -> Any:
        match command:
            case "url":
                return f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
            case "watch":
                witness.unseen = set(arguments[0])
            case "unseen":
                return len(witness.unseen)
            case "complete":
                return _complete(store, *arguments)
        return None

    with listener:
        asyncio.get_running_loop().add_reader(connection.fileno(), answer)
        await server.serve(sockets=[listener])


def _complete(store: Store, task_ids: list[str]) -> float:
    """Complete tasks, all of them before anything is answered; return how many seconds that took."""
    began_at = time.monotonic()
    for task_id in task_ids:
        task = store.tasks[task_id]
        tasks.complete(store, store.members[task.owners.users[0]], task)
    return time.monotonic() - began_at
