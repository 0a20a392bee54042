"""Thousands of waits in one real ``airflow triggerer``, through what is hard on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]
from sqlalchemy import create_engine, text

from benchmarks.case import PLAIN, running_server
from benchmarks.contenders import CONTENDERS, OURS
from dev.processes import ChildProcess, end, exit_on_termination, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.organization import Organization, WaitedFor
    from benchmarks.processes import Process

JSON = dict[str, Any]
ROOT = Path(__file__).parents[1]
#: Seconds after which a triggerer hangs, and for how long each of its waits may keep it busy.
LONGEST, LONGEST_PER_WAIT = 300.0, 0.3


@dataclass(frozen=True, slots=True)
class CrowdCase:
    """
    What to measure.

    :param in_triggerer: how many waits begin and end in the triggerer.
    :param by_workers: how many workers hand over.
    :param stop: seconds for which the supervisor is stopped at each hard moment, while the triggers go on.
    :param seconds: length of the quiet window.
    :param sensors: how many of them are in a DAG.
    """

    in_triggerer: int
    by_workers: int
    stop: float = 5.0
    seconds: float = 30.0
    sensors: int = 20

    @property
    def waits(self) -> int:
        return self.in_triggerer + self.by_workers


def measure_crowd(case: CrowdCase, database: str | None = None) -> JSON:
    """
    Begin all waits, restart the triggerer, complete all tasks at once; return the figures, as plain JSON.

    :param database: the URL of an empty database; without it, SQLite is used.
    """
    with TemporaryDirectory(prefix="tallyfy-crowd-") as folder, ExitStack() as stack:
        server, organization = stack.enter_context(running_server(PLAIN, Path(folder)))
        airflow = stack.enter_context(_Triggerer(Path(folder), organization, case, database))
        runs = organization.launch(2 * case.waits)[::2]
        figures: JSON = {"in_triggerer": case.in_triggerer, "by_workers": case.by_workers, "stop": case.stop}
        with airflow.measured(organization) as figures["begin"]:
            figures["begin"]["seconds"] = _begin(case, server, airflow, runs)
        with airflow.measured(organization) as figures["window"]:
            time.sleep(case.seconds)
            figures["window"]["seconds"] = case.seconds
        with airflow.measured(organization) as figures["restart"]:
            figures["restart"]["seconds"] = _restart(case, server, airflow, runs)
        with airflow.measured(organization) as figures["complete"]:
            figures["complete"]["seconds"] = _complete(case, server, airflow, runs)
        figures["wrong"] = airflow.wrong_ends(runs)
    return figures


def measure_dag_size(sensors: int) -> JSON:
    """Begin as many waits in the triggerer as a DAG has sensors, and return what memory each of them takes."""
    case = CrowdCase(in_triggerer=sensors, by_workers=0, stop=0.0, sensors=sensors)
    with TemporaryDirectory(prefix="tallyfy-crowd-") as folder, ExitStack() as stack:
        server, organization = stack.enter_context(running_server(PLAIN, Path(folder)))
        airflow = stack.enter_context(_Triggerer(Path(folder), organization, case, None))
        runs = organization.launch(sensors)
        before = airflow.memory()
        _begin(case, server, airflow, runs)
        after = airflow.memory()
    per_wait = {name: round((after[name] - before[name]) / sensors, 2) for name in after}
    return {"sensors": sensors, "mib_per_wait": per_wait}


def _begin(case: CrowdCase, server: Process, airflow: _Triggerer, runs: Sequence[WaitedFor]) -> float:
    server.ask("watch", [run.run_id for run in runs])
    began_at = time.monotonic()
    with airflow.deferring(runs[: case.in_triggerer], runs[case.in_triggerer :]):
        airflow.wait_until(lambda: airflow.assigned() > case.waits // 3, "a third of the waits to begin")
        airflow.stop_supervisor(case.stop)
    airflow.wait_until(lambda: airflow.running() > case.waits, "all triggers to run")
    airflow.wait_until(lambda: not server.ask("unseen"), "all waits to be polled")
    return time.monotonic() - began_at


def _restart(case: CrowdCase, server: Process, airflow: _Triggerer, runs: Sequence[WaitedFor]) -> float:
    airflow.kill()
    server.ask("watch", [run.run_id for run in runs])
    airflow.start()
    began_at = time.monotonic()
    airflow.wait_until(lambda: server.ask("unseen") < case.waits, "the first wait to be polled")
    airflow.stop_supervisor(case.stop)
    airflow.wait_until(lambda: airflow.running() > case.waits, "all triggers to run again")
    airflow.wait_until(lambda: not server.ask("unseen"), "all waits to be polled again")
    return time.monotonic() - began_at


def _complete(case: CrowdCase, server: Process, airflow: _Triggerer, runs: Sequence[WaitedFor]) -> float:
    server.ask("complete", [run.task_id for run in runs])
    began_at = time.monotonic()
    airflow.wait_until(lambda: airflow.ended() > 0, "the first wait to end")
    airflow.stop_supervisor(case.stop)
    airflow.wait_until(lambda: airflow.ended() == case.waits, "all waits to end")
    return time.monotonic() - began_at


class _Triggerer:
    """A real ``airflow triggerer`` with a database of its own, and nothing else of Airflow."""

    def __init__(
        self, folder: Path, organization: Organization, case: CrowdCase, database: str | None
    ) -> None:
        self._home = folder / "airflow"
        (self._home / "logs").mkdir(parents=True)
        (self._home / "config").mkdir()
        (self._home / "config" / "sqlite_patience.py").write_text("CONNECT_ARGS = {'timeout': 60}\n")
        self._probe = folder / "probe.jsonl"
        self._probe.touch()
        url = database or f"sqlite:///{self._home}/airflow.db"
        settings = {
            "DATABASE__SQL_ALCHEMY_CONN": url,
            "CORE__DAGS_FOLDER": str(ROOT / "benchmarks" / "crowd_dags"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "TRIGGERER__CAPACITY": str(2 * case.waits),
            # The test may hold the machine; a triggerer that is taken for dead would be measured as two.
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "600",
        }
        if database is None:
            settings["DATABASE__SQL_ALCHEMY_CONNECT_ARGS"] = "sqlite_patience.CONNECT_ARGS"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            **CONTENDERS[OURS].environment(organization.url, organization.authority),
            "AIRFLOW_HOME": str(self._home),
            "CROWD_SENSORS": str(case.sensors),
            "PYTHONPATH": str(ROOT),
            "NO_PROXY": "127.0.0.1,localhost",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
        }
        self._longest = LONGEST + case.waits * LONGEST_PER_WAIT
        self._engine = create_engine(url)
        self._process = ChildProcess(
            "airflow triggerer",
            [str(Path(sys.executable).with_name("airflow")), "triggerer", "--skip-serve-logs"],
            log=self._home / "logs" / "triggerer.log",
            environment=self._environment,
        )

    def __enter__(self) -> _Triggerer:
        for command in (("db", "migrate"), ("dags", "reserialize")):
            self._run(["-m", "airflow", *command])
        with exit_on_termination():
            self.start()
        with self.deferring([], []):
            self.wait_until(lambda: self.assigned() > 0, "the probe to begin")
        return self

    def __exit__(self, *raised: object) -> None:
        end([self._process])
        self._engine.dispose()

    def start(self) -> None:
        self._process.start()

    def kill(self) -> None:
        self._process.kill()
        self._probe.with_suffix(".count").unlink()
        # Another triggerer would take them over after a while.
        with self._engine.begin() as database:
            database.execute(text("UPDATE trigger SET triggerer_id = NULL"))

    @contextmanager
    def deferring(self, in_triggerer: Sequence[WaitedFor], by_workers: Sequence[WaitedFor]) -> Iterator[None]:
        """Put waits into the database while the ``with`` block runs."""
        asked = {
            "in_triggerer": [[run.run_id, run.task_id] for run in in_triggerer],
            "by_workers": [[run.run_id, run.task_id] for run in by_workers],
            "probe": None if in_triggerer or by_workers else str(self._probe),
        }
        (self._home / "waits.json").write_text(json.dumps(asked))
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
        """Stop the process that reads what the triggers write, and let it go on."""
        if seconds:
            os.kill(self._process.pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(self._process.pid, signal.SIGCONT)

    def wait_until(self, look: Any, what: str) -> None:
        def checked() -> Any:
            self._process.check()
            return look()

        wait_until(checked, self._longest, what)

    def assigned(self) -> int:
        return self._count("SELECT count(*) FROM trigger WHERE triggerer_id IS NOT NULL")

    def running(self) -> int:
        """Return how many triggers the triggerer runs, the probe among them."""
        count = self._probe.with_suffix(".count")
        return int(count.read_text() or 0) if count.exists() else 0

    def ended(self) -> int:
        return self._count(
            "SELECT count(*) FROM task_instance WHERE state IN ('success', 'scheduled', 'failed')"
        )

    def wrong_ends(self, runs: Sequence[WaitedFor]) -> int:
        """Return how many waits have not ended as they should."""
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
        figures: JSON = {}
        organization.forget_requests()
        self._probe.write_text("")
        used_before = self._cpu()
        try:
            yield figures
        except BaseException as error:
            error.add_note(f"The triggerer's log ends with:\n{self._process.tail()}")
            error.add_note(self._probe.read_text()[-3000:])
            raise
        used = self._cpu()
        late = [json.loads(line) for line in self._probe.read_text().splitlines()]
        figures |= {
            "requests": sum(organization.requests().values()),
            "cpu_seconds": {
                name: round(seconds - used_before.get((name, pid), 0), 2)
                for (name, pid), seconds in used.items()
            },
            "memory_mib": self.memory(),
            "late_ms": round(1000 * max((each["late"] for each in late), default=0)),
            "late_ms_ours": round(1000 * max((each["ours"] for each in late), default=0)),
        }

    def _processes(self) -> dict[str, Any]:
        supervisor = psutil.Process(self._process.pid)
        runners = supervisor.children()
        return {"supervisor": supervisor, **({"runner": runners[0]} if runners else {})}

    def _cpu(self) -> dict[tuple[str, int], float]:
        return {(name, each.pid): sum(each.cpu_times()[:2]) for name, each in self._processes().items()}

    def memory(self) -> dict[str, int]:
        return {name: round(each.memory_info().rss / 2**20) for name, each in self._processes().items()}


def _event(kwargs: Any) -> JSON:
    """Return the event in a task's ``next_kwargs``, however Airflow has encoded them."""
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
