"""Watchers in Airflow's own shared streams, against the sandbox's real server. Pauses take no time."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from math import inf
from types import SimpleNamespace

import pytest

from airflow_provider_tallyfy.events import poller as poller_module
from airflow_provider_tallyfy.events.stream import HOLD, EventStream, PendingEvent
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyEventTrigger
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from dev.sandbox import SandboxClient
from tests.integration.moved_clock import settle
from tests.support.asset_state import AssetStateStore

if not AIRFLOW_V_3_3_PLUS:
    pytest.skip("the state of assets came with Airflow 3.3", allow_module_level=True)

from airflow.triggers.shared_stream import SharedStreamManager

SOON = 60.0
ACTIVITY = r"/activity-feeds"


class Clock:
    """The clock of a poller, whose pauses take no time."""

    def __init__(self):
        self._now = 1000.0
        self.passed = 0.0

    def now(self):
        return self._now

    async def wait(self, event, until):
        await settle()
        if until == inf:
            await event.wait()
        elif not event.is_set() and until > self._now:
            await asyncio.sleep(0.002)
            self.passed += max(until - self._now, 0)
            self._now = max(self._now, until)


class StateStores:
    def __init__(self, *stores):
        self._by_name = dict(enumerate(stores))
        self._by_uri = {}


class Triggerer:
    """Runs watchers as Airflow 3.3 does, with its own shared streams; what it stores is in ``database``."""

    def __init__(self, database):
        self.streams = SharedStreamManager()
        self.database = database
        self.stores_events = True
        self.hangs_in_log = False
        self.unstored = []
        self._tasks = []
        self._ids = count(1)
        self._syncing = asyncio.create_task(self._sync())

    def start(self, name, *stores, **arguments):
        trigger = TallyfyEventTrigger(**arguments)
        trigger.asset_state_store = StateStores(*stores)
        self._tasks.append(asyncio.create_task(self._run(next(self._ids), name, trigger)))

    async def _run(self, trigger_id, name, trigger):
        key = trigger.shared_stream_key()
        stream = self.streams.subscribe(trigger_id=trigger_id, trigger=trigger, key=key)
        try:
            async for event in trigger.filter_shared_stream(stream):
                if self.hangs_in_log:  # Airflow logs an event before it registers it
                    self.unstored.append(event)
                    await asyncio.Event().wait()
                seq = self.streams.bind_pending_event(trigger_id=trigger_id, key=key)
                self.unstored.append((name, event.payload, seq))
        finally:
            await self.streams.unsubscribe(trigger_id, key)

    async def _sync(self):
        while True:
            await asyncio.sleep(0.001)
            if self.stores_events:
                stored, self.unstored = self.unstored, []
                self.database += [(name, payload) for name, payload, _ in stored]
                self.streams.confirm_persisted([seq for _, _, seq in stored])

    async def kill(self):
        """End it; what it has not stored is lost."""
        self._syncing.cancel()
        self.unstored.clear()
        for task in self._tasks:
            task.cancel()
        for task in [*self._tasks, self._syncing]:
            with suppress(asyncio.CancelledError):
                await task

    def check(self):
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()


class Environment:
    """The sandbox with its users, triggerers with watchers, and what they stored."""

    def __init__(self, server):
        self.server = server
        self.users = SandboxClient(server.url)
        self.database = []
        self.triggerers = []
        self.clocks = []

    @property
    def clock(self):
        return self.clocks[-1]

    def new_clock(self):
        self.clocks.append(Clock())
        return self.clock

    def start_triggerer(self):
        self.triggerers.append(Triggerer(self.database))
        return self.triggerers[-1]

    async def watch(self, name="asset", *, store=None, **arguments):
        """Start a watcher in the newest triggerer, wait until it has begun, and return the store of its cursor."""
        store = store or AssetStateStore()
        triggerer = self.triggerers[-1] if self.triggerers else self.start_triggerer()
        triggerer.start(name, store, **arguments)
        await self.until(lambda: store.values)
        return store

    def fault(self, **fault):
        self.users.control("POST", "/faults", [fault])

    def end_faults(self):
        self.users.control("DELETE", "/faults")

    def launch(self, number=1, **body):
        return self.users.control("POST", "/runs", {"count": number, **body})["data"]

    def complete(self, run_id):
        while self.users.next_task(run_id):
            self.users.complete_next(run_id)

    def completed(self):
        """Launch and complete a run, and return its id."""
        [run_id] = self.launch()
        self.complete(run_id)
        return run_id

    def complete_at_once(self, *run_ids):
        """Complete runs within one request of a poller, without its HTTP."""

        def complete(sandbox):
            for run_id in run_ids:
                run = sandbox.runs[run_id]
                for task in run.tasks.values():
                    task.completed_at = sandbox.now()
                run.completed_at = run.last_updated = sandbox.now()
                sandbox.changed(run)

        self.server.change(complete)

    def requests(self):
        """Return how many requests were sent since the last call, by path."""
        routes = self.users.control("GET", "/stats")["routes"]
        self.users.control("DELETE", "/stats")
        return Counter(
            {row["path"].removeprefix("/api/organizations/{organization}/"): row["count"] for row in routes}
        )

    def event_ids(self, name="asset"):
        return [payload["event_id"] for stored_by, payload in self.database if stored_by == name]

    def run_ids(self, name="asset"):
        return [payload["run"]["id"] for stored_by, payload in self.database if stored_by == name]

    async def until(self, condition):
        async with asyncio.timeout(SOON):
            while not condition():
                await asyncio.sleep(0.005)
                for triggerer in self.triggerers:
                    triggerer.check()

    async def pass_time(self, seconds):
        passed = self.clock.passed
        await self.until(lambda: self.clock.passed >= passed + seconds)


@pytest.fixture
def env(sandbox, monkeypatch):
    env = Environment(sandbox)
    monkeypatch.setattr(poller_module, "Clock", env.new_clock)
    # The pauses before a state store that failed is tried again.
    without_pauses = SimpleNamespace(**{**vars(asyncio), "sleep": lambda _: asyncio.sleep(0)})
    monkeypatch.setattr("airflow_provider_tallyfy.triggers.events.asyncio", without_pauses)
    return env


def in_event_loop(test):
    """Run an async test, and end the triggerers that it started."""

    @functools.wraps(test)
    def run(env, **fixtures):
        async def run():
            try:
                await test(env, **fixtures)
            finally:
                for triggerer in env.triggerers:
                    await triggerer.kill()

        asyncio.run(run())

    return run


@in_event_loop
async def test_fires_a_completed_process_once_with_its_payload(env):
    await env.watch()
    run_id = env.completed()
    await env.until(lambda: env.database)
    await env.pass_time(3000)
    [(_, payload)] = env.database
    assert payload["event"] == "process.completed"
    assert payload["organization"] == "sandbox"
    assert payload["run"]["id"] == run_id
    assert payload["run"]["status"] == "complete"
    assert payload["task"] is None
    assert payload["event_id"].startswith(f"process.completed/{run_id}/")
    assert "form_values" not in payload["run"]
    json.dumps(payload, allow_nan=False)


@pytest.mark.parametrize("hours", [0, -2, 2])
@in_event_loop
async def test_events_before_the_first_start_are_not_fired(env, monkeypatch, hours):
    """By Tallyfy's clock, from which that of the triggerer may differ."""
    monkeypatch.setattr(
        poller_module.EventPoller.__init__, "__defaults__", (None, lambda: time.time() + hours * 3600)
    )
    env.server.change(lambda store: store.clock.advance(-60))
    env.completed()
    env.server.change(lambda store: store.clock.advance(60))
    await env.watch()
    run_id = env.completed()
    await env.until(lambda: run_id in env.run_ids())
    await env.pass_time(1000)
    assert env.run_ids() == [run_id]


@in_event_loop
async def test_since_fires_earlier_events(env):
    run_id = env.completed()
    await env.watch(since="2020-01-01")
    await env.until(lambda: run_id in env.run_ids())
    await env.pass_time(1000)
    assert len(env.event_ids()) == len(set(env.event_ids()))


@in_event_loop
async def test_completed_while_no_triggerer_runs(env):
    store = await env.watch()
    first = env.completed()
    await env.until(lambda: env.run_ids() == [first] and store.cursor["seen"])
    await env.triggerers[0].kill()
    second = env.completed()
    env.start_triggerer()
    await env.watch(store=store)
    await env.until(lambda: len(env.event_ids()) == 2)
    await env.pass_time(1000)
    assert env.run_ids() == [first, second]


@in_event_loop
async def test_triggerer_is_killed_before_events_are_stored(env):
    store = await env.watch()
    triggerer = env.triggerers[0]
    triggerer.stores_events = False
    for run_id in env.launch(5):
        env.complete(run_id)
    await env.until(lambda: len(triggerer.unstored) == 5)
    fired = sorted(payload["event_id"] for _, payload, _ in triggerer.unstored)
    await triggerer.kill()
    assert env.event_ids() == []
    env.start_triggerer()
    await env.watch(store=store)
    await env.until(lambda: len(env.event_ids()) == 5)
    await env.pass_time(1000)
    assert sorted(env.event_ids()) == fired


@in_event_loop
async def test_triggerer_is_stopped_while_it_logs_an_event(env):
    store = await env.watch()
    triggerer = env.triggerers[0]
    triggerer.stores_events, triggerer.hangs_in_log = False, True
    run_id = env.completed()
    await env.until(lambda: triggerer.unstored)
    await triggerer.kill()
    env.start_triggerer()
    await env.watch(store=store)
    await env.until(lambda: env.run_ids() == [run_id])


@in_event_loop
async def test_cursor_advances_only_when_events_are_stored(env):
    store = await env.watch()
    await env.pass_time(700)
    triggerer = env.triggerers[0]
    triggerer.stores_events = False
    floor = store.cursor["floor"]
    env.completed()
    await env.until(lambda: triggerer.unstored)
    await env.pass_time(2000)
    assert (store.cursor["seen"], store.cursor["floor"]) == ({}, floor)
    triggerer.stores_events = True
    await env.until(lambda: store.cursor["seen"])


@pytest.mark.parametrize(
    "feed",
    [
        pytest.param({"delay": 10**6}, id="late"),
        pytest.param({"missing": ["completed", "created"]}, id="incomplete"),
        pytest.param(
            {"action": "status", "status": 403, "body": {"message": "Not allowed."}}, id="forbidden"
        ),
        pytest.param({"action": "status", "status": 503}, id="outage"),
        pytest.param({"action": "drop"}, id="hangs up"),
    ],
)
@in_event_loop
async def test_sweep_finds_what_the_feed_does_not_show(env, feed):
    if "action" in feed:
        env.fault(path=ACTIVITY, times=None, **feed)
    else:
        env.users.control("POST", "/activity", feed)
    await env.watch()
    await env.pass_time(100)
    run_id = env.completed()
    completed_at = env.clock.passed
    await env.until(lambda: env.run_ids() == [run_id])
    assert env.clock.passed - completed_at <= 400
    # Later, the feed shows it after all.
    env.end_faults()
    env.users.control("POST", "/activity", {})
    await env.pass_time(4000)
    assert env.run_ids() == [run_id]


@in_event_loop
async def test_more_changes_than_the_feed_can_be_read_back(env):
    await env.watch()
    await env.pass_time(100)
    first = env.completed()
    second, *_ = env.launch(600)
    env.complete(second)
    await env.until(lambda: len(env.event_ids()) == 2)
    assert set(env.run_ids()) == {first, second}


@in_event_loop
async def test_outage_loses_nothing(env):
    await env.watch()
    env.fault(path="/api", action="drop", times=6)
    run_id = env.completed()
    await env.until(lambda: env.run_ids() == [run_id])
    await env.pass_time(1000)
    assert env.run_ids() == [run_id]


@in_event_loop
async def test_run_that_cannot_be_read_delays_no_other(env):
    await env.watch()
    unreadable, second = env.launch(2)
    env.fault(path=f"/runs/{unreadable}", action="drop", times=None)
    env.complete_at_once(unreadable)
    await env.pass_time(1000)
    env.complete_at_once(second)
    await env.until(lambda: env.run_ids() == [second])
    env.end_faults()
    await env.until(lambda: env.run_ids() == [second, unreadable])


@in_event_loop
async def test_watcher_that_cannot_read_a_run_delays_no_other(env, monkeypatch):
    deliver = EventStream.deliver

    def fails(stream, run):
        if stream.wanted.needs_tasks:
            raise OverflowError("date value out of range")
        deliver(stream, run)

    monkeypatch.setattr(EventStream, "deliver", fails)
    await env.watch("tasks", events="task.completed")
    await env.watch()
    run_id = env.completed()
    await env.until(lambda: env.run_ids() == [run_id])
    monkeypatch.setattr(EventStream, "deliver", deliver)
    await env.until(lambda: len(env.run_ids("tasks")) == 3)


@in_event_loop
async def test_two_hundred_completions_in_one_poll(env):
    await env.watch()
    runs = env.launch(200)
    env.complete_at_once(*runs)
    await env.until(lambda: len(env.event_ids()) >= 200)
    await env.pass_time(1000)
    assert Counter(env.run_ids()) == Counter(runs)


@in_event_loop
async def test_two_triggerers_with_the_same_watcher(env):
    store = await env.watch()
    first = env.completed()
    await env.until(lambda: env.run_ids() == [first] and store.cursor["seen"])
    env.start_triggerer()
    await env.watch(store=store)  # reads the cursor that the other one stored
    second = env.completed()
    await env.until(lambda: second in env.run_ids())
    await env.pass_time(1000)
    # Both may fire it at the same moment, but as the same event.
    assert set(env.run_ids()) == {first, second}
    assert env.run_ids().count(first) == 1
    assert len(set(env.event_ids())) == 2
    assert len(store.cursor["seen"]) == 2


@in_event_loop
async def test_many_watchers_share_the_requests(env):
    for number in range(30):
        arguments = {"checklist_id": RELEASE_CHECKLIST_ID} if number % 2 else {}
        await env.watch(f"asset {number}", poke_interval=60 + number, **arguments)
    await env.pass_time(100)
    env.requests()
    passed = env.clock.passed
    await env.pass_time(6000)
    polls = (env.clock.passed - passed) / 60
    requests = env.requests()
    assert requests["activity-feeds"] <= polls + 2
    assert requests["runs"] <= polls  # two lists, every five minutes
    run_id = env.completed()
    await env.until(lambda: len(env.database) == 30)
    assert {payload["run"]["id"] for _, payload in env.database} == {run_id}


@in_event_loop
async def test_filters_by_task_and_decision(env):
    title = "Approve release"
    for decision in (None, "approved", "rejected"):
        await env.watch(str(decision), events="task.completed", task=title, decision=decision)
    approved, rejected = env.launch(2)
    for run_id in (approved, rejected):
        for task in env.users.tasks(run_id):
            if task["title"] == title:
                env.users.complete(env.users.task(run_id, task["id"]), is_approved=run_id == approved)
    await env.until(lambda: len(env.database) == 4)
    await env.pass_time(700)
    assert sorted(env.run_ids("None")) == sorted([approved, rejected])
    assert env.run_ids("approved") == [approved]
    assert env.run_ids("rejected") == [rejected]
    [payload] = [payload for name, payload in env.database if name == "rejected"]
    assert payload["task"]["is_approved"] is False
    assert payload["task"]["completed_by"]["id"]
    assert "form_values" not in payload["task"]


@in_event_loop
async def test_includes_form_values_if_requested(env):
    await env.watch("process", form_values=True)
    await env.watch("task", events="task.completed", form_values=True)
    env.completed()
    await env.until(lambda: len(env.event_ids("task")) == 3 and env.event_ids("process"))
    [of_process] = [payload for name, payload in env.database if name == "process"]
    of_tasks = [payload["task"] for name, payload in env.database if name == "task"]
    values = of_process["run"]["form_values"]
    assert set(values) == {"kickoff", "tasks"}
    by_alias = {task["alias"]: task["form_values"] for task in of_tasks if task["form_values"]}
    assert by_alias == values["tasks"]
    assert "Looks good to me." in json.dumps(values)


@in_event_loop
async def test_fires_reopenings_comments_and_issues(env):
    events = ("task.reopened", "task.comment_added", "task.issue_raised", "task.issue_resolved")
    [run_id] = env.launch()
    env.users.complete_next(run_id)
    done = next(task for task in env.users.tasks(run_id) if task["completed_at"])
    await env.watch(events=events)
    await env.pass_time(400)
    await asyncio.sleep(1.1)  # times are compared to the second
    await asyncio.to_thread(env.users.request, "DELETE", f"/runs/{run_id}/completed-tasks/{done['id']}")
    await env.until(lambda: len(env.database) == 1)
    path = f"/tasks/{done['id']}"
    env.users.request("POST", f"{path}/comment", json={"content": "Hello", "state": "open"})
    await env.until(lambda: len(env.database) == 2)
    issue = env.users.request("POST", f"{path}/problem", json={"content": "Broken"})
    await env.until(lambda: len(env.database) == 3)
    resolution = {"content": "Repaired", "thread_id": issue["id"]}
    env.users.request("POST", f"{path}/resolved-threads", json=resolution)
    await env.until(lambda: len(env.database) == 4)
    await env.pass_time(1000)
    assert [payload["event"] for _, payload in env.database] == [*events]
    assert {payload["task"]["id"] for _, payload in env.database} == {done["id"]}
    assert "Hello" not in json.dumps(env.database)


@in_event_loop
async def test_fires_events_of_archived_processes(env):
    events = ("process.launched", "process.completed", "process.archived")
    await env.watch(events=events)
    env.users.control("POST", "/activity", {"delay": 10**6})
    env.users.archive(env.completed())
    await env.until(lambda: len(env.database) == 3)
    assert [payload["event"] for _, payload in env.database] == [*events]


@in_event_loop
async def test_reads_that_lag_only_delay_an_event(env):
    await env.watch()
    env.users.behave(run_lag=2, list_lag=2)
    run_id = env.completed()
    await env.until(lambda: env.run_ids() == [run_id])
    await env.pass_time(1000)
    assert env.run_ids() == [run_id]


@in_event_loop
async def test_fires_the_last_of_several_events_later(env, monkeypatch):
    """Airflow up to 3.3 gives events that arrive close together to the next DAG run, which only a later one starts."""
    fired_at = []
    next_item = EventStream.next_item

    async def note(stream):
        item = await next_item(stream)
        if isinstance(item, PendingEvent):
            fired_at.append(env.clock.now())
        return item

    # Before the first call, which waits for the first event.
    monkeypatch.setattr(EventStream, "next_item", note)
    await env.watch()
    for run_id in env.launch(3):
        env.complete(run_id)
    await env.until(lambda: len(env.event_ids()) == 3)
    assert fired_at[2] - fired_at[1] >= HOLD


@in_event_loop
async def test_without_a_state_store_it_fires_what_happens_from_now_on(env):
    """As in Airflow 3.0 to 3.2, which has neither shared streams nor asset state stores."""
    fired = []

    async def run():
        async for event in TallyfyEventTrigger().run():
            fired.append(event.payload)  # noqa: PERF401 (one after the other)

    task = asyncio.create_task(run())
    await env.until(lambda: env.clocks and env.clock.passed > 100)
    run_id = env.completed()
    await env.until(lambda: fired)
    await env.pass_time(1000)
    assert [payload["run"]["id"] for payload in fired] == [run_id]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@in_event_loop
async def test_assets_with_the_same_watcher_share_a_trigger_and_its_cursor(env):
    stores = [AssetStateStore(), AssetStateStore()]
    triggerer = env.start_triggerer()
    triggerer.start("asset", *stores)
    await env.until(lambda: all(store.values for store in stores))
    run_id = env.completed()
    await env.until(env.event_ids)
    await env.until(lambda: all(store.cursor["seen"] for store in stores))
    await triggerer.kill()
    # Another asset is added, which has no cursor yet.
    env.start_triggerer().start("asset", *stores, AssetStateStore())
    await env.pass_time(1000)
    assert env.run_ids() == [run_id]


@in_event_loop
async def test_state_store_that_fails_does_not_reset_the_cursor(env):
    store = await env.watch()
    await env.triggerers[0].kill()
    run_id = env.completed()
    failures = iter([RuntimeError("not now")])
    read = store.aget

    async def fails_once(key, default=None):
        if error := next(failures, None):
            raise error
        return await read(key, default)

    store.aget = fails_once
    env.start_triggerer()
    await env.watch(store=store)
    await env.until(lambda: env.run_ids() == [run_id])
