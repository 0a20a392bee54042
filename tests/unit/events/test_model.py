"""No interleaving of users, lag, faults and restarts loses an event, invents one, or fires one twice."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import inf
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.events import poller as poller_module
from airflow_provider_tallyfy.events.cursor import OVERLAP, Cursor
from airflow_provider_tallyfy.events.kinds import EventFilter
from airflow_provider_tallyfy.events.poller import EventPoller
from airflow_provider_tallyfy.events.stream import HOLD, EventStream, OrganizationChangedError, PendingEvent
from airflow_provider_tallyfy.protocol.responses import Activity, Page
from airflow_provider_tallyfy.triggers.events import CursorStore
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_0_PLUS
from airflow_provider_tallyfy.waiting.polls import PollError
from airflow_provider_tallyfy.waiting.watcher import ConnectionUse, SharedFeedPage
from tests.support.asset_state import AssetStateStore

if not AIRFLOW_V_3_0_PLUS:
    pytest.skip("this Airflow has no watchers", allow_module_level=True)

EPOCH = 1_800_000_000.0
PER_PAGE = 3
UNAVAILABLE = exceptions.TallyfyServerError("503", status=503)
DOWN = exceptions.TallyfyConnectionError("nothing came back")


class Clock:
    """A clock that moves only when the test advances it, from timer to timer."""

    def __init__(self):
        self.time = 0.0
        self._timers = []

    def now(self):
        return self.time

    async def wait(self, event, until):
        if self.time >= until or event.is_set():
            await asyncio.sleep(0)
            return
        timer = asyncio.Event()
        self._timers.append((until, timer))
        waits = [asyncio.ensure_future(each.wait()) for each in (event, timer)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._timers.remove((until, timer))
            for wait in waits:
                wait.cancel()

    async def advance(self, seconds):
        limit = self.time + seconds
        while True:
            for _ in range(60):
                await asyncio.sleep(0)
            due = [until for until, timer in self._timers if until <= limit]
            self.time = min(due, default=limit)
            if not due:
                return
            for until, timer in self._timers:
                if until <= self.time:
                    timer.set()


class Tallyfy:
    """Runs and tasks that users complete, reopen, comment on and archive; responses may lag."""

    def __init__(self, clock):
        self.clock = clock
        self.runs = {}
        self.feed = []
        self.history = [(-inf, {})]
        self.list_lag = self.run_lag = self.feed_lag = 0.0
        self.errors = {}
        self.events = []
        self.requests = Counter()

    def now(self):
        return datetime.fromtimestamp(EPOCH + self.clock.time, UTC)

    def change(self, run_id, **changes):
        self.runs[run_id].update(changes, last_updated=self.now().isoformat())
        self.feed.append((self.clock.time, Activity(str(len(self.feed)), run_id)))
        self.history.append((self.clock.time, copy.deepcopy(self.runs)))

    def launch(self):
        run_id = f"r{len(self.runs)}"
        tasks = [{"id": f"{run_id}.{number}", "threads": []} for number in range(2)]
        self.runs[run_id] = {"id": run_id, "checklist_id": "c", "tasks": tasks}
        self.change(run_id, created_at=self.now().isoformat())

    def complete(self, run_id):
        self.change(run_id, completed_at=self.now().isoformat())
        self.events.append(f"process.completed/{run_id}/{self.moment()}")

    def complete_task(self, run_id, task):
        task["completed_at"] = self.now().isoformat()
        self.change(run_id)
        self.events.append(f"task.completed/{task['id']}/{self.moment()}")

    def reopen_task(self, run_id, task):
        moment = self.last_completion(task).rpartition("/")[2]
        task["completed_at"] = None
        self.change(run_id)
        self.events.append(f"task.reopened/{task['id']}/{moment}")

    def comment(self, run_id, task):
        thread_id = f"{task['id']}.{len(task['threads'])}"
        task["threads"].append({"id": thread_id, "label": "comment", "created_at": self.now().isoformat()})
        self.change(run_id)
        self.events.append(f"task.comment_added/{thread_id}")

    def moment(self):
        return self.now().strftime("%Y%m%dT%H%M%SZ")

    def last_completion(self, subject):
        """Return the id of the event that a run or a task was completed, if it is."""
        if not subject.get("completed_at"):
            return None
        return [each for each in self.events if f".completed/{subject['id']}/" in each][-1]

    def events_of_tasks(self, run_id):
        return {each for each in self.events if each.startswith("task.") and f"/{run_id}." in each}

    def seen_with(self, lag):
        at = self.clock.time - lag
        return next(runs for moment, runs in reversed(self.history) if moment <= at)

    def fetch(self, kind, run_id=None):
        self.requests[kind] += 1
        if error := self.errors.get(kind) or self.errors.get(run_id):
            raise error

    def get_conn(self):
        return SimpleNamespace(hooks={"response": []})

    def get_activities_page(self, number):
        self.fetch("feed")
        entries = [each for at, each in self.feed if at <= self.clock.time - self.feed_lag][::-1]
        return self.page(entries, number)

    def get_runs_page(self, number, *, archived=None, with_=None, **_):
        self.fetch("list")
        runs = [
            self.shown(run, with_ or ())
            for run in self.seen_with(self.list_lag).values()
            if bool(run.get("archived_at")) == bool(archived)
        ]
        return self.page(runs[::-1], number)

    def get_run(self, run_id, with_):
        self.fetch("run", run_id)
        run = self.seen_with(self.run_lag).get(run_id)
        if run is None:
            raise exceptions.TallyfyNotFoundError("404", status=404, tallyfy_message="no run")
        return self.shown(run, with_)

    def shown(self, run, with_):
        """Return a run with the requested fields; an archived one has no tasks."""
        tasks = [] if run.get("archived_at") else run["tasks"]
        if "tasks.threads" not in with_:
            tasks = [{key: value for key, value in task.items() if key != "threads"} for task in tasks]
        shown = {key: value for key, value in run.items() if key != "tasks"}
        return {**shown, "tasks": {"data": tasks}} if "tasks" in with_ else shown

    def page(self, items, number):
        first = (number - 1) * PER_PAGE
        return Page(tuple(copy.deepcopy(items[first : first + PER_PAGE])), first + PER_PAGE >= len(items))


class Hook:
    connection = SimpleNamespace(organization="org", requests_per_hour=0)
    requests = 1
    rate_limit_remaining = None
    clock_offset = timedelta()

    def __init__(self, tallyfy):
        self.tallyfy = tallyfy

    def fetch(self, fetch):
        try:
            return fetch(self.tallyfy)
        except exceptions.TallyfyError as error:
            return PollError(error)

    def reset(self):
        pass


class Watcher:
    """A watcher: what Airflow stores of it, and its stream in a triggerer."""

    def __init__(self, *events, hold=0.0, poke_interval=60.0):
        self.wanted = EventFilter(events or ("process.completed",))
        self.hold, self.poke_interval = hold, poke_interval
        self.cursors = CursorStore([AssetStateStore()], self.wanted, "org")
        self.database = []
        self.certain = set()
        """Events that are stored, and the cursor behind them too."""
        self.may_retry = False

    async def start(self, poller, tallyfy):
        self.poller, self.unstored = poller, []
        cursor = await self.cursors.load()
        if cursor is None:
            cursor = Cursor(tallyfy.now())
            await self.cursors.save(cursor)
        self.stream = EventStream(
            self.wanted, cursor, "org", hold=self.hold, poke_interval=self.poke_interval, clock=tallyfy.clock
        )
        poller.add(self.stream)
        self.task = asyncio.create_task(self._take())

    async def _take(self):
        while True:
            item = await self.stream.next_item()
            self.unstored.append(item)

    async def commit(self, *, is_killed_before_saving=False):
        items, self.unstored = self.unstored, []
        ids = [item.event.id for item in items if isinstance(item, PendingEvent)]
        self.database += ids
        if is_killed_before_saving:
            self.may_retry = self.may_retry or bool(items)
            return
        for item in items:
            self.stream.store(item)
        await self.cursors.save(self.stream.cursor)
        self.certain.update(ids)

    async def stop(self):
        self.poller.remove(self.stream)
        self.task.cancel()
        with suppress(asyncio.CancelledError, OrganizationChangedError):
            await self.task


class Triggerer:
    """Runs watchers of one connection, and can be killed."""

    def __init__(self, tallyfy, *watchers):
        self.tallyfy, self.watchers = tallyfy, watchers
        self.is_alive = False

    async def start(self):
        if self.is_alive:
            return
        self.is_alive = True
        self.poller = EventPoller(
            "c", ConnectionUse(), lambda: None, self.tallyfy.clock, lambda: EPOCH + self.tallyfy.clock.time
        )
        self.poller._hook = Hook(self.tallyfy)
        await self.poller.__aenter__()
        for watcher in self.watchers:
            await watcher.start(self.poller, self.tallyfy)

    async def commit(self, **how):
        for watcher in self.watchers if self.is_alive else ():
            await watcher.commit(**how)

    async def kill(self):
        if not self.is_alive:
            return
        self.is_alive = False
        poll = self.poller._task
        for watcher in self.watchers:
            await watcher.stop()
        await self.poller.__aexit__()
        with suppress(asyncio.CancelledError):
            await poll


STEPS = st.one_of(
    st.sampled_from(["launch", "commit", "kill", "start", "kill before saving"]),
    st.tuples(st.sampled_from(["complete", "reopen", "archive"]), st.integers(0, 20)),
    st.tuples(st.sampled_from(["complete task", "reopen task", "comment"]), st.integers(0, 20)),
    st.tuples(st.just("move"), st.integers(0, 2)),
    st.tuples(st.just("advance"), st.sampled_from([1, 20, 61, 400, 4000])),
    st.tuples(st.sampled_from(["list_lag", "run_lag", "feed_lag"]), st.sampled_from([0, 5, 65, 600])),
    st.tuples(st.sampled_from(["feed", "list", "run"]), st.sampled_from([None, UNAVAILABLE, DOWN])),
)


async def act(step, argument, tallyfy, watchers):
    """Act as a user, or break something; :func:`play` does the rest."""
    if step == "launch":
        tallyfy.launch()
    elif step.endswith("_lag"):
        setattr(tallyfy, step, float(argument))
    elif step in ("feed", "list", "run"):
        tallyfy.errors[step] = argument
    else:
        run = tallyfy.runs[f"r{argument % len(tallyfy.runs)}"]
        if not run.get("archived_at"):
            await act_on(step, run, argument, tallyfy, watchers)


async def act_on(step, run, argument, tallyfy, watchers):
    def is_stored(event):
        return all(
            event in each.certain for each in watchers if event.partition("/")[0] in each.wanted.events
        )

    run_id, task = run["id"], run["tasks"][argument // len(tallyfy.runs) % 2]
    subject = task if step.endswith("task") else run
    completion = tallyfy.last_completion(subject)
    # What is undone, or disappears, before it could be seen is no event.
    may_reopen = completion in tallyfy.events and is_stored(completion)
    if step == "archive" and all(map(is_stored, tallyfy.events_of_tasks(run_id))):
        tallyfy.change(run_id, archived_at=tallyfy.now().isoformat())
    elif step == "complete" and completion is None:
        tallyfy.complete(run_id)
    elif step == "complete task" and completion is None:
        tallyfy.complete_task(run_id, task)
    elif step == "comment":
        tallyfy.comment(run_id, task)
    elif step == "reopen" and may_reopen:
        await tallyfy.clock.advance(1)  # times are to the second
        tallyfy.change(run_id, completed_at=None)
    elif step == "reopen task" and may_reopen:
        await tallyfy.clock.advance(2)
        tallyfy.reopen_task(run_id, task)


async def play(steps):
    clock = Clock()
    tallyfy = Tallyfy(clock)
    for _ in range(4):  # from before the start
        tallyfy.launch()
    tallyfy.complete("r0")
    tallyfy.comment("r1", tallyfy.runs["r1"]["tasks"][0])
    before = set(tallyfy.events)
    clock.time = 10.0
    watchers = (
        Watcher(),
        Watcher("task.completed", "task.reopened", poke_interval=50.0),
        Watcher("process.completed", "task.comment_added"),
    )
    triggerer = Triggerer(tallyfy, *watchers)
    await triggerer.start()
    try:
        for each in steps:
            step, argument = each if isinstance(each, tuple) else (each, None)
            if step == "advance":
                await clock.advance(argument)
            elif step == "start":
                await triggerer.start()
            elif step == "commit":
                await triggerer.commit()
            elif step in ("kill", "kill before saving"):
                if step == "kill before saving":
                    await triggerer.commit(is_killed_before_saving=True)
                await triggerer.kill()
            elif step == "move":  # to another triggerer, and back
                await triggerer.start()
                await watchers[argument].stop()
                await asyncio.sleep(0)
                await watchers[argument].start(triggerer.poller, tallyfy)
            else:
                await act(step, argument, tallyfy, watchers)
            await asyncio.sleep(0)
        tallyfy.errors.clear()
        tallyfy.list_lag = tallyfy.run_lag = tallyfy.feed_lag = 0.0
        await triggerer.start()
        for _ in range(4):
            await clock.advance(900)
            await triggerer.commit()
    finally:
        await triggerer.kill()
    for watcher in watchers:
        wanted = {each for each in tallyfy.events if each.partition("/")[0] in watcher.wanted.events}
        assert set(watcher.database) == wanted - before
        if not watcher.may_retry:
            assert len(watcher.database) == len(set(watcher.database))


@pytest.fixture(autouse=True)
def without_threads(monkeypatch):
    async def in_thread(_, call, *arguments):
        await asyncio.sleep(0)
        return call(*arguments)

    async def spread(act, items):
        for item in items:
            act(item)

    monkeypatch.setattr(poller_module, "in_thread", in_thread)
    monkeypatch.setattr(poller_module, "spread", spread)
    monkeypatch.setattr(poller_module, "logger", SimpleNamespace(warning=check_format, exception=fail))
    monkeypatch.setattr(
        "airflow_provider_tallyfy.waiting.scheduler.endpoint_health.logger.warning", check_format
    )


def check_format(message, *arguments):
    assert message % arguments


def fail(message, *arguments):
    raise AssertionError(message % arguments)


LAG = [("list_lag", 600), ("run_lag", 600), ("advance", 4000), "commit", ("complete", 1)]
LAG += [("advance", 61), "commit"] * 16
REOPENED = [("complete task", 0), ("advance", 61), "commit", ("reopen task", 0)]
COMPLETED_AGAIN = [("complete task", 0), ("advance", 61), "commit", ("reopen task", 0), ("advance", 400)]


@pytest.mark.usefixtures("untraced")
@example([*REOPENED, *COMPLETED_AGAIN])
@example([*REOPENED, ("advance", 61), *COMPLETED_AGAIN])
@example([*LAG, ("advance", 4000)])
@example([*LAG, "kill", "start", ("advance", 4000)])
@example([("complete", 1), ("advance", 61), "kill before saving", "start", ("advance", 400)])
@example([*REOPENED[:-1], "kill", REOPENED[-1]])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=25))
def test_fires_every_event_once(steps):
    asyncio.run(play(steps))


@pytest.mark.parametrize("steps", ["complete reopen", "complete reopen complete"])
@pytest.mark.parametrize("subject", ["process", "task"])
def test_between_two_polls_only_the_last_completion_is_an_event(subject, steps):
    async def run():
        clock = Clock()
        tallyfy = Tallyfy(clock)
        watcher = Watcher("process.completed", "task.completed", "task.reopened")
        triggerer = Triggerer(tallyfy, watcher)
        tallyfy.launch()
        task = tallyfy.runs["r0"]["tasks"][0]
        await triggerer.start()
        await clock.advance(61)
        for step in steps.split():
            await clock.advance(2)
            if step == "reopen":
                tallyfy.change("r0", completed_at=None) if subject == "process" else tallyfy.reopen_task(
                    "r0", task
                )
            else:
                tallyfy.complete("r0") if subject == "process" else tallyfy.complete_task("r0", task)
        for _ in range(3):
            await clock.advance(400)
            await triggerer.commit()
        completions = [each for each in tallyfy.events if ".completed/" in each]
        assert watcher.database == (completions[1:] if steps.endswith("complete") else [])
        await triggerer.kill()

    asyncio.run(run())


@pytest.mark.parametrize("is_given_up", [False, True])
def test_a_run_that_cannot_be_read_holds_only_the_cursors_of_watchers_that_need_it(is_given_up, monkeypatch):
    warnings = []
    monkeypatch.setattr(poller_module.logger, "warning", lambda *line: warnings.append(line[0] % line[1:]))

    async def run():
        clock = Clock()
        tallyfy = Tallyfy(clock)
        held, free = Watcher(poke_interval=600.0), Watcher("task.comment_added", poke_interval=600.0)
        triggerer = Triggerer(tallyfy, held, free)
        for _ in range(2):
            tallyfy.launch()
        await triggerer.start()

        async def pass_time(hours):
            for _ in range(hours):
                await clock.advance(3600)
                await triggerer.commit()

        await pass_time(1)
        tallyfy.errors["r0"] = UNAVAILABLE
        tallyfy.complete("r0")
        tallyfy.complete("r1")
        failed_at = tallyfy.now()
        await pass_time(2)
        assert held.stream.cursor.swept <= failed_at < free.stream.cursor.floor + OVERLAP
        assert held.database == tallyfy.events[1:]
        if is_given_up:
            await pass_time(24)
        else:
            tallyfy.errors.clear()
            await pass_time(1)
        assert held.stream.cursor.swept == free.stream.cursor.swept
        assert sorted(held.database) == tallyfy.events[is_given_up:]
        assert len(warnings) == is_given_up
        await triggerer.kill()

    asyncio.run(run())


def test_holds_the_last_of_several_events():
    async def run():
        clock = Clock()
        tallyfy, watcher = Tallyfy(clock), Watcher(hold=HOLD)
        database = watcher.database
        triggerer = Triggerer(tallyfy, watcher)
        await triggerer.start()
        for number in range(4):
            tallyfy.launch()
            tallyfy.complete(f"r{number}")
        await clock.advance(0)
        await triggerer.commit()
        assert len(database) == 3
        await clock.advance(HOLD - 1)
        await triggerer.commit()
        assert len(database) == 3
        await clock.advance(1)
        await triggerer.commit()
        assert len(database) == 4
        await clock.advance(HOLD + 100)
        tallyfy.launch()
        tallyfy.complete("r4")
        await clock.advance(60)
        await triggerer.commit()
        assert len(database) == 5
        await triggerer.kill()

    asyncio.run(run())


def test_uses_the_feed_page_that_waits_have_read():
    async def run():
        clock = Clock()
        tallyfy, watcher = Tallyfy(clock), Watcher()
        triggerer = Triggerer(tallyfy, watcher)
        await triggerer.start()
        use = triggerer.poller._use
        tallyfy.launch()
        await clock.advance(0)
        own = tallyfy.requests["feed"]
        for number in range(5):
            await clock.advance(50)
            if number == 2:
                tallyfy.complete("r0")
            page = tallyfy.page([each for _, each in tallyfy.feed][::-1], 1)
            use.feed_page = SharedFeedPage(Hook.connection, page, clock.time)
            await clock.advance(10)
        await triggerer.commit()
        assert tallyfy.requests["feed"] == own
        assert watcher.database == tallyfy.events
        # No wait is left.
        await clock.advance(180)
        assert tallyfy.requests["feed"] == own + 3
        await triggerer.kill()

    asyncio.run(run())


def test_polls_at_the_shorter_interval_of_a_new_watcher():
    async def run():
        clock = Clock()
        tallyfy = Tallyfy(clock)
        triggerer = Triggerer(tallyfy, Watcher())
        await triggerer.start()
        await clock.advance(0)
        assert tallyfy.requests["feed"] == 1
        triggerer.poller.add(
            EventStream(
                EventFilter(("process.completed",)),
                Cursor(tallyfy.now()),
                "org",
                poke_interval=10.0,
                clock=clock,
            )
        )
        await clock.advance(10)
        assert tallyfy.requests["feed"] == 2
        await triggerer.kill()

    asyncio.run(run())


def test_lists_of_another_organization_do_not_advance_the_cursor():
    async def run():
        clock = Clock()
        tallyfy, watcher = Tallyfy(clock), Watcher()
        triggerer = Triggerer(tallyfy, watcher)
        await triggerer.start()
        await clock.advance(1000)
        await triggerer.commit()
        before = watcher.stream.cursor.to_json()
        triggerer.poller._hook.connection = SimpleNamespace(organization="another", requests_per_hour=0)
        tallyfy.launch()
        tallyfy.complete("r0")
        await clock.advance(10_000)
        await triggerer.commit()
        assert watcher.stream.cursor.to_json() == before
        assert watcher.database == []
        assert isinstance(watcher.task.exception(), OrganizationChangedError)
        await triggerer.kill()

    asyncio.run(run())


def test_the_model_can_fail():
    """A cursor that advances before Airflow has stored the events would lose some."""
    steps = [("complete", 1), ("advance", 400), "kill", "start", ("advance", 400)]
    original = Watcher._take

    async def store_at_once(self):
        while True:
            item = await self.stream.next_item()
            self.unstored.append(item)
            self.stream.store(item)
            await self.cursors.save(self.stream.cursor)

    try:
        Watcher._take = store_at_once
        with pytest.raises(AssertionError):
            asyncio.run(play(steps))
    finally:
        Watcher._take = original
    asyncio.run(play(steps))
