"""Simulates Tallyfy, its users and the waits of a scheduler, with plain values and a clock that tests move."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from math import inf

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.protocol.responses import Activity, Page
from airflow_provider_tallyfy.waiting.evidence import Evidence
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.outcomes import Pending, PollFailed, Unconfirmed
from airflow_provider_tallyfy.waiting.polls import (
    FetchFeedPage,
    FetchRun,
    FetchRunPage,
    PollError,
    RunSnapshot,
)
from airflow_provider_tallyfy.waiting.scheduler.budget import RequestBudget
from airflow_provider_tallyfy.waiting.scheduler.scheduler import PollScheduler
from airflow_provider_tallyfy.waiting.scheduler.waits import PollSchedule, ScheduledWait

LATENCY = 0.05
INTERVAL = 10.0
START = 1000.0

DOWN = exceptions.TallyfyConnectionError("nothing came back")
UNAVAILABLE = exceptions.TallyfyServerError("503", status=503)
UNREADABLE = exceptions.TallyfyResponseError("HTML came back")
FORBIDDEN = exceptions.TallyfyPermissionError("403", status=403, tallyfy_message="no")
GONE = exceptions.TallyfyNotFoundError("404", status=404, tallyfy_message="no run")
UNAUTHENTICATED = exceptions.TallyfyAuthError("401", status=401, tallyfy_message="no")


def too_many(retry_after=30.0):
    return exceptions.TallyfyRateLimitError("429", status=429, retry_after=retry_after)


def unavailable_for(seconds):
    return exceptions.TallyfyServerError("503", status=503, retry_after=seconds)


@cache
def _written(seconds):
    return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat()


@dataclass(eq=False)
class Run:
    """A run whose tasks are completed one after the other."""

    id: str
    checklist_id: str = "template"
    status: str = "active"
    done: int = 0
    total: int = 1000
    changed_at: float = -inf
    archived: bool = False
    before: tuple[float, int] = (-inf, 0)  # until when another number of tasks was done, and how many

    def change(self, done, now):
        self.before = (now, self.done)
        self.done, self.changed_at = done, now

    def as_of(self, now):
        """Return the run as a replica shows it that is up to date at this time; only the last change is kept."""
        until, done = self.before
        return replace(self, done=done) if now < until else self

    @property
    def next_id(self):
        return f"{self.id}-{self.done}" if self.done < self.total else None

    def as_json(self):
        return {
            "id": self.id,
            "checklist_id": self.checklist_id,
            "status": "complete" if self.next_id is None else self.status,
            "progress": {"complete": self.done, "total": self.total},
            "completed_at": "2026-01-01" if self.next_id is None else None,
            "archived_at": "2026-01-01" if self.archived else None,
            "next_task": self.next_id and {"id": self.next_id},
            "last_updated": self.updated_at,
        }

    @property
    def updated_at(self):
        return _written(max(self.changed_at, 0.0))

    def snapshot(self, from_task_ids):
        """Return the run read by itself, with the tasks to move on from."""
        done = [task for task in from_task_ids if int(task.rpartition("-")[2]) < self.done]
        return RunSnapshot(self.as_json(), done_tasks=dict.fromkeys(done))


@dataclass
class Tallyfy:
    """The server. Its faults are attributes; :attr:`broken` has the errors by kind of request, or for ``all``."""

    runs: dict[str, Run] = field(default_factory=dict)
    entries: list[tuple[float, Activity]] = field(default_factory=list)
    received: list[tuple[float, object]] = field(default_factory=list)
    broken: dict[str, exceptions.TallyfyError] = field(default_factory=dict)
    broken_runs: dict[str, exceptions.TallyfyError] = field(default_factory=dict)
    feed_delay: float = 0.0
    feed_is_incomplete: bool = False
    pages_are_counted: bool = True
    list_next_task: str | None = None  # "none" or "other": what lists show instead of the next task
    lists: dict[str, dict] = field(default_factory=dict)  # what lists show of runs, since they were frozen
    lag: float = 0.0  # by which every other read of a run is older
    entries_per_request: int = 0  # that arrive in the feed with each request for a page of it
    per_page: int = 100
    numbers: count = field(default_factory=lambda: count(1))

    def freeze_lists(self):
        self.lists = {run.id: run.as_json() for run in self.runs.values()}

    def count_requests(self, kind=None, since=-inf):
        return sum(at >= since and isinstance(request, kind or object) for at, request in self.received)

    def requests_by_kind(self, since=-inf):
        return Counter(type(request).__name__ for at, request in self.received if at >= since)

    def publish(self, run_id, now):
        if not self.feed_is_incomplete:
            self.entries.append((now + self.feed_delay, Activity(str(next(self.numbers)), run_id)))

    def respond(self, request, now):
        self.received.append((now, request))
        kind = type(request).__name__
        if kind in self.broken or "all" in self.broken:
            return PollError(self.broken.get("all") or self.broken[kind])
        match request:
            case FetchRun(run_id, from_task_ids=task_ids):
                if run_id in self.broken_runs:
                    return PollError(self.broken_runs[run_id])
                if run_id not in self.runs:
                    return PollError(GONE)
                lag = self.lag if len(self.received) % 2 else 0.0
                return self.runs[run_id].as_of(now - lag).snapshot(task_ids)
            case FetchRunPage(status, page):
                return self._list(status, page)
            case FetchFeedPage(page):
                for _ in range(self.entries_per_request):
                    self.publish("elsewhere", now - self.feed_delay)
                return self._feed(page, now)

    def _list(self, status, number):
        found = [
            run
            for run in reversed(self.runs.values())
            if not run.archived and (run.status if run.done < run.total else "complete") == status
        ]
        page = self._page(found, number, self._listed)
        return page if self.pages_are_counted else replace(page, total_pages=None)

    def _listed(self, run):
        shown = dict(self.lists.get(run.id) or run.as_json())
        if self.list_next_task is not None:
            shown["next_task"] = {"id": f"{run.id}-other"} if self.list_next_task == "other" else None
        return shown

    def _feed(self, number, now):
        published = sorted((entry for entry in self.entries if entry[0] <= now), key=lambda entry: -entry[0])
        return self._page([activity for _, activity in published], number)

    def _page(self, items, number, show=lambda item: item):
        pages = max(1, -(-len(items) // self.per_page))
        shown = tuple(map(show, items[(number - 1) * self.per_page : number * self.per_page]))
        return Page(shown, number >= pages, pages)


@dataclass(frozen=True)
class AnotherTask(NextTaskCondition):
    """The condition of a sensor, which may need more than a list of runs includes."""

    with_: tuple[str, ...] = ("next_task",)

    def evaluate(self, snapshot):
        outcome = super().evaluate(snapshot)
        if isinstance(outcome, Pending):
            baseline = outcome.condition.from_task_id
            return Pending(self if baseline == self.from_task_id else replace(self, from_task_id=baseline))
        return outcome


class Wait(ScheduledWait):
    """A wait that evaluates its polls as the one in the triggerer does."""

    def __init__(self, simulation, run, *, with_=("next_task",), worker_polled_at=-inf, **schedule):
        condition = AnotherTask(run.next_id, with_)
        schedule = PollSchedule(**{"poke_interval": INTERVAL, **schedule})
        now = simulation.now
        begins_at = (
            now
            if worker_polled_at == -inf
            else min(max(worker_polled_at + schedule.poke_interval, now), now + schedule.poke_interval)
        )
        super().__init__(run.id, condition, schedule, begins_at)
        self.evidence = Evidence(run.id, condition)
        self.simulation = simulation
        self._baseline_done = run.done
        self.worker_polled_at = worker_polled_at
        self.snapshots, self.errors = [], []
        self.ended_at = None

    @property
    def baseline(self):
        return self.condition.from_task_id

    @baseline.setter
    def baseline(self, task_id):
        self.condition = self.evidence.condition = replace(self.condition, from_task_id=task_id)

    def deliver(self, result, polled_at):
        assert self.ended_at is None, "got a result after it ended"
        assert self.simulation.sent_at >= self.begins_at, (
            "got the response to a request that was sent before it began"
        )
        (self.snapshots if isinstance(result, RunSnapshot) else self.errors).append(result)
        outcome = self.evidence.evaluate(result, polled_at)
        if isinstance(outcome, (Pending, PollFailed)):
            return
        if isinstance(outcome, Unconfirmed):
            self.simulation.scheduler.request_fresh_read(self, self.simulation.now + outcome.recheck_after)
            return
        self.ended_at = self.simulation.now
        self.outcome = outcome
        # Users do nothing between a request and its response. If the run shows the baseline now, a task was reopened.
        run = self.simulation.tallyfy.runs.get(self.run_id)
        self.had_moved_on = (
            run is None or run.next_id != self.baseline or run.before[1] != self._baseline_done
        )
        self.simulation.scheduler.remove(self)


def requests_for(request, response):
    """Return how many HTTP requests a fetch takes: tasks to move on from that a run does not show are read alone."""
    if not isinstance(request, FetchRun) or not isinstance(response, RunSnapshot) or "tasks" in request.with_:
        return 1
    next_task = response.run["next_task"]
    return 1 + sum(next_task is not None and task != next_task["id"] for task in request.from_task_ids)


class Simulation:
    """A scheduler at work."""

    def __init__(self, runs=0, *, latency=LATENCY, requests_per_hour=0, per_page=100):
        self.now = START
        self.latency = latency
        self.sent_at = START
        self.tallyfy = Tallyfy(per_page=per_page)
        self.scheduler = PollScheduler(RequestBudget(requests_per_hour))
        self.waits: list[Wait] = []
        self.spent: list[tuple[float, int]] = []  # HTTP requests, and when
        for _ in range(runs):
            self.launch()

    def launch(self, **fields):
        run = Run(f"run{len(self.tallyfy.runs)}", **fields)
        self.tallyfy.runs[run.id] = run
        return run

    def run(self, number):
        return self.tallyfy.runs[f"run{number}"]

    def wait_for(self, *runs, **options):
        """Begin a wait for each of the runs."""
        begun = []
        for run in runs or self.tallyfy.runs.values():
            wait = Wait(self, run, **options)
            self.scheduler.add(wait, wait.worker_polled_at)
            begun.append(wait)
        self.waits += begun
        return begun[0] if len(begun) == 1 else begun

    def complete(self, run):
        """Complete the next task."""
        run.change(run.done + 1, self.now)
        self.tallyfy.publish(run.id, self.now)

    def reopen(self, run):
        """Reopen the task that was completed last."""
        if run.done:
            run.change(run.done - 1, self.now)
            self.tallyfy.publish(run.id, self.now)

    def comment(self, run):
        """Write a comment, which changes nothing that is waited for."""
        self.tallyfy.publish(run.id, self.now)

    def step(self, until):
        """Send one request, or let time pass until there is one, but not beyond ``until``."""
        request = self.scheduler.next_request(self.now)
        if isinstance(request, float):
            self.now = min(max(request, self.now), until)
            return
        self.sent_at = self.now
        response = self.tallyfy.respond(request, self.now)
        requests = requests_for(request, response)
        self.spent.append((self.now, requests))
        self.now += self.latency
        self.scheduler.budget.spend(requests, self.now)
        for wait, result in self.scheduler.handle_response(request, response, self.sent_at, self.now):
            wait.deliver(result, self.sent_at)

    def pass_time(self, seconds):
        until = self.now + seconds
        while self.now < until:
            self.step(until)
