"""
Metadata databases and executors of an Airflow: SQLite and the LocalExecutor, or as in production.

The services of the latter are child processes like the parts of Airflow, so that a test can kill and start them. They
listen on Unix sockets in temporary folders, and need neither root nor a service manager.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dev.processes import ChildProcess, end, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

#: PostgreSQL refuses to run as root, so root runs it as this user.
UNPRIVILEGED_USER = "nobody"
DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")
#: The data is removed with the folder, so it need not survive a crash of the machine.
WITHOUT_DURABILITY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")

SQLITE_TIMEOUTS = """\
import sys

# The default of 5 s is short on a busy machine. But the API server writes its audit log on its event loop, and waits
# there for a lock that another request holds until the loop continues. Clients repeat a request that fails there.
CONNECT_ARGS = {"timeout": 2 if "api-server" in sys.argv else 60}
"""

#: Tasks run in processes that are forked from the scheduler. What the scheduler has imported, they need not import.
SQLITE_EXECUTOR = """\
from importlib import import_module

from airflow.executors.local_executor import LocalExecutor

class SqliteExecutor(LocalExecutor):
    # Or Airflow 2 refuses it with SQLite. Its SequentialExecutor runs one task after the other, each in a new Python.
    is_single_threaded = True

    def start(self):
        for name in %r:
            try:
                import_module(name)
            except ImportError:
                pass  # this Airflow does not have it
        super().start()
"""
TASK_MODULES = (
    "airflow.dag_processing.dagbag",
    "airflow.providers.standard.decorators.python",
    "airflow.sdk.execution_time.task_runner",
    "airflow_provider_tallyfy.hooks.tallyfy",
    "airflow_provider_tallyfy.notifications.tallyfy",
    "airflow_provider_tallyfy.operators.tallyfy",
    "airflow_provider_tallyfy.sensors.tallyfy",
    "airflow_provider_tallyfy.transfers.tallyfy_to_object_storage",
    "airflow_provider_tallyfy.triggers.tallyfy",
)


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
        :param stack: its callbacks end and remove them
        :param parallelism: how many tasks may run at once
        """

    def complete_migration(self) -> None:
        """Change the database that Airflow has just created."""

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of the metadata database that a query selects."""


class SqliteBackend:
    """SQLite and the LocalExecutor."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {
            "CORE__EXECUTOR": "sqlite_executor.SqliteExecutor",
            "DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "sqlite_timeouts.CONNECT_ARGS",
        }
        self.services: dict[str, ChildProcess] = {}
        self.parts: dict[str, tuple[str, ...]] = {}

    def start(self, home: Path, stack: ExitStack, parallelism: int) -> None:
        self.database = home / "airflow.db"
        with closing(sqlite3.connect(self.database)) as database:
            database.execute("PRAGMA journal_mode=WAL")
        # Airflow finds modules in this folder.
        (home / "config").mkdir()
        (home / "config" / "sqlite_timeouts.py").write_text(SQLITE_TIMEOUTS)
        (home / "config" / "sqlite_executor.py").write_text(SQLITE_EXECUTOR % (TASK_MODULES,))

    def complete_migration(self) -> None:
        with closing(sqlite3.connect(self.database)) as database:
            never_reuse_trigger_ids(database)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as database:
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

    def complete_migration(self) -> None:
        """Change nothing."""

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


def never_reuse_trigger_ids(database: sqlite3.Connection) -> None:
    """
    Let SQLite number triggers as PostgreSQL does.

    By default it gives a new trigger the id of a deleted one, and a late event of that one then resumes the wrong task.
    """
    schema = "SELECT sql FROM sqlite_master WHERE tbl_name = 'trigger' AND type = ? AND sql IS NOT NULL"
    [(table,)] = database.execute(schema, ("table",))
    indexes = database.execute(schema, ("index",)).fetchall()
    table = re.sub(r",\s*(CONSTRAINT \w+ )?PRIMARY KEY \(id\)", "", table)
    table = table.replace("id INTEGER NOT NULL", "id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", 1)
    database.execute("DROP TABLE trigger")
    for (statement,) in [(table,), *indexes]:
        database.execute(statement)
    database.commit()


def _folder(stack: ExitStack, prefix: str) -> Path:
    """Return a folder that only its owner may read, with a path that is short enough for a Unix socket."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _program(name: str) -> str:
    """Return the path of a service's program; Debian keeps PostgreSQL's out of the ``PATH``."""
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
