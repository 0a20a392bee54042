"""The watcher that all waits of a connection share, against the sandbox's real server. Pauses take no time."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import threading
from contextlib import suppress

import pytest

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger
from airflow_provider_tallyfy.waiting import evidence, watcher
from airflow_provider_tallyfy.waiting.evidence import CONFIRMATION_SECONDS, DENIED_AFTER_SECONDS
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.scheduler.scheduler import MAX_STALENESS, PollScheduler
from airflow_provider_tallyfy.waiting.scheduler.waits import PollSchedule
from tests.integration.moved_clock import settle
from tests.support.sandbox_controls import ControlledSandbox

LONGEST = 60.0
INTERVAL = 10.0


class Environment(ControlledSandbox):
    """A sandbox, and the connections to it."""

    def __init__(self, server, monkeypatch):
        super().__init__(server)
        self._monkeypatch = monkeypatch
        self.connect()

    def connect(self, conn_id="tallyfy_default", password="sandbox-token"):  # noqa: S107
        settings = {
            "conn_type": "tallyfy",
            "host": self.server.base_url,
            "login": "sandbox",
            "password": password,
            "extra": {"requests_per_hour": 0},
        }
        self._monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(settings))

    def baseline(self, run_id):
        return self.people.next_task(run_id)["id"]


class MovedClock:
    """A clock that jumps to the end of each pause, but not beyond what the test allows."""

    def __init__(self):
        self._now = 1000.0
        self._stop_at = 1000.0
        self._may_go_on = asyncio.Event()
        self._has_stopped = asyncio.Event()

    def now(self):
        return self._now

    async def wait(self, event, until):
        for _ in range(20):
            if event.is_set():
                return
            await settle()
        while until > self._stop_at:
            self._now = max(self._now, self._stop_at)
            self._has_stopped.set()
            self._may_go_on.clear()
            waits = [asyncio.ensure_future(self._may_go_on.wait()), asyncio.ensure_future(event.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if event.is_set():
                return
        self._now = max(self._now, until)

    def may_go_on(self, seconds):
        """Let time pass, and all that is to be done meanwhile."""
        self._stop_at += seconds
        self._has_stopped.clear()
        self._may_go_on.set()

    @property
    def has_stopped(self):
        return self._has_stopped.is_set()


class Time:
    """The clocks of all watchers, of which each keeps its own."""

    def __init__(self):
        self._clocks = []

    def new_clock(self):
        self._clocks.append(MovedClock())
        return self._clocks[-1]

    async def advance(self, seconds):
        for _ in range(3):  # for waits that were just started to come
            await settle()
        for clock in self._clocks:
            clock.may_go_on(seconds)
        # After its last wait a watcher is not left to keep its time.
        watchers = watcher._watchers.get(asyncio.get_running_loop(), {})
        while not all(each.clock.has_stopped for each in watchers.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await settle()

    async def advance_until(self, is_reached, at_most=10 * CONFIRMATION_SECONDS):
        """Let time pass until a state is reached."""
        for _ in range(int(at_most)):
            if is_reached():
                return
            await self.advance(1)
        raise AssertionError(f"not reached in {at_most} seconds")


class Triggerer:
    """Runs triggers as the triggerer does: each in a task with a context of its own."""

    def __init__(self):
        self.tasks = {}
        self.events = {}

    def start(self, run_id, *, from_task_id, name=None, **arguments):
        arguments = {"tallyfy_conn_id": "tallyfy_default", "poke_interval": INTERVAL, **arguments}
        trigger = TallyfyNextTaskTrigger(run_id=run_id, from_task=from_task_id, **arguments)
        name = name or run_id
        self.tasks[name] = asyncio.create_task(self._run(name, trigger), context=contextvars.copy_context())

    async def _run(self, name, trigger):
        WAIT.set(name)
        async for event in trigger.run():
            self.events.setdefault(name, []).append(event.payload)

    async def cancel(self, name):
        self.tasks[name].cancel()
        with suppress(asyncio.CancelledError):
            await self.tasks.pop(name)

    async def stop(self):
        for name in list(self.tasks):
            await self.cancel(name)


WAIT: contextvars.ContextVar[str] = contextvars.ContextVar("WAIT", default="watcher")


class Logs(logging.Handler):
    """Keeps each line and the wait in whose context it was written."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append((WAIT.get(), record.getMessage()))


@pytest.fixture
def logs(monkeypatch):
    handler = Logs()
    logger = logging.getLogger("trigger")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    monkeypatch.setattr(TallyfyNextTaskTrigger, "log", logger)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def tallyfy(server, monkeypatch):
    server.reset()
    return Environment(server, monkeypatch)


@pytest.fixture
def run_in_triggerer(monkeypatch, logs):
    """Run a coroutine with a triggerer and a clock."""

    def run_in_triggerer(scenario):
        async def timed_scenario():
            time, triggerer = Time(), Triggerer()
            monkeypatch.setattr(watcher, "Clock", time.new_clock)
            try:
                await scenario(triggerer, time)
            finally:
                await triggerer.stop()

        asyncio.run(asyncio.wait_for(timed_scenario(), LONGEST))

    return run_in_triggerer


async def many(tallyfy, triggerer, clock, count=400, **arguments):
    """Begin so many waits that the feed is followed, and let each be polled once."""
    ids = await asyncio.to_thread(tallyfy.launch, count)
    baselines = {run_id: tallyfy.server.store.runs[run_id] for run_id in ids}
    for run_id, run in baselines.items():
        first = min((task for task in run.visible_tasks if task.is_pending), key=lambda task: task.deadline)
        triggerer.start(run_id, from_task_id=first.id, **arguments)
    await clock.advance(5)
    return ids


def complete(tallyfy, run_id):
    return asyncio.to_thread(tallyfy.people.complete_next, run_id)


def test_many_waits_take_one_request_a_poll_and_one_a_change(tallyfy, run_in_triggerer):
    async def scenario(triggerer, clock):
        ids = await many(tallyfy, triggerer, clock)
        assert tallyfy.requests_since_last_call() == {"activity-feeds": 1, "runs": 4}
        changed = ids[::100]
        for run_id in changed:
            await complete(tallyfy, run_id)
        tallyfy.requests_since_last_call()
        await clock.advance(3 * INTERVAL)
        # Each change is confirmed by the tasks of the run, in the same request.
        assert tallyfy.requests_since_last_call() == {"activity-feeds": 3, "runs/{id}": len(changed)}
        assert {name: len(events) for name, events in triggerer.events.items()} == dict.fromkeys(changed, 1)

    run_in_triggerer(scenario)


def test_a_change_that_the_feed_hides_is_seen_within_the_bound(tallyfy, run_in_triggerer):
    async def scenario(triggerer, clock):
        ids = await many(tallyfy, triggerer, clock)
        tallyfy.control("POST", "activity", missing=["completed", "started", "updated"])
        await complete(tallyfy, ids[7])
        await clock.advance(MAX_STALENESS - 10)
        assert triggerer.events == {}
        await clock.advance(20)
        assert list(triggerer.events) == [ids[7]]

    run_in_triggerer(scenario)


def test_a_light_member_s_waits_go_on_without_the_feed(tallyfy, run_in_triggerer, caplog):
    caplog.set_level(logging.WARNING)

    async def scenario(triggerer, clock):
        light = next(member for member in tallyfy.server.store.members.values() if member.role == "Light")
        tallyfy.control("POST", "tokens", token="light-token", user_id=light.id)
        ids = tallyfy.launch(5)
        for run_id in ids:
            tallyfy.server.change(
                lambda store, run_id=run_id: setattr(store.runs[run_id], "users", (light.id,))
            )
        tallyfy.connect(password="light-token")
        for run_id in ids:
            triggerer.start(run_id, from_task_id=tallyfy.baseline(run_id))
        await clock.advance(5)
        await complete(tallyfy, ids[0])
        await clock.advance(INTERVAL)
        assert list(triggerer.events) == [ids[0]]
        assert caplog.text.count("activity feed is not used") == 1

    run_in_triggerer(scenario)


def test_runs_that_leave_the_list_are_read_by_themselves(tallyfy, run_in_triggerer):
    async def scenario(triggerer, clock):
        ids = await many(tallyfy, triggerer, clock)
        await asyncio.to_thread(tallyfy.people.archive, ids[0])
        for run_id in ids[1:3]:
            await asyncio.to_thread(tallyfy.people.archive, run_id)
            await asyncio.to_thread(tallyfy.people.delete, run_id)
        await clock.advance(INTERVAL + MAX_STALENESS)
        outcomes = {name: event["outcome"] for name, (event,) in triggerer.events.items()}
        assert outcomes == dict.fromkeys(ids[:3], "unreachable")

    run_in_triggerer(scenario)


def test_a_429_pauses_all_waits(tallyfy, run_in_triggerer, logs):
    async def scenario(triggerer, clock):
        ids = await many(tallyfy, triggerer, clock)
        tallyfy.fault(
            path="organizations", action="status", status=429, headers={"Retry-After": "120"}, times=None
        )
        tallyfy.requests_since_last_call()
        await clock.advance(INTERVAL + 110)
        # The activity feed, and a run, to find out whether only the feed fails.
        assert sum(tallyfy.requests_since_last_call().values()) == 2
        tallyfy.remove_faults()
        paused = {wait for wait, line in logs.lines if "will poll again" in line}
        assert paused == set(ids)
        await complete(tallyfy, ids[3])
        await clock.advance(2 * INTERVAL)
        assert list(triggerer.events) == [ids[3]]

    run_in_triggerer(scenario)


def test_a_rotated_token_is_used_by_all_waits(tallyfy, run_in_triggerer):
    async def scenario(triggerer, clock):
        ids = await many(tallyfy, triggerer, clock)
        tallyfy.control("POST", "tokens", token="next-token", user_id=1002)
        tallyfy.control("DELETE", "tokens", token="sandbox-token")
        tallyfy.people.use("next-token")
        tallyfy.connect(password="next-token")
        await complete(tallyfy, ids[3])
        await clock.advance(2 * INTERVAL)
        assert list(triggerer.events) == [ids[3]]

    run_in_triggerer(scenario)


def test_a_connection_that_works_is_read_once_an_hour(tallyfy, run_in_triggerer, monkeypatch):
    async def scenario(triggerer, clock):
        reads = []
        read = TallyfyHook.get_connection
        monkeypatch.setattr(
            TallyfyHook,
            "get_connection",
            staticmethod(lambda conn_id: reads.append(conn_id) or read(conn_id)),
        )
        await many(tallyfy, triggerer, clock, 1, poke_interval=60)
        for _ in range(10):
            await clock.advance(watcher.MAX_CONNECTION_AGE / 20)
        assert len(reads) == 1
        tallyfy.control("POST", "tokens", token="next-token", user_id=1002)
        tallyfy.connect(password="next-token")  # the old one is still good
        await clock.advance(watcher.MAX_CONNECTION_AGE / 2 + 60)
        assert len(reads) == 2
        tallyfy.control("DELETE", "tokens", token="sandbox-token")
        await clock.advance(INTERVAL)
        assert len(reads) == 2

    run_in_triggerer(scenario)


def test_a_token_that_stays_refused_ends_all_waits(tallyfy, run_in_triggerer):
    async def scenario(triggerer, clock):
        ids = await many(tallyfy, triggerer, clock, 10)
        tallyfy.control("DELETE", "tokens", token="sandbox-token")
        await clock.advance(INTERVAL + 3 * DENIED_AFTER_SECONDS)
        assert set(triggerer.events) == set(ids)
        assert {event["outcome"] for (event,) in triggerer.events.values()} == {"denied"}

    run_in_triggerer(scenario)


@pytest.mark.parametrize(("password", "times"), [("sandbox-token", 0), ("next-token", 1)])
def test_the_scheduler_forgets_if_the_connection_was_changed(
    tallyfy, run_in_triggerer, monkeypatch, password, times
):
    forgotten = []
    forget = PollScheduler.forget
    monkeypatch.setattr(
        PollScheduler, "forget", lambda scheduler: forgotten.append(scheduler) or forget(scheduler)
    )

    async def scenario(triggerer, clock):
        await many(tallyfy, triggerer, clock, 1, poke_interval=60)
        tallyfy.control("POST", "tokens", token="next-token", user_id=1002)
        tallyfy.connect(password=password)
        await clock.advance(watcher.MAX_CONNECTION_AGE + 60)

    run_in_triggerer(scenario)
    assert len(forgotten) == times


def test_the_last_wait_closes_the_connection(tallyfy, run_in_triggerer, monkeypatch):
    is_closed = threading.Event()
    reset = watcher.ReloadingHook.reset
    monkeypatch.setattr(watcher.ReloadingHook, "reset", lambda reader: (reset(reader), is_closed.set()))

    async def scenario(triggerer, clock):
        (run_id,) = await many(tallyfy, triggerer, clock, 1)
        is_closed.clear()
        await triggerer.cancel(run_id)

    run_in_triggerer(scenario)
    assert is_closed.wait(LONGEST)


def test_metrics_of_requests_polls_and_completions(tallyfy, run_in_triggerer, recorded_metrics):
    async def scenario(triggerer, clock):
        ids = await many(tallyfy, triggerer, clock, 10)
        assert active_waits(recorded_metrics)[-1] == 10
        assert recorded_metrics.counts("tallyfy.polls") == {"succeeded": 10}
        assert recorded_metrics.counts("tallyfy.requests") == {
            "ok": sum(tallyfy.requests_since_last_call().values())
        }
        for _ in range(3):
            await complete(tallyfy, ids[0])
        await clock.advance(INTERVAL)
        assert recorded_metrics.counts("tallyfy.completions") == {"met": 1}
        tallyfy.fault(path="organizations", action="status", status=503, times=3)
        await clock.advance(INTERVAL)
        assert recorded_metrics.counts("tallyfy.polls")["failed"] >= 1
        assert recorded_metrics.counts("tallyfy.requests")["server_error"] == 3
        assert active_waits(recorded_metrics)[-1] == 9

    run_in_triggerer(scenario)
    assert active_waits(recorded_metrics)[-1] == 0
    ((milliseconds, tags),) = recorded_metrics.of("tallyfy.detection_latency")
    assert tags == {"conn_id": "tallyfy_default"}
    assert milliseconds >= 0


def test_active_waits_are_recorded_with_each_request_and_at_the_end(
    tallyfy, run_in_triggerer, recorded_metrics
):
    async def scenario(triggerer, clock):
        await many(tallyfy, triggerer, clock, 400)
        assert active_waits(recorded_metrics) == [400] * 5  # a page of the feed, and four of the list
        await clock.advance(INTERVAL)
        assert active_waits(recorded_metrics) == [400] * 6

    run_in_triggerer(scenario)
    assert active_waits(recorded_metrics) == [400] * 6 + [0]


def active_waits(recorded_metrics):
    """The values of the gauge, in order."""
    return [int(value) for value, _ in recorded_metrics.of("tallyfy.active_waits")]


def test_connections_do_not_share_what_only_one_may_see(tallyfy, run_in_triggerer):
    async def scenario(triggerer, clock):
        (run_id,) = tallyfy.launch(1)
        tallyfy.control("POST", "tokens", token="others-token", user_id=1002)
        tallyfy.connect("tallyfy_other", "others-token")
        for conn_id in ("tallyfy_default", "tallyfy_other"):
            triggerer.start(
                run_id, from_task_id=tallyfy.baseline(run_id), tallyfy_conn_id=conn_id, name=conn_id
            )
        tallyfy.requests_since_last_call()
        await clock.advance(1)
        assert tallyfy.requests_since_last_call() == {"runs/{id}": 2}

    run_in_triggerer(scenario)


def test_a_connection_that_hangs_delays_no_other(tallyfy, run_in_triggerer, monkeypatch):
    async def scenario(triggerer, clock):
        (run_id,) = tallyfy.launch(1)
        completed_id = tallyfy.baseline(run_id)
        await complete(tallyfy, run_id)
        tallyfy.connect("tallyfy_other")
        may_answer = threading.Event()
        get_run = TallyfyHook.get_run

        def hangs(hook, run_id, **options):
            if hook.tallyfy_conn_id == "tallyfy_default":
                assert may_answer.wait(LONGEST)
            return get_run(hook, run_id, **options)

        monkeypatch.setattr(TallyfyHook, "get_run", hangs)
        for conn_id in ("tallyfy_default", "tallyfy_other"):
            triggerer.start(run_id, from_task_id=completed_id, tallyfy_conn_id=conn_id, name=conn_id)
        advancing = asyncio.ensure_future(clock.advance_until(lambda: triggerer.events))
        while not triggerer.events:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert list(triggerer.events) == ["tallyfy_other"]
        may_answer.set()
        await advancing

    run_in_triggerer(scenario)


def test_two_triggerers_with_the_same_waits(tallyfy, monkeypatch, logs):
    """Each has an event loop of its own, as two processes do. Both fire, and Airflow takes the first event."""
    ids = tallyfy.launch(5)
    monkeypatch.setattr(watcher, "STARTUP_PAUSE", 0.0)
    monkeypatch.setattr(evidence, "CONFIRMATION_SECONDS", 0.0)
    events = []

    def run_triggerer():
        async def scenario():
            triggerer = Triggerer()
            for run_id in ids:
                triggerer.start(run_id, from_task_id="an-earlier-task")
            await asyncio.wait_for(asyncio.gather(*triggerer.tasks.values()), LONGEST)
            events.append(triggerer.events)

        asyncio.run(scenario())

    threads = [threading.Thread(target=run_triggerer) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST)
    assert len(events) == 2
    assert events[0] == events[1]


def test_waits_with_and_without_a_target_share_one_watcher(tallyfy, run_in_triggerer, recorded_metrics):
    """Some know their API and organization, and some do not; there is one watcher for all of them."""

    async def scenario(triggerer, clock):
        ids = tallyfy.launch(3)

        def start(run_id, **target):
            triggerer.start(run_id, from_task_id=tallyfy.baseline(run_id), **target)

        known = {"api_url": tallyfy.server.base_url, "organization": "sandbox"}
        start(ids[0])
        start(ids[1], **known)
        await clock.advance(1)
        assert max(active_waits(recorded_metrics)) == 2
        tallyfy.fault(
            path="organizations", action="status", status=429, headers={"Retry-After": "300"}, times=None
        )
        tallyfy.requests_since_last_call()
        await clock.advance(INTERVAL)
        assert sum(tallyfy.requests_since_last_call().values()) == 1
        tallyfy.remove_faults()
        for run_id in ids[:2]:
            await triggerer.cancel(run_id)
        tallyfy.requests_since_last_call()
        start(ids[2], **known)
        await clock.advance(INTERVAL)
        assert not tallyfy.requests_since_last_call()
        await clock.advance(600)
        assert tallyfy.requests_since_last_call()
        assert not triggerer.events

    run_in_triggerer(scenario)


@pytest.mark.parametrize("elsewhere", [{"api_url": "https://staging.test/api"}, {"organization": "other"}])
def test_a_wait_with_another_target_ends_and_affects_no_other(tallyfy, run_in_triggerer, elsewhere):
    """In an Airflow of many teams, a triggerer may have another connection of the same id than the worker had."""

    async def scenario(triggerer, clock):
        here, there = tallyfy.launch(2)
        known = {"api_url": tallyfy.server.base_url, "organization": "sandbox"}
        triggerer.start(here, from_task_id=tallyfy.baseline(here))
        triggerer.start(there, from_task_id=tallyfy.baseline(there), **(known | elsewhere))
        await clock.advance(3 * INTERVAL)
        ((event,),) = triggerer.events.values()
        assert list(triggerer.events) == [there]
        assert (event["outcome"], event["error"]) == ("denied", "TallyfyConfigurationError")
        await complete(tallyfy, here)
        await clock.advance(INTERVAL)
        assert set(triggerer.events) == {here, there}

    run_in_triggerer(scenario)


def test_the_watcher_ends_with_the_last_wait(tallyfy, run_in_triggerer):
    async def scenario(triggerer, clock):
        ids = await many(tallyfy, triggerer, clock, 3)
        assert [task.get_name() for task in asyncio.all_tasks()].count(
            "tallyfy watcher of tallyfy_default"
        ) == 1
        for run_id in ids:
            await triggerer.cancel(run_id)
        await asyncio.sleep(0)
        assert watcher._watchers[asyncio.get_running_loop()] == {}
        assert "tallyfy watcher of tallyfy_default" not in [task.get_name() for task in asyncio.all_tasks()]
        triggerer.start(ids[0], from_task_id="an-earlier-task")
        await clock.advance_until(lambda: triggerer.events)
        assert list(triggerer.events) == [ids[0]]

    run_in_triggerer(scenario)


def test_watchers_that_ended_leave_no_threads(tallyfy, monkeypatch):
    """A triggerer runs for months, and a watcher may come and go with each wait."""
    monkeypatch.setattr(watcher, "STARTUP_PAUSE", 0.0)

    def threads():
        return {thread for thread in threading.enumerate() if thread.name == "tallyfy-watcher"}

    before, run_id = threads(), tallyfy.launch(1)[0]

    async def scenario():
        for _ in range(10):
            with watcher.subscribe(
                "tallyfy_default", run_id, NextTaskCondition(), PollSchedule(60)
            ) as subscription:
                await asyncio.wait_for(subscription.next_result(), LONGEST)

    asyncio.run(scenario())
    begun = threads() - before
    for thread in begun:
        thread.join(1.0)
    assert not threads() - before


def test_a_wait_that_is_cancelled_during_a_poll_affects_no_other(tallyfy, run_in_triggerer, monkeypatch):
    async def scenario(triggerer, clock):
        first, second = tallyfy.launch(2)
        is_asked, may_answer = threading.Event(), threading.Event()
        get_run = TallyfyHook.get_run

        def slowly(hook, run_id, **options):
            is_asked.set()
            assert may_answer.wait(LONGEST)
            return get_run(hook, run_id, **options)

        monkeypatch.setattr(TallyfyHook, "get_run", slowly)
        for run_id in (first, second):
            triggerer.start(run_id, from_task_id="an-earlier-task")
        advancing = asyncio.ensure_future(clock.advance_until(lambda: triggerer.events))
        await asyncio.to_thread(is_asked.wait, LONGEST)
        await triggerer.cancel(first)
        may_answer.set()
        await advancing
        assert list(triggerer.events) == [second]

    run_in_triggerer(scenario)


def test_each_wait_writes_into_its_own_log(tallyfy, run_in_triggerer, logs):
    async def scenario(triggerer, clock):
        await many(tallyfy, triggerer, clock, 10)
        await clock.advance(2 * INTERVAL)
        lines = [(wait, line) for wait, line in logs.lines if " tasks are done; " in line]
        assert len(lines) == 10
        assert all(wait in line for wait, line in lines)

    run_in_triggerer(scenario)


def test_the_watcher_writes_into_no_wait_s_log(tallyfy, run_in_triggerer, logs):
    """It lives longer than the wait that it was started for."""

    async def scenario(triggerer, clock):
        get_run = TallyfyHook.get_run

        def with_a_line(hook, run_id, **options):
            logging.getLogger("trigger").info("a line of the watcher's")
            return get_run(hook, run_id, **options)

        TallyfyHook.get_run = with_a_line
        try:
            WAIT.set("a wait")
            await many(tallyfy, triggerer, clock, 2)
        finally:
            TallyfyHook.get_run = get_run
        assert {wait for wait, line in logs.lines if line == "a line of the watcher's"} == {"watcher"}

    run_in_triggerer(scenario)


def test_an_exception_in_the_watcher_loses_no_wait(tallyfy, run_in_triggerer, monkeypatch, caplog):
    async def scenario(triggerer, clock):
        ids = await many(tallyfy, triggerer, clock, 3)
        handle_response = PollScheduler.handle_response

        def fails(*arguments):
            monkeypatch.setattr(PollScheduler, "handle_response", handle_response)
            raise ZeroDivisionError

        monkeypatch.setattr(PollScheduler, "handle_response", fails)
        await complete(tallyfy, ids[0])
        await clock.advance(3 * INTERVAL)
        assert list(triggerer.events) == [ids[0]]
        assert "ZeroDivisionError" in caplog.text

    run_in_triggerer(scenario)


def test_an_exception_for_one_run_affects_no_other(tallyfy, run_in_triggerer, monkeypatch, caplog):
    async def scenario(triggerer, clock):
        odd, other = tallyfy.launch(2)
        get_run = TallyfyHook.get_run

        def fails(hook, run_id, **options):
            if run_id == odd:
                raise ZeroDivisionError
            return get_run(hook, run_id, **options)

        monkeypatch.setattr(TallyfyHook, "get_run", fails)
        for run_id in (odd, other):
            triggerer.start(run_id, from_task_id="an-earlier-task")
        await clock.advance_until(lambda: triggerer.events)
        assert list(triggerer.events) == [other]
        assert "ZeroDivisionError" in caplog.text

    run_in_triggerer(scenario)


def test_an_idle_wait_holds_no_result(tallyfy, monkeypatch):
    monkeypatch.setattr(watcher, "STARTUP_PAUSE", 0.0)

    async def first_result():
        condition = NextTaskCondition("x")
        with watcher.subscribe(
            "tallyfy_default", tallyfy.launch(1)[0], condition, PollSchedule(60)
        ) as subscription:
            await subscription.next_result()
            return subscription._results, subscription._arrival

    assert asyncio.run(first_result()) == (None, None)
