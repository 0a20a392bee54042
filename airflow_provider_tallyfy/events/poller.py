"""
Poll for all the watchers of one connection in this triggerer.

A run is read by itself if one of two sources names it. The activity feed names the runs that changed, at every poll. A
*sweep* reads all pages of the lists of runs every few minutes, and each watcher names the runs that seem to hold new
events. Both are hints: an event is always taken from the run itself. The feed keeps the delay short; the sweep ensures
that nothing is missed if the feed is late, incomplete or forbidden.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_tallyfy.events.stream import EventStream
from airflow_provider_tallyfy.exceptions import TallyfyRateLimitError, TallyfyResponseError
from airflow_provider_tallyfy.protocol.responses import Activity, MalformedResponseError, Page, is_id
from airflow_provider_tallyfy.waiting.polls import (
    FetchFeedPage,
    FetchRun,
    PollError,
    ReloadingHook,
    RunSnapshot,
    unread_connection,
)
from airflow_provider_tallyfy.waiting.scheduler.endpoint_health import EndpointHealth
from airflow_provider_tallyfy.waiting.scheduler.feed import Feed
from airflow_provider_tallyfy.waiting.scheduler.sweep import BATCH_THRESHOLD
from airflow_provider_tallyfy.waiting.threads import BackgroundLogger, DaemonThreads, in_thread, spread
from airflow_provider_tallyfy.waiting.watcher import Clock, ConnectionUse, connection_use

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

T = TypeVar("T")

SWEEP_INTERVAL = 300.0
"""Seconds from the beginning of one sweep to that of the next while the activity feed works."""
SWEEP_SHARE = 5
"""Sweeps use at most a fifth of the requests that the budget allows, so those of a long list are less frequent."""
MAX_PAUSE = 300.0
"""The longest pause after a failure, in seconds."""
MAX_OUTAGES = 3
"""After this many failures in a row, a request is put off, and others are sent: they may succeed after all."""
MAX_UNREAD = 86_400.0
"""Seconds from the first failure to read a run until its events are given up."""
MAX_CONNECTION_AGE = 3600.0
"""Seconds after which a connection that works is read again, too."""

logger = BackgroundLogger(__name__)


@dataclass(slots=True, eq=False)
class _Sweep:
    """One read of all pages of the lists, and for each watcher the runs that it named and that are not read yet."""

    began_at: datetime
    clock_began_at: float
    unread: dict[EventStream, set[str]]
    with_: tuple[str, ...]
    checklist_id: str | None
    is_archive: bool = False
    page: int = 1
    pages: int = 0

    def fetch_page(self, hook: TallyfyHook) -> Page[dict[str, Any]]:
        # The documentation names one of these filters, the official SDK the other.
        filters = {"status": "archived", "archived": "only"} if self.is_archive else {}
        return hook.get_runs_page(
            self.page,
            sort="-created_at",
            with_=self.with_ or None,
            checklist_id=self.checklist_id,
            **filters,
        )


@dataclass(slots=True)
class _Attempts:
    """When to read a run, how often that failed, and when first."""

    due_at: float
    failures: int = 0
    failed_at: float = inf


class EventPoller:
    """
    Polls for the watchers of one connection, from the first to the last.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param use: what everything that polls through this connection shares.
    :param end: called when the last watcher has left.
    :param clock: the time by which it polls.
    :param wall_clock: returns the seconds since the epoch.
    """

    def __init__(
        self,
        tallyfy_conn_id: str,
        use: ConnectionUse,
        end: Callable[[], object],
        clock: Clock | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._conn_id = tallyfy_conn_id
        self._use = use
        self._end = end
        self.clock = clock or Clock()
        self._wall_clock = wall_clock
        self._hook = ReloadingHook(tallyfy_conn_id, wall_clock)
        self._threads = DaemonThreads(1, "tallyfy-events")
        self._streams: list[EventStream] = []
        self._users = 0
        self._feed = Feed()
        self._feed_health = EndpointHealth("activity feed")
        self._list_failures = 0
        self._list_retry_at = -inf
        self._feed_at = -inf
        self._feed_works = True
        self._sweep_at = inf
        self._sweep: _Sweep | None = None
        self._unfinished_sweeps: list[_Sweep] = []
        self._list_pages = 1
        self._to_read: dict[str, _Attempts] = {}
        self._hinted: set[str] = set()
        self._outages = 0
        self._reload_at = -inf
        self._organization = ""
        self._has_connected = asyncio.Event()
        self._stream_added = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> EventPoller:
        self._users += 1
        if self._task is None or self._task.done():
            # In a context of its own, or it would write to the log of the first watcher.
            self._task = asyncio.create_task(
                self._poll(), name=f"tallyfy events of {self._conn_id}", context=contextvars.Context()
            )
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._users -= 1
        if not self._users and self._task is not None:
            self._task.cancel()
            self._task = None
            self._end()

    async def connect(self) -> tuple[str, datetime]:
        """Wait for Tallyfy's first response; return the organization, and the time of the call by Tallyfy's clock."""
        called_at = datetime.fromtimestamp(self._wall_clock(), UTC)
        await self._has_connected.wait()
        return self._organization, called_at + self._hook.clock_offset

    def add(self, stream: EventStream) -> None:
        """Start polling for a watcher; the first sweep finds what happened since its cursor."""
        self._streams.append(stream)
        self._feed_at = min(self._feed_at, self.clock.now() + stream.poke_interval)
        self._sweep_at = -inf
        self._stream_added.set()

    def remove(self, stream: EventStream) -> None:
        """Stop polling for a watcher."""
        if stream in self._streams:
            self._streams.remove(stream)

    async def _poll(self) -> None:
        try:
            while True:
                try:
                    await self._step()
                except Exception:
                    logger.exception("The event poller of connection %r failed, retrying", self._conn_id)
                    self._sweep, self._sweep_at = None, -inf
                    self._unfinished_sweeps.clear()
                    await self._pause(MAX_PAUSE / 10)
        finally:
            self._threads.submit(self._hook.reset)
            self._threads.shutdown()

    async def _step(self) -> None:
        """Send one request of each kind that is due, or wait until one is."""
        self._stream_added.clear()
        now = self.clock.now()
        run_id = min(self._to_read, key=lambda each: self._to_read[each].due_at, default=None)
        is_read_due = run_id is not None and self._to_read[run_id].due_at <= now
        is_page_due = self._page_due_at() <= now
        if self._feed_due_at() <= now:
            await self._poll_feed()
        if is_page_due:
            await self._poll_page()
        if is_read_due and run_id in self._to_read:
            await self._read(run_id)
        if not (is_read_due or is_page_due):
            reads_at = min((attempts.due_at for attempts in self._to_read.values()), default=inf)
            await self.clock.wait(self._stream_added, min(self._feed_due_at(), self._page_due_at(), reads_at))

    def _interval(self) -> float:
        return min((stream.poke_interval for stream in self._streams), default=60.0)

    def _feed_due_at(self) -> float:
        return max(self._feed_at, self._feed_health.retry_at)

    def _page_due_at(self) -> float:
        if not self._streams:
            return inf
        due_at = self._sweep_at if self._sweep is None else -inf
        return max(due_at, self._list_retry_at)

    async def _poll_feed(self) -> None:
        """Read a page of the feed, unless waits have just read the first one, and request the runs that it names."""
        shared = self._use.feed_page
        now = self.clock.now()
        if (
            self._feed.page == 1
            and shared is not None
            and shared.connection == self._hook.connection
            and shared.polled_at > max(self._feed_at - self._interval(), now - self._interval())
        ):
            page: Page[Activity] | PollError = shared.page
        else:
            page = await self._fetch(FetchFeedPage(self._feed.page))
        now = self.clock.now()
        if isinstance(page, PollError):
            self._feed_health.fail(page, now)
            if not self._has_connected.is_set():
                await self._fetch(lambda hook: hook.get_runs_page(1))
            if self._feed_works:
                # Until the feed works again, only sweeps find anything.
                self._feed_works = False
                self._sweep_at = min(self._sweep_at, now + self._sweep_interval())
            return
        self._feed_health.succeed()
        self._feed_works = True
        overflows = self._feed.overflows
        named = self._feed.update_from(page, now)
        if self._feed.page == 1:
            self._feed_at = now + self._interval()
        if self._feed.overflows > overflows:
            self._sweep_at = -inf
        # A read may lag behind the feed, so what it names is read at this poll and at the next one.
        hinted, self._hinted = named | self._hinted, named
        if len(hinted) > max(BATCH_THRESHOLD, self._list_pages):
            self._sweep_at = -inf
        else:
            for run_id in hinted:
                self._request(run_id, now)

    def _sweep_interval(self) -> float:
        """Return the seconds from the beginning of one sweep to that of the next."""
        base = SWEEP_INTERVAL if self._feed_works else self._interval()
        return max(base, self._list_pages * SWEEP_SHARE * self._use.budget.pause)

    def _begin_sweep(self) -> _Sweep:
        self._sweep_at = inf  # until another one is requested
        templates = {stream.wanted.checklist_id for stream in self._streams}
        return _Sweep(
            began_at=datetime.fromtimestamp(self._wall_clock(), UTC) + self._hook.clock_offset,
            clock_began_at=self.clock.now(),
            unread={stream: set() for stream in self._streams},
            with_=tuple(dict.fromkeys(name for stream in self._streams for name in stream.wanted.with_)),
            checklist_id=templates.pop() if len(templates) == 1 else None,
        )

    async def _poll_page(self) -> None:
        """Read the next page of a sweep, and request each run in which a watcher finds new events."""
        sweep = self._sweep = self._sweep or self._begin_sweep()
        page = await self._fetch(sweep.fetch_page)
        now = self.clock.now()
        if isinstance(page, PollError):
            self._list_failures += 1
            self._list_retry_at = now + _pause_after(page, self._list_failures)
            if self._list_failures in (3, 30, 300):
                logger.warning(
                    "The list of processes could not be read (%d in a row), retrying; until then, only events that "
                    "the activity feed shows are found: %s",
                    self._list_failures,
                    page.error,
                )
            return
        self._list_failures = 0
        sweep.pages += 1

        def check(pair: tuple[dict[str, Any], EventStream]) -> None:
            run, stream = pair
            if is_id(run.get("id")) and stream.has_new_events(run):
                sweep.unread[stream].add(str(run["id"]))
                self._request(str(run["id"]), now)

        await spread(check, [(run, stream) for run in page.items for stream in sweep.unread])
        if not page.is_last:
            sweep.page += 1
        elif not sweep.is_archive:
            sweep.is_archive, sweep.page = True, 1
        else:
            self._list_pages = sweep.pages
            self._sweep_at = min(self._sweep_at, sweep.clock_began_at + self._sweep_interval())
            self._sweep = None
            self._unfinished_sweeps.append(sweep)
            self._finish_sweeps()

    def _request(self, run_id: str, now: float) -> None:
        self._to_read.setdefault(run_id, _Attempts(now))

    async def _read(self, run_id: str) -> None:
        """Read a run by itself, and deliver it to all watchers."""
        with_ = tuple(dict.fromkeys(name for stream in self._streams for name in stream.with_))
        snapshot = await self._fetch(FetchRun(run_id, with_))
        if isinstance(snapshot, RunSnapshot):
            snapshot = self._deliver(snapshot)
        now = self.clock.now()
        if isinstance(snapshot, PollError) and not snapshot.is_missing:
            attempts = self._to_read[run_id]
            attempts.failures += 1
            attempts.due_at = now + _pause_after(snapshot, attempts.failures)
            attempts.failed_at = min(attempts.failed_at, now)
            if now < attempts.failed_at + MAX_UNREAD:
                return
            logger.warning(
                "Run %s could not be read for %.0f h; its events are given up: %s",
                run_id,
                MAX_UNREAD / 3600,
                snapshot.error,
            )
        # A run that is missing is named again if it turns up.
        del self._to_read[run_id]
        for sweep in (
            self._unfinished_sweeps if self._sweep is None else [*self._unfinished_sweeps, self._sweep]
        ):
            for unread in sweep.unread.values():
                unread.discard(run_id)
        self._finish_sweeps()

    def _deliver(self, snapshot: RunSnapshot) -> RunSnapshot | PollError:
        """Deliver a run to all watchers; if one of them cannot read it, the others still get it."""
        result: RunSnapshot | PollError = snapshot
        for stream in tuple(self._streams):
            try:
                stream.deliver(snapshot.run)
            except Exception as error:  # noqa: BLE001 (a run may be malformed in any way, and is read again)
                reason = str(error) if isinstance(error, MalformedResponseError) else type(error).__name__
                result = PollError(TallyfyResponseError(f"Run {snapshot.run.get('id')}: {reason}"))
        return result

    def _finish_sweeps(self) -> None:
        """End each sweep for the watchers whose named runs were all read."""
        for sweep in self._unfinished_sweeps:
            for stream in [stream for stream, unread in sweep.unread.items() if not unread]:
                del sweep.unread[stream]
                if stream in self._streams:
                    stream.end_sweep(sweep.began_at)
        # A later one names the same runs again.
        self._unfinished_sweeps = [sweep for sweep in self._unfinished_sweeps if sweep.unread][-10:]

    async def _fetch(self, fetch: Callable[[TallyfyHook], T]) -> T | PollError:
        """
        Return the response to a request, within the budget.

        A failure that most likely affects all requests is retried, until there were :data:`MAX_OUTAGES` in a row.
        """
        while True:
            budget = self._use.budget
            await self._pause(
                max(budget.available_at(self.clock.now()), budget.refused_until) - self.clock.now()
            )
            now = self.clock.now()
            if now >= self._reload_at:
                await in_thread(self._threads, self._hook.reset)
                self._reload_at = now + MAX_CONNECTION_AGE
            try:
                response: T | PollError = await in_thread(self._threads, self._hook.fetch, fetch)
            except AirflowNotFoundException as error:
                response = PollError(unread_connection(self._conn_id, error))
            except Exception as error:
                logger.exception("The event poller of connection %r could not send a request", self._conn_id)
                response = PollError(
                    TallyfyResponseError(f"The request could not be sent ({type(error).__name__})")
                )
            now = self.clock.now()
            self._use.charge(self._hook, now)
            if not (isinstance(response, PollError) and response.affects_all):
                self._outages = 0
                if self._hook.connection is not None:
                    self._organization = self._hook.connection.organization
                    self._has_connected.set()
                    for stream in tuple(self._streams):
                        if stream.organization != self._organization:
                            self.remove(stream)
                            stream.end()
                return response
            self._outages += 1
            pause = _pause_after(response, self._outages)
            if isinstance(response.error, TallyfyRateLimitError):
                budget.refused_until = now + pause
            logger.warning(
                "Poll for events failed (%d in a row), retrying in %.0f s: %s",
                self._outages,
                pause,
                response.error,
            )
            await self._pause(pause)
            if self._outages >= MAX_OUTAGES:
                return response

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            await self.clock.wait(asyncio.Event(), self.clock.now() + seconds)


def _pause_after(failed: PollError, failures: int) -> float:
    """Return the seconds to wait after some failures in a row."""
    return min(max(failed.error.retry_after or 0.0, 2.0 ** min(failures, 10)), MAX_PAUSE)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, EventPoller]] = WeakKeyDictionary()


def event_poller(tallyfy_conn_id: str) -> EventPoller:
    """Return the poller of a connection in this event loop; it is used in an ``async with`` block."""
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    if tallyfy_conn_id not in pollers:
        pollers[tallyfy_conn_id] = EventPoller(
            tallyfy_conn_id, connection_use(tallyfy_conn_id), lambda: pollers.pop(tallyfy_conn_id)
        )
    return pollers[tallyfy_conn_id]
