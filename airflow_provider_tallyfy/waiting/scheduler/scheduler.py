"""
Decides which request to send next for all the waits of one connection, and which of them get the response.

- A few runs are read each by itself. Many are found in a list, 100 a page, while that takes fewer requests. Very many
  are not polled at all while the activity feed says nothing of them: a poll is then one request for all.
- List and feed are hints. A run that looks new in either is read by itself before a wait ends, and *every* run is read
  by itself once in :data:`MAX_STALENESS` seconds, or as often as the request budget allows.
- A failure is that of the run or the endpoint that was asked, with a back-off of its own. Only what every other request
  would have met pauses all: a 429, a refused token, and an outage, which is one if another run, which was read
  before, cannot be read either.
- A wait gets only what was asked for after its first poll was due.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import count, islice
from math import inf
from typing import Any

from airflow_provider_tallyfy.exceptions import TallyfyConnectionError, TallyfyRateLimitError
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
"""Seconds for which the number of a list's pages is believed."""
CLOCK_SKEW = 60.0
"""Seconds by which a worker's clock may differ from the triggerer's before it costs a request."""
STARTUP_GAP = 1.0
"""Seconds within which another wait has to come for the first request to be delayed for it."""
STARTUP_DELAY = 5.0
"""Seconds by which the first request may be delayed in that way."""
FEED_SHARE = 1 / 2
REREAD_SHARE = 1 / 3
"""Of a request budget that is in use: for the feed at most, and for reading each run by itself at least."""
MAX_REREAD_SHARE = 1 / 2
"""Of the request budget: for reading each run by itself at most, unless it is enough for all within the bound."""
_UNKNOWN_PAGES = 5  # what a list is taken for until its first page tells
_SUSPICIOUS_FAILURES = 3

Delivery = tuple[ScheduledWait, PollResult]


def _backoff(count: int, longest: float) -> float:
    """Return the seconds to wait after failure number ``count`` in a row: one at first, then growing."""
    return min(2.0 ** min(count - 1, 60), max(longest, 1.0)) * random.uniform(1, 1.5)  # noqa: S311 (spreads load)


class PollScheduler:
    """
    Decides for all the waits of one connection, one request at a time.

    :param budget: bounds its requests; schedulers may share one.
    """

    def __init__(self, budget: RequestBudget | None = None) -> None:
        self.budget = budget or RequestBudget()
        self.delayed = 0
        """Requests that had to wait for the budget, so far."""
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
        self._failing: dict[str, None] = {}  # runs that failed since one was last read
        self._is_probing = False
        self._outages = 0
        self._turns: dict[str, int] = {}
        self._numbers = count()
        self._has_begun = False
        self._first_begins_at = inf
        self._last_of_the_first = -inf

    def __bool__(self) -> bool:
        return bool(self._runs)

    def waits(self) -> Iterator[ScheduledWait]:
        """Give all waits."""
        for run in self._runs.values():
            yield from run.waits

    def waits_for(self, run_id: str) -> list[ScheduledWait]:
        """Return the waits on a run."""
        return self._runs[run_id].waits if run_id in self._runs else []

    # Waits come and go.

    def add(self, wait: ScheduledWait, polled_at: float = -inf) -> None:
        """
        Begin to serve a wait.

        :param polled_at: when a worker polled the run for it, so that only what came after is new to it.
        """
        run = self._runs.get(wait.run_id)
        if run is None:
            run = self._runs[wait.run_id] = WatchedRun(wait.run_id)
        since = polled_at - CLOCK_SKEW
        if self._feed.covers(since) and not self._feed.told_of(run.run_id, since):
            wait.read_at = wait.read_with = polled_at
        wait.is_listable = set(wait.condition.with_) <= set(LISTED_FIELDS)
        run.waits.append(wait)
        run.read_alone_at = max(run.read_alone_at, polled_at)
        self._schedule_for(run, wait)
        begins_at = wait.begins_at
        if self._first_begins_at == inf or begins_at <= self._last_of_the_first + STARTUP_GAP:
            self._first_begins_at = min(self._first_begins_at, begins_at)
            self._last_of_the_first = max(self._last_of_the_first, begins_at)
        # Many waits come at once when a triggerer starts; the feed is best followed before they are polled. One that is
        # followed may have to be polled sooner, at the pace of this wait.
        self._feed_due_at = min(self._feed_due_at, max(begins_at, self._feed_polled_at + wait.pause))

    def remove(self, wait: ScheduledWait) -> None:
        """Serve a wait no more; to remove it twice does no harm."""
        run = self._runs.get(wait.run_id)
        if run is None or wait not in run.waits:
            return
        run.waits.remove(wait)
        if not run.waits:
            self._take_off(run)
            self._polls.set(run.run_id, inf)
            self._rereads.set(run.run_id, inf)
            self._failing.pop(run.run_id, None)
            del self._runs[run.run_id]

    def request_fresh_read(self, wait: ScheduledWait, at: float) -> None:
        """Have a wait's run read by itself at some time, since what it showed does not end the wait yet."""
        run = self._runs.get(wait.run_id)
        if run is not None and at < run.recheck_at:
            run.recheck_at = at
            self._polls.set(run.run_id, min(self._polls.due_at(run.run_id), at))

    # Which request is next.

    def next_request(self, now: float) -> Fetch | float:
        """Return what to send now, or until when there is nothing to send unless a wait comes."""
        if not self._runs:
            return inf
        paused_until = max(self._paused_until, self.budget.refused_until)
        if now < paused_until:
            return paused_until
        if not self._has_begun:
            # When a triggerer starts, its waits come one after the other, and are best polled together.
            begins_at = min(self._last_of_the_first, self._first_begins_at + STARTUP_DELAY)
            if now < begins_at:
                return begins_at
            self._has_begun = True
        self._gather(now)
        wake_at = self._wake_at(now)
        if wake_at <= now and (allowed_at := self.budget.available_at(now)) > now:
            self._is_delayed = True
            return allowed_at
        if self._is_probing or self._outages:
            return self._count(self._probe(now))
        candidates = dict(self._candidates(now))
        if not candidates:
            return max(self._wake_at(now), now + MIN_PAUSE if wake_at <= now else now)
        # In turn, so that none waits for another for ever, however slowly Tallyfy answers.
        kind = min(candidates, key=lambda kind: self._turns.get(kind, -1))
        self._turns[kind] = next(self._numbers)
        if kind == "reread":
            self._next_reread_at = now + self._reread_pause(now)
        return self._count(candidates[kind])

    def _reread_pause(self, now: float) -> float:
        if not self.budget.is_ample(now):
            return self.budget.pause / REREAD_SHARE
        pause = self.budget.pause / MAX_REREAD_SHARE
        return 0.0 if pause * len(self._runs) <= MAX_STALENESS else pause

    def _count(self, request: Fetch) -> Fetch:
        self.delayed += self._is_delayed
        self._is_delayed = False
        return request

    def _wake_at(self, now: float) -> float:
        """Return when there is something to send: ``now`` or before, or later."""
        if self._urgent or self._pending or self._is_probing or self._outages:
            blocked = (
                self._pending
                and not self._urgent
                and not (self._is_probing or self._outages)
                and self._sweep is not None
                and now < self._list_health.retry_at
                and not self._list_health.is_disabled(now)
                and all(run_id in self._sweep.pending for run_id in self._pending)
            )
            if not blocked:
                return now
            return min(self._list_health.retry_at, self._feed_due_at, self._polls.next_at())
        reread_at = max(self._rereads.next_at(), self._next_reread_at)
        return min(self._feed_due_at, self._polls.next_at(), reread_at)

    def _gather(self, now: float) -> None:
        """Take what is due off the agenda, with all that falls due soon after."""
        if self._polls.next_at() > now:
            return
        soon = now + (0 if self._pending else CLOSE_TOGETHER * self._min_pause())
        not_yet = []
        for run_id in self._polls.take(soon):
            run = self._runs[run_id]
            due_at = self._due_at(run)
            if due_at > soon or (due_at > now and not run.begun(now)):
                not_yet.append((run_id, due_at))
            elif run.is_hinted or run.recheck_at <= soon or run.failures:
                self._take_off(run)
                self._urgent[run_id] = run
            else:
                self._pending[run_id] = run
        for run_id, due_at in not_yet:
            self._polls.set(run_id, due_at)

    def _candidates(self, now: float) -> Iterator[tuple[str, Fetch]]:
        """Give a request of each kind that is due."""
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
        """Give the next request of the sweep through a list, and one for a run that is not in it."""
        if self._sweep is None or not self._sweep.is_worthwhile:
            self._sweep = self._next_sweep(now)
        in_sweep = self._sweep.pending if self._sweep is not None else set()
        if self._sweep is not None and now >= self._list_health.retry_at:
            yield "sweep", FetchRunPage(self._sweep.status, self._sweep.page)
        others = len(self._pending) - len(in_sweep)
        if others:
            # What fell due while a list is read is left to the next sweep, unless it is little, or in no list.
            alone = (
                run
                for run_id, run in self._pending.items()
                if run_id not in in_sweep
                and (others <= BATCH_THRESHOLD or not run.is_listable or run.status_to_try not in self._swept)
            )
            if (run := next(alone, None)) is not None:
                yield "single", self._fetch(run, now)

    def _next_sweep(self, now: float) -> Sweep | None:
        """Choose a list that takes fewer requests than to read by itself each run that it shows."""
        if self._sweep is not None:
            # Not in the whole list: perhaps in another. Not in a part of it: to be read by itself.
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
        """Return a request that tells whether only some runs cannot be read: for the one that was read last."""
        others = [run for run in self._runs.values() if run.run_id not in self._failing]
        if others and self._is_probing:
            return self._fetch(max(others, key=lambda run: run.read_alone_at), now)
        number = next(self._numbers) % len(self._runs)
        return self._fetch(next(islice(self._runs.values(), number, None)), now)

    def _fetch(self, run: WatchedRun, now: float) -> FetchRun:
        """Return the request that shows all that a run's waits need."""
        return FetchRun.for_conditions(
            run.run_id,
            (wait.condition for wait in run.waits),
            with_left_tasks=run.is_hinted or run.recheck_at < inf,
            tasks_error=self._tasks_health.pause_reason(now),
        )

    # What came back.

    def handle_response(
        self,
        request: Fetch,
        response: RunSnapshot | Page[dict[str, Any]] | Page[Activity] | PollError,
        asked_at: float,
        now: float,
    ) -> list[Delivery]:
        """Take the response to a request, and return which waits get what."""
        match request, response:
            case FetchRun(run_id), RunSnapshot():
                self._note_success()
                self._note_tasks(request, response, now)
                run = self._runs.get(run_id)
                return [] if run is None else self._take_read(run, response, asked_at)
            case FetchRun(run_id), PollError():
                return self._take_run_failure(run_id, response, asked_at, now)
            case FetchRunPage(), Page():
                self._list_health.succeed()
                return self._take_list(request, response, asked_at)  # type: ignore[arg-type]
            case FetchRunPage(), PollError():
                self._list_health.fail(response, now)
                self._is_probing = response.is_transient
                if self._list_health.is_disabled(now):
                    self._sweep = None
            case FetchFeedPage(), Page():
                self._feed_health.succeed()
                self._take_feed(response, asked_at, now)  # type: ignore[arg-type]
            case FetchFeedPage(), PollError():
                self._feed_health.fail(response, now)
                self._is_probing = response.is_transient
                self._feed_due_at = self._feed_health.retry_at
                if self._feed_health.is_disabled(now):
                    self._stop_feed()
                    self._feed_due_at = now
        return []

    def _note_tasks(self, request: FetchRun, snapshot: RunSnapshot, now: float) -> None:
        """Note whether the list of a run's tasks could be read; a refusal is about that run."""
        if snapshot.tasks_error is None:
            if request.tasks_error is None and request.required_tasks:
                self._tasks_health.succeed()
        elif request.tasks_error is None and (error := PollError(snapshot.tasks_error)).is_transient:
            self._tasks_health.fail(error, now)

    def _take_read(self, run: WatchedRun, snapshot: RunSnapshot, asked_at: float) -> list[Delivery]:
        run.read_alone_at = asked_at
        # An entry of the feed may be quicker than the change that it tells of.
        run.recheck_at = asked_at + run.pause if run.is_hinted else inf
        run.is_hinted = False
        run.failures = 0
        return self._take_snapshot(run, snapshot, asked_at)

    def _take_list(
        self, request: FetchRunPage, page: Page[dict[str, Any]], asked_at: float
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
            deliveries += self._take_snapshot(run, RunSnapshot(seen, is_from_list=True), asked_at)
        if sweep is not None:
            sweep.turn_page(found)
        return deliveries

    def _take_snapshot(self, run: WatchedRun, snapshot: RunSnapshot, asked_at: float) -> list[Delivery]:
        # A list does not replace a read by itself: a run that is due for one keeps its turn.
        self._take_off(run, keep_urgent=snapshot.is_from_list)
        run.tried = ()
        status = snapshot.run.get("status")
        run.status = status if isinstance(status, str) and status else None
        phase = self._sweep.began_at if self._sweep is not None else asked_at
        begun = run.begun(asked_at)
        for wait in begun:
            wait.poll(asked_at, phase)
        self._schedule(run)
        return [(wait, snapshot) for wait in begun]

    def _take_feed(self, page: Page[Activity], asked_at: float, now: float) -> None:
        since = self._feed.since
        for run_id in self._feed.update_from(page, now):
            if (run := self._runs.get(run_id)) is not None:
                run.is_hinted = True
                run.retry_at = min(run.retry_at, max(now, run.retry_after))
                for wait in run.waits:
                    if wait.begins_at > asked_at:
                        # The others may use the hint up; a worker's poll, which was before, counts no more.
                        wait.read_at = wait.read_with = -inf
                self._schedule(run)
        if self._feed.page > 1:
            return
        for wait in self.waits():
            wait.let_pass(asked_at)
        pause = self._min_pause()
        if not self.budget.is_ample(now):
            pause = max(pause, self.budget.pause / FEED_SHARE)
        self._feed_polled_at = asked_at
        self._feed_due_at = asked_at + pause
        if self._feed.overflows >= MAX_OVERFLOWS:
            self._feed_health.disable("it has more entries at every poll than can be read", now)
            self._stop_feed()
        elif self._feed.since != since:
            self._schedule_all()

    def _take_run_failure(self, run_id: str, error: PollError, asked_at: float, now: float) -> list[Delivery]:
        was_probing, self._is_probing = self._is_probing, False
        if isinstance(error.error, TallyfyRateLimitError):
            return self._pause_all(error, asked_at, now)
        if error.affects_all and error.is_denial:
            return self._pause_all(error, asked_at, now)
        if not error.is_transient:
            self._note_success()  # Tallyfy itself answered
        else:
            self._failing[run_id] = None
            is_outage = was_probing or self._outages or len(self._failing) >= len(self._runs)
            if is_outage:
                return self._pause_all(error, asked_at, now)
            suspicious = isinstance(error.error, TallyfyConnectionError)
            self._is_probing = suspicious or len(self._failing) >= _SUSPICIOUS_FAILURES
        run = self._runs.get(run_id)
        if run is None:
            return []
        self._take_off(run)
        self._back_off(run, error, now)
        return [(wait, error) for wait in run.begun(asked_at)]

    def _back_off(self, run: WatchedRun, error: PollError, now: float) -> None:
        run.failures += 1
        run.recheck_at = inf
        retry_after = min(error.error.retry_after or 0.0, MAX_RETRY_AFTER)
        run.retry_after = now + retry_after
        # Beyond the interval, or a few runs that fail would take what the budget has for all.
        run.retry_at = now + max(_backoff(run.failures, max(run.pause, MAX_STALENESS)), retry_after)
        last_polls = [wait.last_poll_at for wait in run.waits if wait.last_poll_at > now and not retry_after]
        run.retry_at = min([run.retry_at, *last_polls])
        self._schedule(run)

    def _pause_all(self, error: PollError, asked_at: float, now: float) -> list[Delivery]:
        """Pause everything, for what every other request would have met too, and let all waits know."""
        self._outages += 1
        retry_after = min(error.error.retry_after or 0.0, MAX_RETRY_AFTER)
        self._paused_until = now + max(_backoff(self._outages, self._min_pause()), retry_after)
        if isinstance(error.error, TallyfyRateLimitError):
            self.budget.refused_until = self._paused_until
        for health in (self._list_health, self._feed_health, self._tasks_health):
            if health.last_failed_at >= now - MAX_STALENESS and error.is_transient:
                health.reset()  # it failed as everything did
        return [(wait, error) for wait in self.waits() if wait.begins_at <= asked_at]

    def _note_success(self) -> None:
        """Note that Tallyfy itself answered for a run."""
        self._outages = 0
        self._is_probing = False
        self._failing.clear()

    def forget(self) -> None:
        """Forget what was learned of Tallyfy, since another person or another organization polls from now on."""
        self._pages.clear()
        self._list_health.reset()
        self._feed_health.reset()
        self._tasks_health.reset()
        self._sweep = None
        self._failing.clear()
        for run in self._runs.values():
            run.tried, run.read_alone_at = (), -inf
        self._stop_feed()
        self._feed_due_at = -inf
        self._schedule_all()

    # When what is due.

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
            if not run.is_hinted:
                return
            self._take_off(run)
        self._polls.set(run.run_id, due_at)

    def _schedule_for(self, run: WatchedRun, wait: ScheduledWait) -> None:
        """Have a run polled for a wait that has just come, without looking at all the others of the run."""
        reread_at = self._reread_at(run, wait.pause)
        self._rereads.set(run.run_id, min(self._rereads.due_at(run.run_id), reread_at))
        if run.failures:  # whoever clears a task may have seen to the reason
            run.retry_at = min(run.retry_at, max(wait.begins_at, run.retry_after))
            self._polls.set(run.run_id, min(self._polls.due_at(run.run_id), run.retry_at))
        elif run.run_id not in self._urgent and run.run_id not in self._pending:
            due_at = self._due_at_for(run, wait)
            self._polls.set(run.run_id, min(self._polls.due_at(run.run_id), due_at))

    def _due_at(self, run: WatchedRun) -> float:
        if run.failures:
            return run.retry_at
        return min(self._due_at_for(run, wait) for wait in run.waits)

    def _due_at_for(self, run: WatchedRun, wait: ScheduledWait) -> float:
        due_at = wait.due_at
        if run.is_hinted:
            due_at = wait.begins_at
        elif self._feed.covers(wait.read_at):
            due_at = max(due_at, wait.read_with + MAX_STALENESS)
        due_at = min(due_at, wait.last_poll_at, run.recheck_at)
        return max(due_at, wait.begins_at)

    def _reread_at(self, run: WatchedRun, pause: float) -> float:
        """Return when to read a run by itself, whatever list and feed show."""
        if run.failures:
            return inf  # it is retried anyway
        since = run.read_alone_at if run.read_alone_at != -inf else run.waits[0].begins_at
        return since + max(MAX_STALENESS, pause)

    def _take_off(self, run: WatchedRun, *, keep_urgent: bool = False) -> None:
        """Take a run off what is due now."""
        self._pending.pop(run.run_id, None)
        if not keep_urgent:
            self._urgent.pop(run.run_id, None)
        if self._sweep is not None:
            self._sweep.pending.discard(run.run_id)

    def _min_pause(self) -> float:
        """Return the pause between polls that the most eager wait wants now."""
        return min((wait.pause for wait in self.waits()), default=MIN_PAUSE)
