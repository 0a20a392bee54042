"""Notifiers of a gate: once when the wait begins, and reminders while it waits."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    BaseNotifier,
    BaseOperator,
    TaskDeferred,
)

from airflow_provider_tallyfy.notifications.tallyfy import TallyfyCommentNotifier, TallyfyLaunchRunNotifier
from airflow_provider_tallyfy.operators import gate_notifiers
from airflow_provider_tallyfy.operators.gate_notifiers import pack_notifier
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from tests.support.gates import API, OPEN, decided
from tests.support.moved_time import MovedTime

DONE = decided()


class Recorder(BaseNotifier):
    """Keeps what it was called with."""

    template_fields = ("text",)
    calls: list = []  # noqa: RUF012 - emptied by a fixture

    def __init__(self, text="{{ tallyfy.task }} {{ tallyfy.reminder }} {{ tallyfy.url }}", fails=False):
        super().__init__()
        self.text = text
        self.fails = fails

    def notify(self, context):
        self.calls.append(self.text)
        if self.fails:
            raise RuntimeError("token=s3cret")


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    monkeypatch.setattr(Recorder, "calls", [])
    return Recorder.calls


@pytest.fixture
def clock(monkeypatch):
    clock = MovedTime(1_000_000.0)
    monkeypatch.setattr(gate_notifiers, "time", clock)
    return clock


@pytest.fixture
def polls(tallyfy):
    tallyfy.polls(OPEN)
    return tallyfy.polls


@pytest.fixture
def gate(context):
    context["ti"].task_id = "gate"

    def make(**arguments):
        with DAG("d", schedule=None) as dag:
            approval = TallyfyApprovalOperator(
                **{"task_id": "gate", "run_id": "r1", "task": "approve", "retries": 2, **arguments}
            )
            approval >> BaseOperator(task_id="publish")
        context["task"], context["dag"] = approval, dag
        return approval

    return make


URL = "https://go.tallyfy.com/acme/processes/r1"


class TestOnce:
    def test_deferred_gate_calls_notifiers_when_the_wait_begins(self, polls, gate, context, calls):
        with pytest.raises(TaskDeferred):
            gate(notifiers=Recorder(), deferrable=True).execute(context)
        assert calls == [f"approve 0 {URL}"]

    def test_task_decided_before_calls_none(self, polls, gate, context, calls):
        polls(DONE)
        gate(notifiers=[Recorder()], deferrable=True).execute(context)
        assert calls == []

    def test_gate_in_a_worker_calls_each_once(self, polls, gate, context, calls):
        polls(OPEN, OPEN, OPEN, DONE)
        gate(notifiers=[Recorder(), Recorder("two")], poke_interval=1).execute(context)
        assert calls == [f"approve 0 {URL}", "two"]

    def test_retry_calls_none_again(self, polls, gate, context, calls):
        with pytest.raises(TaskDeferred):
            gate(notifiers=Recorder(), deferrable=True).execute(context)
        context["ti"].try_number = 2
        with pytest.raises(TaskDeferred):
            gate(notifiers=Recorder(), deferrable=True).execute(context)
        assert len(calls) == 1

    def test_reschedule_calls_none_again(self, polls, gate, context, calls, monkeypatch):
        for was_rescheduled in (False, True):
            monkeypatch.setattr(gate_notifiers, "was_rescheduled", lambda _context, was=was_rescheduled: was)
            assert not gate(notifiers=Recorder(), mode="reschedule").poke(context)
        assert len(calls) == 1

    def test_cleared_task_calls_them_again(self, polls, gate, context, calls):
        for _ in range(2):
            with pytest.raises(TaskDeferred):
                gate(notifiers=Recorder(), deferrable=True).execute(context)
            context["ti"].clear()
        assert len(calls) == 2

    @pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="only Airflow 3.3 keeps it")
    def test_retry_calls_them_if_the_first_try_did_not(self, polls, gate, context, calls):
        context["ti"].try_number = 2
        with pytest.raises(TaskDeferred):
            gate(notifiers=Recorder(), deferrable=True).execute(context)
        assert len(calls) == 1

    def test_failing_notifier_does_not_end_the_wait(self, polls, gate, context, calls):
        with pytest.raises(TaskDeferred):
            gate(notifiers=[Recorder(fails=True), Recorder("two")], deferrable=True).execute(context)
        assert calls[-1] == "two"

    def test_notifier_is_rendered_for_each_call(self, polls, gate, context, calls):
        notifier = Recorder()
        for task in ("approve", "Approve"):
            with pytest.raises(TaskDeferred):
                gate(notifiers=notifier, deferrable=True, task=task).execute(context)
        assert [call.split()[0] for call in calls] == ["approve", "Approve"]

    def test_function_of_the_context_is_a_notifier(self, polls, gate, context):
        seen = []
        with pytest.raises(TaskDeferred):
            gate(notifiers=lambda context: seen.append(context["tallyfy"]["task"]), deferrable=True).execute(
                context
            )
        assert seen == ["approve"]

    def test_start_from_trigger_is_not_used_with_notifiers(self, gate):
        reason = "notifiers are called by a worker|Airflow 3.0 to 3.2 start no task in the triggerer"
        with pytest.warns(UserWarning, match=reason):
            approval = gate(notifiers=Recorder(), deferrable=True, start_from_trigger=True)
        assert approval.start_from_trigger is False

    @pytest.mark.parametrize("notifiers", [["slack"], 5, "slack", TallyfyCommentNotifier, [Recorder]])
    def test_anything_else_is_refused(self, gate, notifiers):
        with pytest.raises(ValueError, match="Task 'gate': notifiers must be"):
            gate(notifiers=notifiers)


class TestReminders:
    def test_worker_reminds_at_each_interval_up_to_the_maximum(self, polls, gate, context, calls, clock):
        approval = gate(notifiers=Recorder(), remind_every=60, max_reminders=2)
        for seconds in (0, 30, 29, 1, 60, 60, 600):
            clock.now += seconds
            approval.poke(context)
        assert [call.split()[1] for call in calls] == ["0", "1", "2"]

    def test_task_is_read_again_after_an_outage(self, polls, gate, context, clock, requests_mock):
        seen = []
        requests_mock.get(f"{API}/runs/r1/tasks", status_code=503)
        approval = gate(notifiers=lambda context: seen.append(context["tallyfy"]["task_id"]), remind_every=60)
        approval.poke(context)
        requests_mock.get(f"{API}/runs/r1/tasks", json={"data": [OPEN]})
        clock.now += 60
        approval.poke(context)
        assert seen == [None, "t1"]

    def test_missed_reminder_is_left_out(self, polls, gate, context, calls, clock):
        approval = gate(notifiers=Recorder(), remind_every=60)
        approval.poke(context)
        clock.now += 190
        approval.poke(context)
        assert [call.split()[1] for call in calls] == ["0", "3"]

    @pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="only Airflow 3.3 keeps it")
    def test_count_survives_reschedules_and_retries(self, polls, gate, context, calls, clock):
        for _ in range(4):
            gate(notifiers=Recorder(), remind_every=60, mode="reschedule").poke(context)
            clock.now += 30
            context["ti"].try_number += 1
        assert [call.split()[1] for call in calls] == ["0", "1"]

    @pytest.mark.skipif(AIRFLOW_V_3_3_PLUS, reason="Airflow 3.3 keeps it")
    def test_reschedule_mode_is_refused_before_3_3(self, gate):
        with pytest.raises(ValueError, match=r"on Airflow before 3\.3"):
            gate(
                notifiers=TallyfyCommentNotifier(task_id="t", content="c"), remind_every=60, mode="reschedule"
            )

    def test_trigger_gets_rendered_notifiers_as_json(self, polls, gate, context, clock):
        notifier = TallyfyCommentNotifier(
            task_id="{{ tallyfy.task_id }}", content="{{ 'Again: ' if tallyfy.reminder }}Decide"
        )
        with pytest.raises(TaskDeferred) as deferral:
            gate(notifiers=notifier, deferrable=True, remind_every=60, max_reminders=3).execute(context)
        path, arguments = deferral.value.trigger.serialize()
        assert path == "airflow_provider_tallyfy.triggers.reminding.TallyfyRemindingTaskTrigger"
        assert json.loads(json.dumps(arguments))["reminders"] == {
            "notifiers": [
                {
                    "class": "airflow_provider_tallyfy.notifications.tallyfy.TallyfyCommentNotifier",
                    "arguments": {
                        "task_id": "t1",
                        "content": "Again: Decide",
                        "state": "open",
                        "tallyfy_conn_id": "tallyfy_default",
                    },
                }
            ],
            "began_at": 1_000_000.0,
            "every": 60.0,
            "at_most": 3,
            "subject": {
                "run_id": "r1",
                "task": "approve",
                "task_id": "t1",
                "title": "Approve",
                "deadline": None,
                "url": URL,
            },
        }

    def test_gate_whose_decision_was_taken_back_keeps_its_reminders(self, polls, gate, context, calls, clock):
        arguments = {
            "notifiers": Recorder("{{ tallyfy.reminder }}"),
            "remind_every": 60,
            "deferrable": True,
        }
        with pytest.raises(TaskDeferred) as first:
            gate(**arguments).execute(context)
        clock.now += 90
        event = {"event": {"outcome": "met", "result": DONE}}
        with pytest.raises(TaskDeferred) as second:
            gate(**arguments).resume_execution("execute_complete", event, context)
        if AIRFLOW_V_3_3_PLUS:
            assert second.value.trigger.reminders == first.value.trigger.reminders
        assert second.value.trigger.reminders["notifiers"]
        assert calls == ["0"]

    def test_odd_title_is_sanitized_for_the_trigger(self, polls, gate, context, clock):
        polls(OPEN | {"title": "a\0b \ud83d", "deadline": 2**70})
        notifier = TallyfyCommentNotifier(task_id="t1", content="{{ tallyfy.title }}")
        with pytest.raises(TaskDeferred) as deferral:
            gate(notifiers=notifier, deferrable=True, remind_every=60).execute(context)
        reminders = deferral.value.trigger.reminders
        assert (reminders["subject"]["title"], reminders["subject"]["deadline"]) == ("a?b ?", str(2**70))
        assert reminders["notifiers"][0]["arguments"]["content"] == "a?b ?"

    def test_template_error_does_not_prevent_the_deferral(self, polls, gate, context, clock):
        notifier = TallyfyCommentNotifier(task_id="t1", content="{{ 1 / 0 }}")
        with pytest.raises(TaskDeferred) as deferral:
            gate(notifiers=notifier, deferrable=True, remind_every=60).execute(context)
        [packed] = deferral.value.trigger.reminders["notifiers"]
        # Airflow's own encoders take no other kinds of text.
        assert {type(each) for each in packed["arguments"].values()} == {str}

    def test_template_error_is_not_logged_since_it_may_hold_a_secret(
        self, polls, gate, context, clock, monkeypatch
    ):
        def secret():
            raise ValueError("token=s3cret")

        lines = []
        log = SimpleNamespace(info=lambda *_: None, warning=lambda text, *values: lines.append(text % values))
        monkeypatch.setattr(TallyfyApprovalOperator, "log", log)
        context["secret"] = secret
        with pytest.raises(TaskDeferred) as deferral:
            gate(notifiers=Recorder("{{ secret() }}"), deferrable=True, remind_every=60).execute(context)
        assert deferral.value.trigger.reminders["notifiers"] == []
        assert lines[-1] == "Recorder sends no reminders (ValueError)"
        assert "s3cret" not in "".join(lines)

    def test_launch_notifier_sends_no_reminders(self, polls, gate, context, clock, monkeypatch):
        launched = []
        monkeypatch.setattr(
            TallyfyLaunchRunNotifier, "notify", lambda self, context: launched.append(self.name)
        )
        notifier = TallyfyLaunchRunNotifier(checklist_id="c1", name="{{ tallyfy.title }}")
        approval = gate(notifiers=notifier, remind_every=60)
        approval.poke(context)
        clock.now += 60
        approval.poke(context)
        assert launched == ["Approve"]
        with pytest.raises(TaskDeferred) as deferral:
            gate(notifiers=notifier, remind_every=60, deferrable=True).execute(context)
        assert deferral.value.trigger.reminders["notifiers"] == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"remind_every": 0}, "above 0"),
            ({"remind_every": -1}, "above 0"),
            ({"remind_every": True}, "above 0"),
            ({"remind_every": float("nan")}, "above 0"),
            ({"remind_every": float("inf")}, "above 0"),
            ({"remind_every": "60"}, "above 0"),
            ({"remind_every": 1, "max_reminders": 0}, "a number from 1 to 1000"),
            ({"remind_every": 1, "max_reminders": "3"}, "a number from 1 to 1000"),
            ({"remind_every": 1, "max_reminders": 1.5}, "a number from 1 to 1000"),
            ({"remind_every": 1, "max_reminders": True}, "a number from 1 to 1000"),
            ({"remind_every": 1, "max_reminders": 1001}, "a number from 1 to 1000"),
            ({"remind_every": 1, "notifiers": None}, "given for remind_every"),
            ({"remind_every": 1, "deferrable": True, "notifiers": print}, "while the task is deferred"),
        ],
    )
    def test_invalid_arguments_are_refused(self, gate, arguments, message):
        with pytest.raises(ValueError, match=message):
            gate(**{"notifiers": Recorder(), **arguments})


class Base(BaseNotifier):
    def __init__(self, channel, retries=3, **kwargs):
        super().__init__(**kwargs)
        self.channel, self.retries = channel, retries


class Derived(Base):
    def __init__(self, text, **kwargs):
        super().__init__(**kwargs)
        self.text = text


class Hiding(BaseNotifier):
    def __init__(self, text):
        super().__init__()
        self._text = text


class TestPacking:
    def test_arguments_of_base_classes_are_packed(self):
        packed = pack_notifier(Derived("Hi", channel="#ops"))
        assert packed["arguments"] == {"text": "Hi", "channel": "#ops", "retries": 3}

    def test_notifier_of_an_airflow_provider(self):
        smtp = pytest.importorskip("airflow.providers.smtp.notifications.smtp")
        packed = pack_notifier(smtp.SmtpNotifier(to="a@example.com", from_email="b@example.com"))
        assert packed["arguments"]["to"] == "a@example.com"
        assert smtp.SmtpNotifier(**packed["arguments"]).from_email == "b@example.com"

    def test_launch_notifier(self):
        arguments = pack_notifier(TallyfyLaunchRunNotifier(checklist_id="c1", name="n"))["arguments"]
        assert TallyfyLaunchRunNotifier(**arguments).checklist_id == "c1"

    def test_notifier_that_cannot_be_made_again_is_refused(self):
        class Local(Derived):
            pass

        for notifier, reason in [
            (Hiding("x"), "no attribute 'text'"),
            (Derived(object(), channel="c"), "not plain JSON"),
            (Local("x", channel="c"), "in a DAG file"),
        ]:
            with pytest.raises(ValueError, match=reason):
                pack_notifier(notifier)
