"""What Airflow's metrics are told, and what happens where they fail."""

from __future__ import annotations

import logging
import re
import threading
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
    metrics._complain.cache_clear()


@pytest.fixture
def without_legacy_names(monkeypatch):
    monkeypatch.setenv("AIRFLOW__METRICS__LEGACY_NAMES_ON", "False")


def tell_everything():
    metrics.request_ended("prod", "ok")
    metrics.polled("prod", succeeded=3, failed=2)
    metrics.completed("prod", "met", timedelta(seconds=90))
    metrics.active_waits("prod", 1000)
    metrics.polls_delayed("prod", 4)


def test_each_is_told_with_tags_and_in_words(told_metrics):
    tell_everything()
    prod, there = {"conn_id": "prod"}, {"hostname": "trig.example"}
    assert told_metrics.told == [
        ("counter", "tallyfy.requests", 1, {**prod, "outcome": "ok"}),
        ("counter", "tallyfy.requests.ok", 1, prod),
        ("counter", "tallyfy.polls", 3, {**prod, "outcome": "succeeded"}),
        ("counter", "tallyfy.polls.succeeded", 3, prod),
        ("counter", "tallyfy.polls", 2, {**prod, "outcome": "failed"}),
        ("counter", "tallyfy.polls.failed", 2, prod),
        ("counter", "tallyfy.completions", 1, {**prod, "outcome": "met"}),
        ("counter", "tallyfy.completions.met", 1, prod),
        ("timer", "tallyfy.detection_latency", 90_000.0, prod),
        ("gauge", "tallyfy.active_waits", 1000, {**prod, **there}),
        ("gauge", "tallyfy.active_waits.trig__example.prod", 1000, {}),
        ("counter", "tallyfy.delayed_polls", 4, prod),
    ]


@pytest.mark.usefixtures("without_legacy_names")
def test_names_in_words_are_left_out_where_airflow_s_own_are(told_metrics):
    tell_everything()
    names = {name for _, name, _, _ in told_metrics.told}
    assert names == {metric.name for metric in metrics.METRICS}


def test_nothing_is_told_of_no_looks(told_metrics):
    metrics.polled("prod")
    assert told_metrics.told == []


def test_a_clock_that_is_ahead_makes_no_negative_time(told_metrics):
    metrics.completed("prod", "met", timedelta(seconds=-2))
    assert told_metrics.of("tallyfy.detection_latency") == [(0.0, {"conn_id": "prod"})]


def test_a_wake_up_that_nobody_knows_the_delay_of_is_counted_all_the_same(told_metrics):
    metrics.completed("prod", "unreachable", None)
    assert told_metrics.counts("tallyfy.completions") == {"unreachable": 1}
    assert told_metrics.of("tallyfy.detection_latency") == []


def test_an_id_that_cannot_stand_in_a_name_is_made_to(told_metrics):
    metrics.active_waits("Büro, 1=x", 1)
    assert [name for _, name, _, _ in told_metrics.told] == [
        "tallyfy.active_waits",
        "tallyfy.active_waits.trig__example.B_ro__1_x",
    ]
    assert told_metrics.told[0][3]["conn_id"] == "B_ro__1_x"


def test_whatever_a_backend_raises_is_felt_by_nobody_and_said_once(monkeypatch, caplog):
    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("a secret of the backend")

    monkeypatch.setattr(sdk, "Stats", Broken())
    caplog.set_level(logging.DEBUG)
    tell_everything()
    tell_everything()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "(RuntimeError)" in line
    assert "secret" not in line


def test_a_backend_that_airflow_cannot_give_is_felt_by_nobody(monkeypatch, caplog):
    monkeypatch.setattr(sdk, "conf", None)
    tell_everything()
    assert "(AttributeError)" in caplog.text


def test_from_an_event_loop_another_thread_tells_in_order():
    told, may_go_on = [], threading.Event()
    metrics.from_event_loop(may_go_on.wait, 10)
    for number in range(100):
        metrics.from_event_loop(lambda number: told.append((number, threading.current_thread().name)), number)
    assert told == []
    may_go_on.set()
    metrics._teller.wait()
    assert [number for number, _ in told] == list(range(100))
    assert {name for _, name in told} == {"tallyfy-metrics"}


def test_a_process_that_ends_waits_for_a_hanging_backend_a_moment_only(monkeypatch):
    monkeypatch.setattr(metrics, "_LONGEST_FAREWELL", 0.01)
    told, may_go_on = [], threading.Event()
    metrics.from_event_loop(may_go_on.wait, 10)
    metrics.from_event_loop(told.append, "late")
    metrics._teller.finish()
    assert told == []
    may_go_on.set()
    metrics._teller.wait()
    metrics._teller.finish()
    assert told == ["late"]


def test_what_a_hanging_backend_cannot_take_is_dropped():
    told, hangs, may_go_on = [], threading.Event(), threading.Event()

    def hang():
        hangs.set()
        may_go_on.wait(10)

    metrics.from_event_loop(hang)
    assert hangs.wait(10)
    for number in range(metrics._LONGEST_QUEUE + 10):
        metrics.from_event_loop(told.append, number)
    may_go_on.set()
    metrics._teller.wait()
    assert told == list(range(metrics._LONGEST_QUEUE))


def test_every_kind_of_failure_has_an_outcome():
    assert set(metrics.OUTCOME_OF_ERROR) == set(ErrorKind)


def test_airflow_has_no_metric_of_these_names():
    registry = pytest.importorskip("airflow.sdk._shared.observability.metrics.metrics_registry")
    known = registry.MetricsRegistry()
    assert [metric.name for metric in metrics.METRICS if known.get(metric.name)] == []


def test_the_documentation_names_all_of_them_and_no_others():
    _, _, table = DOCUMENTED.read_text().partition("## Metrics")
    table, _, _ = table.partition("\n## ")
    rows = re.findall(r"^\| `(tallyfy\.\w+)` \|(.*)\|$", table, re.MULTILINE)
    documented = []
    for name, cells in rows:
        kind, tags, in_words, _ = (cell.strip() for cell in cells.split("|"))
        documented.append(
            (name, kind.split(",")[0], re.findall(r"`(\w+)`", tags), in_words.strip("`") or None)
        )
    assert documented == [
        (metric.name, metric.kind, list(metric.tags), metric.in_words) for metric in metrics.METRICS
    ]


@pytest.mark.parametrize(
    ("tag", "outcomes"),
    [
        ("requests", metrics.RequestOutcome.__args__),
        ("completions", metrics.CompletionOutcome.__args__),
        ("polls", ("succeeded", "failed")),
    ],
)
def test_the_documentation_tells_every_outcome(tag, outcomes):
    (row,) = re.findall(rf"^\| outcome of `tallyfy\.{tag}` \|(.*)\|$", DOCUMENTED.read_text(), re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", row)) == outcomes
