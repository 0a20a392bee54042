"""
The trigger behind the assets that users' actions in Tallyfy update.

In Airflow 3.3 it takes part in a shared stream of its own, for one thing that a plain trigger does not have: Airflow
says when an event was stored (``SharedStreamProducer.advance``), and only then the place moves on in the asset's state
store. Requests are shared by the :mod:`~airflow_provider_tallyfy.events.poller`, not by that stream.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_tallyfy.events.kinds import EventFilter
from airflow_provider_tallyfy.events.place import Place
from airflow_provider_tallyfy.events.stream import HOLD, EventStream, Found, Swept
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
"""So many events are under way to the database at most: a triggerer's event loop sends them all in one message."""
_STORE_ATTEMPTS = 5

logger = BackgroundLogger(__name__)


class _Fired(TriggerEvent):
    """An event that stands in the triggerer's log by its id, and not with all that the run and its forms hold."""

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
    :param poke_interval: seconds between two polls, 10 or more. The watchers of a connection are polled together, at
        the shortest interval.
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
        poke_interval: float = 60,
    ) -> None:
        if not AIRFLOW_V_3_0_PLUS:
            raise TallyfyConfigurationError(
                "TallyfyEventTrigger needs Airflow 3.0 or newer: this Airflow has no asset watchers. Use a schedule "
                "and a sensor instead"
            )
        super().__init__()  # type: ignore[no-untyped-call]
        self.wanted = EventFilter.checked(events, checklist_id, task, decision)
        if type(poke_interval) not in (int, float) or not 10 <= poke_interval < float("inf"):
            raise ValueError(f"poke_interval is {poke_interval!r}; give 10 seconds or more.")
        if not isinstance(form_values, bool):
            raise ValueError(f"form_values is {form_values!r}; give True or False.")
        self.form_values = form_values
        self.since = _moment(since)
        self.tallyfy_conn_id = tallyfy_conn_id
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, as plain JSON; Airflow tells watchers apart by them."""
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
        """Return a key that no other watcher has: a stream's place is that of one watcher."""
        return json.dumps(self.serialize())

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> Any:
        """Return what finds the events, and moves the place on when Airflow has stored them (Airflow 3.3)."""
        return EventProducer(cls(**kwargs))

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Fire an event for each that was found (Airflow 3.3)."""
        async for item in shared_stream:
            if isinstance(item, asyncio.Future):
                # Only the trigger has the stores; the producer waits for them.
                if not item.done():
                    item.set_result(asset_state_stores(self))
            elif isinstance(item, Found):
                yield _Fired(payload=item.payload)
                # If the triggerer stops while it logs the event, Airflow counts it as stored, and never comes here.
                item.is_taken = True

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire an event for each that is found, from now on: before Airflow 3.3 there is nowhere to keep a place."""
        async with self.open([]) as (stream, _):
            while True:
                item = await stream.next_item()
                if isinstance(item, Found):
                    yield _Fired(payload=item.payload)
                stream.store(item)

    @asynccontextmanager
    async def open(self, stores: Sequence[Any]) -> AsyncIterator[tuple[EventStream, PlaceStore]]:
        """
        Have Tallyfy polled for this watcher, from its place on.

        :param stores: where the place is kept, one for each asset.
        """
        # DAG files are parsed all day, and need none of this.
        from airflow_provider_tallyfy.events.poller import event_poller

        async with event_poller(self.tallyfy_conn_id) as poller:
            organization, now = await poller.contact()
            places = PlaceStore(stores, self.wanted)
            place = await places.load(organization)
            if place is None:
                place = Place(organization, self.since or now)
                await places.save(place)
            stream = EventStream(
                self.wanted,
                place,
                form_values=self.form_values,
                poke_interval=self.poke_interval,
                hold=0.0 if GIVES_EACH_EVENT_TO_A_DAG_RUN else HOLD,
                clock=poller.clock,
            )
            poller.add(stream)
            try:
                yield stream, places
            finally:
                poller.remove(stream)


class PlaceStore:
    """
    Keeps the place of a watcher in the state stores of its assets.

    :param stores: one for each asset. Airflow runs a single trigger for assets whose watchers are alike.
    :param wanted: which events the watcher is for: with others it begins again.
    """

    def __init__(self, stores: Sequence[Any], wanted: EventFilter) -> None:
        self._stores = stores
        described = [sorted(wanted.events), wanted.checklist_id, wanted.task, wanted.decision]
        self.key = f"tallyfy_events_{sha256(json.dumps(described).encode()).hexdigest()[:16]}"

    async def load(self, organization: str) -> Place | None:
        """Return the place that was stored for an organization, or ``None``; an error is no reason to begin again."""
        places = []
        for store in self._stores:
            while True:
                try:
                    stored = await store.aget(self.key)
                    break
                except Exception:
                    logger.exception("The place of a Tallyfy watcher could not be read, retrying in 10 s")
                    await asyncio.sleep(10)
            place = Place.from_json(stored)
            if place is not None and place.organization == organization:
                places.append(place)
            elif place is not None:
                logger.warning(
                    "The connection leads to organization %r now, not to %r; its watcher begins with what happens "
                    "from now on",
                    organization,
                    place.organization,
                )
        if not places:
            return None
        first = min(places, key=lambda place: place.floor)
        for place in places:
            first.seen |= place.seen
        return first

    async def refresh(self, place: Place) -> None:
        """Add to a place what another triggerer stored meanwhile, if that can be read."""
        for store in self._stores:
            try:
                stored = Place.from_json(await store.aget(self.key))
            except Exception:  # noqa: BLE001 (all that is lost is one more chance to tell an event only once)
                return
            if stored is not None:
                place.merge(stored)

    async def save(self, place: Place) -> None:
        """Store a place, with what another triggerer stored meanwhile."""
        await self.refresh(place)
        for attempt in range(1, _STORE_ATTEMPTS + 1):
            try:
                for store in self._stores:
                    await store.aset(self.key, place.as_json())
                return
            except Exception:
                if attempt == _STORE_ATTEMPTS:
                    raise
                logger.exception("The place of a Tallyfy watcher could not be stored (attempt %d)", attempt)
                await asyncio.sleep(attempt)


class EventProducer(SharedStreamProducer):
    """
    Finds the events of one watcher for Airflow's shared stream, and moves its place on when they are stored.

    :param trigger: the watcher's trigger, as Airflow made it for this purpose; it has no asset state store.
    """

    def __init__(self, trigger: TallyfyEventTrigger) -> None:
        self._trigger = trigger
        self._resources = AsyncExitStack()
        self._stream: EventStream | None = None
        self._places: PlaceStore | None = None
        self._unstored = asyncio.Semaphore(MAX_UNSTORED)
        self._under_way = 0
        self._is_broken = False

    async def open_stream(self) -> AsyncIterator[tuple[Any, Any]]:
        """Give a request for the asset state stores, and then each event and each end of a sweep."""
        stores: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        yield stores, None
        stream, places = await self._resources.enter_async_context(self._trigger.open(await stores))
        self._stream, self._places = stream, places
        while True:
            item = await stream.next_item()
            if isinstance(item, Found):
                await self._unstored.acquire()
                if not self._under_way:
                    # For a moment, another triggerer may have the same watcher.
                    await places.refresh(stream.place)
                if not stream.place.is_new(item.event):
                    stream.store(item)
                    self._unstored.release()
                    continue
                self._under_way += 1
            yield item, item

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Move the place on, since Airflow has stored these events."""
        if self._stream is None or self._places is None:
            return
        has_changed = False
        for item in batch:
            is_stored = item.outcome.is_clean
            if isinstance(item.broker_payload, Found):
                is_stored = is_stored and item.broker_payload.is_taken
                self._under_way -= 1
                self._unstored.release()
            # What was not stored is told again, by whatever follows this producer; the place stays before it.
            self._is_broken = self._is_broken or not is_stored
            if self._is_broken:
                break
            if isinstance(item.broker_payload, (Found, Swept)):
                self._stream.store(item.broker_payload)
                has_changed = True
        if has_changed:
            await self._places.save(self._stream.place)

    async def aclose(self) -> None:
        """Have Tallyfy polled no more for this watcher."""
        await self._resources.aclose()


def _moment(since: datetime | str | None) -> datetime | None:
    if since is None:
        return None
    if not AIRFLOW_V_3_3_PLUS:
        raise TallyfyConfigurationError(
            "since needs Airflow 3.3 or newer: an older one keeps no place, and would tell everything since then again "
            "whenever its triggerer restarts. Leave it out"
        )
    moment = parse_datetime(since.isoformat() if isinstance(since, datetime) else since)
    if moment is None:
        raise ValueError(f"since is {since!r}; give a datetime or ISO 8601, such as 2026-11-25T00:00:00Z.")
    return moment.astimezone(UTC)
