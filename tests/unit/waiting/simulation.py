"""A Tallyfy of plain values, people who work on its runs, and waits that a plan serves; time passes only as told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from math import inf

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.protocol.responses import Activity, Page
from airflow_provider_tallyfy.waiting.evidence import Evidence
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.outcomes import Denied, Pending, PollFailed, Unconfirmed
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

PER_PAGE = 100
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
    before: tuple[float, int] = (-inf, 0)  # until when it was as it was before, and how many tasks were done
    least_done: int = 0
    most_done: int = 0

    def change(self, done, now):
        self.before = (now, self.done)
        self.done, self.changed_at = done, now
        self.most_done, self.least_done = max(self.most_done, done), min(self.least_done, done)

    def as_of(self, now):
        """The run as a replica shows it that has come to this time; of older states, only the last is known."""
        until, done = self.before
        return replace(self, done=done) if now < until else self

    @property
    def next_id(self):
        return f"{self.id}-{self.done}" if self.done < self.total else None

    def shown(self):
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
        seconds = max(self.changed_at, 0.0)
        return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat()

    def snapshot(self, left_tasks):
        """The run read by itself, and with it the tasks that waits move on from."""
        done = [task for task in left_tasks if int(task.rpartition("-")[2]) < self.done]
        return RunSnapshot(self.shown(), left_tasks=dict.fromkeys(done))


@dataclass
class Tallyfy:
    """What answers; its faults are set as attributes, and :attr:`broken` gives the next errors, by kind of question."""

    runs: dict[str, Run] = field(default_factory=dict)
    entries: list[tuple[float, Activity]] = field(default_factory=list)
    asked: list[tuple[float, object]] = field(default_factory=list)
    broken: dict[str, exceptions.TallyfyError] = field(default_factory=dict)
    broken_runs: dict[str, exceptions.TallyfyError] = field(default_factory=dict)
    feed_delay: float = 0.0
    feed_lies: bool = False
    pages_are_counted: bool = True
    list_lacks_next_task: bool = False
    lists: dict[str, dict] = field(default_factory=dict)  # what lists show of runs, since they were frozen
    lag: float = 0.0  # by which every other read of a run is older
    entries_per_request: int = 0  # that arrive in the feed with each request for a page of it
    numbers: count = field(default_factory=lambda: count(1))

    def freeze_lists(self):
        self.lists = {run.id: run.shown() for run in self.runs.values()}

    def requests(self, kind=None, since=-inf):
        return sum(at >= since and isinstance(question, kind or object) for at, question in self.asked)

    def kinds(self, since=-inf):
        return Counter(type(question).__name__ for at, question in self.asked if at >= since)

    def happened(self, run_id, now):
        if not self.feed_lies:
            self.entries.append((now + self.feed_delay, Activity(str(next(self.numbers)), run_id)))

    def answer(self, question, now):
        self.asked.append((now, question))
        kind = type(question).__name__
        if kind in self.broken or "all" in self.broken:
            return PollError(self.broken.get("all") or self.broken[kind])
        match question:
            case FetchRun(run_id, left_tasks=left):
                if run_id in self.broken_runs:
                    return PollError(self.broken_runs[run_id])
                if run_id not in self.runs:
                    return PollError(GONE)
                lag = self.lag if len(self.asked) % 2 else 0.0
                return self.runs[run_id].as_of(now - lag).snapshot(left)
            case FetchRunPage(status, page):
                return self._list(status, page)
            case FetchFeedPage(page):
                for _ in range(self.entries_per_request):
                    self.happened("elsewhere", now - self.feed_delay)
                return self._feed(page, now)

    def _list(self, status, number):
        found = [
            run
            for run in reversed(self.runs.values())
            if not run.archived and (run.status if run.done < run.total else "complete") == status
        ]
        page = _page(found, number, self._listed)
        return page if self.pages_are_counted else replace(page, total_pages=None)

    def _listed(self, run):
        shown = dict(self.lists.get(run.id) or run.shown())
        if self.list_lacks_next_task:
            shown["next_task"] = None
        return shown

    def _feed(self, number, now):
        published = sorted((entry for entry in self.entries if entry[0] <= now), key=lambda entry: -entry[0])
        return _page([activity for _, activity in published], number)


def _page(items, number, show=lambda item: item):
    pages = max(1, -(-len(items) // PER_PAGE))
    shown = tuple(map(show, items[(number - 1) * PER_PAGE : number * PER_PAGE]))
    return Page(shown, number >= pages, pages)


@dataclass(frozen=True)
class AnotherTask(NextTaskCondition):
    """The condition of a sensor, in a run that has to be read with more than its next task, perhaps."""

    with_: tuple[str, ...] = ("next_task",)

    def evaluate(self, snapshot):
        outcome = super().evaluate(snapshot)
        if isinstance(outcome, Pending):
            return Pending(replace(self, from_task_id=outcome.condition.from_task_id))
        return outcome


class Wait(ScheduledWait):
    """A wait, deciding as the one in the triggerer does."""

    def __init__(self, simulation, run, *, with_=("next_task",), looked_at=-inf, **pace):
        condition = AnotherTask(run.next_id, with_)
        pace = PollSchedule(**{"poke_interval": INTERVAL, **pace})
        now = simulation.now
        begins_at = (
            now
            if looked_at == -inf
            else min(max(looked_at + pace.poke_interval, now), now + pace.poke_interval)
        )
        super().__init__(run.id, condition, pace, begins_at)
        self.evidence = Evidence(run.id, condition)
        self.simulation = simulation

        self.began_at = now
        self._baseline_done = run.done
        self.looked_at = looked_at
        self.sights, self.blanks = [], []
        self.over_at = None
        self.outlives_denials = False

    @property
    def baseline(self):
        return self.condition.from_task_id

    @baseline.setter
    def baseline(self, task_id):
        self.condition = self.evidence.condition = replace(self.condition, from_task_id=task_id)

    def deliver(self, look, polled_at):
        assert self.over_at is None, "told after it was over"
        assert self.simulation.asked_at >= self.begins_at, "told what was asked for before it began"
        (self.sights if isinstance(look, RunSnapshot) else self.blanks).append(look)
        outcome = self.evidence.evaluate(look, polled_at)
        if isinstance(outcome, PollFailed) or (self.outlives_denials and isinstance(outcome, Denied)):
            return
        if isinstance(outcome, Pending):
            return
        if isinstance(outcome, Unconfirmed):
            self.simulation.scheduler.request_fresh_read(self, self.simulation.now + outcome.recheck_after)
            return
        self.over_at = self.simulation.now
        # People do nothing between a question and its answer, so this is what was to be seen.
        self.woken_by = run.next_id if (run := self.simulation.tallyfy.runs.get(self.run_id)) else None
        self.outcome = outcome
        # Whatever was reopened since: the run has moved on at some time while the wait was there, or shortly before.
        self.had_moved_on = self.woken_by != self.baseline or run.before[1] != self._baseline_done
        self.simulation.scheduler.remove(self)


def requests_for(question, answer):
    """How many HTTP requests a fetch takes: tasks to move on from that the run does not show are read alone."""
    if not isinstance(question, FetchRun) or not isinstance(answer, RunSnapshot) or "tasks" in question.with_:
        return 1
    next_task = answer.run["next_task"]
    return 1 + sum(next_task is not None and task != next_task["id"] for task in question.left_tasks)


class Simulation:
    """A plan at work."""

    def __init__(self, runs=0, *, latency=LATENCY, requests_per_hour=0):
        self.now = START
        self.latency = latency
        self.asked_at = START
        self.tallyfy = Tallyfy()
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
            self.scheduler.add(wait, wait.looked_at)
            begun.append(wait)
        self.waits += begun
        return begun[0] if len(begun) == 1 else begun

    def complete(self, run):
        """Somebody completes the next task."""
        run.change(run.done + 1, self.now)
        self.tallyfy.happened(run.id, self.now)

    def reopen(self, run):
        """Somebody reopens the task that was completed last."""
        if run.done:
            run.change(run.done - 1, self.now)
            self.tallyfy.happened(run.id, self.now)

    def comment(self, run):
        """Somebody writes a comment, which changes nothing that is waited for."""
        self.tallyfy.happened(run.id, self.now)

    def step(self, until):
        """Ask one question, or let time pass until there is one, but not beyond ``until``."""
        question = self.scheduler.next_request(self.now)
        if isinstance(question, float):
            self.now = min(max(question, self.now), until)
            return
        self.asked_at = self.now
        answer = self.tallyfy.answer(question, self.now)
        requests = requests_for(question, answer)
        self.spent.append((self.now, requests))
        self.now += self.latency
        self.scheduler.budget.spend(requests, self.now)
        for watch, look in self.scheduler.handle_response(question, answer, self.asked_at, self.now):
            watch.deliver(look, self.asked_at)

    def pass_time(self, seconds):
        until = self.now + seconds
        while self.now < until:
            self.step(until)
