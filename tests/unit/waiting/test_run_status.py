from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from airflow_provider_tallyfy.waiting.outcomes import Met, Pending, PollFailed, Unreachable
from airflow_provider_tallyfy.waiting.polls import LISTED_FIELDS, RunSnapshot
from airflow_provider_tallyfy.waiting.run_status import STATUSES, RunStatusCondition, known_statuses
from tests.support.evaluation import evaluate

ARCHIVED = {"archived_at": "2026-01-02"}


def run(status, **fields):
    return {"id": "r1", "status": status, "next_task": None, **fields}


def outcome_of(targets, seen):
    return evaluate(RunStatusCondition(targets), "r1", RunSnapshot(seen))


@pytest.mark.parametrize("status", STATUSES)
def test_it_is_met_if_the_run_has_the_status(status):
    assert outcome_of((status,), run(status)) == Met(run(status))


@pytest.mark.parametrize("status", ["complete", "completed"])
def test_one_of_several_statuses_meets_it(status):
    assert isinstance(outcome_of(("problem", "complete"), run(status)), Met)


def test_it_is_pending_in_any_other_status():
    condition = RunStatusCondition(("complete",))
    assert outcome_of(("complete",), run("delayed")) == Pending(condition)
    assert outcome_of(("complete",), run("a status of next year")) == Pending(condition)


def test_an_answer_without_status_is_a_failed_poll():
    assert isinstance(outcome_of(("complete",), {"id": "r1", "next_task": None}), PollFailed)


def test_a_complete_run_cannot_reach_another_status():
    outcome = outcome_of(("delayed", "problem"), run("complete"))
    assert outcome == Unreachable("Run r1 is complete, and will not be delayed or problem any more.")


def test_a_complete_run_may_be_archived():
    assert isinstance(outcome_of(("archived",), run("complete")), Pending)


@pytest.mark.parametrize("shown", [run("archived"), run("active", **ARCHIVED), run("archived", **ARCHIVED)])
def test_an_archived_run_is_unreachable_unless_archived_is_a_target(shown):
    assert isinstance(outcome_of(("complete",), shown), Unreachable)
    assert isinstance(outcome_of(("active",), shown), Unreachable)
    assert outcome_of(("archived",), shown) == Met(shown)
    assert outcome_of(("complete", "archived"), shown) == Met(shown)


@pytest.mark.parametrize(
    ("targets", "day"),
    [
        (("complete",), 1),
        (("archived",), 2),
        (("archived", "complete"), 1),
    ],
)
def test_happened_at_is_taken_from_the_run(targets, day):
    shown = run("archived", completed_at="2026-01-01T10:00:00.000Z", archived_at="2026-01-02T10:00:00Z")
    assert outcome_of(targets, shown).happened_at == datetime(2026, 1, day, 10, tzinfo=UTC)


def test_a_delayed_run_has_no_happened_at():
    assert outcome_of(("delayed",), run("delayed", last_updated="2026-01-01T10:00:00Z")).happened_at is None


def test_a_run_that_was_complete_before_it_was_archived_has_both_statuses():
    shown = run("archived", completed_at="2026-01-01", **ARCHIVED)
    assert isinstance(outcome_of(("complete",), shown), Met)
    assert isinstance(outcome_of(("archived",), shown), Met)
    assert isinstance(outcome_of(("delayed",), shown), Unreachable)


def test_a_list_of_runs_includes_all_it_needs():
    assert set(RunStatusCondition(("complete",)).with_) <= set(LISTED_FIELDS)
    assert RunStatusCondition(("complete",)).required_tasks == ()


def test_the_statuses_are_plain_json():
    assert json.loads(json.dumps(RunStatusCondition(("complete",)).as_json())) == {
        "target_statuses": ["complete"]
    }


def test_statuses_of_webhooks_and_a_single_status():
    assert known_statuses(["in-progress", "completed", "complete"]) == ("active", "complete")
    assert known_statuses("completed") == ("complete",)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (["complete", "done"], r"'done'.*active, complete, problem"),
        ("Complete", "'Complete'"),
        ("{{ params.status }}", "params.status"),
        ([None], "'None'"),
        ((), "no status. The statuses are: active"),
        (None, "no status"),
    ],
)
def test_an_unknown_status_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        known_statuses(wrong)


def test_description_of_a_run():
    seen = run("delayed", progress={"complete": 1, "total": 3}, next_task={"id": "t1", "title": "Sign"})
    line = RunStatusCondition(("complete",)).describe_run(RunSnapshot(seen))
    assert line == "delayed; 1 of 3 tasks are done; next is 'Sign'; task t1"
    assert RunStatusCondition(("complete",)).describe_run(RunSnapshot(run("a\nb"))) == "a b; no task is left"


def test_descriptions_of_goal_and_result():
    assert RunStatusCondition(("complete", "archived")).describe_goal() == "the run is complete or archived"
    assert RunStatusCondition.describe_result(run("complete")) == "the run is complete"
