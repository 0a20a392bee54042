"""What is recorded with Airflow's metrics, and what happens if they fail."""

from __future__ import annotations

import logging
import re
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.providers.common.compat import sdk

from airflow_provider_tallyfy import metrics
from airflow_provider_tallyfy.protocol.errors import ErrorKind

DOCUMENTED = Path(__file__).parents[2] / "docs" / "metrics.md"


@pytest.fixture(autouse=True)
def _hostname(monkeypatch):
    monkeypatch.setattr(metrics, "_hostname", lambda: "trig.example")
    metrics._warn_once.cache_clear()


def record_everything():
    metrics.request_ended("prod", "ok")
    metrics.polled("prod", succeeded=3, failed=2)
    metrics.completed("prod", "met", timedelta(seconds=90))
    metrics.active_waits("prod", 1000)
    metrics.polls_delayed("prod", 4)


def test_each_is_recorded_with_tags(recorded_metrics):
    record_everything()
    prod, there = {"conn_id": "prod"}, {"hostname": "trig.example"}
    assert recorded_metrics.records == [
        ("counter", "tallyfy.requests", 1, {**prod, "outcome": "ok"}),
        ("counter", "tallyfy.polls", 3, {**prod, "outcome": "succeeded"}),
        ("counter", "tallyfy.polls", 2, {**prod, "outcome": "failed"}),
        ("counter", "tallyfy.completions", 1, {**prod, "outcome": "met"}),
        ("timer", "tallyfy.detection_latency", 90_000.0, prod),
        ("gauge", "tallyfy.active_waits", 1000, {**prod, **there}),
        ("counter", "tallyfy.delayed_polls", 4, prod),
    ]
    assert {name for _, name, _, _ in recorded_metrics.records} == {metric.name for metric in metrics.METRICS}


def test_zero_polls_are_not_recorded(recorded_metrics):
    metrics.polled("prod")
    assert recorded_metrics.records == []


def test_latency_is_never_negative(recorded_metrics):
    metrics.completed("prod", "met", timedelta(seconds=-2))
    assert recorded_metrics.of("tallyfy.detection_latency") == [(0.0, {"conn_id": "prod"})]


def test_completion_without_latency_is_counted(recorded_metrics):
    metrics.completed("prod", "unreachable", None)
    assert recorded_metrics.counts("tallyfy.completions") == {"unreachable": 1}
    assert recorded_metrics.of("tallyfy.detection_latency") == []


def test_invalid_characters_in_tags_are_replaced(recorded_metrics):
    metrics.active_waits("Büro, 1=x", 1)
    ((_, tags),) = recorded_metrics.of("tallyfy.active_waits")
    assert tags["conn_id"] == "B_ro__1_x"


def test_failing_backend_is_logged_once(monkeypatch, caplog):
    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("a secret of the backend")

    monkeypatch.setattr(sdk, "Stats", Broken())
    caplog.set_level(logging.DEBUG)
    record_everything()
    record_everything()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "(RuntimeError)" in line
    assert "secret" not in line


def test_missing_backend_is_ignored(monkeypatch, caplog):
    monkeypatch.setattr(sdk, "Stats", None)
    record_everything()
    assert "(AttributeError)" in caplog.text


def test_every_error_kind_has_an_outcome():
    assert set(metrics.OUTCOME_OF_ERROR) == set(ErrorKind)


def test_names_are_not_airflows():
    registry = pytest.importorskip("airflow.sdk._shared.observability.metrics.metrics_registry")
    known = registry.MetricsRegistry()
    assert [metric.name for metric in metrics.METRICS if known.get(metric.name)] == []


def test_documentation_lists_all_metrics():
    _, _, table = DOCUMENTED.read_text().partition("## Metrics")
    table, _, _ = table.partition("\n## ")
    rows = re.findall(r"^\| `(tallyfy\.\w+)` \|(.*)\|$", table, re.MULTILINE)
    documented = []
    for name, cells in rows:
        kind, tags, _ = (cell.strip() for cell in cells.split("|"))
        documented.append((name, kind.split(",")[0], re.findall(r"`(\w+)`", tags)))
    assert documented == [(metric.name, metric.kind, list(metric.tags)) for metric in metrics.METRICS]


@pytest.mark.parametrize(
    ("tag", "outcomes"),
    [
        ("requests", metrics.RequestOutcome.__args__),
        ("completions", metrics.CompletionOutcome.__args__),
        ("polls", ("succeeded", "failed")),
    ],
)
def test_documentation_lists_all_outcomes(tag, outcomes):
    (row,) = re.findall(rf"^\| outcome of `tallyfy\.{tag}` \|(.*)\|$", DOCUMENTED.read_text(), re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", row)) == outcomes
