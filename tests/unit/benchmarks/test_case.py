"""What the benchmarks make of what they saw."""

from __future__ import annotations

import pytest

from benchmarks.case import PLAIN, Case, Change, _outcome, _pace
from benchmarks.contenders import HTTP, OURS
from benchmarks.triggerer import Fired

CHANGED = {"a": Change(asked_at=10.0, answered_at=10.5), "b": Change(asked_at=20.0, answered_at=20.5)}


def fired(run_id, at, tells_a_change=True, error=None):
    return Fired(run_id, at, tells_a_change, error)


def test_wake_up_is_counted_from_the_answer_to_the_change():
    outcome = _outcome(CHANGED, [fired("a", 12.5), fired("b", 26.5)])
    assert outcome["wake_up_seconds"] == {"median": 4.0, "worst": 6.0}
    assert (outcome["changes"], outcome["changes_missed"], outcome["false_wake_ups"]) == (2, 0, 0)


def test_a_change_may_be_seen_before_it_is_answered():
    assert _outcome(CHANGED, [fired("a", 10.2)])["wake_up_seconds"]["worst"] == 0.0


def test_a_change_that_woke_nobody_is_missed():
    assert _outcome(CHANGED, [fired("a", 12.5)])["changes_missed"] == 1
    assert _outcome(CHANGED, [])["wake_up_seconds"] == {"median": None, "worst": None}


@pytest.mark.parametrize(
    "wake_up",
    [fired("c", 30.0), fired("a", 9.0), fired("a", 12.0, tells_a_change=False)],
    ids=["unchanged", "before the change", "of something else"],
)
def test_a_wake_up_without_a_change_is_false(wake_up):
    outcome = _outcome(CHANGED, [wake_up, fired("b", 21.0)])
    assert outcome["false_wake_ups"] == 1
    assert outcome["changes_missed"] == 1


def test_a_wait_that_failed_is_neither():
    outcome = _outcome(CHANGED, [fired("c", 30.0, tells_a_change=False, error="ValueError()")])
    assert (outcome["waits_that_failed"], outcome["false_wake_ups"]) == (1, 0)
    assert outcome["errors"] == ["ValueError()"]


@pytest.mark.parametrize(("waits", "changes"), [(1, 1), (10, 2), (100, 20), (5000, 20)])
def test_changes_are_the_same_for_all_and_leave_an_interval_to_be_noticed(waits, changes):
    times = Case(OURS, PLAIN, waits).change_times()
    assert times == Case(HTTP, PLAIN, waits).change_times()
    assert len(times) == changes
    assert times == sorted(times)
    assert all(0 <= time <= 50 for time in times)
    assert times[-1] >= 40


def test_the_pace_leaves_out_the_time_after_a_wait_ended():
    ended = [fired("a", 125.0), fired("b", 170.0)]
    pace = _pace(Case(HTTP, PLAIN, waits=3), requests=14, opened_at=100.0, closed_at=160.0, fired=ended)
    assert pace == {"looks_due": 2 + 6 + 6, "seconds_between_looks": round(145 / 14, 2)}
    assert _pace(Case(OURS, PLAIN, 3), 14, 100.0, 160.0, ended)["looks_due"] is None
