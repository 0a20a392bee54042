from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tallyfy.waiting.outcomes import Met, Pending, PollFailed, Skipped, Unreachable
from airflow_provider_tallyfy.waiting.polls import RunSnapshot
from airflow_provider_tallyfy.waiting.task_done import TaskDoneCondition

from .judging import judge

OPEN = {"id": "t1", "alias": "sign", "title": "Sign contract", "status": "active", "task_type": "task"}
DONE = OPEN | {"status": "completed", "completed_at": "2026-01-01"}
HIDDEN = OPEN | {"status": "auto-skipped"}
OTHER = {"id": "t2", "alias": "pay", "title": "Pay", "status": "completed", "completed_at": "2026-01-01"}
DECIDED = DONE | {"task_type": "approval"}
APPROVAL = OPEN | {"task_type": "approval", "is_approved": None}
FORM = {
    "form_fields": {
        "data": [
            {"id": "f1", "alias": "amount", "label": "Amount", "field_type": "text", "value": "12"},
            {"id": "f2", "alias": "", "label": "Plan", "field_type": "radio", "value": "Gold"},
        ]
    }
}


def run(*tasks, **fields):
    return {"id": "r1", "status": "active", "next_task": None, "tasks": {"data": list(tasks)}, **fields}


def judged(shown, name="sign", **options):
    return judge(TaskDoneCondition(name, **options), "r1", RunSnapshot(shown))


def waits(verdict, name="sign"):
    return verdict == Pending(TaskDoneCondition(name))


@pytest.mark.parametrize("name", ["t1", "sign", "Sign contract", "SIGN", "sign  Contract"])
@pytest.mark.parametrize(
    "marks", [{"completed_at": "2026-01-01"}, {"status": "completed"}, {"status": "complete"}]
)
def test_it_is_over_when_the_task_is_completed(name, marks):
    verdict = judged(run(OTHER, OPEN | marks), name)
    assert isinstance(verdict, Met)
    assert verdict.result["id"] == "t1"


def test_when_it_was_completed_is_taken_from_the_task():
    verdict = judged(run(OTHER, OPEN | {"status": "completed", "completed_at": "2026-05-15T14:30:00.000Z"}))
    assert verdict.happened_at == datetime(2026, 5, 15, 14, 30, tzinfo=UTC)
    assert judged(run(OPEN | {"status": "completed"})).happened_at is None


@pytest.mark.parametrize("status", ["not-started", "active", "in-progress", "hasproblem"])
def test_until_then_it_waits(status):
    assert waits(judged(run(OTHER, OPEN | {"status": status})))


def test_the_result_is_the_task_with_its_decision_and_its_values():
    verdict = judged(run(DECIDED | FORM | {"is_approved": 1}))
    assert verdict.result == DECIDED | FORM | {
        "is_approved": True,
        "form_values": {"amount": "12", "Plan": "Gold"},
    }


@pytest.mark.parametrize(("value", "decision"), [(True, True), (0, False), (None, None), ("", None)])
def test_the_decision_is_true_false_or_none(value, decision):
    assert judged(run(DECIDED | {"is_approved": value})).result["is_approved"] is decision


@pytest.mark.parametrize("value", [True, False, 0])
def test_a_task_that_is_no_approval_has_no_decision(value):
    shown = run(DONE | {"is_approved": value})
    assert judged(shown).result["is_approved"] is None
    assert "is completed" in TaskDoneCondition("sign").describe_run(RunSnapshot(shown))


def test_a_task_that_is_not_there_yet_is_waited_for():
    assert waits(judged(run(OTHER)))
    assert waits(judged({"id": "r1", "status": "active"}))


@pytest.mark.parametrize("end", [{"status": "complete"}, {"completed_at": "2026-01-01"}])
def test_a_run_that_is_complete_without_it_will_never_have_it(end):
    verdict = judged(run(OTHER, **end))
    assert isinstance(verdict, Unreachable)
    assert "Run r1 is complete, and has no task 'sign'" in verdict.reason
    assert "'Pay' (alias pay, id t2)" in verdict.reason


def test_a_complete_run_that_was_archived_shows_its_tasks_no_more():
    verdict = judged(run(completed_at="2026-01-01", archived_at="2026-01-02", status="archived"))
    assert isinstance(verdict, Unreachable)
    assert "was archived in Tallyfy after it was complete" in verdict.reason
    assert "has no task" not in verdict.reason


def test_an_archived_run_is_lost():
    assert isinstance(judged(run(OPEN, archived_at="2026-01-01")), Unreachable)


def test_a_name_of_several_tasks_is_an_error_that_lists_them():
    verdict = judged(run(OPEN | {"alias": "a"}, OPEN | {"id": "t3", "alias": "b"}), "sign contract")
    assert isinstance(verdict, Unreachable)
    assert "alias a, id t1" in verdict.reason
    assert "alias b, id t3" in verdict.reason


def test_of_two_tasks_by_that_name_the_one_that_no_rule_hides_is_meant():
    verdict = judged(run(HIDDEN, DONE | {"id": "t3"}))
    assert verdict.result["id"] == "t3"


def test_an_archived_run_whose_tasks_cannot_be_read_is_described_nevertheless():
    assert (
        TaskDoneCondition("sign").describe_run(RunSnapshot({"tasks": "many"})) == "its tasks cannot be read"
    )


def test_a_hidden_task_skips_succeeds_or_fails():
    assert judged(run(HIDDEN)) == Skipped("A rule hides task 'Sign contract' (alias sign, id t1) of run r1.")
    assert isinstance(judged(run(HIDDEN), on_skipped="fail"), Unreachable)
    verdict = judged(run(HIDDEN | FORM), on_skipped="succeed")
    assert (verdict.result["status"], verdict.result["is_approved"]) == ("auto-skipped", None)
    assert verdict.result["form_values"]["amount"] == "12"


def test_a_completed_task_is_not_hidden_whatever_its_status_says():
    assert isinstance(judged(run(HIDDEN | {"completed_at": "2026-01-01"})), Met)


@pytest.mark.parametrize("shown", [{"tasks": "many"}, {"tasks": {"data": [{"title": "no id"}]}}])
def test_an_answer_that_cannot_be_read_ends_nothing(shown):
    verdict = judged(run() | shown)
    assert isinstance(verdict, PollFailed)
    assert "run r1 cannot be read: a list of tasks was expected" in str(verdict.error)


@pytest.mark.parametrize("form", ["none", [{"label": "no id"}], {"data": ["x"]}])
def test_a_form_that_cannot_be_read_holds_up_no_completion(form):
    outcome = judged(run(DECIDED | {"is_approved": True, "form_fields": form}), needs_decision=True)
    assert outcome.result == DECIDED | {"is_approved": True, "form_fields": form, "form_values": None}
    assert "The form of task 'Sign contract' (alias sign, id t1) cannot be read" in outcome.warning
    hidden = judged(run(HIDDEN | {"form_fields": form}), on_skipped="succeed")
    assert (hidden.result["form_values"], bool(hidden.warning)) == (None, True)
    assert judged(run(DONE | FORM)).warning is None


class TestDecision:
    def test_it_waits_until_the_approval_is_decided(self):
        assert isinstance(judged(run(APPROVAL), needs_decision=True), Pending)
        rejected = APPROVAL | {"completed_at": "2026-01-01", "is_approved": False}
        assert judged(run(rejected), needs_decision=True).result["is_approved"] is False

    def test_a_task_that_is_no_approval_is_told_at_once(self):
        verdict = judged(run(OPEN), needs_decision=True)
        assert isinstance(verdict, Unreachable)
        assert "no approval task, but one of type 'task'" in verdict.reason

    def test_a_completion_without_a_decision_lets_nobody_through(self):
        verdict = judged(run(APPROVAL | {"completed_at": "2026-01-01"}), needs_decision=True)
        assert isinstance(verdict, Unreachable)
        assert "neither approved nor rejected" in verdict.reason

    def test_what_was_said_is_read_too(self):
        assert "tasks.threads" in TaskDoneCondition("sign", needs_decision=True).with_
        assert "tasks.threads" not in TaskDoneCondition("sign").with_


def test_it_is_plain_json():
    condition = TaskDoneCondition("sign", "fail", needs_decision=True)
    assert TaskDoneCondition(**json.loads(json.dumps(condition.as_json()))) == condition


@pytest.mark.parametrize("wrong", ["", " ", None, True, b"t1", {"id": "t1"}])
def test_what_names_no_task_is_refused(wrong):
    with pytest.raises(ValueError, match="task must be a task's id, alias or title"):
        TaskDoneCondition(wrong)


def test_another_way_to_take_a_hidden_task_is_refused():
    with pytest.raises(ValueError, match="one of 'skip', 'succeed', 'fail', not 'wait'"):
        TaskDoneCondition("sign", "wait")


@pytest.mark.parametrize(
    ("task", "line"),
    [
        (
            OPEN | {"owners": {"users": [{"id": 5, "full_name": "Ben"}]}, "deadline": "2026-11-26T15:00:00Z"},
            "'Sign contract' is open; with user Ben; due 2026-11-26 15:00 UTC; task t1",
        ),
        (DONE | {"owners": {"users": [5]}}, "'Sign contract' is completed; task t1"),
        (DECIDED | {"is_approved": False}, "'Sign contract' is rejected; task t1"),
        (DECIDED | {"is_approved": True}, "'Sign contract' is approved; task t1"),
        (HIDDEN, "'Sign contract' is hidden by a rule; task t1"),
        (OTHER, "task 'sign' is not there"),
        (OPEN | {"title": "a\nforged line"}, "'a forged line' is open; with nobody; task t1"),
    ],
)
def test_the_log_says_how_the_task_is(task, line):
    shown = run({"owners": {"users": []}} | task, progress={"complete": 1, "total": 2})
    assert TaskDoneCondition("sign").describe_run(RunSnapshot(shown)) == f"1 of 2 tasks are done; {line}"


def test_the_log_says_that_several_have_the_name():
    line = TaskDoneCondition("sign").describe_run(RunSnapshot(run(OPEN, OPEN | {"id": "t3"})))
    assert line == "'sign' is the name of several tasks"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
tasks = st.fixed_dictionaries(
    {"id": st.sampled_from(["t1", "t2", 7, ""])},
    optional={
        name: json_values | st.sampled_from(["sign", "completed", "auto-skipped", "approval"])
        for name in (
            "alias",
            "title",
            "status",
            "task_type",
            "is_approved",
            "completed_at",
            "form_fields",
            "owners",
        )
    },
)


@given(
    st.fixed_dictionaries(
        {"id": st.just("r1")},
        optional={
            "tasks": json_values | st.lists(tasks, max_size=3),
            "status": json_values,
            "progress": json_values,
        },
    ),
    st.booleans(),
)
def test_no_answer_of_the_api_breaks_the_wait(shown, needs_decision):
    condition = TaskDoneCondition("sign", needs_decision=needs_decision)
    verdict = judge(condition, "r1", RunSnapshot(shown))
    if not isinstance(verdict, PollFailed):
        assert "\n" not in condition.describe_run(RunSnapshot(shown))


def test_the_log_says_what_is_waited_for_and_how_it_came_out():
    assert TaskDoneCondition("sign").describe_goal() == "task 'sign' is completed"
    assert (
        TaskDoneCondition("sign", needs_decision=True).describe_goal()
        == "task 'sign' is approved or rejected"
    )
    assert (
        TaskDoneCondition.describe_result(DECIDED | {"is_approved": False}) == "'Sign contract' is rejected"
    )
