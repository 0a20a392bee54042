"""
Decides which request to send next for all the waits of one connection, and which of them get the response.

- A few runs are read each by itself. Many are found in a list, 100 a page, if that takes fewer requests. Very many are
  polled only when the activity feed names them: a poll is then one request for all.
- List and feed are hints. A run that seems to have changed in either is read by itself before a wait ends, and *every*
  run is read by itself once in :data:`MAX_STALENESS` seconds, or as often as the request budget allows.
- A run or an endpoint that fails has a back-off of its own. Only what affects every request pauses all: a 429, a
  refused token, and an outage. After a few failures in a row, the run that was read last is read once more: it is an
  outage if that fails, too.
- A wait gets only responses to requests that were sent after its first poll was due.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import count
from math import inf
from typing import Any

from airflow_provider_tallyfy.exceptions import TallyfyRateLimitError
from airflow_provider_tallyfy.protocol.responses import Activity, Page
from airflow_provider_tallyfy.waiting.polls import (
    LISTED_FIELDS,
    MAX_RETRY_AFTER,
    Fetch,
    FetchFeedPage,
    FetchRun,
    FetchRunPage,
    PollError,
    PollResult,
    RunSnapshot,
)
from airflow_provider_tallyfy.waiting.scheduler.agenda import Agenda
from airflow_provider_tallyfy.waiting.scheduler.budget import RequestBudget
from airflow_provider_tallyfy.waiting.scheduler.endpoint_health import EndpointHealth
from airflow_provider_tallyfy.waiting.scheduler.feed import MAX_OVERFLOWS, Feed
from airflow_provider_tallyfy.waiting.scheduler.sweep import BATCH_THRESHOLD, Sweep
from airflow_provider_tallyfy.waiting.scheduler.waits import (
    CLOSE_TOGETHER,
    MIN_PAUSE,
    OPEN_STATUSES,
    ScheduledWait,
    WatchedRun,
)

MAX_STALENESS = 300.0
"""Seconds after which a run is read by itself, whatever list and feed say of it."""
LIST_SIZE_VALID = 3600.0
"""Seconds after which the number of pages of a list is found out again."""
WORKER_CLOCK_SKEW = 60.0
"""Seconds by which a worker's clock may differ from the triggerer's before it costs a request."""
STARTUP_GAP = 1.0
"""Seconds between two waits that begin together: the first request is delayed for the later one."""
STARTUP_DELAY = 5.0
"""Maximum of that delay."""
FEED_SHARE = 1 / 2
REREAD_SHARE = 1 / 3
"""Of a request budget that is in use: for the feed at most, and for reading each run by itself at least."""
MAX_REREAD_SHARE = 1 / 2
"""Of the request budget: for reading each run by itself at most, unless it is enough for all within the bound."""
_UNKNOWN_PAGES = 5  # assumed until the first page says how many there are
_MAX_FAILURES = 3  # in a row; then it may be an outage

Delivery = tuple[ScheduledWait, PollResult]


def _backoff(count: int, longest: float) -> float:
    """Return the seconds to wait after failure number ``count`` in a row: one at first, then growing."""
    return min(2.0 ** min(count - 1, 60), max(longest, 1.0)) * random.uniform(1, 1.5)  # noqa: S311 (spreads load)


class PollScheduler:
    """
    Decides which requests to send for all the waits of one connection, one at a time.

    :param budget: bounds its requests; schedulers may share one.
    """

    def __init__(self, budget: RequestBudget | None = None) -> None:
        self.budget = budget or RequestBudget()
        self.delayed = 0
        """Number of requests that had to wait for the budget; whoever reports it sets it to zero."""
        self._is_delayed = False
        self._runs: dict[str, WatchedRun] = {}
        self._polls = Agenda()
        self._rereads = Agenda()
        self._next_reread_at = -inf
        self._pending: dict[str, WatchedRun] = {}  # due to be polled, in a list or alone
        self._urgent: dict[str, WatchedRun] = {}  # due to be read alone
        self._sweep: Sweep | None = None
        self._swept: dict[str, set[str]] = {}  # the statuses whose lists are worth a sweep now
        self._pages: dict[str, int] = {}  # of the list of each status
        self._pages_known_since = -inf
        self._list_health = EndpointHealth("list of runs")
        self._feed_health = EndpointHealth("activity feed")
        self._tasks_health = EndpointHealth("list of tasks")
        self._feed = Feed()
        self._feed_due_at = inf
        self._feed_polled_at = -inf
        self._paused_until = -inf
        self._failures = 0  # in a row, since a run was last read
        self._turns: dict[str, int] = {}
        self._numbers = count()
        self._is_started = False
        self._first_wait_at = inf
        self._last_of_first_waits_at = -inf

    def __bool__(self) -> bool:
        return bool(self._runs)

    def waits(self) -> Iterator[ScheduledWait]:
        """Yield all waits."""
        for run in self._runs.values():
            yield from run.waits

    def waits_for(self, run_id: str) -> list[ScheduledWait]:
        """Return the waits on a run."""
        return self._runs[run_id].waits if run_id in self._runs else []

    # Waits

    def add(self, wait: ScheduledWait, polled_at: float = -inf) -> None:
        """
        Begin to serve a wait.

        :param polled_at: when a worker polled the run for it, so that only what came after is new to it.
        """
        run = self._runs.get(wait.run_id)
        if run is None:
            run = self._runs[wait.run_id] = WatchedRun(wait.run_id)
        since = polled_at - WORKER_CLOCK_SKEW
        if self._feed.covers(since) and not self._feed.has_named(run.run_id, since):
            wait.read_at = wait.read_with = polled_at
        wait.is_listable = set(wait.condition.with_) <= set(LISTED_FIELDS)
        run.waits.append(wait)
        run.read_alone_at = max(run.read_alone_at, polled_at)
        self._schedule_new_wait(run, wait)
        begins_at = wait.begins_at
        if self._first_wait_at == inf or begins_at <= self._last_of_first_waits_at + STARTUP_GAP:
            self._first_wait_at = min(self._first_wait_at, begins_at)
            self._last_of_first_waits_at = max(self._last_of_first_waits_at, begins_at)
        # Many waits come at once when a triggerer starts; the feed is best followed before they are polled. A feed that
        # is followed already may have to be polled sooner, at the pace of this wait.
        self._feed_due_at = min(self._feed_due_at, max(begins_at, self._feed_polled_at + wait.pause))

    def remove(self, wait: ScheduledWait) -> None:
        """Stop polling for a wait; it may have been removed already."""
        run = self._runs.get(wait.run_id)
        if run is None or wait not in run.waits:
            return
        run.waits.remove(wait)
        if not run.waits:
            self._unqueue(run)
            self._polls.set(run.run_id, inf)
            self._rereads.set(run.run_id, inf)
            del self._runs[run.run_id]

    def request_fresh_read(self, wait: ScheduledWait, at: float) -> None:
        """Read a wait's run by itself at some time, since its last poll does not end the wait yet."""
        run = self._runs.get(wait.run_id)
        if run is not None and at < run.recheck_at:
            run.recheck_at = at
            self._polls.set(run.run_id, min(self._polls.due_at(run.run_id), at))

    # Requests

    def next_request(self, now: float) -> Fetch | float:
        """Return what to send now, or when to call this again, unless a wait is added before."""
        if not self._runs:
            return inf
        paused_until = max(self._paused_until, self.budget.refused_until)
        if now < paused_until:
            return paused_until
        if not self._is_started:
            # When a triggerer starts, its waits begin one after the other, and are polled together.
            begins_at = min(self._last_of_first_waits_at, self._first_wait_at + STARTUP_DELAY)
            if now < begins_at:
                return begins_at
            self._is_started = True
        self._queue_due_runs(now)
        may_be_outage = self._failures >= _MAX_FAILURES
        is_due = may_be_outage or self._urgent or self._pending or self._next_due_at() <= now
        if is_due and (allowed_at := self.budget.available_at(now)) > now:
            self._is_delayed = True
            return allowed_at
        if may_be_outage:
            request: Fetch = self._probe(now)
        elif candidates := dict(self._candidates(now)):
            # In turn, so that none waits for another for ever, however slowly Tallyfy answers.
            kind = min(candidates, key=lambda kind: self._turns.get(kind, -1))
            self._turns[kind] = next(self._numbers)
            if kind == "reread":
                self._next_reread_at = now + self._reread_pause(now)
            request = candidates[kind]
        else:
            list_retry_at = self._list_health.retry_at if self._pending else inf
            return max(min(list_retry_at, self._next_due_at()), now)
        self.delayed += self._is_delayed
        self._is_delayed = False
        return request

    def _next_due_at(self) -> float:
        """Return when something is due, beside what was due before and could not be sent yet."""
        reread_at = max(self._rereads.next_at(), self._next_reread_at)
        return min(self._feed_due_at, self._polls.next_at(), reread_at)

    def _reread_pause(self, now: float) -> float:
        if not self.budget.is_ample(now):
            return self.budget.pause / REREAD_SHARE
        pause = self.budget.pause / MAX_REREAD_SHARE
        return 0.0 if pause * len(self._runs) <= MAX_STALENESS else pause

    def _queue_due_runs(self, now: float) -> None:
        """Move runs that are due, or will be soon, from the agenda to the queues."""
        if self._polls.next_at() > now:
            return
        soon = now + (0 if self._pending else CLOSE_TOGETHER * self._min_pause())
        not_yet = []
        for run_id in self._polls.take(soon):
            run = self._runs[run_id]
            due_at = self._due_at(run)
            if due_at > soon or (due_at > now and not run.begun(now)):
                not_yet.append((run_id, due_at))
            elif run.has_activity or run.recheck_at <= soon or run.failures:
                self._unqueue(run)
                self._urgent[run_id] = run
            else:
                self._pending[run_id] = run
        for run_id, due_at in not_yet:
            self._polls.set(run_id, due_at)

    def _candidates(self, now: float) -> Iterator[tuple[str, Fetch]]:
        """Yield a request of each kind that is due."""
        if now >= self._feed_due_at and (feed := self._feed_request(now)) is not None:
            yield "feed", feed
        if self._urgent:
            yield "urgent", self._fetch(next(iter(self._urgent.values())), now)
        if self._pending:
            yield from self._poll_requests(now)
        if self._rereads.next_at() <= now and self._next_reread_at <= now:
            yield "reread", self._fetch(self._runs[self._rereads.first()], now)

    def _feed_request(self, now: float) -> FetchFeedPage | None:
        if self._feed.page > 1 or self._wants_feed(now):
            return FetchFeedPage(self._feed.page)
        self._stop_feed()
        self._feed_due_at = now + self._min_pause()
        return None

    def _wants_feed(self, now: float) -> bool:
        return (
            not self._feed_health.is_disabled(now)
            and self._min_pause() < MAX_STALENESS
            and self._requests_per_poll(now) > BATCH_THRESHOLD
        )

    def _requests_per_poll(self, now: float) -> int:
        """Return how many requests it takes to poll every run, as far as is known."""
        if self._list_health.is_disabled(now):
            return len(self._runs)
        by_status = Counter(run.status or OPEN_STATUSES[0] for run in self._runs.values() if run.is_listable)
        alone = len(self._runs) - by_status.total()
        return alone + sum(
            min(number, self._pages.get(status, number)) for status, number in by_status.items()
        )

    def _poll_requests(self, now: float) -> Iterator[tuple[str, Fetch]]:
        """Yield the next request of the sweep through a list, and one for a run that is not in it."""
        if self._sweep is None or not self._sweep.is_worthwhile:
            self._sweep = self._next_sweep(now)
        in_sweep = self._sweep.pending if self._sweep is not None else set()
        if self._sweep is not None and now >= self._list_health.retry_at:
            yield "sweep", FetchRunPage(self._sweep.status, self._sweep.page)
        others = len(self._pending) - len(in_sweep)
        if others:
            # Runs that fell due during the sweep are left to the next one, unless they are few, or in no list.
            alone = (
                run
                for run_id, run in self._pending.items()
                if run_id not in in_sweep
                and (others <= BATCH_THRESHOLD or not run.is_listable or run.status_to_try not in self._swept)
            )
            if (run := next(alone, None)) is not None:
                yield "single", self._fetch(run, now)

    def _next_sweep(self, now: float) -> Sweep | None:
        """Choose a list that takes fewer requests than reading each of its runs by itself."""
        if self._sweep is not None:
            # A run that is not in the whole list may be in another. If only a part was read, read the run by itself.
            tried = (self._sweep.status,) if self._sweep.is_at_end else (self._sweep.status, *OPEN_STATUSES)
            for run_id in self._sweep.pending:
                self._runs[run_id].tried += tried
        self._swept = {}
        if self._list_health.is_disabled(now):
            return None
        if now - self._pages_known_since > LIST_SIZE_VALID:
            self._pages, self._pages_known_since = {}, now
        by_status: dict[str, set[str]] = {}
        for run_id, run in self._pending.items():
            if run.is_listable and (status := run.status_to_try) is not None:
                by_status.setdefault(status, set()).add(run_id)
        self._swept = {
            status: run_ids
            for status, run_ids in by_status.items()
            if len(run_ids) > max(BATCH_THRESHOLD, self._pages.get(status, _UNKNOWN_PAGES))
        }
        for status, run_ids in self._swept.items():
            return Sweep(status, set(run_ids), now, self._pages.get(status))
        return None

    def _probe(self, now: float) -> FetchRun:
        """Return a request that most likely fails in an outage only: first for the run that was read last."""
        if self._failures == _MAX_FAILURES:
            run = max(self._runs.values(), key=lambda run: (not run.failures, run.read_alone_at))
        else:  # that run may fail for a reason of its own, so one after the other, new ones first
            run = min(reversed(self._runs.values()), key=lambda run: run.probed_at)
        run.probed_at = now
        return self._fetch(run, now)

    def _fetch(self, run: WatchedRun, now: float) -> FetchRun:
        """Return the request for all that a run's waits need."""
        return FetchRun.for_conditions(
            run.run_id,
            (wait.condition for wait in run.waits),
            with_tasks=run.has_activity or run.recheck_at < inf,
            tasks_error=self._tasks_health.pause_reason(now),
        )

    # Responses

    def handle_response(
        self,
        request: Fetch,
        response: RunSnapshot | Page[dict[str, Any]] | Page[Activity] | PollError,
        sent_at: float,
        now: float,
    ) -> list[Delivery]:
        """Take the response to a request, and return which waits get which result."""
        match request, response:
            case FetchRun(run_id), RunSnapshot():
                self._failures = 0
                self._tasks_health.note_task_list(request, response, now)
                run = self._runs.get(run_id)
                return [] if run is None else self._handle_run(run, response, sent_at)
            case FetchRun(run_id), PollError():
                return self._handle_run_error(run_id, response, sent_at, now)
            case FetchRunPage(), Page():
                self._list_health.succeed()
                return self._handle_list_page(request, response, sent_at)  # type: ignore[arg-type]
            case FetchRunPage(), PollError():
                self._list_health.fail(response, now)
                self._failures = _MAX_FAILURES if response.is_transient else 0
                if self._list_health.is_disabled(now):
                    self._sweep = None
            case FetchFeedPage(), Page():
                self._feed_health.succeed()
                self._handle_feed_page(response, sent_at, now)  # type: ignore[arg-type]
            case FetchFeedPage(), PollError():
                self._feed_health.fail(response, now)
                self._failures = _MAX_FAILURES if response.is_transient else 0
                self._feed_due_at = self._feed_health.retry_at
                if self._feed_health.is_disabled(now):
                    self._stop_feed()
                    self._feed_due_at = now
        return []

    def _handle_run(self, run: WatchedRun, snapshot: RunSnapshot, sent_at: float) -> list[Delivery]:
        run.read_alone_at = sent_at
        # An entry of the feed may be visible before the change that it is about.
        run.recheck_at = sent_at + run.pause if run.has_activity else inf
        run.has_activity = False
        run.failures = 0
        return self._handle_snapshot(run, snapshot, sent_at)

    def _handle_list_page(
        self, request: FetchRunPage, page: Page[dict[str, Any]], sent_at: float
    ) -> list[Delivery]:
        deliveries: list[Delivery] = []
        sweep = self._sweep if self._sweep is not None and self._sweep.status == request.status else None
        if page.total_pages is not None or page.is_last:
            self._pages[request.status] = max(1, page.total_pages or request.page)
            if sweep is not None:
                sweep.pages = self._pages[request.status]
        found = 0
        for seen in page.items:
            run = self._runs.get(str(seen.get("id")))
            if run is None or not run.is_listable or run.failures:
                continue
            found += sweep is not None and run.run_id in sweep.pending
            deliveries += self._handle_snapshot(run, RunSnapshot(seen, is_from_list=True), sent_at)
        if sweep is not None:
            sweep.turn_page(found)
        return deliveries

    def _handle_snapshot(self, run: WatchedRun, snapshot: RunSnapshot, sent_at: float) -> list[Delivery]:
        # A list does not replace a read of the run by itself, if that is due.
        self._unqueue(run, keep_urgent=snapshot.is_from_list)
        run.tried = ()
        status = snapshot.run.get("status")
        run.status = status if isinstance(status, str) and status else None
        phase = self._sweep.began_at if self._sweep is not None else sent_at
        begun = run.begun(sent_at)
        for wait in begun:
            wait.poll(sent_at, phase)
        self._schedule(run)
        return [(wait, snapshot) for wait in begun]

    def _handle_feed_page(self, page: Page[Activity], sent_at: float, now: float) -> None:
        since = self._feed.since
        for run_id in self._feed.update_from(page, now):
            if (run := self._runs.get(run_id)) is not None:
                run.has_activity = True
                run.retry_at = min(run.retry_at, max(now, run.retry_after))
                for wait in run.waits:
                    if wait.begins_at > sent_at:
                        # It gets no result of the read that follows, so the worker's poll does not count as its first.
                        wait.read_at = wait.read_with = -inf
                self._schedule(run)
        if self._feed.page > 1:
            return
        for wait in self.waits():
            wait.skip_polls(sent_at)
        pause = self._min_pause()
        if not self.budget.is_ample(now):
            pause = max(pause, self.budget.pause / FEED_SHARE)
        self._feed_polled_at = sent_at
        self._feed_due_at = sent_at + pause
        if self._feed.overflows >= MAX_OVERFLOWS:
            self._feed_health.disable("every poll has more new entries than can be read", now)
            self._stop_feed()
        elif self._feed.since != since:
            self._schedule_all()

    def _handle_run_error(self, run_id: str, error: PollError, sent_at: float, now: float) -> list[Delivery]:
        if isinstance(error.error, TallyfyRateLimitError) or (error.affects_all and error.is_denial):
            return self._pause_all(error, sent_at, now)
        if not error.is_transient:
            self._failures = 0  # Tallyfy itself answered
        elif self._failures >= _MAX_FAILURES or all(
            run.failures for run in self._runs.values() if run.run_id != run_id
        ):
            return self._pause_all(error, sent_at, now)
        else:
            self._failures += 1
        run = self._runs.get(run_id)
        if run is None:
            return []
        self._unqueue(run)
        self._back_off(run, error, now)
        return [(wait, error) for wait in run.begun(sent_at)]

    def _back_off(self, run: WatchedRun, error: PollError, now: float) -> None:
        run.failures += 1
        run.recheck_at = inf
        retry_after = min(error.error.retry_after or 0.0, MAX_RETRY_AFTER)
        run.retry_after = now + retry_after
        # Longer than the interval, or a few runs that fail would use up the budget of all.
        run.retry_at = now + max(_backoff(run.failures, max(run.pause, MAX_STALENESS)), retry_after)
        last_polls = [wait.last_poll_at for wait in run.waits if wait.last_poll_at > now and not retry_after]
        run.retry_at = min([run.retry_at, *last_polls])
        self._schedule(run)

    def _pause_all(self, error: PollError, sent_at: float, now: float) -> list[Delivery]:
        """Pause all requests, and deliver the error to all waits."""
        self._failures = max(self._failures, _MAX_FAILURES) + 1
        retry_after = min(error.error.retry_after or 0.0, MAX_RETRY_AFTER)
        backoff = _backoff(self._failures - _MAX_FAILURES, self._min_pause())
        self._paused_until = now + max(backoff, retry_after)
        if isinstance(error.error, TallyfyRateLimitError):
            self.budget.refused_until = self._paused_until
        for health in (self._list_health, self._feed_health, self._tasks_health):
            if health.last_failed_at >= now - MAX_STALENESS and error.is_transient:
                health.reset()  # the outage was the reason
        return [(wait, error) for wait in self.waits() if wait.begins_at <= sent_at]

    def forget(self) -> None:
        """Forget all that was read so far, since the connection leads to another user or organization from now on."""
        self._pages.clear()
        self._list_health.reset()
        self._feed_health.reset()
        self._tasks_health.reset()
        self._sweep = None
        self._failures = 0
        for run in self._runs.values():
            run.tried, run.read_alone_at = (), -inf
        self._stop_feed()
        self._feed_due_at = -inf
        self._schedule_all()

    # Times

    def _stop_feed(self) -> None:
        was_followed = self._feed.is_followed
        self._feed.stop()
        self._feed_polled_at = -inf
        if was_followed:
            self._schedule_all()

    def _schedule_all(self) -> None:
        for run in self._runs.values():
            self._schedule(run)

    def _schedule(self, run: WatchedRun) -> None:
        self._rereads.set(run.run_id, self._reread_at(run, run.pause))
        if run.run_id in self._urgent:
            return
        due_at = self._due_at(run)
        if run.run_id in self._pending:
            if not run.has_activity:
                return
            self._unqueue(run)
        self._polls.set(run.run_id, due_at)

    def _schedule_new_wait(self, run: WatchedRun, wait: ScheduledWait) -> None:
        """Schedule a run for a new wait, without going through all the others of the run."""
        reread_at = self._reread_at(run, wait.pause)
        self._rereads.set(run.run_id, min(self._rereads.due_at(run.run_id), reread_at))
        if run.failures:  # a user who clears a task may have removed the reason
            run.retry_at = min(run.retry_at, max(wait.begins_at, run.retry_after))
            self._polls.set(run.run_id, min(self._polls.due_at(run.run_id), run.retry_at))
        elif run.run_id not in self._urgent and run.run_id not in self._pending:
            due_at = self._wait_due_at(run, wait)
            self._polls.set(run.run_id, min(self._polls.due_at(run.run_id), due_at))

    def _due_at(self, run: WatchedRun) -> float:
        if run.failures:
            return run.retry_at
        return min(self._wait_due_at(run, wait) for wait in run.waits)

    def _wait_due_at(self, run: WatchedRun, wait: ScheduledWait) -> float:
        due_at = wait.due_at
        if run.has_activity:
            due_at = wait.begins_at
        elif self._feed.covers(wait.read_at):
            due_at = max(due_at, wait.read_with + MAX_STALENESS)
        due_at = min(due_at, wait.last_poll_at, run.recheck_at)
        return max(due_at, wait.begins_at)

    def _reread_at(self, run: WatchedRun, pause: float) -> float:
        """Return when to read a run by itself, independent of list and feed."""
        if run.failures:
            return inf  # it is retried anyway
        since = run.read_alone_at if run.read_alone_at != -inf else run.waits[0].begins_at
        return since + max(MAX_STALENESS, pause)

    def _unqueue(self, run: WatchedRun, *, keep_urgent: bool = False) -> None:
        """Remove a run from the queues."""
        self._pending.pop(run.run_id, None)
        if not keep_urgent:
            self._urgent.pop(run.run_id, None)
        if self._sweep is not None:
            self._sweep.pending.discard(run.run_id)

    def _min_pause(self) -> float:
        """Return the shortest pause between polls of any wait."""
        return min((wait.pause for wait in self.waits()), default=MIN_PAUSE)
