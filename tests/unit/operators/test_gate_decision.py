"""Who may decide, with which comment, what happens without a decision, and what is logged of it."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
import requests
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseOperator,
    TaskDeferred,
)

from airflow_provider_tallyfy.exceptions import TallyfyPermissionError, TallyfyServerError
from airflow_provider_tallyfy.notifications.tallyfy import TallyfyCommentNotifier
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator
from tests.support.gates import API, OPEN, decided

COMMENT = {
    "author_id": 1002,
    "label": "comment",
    "content": "Fine.",
    "created_at": "2026-01-04T00:00:00Z",
}

pytestmark = pytest.mark.usefixtures("skipped")


class Log:
    """Keeps the lines that a task logs, whichever logger this Airflow has."""

    def __init__(self):
        self.lines = []

    def _write(self, message, *args):
        self.lines.append(message % args if args else message)

    debug = info = warning = error = exception = _write

    @property
    def audit(self):
        [found] = [each for each in self.lines if each.startswith("tallyfy.gate.decision ")]
        return json.loads(found.partition(" ")[2])


@pytest.fixture
def log(monkeypatch):
    log = Log()
    monkeypatch.setattr(TallyfyApprovalOperator, "log", log)
    return log


@pytest.fixture
def gate(context):
    def make(**arguments):
        with DAG("d", schedule=None):
            approval = TallyfyApprovalOperator(
                **{"task_id": "gate", "run_id": "r1", "task": "approve", "poke_interval": 1, **arguments}
            )
            approval >> BaseOperator(task_id="publish")
        context["task"] = approval
        return approval

    return make


def resume(gate, context, task):
    """Resume a gate whose trigger saw that a task was completed."""
    event = {"outcome": "met", "result": task | {"form_values": {}}}
    return gate.resume_execution("execute_complete", {"event": event}, context)


class TestApprovers:
    @pytest.mark.parametrize("approvers", ["ben@example.com", [1002], {"exclude": ["Managers"]}])
    @pytest.mark.parametrize("is_approved", [True, False])
    def test_decision_of_an_approver_counts(self, tallyfy, gate, context, skipped, approvers, is_approved):
        tallyfy.polls(OPEN, decided(is_approved))
        result = gate(approvers=approvers).execute(context)
        assert (result["is_approved"], result["decided_by"]["id"]) == (is_approved, 1002)
        assert skipped == ([] if is_approved else [("publish", -1)])

    @pytest.mark.parametrize("is_approved", [True, False])
    @pytest.mark.parametrize(
        "approvers", ["ada@example.com", "Managers", {"exclude": ["started_by"]}, {"exclude": [1002]}]
    )
    def test_decision_of_anyone_else_fails_and_names_them(
        self, tallyfy, gate, context, approvers, is_approved
    ):
        tallyfy.polls(decided(is_approved))
        with pytest.raises(
            AirflowFailException, match=r"Ben Larsen <ben@example\.com>, who .*may not decide"
        ):
            gate(approvers=approvers).execute(context)

    def test_result_is_pushed_before_the_gate_fails(self, tallyfy, gate, context):
        tallyfy.polls(decided())
        with pytest.raises(AirflowFailException):
            gate(approvers="Managers").execute(context)
        assert context["ti"].xcoms["return_value"]["decided_by"]["email"] == "ben@example.com"

    def test_deferred_gate_checks_approvers(self, tallyfy, gate, context):
        tallyfy.polls(decided())
        with pytest.raises(AirflowFailException, match="may not decide"):
            resume(gate(approvers="Managers", deferrable=True), context, decided(completer_id=1001))

    def test_decision_of_another_gate_opens_nothing(self, tallyfy, gate, context):
        tallyfy.polls(OPEN)
        event = {"outcome": "met", "wait": "task_id other", "result": decided(True) | {"form_values": {}}}
        with pytest.raises(TaskDeferred):
            gate(deferrable=True).resume_execution("execute_complete", {"event": event}, context)

    @pytest.mark.parametrize("meaning", ["soft_fail", "never_fail", "silent_fail"])
    def test_failure_flags_of_sensors_do_not_change_that(self, tallyfy, gate, context, meaning):
        tallyfy.polls(decided())
        with pytest.raises(AirflowFailException, match="may not decide"):
            gate(approvers="Managers", **{meaning: True}).execute(context)
        with pytest.raises(AirflowFailException, match="may not decide"):
            resume(gate(approvers="Managers", deferrable=True, **{meaning: True}), context, decided())

    def test_completer_is_read_from_the_task_itself(self, tallyfy, gate, context):
        tallyfy.polls(decided(completer_id=1001))
        tallyfy.reads(OPEN, decided(completer_id=1002))
        with pytest.raises(AirflowFailException, match="Ben Larsen"):
            gate(approvers="ada@example.com").execute(context)

    def test_reopened_task_does_not_open_the_gate(self, tallyfy, gate, context):
        tallyfy.polls(decided())
        tallyfy.reads(OPEN)
        with pytest.raises(AirflowException, match="not completed any more") as raised:
            gate(approvers="ben@example.com").execute(context)
        assert not isinstance(raised.value, AirflowFailException)

    @pytest.mark.parametrize("task_type", ["approval", None])
    def test_task_decided_again_does_not_open_the_gate(self, tallyfy, gate, context, task_type):
        tallyfy.polls(decided(is_approved=True))
        tallyfy.reads(decided(is_approved=False, task_type=task_type))
        with pytest.raises(AirflowException, match="completed again"):
            gate(approvers="ben@example.com").execute(context)

    def test_earlier_decision_from_an_old_read_does_not_count(self, tallyfy, gate, context):
        tallyfy.polls(decided())
        tallyfy.reads(decided(completed_at="2026-01-03T00:00:00Z", completer_id=1001))
        with pytest.raises(AirflowException, match="completed again"):
            gate(approvers="ada@example.com").execute(context)

    def test_decision_without_completer_does_not_count(self, tallyfy, gate, context):
        tallyfy.polls(decided(completer_id=None))
        with pytest.raises(AirflowFailException, match="whom Tallyfy does not name"):
            gate(approvers={"exclude": ["ada@example.com"]}).execute(context)

    def test_guest_is_matched_by_email_address(self, tallyfy, gate, context):
        tallyfy.polls(decided(completer_id=None, completer_guest="client@example.org"))
        assert gate(approvers="Client@example.org").execute(context)["is_approved"] is True
        with pytest.raises(AirflowFailException, match=r"client@example\.org"):
            gate(approvers="other@example.org").execute(context)

    def test_unknown_approver_fails_before_the_wait(self, tallyfy, gate, context, requests_mock):
        tallyfy.polls(decided())
        with pytest.raises(AirflowFailException, match="'Managres' is no"):
            gate(approvers=["Managres"]).execute(context)
        assert "/runs/" not in "".join(each.path for each in requests_mock.request_history)

    @pytest.mark.parametrize(
        "answer",
        [
            {"exc": requests.ConnectionError},
            {"status_code": 503},
            {"status_code": 429, "json": {"message": "Too many."}, "headers": {"Retry-After": "3600"}},
            {"status_code": 403, "text": "<html>Blocked</html>"},
        ],
        ids=["connection error", "503", "429", "firewall"],
    )
    def test_outage_at_the_beginning_does_not_end_the_wait(
        self, tallyfy, gate, context, requests_mock, answer
    ):
        tallyfy.polls(OPEN)
        requests_mock.get(f"{API}/groups", **answer)
        with pytest.raises(TaskDeferred):
            gate(approvers=["Managers"], deferrable=True).execute(context)

    @pytest.mark.parametrize(("status", "error"), [(503, TallyfyServerError), (403, TallyfyPermissionError)])
    def test_gate_stays_closed_while_approvers_cannot_be_read(
        self, tallyfy, gate, context, requests_mock, status, error
    ):
        tallyfy.polls(decided())
        requests_mock.get(f"{API}/groups", status_code=status, json={"message": "no"})
        with pytest.raises(error):
            resume(gate(approvers=["ben@example.com"], deferrable=True), context, decided())

    @pytest.mark.parametrize("approvers", [[], {}, {"users": []}, {"teams": ["a"]}])
    def test_empty_approvers_are_refused_when_the_dag_is_parsed(self, gate, approvers):
        with pytest.raises(ValueError, match=r"Task 'gate': approvers"):
            gate(approvers=approvers)

    @pytest.mark.parametrize("rendered", ["", "None", []])
    def test_empty_rendered_approvers_are_refused(self, tallyfy, gate, context, rendered):
        tallyfy.polls(decided())
        approval = gate(approvers="{{ params.approvers }}")
        approval.approvers = rendered
        with pytest.raises(AirflowFailException):
            approval.execute(context)

    def test_approvers_rendered_to_none_let_no_one_decide(self, tallyfy, gate, context):
        tallyfy.polls(decided())
        approval = gate(approvers="{{ ti.xcom_pull('who') }}")
        approval.approvers = None  # as in a DAG that renders to native objects, or from the output of a task
        with pytest.raises(AirflowFailException, match="approvers is None"):
            approval.execute(context)
        with pytest.raises(AirflowFailException, match="approvers is None"):
            resume(approval, context, decided())

    @pytest.mark.parametrize(
        "expand",
        [
            lambda partial: partial.expand(approvers=[["ben@example.com"], None]),
            lambda partial: partial.expand_kwargs([{"approvers": ["ben@example.com"]}, {"approvers": None}]),
            lambda partial: partial.expand_kwargs(BaseOperator(task_id="other").output),
        ],
        ids=["expand", "expand_kwargs", "expand_kwargs with an output"],
    )
    def test_approvers_expanded_to_none_let_no_one_decide(self, tallyfy, context, expand):
        tallyfy.polls(decided())
        with DAG("d", schedule=None):
            mapped = expand(TallyfyApprovalOperator.partial(task_id="gate", run_id="r1", task="approve"))
        context["task"] = approval = mapped.unmap({"approvers": None})
        with pytest.raises(AirflowFailException, match="approvers is None"):
            approval.execute(context)

    def test_mapped_gate_without_approvers(self, tallyfy, context):
        tallyfy.polls(decided())
        with DAG("d", schedule=None):
            partial = TallyfyApprovalOperator.partial(task_id="gate", task="approve", approvers=None)
            mapped = partial.expand_kwargs([{"run_id": "r1"}])
        context["task"] = approval = mapped.unmap({"run_id": "r1"})
        assert approval.execute(context)["is_approved"] is True

    def test_run_id_may_be_a_number(self, tallyfy, gate, context, requests_mock):
        run = {"id": "17", "status": "active", "tasks": {"data": [decided()]}}
        requests_mock.get(f"{API}/runs/17", json={"data": run})
        requests_mock.get(f"{API}/runs/17/tasks/t1", json={"data": decided()})
        result = gate(approvers="ben@example.com", run_id=17, timeout=0).execute(context)
        assert (result["run_id"], result["is_approved"]) == ("17", True)

    def test_without_approvers_the_task_is_not_read_again(self, tallyfy, gate, context, requests_mock):
        tallyfy.polls(decided())
        requests_mock.get(f"{API}/runs/r1/tasks/t1", status_code=500)
        assert gate().execute(context)["is_approved"] is True


class TestComment:
    def test_decision_with_comment_counts(self, tallyfy, gate, context):
        tallyfy.polls(decided(threads={"data": [COMMENT]}))
        assert gate(require_comment=True).execute(context)["comment"] == "Fine."

    def test_comment_may_follow_the_decision(self, tallyfy, gate, context):
        tallyfy.polls(decided())
        tallyfy.reads(decided(), decided(), decided(threads={"data": [COMMENT]}))
        assert gate(require_comment=True).execute(context)["comment"] == "Fine."

    @pytest.mark.parametrize(
        "threads",
        [
            [],
            [COMMENT | {"author_id": 1001}],
            [COMMENT | {"label": "problem"}],
            [COMMENT | {"content": ""}],
            [COMMENT | {"content": " \n"}],
        ],
    )
    @pytest.mark.parametrize("is_approved", [True, False])
    def test_decision_without_comment_does_not_count(self, tallyfy, gate, context, threads, is_approved):
        tallyfy.polls(decided(is_approved, threads={"data": threads}))
        with pytest.raises(AirflowFailException, match="wrote no comment, which is required"):
            gate(require_comment=True).execute(context)

    @pytest.mark.parametrize(
        "written",
        [
            "Decide: Approve & go",
            "Reminder 3: Approve & go",
            "<p>Reminder 3: Approve &amp; go</p>",
            "Reminder&nbsp;3:<br>Approve <b>&amp;</b> go",
        ],
    )
    @pytest.mark.parametrize("approvers", [None, "ben@example.com"])
    def test_comments_of_notifiers_do_not_count(self, tallyfy, gate, context, written, approvers):
        notifier = TallyfyCommentNotifier(
            task_id="t1",
            content="{{ 'Reminder ' ~ tallyfy.reminder if tallyfy.reminder else 'Decide' }}: {{ tallyfy.title }} & go ",
        )
        notified = {"notifiers": [notifier, print], "remind_every": 60, "approvers": approvers}
        notice = COMMENT | {"content": written, "created_at": "2026-01-05T00:00:00Z"}
        context["dag"] = DAG("d", schedule=None)  # of which Airflow 2.11 renders

        tallyfy.polls(decided(threads={"data": [notice]}))
        assert gate(**notified).execute(context)["comment"] is None
        with pytest.raises(AirflowFailException, match="wrote no comment, which is required"):
            gate(**notified, require_comment=True).execute(context)

        tallyfy.polls(decided(threads={"data": [COMMENT, notice]}))
        assert gate(**notified, require_comment=True).execute(context)["comment"] == "Fine."

    def test_comment_without_completer_does_not_count(self, tallyfy, gate, context):
        tallyfy.polls(decided(completer_id=None, threads={"data": [COMMENT]}))
        with pytest.raises(AirflowFailException, match="wrote no comment"):
            gate(require_comment=True).execute(context)


class TestTimeout:
    def run(self, gate, context, on_timeout, **arguments):
        return gate(timeout=0, on_timeout=on_timeout, **arguments).execute(context)

    def test_fails_by_default(self, tallyfy, gate, context, skipped):
        tallyfy.polls(OPEN)
        with pytest.raises(AirflowSensorTimeout):
            self.run(gate, context, "fail")
        assert skipped == []

    def test_skip_skips_gate_and_downstream(self, tallyfy, gate, context, skipped):
        tallyfy.polls(OPEN)
        with pytest.raises(AirflowSkipException, match="not decided in time"):
            self.run(gate, context, "skip")
        assert skipped == [("publish", -1)]
        result = context["ti"].xcoms["return_value"]
        assert (result["timed_out"], result["is_approved"]) == (True, None)

    def test_reject_skips_downstream(self, tallyfy, gate, context, skipped):
        tallyfy.polls(OPEN)
        result = self.run(gate, context, "reject")
        assert (result["timed_out"], result["is_approved"], result["decided_by"]) == (True, False, None)
        assert skipped == [("publish", -1)]

    def test_reject_fails_with_fail_on_reject(self, tallyfy, gate, context):
        tallyfy.polls(OPEN)
        with pytest.raises(AirflowFailException, match="not decided in time, and counts as rejected"):
            self.run(gate, context, "reject", fail_on_reject=True)

    @pytest.mark.parametrize("approvers", [None, "Managers"])
    def test_approve_opens_with_a_warning(self, tallyfy, gate, context, skipped, log, approvers):
        tallyfy.polls(OPEN)
        result = self.run(gate, context, "approve", approvers=approvers)
        assert (result["timed_out"], result["is_approved"], result["decided_by"]) == (True, True, None)
        assert skipped == []
        assert any(line.startswith("NO ONE APPROVED task 'approve'") for line in log.lines)
        assert (log.audit["timed_out"], log.audit["effect"]) == (True, "open")

    @pytest.mark.parametrize("on_timeout", ["skip", "approve", "reject"])
    @pytest.mark.parametrize("is_approved", [True, False])
    def test_decision_at_the_timeout_counts(self, tallyfy, gate, context, skipped, on_timeout, is_approved):
        tallyfy.polls(OPEN, decided(is_approved))
        result = self.run(gate, context, on_timeout)
        assert (result["timed_out"], result["is_approved"]) == (False, is_approved)
        assert skipped == ([] if is_approved else [("publish", -1)])

    @pytest.mark.parametrize("on_timeout", ["skip", "approve", "reject"])
    def test_task_hidden_at_the_timeout_closes_the_gate(self, tallyfy, gate, context, skipped, on_timeout):
        tallyfy.polls(OPEN, OPEN | {"status": "auto-skipped"})
        with pytest.raises(AirflowSkipException, match="hides"):
            self.run(gate, context, on_timeout)
        assert skipped == [("publish", -1)]

    def test_decision_of_no_approver_at_the_timeout_fails(self, tallyfy, gate, context):
        tallyfy.polls(OPEN, decided())
        with pytest.raises(AirflowFailException, match="may not decide"):
            self.run(gate, context, "approve", approvers="Managers")

    def test_approve_needs_two_reads_that_agree(self, tallyfy, gate, context):
        tallyfy.polls(OPEN, OPEN, decided(is_approved=False))
        assert self.run(gate, context, "approve")["is_approved"] is False

    @pytest.mark.parametrize("status", [500, 403])
    def test_approve_fails_if_tallyfy_cannot_be_read(self, tallyfy, gate, context, status):
        tallyfy.polls(OPEN, {"status_code": status, "json": {"message": "no"}})
        with pytest.raises(AirflowSensorTimeout, match="a rejection could not be ruled out"):
            self.run(gate, context, "approve")

    @pytest.mark.parametrize("on_timeout", ["skip", "reject"])
    def test_skip_and_reject_need_no_read(self, tallyfy, gate, context, skipped, on_timeout):
        tallyfy.polls(OPEN, {"status_code": 500})
        with pytest.raises(AirflowSkipException) if on_timeout == "skip" else nullcontext():
            self.run(gate, context, on_timeout)
        assert skipped == [("publish", -1)]

    @pytest.mark.parametrize("on_timeout", ["skip", "approve", "reject"])
    def test_deferred_gate_acts_alike(self, tallyfy, gate, context, on_timeout):
        tallyfy.polls(OPEN)
        approval = gate(on_timeout=on_timeout, deferrable=True)
        if on_timeout == "skip":
            with pytest.raises(AirflowSkipException):
                approval.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
        else:
            result = approval.resume_execution("__fail__", {"error": "Trigger timeout"}, context)
            assert (result["timed_out"], result["is_approved"]) == (True, on_timeout == "approve")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"on_timeout": "pass"}, "on_timeout must be one of"),
            ({"on_timeout": "approve", "soft_fail": True}, "since it skips the task at a timeout"),
            ({"on_timeout": "skip", "never_fail": True}, "since it skips the task at a timeout"),
        ],
    )
    def test_invalid_arguments_are_refused(self, gate, arguments, message):
        with pytest.raises(ValueError, match=message):
            gate(**arguments)


class TestAudit:
    def test_decision_is_one_line_of_json(self, tallyfy, gate, context, log):
        form = {"id": "f", "alias": "why", "label": "Why", "field_type": "text", "value": "x\ny" * 400}
        tallyfy.polls(decided(form_fields={"data": [form]}, threads={"data": [COMMENT]}))
        context["ti"].try_number = 2
        context["ti"].dag_id = "d"
        result = gate(require_comment=True).execute(context)
        line = log.audit
        assert (line["dag_id"], line["effect"], line["try_number"]) == ("d", "open", 2)
        assert line["decided_by"]["email"] == "ben@example.com"
        assert (line["decided_at"], line["comment"]) == ("2026-01-04T00:00:00Z", "Fine.")
        assert line["form_values"]["why"].startswith("x\ny")
        assert len(line["form_values"]["why"]) < 600  # the result has all of it
        assert len(result["form_values"]["why"]) == 1200

    @pytest.mark.parametrize(
        ("arguments", "effect"),
        [({}, "closed"), ({"fail_on_reject": True}, "failed"), ({"approvers": "Managers"}, "failed")],
    )
    def test_decision_that_does_not_open_is_logged(self, tallyfy, gate, context, log, arguments, effect):
        tallyfy.polls(decided(is_approved=False))
        try:
            gate(**arguments).execute(context)
        except AirflowFailException:
            assert context["ti"].xcoms["return_value"]["is_approved"] is False
        assert log.audit["effect"] == effect
