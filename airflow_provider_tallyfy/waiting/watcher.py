"""
The watcher: sends the requests for all the waits of one connection that live in this triggerer.

A wait's way through it: :func:`subscribe` makes the wait a :class:`Place` at its connection's :class:`Watcher`, which
is there from the first wait to the last. The watcher asks its
:class:`~airflow_provider_tallyfy.waiting.scheduler.scheduler.PollScheduler` for the next request, sends it in a thread
of its own, hands the response back, and delivers to each wait what the scheduler says. The wait takes that from
:meth:`Place.next_result`, evaluates it, writes its own log, and leaves.

Nothing is decided here: when to send what is the scheduler's decision, what a result means that of the wait
(:mod:`.evidence`), and when to read a connection again that of the hook (:mod:`.reloading_hook`).
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
from airflow_provider_tallyfy.waiting.fetches import Fetch, FetchFeedPage
from airflow_provider_tallyfy.waiting.outcomes import Condition
from airflow_provider_tallyfy.waiting.polls import PollError, PollResult, RunSnapshot
from airflow_provider_tallyfy.waiting.reloading_hook import ReloadingHook, unread_connection
from airflow_provider_tallyfy.waiting.schedule import PollSchedule
from airflow_provider_tallyfy.waiting.scheduler.budget import RequestBudget
from airflow_provider_tallyfy.waiting.scheduler.scheduler import PollScheduler
from airflow_provider_tallyfy.waiting.scheduler.subscriptions import Subscription
from airflow_provider_tallyfy.waiting.threads import BackgroundLogger, DaemonThreads, in_thread, spread

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection
    from airflow_provider_tallyfy.protocol.answers import Activity, Page

STARTUP_PAUSE = 0.5
"""Seconds before a wait's first poll, so that waits that begin together are polled together."""
MAX_IDLE = 15.0
"""Seconds for which a socket is kept open without use."""
MAX_CONNECTION_AGE = 3600.0
"""Seconds after which a connection that works is read again, too."""
DELAY_WARNING_INTERVAL = 3600.0
"""Seconds between two lines that say that polls are stretched."""
_AFTER_AN_ERROR = 10.0

logger = BackgroundLogger(__name__)


class Clock:
    """The time by which a watcher lives: its event loop's, which no change of the wall clock moves."""

    def now(self) -> float:
        """Return the seconds since some moment of the past."""
        return asyncio.get_running_loop().time()

    async def wait(self, event: asyncio.Event, until: float) -> None:
        """Wait for an event, but not beyond a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(None if until == inf else until):
                await event.wait()


class Place(Subscription):
    """
    A wait's place at the watcher, for as long as a ``with`` block lasts.

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
        """Return the next result and when its poll began; every result comes, in order."""
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
        """Ask for the run to be read by itself in some seconds, since what it shows does not end the wait yet."""
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
    waits: int = 0
    feed_page: SharedFeedPage | None = None

    def charge(self, hook: ReloadingHook, now: float) -> None:
        """Charge the budget with the requests that a hook sent just now."""
        if hook.connection is not None:
            self.budget.set_limit(hook.connection.requests_per_hour)
        self.budget.spend(max(hook.requests, 1), now)
        self.budget.heed_remaining(hook.rate_limit_remaining, now)


class Watcher:
    """
    Polls for all the waits of one connection that are about the same organization.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param end: called when the last wait has left.
    :param use: what it shares with the connection's other watchers.
    :param organization: the organization that the waits are about, if they know; the connection may be another here.
    """

    def __init__(
        self, tallyfy_conn_id: str, end: Callable[[], object], use: ConnectionUse, organization: str | None
    ) -> None:
        self._conn_id = tallyfy_conn_id
        self._end = end
        self.clock = Clock()
        self._use = use
        self._scheduler = PollScheduler(use.budget)
        self._hook = ReloadingHook(tallyfy_conn_id, organization)
        # One for each connection: none waits behind another's that hangs, nor behind Airflow's own threads.
        self._threads = DaemonThreads(1, "tallyfy-watcher")
        self._reload_at = -inf
        self._may_warn_at = -inf
        self._has_news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def connection(self) -> TallyfyConnection | None:
        """The settings that were last read, or ``None`` before."""
        return self._hook.connection

    def add(self, place: Place, worker_polled_at: float) -> None:
        """Begin to poll for a wait; ``worker_polled_at`` is by this watcher's clock, ``-inf`` for never."""
        self._scheduler.add(place, worker_polled_at)
        self._use.waits += 1
        self._has_news.set()
        if self._task is None or self._task.done():
            # In a context of its own, or it would write into the log of the wait that happens to come first.
            self._task = asyncio.create_task(
                self._watch(), name=f"tallyfy watcher of {self._conn_id}", context=contextvars.Context()
            )

    def remove(self, place: Place) -> None:
        """Poll for a wait no more; after the last one, the watcher ends."""
        self._scheduler.remove(place)
        self._use.waits -= 1
        if not self._scheduler and self._task is not None:
            self._task.cancel()
            self._task = None
            self._end()

    def request_fresh_read(self, place: Place, after: float) -> None:
        """Read a wait's run by itself in some seconds."""
        self._scheduler.request_fresh_read(place, self.clock.now() + after)
        self._has_news.set()

    async def _watch(self) -> None:
        metrics.tell_from_event_loop()
        try:
            while self._scheduler:
                try:
                    await self._step()
                except Exception:
                    logger.exception("The watcher of %r failed; its waits go on", self._conn_id)
                    await self._start_over()
        finally:
            # In a thread, since a request may be under way in it.
            self._threads.submit(self._hook.reset)
            self._threads.shutdown()
            metrics.from_event_loop(metrics.active_waits, self._conn_id, self._use.waits)

    async def _step(self) -> None:
        """Send one request, or wait until there is one."""
        self._has_news.clear()
        asked_at = self.clock.now()
        request = self._scheduler.next_request(asked_at)
        if isinstance(request, float):
            if request - asked_at > MAX_IDLE:
                await in_thread(self._threads, self._hook.close_idle)
            await self.clock.wait(self._has_news, request)
            return
        if asked_at >= self._reload_at:
            await in_thread(self._threads, self._hook.reset)
            self._reload_at = asked_at + MAX_CONNECTION_AGE
        used_before = self._hook.connection
        response = await self._send(request)
        now = self.clock.now()
        if used_before is not None and self._hook.connection != used_before:
            self._scheduler.forget()
        self._account(now)
        if request == FetchFeedPage(1) and not isinstance(response, PollError):
            self._use.feed_page = SharedFeedPage(self._hook.connection, response, asked_at)
        deliveries = self._scheduler.handle_response(request, response, asked_at, now)
        self._record([result for _, result in deliveries])  # before the last wait leaves, and this ends
        await spread(lambda delivery: delivery[0].deliver(delivery[1], asked_at), deliveries)

    def _account(self, now: float) -> None:
        """Charge the request budget, and say when it makes polls late."""
        budget = self._use.budget
        self._use.charge(self._hook, now)
        if self._scheduler.delayed:
            metrics.from_event_loop(metrics.polls_delayed, self._conn_id, self._scheduler.delayed)
            self._scheduler.delayed = 0
            if now >= self._may_warn_at:
                self._may_warn_at = now + DELAY_WARNING_INTERVAL
                logger.warning(
                    "Polls of connection %r come later than their poke_interval, to stay below %g requests an hour "
                    "(extra 'requests_per_hour'): there are %d waits",
                    self._conn_id,
                    budget.limit,
                    self._use.waits,
                )

    def _record(self, results: list[PollResult]) -> None:
        """Record once a request, whether or not Airflow sends metrics; what a backend has lost it soon gets again."""
        succeeded = sum(isinstance(result, RunSnapshot) for result in results)
        metrics.from_event_loop(metrics.active_waits, self._conn_id, self._use.waits)
        metrics.from_event_loop(
            metrics.polled, self._conn_id, succeeded=succeeded, failed=len(results) - succeeded
        )

    async def _send(self, request: Fetch) -> Any:
        try:
            return await in_thread(self._threads, self._hook.fetch, request)
        except AirflowNotFoundException as error:
            # It was there when the wait began, or a secrets backend is down: nothing that ends a wait.
            return PollError(unread_connection(self._conn_id, error))
        except Exception as error:
            # For the waits of this run only, or one odd run would keep the watcher from all the others.
            logger.exception("The watcher of %r could not send a request; its waits go on", self._conn_id)
            return PollError(TallyfyResponseError(f"The request could not be sent ({type(error).__name__})"))

    async def _start_over(self) -> None:
        error = PollError(TallyfyResponseError("The watcher failed; the triggerer's own log says why"))
        places = list(self._scheduler.subscriptions())
        self._scheduler = PollScheduler(self._use.budget)
        for place in places:
            self._scheduler.add(place)
            place.deliver(error, self.clock.now())
        await self.clock.wait(asyncio.Event(), self.clock.now() + _AFTER_AN_ERROR)


# A process has one event loop in a triggerer, and one after the other in tests.
_Key = tuple[str, str | None]
_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, Watcher]] = WeakKeyDictionary()
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
    target: tuple[str, str] | None = None,
) -> Place:
    """
    Have a run polled for as long as a ``with`` block lasts.

    Nothing that Tallyfy, the network or a secrets backend does makes it raise, and it never blocks the event loop.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: the run's id.
    :param condition: what is waited for.
    :param schedule: how often to poll.
    :param worker_polled_at: when a worker polled the run, in seconds since the epoch; ``None`` for never.
    :param target: the URL of the API and the organization that the run is of, if they are known. A connection that
        leads to another organization is not used; the URL of its API may have been corrected.
    """
    loop = asyncio.get_running_loop()
    watchers = _watchers.setdefault(loop, {})
    organization = None if target is None else target[1]
    key = (tallyfy_conn_id, organization)
    watcher = watchers.get(key)
    if watcher is None:
        use = connection_use(tallyfy_conn_id)
        watcher = watchers[key] = Watcher(tallyfy_conn_id, lambda: watchers.pop(key), use, organization)
    now, epoch_now = watcher.clock.now(), time.time()
    return Place(
        watcher,
        -inf if worker_polled_at is None else now - max(epoch_now - worker_polled_at, 0.0),
        run_id,
        condition,
        schedule,
        begins_at=now + max(schedule.until_first_poll(worker_polled_at, epoch_now), STARTUP_PAUSE),
        last_poll_at=now + schedule.until_last_poll(epoch_now),
    )
