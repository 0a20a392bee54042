"""Measure what watchers cost, how soon they start DAGs, and whether they lose events when the triggerer is killed."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from benchmarks.processes import cpu_seconds
from benchmarks.program import Part, main, progress, show_latency, summarize_latency, table
from dev.processes import wait_until
from dev.real_airflow import RealAirflow
from dev.sandbox import SandboxClient, running_sandbox

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

JSON = dict[str, Any]
DAGS = Path(__file__).parent / "event_dags" / "watchers.py"
POKE_INTERVAL = 10.0
"""Seconds; as in the DAG file."""
KILL_INTERVAL = 20.0
MAX_LATENCY = 400.0
"""Seconds after which an event counts as lost; a sweep of all lists begins every 300."""
MAX_START = 180.0
"""Seconds until all DAGs are there and their watchers have begun."""


@dataclass(frozen=True, slots=True)
class Case:
    """
    What to measure.

    :param watchers: how many there are, each of a template; users complete processes of all templates in turn
    :param completions: how many processes users complete
    :param seconds: for how long, at equal intervals
    :param kills: kill the triggerer every 20 s meanwhile
    """

    watchers: int
    completions: int = 20
    seconds: float = 60.0
    kills: bool = False


CASES = (Case(1), Case(10), Case(10, 500, 300.0, kills=True), Case(100))
QUICK = (Case(1, 3, 20.0), Case(2, 10, 50.0, kills=True))


class Environment:
    """A real Airflow with DAGs that wait for events, and the sandbox that they watch."""

    def __init__(self, airflow: RealAirflow, sandbox: SandboxClient, templates: Path) -> None:
        self._airflow = airflow
        self._sandbox = sandbox
        self._file = templates
        self._templates = [RELEASE_CHECKLIST_ID]

    def measure(self, case: Case) -> JSON:
        """Measure a case and return its figures."""
        self._watch(case.watchers)
        runs = [self._almost_complete(number) for number in range(case.completions)]
        time.sleep(2 * POKE_INTERVAL)  # for the feed to be read beyond the launches
        self._sandbox.control("DELETE", "/stats")
        used = self._cpu()
        began_at = time.monotonic()
        completed, last_killed_at, kills = self._complete(runs, case)
        seconds = time.monotonic() - began_at
        requests = self._requests()
        cpu = self._cpu() - used
        with suppress(TimeoutError):
            wait_until(lambda: runs == self._started(runs), MAX_LATENCY, "a DAG run for each process", 2.0)
        return {
            **asdict(case),
            "kills": kills,
            "requests_per_poll": round(requests["feed"] / (seconds / POKE_INTERVAL), 2),
            "requests_per_hour": {name: round(count / seconds * 3600) for name, count in requests.items()},
            "cpu_seconds_per_minute": None if kills else round(cpu / seconds * 60, 1),
            "mib": None
            if kills
            else round(sum(each.memory_info().rss for each in self._triggerer()) / 2**20),
            **self._outcome(completed, last_killed_at),
        }

    def _watch(self, watchers: int) -> None:
        """Have that many watchers, and wait until they have begun."""
        while len(self._templates) < watchers:
            body = {"title": f"Release {len(self._templates)}"}
            path = f"/checklists/{RELEASE_CHECKLIST_ID}/clone"
            self._templates.append(self._sandbox.request("POST", path, json=body)["id"])
        self._file.write_text(json.dumps(self._templates[:watchers]))
        shutil.copy(DAGS, self._file.parent)  # a new time of change has the DAG processor parse it
        query = "SELECT count(*) FROM asset_state_store"
        self._wait(lambda: self._airflow.rows(query)[0][0] >= watchers, "the watchers to begin")

    def _wait(self, condition: Any, goal: str) -> None:
        def checked() -> Any:
            self._airflow.check()
            return condition()

        wait_until(checked, MAX_START, goal)

    def _almost_complete(self, number: int) -> str:
        """Launch a process and complete all of its tasks but the last; return its id."""
        template = self._templates[number % len(self._templates)]
        body = {"checklist_id": template, "name": f"Process {number}"}
        run_id = str(self._sandbox.request("POST", "/runs", json=body)["id"])
        for _ in range(2):
            self._sandbox.complete_next(run_id)
        return run_id

    def _complete(self, runs: Sequence[str], case: Case) -> tuple[dict[str, float], float, int]:
        """Complete the processes; return when each was completed, when the triggerer was killed last, and how often."""
        began_at = time.monotonic()
        kill_at = began_at + KILL_INTERVAL if case.kills else float("inf")
        completed: dict[str, float] = {}
        last_killed_at, kills = 0.0, 0
        for number, run_id in enumerate(runs):
            time.sleep(max(0.0, began_at + number * case.seconds / len(runs) - time.monotonic()))
            self._sandbox.complete_next(run_id)
            completed[run_id] = time.time()
            if time.monotonic() >= kill_at:
                self._airflow.kill("triggerer")
                last_killed_at = time.time()
                self._airflow.start("triggerer")
                kill_at, kills = kill_at + KILL_INTERVAL, kills + 1
        time.sleep(max(0.0, began_at + case.seconds - time.monotonic()))
        return completed, last_killed_at, kills

    def _requests(self) -> dict[str, int]:
        """Return the number of requests to the feed, to lists of runs, and for single runs."""
        counts = Counter(dict.fromkeys(("feed", "lists", "runs"), 0))
        for route in self._sandbox.control("GET", "/stats")["routes"]:
            end = route["path"].rpartition("/")[2]
            counts[{"activity-feeds": "feed", "runs": "lists"}.get(end, "runs")] += route["count"]
        return dict(counts)

    def _triggerer(self) -> list[psutil.Process]:
        """Return the processes of the triggerer."""
        return [each for each in psutil.process_iter() if self._airflow.leads("triggerer", each.pid)]

    def _cpu(self) -> float:
        return sum(map(cpu_seconds, self._triggerer()))

    def _events(self) -> Iterator[tuple[str, str, float, float | None]]:
        """Give process id and event id of each event, when it was stored, and when it started its DAG first."""
        rows = self._airflow.rows(
            "SELECT asset_event.extra, asset_event.timestamp, min(dag_run.created_at) FROM asset_event"
            " LEFT JOIN dagrun_asset_event ON dagrun_asset_event.event_id = asset_event.id"
            " LEFT JOIN dag_run ON dag_run.id = dagrun_asset_event.dag_run_id"
            " GROUP BY asset_event.id, asset_event.extra, asset_event.timestamp"
        )
        for extra, stored_at, started_at in rows:
            payload = json.loads(extra)["payload"]
            yield (
                payload["run"]["id"],
                payload["event_id"],
                _timestamp(stored_at),
                started_at and _timestamp(started_at),
            )

    def _started(self, runs: Sequence[str]) -> list[str]:
        """Return the processes that have started a DAG."""
        self._airflow.check()
        started = {run_id for run_id, _, _, started_at in self._events() if started_at}
        return [run_id for run_id in runs if run_id in started]

    def _outcome(self, completed: dict[str, float], last_killed_at: float) -> JSON:
        events = [event for event in self._events() if event[0] in completed]
        starts: dict[str, float] = {}
        for run_id, _, _, started_at in events:
            if started_at:
                starts[run_id] = min(started_at, starts.get(run_id, started_at))
        latencies = [started_at - completed[run_id] for run_id, started_at in starts.items()]
        stored, ids = {event[0] for event in events}, {event[1] for event in events}
        return {
            "latency_seconds": summarize_latency(latencies),
            "stored_before_last_kill": sum(stored_at < last_killed_at for _, _, stored_at, _ in events),
            "lost": len(completed) - len(stored),
            "without_dag_run": len(stored) - len(starts),
            "again_same_id": len(events) - len(ids),
            "again_other_id": len(ids) - len(stored),
        }


@contextmanager
def running_environment() -> Iterator[Environment]:
    """Run Airflow and the sandbox for the duration of the ``with`` block."""
    with running_sandbox() as sandbox, TemporaryDirectory(prefix="tallyfy-events-") as folder:
        templates = Path(folder, "templates.json")
        templates.write_text("[]")
        shutil.copy(DAGS, folder)
        environment = {
            "AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection(),
            # Another triggerer takes the watchers of one that was killed as soon as that has missed three heartbeats.
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
        }
        with RealAirflow(Path(folder), environment=environment) as airflow:
            yield Environment(airflow, sandbox, templates)


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def measure_events(options: argparse.Namespace, _: Any) -> list[JSON]:
    """Measure all cases in one Airflow, whose watchers become more."""
    figures = []
    with running_environment() as environment:
        for case in QUICK if options.quick else CASES:
            progress(f"{case.watchers} watchers{', and the triggerer is killed' if case.kills else ''}")
            figures.append(environment.measure(case))
    return figures


def show_events(cases: Iterable[JSON]) -> Iterator[str]:
    """Return two tables: what watchers cost, and what a killed triggerer loses."""
    cases = list(cases)
    yield from table(
        (
            *("watchers", "latency s, median · worst", "feed requests for each poll"),
            *("requests an hour: feed · runs · lists", "CPU s a minute", "MiB"),
        ),
        (
            (
                case["watchers"],
                show_latency(case["latency_seconds"]),
                case["requests_per_poll"],
                " · ".join(f"{case['requests_per_hour'][name]:,}" for name in ("feed", "runs", "lists")),
                case["cpu_seconds_per_minute"],
                case["mib"],
            )
            for case in cases
            if not case["kills"]
        ),
    )
    yield from table(
        (
            *(
                "watchers",
                "completions",
                "kills of the triggerer",
                "events stored before the last kill",
                "lost",
            ),
            *("again, same id", "again, other id", "without DAG run", "latency s, median · worst"),
        ),
        (
            (
                case["watchers"],
                f"{case['completions']} in {case['seconds']:g} s",
                case["kills"],
                case["stored_before_last_kill"] if case["kills"] else None,
                *(case[name] for name in ("lost", "again_same_id", "again_other_id", "without_dag_run")),
                show_latency(case["latency_seconds"]),
            )
            for case in cases
        ),
    )


PARTS = {"events": Part(measure_events, show_events)}

if __name__ == "__main__":
    sys.exit(main("benchmarks.events", __doc__, PARTS))
