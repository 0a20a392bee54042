"""Child processes that are fresh interpreters, and are called by messages."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

_MAX_CALL = 1800.0
_GRACE = 10.0
_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def cpu_seconds(process: psutil.Process) -> float:
    """Return the user and system time that a process has used."""
    return float(sum(process.cpu_times()[:2]))


class Process:
    """
    A function that runs in a child process, until the end of the ``with`` block or of this process.

    :param name: its name in messages
    :param target: the function; its arguments are its end of the connection, and ``argument``
    :param argument: anything that can be pickled
    :param output: the file for its output
    """

    def __init__(
        self, name: str, target: Callable[[Connection, Any], None], argument: Any, output: Path
    ) -> None:
        self._name = name
        self._output = output
        # Not forked, or what this process has loaded would count as the child's memory.
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

    def call(self, *message: Any) -> Any:
        """Send a message and return the reply."""
        try:
            self._connection.send(message)
            if not self._connection.poll(_MAX_CALL):
                raise TimeoutError(f"{self._name} did not reply to {message[0]!r} within {_MAX_CALL:g} s.")
            return self._connection.recv()
        except (EOFError, OSError) as error:
            error.add_note(f"{self._name} ended its output with:\n{self._output.read_text()[-4000:]}")
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
        # Requests to the server use no proxy and no authority of this machine.
        if name.lower().endswith("_proxy") or name in _AUTHORITIES:
            del os.environ[name]
    target(connection, argument)
