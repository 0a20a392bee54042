"""Processes of a case: each begins as a fresh interpreter, and does what it is asked by messages."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

_LONGEST = 600.0
_GRACE = 10.0


class Process:
    """
    A function in a process of its own, which ends with the ``with`` block, or with this process.

    :param name: what to call it in messages.
    :param target: the function; it is given its end of the connection, then ``argument``.
    :param argument: anything that can be pickled.
    :param output: the file that its output goes to.
    """

    def __init__(
        self, name: str, target: Callable[[Connection, Any], None], argument: Any, output: Path
    ) -> None:
        self._name = name
        self._output = output
        # Not forked: what this process has loaded must not count as the other's memory.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._theirs = theirs
        self._process = context.Process(
            target=_run, args=(target, theirs, argument, output), name=name, daemon=True
        )

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._process.join(_GRACE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def pid(self) -> int:
        if self._process.pid is None:
            raise RuntimeError(f"{self._name} is not running.")
        return self._process.pid

    def ask(self, *message: Any) -> Any:
        """Send a message and return the answer to it."""
        try:
            self._connection.send(message)
            if not self._connection.poll(_LONGEST):
                raise TimeoutError(f"{self._name} did not answer {message[0]!r} within {_LONGEST:g} s.")
            return self._connection.recv()
        except (EOFError, OSError) as error:
            error.add_note(f"{self._name} has said at its end:\n{self._output.read_text()[-4000:]}")
            raise


def _run(
    target: Callable[[Connection, Any], None], connection: Connection, argument: Any, output: Path
) -> None:
    with output.open("ab") as file:
        for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
            os.dup2(file.fileno(), descriptor)
    # Thousands of waits have thousands of sockets.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for name in list(os.environ):
        # The way to the server must be the same on every machine: none of its proxies or authorities.
        if name.lower().endswith("_proxy") or name in _AUTHORITIES:
            del os.environ[name]
    target(connection, argument)


_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
