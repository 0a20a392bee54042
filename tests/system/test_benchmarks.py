"""The smallest cases of the benchmarks, to find out if they break."""

from __future__ import annotations

import pytest

from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from benchmarks import events
from benchmarks.case import PLAIN, TLS, Case, measure
from benchmarks.contenders import HTTP, OURS

pytestmark = pytest.mark.system


@pytest.mark.parametrize(("contender", "transport"), [(OURS, TLS), (HTTP, PLAIN)])
def test_a_case_sees_its_change(contender, transport):
    figures = measure(Case(contender, transport, waits=1, seconds=2, interval=1))
    assert (figures["changes"], figures["changes_missed"]) == (1, 0)
    assert (figures["false_wake_ups"], figures["errors"]) == (0, [])
    assert figures["begin"]["waits_never_looked_at"] == 0
    assert 1 <= figures["begin"]["requests"] <= figures["requests_in_total"]
    assert figures["cpu_seconds"] > 0
    assert figures["memory_bytes"] > 0
    assert 0 <= figures["lateness_ms"]["p50"] <= figures["lateness_ms"]["p99"]
    assert 0 <= figures["wake_up_seconds"]["worst"] < 10


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow keeps the places of watchers since 3.3")
def test_watchers_of_events_lose_none():
    figures = events.measure(watchers=2, seconds=5, completions=2)
    assert (figures["lost"], figures["again_same_id"], figures["again_other_id"]) == (0, 0, 0)
    assert figures["latency_worst"] > 0
    assert events.markdown({"cases": [figures], "machine": events.machine(), "began_at": "2026-01-01"})
