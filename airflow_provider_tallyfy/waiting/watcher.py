"""
Polls in the triggerer: one watcher for each connection sends the requests of all waits on it.

:func:`subscribe` gives a wait a :class:`Subscription` to its connection's :class:`Watcher`, which lives from the first
wait to the last. The watcher takes the next request from its
:class:`~airflow_provider_tallyfy.waiting.scheduler.scheduler.PollScheduler`, sends it in a thread, hands the response
back, and delivers the result to the waits that the scheduler names. It decides nothing itself: the scheduler decides
when to send what, each trigger decides what a result means, and the hook decides when to read a
connection again (:class:`~airflow_provider_tallyfy.waiting.polls.ReloadingHook`).
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_tallyfy import metrics
from airflow_provider_tallyfy.exceptions import TallyfyResponseError
from airflow_provider_tallyfy.waiting.outcomes import Condition
from airflow_provider_tallyfy.waiting.polls import (
    Fetch,
    FetchFeedPage,
    FetchRun,
    PollError,
    PollResult,
    ReloadingHook,
    RunSnapshot,
    Target,
    unread_connection,
)
from airflow_provider_tallyfy.waiting.scheduler.budget import RequestBudget
from airflow_provider_tallyfy.waiting.scheduler.scheduler import PollScheduler
from airflow_provider_tallyfy.waiting.scheduler.waits import PollSchedule, ScheduledWait
from airflow_provider_tallyfy.waiting.threads import BackgroundLogger, DaemonThreads, in_thread, spread

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection
    from airflow_provider_tallyfy.protocol.responses import Activity, Page

STARTUP_PAUSE = 0.5
"""Seconds before a wait's first poll, so that waits that begin together are polled together."""
MAX_IDLE = 15.0
"""Seconds for which a socket is kept open without use."""
MAX_CONNECTION_AGE = 3600.0
"""Seconds after which a connection that works is read again, too."""
LAST_POLL_BEFORE_END = 5.0
"""Seconds before a wait's timeout: enough for a poll, and for its result to arrive."""
DELAY_WARNING_INTERVAL = 3600.0
"""Seconds between two log lines that say that polls are delayed."""
_PAUSE_AFTER_BUG = 10.0

logger = BackgroundLogger(__name__)


class Clock:
    """The clock of an event loop, which no change of the wall clock moves."""

    def now(self) -> float:
        """Return the seconds since some fixed time."""
        return asyncio.get_running_loop().time()

    async def wait(self, event: asyncio.Event, until: float) -> None:
        """Wait for an event, but not longer than until some time."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(None if until == inf else until):
                await event.wait()


class Subscription(ScheduledWait):
    """
    A wait that the watcher polls for, for as long as a ``with`` block lasts.

    :param watcher: polls for it.
    :param worker_polled_at: when a worker polled the run, by the watcher's clock; ``-inf`` for never.
    """

    __slots__ = ("_arrival", "_results", "_watcher", "_worker_polled_at")

    def __init__(self, watcher: Watcher, worker_polled_at: float, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._watcher = watcher
        self._worker_polled_at = worker_polled_at
        self._results: deque[tuple[PollResult, float]] | None = None
        self._arrival: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._watcher.add(self, self._worker_polled_at)
        return self

    def __exit__(self, *raised: object) -> None:
        self._watcher.remove(self)

    def deliver(self, result: PollResult, polled_at: float) -> None:
        """Hand over the result of a poll."""
        if self._results is None:
            self._results = deque()
        self._results.append((result, polled_at))
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def next_result(self) -> tuple[PollResult, float]:
        """Return the next result, in order, and when its poll began."""
        while not self._results:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        result = self._results.popleft()
        if not self._results:
            # A wait is idle nearly always, and there may be thousands.
            self._results = self._arrival = None
        return result

    @property
    def connection(self) -> TallyfyConnection | None:
        """The settings that its run was read with; ``None`` before anything was."""
        return self._watcher.connection

    def request_fresh_read(self, after: float) -> None:
        """Read the run by itself in some seconds, since its last poll does not end the wait yet."""
        self._watcher.request_fresh_read(self, after)


@dataclass(frozen=True, slots=True)
class SharedFeedPage:
    """The newest page of the activity feed that was read through a connection, and when."""

    connection: TallyfyConnection | None
    page: Page[Activity]
    polled_at: float


@dataclass(slots=True, eq=False)
class ConnectionUse:
    """What all that polls through a connection shares, and what outlives it: Tallyfy counts the requests of all."""

    budget: RequestBudget = field(default_factory=RequestBudget)
    feed_page: SharedFeedPage | None = None

    def charge(self, hook: ReloadingHook, now: float) -> None:
        """Charge the budget with the requests that a hook sent just now."""
        if hook.connection is not None:
            self.budget.set_limit(hook.connection.requests_per_hour)
        self.budget.spend(max(hook.requests, 1), now)
        self.budget.heed_remaining(hook.rate_limit_remaining, now)


class Watcher:
    """
    Polls for all the waits of one connection.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param end: called when the last wait has left.
    :param use: what it shares with the connection's next watcher, and with whatever else polls through it.
    """

    def __init__(self, tallyfy_conn_id: str, end: Callable[[], object], use: ConnectionUse) -> None:
        self._conn_id = tallyfy_conn_id
        self._end = end
        self.clock = Clock()
        self._use = use
        self._scheduler = PollScheduler(use.budget)
        self._waits = 0
        self._hook = ReloadingHook(tallyfy_conn_id)
        # One for each connection: none waits behind another's that hangs, nor behind Airflow's own threads.
        self._threads = DaemonThreads(1, "tallyfy-watcher")
        self._reload_at = -inf
        self._may_warn_at = -inf
        self._wake_up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def connection(self) -> TallyfyConnection | None:
        """The settings that were last read, or ``None`` before."""
        return self._hook.connection

    def add(self, subscription: Subscription, worker_polled_at: float) -> None:
        """Start polling for a wait; ``worker_polled_at`` is by this watcher's clock, ``-inf`` for never."""
        self._scheduler.add(subscription, worker_polled_at)
        self._waits += 1
        self._wake_up.set()
        if self._task is None or self._task.done():
            # In a context of its own, or it would log into the task of the first wait.
            self._task = asyncio.create_task(
                self._watch(), name=f"tallyfy watcher of {self._conn_id}", context=contextvars.Context()
            )

    def remove(self, subscription: Subscription) -> None:
        """Stop polling for a wait; after the last one, the watcher ends."""
        self._scheduler.remove(subscription)
        self._waits -= 1
        if not self._scheduler and self._task is not None:
            self._task.cancel()
            self._task = None
            self._end()

    def request_fresh_read(self, subscription: Subscription, after: float) -> None:
        """Read a wait's run by itself in some seconds."""
        self._scheduler.request_fresh_read(subscription, self.clock.now() + after)
        self._wake_up.set()

    async def _watch(self) -> None:
        try:
            while self._scheduler:
                try:
                    await self._step()
                except Exception:
                    logger.exception("The watcher of %r failed, and starts again", self._conn_id)
                    await self._start_over()
        finally:
            # In a thread, since a request may be under way in it.
            self._threads.submit(self._hook.reset)
            self._threads.shutdown()
            metrics.active_waits(self._conn_id, self._waits)

    async def _step(self) -> None:
        """Send one request, or wait until there is one."""
        self._wake_up.clear()
        sent_at = self.clock.now()
        request = self._scheduler.next_request(sent_at)
        if isinstance(request, float):
            if request - sent_at > MAX_IDLE:
                await in_thread(self._threads, self._hook.close_idle)
            await self.clock.wait(self._wake_up, request)
            return
        if sent_at >= self._reload_at:
            await in_thread(self._threads, self._hook.reset)
            self._reload_at = sent_at + MAX_CONNECTION_AGE
        used_before = self._hook.connection
        response = await self._send(request)
        now = self.clock.now()
        if used_before is not None and self._hook.connection != used_before:
            self._scheduler.forget()
        self._account(now)
        if request == FetchFeedPage(1) and not isinstance(response, PollError):
            self._use.feed_page = SharedFeedPage(self._hook.connection, response, sent_at)
        deliveries: list[tuple[Any, PollResult]] = self._scheduler.handle_response(
            request, response, sent_at, now
        )
        self._record([result for _, result in deliveries])  # before the last wait leaves, and this ends
        await spread(lambda delivery: delivery[0].deliver(delivery[1], sent_at), deliveries)

    def _account(self, now: float) -> None:
        """Charge the request budget, and say when it makes polls late."""
        budget = self._use.budget
        self._use.charge(self._hook, now)
        if self._scheduler.delayed:
            metrics.polls_delayed(self._conn_id, self._scheduler.delayed)
            self._scheduler.delayed = 0
            if now >= self._may_warn_at:
                self._may_warn_at = now + DELAY_WARNING_INTERVAL
                logger.warning(
                    "Polls of connection %r come later than their poke_interval, to stay below %g requests an hour "
                    "(extra 'requests_per_hour'): there are %d waits",
                    self._conn_id,
                    budget.limit,
                    self._waits,
                )

    def _record(self, results: list[PollResult]) -> None:
        """Record metrics once per request; a backend that loses a value soon gets the next one."""
        succeeded = sum(isinstance(result, RunSnapshot) for result in results)
        metrics.active_waits(self._conn_id, self._waits)
        metrics.polled(self._conn_id, succeeded=succeeded, failed=len(results) - succeeded)

    async def _send(self, request: Fetch) -> Any:
        try:
            return await in_thread(self._threads, self._hook.fetch, request, self._target_of(request))
        except AirflowNotFoundException as error:
            # It was there when the wait began, or a secrets backend is down: nothing that ends a wait.
            return PollError(unread_connection(self._conn_id, error))
        except Exception as error:
            # For the waits of this run only, or one odd run would keep the watcher from all the others.
            logger.exception(
                "The watcher of %r could not send a request, and sends the next one", self._conn_id
            )
            return PollError(TallyfyResponseError(f"The request could not be sent ({type(error).__name__})"))

    def _target_of(self, request: Fetch) -> Target | None:
        """Return the API and organization that a request is for, if one of its waits has them."""
        waits = (
            self._scheduler.waits_for(request.run_id)
            if isinstance(request, FetchRun)
            else self._scheduler.waits()
        )
        return next((wait.target for wait in waits if wait.target is not None), None)

    async def _start_over(self) -> None:
        error = PollError(TallyfyResponseError("The watcher failed; the triggerer's own log says why"))
        waits: list[Any] = list(self._scheduler.waits())
        self._scheduler = PollScheduler(self._use.budget)
        for subscription in waits:
            self._scheduler.add(subscription)
            subscription.deliver(error, self.clock.now())
        await self.clock.wait(asyncio.Event(), self.clock.now() + _PAUSE_AFTER_BUG)


# A process has one event loop in a triggerer, and one after the other in tests.
_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Watcher]] = WeakKeyDictionary()
_uses: WeakKeyDictionary[asyncio.AbstractEventLoop, defaultdict[str, ConnectionUse]] = WeakKeyDictionary()


def connection_use(tallyfy_conn_id: str) -> ConnectionUse:
    """Return what everything in this event loop shares that polls through a connection."""
    loop = asyncio.get_running_loop()
    return _uses.setdefault(loop, defaultdict(ConnectionUse))[tallyfy_conn_id]


def subscribe(
    tallyfy_conn_id: str,
    run_id: str,
    condition: Condition,
    schedule: PollSchedule,
    worker_polled_at: float | None = None,
    target: Target | None = None,
) -> Subscription:
    """
    Have a run polled for as long as a ``with`` block lasts.

    Nothing that Tallyfy, the network or a secrets backend does makes it raise, and it never blocks the event loop.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: the run's id.
    :param condition: what is waited for.
    :param schedule: how often to poll.
    :param worker_polled_at: when a worker polled the run, in seconds since the epoch; ``None`` for never. The first
        poll comes an interval later; at once if that has passed, as after a restart.
    :param target: the API and the organization that the run is of, if they are known. A connection that leads to
        another one is not used.
    """
    loop = asyncio.get_running_loop()
    watchers = _watchers.setdefault(loop, {})
    if (watcher := watchers.get(tallyfy_conn_id)) is None:
        use = connection_use(tallyfy_conn_id)
        watcher = watchers[tallyfy_conn_id] = Watcher(
            tallyfy_conn_id, lambda: watchers.pop(tallyfy_conn_id), use
        )
    now, epoch_now = watcher.clock.now(), time.time()
    # A worker's clock that differs makes the pause no longer than the interval.
    since_poll = inf if worker_polled_at is None else max(epoch_now - worker_polled_at, 0.0)
    until_last_poll = inf if schedule.ends_at is None else schedule.ends_at - LAST_POLL_BEFORE_END - epoch_now
    return Subscription(
        watcher,
        now - since_poll,
        run_id,
        condition,
        schedule,
        begins_at=now + max(schedule.poke_interval - since_poll, STARTUP_PAUSE),
        last_poll_at=now + until_last_poll if until_last_poll > 0 else inf,
        target=target,
    )
