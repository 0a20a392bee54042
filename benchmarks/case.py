"""One case: so many waits of one kind, over one transport, from their beginning to the last change."""

from __future__ import annotations

import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from benchmarks.contenders import HTTP, SLEEP
from benchmarks.organization import Organization, WaitedFor
from benchmarks.processes import Process
from benchmarks.server import ServerSettings, serve
from benchmarks.triggerer import Fired, Reading, TriggererSettings, run
from dev.certificate import make_certificate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

JSON = dict[str, Any]
TLS, PLAIN = "TLS", "HTTP"
MOST_CHANGES = 20
#: Seconds beyond the interval after which a change counts as missed; until then it is only late.
GRACE = 30.0
#: Seconds that waits may take to look for the first time.
LONGEST_BEGINNING = 180.0
#: The last look of the beginning was answered; its reader needs a moment too.
_MOMENT = 0.5
#: An idle wait is weighed in so many, after as many others, which bring along what all share.
IDLE_WAITS = 5000
_IDLE_BEFORE = 500
_IDLE_INTERVAL = 3600.0
_IDLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Case:
    """
    What to measure.

    :param contender: name of the trigger.
    :param transport: ``TLS`` or ``HTTP``.
    :param waits: how many at once; the organization has twice as many active runs.
    :param seconds: length of the window that is measured.
    :param interval: seconds between two looks of a wait.
    :param spread: seconds over which the waits begin; at 0 all at once, as after a restart of the triggerer.
    """

    contender: str
    transport: str
    waits: int
    seconds: float = 60.0
    interval: float = 10.0
    spread: float = 0.0

    @property
    def changes(self) -> int:
        """How many tasks people complete in the window: no more than of a fifth of the waits, so that most go on."""
        return min(MOST_CHANGES, max(1, self.waits // 5))

    def change_times(self) -> list[float]:
        """
        Return when tasks are completed, in seconds since the window began; the same for each contender.

        One in each of as many equal parts of the window, by chance within that part's last interval: any moment between
        two looks is as likely as another, and few waits do not end early. The window's last interval is left for them
        to be noticed.
        """
        chance = random.Random(self.waits)  # noqa: S311 (the same changes in each run of the benchmarks)
        part = max(self.seconds - self.interval, self.seconds / 2) / self.changes
        return [
            part * number - chance.uniform(0, min(part, self.interval))
            for number in range(1, self.changes + 1)
        ]


@dataclass(frozen=True, slots=True)
class Change:
    """A task that was completed: when that was asked, and when it was answered."""

    asked_at: float
    answered_at: float


def measure(case: Case) -> JSON:
    """Measure a case and return its figures, as plain JSON."""
    with (
        TemporaryDirectory(prefix="tallyfy-bench-") as folder,
        running_server(case.transport, Path(folder)) as (server, organization),
    ):
        # Every other run: nobody waits for its neighbours.
        runs = organization.launch(2 * case.waits)[::2]
        with _running_triggerer(case.contender, organization, case.interval, Path(folder)) as triggerer:
            memory_before = triggerer.ask("memory")
            organization.forget_requests()

            begun: Reading = triggerer.ask("read")
            unseen = _begin(server, triggerer, runs, spread=case.spread)
            settled: Reading = triggerer.ask("read")
            to_begin = organization.requests()
            memory = triggerer.ask("memory") - memory_before

            server_before = _cpu(server.pid)
            opened: Reading = triggerer.ask("read")
            before = organization.requests()
            with _people(organization, case, runs) as changes:
                time.sleep(max(0.0, opened.at + case.seconds - time.monotonic()))
                closed: Reading = triggerer.ask("read")
                after = organization.requests()
                server_after = _cpu(server.pid)
            fired = _wait_for(triggerer, changes, closed.at + case.interval + GRACE)

    in_window = _difference(after, before)
    requests = sum(in_window.values())
    return {
        "contender": case.contender,
        "transport": case.transport,
        "waits": case.waits,
        "active_runs": 2 * case.waits,
        "interval": case.interval,
        "spread": case.spread,
        "window": round(closed.at - opened.at, 2),
        "begin": {
            "seconds": round(settled.at - begun.at, 2),
            "waits_never_looked_at": unseen,
            "requests": sum(to_begin.values()),
            "routes": to_begin,
            "cpu_seconds": round(settled.cpu - begun.cpu, 3),
            "lateness_ms": _lateness(settled),
        },
        "requests": requests,
        "routes": in_window,
        "requests_in_total": sum(after.values()),
        **_pace(case, requests, opened.at, closed.at, fired),
        "cpu_seconds": round(closed.cpu - opened.cpu, 3),
        "sandbox_cpu_seconds": round(server_after - server_before, 3),
        "memory_bytes": memory,
        "memory_bytes_per_wait": round(memory / case.waits),
        "lateness_ms": _lateness(closed),
        **_outcome(changes, fired),
    }


def measure_idle(contender: str) -> JSON:
    """Weigh waits that were begun and now sleep for an hour, and the process that does nothing else."""
    with (
        TemporaryDirectory(prefix="tallyfy-bench-") as folder,
        running_server(PLAIN, Path(folder)) as (server, organization),
    ):
        runs = organization.launch(_IDLE_BEFORE + IDLE_WAITS)
        with _running_triggerer(contender, organization, _IDLE_INTERVAL, Path(folder)) as triggerer:
            _begin(server, triggerer, runs[:_IDLE_BEFORE], is_seen=contender != SLEEP)
            memory_before = triggerer.ask("memory")
            unseen = _begin(server, triggerer, runs[_IDLE_BEFORE:], is_seen=contender != SLEEP)
            memory = triggerer.ask("memory") - memory_before
            opened: Reading = triggerer.ask("read")
            time.sleep(_IDLE_SECONDS)
            closed: Reading = triggerer.ask("read")
    return {
        "contender": contender,
        "waits": IDLE_WAITS,
        "waits_never_looked_at": unseen,
        "memory_bytes_per_wait": round(memory / IDLE_WAITS),
        "cpu_seconds_per_minute": round((closed.cpu - opened.cpu) / (closed.at - opened.at) * 60, 3),
    }


@contextmanager
def running_server(transport: str, folder: Path) -> Iterator[tuple[Process, Organization]]:
    """Run a sandbox for as long as the ``with`` block lasts."""
    certificate = make_certificate(folder) if transport == TLS else None
    output = folder / "server.out"
    with Process("The sandbox", serve, ServerSettings(certificate), output) as server:
        yield server, Organization(server.ask("url"), None if certificate is None else certificate.authority)


@contextmanager
def _running_triggerer(
    contender: str, organization: Organization, interval: float, folder: Path
) -> Iterator[Process]:
    settings = TriggererSettings(contender, organization.url, organization.authority, interval, folder)
    with Process("The triggerer", run, settings, folder / "triggerer.out") as triggerer:
        yield triggerer


def _begin(
    server: Process,
    triggerer: Process,
    runs: Sequence[WaitedFor],
    *,
    spread: float = 0.0,
    is_seen: bool = True,
) -> int:
    """Begin waits and wait until each has looked once; return how many have not in the longest time allowed."""
    server.ask("watch", [run.run_id for run in runs] if is_seen else [])
    triggerer.ask("begin", runs, spread)
    deadline = time.monotonic() + LONGEST_BEGINNING
    while (unseen := server.ask("unseen")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(_MOMENT)
    return int(unseen)


@contextmanager
def _people(organization: Organization, case: Case, runs: Sequence[WaitedFor]) -> Iterator[dict[str, Change]]:
    """Let people complete tasks; all of them have, and are in the dictionary, at the end of the ``with`` block."""
    began_at = time.monotonic()
    chosen = random.Random(case.waits).sample(runs, case.changes)  # noqa: S311
    changes: dict[str, Change] = {}

    def complete(run: WaitedFor, moment: float) -> None:
        time.sleep(max(0.0, began_at + moment - time.monotonic()))
        changes[run.run_id] = Change(*organization.complete(run))

    # A person each: a sandbox that is slow to answer one does not delay the next.
    with ThreadPoolExecutor(case.changes) as people:
        acts = [
            people.submit(complete, run, moment)
            for run, moment in zip(chosen, case.change_times(), strict=True)
        ]
        yield changes
        for act in acts:
            act.result()


def _wait_for(triggerer: Process, changes: Mapping[str, Change], deadline: float) -> list[Fired]:
    """Return what fired, as soon as all that were changed have, or at the deadline."""
    while True:
        fired: list[Fired] = triggerer.ask("fired")
        if changes.keys() <= {each.run_id for each in fired} or time.monotonic() > deadline:
            return fired
        time.sleep(0.1)


def _outcome(changes: Mapping[str, Change], fired: Collection[Fired]) -> JSON:
    delays, false, errors = [], 0, []
    for each in fired:
        change = changes.get(each.run_id)
        if each.error is not None:
            errors.append(each.error)
        elif change is None or each.at < change.asked_at or not each.tells_a_change:
            false += 1
        else:
            # It may be seen before the person's own answer has arrived.
            delays.append(max(0.0, each.at - change.answered_at))
    return {
        "changes": len(changes),
        "changes_missed": len(changes) - len(delays),
        "false_wake_ups": false,
        "waits_that_failed": len(errors),
        "errors": sorted(set(errors))[:5],
        "wake_up_seconds": {
            "median": round(statistics.median(delays), 2) if delays else None,
            "worst": round(max(delays), 2) if delays else None,
        },
    }


def _lateness(reading: Reading) -> dict[str, float]:
    samples = sorted(reading.lateness)
    return {
        name: round(samples[min(len(samples) - 1, int(len(samples) * share))] * 1000, 2)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("worst", 1.0))
        if samples
    }


def _pace(case: Case, requests: int, opened_at: float, closed_at: float, fired: Collection[Fired]) -> JSON:
    """Return how often each wait looked, where each request is one look of one wait, and so can be told."""
    if case.contender != HTTP or not requests:
        return {"looks_due": None, "seconds_between_looks": None}
    window = closed_at - opened_at
    ended = [min(max(each.at - opened_at, 0.0), window) for each in fired]
    waited = [*ended, *[window] * (case.waits - len(ended))]
    return {
        # At the least: a wait whose first look in the window comes late has one more.
        "looks_due": sum(int(seconds / case.interval) for seconds in waited),
        "seconds_between_looks": round(sum(waited) / requests, 2),
    }


def _difference(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {
        route: count - before.get(route, 0) for route, count in after.items() if count > before.get(route, 0)
    }


def _cpu(pid: int) -> float:
    used = psutil.Process(pid).cpu_times()
    return float(used.user + used.system)
