"""A task does not run again before Airflow has noticed that its worker ended, and no later than that."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.exceptions import AirflowRescheduleException

from airflow_provider_tallyfy.sensors.tallyfy import TallyfyRunSensor
from airflow_provider_tallyfy.triggers import tallyfy as triggers_module
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger, TallyfyRunTrigger
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_0_PLUS, deferral_hold
from airflow_provider_tallyfy.waiting.outcomes import Met, Unreachable
from airflow_provider_tallyfy.waiting.worker import time_left

BEGINNING = 1_800_000_000.0
HOLD = 10.0 if AIRFLOW_V_3_0_PLUS else 5.0


@pytest.fixture
def clock(monkeypatch):
    """A wall clock that only the trigger's own pauses move."""
    clock = SimpleNamespace(now=BEGINNING)

    async def sleep(seconds):
        clock.now += seconds

    monkeypatch.setattr(triggers_module, "time", SimpleNamespace(time=lambda: clock.now))
    # Only there: the sandbox's server may run in another thread.
    monkeypatch.setattr(triggers_module, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
    return clock


@pytest.fixture
def fired_after(monkeypatch, clock):
    """Return how many seconds after its start a trigger fires whose condition is met after ``polling`` seconds."""

    def run(trigger, *, polling=0.0, outcome=None, trigger_id=1):
        async def waited(*_):
            clock.now += polling
            return outcome or Met({"id": "r1"})

        async def first_event():
            return await anext(trigger.run())

        monkeypatch.setattr(type(trigger), "_wait", waited)
        trigger.trigger_id = trigger_id
        began = clock.now
        asyncio.run(first_event())
        return clock.now - began

    return run


def trigger(kind=TallyfyRunTrigger, **arguments):
    goal = {"from_task": "a"} if kind is TallyfyNextTaskTrigger else {"target_statuses": ["complete"]}
    return kind(tallyfy_conn_id="tallyfy_default", run_id="r1", poke_interval=60, **goal, **arguments)


@pytest.mark.parametrize(
    ("deferred_at", "polling", "seconds"),
    [
        pytest.param(BEGINNING, 0, HOLD, id="at once"),
        pytest.param(BEGINNING - 1.5, 0, HOLD - 1.5, id="the triggerer took a while to begin"),
        pytest.param(BEGINNING, 3, HOLD, id="soon"),
        pytest.param(BEGINNING, 60, 60, id="after a poll or more"),
        pytest.param(BEGINNING - 3600, 0, 0, id="in a triggerer that was restarted"),
        pytest.param(BEGINNING + 3600, 0, HOLD, id="the worker's clock is ahead"),
        pytest.param(None, 0, 0, id="begun in the triggerer, or deferred by 0.1.0"),
    ],
)
def test_it_fires_when_airflow_can_resume_the_task(fired_after, deferred_at, polling, seconds):
    assert fired_after(trigger(deferred_at=deferred_at), polling=polling) == pytest.approx(seconds)


@pytest.mark.parametrize("kind", [TallyfyRunTrigger, TallyfyNextTaskTrigger])
def test_every_outcome_is_held(fired_after, kind):
    assert fired_after(trigger(kind, deferred_at=BEGINNING), outcome=Unreachable("It is archived.")) == HOLD


def test_an_invalid_argument_is_held_too(fired_after):
    wait = trigger(deferred_at=BEGINNING)
    wait.run_id = " "
    assert fired_after(wait) == HOLD


def test_dag_test_holds_nothing(fired_after):
    assert fired_after(trigger(deferred_at=BEGINNING), trigger_id=None) == 0


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no such setting")
def test_it_depends_on_min_heartbeat_interval(fired_after, monkeypatch):
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "30")
    assert fired_after(trigger(deferred_at=BEGINNING)) == 35


def test_a_deferral_does_not_time_out_sooner():
    assert time_left(BEGINNING + 2, BEGINNING, at_most=60).total_seconds() == deferral_hold() == HOLD
    assert time_left(BEGINNING + 40, BEGINNING, at_most=60).total_seconds() == 40


@pytest.mark.parametrize(
    ("mode", "poke_interval", "seconds"), [("reschedule", 2, HOLD), ("reschedule", 60, 60), ("poke", 2, 2)]
)
def test_a_reschedule_is_not_sooner(mode, poke_interval, seconds):
    sensor = TallyfyRunSensor(task_id="wait", run_id="r1", mode=mode, poke_interval=poke_interval)
    assert sensor._get_next_poke_interval(BEGINNING, lambda: 0.0, 1) == seconds


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize(("mode", "seconds"), [("reschedule", 600), ("poke", 2)])
def test_a_reschedule_heeds_retry_after(mode, seconds, requests_mock):
    """In poke mode the next poke sends nothing before."""
    run = "https://tallyfy.test/api/organizations/acme/runs/r1"
    requests_mock.get(run, status_code=503, headers={"Retry-After": "600"})
    sensor = TallyfyRunSensor(task_id="wait", run_id="r1", mode=mode, poke_interval=2)
    assert not sensor.poke({})
    assert sensor._get_next_poke_interval(BEGINNING, lambda: 0.0, 1) == seconds


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 reads from its database when the task began")
def test_the_reschedule_date(monkeypatch):
    sensor = TallyfyRunSensor(task_id="wait", run_id="r1", mode="reschedule", poke_interval=2)
    monkeypatch.setattr(TallyfyRunSensor, "poke", lambda *_: False)
    now = datetime.now(UTC)
    instance = SimpleNamespace(get_first_reschedule_date=lambda _: None, task_reschedule_count=0)
    context = {"ti": instance}
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        sensor.execute(context)
    assert HOLD <= (rescheduled.value.reschedule_date - now).total_seconds() < HOLD + 2
