"""The smallest cases of the benchmarks that need a real Airflow."""

from __future__ import annotations

import pytest

from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from benchmarks import events
from benchmarks.crowd import CrowdCase, measure_crowd, show_crowds
from benchmarks.implementations import HTTP, OURS
from benchmarks.waits import Case, measure, show_waits

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="The benchmarks are for the newest Airflow"),
]


@pytest.mark.parametrize("implementation", [OURS, HTTP])
def test_a_wait_sees_its_change(implementation):
    figures = measure(Case(implementation, waits=1, seconds=2, interval=1))
    assert (figures["changes"], figures["changes_missed"]) == (1, 0)
    assert (figures["false_events"], figures["errors"]) == (0, [])
    assert figures["begin"]["waits_never_polled"] == 0
    assert 1 <= figures["begin"]["requests"] <= figures["requests_in_total"]
    assert figures["cpu_seconds"] > 0
    assert figures["memory_bytes_per_wait"] > 0
    assert 0 <= figures["lateness_ms"]["p50"] <= figures["lateness_ms"]["p99"]
    assert figures["latency_seconds"]["worst"] >= 0
    assert "".join(show_waits([figures]))


def test_watchers_lose_no_event():
    with events.running_environment() as environment:
        figures = environment.measure(events.Case(watchers=2, completions=2, seconds=10.0))
    assert (figures["lost"], figures["without_dag_run"]) == (0, 0)
    assert (figures["again_same_id"], figures["again_other_id"]) == (0, 0)
    assert figures["latency_seconds"]["worst"] > 0
    assert "".join(events.show_events([figures]))


def test_every_wait_of_a_crowd_ends_although_the_supervisor_of_the_triggerer_stops():
    """It stops while the waits begin, after a restart, and when all tasks are completed at once."""
    figures = measure_crowd(CrowdCase(in_triggerer=40, by_workers=40, stop=3.0, seconds=1.0))
    assert figures["wrong"] == 0
    assert "".join(show_crowds([figures]))
