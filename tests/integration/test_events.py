"""Watchers in Airflow's own shared streams, against the sandbox's real server. Pauses take no time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from functools import partial
from itertools import count
from math import inf

import pytest

from airflow_provider_tallyfy.events import poller as poller_module
from airflow_provider_tallyfy.events.stream import HOLD, EventStream, Found
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyEventTrigger
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from dev.sandbox import SandboxClient
from tests.integration.moved_clock import settle

if not AIRFLOW_V_3_3_PLUS:
    pytest.skip("Airflow keeps places since 3.3", allow_module_level=True)

from airflow.triggers.shared_stream import SharedStreamManager

SOON = 60.0
ACTIVITY = r"/activity-feeds"


class Clock:
    """The time of a poller: a pause of it takes none."""

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


class AssetStateStore:
    """What Airflow keeps for an asset, also while no triggerer runs."""

    def __init__(self):
        self.values = {}
        self.writes = 0

    async def aget(self, key, default=None):
        await asyncio.sleep(0)
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key, value):
        await asyncio.sleep(0)
        self.writes += 1
        self.values[key] = json.dumps(value)


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
        self._unstored = []
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
                if self.hangs_in_log:  # Airflow logs an event before it takes note of it
                    self._unstored.append(event)
                    await asyncio.Event().wait()
                seq = self.streams.bind_pending_event(trigger_id=trigger_id, key=key)
                self._unstored.append((name, event.payload, seq))
        finally:
            await self.streams.unsubscribe(trigger_id, key)

    async def _sync(self):
        while True:
            await asyncio.sleep(0.001)
            if self.stores_events:
                stored, self._unstored = self._unstored, []
                self.database += [(name, payload) for name, payload, _ in stored]
                self.streams.confirm_persisted([seq for _, _, seq in stored])

    async def kill(self):
        """End it; whatever it has not stored is lost."""
        self._syncing.cancel()
        self._unstored.clear()
        for task in self._tasks:
            task.cancel()
        for task in [*self._tasks, self._syncing]:
            with suppress(asyncio.CancelledError):
                await task

    def check(self):
        for task in self._tasks:
            if task.done() and not task.cancelled():  # it was not killed
                task.result()


class World:
    def __init__(self, server):
        self.server = server
        self.people = SandboxClient(server.url)
        self.database = []
        self.triggerers = []

    def triggerer(self):
        self.triggerers.append(Triggerer(self.database))
        return self.triggerers[-1]

    def fault(self, **fault):
        self.people.control("POST", "/faults", [fault])

    def heal(self):
        self.people.control("DELETE", "/faults")

    def launch(self, number=1):
        return self.people.control("POST", "/runs", {"count": number})["data"]

    def complete(self, run_id):
        while self.people.next_task(run_id):
            self.people.complete_next(run_id)

    def asked(self):
        routes = self.people.control("GET", "/stats")["routes"]
        self.people.control("DELETE", "/stats")
        return Counter(
            {row["path"].removeprefix("/api/organizations/{organization}/"): row["count"] for row in routes}
        )

    def ids(self, name="asset"):
        return [payload["event_id"] for told, payload in self.database if told == name]

    def subjects(self, name="asset"):
        return [payload["run"]["id"] for told, payload in self.database if told == name]

    async def until(self, condition):
        async with asyncio.timeout(SOON):
            while not condition():
                await asyncio.sleep(0.005)
                for triggerer in self.triggerers:
                    triggerer.check()

    async def ready(self, *stores):
        """Wait until the watchers have begun: what happens from now on is an event."""
        await self.until(lambda: all(store.values for store in stores))
        # Times are to the second.
        await asyncio.sleep(0)

    async def pass_time(self, seconds):
        passed = self.clock.passed
        await self.until(lambda: self.clock.passed >= passed + seconds)

    @property
    def clock(self):
        return self.clocks[-1]


@pytest.fixture
def play(sandbox, monkeypatch):
    """Play a scene, an async function that gets the world."""
    world = World(sandbox)
    world.clocks = []

    def new_clock():
        world.clocks.append(Clock())
        return world.clocks[-1]

    monkeypatch.setattr(poller_module, "Clock", new_clock)

    def play(scene):
        async def run():
            try:
                await scene(world)
            finally:
                for triggerer in world.triggerers:
                    await triggerer.kill()

        asyncio.run(run())
        return world

    yield play
    world.heal()


def test_a_completed_process_is_told_once_with_its_payload(play):
    async def scene(world):
        store = AssetStateStore()
        triggerer = world.triggerer()
        triggerer.start("asset", store)
        await world.ready(store)
        [run_id] = world.launch()
        world.complete(run_id)
        await world.until(lambda: world.database)
        await world.pass_time(3000)
        assert len(world.database) == 1
        [(_, payload)] = world.database
        assert payload["event"] == "process.completed"
        assert payload["organization"] == "sandbox"
        assert payload["run"]["id"] == run_id
        assert payload["run"]["status"] == "complete"
        assert payload["task"] is None
        assert payload["event_id"].startswith(f"process.completed/{run_id}/")
        assert "form_values" not in payload["run"]
        json.dumps(payload, allow_nan=False)

    play(scene)


def test_what_happened_before_the_first_start_is_no_event(play):
    async def scene(world):
        [run_id] = world.launch()
        world.complete(run_id)
        await asyncio.sleep(4)  # times are to the second, and Tallyfy's clock is not ours
        store = AssetStateStore()
        world.triggerer().start("asset", store)
        await world.ready(store)
        await world.pass_time(1000)
        assert world.ids() == []

    play(scene)


def test_since_tells_what_happened_before(play):
    async def scene(world):
        [run_id] = world.launch()
        world.complete(run_id)
        world.triggerer().start("asset", AssetStateStore(), since="2020-01-01")
        await world.until(lambda: run_id in world.subjects())
        await world.pass_time(1000)
        assert len(world.ids()) == len(set(world.ids()))

    play(scene)


def test_completed_while_no_triggerer_runs(play):
    async def scene(world):
        store = AssetStateStore()
        triggerer = world.triggerer()
        triggerer.start("asset", store)
        await world.ready(store)
        first, second = world.launch(2)
        world.complete(first)
        await world.until(lambda: world.subjects() == [first])
        await asyncio.sleep(0.05)  # until the place is stored
        await triggerer.kill()
        world.complete(second)
        world.triggerer().start("asset", store)
        await world.until(lambda: len(world.ids()) == 2)
        await world.pass_time(1000)
        assert world.subjects() == [first, second]

    play(scene)


def test_killed_between_seeing_and_storing(play):
    async def scene(world):
        store = AssetStateStore()
        triggerer = world.triggerer()
        triggerer.start("asset", store)
        await world.ready(store)
        triggerer.stores_events = False
        runs = world.launch(5)
        for run_id in runs:
            world.complete(run_id)
        await world.until(lambda: len(triggerer._unstored) == 5)
        seen = sorted(payload["event_id"] for _, payload, _ in triggerer._unstored)
        await triggerer.kill()
        assert world.ids() == []
        world.triggerer().start("asset", store)
        await world.until(lambda: len(world.ids()) == 5)
        await world.pass_time(1000)
        assert sorted(world.ids()) == seen

    play(scene)


def test_stopped_while_airflow_logs_an_event(play):
    async def scene(world):
        store = AssetStateStore()
        triggerer = world.triggerer()
        triggerer.start("asset", store)
        await world.ready(store)
        triggerer.stores_events = False
        triggerer.hangs_in_log = True
        [run_id] = world.launch()
        world.complete(run_id)
        await world.until(lambda: triggerer._unstored)
        await triggerer.kill()
        world.triggerer().start("asset", store)
        await world.until(lambda: world.subjects() == [run_id])

    play(scene)


def test_the_place_moves_on_only_when_events_are_stored(play):
    async def scene(world):
        store = AssetStateStore()
        triggerer = world.triggerer()
        triggerer.start("asset", store)
        await world.ready(store)
        await world.pass_time(700)
        triggerer.stores_events = False
        before = dict(store.values)
        [run_id] = world.launch()
        world.complete(run_id)
        await world.until(lambda: triggerer._unstored)
        await world.pass_time(2000)
        assert [json.loads(value)["seen"] for value in store.values.values()] == [{}]
        floors = [json.loads(values)["floor"] for values in (*before.values(), *store.values.values())]
        assert floors[0] == floors[1]
        triggerer.stores_events = True
        await world.until(lambda: any(json.loads(value)["seen"] for value in store.values.values()))

    play(scene)


@pytest.mark.parametrize(
    "feed",
    [
        pytest.param({"delay": 10**6}, id="late"),
        pytest.param({"missing": ["completed", "created"]}, id="incomplete"),
        pytest.param("forbidden", id="forbidden"),
        pytest.param("outage", id="outage"),
        pytest.param("hangs up", id="hangs up"),
    ],
)
def test_what_the_feed_does_not_tell_is_found_in_the_lists(play, feed):
    async def scene(world):
        if feed == "forbidden":
            world.fault(
                path=ACTIVITY, action="status", status=403, times=None, body={"message": "Not allowed."}
            )
        elif feed == "outage":
            world.fault(path=ACTIVITY, action="status", status=503, times=None)
        elif feed == "hangs up":
            world.fault(path=ACTIVITY, action="drop", times=None)
        else:
            world.people.control("POST", "/activity", feed)
        store = AssetStateStore()
        world.triggerer().start("asset", store)
        await world.ready(store)
        await world.pass_time(100)
        [run_id] = world.launch()
        world.complete(run_id)
        completed = world.clock.passed
        await world.until(lambda: world.subjects() == [run_id])
        assert world.clock.passed - completed <= 400
        # It comes to be known to the feed after all.
        world.heal()
        world.people.control("POST", "/activity", {})
        await world.pass_time(4000)
        assert world.subjects() == [run_id]

    play(scene)


def test_more_changes_than_the_feed_can_be_read_back(play):
    async def scene(world):
        store = AssetStateStore()
        world.triggerer().start("asset", store)
        await world.ready(store)
        await world.pass_time(100)
        [run_id] = world.launch()
        world.complete(run_id)
        runs = world.launch(600)
        world.complete(runs[0])
        await world.until(lambda: len(world.ids()) == 2)
        assert set(world.subjects()) == {run_id, runs[0]}

    play(scene)


def test_an_outage_loses_nothing(play):
    async def scene(world):
        store = AssetStateStore()
        world.triggerer().start("asset", store)
        await world.ready(store)
        world.fault(path="/api", action="drop", times=6)
        [run_id] = world.launch()
        world.complete(run_id)
        await world.until(lambda: world.subjects() == [run_id])
        await world.pass_time(1000)
        assert world.subjects() == [run_id]

    play(scene)


def test_one_run_that_cannot_be_read_keeps_no_other_from_being_told(play):
    async def scene(world):
        store = AssetStateStore()
        world.triggerer().start("asset", store)
        await world.ready(store)
        odd, second = world.launch(2)
        world.fault(path=f"/runs/{odd}", action="drop", times=None)
        world.server.change(partial(complete_in, odd))
        await world.pass_time(1000)
        world.server.change(partial(complete_in, second))
        await world.until(lambda: world.subjects() == [second])
        world.heal()
        await world.until(lambda: world.subjects() == [second, odd])

    play(scene)


def test_a_watcher_that_cannot_take_a_run_keeps_it_from_no_other(play, monkeypatch):
    async def scene(world):
        deliver = EventStream.deliver

        def fails(stream, run, organization):
            if stream.wanted.needs_tasks:
                raise OverflowError("date value out of range")
            deliver(stream, run, organization)

        monkeypatch.setattr(EventStream, "deliver", fails)
        stores = [AssetStateStore(), AssetStateStore()]
        triggerer = world.triggerer()
        triggerer.start("tasks", stores[0], events="task.completed")
        await world.ready(stores[0])  # so that it comes first
        triggerer.start("asset", stores[1])
        await world.ready(*stores)
        [run_id] = world.launch()
        world.complete(run_id)
        await world.until(lambda: world.subjects() == [run_id])
        monkeypatch.setattr(EventStream, "deliver", deliver)
        await world.until(lambda: len(world.subjects("tasks")) == 3)

    play(scene)


def complete_in(run_id, sandbox):
    run = sandbox.runs[run_id]
    for task in run.tasks.values():
        task.completed_at = sandbox.now()
    run.completed_at = run.last_updated = sandbox.now()
    sandbox.changed(run)


def test_two_hundred_completions_in_one_poll(play):
    async def scene(world):
        store = AssetStateStore()
        world.triggerer().start("asset", store)
        await world.ready(store)
        runs = world.launch(200)

        def complete_all(sandbox):
            for run_id in runs:
                complete_in(run_id, sandbox)

        world.server.change(complete_all)
        await world.until(lambda: len(world.ids()) >= 200)
        await world.pass_time(1000)
        assert Counter(world.subjects()) == Counter(runs)

    play(scene)


def test_two_triggerers_at_once(play):
    async def scene(world):
        store = AssetStateStore()
        world.triggerer().start("asset", store)
        await world.ready(store)
        [run_id] = world.launch()
        world.complete(run_id)
        await world.until(lambda: world.subjects() == [run_id])
        await world.until(lambda: any(json.loads(value)["seen"] for value in store.values.values()))
        world.triggerer().start("asset", store)  # takes the place that the other one stored
        [second] = world.launch()
        world.complete(second)
        await world.until(lambda: second in world.subjects())
        await world.pass_time(1000)
        # Both may tell it at the same moment, but as the same event.
        assert set(world.subjects()) == {run_id, second}
        assert world.subjects().count(run_id) == 1
        assert len(set(world.ids())) == 2
        [place] = [json.loads(value) for value in store.values.values()]
        assert len(place["seen"]) == 2

    play(scene)


def test_many_watchers_share_the_requests(play):
    async def scene(world):
        stores = [AssetStateStore() for _ in range(30)]
        triggerer = world.triggerer()
        for number, store in enumerate(stores):
            arguments = {"checklist_id": RELEASE_CHECKLIST_ID} if number % 2 else {}
            triggerer.start(f"asset {number}", store, poke_interval=60 + number, **arguments)
        await world.ready(*stores)
        await world.pass_time(100)
        world.asked()
        passed = world.clock.passed
        await world.pass_time(6000)
        polls = (world.clock.passed - passed) / 60
        asked = world.asked()
        assert asked["activity-feeds"] <= polls + 2
        assert asked["runs"] <= polls  # two lists, every five minutes
        [run_id] = world.launch()
        world.complete(run_id)
        await world.until(lambda: len(world.database) == 30)
        assert {payload["run"]["id"] for _, payload in world.database} == {run_id}

    play(scene)


def test_tasks_are_filtered_by_name_and_decision(play):
    async def scene(world):
        stores = [AssetStateStore() for _ in range(3)]
        triggerer = world.triggerer()
        title = "Approve release"
        for store, decision in zip(stores, (None, "approved", "rejected"), strict=True):
            triggerer.start(str(decision), store, events="task.completed", task=title, decision=decision)
        await world.ready(*stores)
        approved, rejected = world.launch(2)
        for run_id in (approved, rejected):
            for task in world.people.tasks(run_id):
                if task["title"] == title:
                    world.people.complete(
                        world.people.task(run_id, task["id"]), is_approved=run_id == approved
                    )
        await world.until(lambda: len(world.database) == 4)
        await world.pass_time(700)
        assert sorted(world.subjects("None")) == sorted([approved, rejected])
        assert world.subjects("approved") == [approved]
        assert world.subjects("rejected") == [rejected]
        [payload] = [payload for name, payload in world.database if name == "rejected"]
        assert payload["task"]["is_approved"] is False
        assert payload["task"]["completed_by"]["id"]
        assert "form_values" not in payload["task"]

    play(scene)


def test_form_values_come_where_they_are_asked_for(play):
    async def scene(world):
        stores = [AssetStateStore(), AssetStateStore()]
        triggerer = world.triggerer()
        triggerer.start("process", stores[0], form_values=True)
        triggerer.start("task", stores[1], events="task.completed", form_values=True)
        await world.ready(*stores)
        [run_id] = world.launch()
        world.complete(run_id)
        await world.until(lambda: len(world.ids("task")) == 3 and world.ids("process"))
        [of_process] = [payload for name, payload in world.database if name == "process"]
        of_tasks = [payload["task"] for name, payload in world.database if name == "task"]
        values = of_process["run"]["form_values"]
        assert set(values) == {"kickoff", "tasks"}
        by_alias = {task["alias"]: task["form_values"] for task in of_tasks if task["form_values"]}
        assert by_alias == values["tasks"]
        assert "Looks good to me." in json.dumps(values)

    play(scene)


def test_reopened_commented_and_with_issues(play):
    async def scene(world):
        store = AssetStateStore()
        events = ("task.reopened", "task.comment_added", "task.issue_raised", "task.issue_resolved")
        world.triggerer().start("asset", store, events=events)
        [run_id] = world.launch()
        world.people.complete_next(run_id)
        done = next(task for task in world.people.tasks(run_id) if task["completed_at"])
        await world.ready(store)
        await world.pass_time(400)
        await asyncio.sleep(1.1)  # times are compared to the second
        await asyncio.to_thread(
            world.people.request, "DELETE", f"/runs/{run_id}/completed-tasks/{done['id']}"
        )
        await world.until(lambda: len(world.database) == 1)
        path = f"/tasks/{done['id']}"
        world.people.request("POST", f"{path}/comment", json={"content": "Hello", "state": "open"})
        await world.until(lambda: len(world.database) == 2)
        issue = world.people.request("POST", f"{path}/problem", json={"content": "Broken"})
        await world.until(lambda: len(world.database) == 3)
        world.people.request(
            "POST", f"{path}/resolved-threads", json={"content": "Mended", "thread_id": issue["id"]}
        )
        await world.until(lambda: len(world.database) == 4)
        await world.pass_time(1000)
        assert [payload["event"] for _, payload in world.database] == [*events]
        assert {payload["task"]["id"] for _, payload in world.database} == {done["id"]}
        assert "Hello" not in json.dumps(world.database)

    play(scene)


def test_archived_processes_are_found_too(play):
    async def scene(world):
        store = AssetStateStore()
        events = ("process.launched", "process.completed", "process.archived")
        world.triggerer().start("asset", store, events=events)
        await world.ready(store)
        world.people.control("POST", "/activity", {"delay": 10**6})
        [run_id] = world.launch()
        world.complete(run_id)
        world.people.archive(run_id)
        await world.until(lambda: len(world.database) == 3)
        assert [payload["event"] for _, payload in world.database] == [*events]

    play(scene)


def test_reads_that_lag_delay_an_event_only(play):
    async def scene(world):
        store = AssetStateStore()
        world.triggerer().start("asset", store)
        await world.ready(store)
        world.people.behave(run_lag=2, list_lag=2)
        [run_id] = world.launch()
        world.complete(run_id)
        await world.until(lambda: world.subjects() == [run_id])
        await world.pass_time(1000)
        assert world.subjects() == [run_id]

    play(scene)


def test_the_last_of_several_events_comes_later_than_the_others(play, monkeypatch):
    """Airflow up to 3.3 gives events that come close together to the next DAG run, which only a later one starts."""

    async def scene(world):
        sent_at = []
        original = EventStream.next_item

        async def note(stream):
            item = await original(stream)
            if isinstance(item, Found):
                sent_at.append(world.clock.now())
            return item

        # Before the first call, which waits for the first event.
        monkeypatch.setattr(EventStream, "next_item", note)
        store = AssetStateStore()
        world.triggerer().start("asset", store)
        await world.ready(store)
        for run_id in world.launch(3):
            world.complete(run_id)
        await world.until(lambda: len(world.ids()) == 3)
        assert sent_at[2] - sent_at[1] >= HOLD

    play(scene)


def test_without_a_place_it_tells_what_happens_from_now_on(play):
    """As in Airflow 3.0 to 3.2, which has neither shared streams nor asset state stores."""

    async def scene(world):
        trigger = TallyfyEventTrigger()
        told = []

        async def run():
            async for event in trigger.run():
                told.append(event.payload)  # noqa: PERF401 (one after the other)

        task = asyncio.create_task(run())
        await world.until(lambda: world.clocks and world.clock.passed > 100)
        [run_id] = world.launch()
        world.complete(run_id)
        await world.until(lambda: told)
        await world.pass_time(1000)
        assert [payload["run"]["id"] for payload in told] == [run_id]
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    play(scene)


def test_assets_whose_watchers_are_alike_share_a_trigger_and_its_place(play):
    async def scene(world):
        stores = [AssetStateStore(), AssetStateStore()]
        triggerer = world.triggerer()
        triggerer.start("asset", *stores)
        await world.ready(*stores)
        [run_id] = world.launch()
        world.complete(run_id)
        await world.until(lambda: world.ids())
        await world.until(
            lambda: all("process" not in str(store.values) and store.writes > 1 for store in stores)
        )
        await triggerer.kill()
        # Another asset joins, which has no place of its own yet.
        world.triggerer().start("asset", *stores, AssetStateStore())
        await world.pass_time(1000)
        assert world.subjects() == [run_id]

    play(scene)


def test_another_organization_has_another_place(play, monkeypatch):
    async def scene(world):
        store = AssetStateStore()
        triggerer = world.triggerer()
        triggerer.start("asset", store)
        await world.ready(store)
        [(key, before)] = store.values.items()
        await triggerer.kill()
        store.values[key] = before.replace('"sandbox"', '"another"').replace('"seen": {}', '"seen": {"x": 1}')
        triggerer = world.triggerer()
        triggerer.start("asset", store)
        await world.until(lambda: '"sandbox"' in store.values[key])
        assert json.loads(store.values[key])["seen"] == {}

    play(scene)


def test_a_state_store_that_fails_does_not_make_a_watcher_begin_again(play):
    async def scene(world):
        store = AssetStateStore()
        triggerer = world.triggerer()
        triggerer.start("asset", store)
        await world.ready(store)
        await triggerer.kill()
        [run_id] = world.launch()
        world.complete(run_id)
        failures = iter([RuntimeError("not now")])
        read = store.aget

        async def fails_once(key, default=None):
            if error := next(failures, None):
                raise error
            return await read(key, default)

        store.aget = fails_once
        world.triggerer().start("asset", store)
        await world.until(lambda: world.subjects() == [run_id])

    play(scene)
