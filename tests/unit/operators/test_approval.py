from __future__ import annotations

from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    Asset,
    BaseOperator,
    TaskDeferred,
)

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.operators import gate_downstream
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator
from tests.support import gates as support
from tests.support.gates import API, OPEN


def comment(author_id, content, day, label="comment"):
    created_at = f"2026-01-0{day}T00:00:00Z"
    return {"author_id": author_id, "label": label, "content": content, "created_at": created_at}


FORM = [{"id": "f", "alias": "reason", "label": "Reason", "field_type": "text", "value": "No."}]
COMMENTS = [
    comment(1002, "First.", 1),
    comment(1001, "Ada's.", 3),
    comment(1002, "Odd.", 3, label="problem"),
    comment(1002, "Too early.", 2),
]


def decided(is_approved, **fields):
    return support.decided(
        is_approved, **{"form_fields": {"data": FORM}, "threads": {"data": COMMENTS}, **fields}
    )


def gate(context, **arguments):
    """Make an approval with two tasks after it, one after the other, and a teardown."""
    with DAG("d", schedule=None):
        approval = TallyfyApprovalOperator(
            **{"task_id": "gate", "run_id": "r1", "task": "approve", "poke_interval": 1, **arguments}
        )
        first, second, teardown = (BaseOperator(task_id=name) for name in ("first", "second", "teardown"))
        approval >> first >> second >> teardown.as_teardown()
        approval >> teardown
    context["task"] = approval
    return approval


def resume(approval, context, *, is_approved=False):
    """Resume a gate whose trigger saw a decision."""
    event = {"outcome": "met", "result": decided(is_approved, form_values={})}
    return approval.resume_execution("execute_complete", {"event": event}, context)


def test_result_of_an_approval(tallyfy, context, skipped):
    tallyfy.polls(OPEN, decided(True))
    assert gate(context).execute(context) == {
        "run_id": "r1",
        "task_id": "t1",
        "title": "Approve",
        "is_approved": True,
        "decided_by": {"id": 1002, "name": "Ben Larsen", "email": "ben@example.com"},
        "decided_at": "2026-01-04T00:00:00Z",
        "comment": "Too early.",
        "form_values": {"reason": "No."},
        "timed_out": False,
        "try_number": 1,
    }
    assert skipped == []


def test_rejection_skips_direct_downstream_but_no_teardown(tallyfy, context, skipped):
    tallyfy.polls(decided(False))
    result = gate(context).execute(context)
    assert skipped == [("first", -1)]
    assert result["is_approved"] is False
    assert context["ti"].xcoms[gate_downstream.SKIPPED_TASKS_KEY] == {"skipped": ["first"]}


def test_rejection_skips_all_downstream_with_ignore_downstream_trigger_rules(tallyfy, context, skipped):
    tallyfy.polls(decided(False))
    gate(context, ignore_downstream_trigger_rules=True).execute(context)
    assert set(skipped) == {("first", -1), ("second", -1)}


@pytest.mark.parametrize("state", ["running", "success", "failed", "skipped"])
def test_started_task_is_not_skipped(tallyfy, context, monkeypatch, state):
    skipped = support.record_skipped(monkeypatch, state)
    tallyfy.polls(decided(False))
    gate(context).execute(context)
    assert skipped == []


def test_approval_skips_nothing(tallyfy, context, skipped):
    tallyfy.polls(decided(True))
    gate(context).execute(context)
    assert (skipped, gate_downstream.SKIPPED_TASKS_KEY in context["ti"].xcoms) == ([], False)


def test_approval_after_start_from_trigger_takes_back_earlier_skips(tallyfy, context, skipped):
    tallyfy.polls(decided(True))
    approval = gate(context)
    approval.start_from_trigger = True
    approval.execute(context)
    assert context["ti"].xcoms[gate_downstream.SKIPPED_TASKS_KEY] == {"skipped": []}


class TestMapped:
    @pytest.fixture(autouse=True)
    def _is_mapped(self, context):
        context["ti"].map_index = 3

    def test_rejected_gate_is_skipped_after_pushing_its_result(self, tallyfy, context, skipped):
        tallyfy.polls(decided(False))
        with pytest.raises(AirflowSkipException, match="was rejected by Ben Larsen"):
            gate(context).execute(context)
        assert context["ti"].xcoms["return_value"]["is_approved"] is False
        assert gate_downstream.SKIPPED_TASKS_KEY not in context["ti"].xcoms
        assert skipped == []

    def test_pushes_only_what_it_would_have_returned(self, tallyfy, context, skipped):
        tallyfy.polls(decided(False))
        with pytest.raises(AirflowSkipException):
            gate(context, do_xcom_push=False).execute(context)
        assert "return_value" not in context["ti"].xcoms
        with pytest.raises(AirflowSkipException):
            gate(context, multiple_outputs=True).execute(context)
        assert context["ti"].xcoms["is_approved"] is False

    def test_rejection_skips_all_downstream_with_ignore_downstream_trigger_rules(
        self, tallyfy, context, skipped
    ):
        tallyfy.polls(decided(False))
        with pytest.raises(AirflowSkipException):
            gate(context, ignore_downstream_trigger_rules=True).execute(context)
        assert set(skipped) == {("first", -1), ("second", -1)}


def test_rejected_gate_with_outlets_is_skipped(tallyfy, context, skipped):
    tallyfy.polls(decided(False))
    with pytest.raises(AirflowSkipException, match="was rejected by Ben Larsen"):
        gate(context, outlets=[Asset("approved")]).execute(context)
    assert context["ti"].xcoms["return_value"]["is_approved"] is False
    tallyfy.polls(decided(True))
    assert gate(context, outlets=[Asset("approved")]).execute(context)["is_approved"] is True


def test_fail_on_reject(tallyfy, context, skipped):
    tallyfy.polls(decided(False))
    message = "'Approve' of run r1 was rejected by Ben Larsen, with the comment: Too early."
    with pytest.raises(AirflowFailException, match=message):
        gate(context, fail_on_reject=True).execute(context)
    assert skipped == []


@pytest.mark.parametrize("meaning", ["soft_fail", "never_fail", "silent_fail"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_failure_flags_do_not_change_a_rejection(tallyfy, context, skipped, meaning, deferrable):
    tallyfy.polls(OPEN if deferrable else decided(False))
    approval = gate(context, deferrable=deferrable, **{meaning: True})
    if deferrable:
        with pytest.raises(TaskDeferred):
            approval.execute(context)
        tallyfy.polls(decided(False))
        resume(approval, context)
    else:
        approval.execute(context)
    assert skipped == [("first", -1)]


@pytest.mark.parametrize(
    "answer",
    [OPEN, {"status_code": 503}, decided(True, id="t2", alias="other", title="Another task")],
    ids=["reopened", "outage", "event of another wait"],
)
def test_deferred_gate_waits_on_if_tallyfy_does_not_show_the_approval(tallyfy, context, skipped, answer):
    tallyfy.polls(answer)
    with pytest.raises(TaskDeferred):
        resume(gate(context, deferrable=True), context, is_approved=True)


def test_deferred_gate_takes_the_decision_that_tallyfy_shows_when_it_resumes(tallyfy, context, skipped):
    tallyfy.polls(decided(False))
    assert resume(gate(context, deferrable=True), context, is_approved=True)["is_approved"] is False
    assert skipped == [("first", -1)]


def test_timeout_with_soft_fail_skips_downstream(tallyfy, context, skipped):
    tallyfy.polls(OPEN)
    with pytest.raises(AirflowSkipException):
        gate(context, timeout=0, soft_fail=True).execute(context)
    assert skipped == [("first", -1)]
    assert context["ti"].xcoms[gate_downstream.SKIPPED_TASKS_KEY] == {"skipped": ["first"]}


def test_failing_timeout_leaves_downstream_to_trigger_rules(tallyfy, context, skipped):
    tallyfy.polls(OPEN)
    with pytest.raises(AirflowSensorTimeout):
        gate(context, timeout=0).execute(context)
    assert skipped == []


def test_invalid_shape_fails_before_the_wait(context, skipped):
    with DAG("d", schedule=None):
        context["task"] = approval = TallyfyApprovalOperator(task_id="gate", run_id="r1", task="approve")
        approval >> BaseOperator(task_id="publish", trigger_rule="always")
    with pytest.raises(AirflowFailException, match="'publish' is downstream of the gate 'gate', but"):
        approval.execute(context)
    assert skipped == [("publish", -1)]


def test_task_that_is_no_approval_fails(tallyfy, context):
    tallyfy.polls(OPEN | {"task_type": "task"})
    with pytest.raises(AirflowFailException, match="is no approval task, but one of type 'task'"):
        gate(context).execute(context)


def test_hidden_task_skips_gate_and_downstream(tallyfy, context, skipped):
    tallyfy.polls(OPEN | {"status": "auto-skipped"})
    with pytest.raises(AirflowSkipException):
        gate(context).execute(context)
    assert skipped == [("first", -1)]


def test_hidden_task_opens_with_on_skipped_succeed(tallyfy, context, skipped):
    tallyfy.polls(OPEN | {"status": "auto-skipped"})
    result = gate(context, on_skipped="succeed").execute(context)
    assert (result["is_approved"], result["decided_by"], skipped) == (None, None, [])


@pytest.mark.parametrize(
    "arguments",
    [
        {"fail_on_reject": "false"},
        {"ignore_downstream_trigger_rules": None},
        {"require_comment": "no"},
        {"deferrable": 0},
        {"on_timeout": None},
        {"on_timeout": ["fail"]},
    ],
    ids=str,
)
def test_arguments_of_other_types_are_refused(context, arguments):
    [name] = arguments
    with pytest.raises(ValueError, match=f"Task 'gate': {name} must be "):
        gate(context, **arguments)


class TestWhoDecided:
    def test_name_of_a_member_is_read(self, tallyfy, context, requests_mock):
        tallyfy.polls(decided(True, completer_id=7))
        requests_mock.get(
            f"{API}/users/7", json={"data": {"id": 7, "first_name": "Ada", "last_name": "Byron"}}
        )
        assert gate(context).execute(context)["decided_by"] == {"id": 7, "name": "Ada Byron", "email": None}

    @pytest.mark.parametrize(
        "answer", [{"status_code": 403}, {"status_code": 500}, {"json": {"data": []}}, {"json": []}]
    )
    def test_decision_counts_if_the_name_cannot_be_read(self, tallyfy, context, requests_mock, answer):
        tallyfy.polls(decided(True, completer_id=7))
        requests_mock.get(f"{API}/users/7", **answer)
        assert gate(context).execute(context)["decided_by"] == {"id": 7, "name": None, "email": None}

    def test_decision_counts_if_the_secrets_backend_fails(self, tallyfy, context, monkeypatch, caplog):
        monkeypatch.setattr(TallyfyHook, "request", Mock(side_effect=OSError("vault: s3cret")))
        tallyfy.polls(decided(True, completer_id=7))
        assert gate(context).execute(context)["decided_by"]["id"] == 7
        assert "s3cret" not in caplog.text

    def test_id_of_a_guest_is_not_taken_for_one_of_a_member(self, tallyfy, context):
        tallyfy.polls(decided(True, completer_id=None, completer_guest_id=1002))
        assert gate(context).execute(context)["decided_by"] == {"id": 1002, "name": None, "email": None}

    def test_guest_has_an_email_address(self, tallyfy, context):
        tallyfy.polls(decided(True, completer_id=None, completer_guest="client@example.org"))
        result = gate(context).execute(context)
        assert result["decided_by"]["email"] == "client@example.org"
        assert result["comment"] is None

    def test_unknown_completer(self, tallyfy, context):
        tallyfy.polls(decided(True, completer_id=None))
        result = gate(context).execute(context)
        assert (result["decided_by"], result["comment"]) == (None, None)
