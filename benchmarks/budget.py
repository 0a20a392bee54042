"""
Computes what a request budget costs in latency: ``python -m benchmarks.budget``.

It runs the scheduler of the waits itself against a Tallyfy of plain values, for some hours of simulated time, with and
without the activity feed, and writes two tables in Markdown: for changes that come one by one, and for many changes
within five minutes.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from airflow_provider_tallyfy.hooks.connection import DEFAULT_REQUESTS_PER_HOUR
from tests.support.simulation import FORBIDDEN, Simulation

WAITS = (10, 100, 1000, 5000)
CHANGES = 20
HOURS = 2.0
BURSTS = (100, 300, 1000)
BURST_SECONDS = 300.0


def latencies(
    waits: int, requests_per_hour: int, poke_interval: float, feed: bool
) -> tuple[list[float], float]:
    """Return the seconds from each change to the end of its wait, and the requests in an hour."""
    make: Any = Simulation
    simulation = make(waits, requests_per_hour=requests_per_hour)
    if not feed:
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
    simulation.wait_for(poke_interval=poke_interval)
    simulation.pass_time(3600.0)  # until the burst is used up
    began, since = len(simulation.tallyfy.received), simulation.now
    changed = [
        simulation.run(number * (waits // min(CHANGES, waits))) for number in range(min(CHANGES, waits))
    ]
    for number, run in enumerate(changed):
        simulation.complete(run)
        # At no regular time, or it might always be just before a poll.
        simulation.pass_time(HOURS * 3600.0 / CHANGES + 7.3 * (number % 9))
    requests = (len(simulation.tallyfy.received) - began) / ((simulation.now - since) / 3600.0)
    over = {wait.run_id: wait.ended_at for wait in simulation.waits if wait.ended_at is not None}
    return [over[run.id] - run.changed_at if run.id in over else float("inf") for run in changed], requests


def burst(changes: int, requests_per_hour: int, poke_interval: float, feed: bool) -> tuple[list[float], int]:
    """Return the seconds from each of many changes to the end of its wait, and the requests of the busiest hour."""
    make: Any = Simulation
    simulation = make(changes, requests_per_hour=requests_per_hour)
    if not feed:
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
    simulation.wait_for(poke_interval=poke_interval)
    simulation.pass_time(3600.0)
    for run in simulation.tallyfy.runs.values():
        simulation.complete(run)
        simulation.pass_time(BURST_SECONDS / changes)
    while any(wait.ended_at is None for wait in simulation.waits):
        simulation.pass_time(60.0)
    times = [at for at, requests in simulation.spent for _ in range(requests)]
    busiest = max(sum(start <= at < start + 3600.0 for at in times) for start in times[::25])
    latencies = [wait.ended_at - simulation.tallyfy.runs[wait.run_id].changed_at for wait in simulation.waits]
    return sorted(latencies), busiest


def main() -> None:
    """Write the tables."""
    logging.disable()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests-per-hour", type=int, default=DEFAULT_REQUESTS_PER_HOUR)
    parser.add_argument("--poke-interval", type=float, default=60.0)
    options = parser.parse_args()
    print(
        "| waits | activity feed | latency s, median · worst | requests an hour |\n| --- | --- | --- | --- |"
    )
    for waits in WAITS:
        for feed in (True, False):
            seconds, requests = latencies(waits, options.requests_per_hour, options.poke_interval, feed)
            told = f"{median(seconds):,.0f} · {max(seconds):,.0f}"
            print(f"| {waits:,} | {'yes' if feed else 'no'} | {told} | {requests:,.0f} |", flush=True)
    print(
        "\n| waits, each with a change within five minutes | activity feed "
        "| latency min, median · 90 % · worst | requests in the busiest hour |\n| --- | --- | --- | --- |"
    )
    for changes in BURSTS:
        for feed in (True, False):
            minutes, busiest = burst(changes, options.requests_per_hour, options.poke_interval, feed)
            told = " · ".join(
                f"{minutes[math.ceil(len(minutes) * share) - 1] / 60:,.0f}" for share in (0.5, 0.9, 1.0)
            )
            print(f"| {changes:,} | {'yes' if feed else 'no'} | {told} | {busiest:,} |", flush=True)


if __name__ == "__main__":
    main()
