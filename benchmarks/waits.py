"""What waits cost: so many of one implementation, from their beginning to the last change."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from benchmarks.implementations import HTTP, OURS, SLEEP
from benchmarks.plot import draw
from benchmarks.processes import Process, cpu_seconds
from benchmarks.program import progress, show_latency, summarize_latency, table
from benchmarks.server import running_server
from benchmarks.triggerer import Fired, Reading, TriggererSettings, run

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.organization import Organization, RunToWaitFor

JSON = dict[str, Any]
WAITS = (10, 100, 1_000, 5_000)
MAX_CHANGES = 20
GRACE = 30.0
"""Seconds beyond the interval after which a change counts as missed; until then it is only late."""
MAX_BEGIN = 180.0
"""Seconds in which each wait has to be polled once."""
DELIVERY = 0.5
"""Seconds for the client to read the last response of the beginning."""
MIN_POLL_SHARE = 0.8
"""The interval counts as kept if this share of the polls that were due was made."""
IDLE_WAITS = 5_000
IDLE_BEFORE = 500
"""Idle waits that begin before those that are measured, and so load what all share."""
IDLE_INTERVAL = 3_600.0
IDLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Case:
    """
    What to measure.

    :param implementation: name of the trigger
    :param waits: how many at once; the organization has twice as many active runs
    :param seconds: length of the window that is measured
    :param interval: seconds between two polls of a wait
    """

    implementation: str
    waits: int
    seconds: float = 60.0
    interval: float = 10.0

    @property
    def changes(self) -> int:
        """How many tasks users complete in the window: of at most a fifth of the waits, so that most continue."""
        return min(MAX_CHANGES, max(1, self.waits // 5))

    def change_times(self) -> list[float]:
        """
        Return when tasks are completed, in seconds since the window began; the same for each implementation.

        The window is divided into as many equal parts. Each change is at a random time within the last interval of its
        part: any time between two polls is as likely as another, and few waits do not end early. The last interval of
        the window is left for the changes to be noticed.
        """
        chance = random.Random(self.waits)  # noqa: S311 (the same changes in each run of the benchmarks)
        part = max(self.seconds - self.interval, self.seconds / 2) / self.changes
        return [
            part * number - chance.uniform(0, min(part, self.interval))
            for number in range(1, self.changes + 1)
        ]


@dataclass(frozen=True, slots=True)
class Change:
    """When the request that completed a task was sent, and when its response arrived."""

    sent_at: float
    responded_at: float


def measure(case: Case) -> JSON:
    """Measure a case and return its figures."""
    with running_server(tls=True) as (folder, server, organization):
        # Every other run, so that half of the active runs are not waited for.
        runs = organization.launch(2 * case.waits)[::2]
        with _running_triggerer(case.implementation, organization, case.interval, folder) as triggerer:
            memory_before = triggerer.call("memory")
            organization.forget_requests()
            begun: Reading = triggerer.call("read")
            unread = _begin(server, triggerer, runs)
            settled: Reading = triggerer.call("read")
            to_begin = organization.requests()
            memory = triggerer.call("memory") - memory_before

            server_before = cpu_seconds(psutil.Process(server.pid))
            opened: Reading = triggerer.call("read")
            before = organization.requests()
            with _users(organization, case, runs) as changes:
                time.sleep(max(0.0, opened.at + case.seconds - time.monotonic()))
                closed: Reading = triggerer.call("read")
                after = organization.requests()
                server_after = cpu_seconds(psutil.Process(server.pid))
            fired = _wait_for(triggerer, changes, closed.at + case.interval + GRACE)
    return {
        **asdict(case),
        "window": round(closed.at - opened.at, 2),
        "begin": {
            "seconds": round(settled.at - begun.at, 2),
            "waits_never_polled": unread,
            "requests": to_begin,
            "cpu_seconds": round(settled.cpu - begun.cpu, 3),
        },
        "requests": after - before,
        "requests_in_total": after,
        **_pace(case, after - before, opened.at, closed.at, fired),
        "cpu_seconds": round(closed.cpu - opened.cpu, 3),
        "sandbox_cpu_seconds": round(server_after - server_before, 3),
        "memory_bytes_per_wait": round(memory / case.waits),
        "lateness_ms": _lateness(closed),
        **_outcome(changes, fired),
    }


def measure_waits(options: argparse.Namespace, _: Any) -> list[JSON]:
    """Measure all cases; the big ones last, since what they leave to the system to clean up would disturb others."""
    size = {"seconds": 4.0, "interval": 2.0} if options.quick else {"seconds": options.seconds}
    figures = []
    for waits in (1, 20) if options.quick else options.waits:
        for implementation in (OURS, HTTP):
            progress(f"{waits:,} waits of {implementation}")
            case = Case(implementation, waits, **size)
            try:
                figures.append(measure(case))
            except Exception as error:  # noqa: BLE001 (the other cases are measured all the same)
                notes = getattr(error, "__notes__", ())
                figures.append({**asdict(case), "failure": " ".join([repr(error), *notes])})
    return figures


def measure_idle(options: argparse.Namespace, _: Any) -> list[JSON]:
    """Measure the memory of waits that were polled once and now sleep for an hour."""
    return [_measure_idle(name, 100 if options.quick else IDLE_WAITS) for name in (SLEEP, OURS, HTTP)]


def _measure_idle(implementation: str, waits: int) -> JSON:
    progress(f"{waits:,} waits of {implementation}, idle")
    is_polled = implementation != SLEEP
    with running_server() as (folder, server, organization):
        runs = organization.launch(IDLE_BEFORE + waits)
        with _running_triggerer(implementation, organization, IDLE_INTERVAL, folder) as triggerer:
            _begin(server, triggerer, runs[:IDLE_BEFORE], is_polled=is_polled)
            memory_before = triggerer.call("memory")
            unread = _begin(server, triggerer, runs[IDLE_BEFORE:], is_polled=is_polled)
            memory = triggerer.call("memory") - memory_before
            opened: Reading = triggerer.call("read")
            time.sleep(IDLE_SECONDS)
            closed: Reading = triggerer.call("read")
    return {
        "implementation": implementation,
        "waits": waits,
        "waits_never_polled": unread,
        "memory_bytes_per_wait": round(memory / waits),
        "cpu_seconds_per_minute": round((closed.cpu - opened.cpu) / (closed.at - opened.at) * 60, 3),
    }


def show_waits(cases: Sequence[JSON]) -> Iterator[str]:
    """Return the table of the cases, and a note for each case that needs one."""
    window = f"in {cases[0]['seconds']:.0f} s"
    yield from table(
        (
            *("waits", "trigger", "requests to begin", window, "in all", "CPU s to begin", window),
            *("KiB per wait", "loop late ms, p50 · p99", "latency s, median · worst", "missed", "false"),
        ),
        (_row(case) for case in cases if not case.get("failure")),
    )
    for case in cases:
        name = f"{case['implementation']}, {case['waits']:,} waits"
        if case.get("failure"):
            yield f"Failed: {name}: {case['failure']}\n"
        elif not _keeps_interval(case):
            yield (
                f"\\* {name}: {case['requests']:,} of {case['polls_due']:,} polls that were due, one every "
                f"{case['seconds_between_polls']:.1f} s on average. Processor at work: "
                f"{case['cpu_seconds'] / case['window']:.0%} for the trigger, "
                f"{case['sandbox_cpu_seconds'] / case['window']:.0%} for the sandbox.\n"
            )


def _row(case: JSON) -> tuple[object, ...]:
    begin = case["begin"]
    return (
        case["waits"],
        f"`{case['implementation']}`",
        begin["requests"],
        f"{case['requests']:,}{'' if _keeps_interval(case) else ' *'}",
        case["requests_in_total"],
        f"{begin['cpu_seconds']:.2f}",
        f"{case['cpu_seconds']:.2f}",
        f"{case['memory_bytes_per_wait'] / 1024:,.1f}",
        f"{case['lateness_ms']['p50']:.1f} · {case['lateness_ms']['p99']:.1f}",
        show_latency(case["latency_seconds"]),
        f"{case['changes_missed']} of {case['changes']}",
        case["false_events"] + case["waits_that_failed"],
    )


def _keeps_interval(case: JSON) -> bool:
    return case["polls_due"] is None or case["requests"] >= case["polls_due"] * MIN_POLL_SHARE


def show_idle(idle: Sequence[JSON]) -> Iterator[str]:
    """Return the table of the idle waits."""
    yield from table(
        ("trigger", "waits", "KiB per wait", "CPU s a minute, with the probe"),
        (
            (
                f"`{each['implementation']}`",
                each["waits"],
                f"{each['memory_bytes_per_wait'] / 1024:.1f}",
                each["cpu_seconds_per_minute"],
            )
            for each in idle
        ),
    )


def draw_waits(cases: Sequence[JSON], path: Path) -> None:
    """Draw the figures by the number of waits."""
    done = [case for case in cases if not case.get("failure")]
    window = f"{cases[0]['seconds']:.0f} s"
    panels: dict[str, Callable[[JSON], float]] = {
        f"Requests in {window}": lambda case: case["requests"],
        f"CPU seconds in {window}": lambda case: case["cpu_seconds"],
        "Event loop late, 99th percentile (ms)": lambda case: case["lateness_ms"]["p99"],
        "From completion to event, worst (s)": lambda case: case["latency_seconds"]["worst"] or 0,
    }
    draw(
        path,
        "waits",
        {
            title: {
                name: [(case["waits"], value(case)) for case in done if case["implementation"] == name]
                for name in (OURS, HTTP)
            }
            for title, value in panels.items()
        },
    )


@contextmanager
def _running_triggerer(
    implementation: str, organization: Organization, interval: float, folder: Path
) -> Iterator[Process]:
    settings = TriggererSettings(implementation, organization.url, organization.authority, interval, folder)
    with Process("The triggerer", run, settings, folder / "triggerer.out") as triggerer:
        yield triggerer


def _begin(
    server: Process, triggerer: Process, runs: Sequence[RunToWaitFor], *, is_polled: bool = True
) -> int:
    """Begin waits and wait until each was polled once; return how many were not within :data:`MAX_BEGIN`."""
    server.call("track", [run.run_id for run in runs] if is_polled else [])
    triggerer.call("begin", runs)
    deadline = time.monotonic() + MAX_BEGIN
    while (unread := server.call("unread")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(DELIVERY)
    return int(unread)


@contextmanager
def _users(
    organization: Organization, case: Case, runs: Sequence[RunToWaitFor]
) -> Iterator[dict[str, Change]]:
    """Let users complete tasks; at the end of the ``with`` block all have, and are in the dictionary."""
    began_at = time.monotonic()
    chosen = random.Random(case.waits).sample(runs, case.changes)  # noqa: S311
    changes: dict[str, Change] = {}

    def complete(run: RunToWaitFor, seconds: float) -> None:
        time.sleep(max(0.0, began_at + seconds - time.monotonic()))
        changes[run.run_id] = Change(*organization.complete(run))

    # A thread each, so that a slow response to one does not delay the next.
    with ThreadPoolExecutor(case.changes) as users:
        completions = [
            users.submit(complete, run, seconds)
            for run, seconds in zip(chosen, case.change_times(), strict=True)
        ]
        yield changes
        for completion in completions:
            completion.result()


def _wait_for(triggerer: Process, changes: Mapping[str, Change], deadline: float) -> list[Fired]:
    """Return the events as soon as there is one for each change, or at the deadline."""
    while True:
        fired: list[Fired] = triggerer.call("fired")
        if changes.keys() <= {each.run_id for each in fired} or time.monotonic() > deadline:
            return fired
        time.sleep(0.1)


def _outcome(changes: Mapping[str, Change], fired: Collection[Fired]) -> JSON:
    latencies, false, errors = [], 0, []
    for each in fired:
        change = changes.get(each.run_id)
        if each.error is not None:
            errors.append(each.error)
        elif change is None or each.at < change.sent_at or not each.is_change:
            false += 1
        else:
            # The trigger may see the change before the user has the response.
            latencies.append(max(0.0, each.at - change.responded_at))
    return {
        "changes": len(changes),
        "changes_missed": len(changes) - len(latencies),
        "false_events": false,
        "waits_that_failed": len(errors),
        "errors": sorted(set(errors))[:5],
        "latency_seconds": summarize_latency(latencies),
    }


def _lateness(reading: Reading) -> dict[str, float]:
    samples = sorted(reading.lateness)
    return {
        name: round(samples[min(len(samples) - 1, int(len(samples) * share))] * 1000, 2)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("worst", 1.0))
        if samples
    }


def _pace(case: Case, requests: int, opened_at: float, closed_at: float, fired: Collection[Fired]) -> JSON:
    """Return how often each wait was polled, if each request polls one wait."""
    if case.implementation != HTTP or not requests:
        return {"polls_due": None, "seconds_between_polls": None}
    window = closed_at - opened_at
    ended = [min(max(each.at - opened_at, 0.0), window) for each in fired]
    waited = [*ended, *[window] * (case.waits - len(ended))]
    return {
        # At least: a wait whose first poll in the window is late has one more.
        "polls_due": sum(int(seconds / case.interval) for seconds in waited),
        "seconds_between_polls": round(sum(waited) / requests, 2),
    }
