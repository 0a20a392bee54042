"""
The trigger behind the assets that users' actions in Tallyfy update.

In Airflow 3.3 each watcher has a shared stream to itself, since Airflow reports only there when an event was stored
(``SharedStreamProducer.advance``). Only then the cursor in the asset's state store advances. Requests are shared by the
:mod:`~airflow_provider_tallyfy.events.poller`, not by that stream.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_tallyfy.events.cursor import Cursor
from airflow_provider_tallyfy.events.kinds import EventFilter
from airflow_provider_tallyfy.events.stream import HOLD, EventStream, PendingEvent, SweepEnd
from airflow_provider_tallyfy.exceptions import TallyfyConfigurationError
from airflow_provider_tallyfy.protocol.responses import parse_datetime
from airflow_provider_tallyfy.version_compat import (
    AIRFLOW_V_3_0_PLUS,
    AIRFLOW_V_3_3_PLUS,
    GIVES_EACH_EVENT_TO_A_DAG_RUN,
    BaseEventTrigger,
    SharedStreamProducer,
    asset_state_stores,
)
from airflow_provider_tallyfy.waiting.threads import BackgroundLogger

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import AdvanceItem

MAX_UNSTORED = 32
"""The most events that are fired and not yet stored: a triggerer sends them to its supervisor in one message."""
_STORE_ATTEMPTS = 5

logger = BackgroundLogger(__name__)


class _Fired(TriggerEvent):
    """An event that the triggerer logs by its id only, without the names and form values of its payload."""

    def __repr__(self) -> str:
        return f"TriggerEvent<{self.payload['event_id']}>"

    __str__ = __repr__


class TallyfyEventTrigger(BaseEventTrigger):
    """
    Fire an event for an ``AssetWatcher`` whenever users did something in Tallyfy.

    Needs Airflow 3.0. From Airflow 3.3 on, no event is lost while triggerers restart or Tallyfy is unavailable. See
    the page "Events" of the documentation for what is guaranteed.

    :param events: ``process.launched``, ``process.completed``, ``process.archived``, ``task.completed``,
        ``task.reopened``, ``task.comment_added``, ``task.issue_raised``, ``task.issue_resolved``; one or several.
    :param checklist_id: only processes of this template.
    :param task: only the task with this id, alias or title; for events of tasks.
    :param decision: only approvals that were ``approved``, or only those that were ``rejected``; for
        ``task.completed``.
    :param form_values: include the values of the forms in the payload, up to 48,000 characters.
    :param since: where the first start begins, as a ``datetime`` or ISO 8601; without a zone it is in UTC. By default,
        what happened before the watcher first ran is no event. Needs Airflow 3.3.
    :param tallyfy_conn_id: id of the Airflow connection.
    :param poke_interval: seconds between two polls, 10 or more, or a ``timedelta``. The watchers of a connection are
        polled together, at the shortest interval.
    :raises ValueError: for arguments that no event can match.
    :raises TallyfyConfigurationError: this Airflow has no watchers.
    """

    def __init__(
        self,
        *,
        events: Sequence[str] | str = ("process.completed",),
        checklist_id: str | None = None,
        task: str | None = None,
        decision: str | None = None,
        form_values: bool = False,
        since: datetime | str | None = None,
        tallyfy_conn_id: str = "tallyfy_default",
        poke_interval: float | timedelta = 60,
    ) -> None:
        if not AIRFLOW_V_3_0_PLUS:
            raise TallyfyConfigurationError(
                "Events need Airflow 3.0 or newer: this Airflow has no asset watchers. Use a schedule and a sensor "
                "instead"
            )
        super().__init__()  # type: ignore[no-untyped-call]
        self.wanted = EventFilter.checked(events, checklist_id, task, decision)
        if isinstance(poke_interval, timedelta):
            poke_interval = poke_interval.total_seconds()
        if type(poke_interval) not in (int, float) or not 10 <= poke_interval < float("inf"):
            raise ValueError(f"poke_interval is {poke_interval!r}; give 10 seconds or more.")
        if not isinstance(form_values, bool):
            raise ValueError(f"form_values is {form_values!r}; give True or False.")
        self.form_values = form_values
        self.since = _moment(since)
        self.tallyfy_conn_id = tallyfy_conn_id
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, as plain JSON; Airflow identifies watchers by them."""
        return (
            "airflow_provider_tallyfy.triggers.tallyfy.TallyfyEventTrigger",
            {
                "events": list(self.wanted.events),
                "checklist_id": self.wanted.checklist_id,
                "task": self.wanted.task,
                "decision": self.wanted.decision,
                "form_values": self.form_values,
                "since": None if self.since is None else self.since.isoformat(),
                "tallyfy_conn_id": self.tallyfy_conn_id,
                "poke_interval": self.poke_interval,
            },
        )

    def shared_stream_key(self) -> Hashable:
        """Return a key that no other watcher has: each has a cursor of its own."""
        return json.dumps(self.serialize())

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> Any:
        """Return the producer that finds the events, and advances the cursor when they are stored (Airflow 3.3)."""
        return EventProducer(cls(**kwargs))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Fire the events that the producer found (Airflow 3.3)."""
        async for item in shared_stream:
            if isinstance(item, asyncio.Future):
                # The producer waits for the stores, which only the trigger has.
                if not item.done():
                    item.set_result(asset_state_stores(self))
            elif isinstance(item, PendingEvent):
                yield _Fired(payload=item.payload)
                # Not reached if the triggerer stops while it logs the event, although Airflow counts that as stored.
                item.is_fired = True

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire the events from now on: Airflow before 3.3 has no store for a cursor."""
        async with self.open([]) as (stream, _):
            while True:
                item = await stream.next_item()
                if isinstance(item, PendingEvent):
                    yield _Fired(payload=item.payload)
                stream.store(item)

    @asynccontextmanager
    async def open(self, stores: Sequence[Any]) -> AsyncIterator[tuple[EventStream, CursorStore]]:
        """
        Poll Tallyfy for this watcher, from its cursor on, until the ``with`` block ends.

        :param stores: the state stores for the cursor, one for each asset.
        """
        # Imported here, since it takes time, and parsing a DAG does not need it.
        from airflow_provider_tallyfy.events.poller import event_poller

        async with event_poller(self.tallyfy_conn_id) as poller:
            organization, now = await poller.connect()
            cursors = CursorStore(stores, self.wanted, organization)
            cursor = await cursors.load()
            if cursor is None:
                cursor = Cursor(self.since or now)
                await cursors.save(cursor)
            stream = EventStream(
                self.wanted,
                cursor,
                organization,
                form_values=self.form_values,
                poke_interval=self.poke_interval,
                hold=0.0 if GIVES_EACH_EVENT_TO_A_DAG_RUN else HOLD,
                clock=poller.clock,
            )
            poller.add(stream)
            try:
                yield stream, cursors
            finally:
                poller.remove(stream)


class CursorStore:
    """
    Keeps the cursor of a watcher in the state stores of its assets.

    :param stores: one for each asset. Airflow runs a single trigger for assets whose watchers have the same arguments.
    :param wanted: which events the watcher fires. If that changes, it starts with a new cursor.
    :param organization: whose events they are; each organization has a cursor of its own.
    """

    def __init__(self, stores: Sequence[Any], wanted: EventFilter, organization: str) -> None:
        self._stores = stores
        described = [organization, sorted(wanted.events), wanted.checklist_id, wanted.task, wanted.decision]
        self.key = f"tallyfy_events_{sha256(json.dumps(described).encode()).hexdigest()[:16]}"

    async def load(self) -> Cursor | None:
        """Return the stored cursor, or ``None``. A store that fails is retried."""
        cursors = []
        for store in self._stores:
            while True:
                try:
                    cursor = Cursor.from_json(await store.aget(self.key))
                    break
                except Exception:
                    logger.exception("The cursor of a Tallyfy watcher could not be read, retrying in 10 s")
                    await asyncio.sleep(10)
            if cursor is not None:
                cursors.append(cursor)
        if not cursors:
            return None
        first = min(cursors, key=lambda cursor: cursor.floor)
        for cursor in cursors:
            first.seen |= cursor.seen
        return first

    async def refresh(self, cursor: Cursor) -> None:
        """Add what another triggerer stored meanwhile, if it can be read."""
        for store in self._stores:
            try:
                stored = Cursor.from_json(await store.aget(self.key))
            except Exception:  # noqa: BLE001 (at worst, an event is fired twice with the same id)
                return
            if stored is not None:
                cursor.merge(stored)

    async def save(self, cursor: Cursor) -> None:
        """Store a cursor, with what another triggerer stored meanwhile."""
        await self.refresh(cursor)
        for attempt in range(1, _STORE_ATTEMPTS + 1):
            try:
                for store in self._stores:
                    await store.aset(self.key, cursor.to_json())
                return
            except Exception:
                if attempt == _STORE_ATTEMPTS:
                    raise
                logger.exception(
                    "The cursor of a Tallyfy watcher could not be stored (attempt %d), retrying", attempt
                )
                await asyncio.sleep(attempt)


class EventProducer(SharedStreamProducer):
    """
    Finds the events of one watcher for Airflow's shared stream, and advances its cursor when they are stored.

    :param trigger: the watcher's trigger, as Airflow made it for this purpose, without an asset state store.
    """

    def __init__(self, trigger: TallyfyEventTrigger) -> None:
        self._trigger = trigger
        self._resources = AsyncExitStack()
        self._stream: EventStream | None = None
        self._cursors: CursorStore | None = None
        self._free_slots = asyncio.Semaphore(MAX_UNSTORED)
        self._unstored = 0
        self._is_broken = False

    async def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
        """Yield a request for the asset state stores, and then each event and each end of a sweep."""
        stores: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        yield stores, None
        stream, cursors = await self._resources.enter_async_context(self._trigger.open(await stores))
        self._stream, self._cursors = stream, cursors
        while True:
            item = await stream.next_item()
            if isinstance(item, PendingEvent):
                await self._free_slots.acquire()
                if not self._unstored:
                    # For a moment, another triggerer may have the same watcher.
                    await cursors.refresh(stream.cursor)
                if not stream.cursor.is_new(item.event):
                    stream.store(item)
                    self._free_slots.release()
                    continue
                self._unstored += 1
            yield item, item

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Advance the cursor, since Airflow has stored these events."""
        if self._stream is None or self._cursors is None:
            return
        has_changed = False
        for item in batch:
            is_stored = item.outcome.is_clean
            if isinstance(item.broker_payload, PendingEvent):
                is_stored = is_stored and item.broker_payload.is_fired
                self._unstored -= 1
                self._free_slots.release()
            # The cursor stays before an event that was not stored; the next producer finds and fires it again.
            self._is_broken = self._is_broken or not is_stored
            if self._is_broken:
                break
            if isinstance(item.broker_payload, (PendingEvent, SweepEnd)):
                self._stream.store(item.broker_payload)
                has_changed = True
        if has_changed:
            await self._cursors.save(self._stream.cursor)

    async def aclose(self) -> None:
        """Stop polling Tallyfy for this watcher."""
        await self._resources.aclose()


def _moment(since: datetime | str | None) -> datetime | None:
    if since is None:
        return None
    if not AIRFLOW_V_3_3_PLUS:
        raise TallyfyConfigurationError(
            "since needs Airflow 3.3 or newer: an older one keeps no cursor, and would fire all events since then "
            "whenever its triggerer restarts. Leave it out"
        )
    moment = parse_datetime(since.isoformat() if isinstance(since, datetime) else since)
    if moment is None:
        raise ValueError(f"since is {since!r}; give a datetime or ISO 8601, such as 2026-11-25T00:00:00Z.")
    return moment.astimezone(UTC)
