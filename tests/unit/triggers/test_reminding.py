"""Reminders of a gate while it is deferred."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import BaseNotifier
from airflow.triggers.base import TriggerEvent

from airflow_provider_tallyfy.triggers import reminding
from airflow_provider_tallyfy.triggers.reminding import TallyfyRemindingTaskTrigger
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyTaskTrigger

CALLS: list[tuple[str, int]] = []


class Blocking(BaseNotifier):
    def __init__(self, text):
        super().__init__()
        self.text = text

    def notify(self, context):
        CALLS.append((self.text, context["tallyfy"]["reminder"]))
        if self.text == "fails":
            raise RuntimeError("token=s3cret")


class Async(Blocking):
    async def async_notify(self, context):
        self.notify(context)


def packed(text, kind=Blocking):
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "arguments": {"text": text}}


NOW = 1_000_000.0


@pytest.fixture(autouse=True)
def _no_calls(monkeypatch):
    """No calls yet, and a clock that a pause moves on."""
    CALLS.clear()
    now = NOW

    async def sleep(seconds):
        nonlocal now
        now += seconds
        await asyncio.sleep(0.001)

    monkeypatch.setattr(reminding, "time", SimpleNamespace(time=lambda: now))
    monkeypatch.setattr(reminding, "asyncio", SimpleNamespace(create_task=asyncio.create_task, sleep=sleep))


def trigger(*notifiers, began_at=NOW, at_most=3):
    reminders = {
        "notifiers": list(notifiers),
        "began_at": began_at,
        "every": 100.0,
        "at_most": at_most,
        "subject": {"run_id": "r1", "task": "approve", "url": None},
    }
    return TallyfyRemindingTaskTrigger(
        tallyfy_conn_id="c", run_id="r1", task_name="approve", poke_interval=60, reminders=reminders
    )


@pytest.fixture
def fire(monkeypatch):
    """Run a trigger, whose wait is over when there were so many calls."""

    def run(trigger, calls):
        async def event(_self):
            async with asyncio.timeout(30):
                while len(CALLS) < calls:  # noqa: ASYNC110 - notifiers may come from other threads
                    await asyncio.sleep(0.001)
            return TriggerEvent("over")

        monkeypatch.setattr(TallyfyTaskTrigger, "_event", event)

        async def first():
            found = [each async for each in trigger.run()]
            await asyncio.sleep(0.05)  # in which nothing more may come
            return found

        return asyncio.run(first())

    return run


def test_reminders_are_sent_until_the_wait_ends(fire):
    assert len(fire(trigger(packed("a"), packed("b", Async), at_most=1_000_000), 4)) == 1
    assert CALLS[:4] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert len(CALLS) < 500


def test_at_most(fire):
    fire(trigger(packed("a"), at_most=2), 2)
    assert CALLS == [("a", 1), ("a", 2)]


def test_a_notifier_that_fails_does_not_stop_the_others(fire):
    gone = {"class": "no.such.module.Notifier", "arguments": {}}
    fire(trigger(packed("fails"), gone, packed("a"), at_most=1), 2)
    assert CALLS == [("fails", 1), ("a", 1)]


def test_a_restart_repeats_no_reminder(fire):
    """The trigger is made again from its arguments, 2.5 intervals after the wait began."""
    path, arguments = trigger(packed("a"), began_at=NOW - 250).serialize()
    assert path == "airflow_provider_tallyfy.triggers.reminding.TallyfyRemindingTaskTrigger"
    fire(TallyfyRemindingTaskTrigger(**arguments), 1)
    assert CALLS == [("a", 3)]


def test_a_trigger_without_reminders(fire):
    silent = TallyfyRemindingTaskTrigger(
        tallyfy_conn_id="c", run_id="r1", task_name="approve", poke_interval=60
    )
    assert len(fire(silent, 0)) == 1
