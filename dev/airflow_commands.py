"""Airflow's command line in a process that is kept, so that not every command imports all of Airflow."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from unittest import mock

from dev.processes import TIMEOUT, last_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.pool import AsyncResult, Pool
    from pathlib import Path


@contextmanager
def airflow_commands(environment: Mapping[str, str]) -> Iterator[AirflowCommands]:
    """
    Start the process, and end it on leaving the ``with`` block.

    :param environment: its whole environment, with the ``AIRFLOW_HOME``
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, initializer=_become, initargs=(dict(environment),)) as pool:
        yield AirflowCommands(pool)


class AirflowCommands:
    """Runs one command at a time in the one process of a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def start(self, *arguments: str, log: Path, environment: Mapping[str, str]) -> Command:
        """
        Start ``airflow`` with these arguments, without waiting for its end.

        :param log: where its output goes
        :param environment: more variables, for this command alone
        """
        return Command(self._pool.apply_async(_run, (arguments, log, dict(environment))), log)


class Command:
    """A command that was started."""

    def __init__(self, result: AsyncResult[object], log: Path) -> None:
        self._result = result
        self._log = log

    def has_ended(self) -> bool:
        return self._result.ready()

    def wait(self, timeout: float = TIMEOUT) -> None:
        """Wait until it ends successfully."""
        try:
            code = self._result.get(timeout)
        except multiprocessing.TimeoutError:
            raise TimeoutError(f"It did not end within {timeout:g} s.\n{last_lines(self._log)}") from None
        if code:
            raise RuntimeError(f"It ended with {code}.\n{last_lines(self._log)}")


def _become(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _keep_the_api_of_tasks() -> None:
    """Make Airflow's API for tasks once, as `dag.test()` does since 3.3; before, it takes two seconds for each task."""
    with suppress(ImportError):  # Airflow 2 has none
        from airflow.sdk.execution_time import supervisor

        if not hasattr(supervisor.in_process_api_server, "cache_info"):
            supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)


def _run(arguments: tuple[str, ...], log: Path, environment: dict[str, str]) -> object:
    """Run a command in this process, and return its exit code."""
    with log.open("wb") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    from airflow.__main__ import main

    _keep_the_api_of_tasks()
    argv = ["airflow", *arguments]
    with mock.patch.dict(os.environ, environment), mock.patch.object(sys, "argv", argv):
        try:
            main()
        except SystemExit as ended:
            return ended.code
        finally:
            sys.stdout.flush()
    return 0
