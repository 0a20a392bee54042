"""
``python -m benchmarks.events``: what watchers of one connection cost, and whether events are lost when they are killed.

The watchers run in Airflow's own shared streams, in a process of their own. What a triggerer stores in Airflow's
database, events and places, is in an SQLite file that outlives that process. No scheduler runs, so the latency ends
when the event is stored.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from benchmarks.document import replace_between
from benchmarks.machine import machine
from dev.processes import wait_until
from dev.sandbox import SandboxClient, running_sandbox

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

RESULTS = Path(__file__).parents[1] / "docs" / "events-performance.json"
DOCUMENT = Path(__file__).parents[1] / "docs" / "events.md"
BEGIN = "<!-- The figures from here on are written by make bench-events. -->\n"
END = "<!-- The figures end here. -->\n"
CASES: list[dict[str, Any]] = [
    *({"watchers": watchers, "seconds": 60, "completions": 10} for watchers in (1, 10, 50, 100)),
    {"watchers": 1, "seconds": 300, "completions": 500, "kills": True},
]
SMOKE: list[dict[str, Any]] = [{"watchers": 2, "seconds": 20, "completions": 3}]
POKE_INTERVAL = 10.0
SYNC_INTERVAL = 1.0
"""Seconds between two moments at which a triggerer stores what its triggers fired."""
LONGEST = 400.0
"""Seconds until all events are stored after the last completion; a sweep begins every 300."""
KILL_INTERVAL = 20.0
_TABLES = """
CREATE TABLE places (watcher INTEGER, name TEXT, value TEXT, PRIMARY KEY (watcher, name));
CREATE TABLE events (watcher INTEGER, event_id TEXT, run_id TEXT, stored_at REAL);
"""


class _Store:
    """The asset state store of one watcher."""

    def __init__(self, database: sqlite3.Connection, watcher: int) -> None:
        self._database = database
        self._watcher = watcher

    async def aget(self, key: str, default: Any = None) -> Any:
        query = "SELECT value FROM places WHERE watcher = ? AND name = ?"
        row = self._database.execute(query, (self._watcher, key)).fetchone()
        return default if row is None else json.loads(row[0])

    async def aset(self, key: str, value: Any) -> None:
        with self._database:
            row = (self._watcher, key, json.dumps(value))
            self._database.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", row)


class _Stores:
    def __init__(self, store: _Store) -> None:
        self._by_name = {"asset": store}
        self._by_uri: dict[str, _Store] = {}


def _watch(connection: Connection, folder: Path, sandbox: SandboxClient, watchers: int) -> None:
    """Be the triggerer; the target of its process."""
    os.environ["AIRFLOW_HOME"] = str(folder)
    os.environ["AIRFLOW_CONN_TALLYFY_DEFAULT"] = sandbox.connection()
    from airflow.triggers.shared_stream import SharedStreamManager

    import airflow_provider_tallyfy.events.poller
    import airflow_provider_tallyfy.hooks.tallyfy  # noqa: F401
    from airflow_provider_tallyfy.triggers.tallyfy import TallyfyEventTrigger

    connection.send("loaded")
    connection.recv()
    database = sqlite3.connect(folder / "airflow.db", timeout=60)

    async def watch() -> None:
        streams = SharedStreamManager()
        fired: list[tuple[int, dict[str, Any], int | None]] = []

        async def run(watcher: int) -> None:
            # Airflow runs one trigger for all that are alike. They are polled together, at the shortest interval.
            trigger = TallyfyEventTrigger(poke_interval=POKE_INTERVAL + watcher / 1000)
            trigger.asset_state_store = _Stores(_Store(database, watcher))  # type: ignore[assignment]
            key = trigger.shared_stream_key()
            stream = streams.subscribe(trigger_id=watcher, trigger=trigger, key=key)
            async for event in trigger.filter_shared_stream(stream):
                seq = streams.bind_pending_event(trigger_id=watcher, key=key)
                fired.append((watcher, event.payload, seq))

        async def sync() -> None:
            while True:
                await asyncio.sleep(SYNC_INTERVAL)
                stored = fired.copy()
                fired.clear()
                rows = [
                    (watcher, payload["event_id"], payload["run"]["id"], time.time())
                    for watcher, payload, _ in stored
                ]
                with database:
                    database.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
                streams.confirm_persisted([seq for *_, seq in stored if seq is not None])

        await asyncio.gather(sync(), *map(run, range(watchers)))

    asyncio.run(watch())


class _Triggerer:
    def __init__(self, folder: Path, sandbox: SandboxClient, watchers: int) -> None:
        self._arguments = (folder, sandbox, watchers)
        self.start()
        self.before = self.process.memory_info().rss

    def start(self) -> None:
        ours, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(
            target=_watch, args=(theirs, *self._arguments), daemon=True
        )
        self._process.start()
        theirs.close()
        ours.recv()
        self._connection = ours
        self.process = psutil.Process(self._process.pid)

    def go(self) -> None:
        self._connection.send("go")

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def cpu(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


def measure(watchers: int, seconds: float, completions: int, *, kills: bool = False) -> dict[str, Any]:
    """
    Measure some watchers while users complete processes.

    :param watchers: how many there are.
    :param seconds: for which users complete processes, at equal distances.
    :param completions: how many.
    :param kills: kill the triggerer every 20 s.
    """
    with running_sandbox() as sandbox, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with closing(sqlite3.connect(folder / "airflow.db", timeout=60)) as database:
            database.executescript(_TABLES)
            runs = [_almost_complete(sandbox, number) for number in range(completions)]
            triggerer = _Triggerer(folder, sandbox, watchers)
            try:
                return {"watchers": watchers, "seconds": seconds, "completions": completions} | _figures(
                    sandbox, triggerer, database, watchers, runs, seconds, kills=kills
                )
            finally:
                triggerer.kill()


def _almost_complete(sandbox: SandboxClient, number: int) -> str:
    """Launch a process and complete all of its tasks but the last."""
    run_id = sandbox.launch(f"Process {number}")
    for _ in range(2):
        sandbox.complete_next(run_id)
    return run_id


def _figures(
    sandbox: SandboxClient,
    triggerer: _Triggerer,
    database: sqlite3.Connection,
    watchers: int,
    runs: list[str],
    seconds: float,
    *,
    kills: bool,
) -> dict[str, Any]:
    def count(query: str) -> int:
        return int(database.execute(f"SELECT count(*) FROM ({query})").fetchone()[0])  # noqa: S608

    triggerer.go()
    wait_until(lambda: count("SELECT * FROM places") == watchers, LONGEST, "the watchers to begin")
    time.sleep(2 * POKE_INTERVAL)  # with their first sweep, which is not what they cost in the long run
    sandbox.control("DELETE", "/stats")
    began_at, cpu = time.monotonic(), triggerer.cpu()
    kill_at, killed = began_at + KILL_INTERVAL if kills else float("inf"), 0
    completed: dict[str, float] = {}
    for number, run_id in enumerate(runs):
        time.sleep(max(0.0, began_at + number * seconds / len(runs) - time.monotonic()))
        sandbox.complete_next(run_id)
        completed[run_id] = time.time()
        if time.monotonic() >= kill_at:
            triggerer.kill()
            triggerer.start()
            triggerer.go()
            # From now on: on a busy machine it takes long to start.
            kill_at, killed = time.monotonic() + KILL_INTERVAL, killed + 1
    time.sleep(max(0.0, began_at + seconds - time.monotonic()))
    lasted = time.monotonic() - began_at
    requests = sum(row["count"] for row in sandbox.control("GET", "/stats")["routes"])
    figures = {
        "kills": killed,
        "requests_per_hour": round(requests / lasted * 3600),
        "cpu_seconds": None if kills else round(triggerer.cpu() - cpu, 2),
        "mib": None if kills else round((triggerer.process.memory_info().rss - triggerer.before) / 2**20, 1),
    }
    distinct = "SELECT DISTINCT watcher, run_id FROM events"
    expected = watchers * len(runs)
    deadline = time.monotonic() + LONGEST
    while count(distinct) < expected and time.monotonic() < deadline:
        time.sleep(1)
    first = database.execute("SELECT run_id, min(stored_at) FROM events GROUP BY watcher, run_id")
    latencies = [stored_at - completed[run_id] for run_id, stored_at in first if run_id in completed]
    ids = count("SELECT DISTINCT watcher, event_id FROM events")
    return figures | {
        "latency_median": round(median(latencies), 1),
        "latency_worst": round(max(latencies), 1),
        "lost": expected - count(distinct),
        "again_same_id": count("SELECT * FROM events") - ids,
        "again_other_id": ids - count(distinct),
    }


def markdown(results: dict[str, Any]) -> str:
    """Return the figures as a table."""
    lines = [
        "| watchers | completions | kills | requests an hour | CPU s | memory, MiB | latency, s: median · worst | lost "
        "| again, same id | again, other id |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in results["cases"]:
        cpu, mib = ("" if case[name] is None else case[name] for name in ("cpu_seconds", "mib"))
        lines.append(
            f"| {case['watchers']} | {case['completions']} in {case['seconds']:g} s | {case['kills']} "
            f"| {case['requests_per_hour']:,} | {cpu} | {mib} | {case['latency_median']} · {case['latency_worst']} "
            f"| {case['lost']} | {case['again_same_id']} | {case['again_other_id']} |"
        )
    made = results["machine"]
    lines += [
        "",
        f"Measured on {results['began_at'][:10]}: {made['processor']}, {made['cores']} cores, Python {made['python']}.",
    ]
    return "\n".join(lines)


def write(results: dict[str, Any]) -> None:
    """Put the figures into the documentation, in place of those that stand there."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    replace_between(DOCUMENT, BEGIN, END, f"{markdown(results)}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run, which writes nothing")
    options = parser.parse_args()
    results: dict[str, Any] = {
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "cases": [],
    }
    for case in SMOKE if options.quick else CASES:
        results["cases"].append(measure(**case))
        print(json.dumps(results["cases"][-1]), flush=True)
    if not options.quick:
        write(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
