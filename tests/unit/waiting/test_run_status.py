from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from airflow_provider_tallyfy.waiting.outcomes import Met, Pending, PollFailed, Unreachable
from airflow_provider_tallyfy.waiting.polls import LISTED_FIELDS, RunSnapshot
from airflow_provider_tallyfy.waiting.run_status import STATUSES, RunStatusCondition, known_statuses

from .judging import judge

ARCHIVED = {"archived_at": "2026-01-02"}


def run(status, **fields):
    return {"id": "r1", "status": status, "next_task": None, **fields}


def judged(targets, seen):
    return judge(RunStatusCondition(targets), "r1", RunSnapshot(seen))


@pytest.mark.parametrize("status", STATUSES)
def test_it_is_over_when_the_run_has_the_status(status):
    assert judged((status,), run(status)) == Met(run(status))


@pytest.mark.parametrize("status", ["complete", "completed"])
def test_any_of_several_will_do_in_either_word(status):
    assert isinstance(judged(("problem", "complete"), run(status)), Met)


def test_until_then_it_waits_for_the_same():
    condition = RunStatusCondition(("complete",))
    assert judged(("complete",), run("delayed")) == Pending(condition)
    assert judged(("complete",), run("a status of next year")) == Pending(condition)


def test_an_answer_without_a_status_says_nothing():
    assert isinstance(judged(("complete",), {"id": "r1", "next_task": None}), PollFailed)


def test_a_complete_run_never_comes_to_be_anything_else():
    verdict = judged(("delayed", "problem"), run("complete"))
    assert verdict == Unreachable("Run r1 is complete, and will not be delayed or problem any more.")


def test_but_it_may_be_archived():
    assert isinstance(judged(("archived",), run("complete")), Pending)


@pytest.mark.parametrize("shown", [run("archived"), run("active", **ARCHIVED), run("archived", **ARCHIVED)])
def test_an_archived_run_is_lost_unless_that_is_waited_for(shown):
    assert isinstance(judged(("complete",), shown), Unreachable)
    assert isinstance(judged(("active",), shown), Unreachable)
    assert judged(("archived",), shown) == Met(shown)
    assert judged(("complete", "archived"), shown) == Met(shown)


@pytest.mark.parametrize(
    ("targets", "day"),
    [
        (("complete",), 1),
        (("archived",), 2),
        (("archived", "complete"), 1),
    ],
)
def test_when_that_was_is_taken_from_the_run(targets, day):
    shown = run("archived", completed_at="2026-01-01T10:00:00.000Z", archived_at="2026-01-02T10:00:00Z")
    assert judged(targets, shown).happened_at == datetime(2026, 1, day, 10, tzinfo=UTC)


def test_when_a_deadline_passed_the_run_does_not_say():
    assert judged(("delayed",), run("delayed", last_updated="2026-01-01T10:00:00Z")).happened_at is None


def test_a_run_that_was_complete_before_it_was_archived_has_been_both():
    shown = run("archived", completed_at="2026-01-01", **ARCHIVED)
    assert isinstance(judged(("complete",), shown), Met)
    assert isinstance(judged(("archived",), shown), Met)
    assert isinstance(judged(("delayed",), shown), Unreachable)


def test_a_list_of_runs_shows_all_it_needs():
    assert set(RunStatusCondition(("complete",)).with_) <= set(LISTED_FIELDS)
    assert RunStatusCondition(("complete",)).required_tasks == ()


def test_the_statuses_are_plain_json():
    assert json.loads(json.dumps(RunStatusCondition(("complete",)).as_json())) == {
        "target_statuses": ["complete"]
    }


def test_the_words_of_webhooks_are_taken_and_one_word_alone():
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
def test_another_word_is_refused_with_those_that_there_are(wrong, says):
    with pytest.raises(ValueError, match=says):
        known_statuses(wrong)


def test_the_log_says_the_status():
    seen = run("delayed", progress={"complete": 1, "total": 3}, next_task={"id": "t1", "title": "Sign"})
    line = RunStatusCondition(("complete",)).describe_run(RunSnapshot(seen))
    assert line == "delayed; 1 of 3 tasks are done; next is 'Sign'; task t1"
    assert RunStatusCondition(("complete",)).describe_run(RunSnapshot(run("a\nb"))) == "a b; no task is left"


def test_the_log_says_what_is_waited_for_and_how_it_came_out():
    assert RunStatusCondition(("complete", "archived")).describe_goal() == "the run is complete or archived"
    assert RunStatusCondition.describe_result(run("complete")) == "the run is complete"
