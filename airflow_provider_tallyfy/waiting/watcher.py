"""
The watcher: looks at runs for all the waits of one connection that live in this triggerer.

A wait's way through it: :func:`watching` makes the wait a member of its connection's :class:`Watcher`, which is there
from the first wait to the last. The watcher asks its :class:`~airflow_provider_tallyfy.waiting.plan.Plan` what to ask
of Tallyfy next, asks it, one question at a time, in a thread of the watcher's own, hands the answer to the plan, and
tells each wait what the plan says it is to be told. The wait takes that from :meth:`Member.next_look`, decides, writes
its own log, and leaves.

What is decided here: nothing. How often and how to look is the plan's; what a look means is the wait's
(:mod:`.verdicts`); when a connection is read anew is the reader's (:mod:`.reader`).
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_tallyfy import metrics
from airflow_provider_tallyfy.exceptions import TallyfyResponseError
from airflow_provider_tallyfy.waiting.looks import Blank, Look, Sight
from airflow_provider_tallyfy.waiting.pace import Pace
from airflow_provider_tallyfy.waiting.plan import Plan
from airflow_provider_tallyfy.waiting.questions import Question
from airflow_provider_tallyfy.waiting.reader import Reader, unread_connection
from airflow_provider_tallyfy.waiting.threads import BackgroundLogger, DaemonThreads, in_thread, spread
from airflow_provider_tallyfy.waiting.watched import Watch

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection

GATHERING = 0.5
"""Seconds before the first look, so that waits that begin together are looked for together."""
LONGEST_IDLE = 15.0
"""Seconds for which a socket is kept open without use."""
LONGEST_TRUSTED = 3600.0
"""Seconds after which a connection that works is read anew, too."""
_CONNECTIONS_AT_ONCE = 16
_AFTER_A_STUMBLE = 10.0

logger = BackgroundLogger(__name__)

# Looks have threads of their own: Airflow's and other triggers' must not wait behind a Tallyfy that hangs.
_threads = DaemonThreads(_CONNECTIONS_AT_ONCE, "tallyfy-watcher")


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


class Member(Watch):
    """
    A wait's place at the watcher, for as long as a ``with`` block lasts.

    :param watcher: looks for it.
    :param looked_at: when a worker looked at the run, by the watcher's clock; ``-inf`` for never.
    """

    __slots__ = ("_arrival", "_looked_at", "_looks", "_watcher")

    def __init__(self, watcher: Watcher, looked_at: float, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._watcher = watcher
        self._looked_at = looked_at
        self._looks: deque[Look] | None = None
        self._arrival: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._watcher.join(self, self._looked_at)
        return self

    def __exit__(self, *raised: object) -> None:
        self._watcher.leave(self)

    def tell(self, look: Look) -> None:
        """Hand over what was seen."""
        if self._looks is None:
            self._looks = deque()
        self._looks.append(look)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def next_look(self) -> Look:
        """Return what was seen next; every look is told, in order."""
        while not self._looks:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        look = self._looks.popleft()
        if not self._looks:
            # A wait is idle nearly always, and there may be thousands.
            self._looks = self._arrival = None
        return look

    @property
    def connection(self) -> TallyfyConnection | None:
        """The settings that its run was read with; ``None`` before anything was."""
        return self._watcher.connection

    def confirm(self) -> None:
        """Ask for the run to be read by itself, at once, since what a list showed looks like news."""
        self._watcher.confirm(self)


class Watcher:
    """
    Looks for all the waits of one connection.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param end: called when the last wait has left.
    :param target: the API and organization that the waits are about, if they know; the connection may be another here.
    """

    def __init__(
        self, tallyfy_conn_id: str, end: Callable[[], object], target: tuple[str, str] | None = None
    ) -> None:
        self._conn_id = tallyfy_conn_id
        self._end = end
        self.clock = Clock()
        self._plan = Plan()
        self._held = 0
        self._reader = Reader(tallyfy_conn_id, target)
        self._trusted_until = -inf
        self._has_news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def connection(self) -> TallyfyConnection | None:
        """The settings that were last read, or ``None`` before."""
        return self._reader.connection

    def join(self, member: Member, looked_at: float) -> None:
        """Begin to look for a wait; ``looked_at`` is when a worker did, by this watcher's clock, ``-inf`` for never."""
        self._plan.join(member, looked_at)
        self._held += 1
        self._wake()
        if self._task is None or self._task.done():
            # In a context of its own, or it would write into the log of the wait that happens to come first.
            self._task = asyncio.create_task(
                self._watch(), name=f"tallyfy watcher of {self._conn_id}", context=contextvars.Context()
            )

    def leave(self, member: Member) -> None:
        """Look for a wait no more; after the last one, the watcher ends."""
        self._plan.leave(member)
        self._held -= 1
        if not self._plan and self._task is not None:
            self._task.cancel()
            self._task = None
            self._end()

    def confirm(self, member: Member) -> None:
        """Read a wait's run by itself, at once."""
        self._plan.confirm(member)
        self._wake()

    def _wake(self) -> None:
        self._has_news.set()

    async def _watch(self) -> None:
        metrics.tell_from_event_loop()
        try:
            while self._plan:
                try:
                    await self._step()
                except Exception:
                    logger.exception("The watcher of %r stumbled; its waits go on", self._conn_id)
                    await self._begin_anew()
        finally:
            # In a thread, since a question may be under way in another.
            _threads.submit(self._reader.hang_up)
            metrics.from_event_loop(metrics.waits_held, self._conn_id, self._held)

    async def _step(self) -> None:
        """Ask one question, or wait until there is one."""
        self._has_news.clear()
        asked_at = self.clock.now()
        question = self._plan.next_question(asked_at)
        if isinstance(question, float):
            if question - asked_at > LONGEST_IDLE:
                await in_thread(_threads, self._reader.rest)
            await self.clock.wait(self._has_news, question)
            return
        if asked_at >= self._trusted_until:
            await in_thread(_threads, self._reader.hang_up)
            self._trusted_until = asked_at + LONGEST_TRUSTED
        used_before = self._reader.connection
        answer = await self._ask(question)
        if used_before is not None and self._reader.connection != used_before:
            self._plan.forget()
        told = self._plan.answered(question, answer, asked_at, self.clock.now())
        self._tell_metrics([look for _, look in told])  # before the last wait leaves, and this ends
        await spread(lambda each: each[0].tell(each[1]), told)

    def _tell_metrics(self, looks: list[Look]) -> None:
        """Tell once a question, whoever asks for metrics or not; what a backend has lost it is soon told again."""
        seen = sum(isinstance(look, Sight) for look in looks)
        metrics.from_event_loop(metrics.waits_held, self._conn_id, self._held)
        metrics.from_event_loop(metrics.looks_made, self._conn_id, seen=seen, failed=len(looks) - seen)

    async def _ask(self, question: Question) -> Any:
        try:
            return await in_thread(_threads, self._reader.ask, question)
        except AirflowNotFoundException as error:
            # It was there when the wait began, or a secrets backend is down: nothing that ends a wait.
            return Blank(unread_connection(self._conn_id, error))
        except Exception as error:
            # Told to those who wait for what was asked, or one odd run would keep the watcher from all the others.
            logger.exception("The watcher of %r could not ask; its waits go on", self._conn_id)
            return Blank(TallyfyResponseError(f"Tallyfy could not be asked ({type(error).__name__})"))

    async def _begin_anew(self) -> None:
        stumbled = Blank(TallyfyResponseError("The watcher stumbled; the triggerer's own log says over what"))
        watches = list(self._plan.watches())
        self._plan = Plan()
        for watch in watches:
            self._plan.join(watch)
            watch.tell(stumbled)
        await self.clock.wait(asyncio.Event(), self.clock.now() + _AFTER_A_STUMBLE)


# A process has one event loop in a triggerer, and one after the other in tests.
_Key = tuple[str, tuple[str, str] | None]
_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[_Key, Watcher]] = WeakKeyDictionary()


def watching(
    tallyfy_conn_id: str,
    run_id: str,
    with_: tuple[str, ...],
    pace: Pace,
    looked_at: float | None = None,
    tasks: tuple[str, ...] = (),
    target: tuple[str, str] | None = None,
) -> Member:
    """
    Have a run looked at for as long as a ``with`` block lasts.

    Nothing that Tallyfy, the network or a secrets backend does makes it raise, and it never blocks the event loop.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: the run's id.
    :param with_: what to include.
    :param pace: how often to look.
    :param looked_at: when a worker looked at the run, in seconds since the epoch; ``None`` for never.
    :param tasks: the names of tasks that have to be there, also where a rule hides them.
    :param target: the URL of the API and the organization that the run is of, if they are known.
    """
    watchers = _watchers.setdefault(asyncio.get_running_loop(), {})
    key = (tallyfy_conn_id, target)
    watcher = watchers.get(key)
    if watcher is None:
        watcher = watchers[key] = Watcher(tallyfy_conn_id, lambda: watchers.pop(key), target)
    now, epoch_now = watcher.clock.now(), time.time()
    return Member(
        watcher,
        -inf if looked_at is None else now - max(epoch_now - looked_at, 0.0),
        run_id,
        with_,
        pace,
        begins_at=now + max(pace.until_first_look(looked_at, epoch_now), GATHERING),
        last_look_at=now + pace.until_last_look(epoch_now),
        tasks=tasks,
    )
