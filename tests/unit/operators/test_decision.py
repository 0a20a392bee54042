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
from airflow_provider_tallyfy.operators import gate as gates
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator

API = "https://tallyfy.test/api/organizations/acme"
OPEN = {
    "id": "t1",
    "alias": "approve",
    "title": "Approve",
    "status": "active",
    "task_type": "approval",
    "form_fields": {"data": []},
    "threads": {"data": []},
}
COMMENT = {
    "author_id": 1002,
    "label": "comment",
    "content": "Fine.",
    "created_at": "2026-01-04T00:00:00Z",
}


def decided(is_approved=True, **fields):
    marks = {"status": "completed", "completed_at": "2026-01-04T00:00:00Z", "completer_id": 1002}
    return OPEN | marks | {"is_approved": is_approved, **fields}


class Tallyfy:
    """Answers with a run that has one task."""

    def __init__(self, requests_mock):
        self._mock = requests_mock
        requests_mock.get(
            f"{API}/users",
            json=page(
                {"id": 1001, "email": "ada@example.com", "full_name": "Ada Okafor"},
                {"id": 1002, "email": "ben@example.com", "full_name": "Ben Larsen"},
            ),
        )
        requests_mock.get(
            f"{API}/users/1002",
            json={"data": {"id": 1002, "email": "ben@example.com", "full_name": "Ben Larsen"}},
        )
        requests_mock.get(f"{API}/groups", json=page({"id": "g1", "name": "Managers", "members": [1001]}))

    def polls(self, *answers):
        """Answer polls one after the other; the last answer stays."""
        bodies = [each if "status_code" in each else self._run(each) for each in answers]
        self._mock.get(f"{API}/runs/r1", bodies)
        if "status_code" not in answers[-1]:
            self.reads(answers[-1])

    def reads(self, *tasks):
        """Answer reads of the task by itself."""
        self._mock.get(f"{API}/runs/r1/tasks/t1", [{"json": {"data": each}} for each in tasks])

    @staticmethod
    def _run(task):
        return {
            "json": {"data": {"id": "r1", "status": "active", "started_by": 1002, "tasks": {"data": [task]}}}
        }


def page(*items):
    return {"data": list(items), "meta": {"pagination": {"current_page": 1, "total_pages": 1}}}


@pytest.fixture
def tallyfy(connection, requests_mock, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return Tallyfy(requests_mock)


@pytest.fixture(autouse=True)
def skipped(monkeypatch):
    instances = []
    monkeypatch.setattr(
        gates,
        "task_instance_states",
        lambda _context, task_ids, _mapped: {(each, -1): None for each in task_ids},
    )
    monkeypatch.setattr(gates, "skip_task_instances", lambda _context, these: instances.extend(these))
    return instances


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
    event = {"outcome": "over", "result": task | {"form_values": {}}}
    return gate.resume_execution("execute_complete", {"event": event}, context)


class TestApprovers:
    @pytest.mark.parametrize("approvers", ["ben@example.com", [1002], {"exclude": ["Managers"]}])
    @pytest.mark.parametrize("is_approved", [True, False])
    def test_the_decision_of_one_of_them_counts(
        self, tallyfy, gate, context, skipped, approvers, is_approved
    ):
        tallyfy.polls(OPEN, decided(is_approved))
        result = gate(approvers=approvers).execute(context)
        assert (result["is_approved"], result["decided_by"]["id"]) == (is_approved, 1002)
        assert skipped == ([] if is_approved else [("publish", -1)])

    @pytest.mark.parametrize("is_approved", [True, False])
    @pytest.mark.parametrize(
        "approvers", ["ada@example.com", "Managers", {"exclude": ["started_by"]}, {"exclude": [1002]}]
    )
    def test_that_of_anyone_else_fails_the_task_and_names_them(
        self, tallyfy, gate, context, approvers, is_approved
    ):
        tallyfy.polls(decided(is_approved))
        with pytest.raises(
            AirflowFailException, match=r"Ben Larsen <ben@example\.com>, who .*may not decide"
        ):
            gate(approvers=approvers).execute(context)

    def test_a_failed_gate_has_its_result(self, tallyfy, gate, context):
        tallyfy.polls(decided())
        with pytest.raises(AirflowFailException):
            gate(approvers="Managers").execute(context)
        assert context["ti"].xcoms["return_value"]["decided_by"]["email"] == "ben@example.com"

    def test_a_deferred_gate_too(self, tallyfy, gate, context):
        tallyfy.polls(decided())
        with pytest.raises(AirflowFailException, match="may not decide"):
            resume(gate(approvers="Managers", deferrable=True), context, decided(completer_id=1001))

    @pytest.mark.parametrize("meaning", ["soft_fail", "never_fail", "silent_fail"])
    def test_whatever_a_failure_means_to_the_sensor(self, tallyfy, gate, context, meaning):
        tallyfy.polls(decided())
        with pytest.raises(AirflowFailException, match="may not decide"):
            gate(approvers="Managers", **{meaning: True}).execute(context)
        with pytest.raises(AirflowFailException, match="may not decide"):
            resume(gate(approvers="Managers", deferrable=True, **{meaning: True}), context, decided())

    def test_who_decided_is_read_from_the_task_itself(self, tallyfy, gate, context):
        tallyfy.polls(decided(completer_id=1001))
        tallyfy.reads(OPEN, decided(completer_id=1002))
        with pytest.raises(AirflowFailException, match="Ben Larsen"):
            gate(approvers="ada@example.com").execute(context)

    def test_a_decision_that_is_not_there_any_more_does_not_count(self, tallyfy, gate, context):
        tallyfy.polls(decided())
        tallyfy.reads(OPEN)
        with pytest.raises(AirflowException, match="not completed any more") as raised:
            gate(approvers="ben@example.com").execute(context)
        assert not isinstance(raised.value, AirflowFailException)

    def test_nor_does_another_one(self, tallyfy, gate, context):
        tallyfy.polls(decided(is_approved=True))
        tallyfy.reads(decided(is_approved=False))
        with pytest.raises(AirflowException, match="completed again"):
            gate(approvers="ben@example.com").execute(context)

    def test_nor_does_an_earlier_one_that_an_old_read_shows(self, tallyfy, gate, context):
        tallyfy.polls(decided())
        tallyfy.reads(decided(completed_at="2026-01-03T00:00:00Z", completer_id=1001))
        with pytest.raises(AirflowException, match="completed again"):
            gate(approvers="ada@example.com").execute(context)

    def test_nobody_named_is_nobody_allowed(self, tallyfy, gate, context):
        tallyfy.polls(decided(completer_id=None))
        with pytest.raises(AirflowFailException, match="whom Tallyfy does not name"):
            gate(approvers={"exclude": ["ada@example.com"]}).execute(context)

    def test_a_guest_is_known_by_address(self, tallyfy, gate, context):
        tallyfy.polls(decided(completer_id=None, completer_guest="client@example.org"))
        assert gate(approvers="Client@example.org").execute(context)["is_approved"] is True
        with pytest.raises(AirflowFailException, match=r"client@example\.org"):
            gate(approvers="other@example.org").execute(context)

    def test_one_whom_nobody_knows_fails_it_before_the_wait(self, tallyfy, gate, context, requests_mock):
        tallyfy.polls(decided())
        with pytest.raises(AirflowFailException, match="'Managres' is no"):
            gate(approvers=["Managres"]).execute(context)
        assert "/runs/" not in "".join(each.path for each in requests_mock.request_history)

    def test_an_outage_at_the_beginning_is_waited_through(self, tallyfy, gate, context, requests_mock):
        tallyfy.polls(OPEN)
        requests_mock.get(f"{API}/groups", exc=requests.ConnectionError)
        with pytest.raises(TaskDeferred):
            gate(approvers=["Managers"], deferrable=True).execute(context)

    @pytest.mark.parametrize(("status", "error"), [(503, TallyfyServerError), (403, TallyfyPermissionError)])
    def test_nothing_passes_while_the_approvers_cannot_be_read(
        self, tallyfy, gate, context, requests_mock, status, error
    ):
        tallyfy.polls(decided())
        requests_mock.get(f"{API}/groups", status_code=status, json={"message": "no"})
        with pytest.raises(error):
            resume(gate(approvers=["ben@example.com"], deferrable=True), context, decided())

    @pytest.mark.parametrize("approvers", [[], {}, {"users": []}, {"teams": ["a"]}])
    def test_what_names_nobody_is_refused_when_the_dag_is_parsed(self, gate, approvers):
        with pytest.raises(ValueError, match=r"Task 'gate': approvers"):
            gate(approvers=approvers)

    @pytest.mark.parametrize("rendered", ["", "None", []])
    def test_so_it_is_if_a_template_renders_to_that(self, tallyfy, gate, context, rendered):
        tallyfy.polls(decided())
        approval = gate(approvers="{{ params.approvers }}")
        approval.approvers = rendered
        with pytest.raises(AirflowFailException):
            approval.execute(context)

    def test_none_from_another_task_lets_no_one_decide(self, tallyfy, gate, context):
        tallyfy.polls(decided())
        approval = gate(approvers="{{ ti.xcom_pull('who') }}")
        approval.approvers = None  # as in a DAG that renders to native objects, or from the output of a task
        with pytest.raises(AirflowFailException, match="approvers is None"):
            approval.execute(context)
        with pytest.raises(AirflowFailException, match="approvers is None"):
            resume(approval, context, decided())

    def test_nor_does_none_that_a_mapped_gate_is_expanded_with(self, tallyfy, context):
        tallyfy.polls(decided())
        with DAG("d", schedule=None):
            mapped = TallyfyApprovalOperator.partial(task_id="gate", run_id="r1", task="approve").expand(
                approvers=[["ben@example.com"], None]
            )
        approval = mapped.unmap({"approvers": None})
        context["task"] = approval
        with pytest.raises(AirflowFailException, match="approvers is None"):
            approval.execute(context)

    def test_without_approvers_there_is_no_more_to_read(self, tallyfy, gate, context, requests_mock):
        tallyfy.polls(decided())
        requests_mock.get(f"{API}/runs/r1/tasks/t1", status_code=500)
        assert gate().execute(context)["is_approved"] is True


class TestComment:
    def test_with_one_the_decision_counts(self, tallyfy, gate, context):
        tallyfy.polls(decided(threads={"data": [COMMENT]}))
        assert gate(require_comment=True).execute(context)["comment"] == "Fine."

    def test_it_may_come_a_moment_later(self, tallyfy, gate, context):
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
    def test_without_one_of_that_user_it_does_not(self, tallyfy, gate, context, threads, is_approved):
        tallyfy.polls(decided(is_approved, threads={"data": threads}))
        with pytest.raises(AirflowFailException, match="wrote no comment, which is required"):
            gate(require_comment=True).execute(context)

    @pytest.mark.parametrize(
        "written", ["Decide: Approve", "Reminder 3: Approve", "<p>Reminder 3: Approve</p>"]
    )
    @pytest.mark.parametrize("approvers", [None, "ben@example.com"])
    def test_those_of_the_notifiers_do_not_count_as_ones_of_the_same_user(
        self, tallyfy, gate, context, written, approvers
    ):
        notifier = TallyfyCommentNotifier(
            task_id="t1",
            content="{{ 'Reminder ' ~ tallyfy.reminder if tallyfy.reminder else 'Decide' }}: {{ tallyfy.title }} ",
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

    def test_nor_if_nobody_is_named(self, tallyfy, gate, context):
        tallyfy.polls(decided(completer_id=None, threads={"data": [COMMENT]}))
        with pytest.raises(AirflowFailException, match="wrote no comment"):
            gate(require_comment=True).execute(context)


class TestTimeout:
    def run(self, gate, context, on_timeout, **arguments):
        return gate(timeout=0, on_timeout=on_timeout, **arguments).execute(context)

    def test_it_fails_by_default(self, tallyfy, gate, context, skipped):
        tallyfy.polls(OPEN)
        with pytest.raises(AirflowSensorTimeout):
            self.run(gate, context, "fail")
        assert skipped == []

    def test_skip_closes_and_skips_the_gate(self, tallyfy, gate, context, skipped):
        tallyfy.polls(OPEN)
        with pytest.raises(AirflowSkipException, match="not decided in time"):
            self.run(gate, context, "skip")
        assert skipped == [("publish", -1)]
        result = context["ti"].xcoms["return_value"]
        assert (result["timed_out"], result["is_approved"]) == (True, None)

    def test_reject_closes(self, tallyfy, gate, context, skipped):
        tallyfy.polls(OPEN)
        result = self.run(gate, context, "reject")
        assert (result["timed_out"], result["is_approved"], result["decided_by"]) == (True, False, None)
        assert skipped == [("publish", -1)]

    def test_reject_fails_if_a_rejection_does(self, tallyfy, gate, context):
        tallyfy.polls(OPEN)
        with pytest.raises(AirflowFailException, match="not decided in time, and counts as rejected"):
            self.run(gate, context, "reject", fail_on_reject=True)

    @pytest.mark.parametrize("approvers", [None, "Managers"])
    def test_approve_opens_loudly(self, tallyfy, gate, context, skipped, log, approvers):
        tallyfy.polls(OPEN)
        result = self.run(gate, context, "approve", approvers=approvers)
        assert (result["timed_out"], result["is_approved"], result["decided_by"]) == (True, True, None)
        assert skipped == []
        assert any(line.startswith("NO ONE APPROVED task 'approve'") for line in log.lines)
        assert (log.audit["timed_out"], log.audit["effect"]) == (True, "open")

    @pytest.mark.parametrize("on_timeout", ["skip", "approve", "reject"])
    @pytest.mark.parametrize("is_approved", [True, False])
    def test_a_decision_in_the_last_moment_counts(
        self, tallyfy, gate, context, skipped, on_timeout, is_approved
    ):
        tallyfy.polls(OPEN, decided(is_approved))
        result = self.run(gate, context, on_timeout)
        assert (result["timed_out"], result["is_approved"]) == (False, is_approved)
        assert skipped == ([] if is_approved else [("publish", -1)])

    @pytest.mark.parametrize("on_timeout", ["skip", "approve", "reject"])
    def test_hidden_in_the_last_moment_it_closes(self, tallyfy, gate, context, skipped, on_timeout):
        tallyfy.polls(OPEN, OPEN | {"status": "auto-skipped"})
        with pytest.raises(AirflowSkipException, match="hides"):
            self.run(gate, context, on_timeout)
        assert skipped == [("publish", -1)]

    def test_that_of_someone_who_may_not_fails(self, tallyfy, gate, context):
        tallyfy.polls(OPEN, decided())
        with pytest.raises(AirflowFailException, match="may not decide"):
            self.run(gate, context, "approve", approvers="Managers")

    def test_approve_does_not_believe_one_answer_that_may_be_old(self, tallyfy, gate, context):
        tallyfy.polls(OPEN, OPEN, decided(is_approved=False))
        assert self.run(gate, context, "approve")["is_approved"] is False

    @pytest.mark.parametrize("status", [500, 403])
    def test_approve_fails_if_a_rejection_could_not_be_seen(self, tallyfy, gate, context, status):
        tallyfy.polls(OPEN, {"status_code": status, "json": {"message": "no"}})
        with pytest.raises(AirflowSensorTimeout, match="not certain that it was not rejected"):
            self.run(gate, context, "approve")

    @pytest.mark.parametrize("on_timeout", ["skip", "reject"])
    def test_what_closes_needs_no_certainty(self, tallyfy, gate, context, skipped, on_timeout):
        tallyfy.polls(OPEN, {"status_code": 500})
        with pytest.raises(AirflowSkipException) if on_timeout == "skip" else nullcontext():
            self.run(gate, context, on_timeout)
        assert skipped == [("publish", -1)]

    @pytest.mark.parametrize("on_timeout", ["skip", "approve", "reject"])
    def test_a_deferred_gate_does_the_same(self, tallyfy, gate, context, on_timeout):
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
            ({"on_timeout": "approve", "soft_fail": True}, "would have no effect"),
            ({"on_timeout": "skip", "never_fail": True}, "would have no effect"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, gate, arguments, message):
        with pytest.raises(ValueError, match=message):
            gate(**arguments)


class TestAudit:
    def test_a_decision_is_one_line_that_can_be_found(self, tallyfy, gate, context, log):
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
    def test_so_is_one_that_does_not_open(self, tallyfy, gate, context, log, arguments, effect):
        tallyfy.polls(decided(is_approved=False))
        try:
            gate(**arguments).execute(context)
        except AirflowFailException:
            assert context["ti"].xcoms["return_value"]["is_approved"] is False
        assert log.audit["effect"] == effect
