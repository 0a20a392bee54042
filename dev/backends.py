"""
What an Airflow keeps its metadata in and runs its tasks with: SQLite and this machine, or as in production.

The services of the latter are processes like the parts of Airflow, so that a test can kill one and start it again. They
listen on Unix sockets in folders of their own, and need neither root nor a service manager.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dev.airflow_api import IN_AIRFLOW_2
from dev.processes import ChildProcess, end, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

#: PostgreSQL refuses to run as root, so root runs it as this user.
UNPRIVILEGED_USER = "nobody"
DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")
#: The data is gone with the folder, so it need not outlive the machine.
WITHOUT_DURABILITY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")

SQLITE_PATIENCE = """\
import sys

# The default of 5 s is short for a machine that is busy. But the API server writes its audit log on its event loop, and
# waits there for a lock that another request holds until the loop goes on. What fails there is sent again.
CONNECT_ARGS = {"timeout": 2 if "api-server" in sys.argv else 60}
"""

EXECUTOR_IN_AIRFLOW_2 = """\
from airflow.executors.local_executor import LocalExecutor

class SqliteExecutor(LocalExecutor):
    # Or Airflow 2 refuses it with SQLite. Its SequentialExecutor runs one task after the other, each in a new Python.
    is_single_threaded = True
"""


class Backend(Protocol):
    """The metadata database and the executor of an Airflow."""

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings that name them, without ``AIRFLOW__``."""

    @property
    def services(self) -> Mapping[str, ChildProcess]:
        """The services behind them."""

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """The parts of Airflow that belong to the executor, with their ``airflow`` commands."""

    def start(self, home: Path, stack: ExitStack, parallelism: int) -> None:
        """
        Start the services.

        :param home: Airflow's home directory
        :param stack: takes what ends and removes them
        :param parallelism: how many tasks may run at once
        """

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of the metadata database that a query selects."""


class SqliteBackend:
    """SQLite and the LocalExecutor."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {
            "CORE__EXECUTOR": "sqlite_executor.SqliteExecutor" if IN_AIRFLOW_2 else "LocalExecutor",
            "DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "sqlite_patience.CONNECT_ARGS",
        }
        self.services: dict[str, ChildProcess] = {}
        self.parts: dict[str, tuple[str, ...]] = {}

    def start(self, home: Path, stack: ExitStack, parallelism: int) -> None:
        self._database = home / "airflow.db"
        with closing(sqlite3.connect(self._database)) as database:
            database.execute("PRAGMA journal_mode=WAL")
        # Airflow finds modules in this folder.
        (home / "config").mkdir()
        (home / "config" / "sqlite_patience.py").write_text(SQLITE_PATIENCE)
        (home / "config" / "sqlite_executor.py").write_text(EXECUTOR_IN_AIRFLOW_2)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._database)) as database:
            return database.execute(query).fetchall()


class ProductionBackend:
    """
    PostgreSQL, and the CeleryExecutor over Redis.

    :param workers: how many Celery workers there are; the second is the part ``worker-2``, and so on
    """

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self.settings: dict[str, str] = {
            "CORE__EXECUTOR": "CeleryExecutor",
            # As Airflow itself sets it for the other addresses that Redis may have.
            "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",
            # A task whose worker died is retried, or fails, after this time. Heartbeats come every 5 s.
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        }
        self.services: dict[str, ChildProcess] = {}
        self.parts: dict[str, tuple[str, ...]] = {}

    def start(self, home: Path, stack: ExitStack, parallelism: int) -> None:
        folders = [_folder(stack, prefix) for prefix in ("redis-", "postgresql-")]
        stack.callback(lambda: end(self.services.values()))
        self._start_redis(folders[0], home / "logs")
        self._start_postgresql(folders[1], home / "logs")
        concurrency = str(-(-parallelism // self._workers))
        command = ("celery", "worker", "--skip-serve-logs", "--without-gossip", "--without-mingle")
        for name in ("worker", *(f"worker-{number}" for number in range(2, self._workers + 1))):
            self.parts[name] = (*command, "--concurrency", concurrency, "--celery-hostname", name)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        from psycopg2 import connect  # type: ignore[import-untyped]

        address = {"host": str(self._sockets), "user": "airflow", "dbname": "postgres"}
        with closing(connect(**address)) as database, database.cursor() as cursor:
            cursor.execute(query)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows

    def _start_redis(self, folder: Path, logs: Path) -> None:
        address = folder / "redis.sock"
        without_network = ("--port", "0", "--unixsocket", str(address))
        without_files = ("--save", "", "--appendonly", "no", "--dir", str(folder))
        self.services["redis"] = redis = ChildProcess(
            "Redis",
            [_program("redis-server"), *without_network, *without_files],
            log=logs / "redis.log",
            environment=os.environ,
        )
        redis.start()
        _wait_until_ready(redis)
        self.settings["CELERY__BROKER_URL"] = f"redis+socket://{address}"

    def _start_postgresql(self, folder: Path, logs: Path) -> None:
        self._sockets = folder
        data, user = folder / "data", None
        if os.geteuid() == 0:
            user = UNPRIVILEGED_USER
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        initdb = ChildProcess(
            "initdb",
            [
                _program("initdb"),
                "--no-sync",
                "--auth=trust",
                "--username=airflow",
                "--encoding=UTF8",
                str(data),
            ],
            log=logs / "initdb.log",
            environment=environment,
            user=user,
        )
        self.services["initdb"] = initdb
        initdb.start()
        initdb.wait(timeout=60)
        del self.services["initdb"]
        options = ("listen_addresses=", f"unix_socket_directories={folder}", "max_connections=200")
        self.services["postgresql"] = postgresql = ChildProcess(
            "PostgreSQL",
            [
                *(_program("postgres"), "-D", str(data)),
                *(part for option in (*options, *WITHOUT_DURABILITY) for part in ("-c", option)),
            ],
            log=logs / "postgresql.log",
            environment=environment,
            user=user,
            stop_signal=signal.SIGINT,  # SIGTERM lets it wait for its clients
        )
        postgresql.start()
        _wait_until_ready(postgresql)
        self.settings["DATABASE__SQL_ALCHEMY_CONN"] = f"postgresql+psycopg2://airflow@/postgres?host={folder}"


def _folder(stack: ExitStack, prefix: str) -> Path:
    """Return a folder that only its owner may read, with a short path, as the path of a Unix socket has to be."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _program(name: str) -> str:
    """Return where a program of a service is; Debian keeps PostgreSQL's out of the ``PATH``."""
    debian = sorted(DEBIAN_POSTGRESQL.glob("*/bin"), key=lambda folder: int(folder.parent.name), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, debian)])
    if found := shutil.which(name, path=path):
        return found
    raise FileNotFoundError(f"{name} is not installed (Debian: apt-get install postgresql redis-server)")


def _wait_until_ready(service: ChildProcess) -> None:
    def is_ready() -> bool:
        service.check()
        return "ready to accept connections" in service.log.read_text(errors="replace")

    wait_until(is_ready, 60, f"{service.name} to accept connections", interval=0.05)
