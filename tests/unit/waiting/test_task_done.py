from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tallyfy.waiting.outcomes import Met, Pending, PollFailed, Skipped, Unreachable
from airflow_provider_tallyfy.waiting.polls import RunSnapshot
from airflow_provider_tallyfy.waiting.task_done import TaskDoneCondition
from tests.support.evaluation import evaluate

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


def outcome_of(shown, name="sign", **options):
    return evaluate(TaskDoneCondition(name, **options), "r1", RunSnapshot(shown))


def is_pending(outcome, name="sign"):
    return outcome == Pending(TaskDoneCondition(name))


@pytest.mark.parametrize("name", ["t1", "sign", "Sign contract", "SIGN", "sign  Contract"])
@pytest.mark.parametrize(
    "marks", [{"completed_at": "2026-01-01"}, {"status": "completed"}, {"status": "complete"}]
)
def test_it_is_met_if_the_task_is_completed(name, marks):
    outcome = outcome_of(run(OTHER, OPEN | marks), name)
    assert isinstance(outcome, Met)
    assert outcome.result["id"] == "t1"


def test_happened_at_is_taken_from_the_task():
    outcome = outcome_of(
        run(OTHER, OPEN | {"status": "completed", "completed_at": "2026-05-15T14:30:00.000Z"})
    )
    assert outcome.happened_at == datetime(2026, 5, 15, 14, 30, tzinfo=UTC)
    assert outcome_of(run(OPEN | {"status": "completed"})).happened_at is None


@pytest.mark.parametrize("status", ["not-started", "active", "in-progress", "hasproblem"])
def test_it_is_pending_while_the_task_is_open(status):
    assert is_pending(outcome_of(run(OTHER, OPEN | {"status": status})))


def test_the_result_is_the_task_with_decision_and_form_values():
    outcome = outcome_of(run(DECIDED | FORM | {"is_approved": 1}))
    assert outcome.result == DECIDED | FORM | {
        "is_approved": True,
        "form_values": {"amount": "12", "Plan": "Gold"},
    }


@pytest.mark.parametrize(("value", "decision"), [(True, True), (0, False), (None, None), ("", None)])
def test_the_decision_is_true_false_or_none(value, decision):
    assert outcome_of(run(DECIDED | {"is_approved": value})).result["is_approved"] is decision


@pytest.mark.parametrize("value", [True, False, 0])
def test_a_task_that_is_no_approval_has_no_decision(value):
    shown = run(DONE | {"is_approved": value})
    assert outcome_of(shown).result["is_approved"] is None
    assert "is completed" in TaskDoneCondition("sign").describe_run(RunSnapshot(shown))


def test_it_is_pending_while_the_run_has_no_such_task():
    assert is_pending(outcome_of(run(OTHER)))
    assert is_pending(outcome_of({"id": "r1", "status": "active"}))


@pytest.mark.parametrize("end", [{"status": "complete"}, {"completed_at": "2026-01-01"}])
def test_a_run_that_is_complete_without_the_task_is_unreachable(end):
    outcome = outcome_of(run(OTHER, **end))
    assert isinstance(outcome, Unreachable)
    assert "Run r1 is complete, and has no task 'sign'" in outcome.reason
    assert "'Pay' (alias pay, id t2)" in outcome.reason


def test_the_reason_says_if_the_complete_run_was_archived():
    outcome = outcome_of(run(completed_at="2026-01-01", archived_at="2026-01-02", status="archived"))
    assert isinstance(outcome, Unreachable)
    assert "was archived in Tallyfy after it was complete" in outcome.reason
    assert "has no task" not in outcome.reason


def test_an_archived_run_is_unreachable():
    assert isinstance(outcome_of(run(OPEN, archived_at="2026-01-01")), Unreachable)


def test_an_ambiguous_name_is_unreachable_and_lists_the_tasks():
    outcome = outcome_of(run(OPEN | {"alias": "a"}, OPEN | {"id": "t3", "alias": "b"}), "sign contract")
    assert isinstance(outcome, Unreachable)
    assert "alias a, id t1" in outcome.reason
    assert "alias b, id t3" in outcome.reason


def test_of_two_tasks_with_the_name_the_visible_one_counts():
    outcome = outcome_of(run(HIDDEN, DONE | {"id": "t3"}))
    assert outcome.result["id"] == "t3"


def test_description_of_a_run_whose_tasks_cannot_be_read():
    assert (
        TaskDoneCondition("sign").describe_run(RunSnapshot({"tasks": "many"})) == "its tasks cannot be read"
    )


def test_on_skipped():
    assert outcome_of(run(HIDDEN)) == Skipped(
        "A rule hides task 'Sign contract' (alias sign, id t1) of run r1."
    )
    assert isinstance(outcome_of(run(HIDDEN), on_skipped="fail"), Unreachable)
    outcome = outcome_of(run(HIDDEN | FORM), on_skipped="succeed")
    assert (outcome.result["status"], outcome.result["is_approved"]) == ("auto-skipped", None)
    assert outcome.result["form_values"]["amount"] == "12"


def test_a_completed_task_is_not_hidden_whatever_its_status():
    assert isinstance(outcome_of(run(HIDDEN | {"completed_at": "2026-01-01"})), Met)


@pytest.mark.parametrize("shown", [{"tasks": "many"}, {"tasks": {"data": [{"title": "no id"}]}}])
def test_tasks_that_cannot_be_read_are_a_failed_poll(shown):
    outcome = outcome_of(run() | shown)
    assert isinstance(outcome, PollFailed)
    assert "run r1 cannot be read: a list of tasks was expected" in str(outcome.error)


@pytest.mark.parametrize("form", ["none", [{"label": "no id"}], {"data": ["x"]}])
def test_a_form_that_cannot_be_read_is_a_warning(form):
    outcome = outcome_of(run(DECIDED | {"is_approved": True, "form_fields": form}), needs_decision=True)
    assert outcome.result == DECIDED | {"is_approved": True, "form_fields": form, "form_values": None}
    assert "The form of task 'Sign contract' (alias sign, id t1) cannot be read" in outcome.warning
    hidden = outcome_of(run(HIDDEN | {"form_fields": form}), on_skipped="succeed")
    assert (hidden.result["form_values"], bool(hidden.warning)) == (None, True)
    assert outcome_of(run(DONE | FORM)).warning is None


class TestDecision:
    def test_it_is_pending_until_the_approval_is_decided(self):
        assert isinstance(outcome_of(run(APPROVAL), needs_decision=True), Pending)
        rejected = APPROVAL | {"completed_at": "2026-01-01", "is_approved": False}
        assert outcome_of(run(rejected), needs_decision=True).result["is_approved"] is False

    def test_a_task_that_is_no_approval_is_unreachable(self):
        outcome = outcome_of(run(OPEN), needs_decision=True)
        assert isinstance(outcome, Unreachable)
        assert "no approval task, but one of type 'task'" in outcome.reason

    def test_a_completion_without_a_decision_is_unreachable(self):
        outcome = outcome_of(run(APPROVAL | {"completed_at": "2026-01-01"}), needs_decision=True)
        assert isinstance(outcome, Unreachable)
        assert "neither approved nor rejected" in outcome.reason

    def test_comments_are_read_for_a_decision(self):
        assert "tasks.threads" in TaskDoneCondition("sign", needs_decision=True).with_
        assert "tasks.threads" not in TaskDoneCondition("sign").with_


def test_it_can_be_restored_from_json():
    condition = TaskDoneCondition("sign", "fail", needs_decision=True)
    assert TaskDoneCondition(**json.loads(json.dumps(condition.as_json()))) == condition


@pytest.mark.parametrize("wrong", ["", " ", None, True, b"t1", {"id": "t1"}])
def test_an_invalid_task_name_is_refused(wrong):
    with pytest.raises(ValueError, match="task must be a task's id, alias or title"):
        TaskDoneCondition(wrong)


def test_an_unknown_on_skipped_is_refused():
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
        (OTHER, "task 'sign' is not there yet; there are 'Pay'"),
        (OPEN | {"title": "a\nforged line"}, "'a forged line' is open; unassigned; task t1"),
    ],
)
def test_description_of_the_task(task, line):
    shown = run({"owners": {"users": []}} | task, progress={"complete": 1, "total": 2})
    assert TaskDoneCondition("sign").describe_run(RunSnapshot(shown)) == f"1 of 2 tasks are done; {line}"


def test_description_of_an_ambiguous_name():
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
def test_no_response_raises_an_error(shown, needs_decision):
    condition = TaskDoneCondition("sign", needs_decision=needs_decision)
    outcome = evaluate(condition, "r1", RunSnapshot(shown))
    if not isinstance(outcome, PollFailed):
        assert "\n" not in condition.describe_run(RunSnapshot(shown))


def test_descriptions_of_goal_and_result():
    assert TaskDoneCondition("sign").describe_goal() == "task 'sign' is completed"
    assert (
        TaskDoneCondition("sign", needs_decision=True).describe_goal()
        == "task 'sign' is approved or rejected"
    )
    assert (
        TaskDoneCondition.describe_result(DECIDED | {"is_approved": False}) == "'Sign contract' is rejected"
    )
