"""The smallest case of each benchmark."""

from __future__ import annotations

import pytest

from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from benchmarks import events, export
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


def test_each_kind_of_export_exports_all_runs():
    requests = {export.JSONL: 4, export.PARQUET: 4, export.DETAILS: 4 + 30, export.SCRIPT: 1 + 30}
    figures = export.measure_kinds(requests, 30)
    shown = "\n".join(export.show_exports(figures))
    for case, (kind, count) in zip(figures, requests.items(), strict=True):
        assert (case["kind"], case["records"], case["requests"]) == (kind, 30, count)
        assert case["mib"] > 0
        assert f"| 30 | {kind} | {count} |" in shown
