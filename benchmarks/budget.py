"""
Compute what a request budget costs in latency.

The scheduler of the waits itself runs against a Tallyfy of plain values, in simulated time, with and without the
activity feed: for changes that happen one by one, and for many changes within five minutes.
"""

from __future__ import annotations

import logging
import math
import sys
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.hooks.connection import DEFAULT_REQUESTS_PER_HOUR
from airflow_provider_tallyfy.waiting.scheduler.budget import RequestBudget
from airflow_provider_tallyfy.waiting.scheduler.scheduler import MAX_STALENESS, REREAD_SHARE
from benchmarks.program import Part, main, table
from tests.support.simulation import FORBIDDEN, Simulation

if TYPE_CHECKING:
    import argparse

WAITS = (10, 100, 1000, 5000)
CHANGES = 20
HOURS = 2.0
BURSTS = (100, 300, 1000)
BURST_SECONDS = 300.0


def _simulate(waits: int, options: argparse.Namespace, *, feed: bool) -> Any:
    """Return a simulation of waits after its first hour, when the burst is used up."""
    make: Any = Simulation
    simulation = make(waits, requests_per_hour=options.requests_per_hour)
    if not feed:
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
    simulation.wait_for(poke_interval=options.poke_interval)
    simulation.pass_time(3600.0)
    return simulation


def latencies(waits: int, options: argparse.Namespace, *, feed: bool) -> tuple[list[float], float]:
    """Return the seconds from each change to the end of its wait, and the requests in an hour."""
    simulation = _simulate(waits, options, feed=feed)
    began, since = len(simulation.tallyfy.received), simulation.now
    changes = min(CHANGES, waits)
    changed = [simulation.run(number * (waits // changes)) for number in range(changes)]
    for number, run in enumerate(changed):
        simulation.complete(run)
        # At no regular time, or it might always be just before a poll.
        simulation.pass_time(HOURS * 3600.0 / CHANGES + 7.3 * (number % 9))
    requests = (len(simulation.tallyfy.received) - began) / ((simulation.now - since) / 3600.0)
    over = {wait.run_id: wait.ended_at for wait in simulation.waits if wait.ended_at is not None}
    return [over[run.id] - run.changed_at if run.id in over else math.inf for run in changed], requests


def burst(changes: int, options: argparse.Namespace, *, feed: bool) -> tuple[list[float], int]:
    """Return the seconds from each of many changes to the end of its wait, and the requests of the busiest hour."""
    simulation = _simulate(changes, options, feed=feed)
    for run in simulation.tallyfy.runs.values():
        simulation.complete(run)
        simulation.pass_time(BURST_SECONDS / changes)
    while any(wait.ended_at is None for wait in simulation.waits):
        simulation.pass_time(60.0)
    times = [at for at, requests in simulation.spent for _ in range(requests)]
    busiest = max(sum(start <= at < start + 3600.0 for at in times) for start in times[::25])
    seconds = [wait.ended_at - simulation.tallyfy.runs[wait.run_id].changed_at for wait in simulation.waits]
    return sorted(seconds), busiest


def measure_latency(options: argparse.Namespace, _: Any) -> list[list[Any]]:
    """Compute the latency of changes that happen one by one."""
    logging.disable()
    figures = []
    for waits in WAITS[:2] if options.quick else WAITS:
        for feed in (True, False):
            seconds, requests = latencies(waits, options, feed=feed)
            latency = f"{median(seconds):,.0f} · {max(seconds):,.0f}"
            reread = waits * RequestBudget(options.requests_per_hour).pause / REREAD_SHARE
            hidden = f"{max(MAX_STALENESS, reread) / 60:,.0f}"
            figures.append([waits, "yes" if feed else "no", latency, hidden, round(requests)])
    return figures


def measure_bursts(options: argparse.Namespace, _: Any) -> list[list[Any]]:
    """Compute the latency of many changes within five minutes."""
    logging.disable()
    figures = []
    for changes in BURSTS[:1] if options.quick else BURSTS:
        for feed in (True, False):
            seconds, busiest = burst(changes, options, feed=feed)
            shares = (seconds[math.ceil(len(seconds) * share) - 1] for share in (0.5, 0.9, 1.0))
            latency = " · ".join(f"{each / 60:,.0f}" for each in shares)
            figures.append([changes, "yes" if feed else "no", latency, busiest])
    return figures


_LATENCY = (
    "waits",
    "activity feed",
    "latency s, median · worst",
    "at most, of a change that neither feed nor lists show, min",
    "requests an hour",
)
_BURSTS = (
    "waits, each with a change within five minutes",
    "activity feed",
    "latency min, median · 90 % · worst",
    "requests in the busiest hour",
)
PARTS = {
    "budget": Part(measure_latency, partial(table, _LATENCY)),
    "bursts": Part(measure_bursts, partial(table, _BURSTS)),
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests-per-hour", type=int, default=DEFAULT_REQUESTS_PER_HOUR)
    parser.add_argument("--poke-interval", type=float, default=60.0)


if __name__ == "__main__":
    sys.exit(main("benchmarks.budget", __doc__, PARTS, _add_arguments))
