"""
The events of one watcher, in the order in which they are to be told.

The poller hands over runs as it reads them (:meth:`EventStream.deliver`), and says when it has read all lists
(:meth:`EventStream.swept`). Whoever tells the events takes them from :meth:`EventStream.next_item`, and calls
:meth:`EventStream.store` for each as soon as it is certain that it was stored. Only then the place moves on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.events.kinds import Event, EventFilter, completion, completions, find_events
from airflow_provider_tallyfy.events.payload import WITH_FORM_VALUES, to_payload
from airflow_provider_tallyfy.events.place import Place
from airflow_provider_tallyfy.protocol.responses import parse_datetime

if TYPE_CHECKING:
    from airflow_provider_tallyfy.waiting.watcher import Clock

HOLD = 15.0
"""
Seconds between an event and the one before it, unless more follow.

Airflow up to 3.3 starts a DAG run with the first of several events that come close together, and gives the others to
the next DAG run, which only a later event starts (apache/airflow#54659, #56050). So the last of them comes when the
scheduler has taken up those before it.
"""


class OrganizationChangedError(Exception):
    """The connection leads to another organization than before; the watcher has to begin again."""


@dataclass(slots=True, eq=False)
class Found:
    """
    An event that is to be told.

    :param event: what happened.
    :param payload: what to tell.
    :param is_taken: whether the triggerer has taken note of it, and so says when it is stored.
    """

    event: Event
    payload: dict[str, Any]
    is_taken: bool = False


@dataclass(frozen=True, slots=True)
class Swept:
    """
    All lists were read, and everything that they named; what came of it stands before this.

    :param began_at: when that reading began.
    """

    began_at: datetime


class EventStream:
    """
    Finds the events of one watcher in the runs that the poller reads.

    :param wanted: which events.
    :param place: how far the watcher has come.
    :param form_values: include the values of forms in the payloads.
    :param poke_interval: seconds between two polls.
    :param hold: seconds; see :data:`HOLD`.
    :param clock: the time by which it holds.
    """

    def __init__(
        self,
        wanted: EventFilter,
        place: Place,
        *,
        form_values: bool = False,
        poke_interval: float = 60.0,
        hold: float = HOLD,
        clock: Clock,
    ) -> None:
        self.wanted = wanted
        self.place = place
        self.form_values = form_values
        self.poke_interval = poke_interval
        self._hold = hold
        self._clock = clock
        self._last_at = -inf
        self._items: deque[Found | Swept] = deque()
        self._untold: set[str] = set()
        """Ids of the events that were found and are not certain to be stored."""
        self._arrival = asyncio.Event()
        self._has_ended = False

    @property
    def with_(self) -> tuple[str, ...]:
        """What a run that is read by itself has to include."""
        return (*self.wanted.with_, *(WITH_FORM_VALUES if self.form_values else ()))

    def has_news(self, run: Mapping[str, Any]) -> bool:
        """Tell whether a run, as a list shows it, is to be read by itself, since it seems to hold new events."""
        if not self.wanted.matches(run):
            return False
        try:
            self._note_completions(run)
            if any(map(self._is_new, find_events(run, self.wanted, self.place.completed))):
                return True
        except Exception:  # noqa: BLE001 (a run may be odd in any way; by itself it may not be)
            return True
        if not self.wanted.needs_tasks or "tasks" in run or run.get("archived_at"):
            return False
        # The list does not show what was asked for.
        changed_at = parse_datetime(run.get("last_updated"))
        return changed_at is None or changed_at >= self.place.floor

    def deliver(self, run: Mapping[str, Any], organization: str) -> None:
        """
        Take the new events of a run that was read by itself.

        :raises MalformedResponseError: the run cannot be read.
        """
        if organization != self.place.organization:
            self._has_ended = True
            self._arrival.set()
            return
        self._note_completions(run)
        for event in find_events(run, self.wanted, self.place.completed):
            if self._is_new(event):
                payload = to_payload(event, run, organization, form_values=self.form_values)
                self._untold.add(event.id)
                self._add(Found(event, payload))

    def swept(self, began_at: datetime) -> None:
        """Note that all lists were read, and everything that they named."""
        self._add(Swept(began_at))

    async def next_item(self) -> Found | Swept:
        """
        Return the next event, or the note that all lists were read.

        :raises OrganizationChangedError: the connection leads to another organization now.
        """
        while (due_at := self._due_at()) > self._clock.now():
            if self._has_ended:
                raise OrganizationChangedError(
                    f"The connection leads to another organization than {self.place.organization!r} now"
                )
            self._arrival.clear()
            await self._clock.wait(self._arrival, due_at)
        item = self._items.popleft()
        if isinstance(item, Found):
            self._last_at = self._clock.now()
        return item

    def store(self, item: Found | Swept) -> None:
        """Move the place on, since an item and all before it are stored."""
        if isinstance(item, Swept):
            self.place.advance(item.began_at)
        else:
            self.place.store(item.event)
            self._untold.discard(item.event.id)
            task = item.event.task
            if "task.reopened" in self.wanted.events and task is not None:
                # Until a reopening was stored, the completion that followed it could not be noted.
                completed_at = completion(task)
                if completed_at is not None:
                    self.place.note_completion(str(task["id"]), completed_at)

    def _due_at(self) -> float:
        """Return when the next item may be told."""
        if not self._items:
            return inf
        is_last = sum(isinstance(item, Found) for item in islice(self._items, 3)) == 1
        return self._last_at + self._hold if is_last and isinstance(self._items[0], Found) else -inf

    def _is_new(self, event: Event) -> bool:
        return event.id not in self._untold and self.place.is_new(event)

    def _note_completions(self, run: Mapping[str, Any]) -> None:
        if "task.reopened" in self.wanted.events:
            for task_id, completed_at in completions(run, self.wanted):
                self.place.note_completion(task_id, completed_at)

    def _add(self, item: Found | Swept) -> None:
        self._items.append(item)
        self._arrival.set()
