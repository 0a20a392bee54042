from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSkipException,
    BaseOperator,
    TaskDeferred,
)

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.operators import approvals
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


@pytest.fixture
def skipped(monkeypatch):
    """The ids of the tasks that were skipped."""
    ids: list[str] = []

    def skip(_operator, context, tasks):
        # In Airflow 3 nothing that comes after this is done.
        assert "return_value" in context["ti"].xcoms or not context["task"].do_xcom_push
        ids.extend(task.task_id for task in tasks)

    monkeypatch.setattr(approvals, "skip", skip)
    return ids


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
    }
    assert skipped == []


def test_rejected_it_skips_what_comes_next_and_no_teardown(tallyfy, context, skipped):
    tallyfy(decided(False))
    result = gate(context).execute(context)
    assert skipped == ["first"]
    assert result["is_approved"] is False
    assert context["ti"].xcoms["return_value"] == result


def test_rejected_it_skips_all_that_comes_after_where_that_is_wanted(tallyfy, context, skipped):
    tallyfy(decided(False))
    gate(context, ignore_downstream_trigger_rules=True).execute(context)
    assert set(skipped) == {"first", "second"}


def test_it_pushes_before_it_skips_only_what_it_would_have_returned(tallyfy, context, skipped):
    tallyfy(decided(False))
    gate(context, do_xcom_push=False).execute(context)
    assert "return_value" not in context["ti"].xcoms
    gate(context, multiple_outputs=True).execute(context)
    assert context["ti"].xcoms["is_approved"] is False


def test_rejected_it_fails_without_retries_where_that_is_wanted(tallyfy, context, skipped):
    tallyfy(decided(False))
    message = r"'Approve' of run r1 was rejected by Ben Larsen, who wrote: Too early\."
    with pytest.raises(AirflowFailException, match=message):
        gate(context, fail_on_reject=True).execute(context)
    assert skipped == []


@pytest.mark.parametrize("meaning", ["soft_fail", "never_fail", "silent_fail"])
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_rejection_is_no_failed_look(tallyfy, context, monkeypatch, meaning, deferrable):
    """In Airflow 3, downstream tasks are skipped by an exception, which nothing on its way may take for a failure."""

    class SkippedError(Exception):
        pass

    def skip(*_):
        raise SkippedError

    monkeypatch.setattr(approvals, "skip", skip)
    tallyfy(OPEN if deferrable else decided(False))
    approval = gate(context, deferrable=deferrable, **{meaning: True})
    if deferrable:
        with pytest.raises(TaskDeferred):
            approval.execute(context)
        event = {"outcome": "over", "result": decided(False, form_values={})}
        with pytest.raises(SkippedError):
            approval.resume_execution("execute_complete", {"event": event}, context)
    else:
        with pytest.raises(SkippedError):
            approval.execute(context)


def test_a_task_that_is_no_approval_is_an_error_at_once(tallyfy, context):
    tallyfy(OPEN | {"task_type": "task"})
    with pytest.raises(AirflowFailException, match="is no approval task, but one of type 'task'"):
        gate(context).execute(context)


def test_where_a_rule_hides_it_nobody_is_asked(tallyfy, context, skipped):
    tallyfy(OPEN | {"status": "auto-skipped"})
    with pytest.raises(AirflowSkipException):
        gate(context).execute(context)
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


class TestSkip:
    def test_in_airflow_3(self, monkeypatch):
        monkeypatch.setattr(version_compat, "AIRFLOW_V_3_0_PLUS", True)
        calls = []
        operator = SimpleNamespace(skip=lambda **arguments: calls.append(arguments))
        version_compat.skip(operator, {"ti": "ti"}, ["task"])
        assert calls == [{"ti": "ti", "tasks": ["task"]}]

    def test_in_airflow_2(self, monkeypatch):
        monkeypatch.setattr(version_compat, "AIRFLOW_V_3_0_PLUS", False)
        calls = []
        operator = SimpleNamespace(skip=lambda *given, **named: calls.append((given, named)))
        dag_run = SimpleNamespace(logical_date="date")
        version_compat.skip(operator, {"ti": SimpleNamespace(map_index=3), "dag_run": dag_run}, ["task"])
        assert calls == [((dag_run, "date", ["task"]), {"map_index": 3})]
