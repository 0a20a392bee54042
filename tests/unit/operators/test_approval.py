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
from airflow_provider_tallyfy.operators import gate as gates
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator

API = "https://tallyfy.test/api/organizations/acme"
BEN = {"id": 1002, "name": "Ben Larsen", "email": "ben@example.com"}
OPEN = {
    "id": "t1",
    "alias": "approve",
    "title": "Approve",
    "status": "active",
    "task_type": "approval",
    "owners": {"users": [{"id": 1002, "full_name": "Ben Larsen", "email": "ben@example.com"}]},
    "form_fields": {
        "data": [{"id": "f", "alias": "reason", "label": "Reason", "field_type": "text", "value": "No."}]
    },
    "threads": {
        "data": [
            {
                "author_id": 1002,
                "label": "comment",
                "content": "First.",
                "created_at": "2026-01-01T00:00:00Z",
            },
            {
                "author_id": 1001,
                "label": "comment",
                "content": "Ada's.",
                "created_at": "2026-01-03T00:00:00Z",
            },
            {"author_id": 1002, "label": "problem", "content": "Odd.", "created_at": "2026-01-03T00:00:00Z"},
            {
                "author_id": 1002,
                "label": "comment",
                "content": "Too early.",
                "created_at": "2026-01-02T00:00:00Z",
            },
        ]
    },
}


def decided(is_approved, **fields):
    marks = {"status": "completed", "completed_at": "2026-01-04T00:00:00Z", "completer_id": 1002}
    return OPEN | marks | {"is_approved": is_approved, **fields}


@pytest.fixture
def tallyfy(connection, requests_mock, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)

    def answers(*tasks):
        bodies = [
            {"json": {"data": {"id": "r1", "status": "active", "tasks": {"data": [task]}}}} for task in tasks
        ]
        requests_mock.get(f"{API}/runs/r1", bodies)

    return answers


def states(state):
    """Stand for an Airflow in which all task instances have a state."""
    return lambda _context, task_ids, _mapped_task_ids: {(task_id, -1): state for task_id in task_ids}


@pytest.fixture
def skipped(monkeypatch):
    """The task instances that were marked as skipped; those of the tasks downstream are not scheduled yet."""
    instances: list[tuple[str, int]] = []
    monkeypatch.setattr(gates, "task_instance_states", states(None))
    monkeypatch.setattr(gates, "skip_task_instances", lambda _context, these: instances.extend(these))
    return instances


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


def test_approved_it_tells_who_decided_when_and_what_they_wrote(tallyfy, context, skipped):
    tallyfy(OPEN, decided(True))
    assert gate(context).execute(context) == {
        "run_id": "r1",
        "task_id": "t1",
        "title": "Approve",
        "is_approved": True,
        "decided_by": BEN,
        "decided_at": "2026-01-04T00:00:00Z",
        "comment": "Too early.",
        "form_values": {"reason": "No."},
        "timed_out": False,
        "try_number": 1,
    }
    assert skipped == []


def test_rejected_it_skips_what_is_directly_downstream_but_no_teardown(tallyfy, context, skipped):
    tallyfy(decided(False))
    result = gate(context).execute(context)
    assert skipped == [("first", -1)]
    assert result["is_approved"] is False
    assert context["ti"].xcoms[gates.SKIPPED_TASKS_KEY] == {"skipped": ["first"]}


def test_rejected_it_skips_all_that_is_downstream_if_it_ignores_trigger_rules(tallyfy, context, skipped):
    tallyfy(decided(False))
    gate(context, ignore_downstream_trigger_rules=True).execute(context)
    assert set(skipped) == {("first", -1), ("second", -1)}


@pytest.mark.parametrize("state", ["running", "success", "failed", "skipped"])
def test_a_task_that_has_started_before_is_left_as_it_is(tallyfy, context, skipped, monkeypatch, state):
    monkeypatch.setattr(gates, "task_instance_states", states(state))
    tallyfy(decided(False))
    gate(context).execute(context)
    assert skipped == []


def test_approved_it_skips_nothing(tallyfy, context, skipped):
    tallyfy(decided(True))
    gate(context).execute(context)
    assert (skipped, gates.SKIPPED_TASKS_KEY in context["ti"].xcoms) == ([], False)


def test_approved_after_a_start_in_the_triggerer_it_takes_back_what_an_earlier_try_skipped(
    tallyfy, context, skipped
):
    tallyfy(decided(True))
    approval = gate(context)
    approval.start_from_trigger = True
    approval.execute(context)
    assert context["ti"].xcoms[gates.SKIPPED_TASKS_KEY] == {"skipped": []}


class TestMapped:
    @pytest.fixture(autouse=True)
    def _is_mapped(self, context):
        context["ti"].map_index = 3

    def test_rejected_it_is_skipped_itself_and_its_result_is_pushed(self, tallyfy, context, skipped):
        tallyfy(decided(False))
        with pytest.raises(AirflowSkipException, match="was rejected by Ben Larsen"):
            gate(context).execute(context)
        assert context["ti"].xcoms["return_value"]["is_approved"] is False
        assert gates.SKIPPED_TASKS_KEY not in context["ti"].xcoms
        assert skipped == []

    def test_it_pushes_only_what_it_would_have_returned(self, tallyfy, context, skipped):
        tallyfy(decided(False))
        with pytest.raises(AirflowSkipException):
            gate(context, do_xcom_push=False).execute(context)
        assert "return_value" not in context["ti"].xcoms
        with pytest.raises(AirflowSkipException):
            gate(context, multiple_outputs=True).execute(context)
        assert context["ti"].xcoms["is_approved"] is False

    def test_rejected_it_skips_all_that_is_downstream_if_it_ignores_trigger_rules(
        self, tallyfy, context, skipped
    ):
        tallyfy(decided(False))
        with pytest.raises(AirflowSkipException):
            gate(context, ignore_downstream_trigger_rules=True).execute(context)
        assert set(skipped) == {("first", -1), ("second", -1)}


def test_rejected_with_outlets_it_is_skipped_so_that_no_event_starts_another_dag(tallyfy, context, skipped):
    tallyfy(decided(False))
    with pytest.raises(AirflowSkipException, match="was rejected by Ben Larsen"):
        gate(context, outlets=[Asset("approved")]).execute(context)
    assert context["ti"].xcoms["return_value"]["is_approved"] is False
    tallyfy(decided(True))
    assert gate(context, outlets=[Asset("approved")]).execute(context)["is_approved"] is True


def test_rejected_it_fails_without_retries_if_told_so(tallyfy, context, skipped):
    tallyfy(decided(False))
    message = "'Approve' of run r1 was rejected by Ben Larsen, with the comment: Too early."
    with pytest.raises(AirflowFailException, match=message):
        gate(context, fail_on_reject=True).execute(context)
    assert skipped == []


@pytest.mark.parametrize("meaning", ["soft_fail", "never_fail", "silent_fail"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_rejection_is_no_failed_poll(tallyfy, context, skipped, meaning, deferrable):
    tallyfy(OPEN if deferrable else decided(False))
    approval = gate(context, deferrable=deferrable, **{meaning: True})
    if deferrable:
        with pytest.raises(TaskDeferred):
            approval.execute(context)
        event = {"outcome": "over", "result": decided(False, form_values={})}
        approval.resume_execution("execute_complete", {"event": event}, context)
    else:
        approval.execute(context)
    assert skipped == [("first", -1)]


def test_a_timeout_that_skips_it_skips_what_is_downstream_too(tallyfy, context, skipped):
    tallyfy(OPEN)
    with pytest.raises(AirflowSkipException):
        gate(context, timeout=0, soft_fail=True).execute(context)
    assert skipped == [("first", -1)]
    assert context["ti"].xcoms[gates.SKIPPED_TASKS_KEY] == {"skipped": ["first"]}


def test_a_timeout_that_fails_it_leaves_the_rest_to_trigger_rules(tallyfy, context, skipped):
    tallyfy(OPEN)
    with pytest.raises(AirflowSensorTimeout):
        gate(context, timeout=0).execute(context)
    assert skipped == []


def test_a_shape_that_cannot_be_held_fails_it_before_it_waits(context, skipped):
    with DAG("d", schedule=None):
        context["task"] = approval = TallyfyApprovalOperator(task_id="gate", run_id="r1", task="approve")
        approval >> BaseOperator(task_id="publish", trigger_rule="always")
    with pytest.raises(AirflowFailException, match="'publish' is downstream of the approval 'gate', but"):
        approval.execute(context)
    assert skipped == [("publish", -1)]


def test_a_task_that_is_no_approval_is_an_error_at_once(tallyfy, context):
    tallyfy(OPEN | {"task_type": "task"})
    with pytest.raises(AirflowFailException, match="is no approval task, but one of type 'task'"):
        gate(context).execute(context)


def test_hidden_by_a_rule_it_is_skipped_with_what_is_downstream(tallyfy, context, skipped):
    tallyfy(OPEN | {"status": "auto-skipped"})
    with pytest.raises(AirflowSkipException):
        gate(context).execute(context)
    assert skipped == [("first", -1)]


def test_hidden_by_a_rule_it_lets_downstream_run_if_told_so(tallyfy, context, skipped):
    tallyfy(OPEN | {"status": "auto-skipped"})
    result = gate(context, on_skipped="succeed").execute(context)
    assert (result["is_approved"], result["decided_by"], skipped) == (None, None, [])


class TestWhoDecided:
    def test_somebody_else_than_the_owners_is_looked_up(self, tallyfy, context, requests_mock):
        tallyfy(decided(True, completer_id=7))
        requests_mock.get(
            f"{API}/users/7", json={"data": {"id": 7, "first_name": "Ada", "last_name": "Byron"}}
        )
        assert gate(context).execute(context)["decided_by"] == {"id": 7, "name": "Ada Byron", "email": None}

    @pytest.mark.parametrize(
        "answer", [{"status_code": 403}, {"status_code": 500}, {"json": {"data": []}}, {"json": []}]
    )
    def test_where_nobody_says_who_that_is_the_decision_stands(self, tallyfy, context, requests_mock, answer):
        tallyfy(decided(True, completer_id=7))
        requests_mock.get(f"{API}/users/7", **answer)
        assert gate(context).execute(context)["decided_by"] == {"id": 7, "name": None, "email": None}

    def test_so_it_does_where_a_secrets_backend_is_down(self, tallyfy, context, monkeypatch, caplog):
        monkeypatch.setattr(TallyfyHook, "request", Mock(side_effect=OSError("vault: s3cret")))
        tallyfy(decided(True, completer_id=7))
        assert gate(context).execute(context)["decided_by"]["id"] == 7
        assert "s3cret" not in caplog.text

    def test_a_guest_is_known_by_address(self, tallyfy, context):
        tallyfy(decided(True, completer_id=None, completer_guest="client@example.org"))
        result = gate(context).execute(context)
        assert result["decided_by"]["email"] == "client@example.org"
        assert result["comment"] is None

    def test_nobody_may_be_named(self, tallyfy, context):
        tallyfy(decided(True, completer_id=None))
        result = gate(context).execute(context)
        assert (result["decided_by"], result["comment"]) == (None, None)
