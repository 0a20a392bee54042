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
from airflow_provider_tallyfy.operators import notices
from airflow_provider_tallyfy.operators.notices import pack_notifier
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS

API = "https://tallyfy.test/api/organizations/acme"
OPEN = {"id": "t1", "alias": "approve", "title": "Approve", "status": "active", "task_type": "approval"}
DONE = OPEN | {"status": "completed", "completed_at": "2026-01-04T00:00:00Z", "is_approved": True}


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def time(self):
        return self.now


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
    clock = Clock()
    monkeypatch.setattr(notices, "time", clock)
    return clock


@pytest.fixture
def polls(connection, requests_mock, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)

    def answer(*tasks):
        bodies = [{"data": {"id": "r1", "status": "active", "tasks": {"data": [task]}}} for task in tasks]
        requests_mock.get(f"{API}/runs/r1", [{"json": body} for body in bodies])
        requests_mock.get(f"{API}/runs/r1/tasks", json={"data": tasks[:1]})

    answer(OPEN)
    return answer


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
    def test_a_deferred_gate_calls_them_when_it_begins_to_wait(self, polls, gate, context, calls):
        with pytest.raises(TaskDeferred):
            gate(notifiers=Recorder(), deferrable=True).execute(context)
        assert calls == [f"approve 0 {URL}"]

    def test_not_if_it_was_decided_before(self, polls, gate, context, calls):
        polls(DONE)
        gate(notifiers=[Recorder()], deferrable=True).execute(context)
        assert calls == []

    def test_one_that_polls_in_a_worker_too(self, polls, gate, context, calls):
        polls(OPEN, OPEN, OPEN, DONE)
        gate(notifiers=[Recorder(), Recorder("two")], poke_interval=1).execute(context)
        assert calls == [f"approve 0 {URL}", "two"]

    def test_a_retry_does_not_call_them_again(self, polls, gate, context, calls):
        with pytest.raises(TaskDeferred):
            gate(notifiers=Recorder(), deferrable=True).execute(context)
        context["ti"].try_number = 2
        with pytest.raises(TaskDeferred):
            gate(notifiers=Recorder(), deferrable=True).execute(context)
        assert len(calls) == 1

    def test_nor_does_a_reschedule(self, polls, gate, context, calls, monkeypatch):
        for was_rescheduled in (False, True):
            monkeypatch.setattr(notices, "was_rescheduled", lambda _context, was=was_rescheduled: was)
            assert not gate(notifiers=Recorder(), mode="reschedule").poke(context)
        assert len(calls) == 1

    def test_a_task_that_was_cleared_calls_them_again(self, polls, gate, context, calls):
        for _ in range(2):
            with pytest.raises(TaskDeferred):
                gate(notifiers=Recorder(), deferrable=True).execute(context)
            context["ti"].clear()
        assert len(calls) == 2

    @pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="only Airflow 3.3 keeps it")
    def test_a_retry_calls_them_if_the_first_try_did_not(self, polls, gate, context, calls):
        context["ti"].try_number = 2
        with pytest.raises(TaskDeferred):
            gate(notifiers=Recorder(), deferrable=True).execute(context)
        assert len(calls) == 1

    def test_one_that_fails_does_not_end_the_wait(self, polls, gate, context, calls):
        with pytest.raises(TaskDeferred):
            gate(notifiers=[Recorder(fails=True), Recorder("two")], deferrable=True).execute(context)
        assert calls[-1] == "two"

    def test_they_render_for_each_call(self, polls, gate, context, calls):
        notifier = Recorder()
        for task in ("approve", "Approve"):
            with pytest.raises(TaskDeferred):
                gate(notifiers=notifier, deferrable=True, task=task).execute(context)
        assert [call.split()[0] for call in calls] == ["approve", "Approve"]

    def test_another_function_of_the_context_will_do(self, polls, gate, context):
        seen = []
        with pytest.raises(TaskDeferred):
            gate(notifiers=lambda context: seen.append(context["tallyfy"]["task"]), deferrable=True).execute(
                context
            )
        assert seen == ["approve"]

    def test_a_wait_that_is_to_begin_in_the_triggerer_begins_in_a_worker(self, gate):
        with pytest.warns(UserWarning, match="notifiers are called by a worker"):
            approval = gate(notifiers=Recorder(), deferrable=True, start_from_trigger=True)
        assert approval.start_from_trigger is False

    def test_what_cannot_be_called_is_refused(self, gate):
        with pytest.raises(ValueError, match="notifiers must be"):
            gate(notifiers=["slack"])


class TestReminders:
    def test_in_a_worker_they_come_when_it_is_time_and_end(self, polls, gate, context, calls, clock):
        approval = gate(notifiers=Recorder(), remind_every=60, max_reminders=2)
        for seconds in (0, 30, 29, 1, 60, 60, 600):
            clock.now += seconds
            approval.poke(context)
        assert [call.split()[1] for call in calls] == ["0", "1", "2"]

    def test_one_that_was_missed_is_not_made_up_for(self, polls, gate, context, calls, clock):
        approval = gate(notifiers=Recorder(), remind_every=60)
        approval.poke(context)
        clock.now += 190
        approval.poke(context)
        assert [call.split()[1] for call in calls] == ["0", "3"]

    @pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="only Airflow 3.3 keeps it")
    def test_reschedules_and_retries_go_on_counting(self, polls, gate, context, calls, clock):
        for _ in range(4):
            gate(notifiers=Recorder(), remind_every=60, mode="reschedule").poke(context)
            clock.now += 30
            context["ti"].try_number += 1
        assert [call.split()[1] for call in calls] == ["0", "1"]

    @pytest.mark.skipif(AIRFLOW_V_3_3_PLUS, reason="Airflow 3.3 keeps it")
    def test_before_3_3_reschedules_are_refused(self, gate):
        with pytest.raises(ValueError, match=r"on Airflow before 3\.3"):
            gate(
                notifiers=TallyfyCommentNotifier(task_id="t", content="c"), remind_every=60, mode="reschedule"
            )

    def test_a_trigger_gets_them_rendered_as_plain_json(self, polls, gate, context, clock):
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

    def test_what_cannot_be_rendered_does_not_keep_the_task_from_deferring(self, polls, gate, context, clock):
        notifier = TallyfyCommentNotifier(task_id="t1", content="{{ 1 / 0 }}")
        with pytest.raises(TaskDeferred) as deferral:
            gate(notifiers=notifier, deferrable=True, remind_every=60).execute(context)
        [packed] = deferral.value.trigger.reminders["notifiers"]
        # Airflow's own encoders take no other kinds of text.
        assert {type(each) for each in packed["arguments"].values()} == {str}

    def test_an_error_of_a_template_is_not_logged_since_it_may_hold_a_secret(
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

    def test_a_notifier_that_launches_a_process_does_so_once(self, polls, gate, context, clock, monkeypatch):
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
            ({"remind_every": 1, "max_reminders": 0}, "1 or more"),
            ({"remind_every": 1, "max_reminders": "3"}, "1 or more"),
            ({"remind_every": 1, "max_reminders": 1.5}, "1 or more"),
            ({"remind_every": 1, "notifiers": None}, "there are none"),
            ({"remind_every": 1, "deferrable": True, "notifiers": print}, "while the task is deferred"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, gate, arguments, message):
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
    def test_arguments_of_base_classes_go_along(self):
        packed = pack_notifier(Derived("Hi", channel="#ops"))
        assert packed["arguments"] == {"text": "Hi", "channel": "#ops", "retries": 3}

    def test_one_of_airflows_providers(self):
        smtp = pytest.importorskip("airflow.providers.smtp.notifications.smtp")
        packed = pack_notifier(smtp.SmtpNotifier(to="a@example.com", from_email="b@example.com"))
        assert packed["arguments"]["to"] == "a@example.com"
        assert smtp.SmtpNotifier(**packed["arguments"]).from_email == "b@example.com"

    def test_a_launch_notifier(self):
        arguments = pack_notifier(TallyfyLaunchRunNotifier(checklist_id="c1", name="n"))["arguments"]
        assert TallyfyLaunchRunNotifier(**arguments).checklist_id == "c1"

    def test_what_cannot_be_made_again_is_refused(self):
        class Local(Derived):
            pass

        for notifier, reason in [
            (Hiding("x"), "no attribute 'text'"),
            (Derived(object(), channel="c"), "not plain JSON"),
            (Local("x", channel="c"), "in a DAG file"),
        ]:
            with pytest.raises(ValueError, match=reason):
                pack_notifier(notifier)
