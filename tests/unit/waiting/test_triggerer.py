"""A wait in the triggerer, with the results of polls that the tests choose."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.triggers import tallyfy as triggers_module
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger
from airflow_provider_tallyfy.waiting import watcher
from airflow_provider_tallyfy.waiting.messages import checksum
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.outcomes import Denied, Met, Pending, Unreachable
from airflow_provider_tallyfy.waiting.polls import PollError, RunSnapshot
from airflow_provider_tallyfy.waiting.task_done import TaskDoneCondition

LONGEST = 10.0
DOWN = PollError(exceptions.TallyfyConnectionError("nothing came back"))
REFUSED = PollError(exceptions.TallyfyAuthError("401", status=401, tallyfy_message="No"))


def seen(next_task_id, *, is_from_list=False, **fields):
    """A run, and with it task a, which is completed if it is not next any more."""
    status = {"status": "active" if next_task_id else "complete"}
    run = {"id": "run", "next_task": next_task_id and {"id": next_task_id}, **status, **fields}
    return RunSnapshot(run, is_from_list, {} if next_task_id == "a" else {"a": None, "x": None})


class FakeSubscription:
    """Delivers the results that the test chooses, one every 15 seconds."""

    connection = None

    def __init__(self, results):
        self._results = iter(results)
        self._now = 0.0
        self.rechecks = []

    async def next_result(self):
        self._now += 15.0
        return next(self._results), self._now

    def request_fresh_read(self, after):
        self.rechecks.append(after)


def trigger(run_id="run", **arguments):
    return TallyfyNextTaskTrigger(
        tallyfy_conn_id="conn", run_id=run_id, from_task=None, poke_interval=1, **arguments
    )


@pytest.fixture
def waited(monkeypatch, caplog):
    def wait(results, from_task_id="a", run_id="run", condition=None, **arguments):
        wait.subscription = FakeSubscription(results)
        monkeypatch.setattr(watcher, "subscribe", lambda *_: nullcontext(wait.subscription))
        monkeypatch.setattr(TallyfyNextTaskTrigger, "log", logging.getLogger("test_wait"))
        caplog.set_level(logging.INFO)
        return asyncio.run(
            trigger(run_id, **arguments)._wait(run_id, condition or NextTaskCondition(from_task_id))
        )

    return wait


def test_it_ends_with_the_first_change(waited):
    outcome = waited([seen("a"), seen("a"), seen("b"), seen("a")])
    assert isinstance(outcome, Met)
    assert outcome.result["next_task"] == {"id": "b"}
    assert outcome.result["from_task_id"] == "a"


def test_a_baseline_of_the_first_poll_ends_it_so_that_the_task_keeps_it(waited):
    assert waited([DOWN, seen("x"), seen("y")], from_task_id=None) == Pending(NextTaskCondition("x"))


def test_a_run_without_open_tasks_ends_it_without_a_baseline(waited):
    assert isinstance(waited([seen(None)], from_task_id=None), Met)


def test_an_outage_and_the_recovery_are_few_lines(waited, caplog):
    waited([seen("a"), *[DOWN] * 1000, seen("a"), seen(None)])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 10  # 1, 2, 4, … 512
    assert "nothing came back" in warnings[0]
    assert "works again (1000 failed)" in caplog.text


def test_a_form_that_cannot_be_read_is_one_warning(waited, caplog):
    hidden = {"id": "t1", "alias": "sign", "status": "auto-skipped", "form_fields": "none"}
    polls = [seen("a", tasks=[hidden])] * 2
    assert isinstance(waited(polls, condition=TaskDoneCondition("sign", "succeed")), Met)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "form_values is None" in warnings[0]


def test_the_start_is_one_line_whatever_the_ids_contain(waited, caplog):
    waited(
        [seen(None, id="run\nThe wait is over")], from_task_id="a\nSkipped", run_id="run\nThe wait is over"
    )
    assert caplog.messages[0] == (
        "Waiting until the run moves on from task a Skipped; run run The wait is over"
    )


def test_a_poll_is_a_line_only_if_something_changed(waited, caplog):
    waited([seen("a"), seen("a"), DOWN, seen("a"), seen(None)], worker_polled_at=1.0)
    assert caplog.messages == [
        "next is 'untitled'; task a; run run",
        "Poll failed (1 in a row), will poll again: nothing came back",
        "Polling works again (1 failed)",
        "no task is left; run run",
    ]


def test_the_worker_s_last_line_is_not_logged_again(waited, caplog):
    last_line = checksum("next is 'untitled'; task a; run run")
    waited([seen("a"), seen("a"), seen(None)], worker_polled_at=1.0, last_line=last_line)
    assert caplog.messages == ["no task is left; run run"]


def test_a_log_that_blocks_does_not_block_the_event_loop(monkeypatch):
    """Airflow's supervisor may read no log line for as long as it sends something itself."""
    monkeypatch.setattr(watcher, "subscribe", lambda *_: nullcontext(FakeSubscription([seen(None)])))
    reads, loop_threads = threading.Event(), set()

    class Log:
        def info(self, *args):
            loop_threads.add(threading.current_thread() is threading.main_thread())
            assert reads.wait(LONGEST)

    async def play():
        monkeypatch.setattr(TallyfyNextTaskTrigger, "log", Log())
        waiting = asyncio.create_task(trigger()._wait("run", NextTaskCondition("a")))
        for _ in range(100):  # passes of the event loop
            await asyncio.sleep(0)
        assert not waiting.done()
        reads.set()
        return await asyncio.wait_for(waiting, LONGEST)

    assert isinstance(asyncio.run(play()), Met)
    assert loop_threads == {False}


def test_the_start_is_logged_if_no_worker_did(waited, caplog):
    waited([seen(None)])
    assert caplog.messages == [
        "Waiting until the run moves on from task a; run run",
        "no task is left; run run",
    ]


def test_an_archived_run_ends_it(waited):
    assert isinstance(waited([seen("a"), *[seen("a", archived_at="2026-01-01")] * 2]), Unreachable)


def test_a_refusal_ends_it_unless_silent_fail(waited):
    assert waited([seen("a"), *[REFUSED] * 3]) == Denied(REFUSED.error)
    assert isinstance(waited([*[REFUSED] * 5, seen("b")], silent_fail=True), Met)


def test_a_run_that_changed_in_a_list_is_read_by_itself_before_that_ends_it(waited, caplog):
    listed_b, listed_end = seen("b", is_from_list=True), seen(None, is_from_list=True)
    outcome = waited([listed_b, seen("a"), listed_end, seen("c")], worker_polled_at=1.0)
    assert waited.subscription.rechecks == [0.0, 0.0]
    assert outcome.result["next_task"] == {"id": "c"}
    assert [record.getMessage() for record in caplog.records] == [
        "next is 'untitled'; task a; run run",
        "next is 'untitled'; task c; run run",
    ]


def test_a_run_that_did_not_change_in_a_list_is_an_ordinary_poll(waited, caplog):
    waited([seen("a", is_from_list=True), seen(None)], worker_polled_at=1.0)
    assert waited.subscription.rechecks == []
    assert len(caplog.records) == 2


def test_a_baseline_is_not_taken_from_a_list(waited):
    assert waited([seen("x", is_from_list=True), seen("y")], from_task_id=None) == Pending(
        NextTaskCondition("y")
    )


class Noon(datetime):
    """A wall clock that stands still."""

    @classmethod
    def now(cls, tz=None):
        return datetime(2026, 5, 15, 12, 0, tzinfo=UTC)


class TestMetrics:
    """The metrics of a wait that ended."""

    @pytest.fixture(autouse=True)
    def _noon(self, monkeypatch):
        monkeypatch.setattr(triggers_module, "datetime", Noon)

    @pytest.mark.parametrize(
        ("results", "from_task_id", "outcome"),
        [
            ([seen("b")], "a", "met"),
            ([seen("a", archived_at="2026-01-01")] * 2, "a", "unreachable"),
            ([REFUSED] * 3, "a", "denied"),
            ([seen("x")], None, "pending"),
        ],
    )
    def test_completions_are_counted_by_outcome(
        self, waited, recorded_metrics, results, from_task_id, outcome
    ):
        waited([DOWN, *results], from_task_id=from_task_id)
        assert recorded_metrics.of("tallyfy.completions") == [(1, {"conn_id": "conn", "outcome": outcome})]

    def test_the_latency_is_the_time_since_the_event(self, waited, recorded_metrics):
        waited([seen("a"), DOWN, seen(None, completed_at="2026-05-15T11:58:30.500Z")])
        assert recorded_metrics.of("tallyfy.detection_latency") == [(89_500.0, {"conn_id": "conn"})]

    def test_an_event_while_no_triggerer_ran_counts_if_a_worker_polled_before(self, waited, recorded_metrics):
        waited([seen(None, completed_at="2026-05-15T11:00:00Z")], worker_polled_at=0.0)
        assert recorded_metrics.of("tallyfy.detection_latency") == [(3_600_000.0, {"conn_id": "conn"})]

    def test_an_event_before_the_wait_has_no_latency(self, waited, recorded_metrics):
        waited([DOWN, seen(None, completed_at="2020-01-01T00:00:00Z")])
        assert recorded_metrics.counts("tallyfy.completions") == {"met": 1}
        assert recorded_metrics.of("tallyfy.detection_latency") == []

    def test_an_event_without_a_time_has_no_latency(self, waited, recorded_metrics):
        waited([seen("a"), seen("b", completed_at="2026-05-15T11:58:30Z")])
        waited([seen("a"), seen(None, completed_at="yesterday")])
        assert recorded_metrics.counts("tallyfy.completions") == {"met": 2}
        assert recorded_metrics.of("tallyfy.detection_latency") == []

    def test_a_wait_ends_though_metrics_fail(self, waited, recorded_metrics, monkeypatch):
        monkeypatch.setattr(recorded_metrics, "incr", None)
        monkeypatch.setattr(recorded_metrics, "timing", None)
        assert isinstance(waited([seen("a"), seen(None, completed_at="2026-05-15T11:58:30Z")]), Met)
