"""The figures of waits."""

from __future__ import annotations

import pytest

from benchmarks.implementations import HTTP, OURS
from benchmarks.triggerer import Fired
from benchmarks.waits import Case, Change, _outcome, _pace, show_waits

CHANGED = {"a": Change(sent_at=10.0, responded_at=10.5), "b": Change(sent_at=20.0, responded_at=20.5)}


def fired(run_id, at, is_change=True, error=None):
    return Fired(run_id, at, is_change, error)


def test_latency_begins_with_the_response_to_the_change():
    outcome = _outcome(CHANGED, [fired("a", 12.5), fired("b", 26.5)])
    assert outcome["latency_seconds"] == {"median": 4.0, "worst": 6.0}
    assert (outcome["changes"], outcome["changes_missed"], outcome["false_events"]) == (2, 0, 0)


def test_latency_is_0_if_the_event_is_before_the_response():
    assert _outcome(CHANGED, [fired("a", 10.2)])["latency_seconds"]["worst"] == 0.0


def test_a_change_without_event_is_missed():
    assert _outcome(CHANGED, [fired("a", 12.5)])["changes_missed"] == 1
    assert _outcome(CHANGED, [])["latency_seconds"] == {"median": None, "worst": None}


@pytest.mark.parametrize(
    "event",
    [fired("c", 30.0), fired("a", 9.0), fired("a", 12.0, is_change=False)],
    ids=["unchanged", "before the change", "of something else"],
)
def test_an_event_without_a_change_is_false(event):
    outcome = _outcome(CHANGED, [event, fired("b", 21.0)])
    assert outcome["false_events"] == 1
    assert outcome["changes_missed"] == 1


def test_a_wait_that_failed_is_no_false_event():
    outcome = _outcome(CHANGED, [fired("c", 30.0, is_change=False, error="ValueError()")])
    assert (outcome["waits_that_failed"], outcome["false_events"]) == (1, 0)
    assert outcome["errors"] == ["ValueError()"]


@pytest.mark.parametrize(("waits", "changes"), [(1, 1), (10, 2), (100, 20), (5000, 20)])
def test_changes_are_the_same_for_all_implementations_and_leave_the_last_interval(waits, changes):
    times = Case(OURS, waits).change_times()
    assert times == Case(HTTP, waits).change_times()
    assert len(times) == changes
    assert times == sorted(times)
    assert all(0 <= time <= 50 for time in times)
    assert times[-1] >= 40


def test_pace_leaves_out_the_time_after_a_wait_ended():
    ended = [fired("a", 125.0), fired("b", 170.0)]
    pace = _pace(Case(HTTP, waits=3), requests=14, opened_at=100.0, closed_at=160.0, fired=ended)
    assert pace == {"polls_due": 2 + 6 + 6, "seconds_between_polls": round(145 / 14, 2)}
    assert _pace(Case(OURS, 3), 14, 100.0, 160.0, ended)["polls_due"] is None


def test_a_case_that_failed_is_a_note():
    case = {"implementation": HTTP, "waits": 5000, "seconds": 60.0, "failure": "ValueError('odd')"}
    assert [*show_waits([case])][-1] == "Failed: HttpEventTrigger, 5,000 waits: ValueError('odd')\n"
