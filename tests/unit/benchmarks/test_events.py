"""What the benchmark of events makes of Airflow's database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.events import Environment

BEGIN = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
OUTCOME = {
    "latency_seconds": {"median": 7.0, "worst": 9.0},
    "stored_before_last_kill": 1,
    "lost": 0,
    "without_dag_run": 0,
    "again_same_id": 0,
    "again_other_id": 0,
}


class Database:
    """An Airflow with the given asset events."""

    def __init__(self, *events):
        self._events = events

    def rows(self, query):
        return list(self._events)


def event(run_id, event_id, stored, started):
    """Return the row of an event that was stored, and started a DAG, so many seconds after the beginning."""
    times = (
        seconds and str(datetime.fromtimestamp(BEGIN + seconds, UTC).replace(tzinfo=None))
        for seconds in (stored, started)
    )
    return (json.dumps({"payload": {"run": {"id": run_id}, "event_id": event_id}}), *times)


FIRST, SECOND = event("a", "a/1", 3, 5), event("b", "b/1", 12, 19)


@pytest.mark.parametrize(
    ("events", "changed"),
    [
        ([FIRST, SECOND], {}),
        ([FIRST, SECOND, event("c", "c/1", 1, 2)], {}),
        ([FIRST, SECOND, event("b", "b/1", 20, 21)], {"again_same_id": 1}),
        ([FIRST, SECOND, event("b", "b/2", 20, 21)], {"again_other_id": 1}),
        (
            [SECOND],
            {"lost": 1, "latency_seconds": {"median": 9.0, "worst": 9.0}, "stored_before_last_kill": 0},
        ),
        (
            [FIRST, event("b", "b/1", 12, None)],
            {"without_dag_run": 1, "latency_seconds": {"median": 5.0, "worst": 5.0}},
        ),
    ],
    ids=["once", "of another case", "again", "again with another id", "lost", "without DAG run"],
)
def test_counts_events_that_are_lost_or_stored_again(events, changed):
    environment = Environment(Database(*events), None, Path())
    outcome = environment._outcome({"a": BEGIN, "b": BEGIN + 10}, BEGIN + 11)
    assert outcome == OUTCOME | changed
