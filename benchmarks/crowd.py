"""Thousands of waits in one real ``airflow triggerer``: begun, restarted and completed at once."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
from sqlalchemy import create_engine, text

from airflow_provider_tallyfy.sandbox import tasks
from benchmarks.implementations import IMPLEMENTATIONS, OURS
from benchmarks.processes import cpu_seconds
from benchmarks.program import progress, table
from benchmarks.server import running_server
from dev.backends import ProductionBackend, SqliteBackend
from dev.processes import ChildProcess, end, exit_on_termination, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from airflow_provider_tallyfy.sandbox.store import Store
    from benchmarks.organization import Organization, RunToWaitFor
    from benchmarks.processes import Process

JSON = dict[str, Any]
ROOT = Path(__file__).parents[1]
CASES = (("SQLite", 2_000), ("PostgreSQL", 2_000), ("PostgreSQL", 5_000))
DAG_SIZES = (20, 300)
MAX_SECONDS, MAX_SECONDS_PER_WAIT = 300.0, 0.3
"""For each phase; a triggerer that takes longer is taken to hang."""
_STACKS = {
    "this provider": ("/airflow_provider_tallyfy/",),
    "reading DAGs from the supervisor": ("/airflow/serialization/", " _aread_frame"),
    "writing logs to the supervisor": ("/structlog/",),
}
"""What delays the event loop, by a module or function on its stack meanwhile; the first one that matches."""
CAUSES = (*_STACKS, "anything else")
PHASES = {
    "begin": "all begin",
    "window": "all wait",
    "restart": "the triggerer is restarted",
    "complete": "all tasks are completed at once",
}


@dataclass(frozen=True, slots=True)
class CrowdCase:
    """
    What to measure.

    :param in_triggerer: how many waits begin and end in the triggerer
    :param by_workers: how many waits workers begin
    :param stop: seconds for which the supervisor is stopped in each phase, while the triggers run
    :param seconds: length of the phase in which all wait
    :param sensors: sensors in a DAG
    :param database: ``SQLite`` or ``PostgreSQL``
    """

    in_triggerer: int
    by_workers: int
    stop: float = 5.0
    seconds: float = 20.0
    sensors: int = 20
    database: str = "SQLite"

    @property
    def waits(self) -> int:
        return self.in_triggerer + self.by_workers


def measure_crowd(case: CrowdCase) -> JSON:
    """Begin all waits, restart the triggerer, complete all tasks at once; return the figures."""
    with _running(case) as (server, organization, airflow):
        runs = organization.launch(2 * case.waits)[::2]
        figures: JSON = {
            "database": case.database,
            "in_triggerer": case.in_triggerer,
            "by_workers": case.by_workers,
            "stop": case.stop,
        }
        phases: dict[str, Callable[[], object]] = {
            "begin": lambda: _begin(case, server, airflow, runs),
            "window": lambda: time.sleep(case.seconds),
            "restart": lambda: _restart(case, server, airflow, runs),
            "complete": lambda: _complete(case, server, airflow, runs),
        }
        for phase, act in phases.items():
            with airflow.measured(organization) as figures[phase]:
                act()
        figures["wrong"] = airflow.wrong_ends(runs)
    return figures


def measure_crowds(options: argparse.Namespace, known: list[JSON] | None) -> list[JSON]:
    """Measure the crowds that ``--crowds`` names; the figures of others stay."""
    crowds = {(each["database"], each["in_triggerer"] + each["by_workers"]): each for each in known or ()}
    for database, waits in (("SQLite", 100),) if options.quick else options.crowds:
        progress(f"{waits:,} waits in a real triggerer on {database}")
        case = CrowdCase(waits // 2, waits - waits // 2, database=database)
        crowds[database, waits] = measure_crowd(case)
    return [crowds[key] for key in sorted(crowds, key=lambda key: (key[1], key[0] != "SQLite"))]


def parse_crowd(argument: str) -> tuple[str, int]:
    """Return database and number of waits of an argument such as ``postgresql:5000``."""
    found = re.fullmatch("(sqlite|postgresql):([1-9][0-9]*)", argument.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{argument!r} is not like sqlite:2000 or postgresql:5000")
    return {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[found[1]], int(found[2])


def show_crowds(crowds: Sequence[JSON]) -> list[str]:
    """Return the table of the crowds."""
    return table(
        (
            *("waits", "database", "phase", "seconds", "requests", "CPU s, triggers · supervisor"),
            *("MiB, triggers · supervisor", "loop late ms", *CAUSES, "ended wrongly"),
        ),
        (
            (
                crowd["in_triggerer"] + crowd["by_workers"],
                crowd["database"],
                title,
                f"{phase['seconds']:.0f}",
                phase["requests"],
                f"{phase['cpu_seconds']['runner']:.1f} · {phase['cpu_seconds']['supervisor']:.1f}",
                f"{phase['memory_mib']['runner']:,} · {phase['memory_mib']['supervisor']:,}",
                phase["late_ms"],
                *(phase["late_ms_by"].get(cause) for cause in CAUSES),
                crowd["wrong"] if name == "complete" else None,
            )
            for crowd in crowds
            for name, title in PHASES.items()
            for phase in (crowd[name],)
        ),
    )


def measure_dag_sizes(options: argparse.Namespace, _: Any) -> list[JSON]:
    """Measure the memory of a wait that begins in the triggerer, by the size of its DAG."""
    return [_measure_dag_size(sensors) for sensors in ((5,) if options.quick else DAG_SIZES)]


def _measure_dag_size(sensors: int) -> JSON:
    progress(f"a DAG of {sensors} sensors")
    case = CrowdCase(in_triggerer=sensors, by_workers=0, stop=0.0, sensors=sensors)
    with _running(case) as (server, organization, airflow):
        runs = organization.launch(sensors)
        before = airflow.memory()
        _begin(case, server, airflow, runs)
        after = airflow.memory()
    return {
        "sensors": sensors,
        "mib_per_wait": {name: round((after[name] - before[name]) / sensors, 2) for name in after},
    }


def show_dag_sizes(sizes: Sequence[JSON]) -> list[str]:
    """Return the table of the sizes."""
    return table(
        ("sensors in the DAG", "MiB for each wait, triggers · supervisor"),
        (
            (
                each["sensors"],
                f"{each['mib_per_wait']['runner']:.2f} · {each['mib_per_wait']['supervisor']:.2f}",
            )
            for each in sizes
        ),
    )


@contextmanager
def _running(case: CrowdCase) -> Iterator[tuple[Process, Organization, _Triggerer]]:
    """Run a sandbox and a triggerer for the duration of the ``with`` block."""
    with (
        exit_on_termination(),
        running_server() as (folder, server, organization),
        _Triggerer(folder, organization, case) as airflow,
    ):
        yield server, organization, airflow


def _begin(case: CrowdCase, server: Process, airflow: _Triggerer, runs: Sequence[RunToWaitFor]) -> None:
    server.call("track", [run.run_id for run in runs])
    with airflow.deferring(runs[: case.in_triggerer], runs[case.in_triggerer :]):
        airflow.wait_until(lambda: airflow.assigned() > case.waits // 3, "a third of the waits to begin")
        airflow.stop_supervisor(case.stop)
    airflow.wait_until(lambda: airflow.running() > case.waits, "all triggers to run")
    airflow.wait_until(lambda: not server.call("unread"), "all waits to be polled")


def _restart(case: CrowdCase, server: Process, airflow: _Triggerer, runs: Sequence[RunToWaitFor]) -> None:
    airflow.kill()
    server.call("track", [run.run_id for run in runs])
    airflow.start()
    airflow.wait_until(lambda: server.call("unread") < case.waits, "the first wait to be polled")
    airflow.stop_supervisor(case.stop)
    airflow.wait_until(lambda: airflow.running() > case.waits, "all triggers to run again")
    airflow.wait_until(lambda: not server.call("unread"), "all waits to be polled again")


def _complete(case: CrowdCase, server: Process, airflow: _Triggerer, runs: Sequence[RunToWaitFor]) -> None:
    server.call("change", complete_tasks, [run.task_id for run in runs])
    airflow.wait_until(lambda: airflow.ended() > 0, "the first wait to end")
    airflow.stop_supervisor(case.stop)
    airflow.wait_until(lambda: airflow.ended() == case.waits, "all waits to end")


def complete_tasks(store: Store, task_ids: Sequence[str]) -> None:
    """Complete tasks in the sandbox, between two requests."""
    for task_id in task_ids:
        task = store.tasks[task_id]
        tasks.complete(store, store.members[task.owners.users[0]], task)


class _Triggerer:
    """A real ``airflow triggerer`` with a database, and nothing else of Airflow."""

    def __init__(self, folder: Path, organization: Organization, case: CrowdCase) -> None:
        self._case = case
        self._home = folder / "airflow"
        (self._home / "logs").mkdir(parents=True)
        self._probe = folder / "probe.jsonl"
        self._probe.touch()
        self._organization = organization
        self._max_seconds = MAX_SECONDS + case.waits * MAX_SECONDS_PER_WAIT
        self._stack = ExitStack()

    def __enter__(self) -> _Triggerer:
        with self._stack as stack:
            backend = ProductionBackend() if self._case.database == "PostgreSQL" else SqliteBackend()
            backend.start(self._home, stack, parallelism=1)
            self._environment = self._variables(backend.settings)
            sqlite = f"sqlite:///{self._home}/airflow.db"
            self._engine = create_engine(backend.settings.get("DATABASE__SQL_ALCHEMY_CONN", sqlite))
            stack.callback(self._engine.dispose)
            for command in (("db", "migrate"), ("dags", "reserialize")):
                self._run(["-m", "airflow", *command])
            self._process = ChildProcess(
                "airflow triggerer",
                [str(Path(sys.executable).with_name("airflow")), "triggerer", "--skip-serve-logs"],
                log=self._home / "logs" / "triggerer.log",
                environment=self._environment,
            )
            stack.callback(lambda: end([self._process]))
            self.start()
            with self.deferring([], []):
                self.wait_until(lambda: self.assigned() > 0, "the probe to begin")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def _variables(self, backend: Any) -> dict[str, str]:
        settings = {
            **{name: value for name, value in backend.items() if name.startswith("DATABASE__")},
            "CORE__DAGS_FOLDER": str(ROOT / "benchmarks" / "crowd_dags"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "TRIGGERER__CAPACITY": str(2 * self._case.waits),
            # On a busy machine, a triggerer may send no heartbeat for long, and another one must not take its triggers.
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "600",
        }
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            **IMPLEMENTATIONS[OURS].environment(self._organization.url, self._organization.authority),
            "AIRFLOW_HOME": str(self._home),
            "CROWD_SENSORS": str(self._case.sensors),
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "127.0.0.1,localhost",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        }

    def start(self) -> None:
        self._process.start()

    def kill(self) -> None:
        self._process.kill()
        self._probe.with_suffix(".count").unlink()
        # The new triggerer takes them now, instead of after the health check threshold.
        with self._engine.begin() as database:
            database.execute(text("UPDATE trigger SET triggerer_id = NULL"))

    @contextmanager
    def deferring(
        self, in_triggerer: Sequence[RunToWaitFor], by_workers: Sequence[RunToWaitFor]
    ) -> Iterator[None]:
        """Put waits into the database while the ``with`` block runs; without waits, the probe."""
        waits = {
            "in_triggerer": [[run.run_id, run.task_id] for run in in_triggerer],
            "by_workers": [[run.run_id, run.task_id] for run in by_workers],
            "probe": None if in_triggerer or by_workers else str(self._probe),
        }
        (self._home / "waits.json").write_text(json.dumps(waits))
        errors = self._home / "defer.log"
        with (
            (self._home / "waits.json").open() as source,
            errors.open("w") as sink,
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.defer"],
                stdin=source,
                stdout=sink,
                stderr=sink,
                env=self._environment,
            ) as process,
        ):
            yield
            if process.wait():
                raise RuntimeError(f"The waits could not be deferred:\n{errors.read_text()[-4000:]}")

    def _run(self, arguments: list[str]) -> None:
        done = subprocess.run(
            [sys.executable, *arguments], env=self._environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{arguments} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")

    def stop_supervisor(self, seconds: float) -> None:
        """Stop the process that reads what the triggers write, and continue it."""
        if seconds:
            os.kill(self._process.pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(self._process.pid, signal.SIGCONT)

    def wait_until(self, condition: Callable[[], object], goal: str) -> None:
        def checked() -> object:
            self._process.check()
            return condition()

        wait_until(checked, self._max_seconds, goal)

    def assigned(self) -> int:
        return self._count("SELECT count(*) FROM trigger WHERE triggerer_id IS NOT NULL")

    def running(self) -> int:
        """Return how many triggers the triggerer runs, including the probe."""
        count = self._probe.with_suffix(".count")
        return int(count.read_text() or 0) if count.exists() else 0

    def ended(self) -> int:
        return self._count(
            "SELECT count(*) FROM task_instance WHERE state IN ('success', 'scheduled', 'failed')"
        )

    def wrong_ends(self, runs: Sequence[RunToWaitFor]) -> int:
        """Return how many waits have not the right result, in the XCom or in the event for the worker."""
        right = set()
        with self._engine.connect() as database:
            for (value,) in database.execute(text("SELECT value FROM xcom WHERE key = 'return_value'")):
                right.add(_met(json.loads(value) if isinstance(value, str) else value))
            for (value,) in database.execute(
                text("SELECT next_kwargs FROM task_instance WHERE state = 'scheduled'")
            ):
                kwargs = json.loads(value) if isinstance(value, str) else value
                right.add(_met(_event(kwargs).get("result", {})))
        return len({(run.run_id, run.task_id) for run in runs} - right)

    def _count(self, query: str) -> int:
        with self._engine.connect() as database:
            return int(database.execute(text(query)).scalar_one())

    @contextmanager
    def measured(self, organization: Organization) -> Iterator[JSON]:
        """Measure what happens in the ``with`` block."""
        figures: JSON = {}
        organization.forget_requests()
        self._probe.write_text("")
        used_before, began_at = self._cpu(), time.monotonic()
        try:
            yield figures
        except BaseException as error:
            error.add_note(f"The triggerer's log ends with:\n{self._process.tail()}")
            error.add_note(self._probe.read_text()[-3000:])
            raise
        figures["seconds"] = round(time.monotonic() - began_at, 1)
        used = self._cpu()
        late = [json.loads(line) for line in self._probe.read_text().splitlines()]
        parts = [_parts(each["late"], each["stacks"]) for each in late]
        figures |= {
            "requests": organization.requests(),
            "cpu_seconds": {
                name: round(seconds - used_before.get((name, pid), 0), 2)
                for (name, pid), seconds in used.items()
            },
            "memory_mib": self.memory(),
            "late_ms": round(1000 * max((each["late"] for each in late), default=0)),
            "late_ms_by": {
                cause: round(1000 * max((each.get(cause, 0) for each in parts), default=0))
                for cause in CAUSES
            },
        }

    def _processes(self) -> dict[str, Any]:
        supervisor = psutil.Process(self._process.pid)
        runners = supervisor.children()
        return {"supervisor": supervisor, **({"runner": runners[0]} if runners else {})}

    def _cpu(self) -> dict[tuple[str, int], float]:
        return {(name, each.pid): cpu_seconds(each) for name, each in self._processes().items()}

    def memory(self) -> dict[str, int]:
        return {name: round(each.memory_info().rss / 2**20) for name, each in self._processes().items()}


def _parts(late: float, stacks: Sequence[str]) -> dict[str, float]:
    """Divide a delay by its causes, in proportion to the samples of the stack."""
    counts = Counter(map(_cause, stacks))
    return {cause: late * count / len(stacks) for cause, count in counts.items()}


def _cause(stack: str) -> str:
    found = (cause for cause, parts in _STACKS.items() if any(part in stack for part in parts))
    return next(found, CAUSES[-1])


def _event(kwargs: Any) -> JSON:
    """Return the event in a task's ``next_kwargs``, in whichever encoding of Airflow's."""
    if isinstance(kwargs, dict):
        if "outcome" in kwargs:
            return kwargs
        for value in kwargs.values():
            if found := _event(value):
                return found
    return {}


def _met(result: Any) -> tuple[str, str] | None:
    if isinstance(result, dict) and "__var" in result:
        result = result["__var"]
    if not isinstance(result, dict) or not result.get("next_task"):
        return None
    return result["run_id"], result["from_task_id"]
