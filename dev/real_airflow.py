"""
A real Airflow on this machine, for as long as a ``with`` block lasts.

Scheduler, DAG processor, triggerers and API server are child processes with a temporary database and home directory, so
that a test can kill one of them and start it again. It is the Airflow of this Python environment, 2.11 or 3.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import requests

from dev.airflow_api import IN_AIRFLOW_2, AirflowApi
from dev.backends import SqliteBackend
from dev.processes import TIMEOUT, ChildProcess, end, exit_on_termination, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from dev.airflow_api import DagRun
    from dev.backends import Backend

#: The parts, each by the name of its ``airflow`` command.
#: No log servers: they cannot be bound to the loopback address, and the API server reads logs from the disk.
PARTS: Mapping[str, tuple[str, ...]] = {
    "webserver" if IN_AIRFLOW_2 else "api-server": (),
    "scheduler": ("--skip-serve-logs",),
    **({} if IN_AIRFLOW_2 else {"dag-processor": ()}),  # Airflow 2's scheduler reads DAGs itself with sqlite
    "triggerer": ("--skip-serve-logs",),
}

ALL_ADMINS_IN_AIRFLOW_2 = """\
AUTH_ROLE_PUBLIC = "Admin"
WTF_CSRF_ENABLED = False
"""


class RealAirflow:
    """
    Airflow, started on entering the ``with`` block and ended on leaving it.

    :param dags_folder: where the DAG files are
    :param environment: further variables for every part, such as ``AIRFLOW_CONN_TALLYFY_DEFAULT``
    :param environments: further variables for single parts, by the part's name
    :param parallelism: how many tasks may run at once
    :param triggerers: how many triggerers there are; the second is the part ``triggerer-2``, and so on
    :param backend: the metadata database and the executor; SQLite and the LocalExecutor by default
    :param keep_home: leave the home directory with all logs behind
    """

    def __init__(
        self,
        dags_folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        environments: Mapping[str, Mapping[str, str]] | None = None,
        parallelism: int = 4,
        triggerers: int = 1,
        backend: Backend | None = None,
        keep_home: bool = False,
    ) -> None:
        self._dags_folder = dags_folder
        self._extra_environment = dict(environment or {})
        self._extra_environments = dict(environments or {})
        self._executable = Path(sys.executable).with_name("airflow")
        self._parallelism = parallelism
        self._triggerers = triggerers
        self._backend = backend or SqliteBackend()
        self._keep_home = keep_home
        self._parts: dict[str, ChildProcess] = {}
        self._stack = ExitStack()

    @classmethod
    def join(cls, url: str, home: Path) -> Self:
        """
        Return an Airflow on SQLite that another process started, which alone can kill and start its parts.

        :param url: its address
        :param home: its home directory
        """
        backend = SqliteBackend()
        backend.database = home / "airflow.db"
        joined = cls(Path(), backend=backend)
        joined.home, joined.url = home, url
        joined.api = AirflowApi(url, lock=home / "writes.lock")
        joined.api.log_in()
        return joined

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(exit_on_termination())
            self.home = Path(tempfile.mkdtemp(prefix="airflow-home-"))
            if not self._keep_home:
                stack.callback(shutil.rmtree, self.home, ignore_errors=True)
            self.logs.mkdir()
            self._backend.start(self.home, stack, self._parallelism)
            stack.callback(lambda: end(self._parts.values()))
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def logs(self) -> Path:
        """Where the parts and the tasks write their logs."""
        return self.home / "logs"

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of the metadata database that a query selects."""
        return self._backend.rows(query)

    def trigger(self, dag_id: str, conf: Mapping[str, object] | None = None) -> DagRun:
        """Start a run of the DAG."""
        return self.api.trigger(dag_id, conf)

    def run(self, *arguments: str) -> str:
        """Run an ``airflow`` command in this Airflow and return what it prints."""
        command = [str(self._executable), *arguments]
        done = subprocess.run(command, env=self._variables, capture_output=True, text=True, timeout=TIMEOUT)
        if done.returncode:
            raise RuntimeError(f"airflow {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def start(self, part: str) -> None:
        """Start a part again that was killed."""
        self._processes[part].start()

    def kill(self, part: str) -> None:
        """End a part with all its processes by SIGKILL, as if its machine lost power."""
        self._processes[part].kill()

    def part_of(self, pid: int) -> str | None:
        """Return the part that a process belongs to, such as the worker of a task."""
        return next((part for part, process in self._processes.items() if process.leads(pid)), None)

    def leads(self, part: str, pid: int) -> bool:
        """Return whether a process belongs to a part."""
        return self._processes[part].leads(pid)

    def wait_until_healthy(self, timeout: float = TIMEOUT) -> None:
        """Wait until every part reports that it is healthy."""

        def all_healthy() -> bool:
            self.check()
            try:
                health = self.api.health()
            except requests.RequestException:
                return False
            states = [
                state for state in health.values() if state
            ]  # of the metadata database, and of each part
            return len(states) == len(PARTS) and set(states) == {"healthy"}

        wait_until(all_healthy, timeout, "Airflow to be healthy")

    def _start(self) -> None:
        port, unused_port = _free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        environment = self._variables = self._environment(port, unused_port)
        if IN_AIRFLOW_2:
            (self.home / "webserver_config.py").write_text(ALL_ADMINS_IN_AIRFLOW_2)
        migration = ChildProcess(
            "airflow db migrate",
            [str(self._executable), "db", "migrate"],
            log=self.logs / "db-migrate.log",
            environment=environment,
        )
        self._parts["db migrate"] = migration
        migration.start()
        migration.wait()
        del self._parts["db migrate"]
        self._backend.complete_migration()

        commands = {part: (part, *arguments) for part, arguments in PARTS.items()}
        commands |= self._backend.parts
        for number in range(2, self._triggerers + 1):
            commands[f"triggerer-{number}"] = commands["triggerer"]
        for part, command in commands.items():
            self._parts[part] = ChildProcess(
                f"airflow {part}",
                [str(self._executable), *command],
                log=self.logs / f"{part}.log",
                environment={**environment, **self._extra_environments.get(part, {})},
            )
            self._parts[part].start()
        self.api = AirflowApi(self.url, check=self.check, lock=self.home / "writes.lock")
        self.wait_until_healthy()
        self.api.log_in()

    def check(self) -> None:
        """Raise, with the end of its log, if a part ended that no test killed."""
        for process in self._processes.values():
            process.check()

    @property
    def _processes(self) -> dict[str, ChildProcess]:
        return {**self._backend.services, **self._parts}

    def _environment(self, port: int, unused_port: int) -> dict[str, str]:
        settings = {
            **self._backend.settings,
            "CORE__DAGS_FOLDER": str(self._dags_folder),
            "CORE__PARALLELISM": str(self._parallelism),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            # The default needs the name service, which may be slow or absent.
            "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "API__BASE_URL": self.url,
            "API__HOST": "127.0.0.1",
            "API__PORT": str(port),
            "API__WORKERS": "1",
            "API__ENABLE_XCOM_DESERIALIZE_SUPPORT": "True",
            # Nothing listens there. The default may be the log server of another Airflow on this machine.
            "LOGGING__WORKER_LOG_SERVER_PORT": str(unused_port),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(unused_port),
            "DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.home / "bundles"),
            "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "DAG_PROCESSOR__PARSING_PROCESSES": "2",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
            # Within this time, a worker notices that its task's process has ended.
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            # A dead triggerer's work is taken over after this time.
            "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        }
        if IN_AIRFLOW_2:
            settings |= {
                "API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
                "WEBSERVER__BASE_URL": self.url,
                "WEBSERVER__WEB_SERVER_HOST": "127.0.0.1",
                "WEBSERVER__WEB_SERVER_PORT": str(port),
                "WEBSERVER__WORKERS": "1",
                "SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
                "SCHEDULER__PARSING_PROCESSES": "1",
            }
        own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        return {
            **own,
            "PATH": os.pathsep.join([str(self._executable.parent), own.get("PATH", os.defpath)]),
            "NO_PROXY": ",".join(filter(None, [own.get("NO_PROXY"), "127.0.0.1", "localhost"])),
            "PYTHONUNBUFFERED": "1",
            "AIRFLOW_HOME": str(self.home),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
            **self._extra_environment,
        }


def _free_ports(count: int) -> list[int]:
    """Return loopback ports on which nothing listens now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in sockets]
