"""
The new events of one watcher, in the order in which they are fired.

The poller delivers each run that it reads (:meth:`EventStream.deliver`), and reports the end of each sweep
(:meth:`EventStream.end_sweep`). The trigger takes the events from :meth:`EventStream.next_item`, and calls
:meth:`EventStream.store` for each when Airflow has stored it. Only then the cursor advances.
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

from airflow_provider_tallyfy.events.cursor import Cursor
from airflow_provider_tallyfy.events.kinds import Event, EventFilter, completion, completions, find_events
from airflow_provider_tallyfy.events.payload import WITH_FORM_VALUES, to_payload
from airflow_provider_tallyfy.protocol.responses import parse_datetime

if TYPE_CHECKING:
    from airflow_provider_tallyfy.waiting.watcher import Clock

HOLD = 15.0
"""
Seconds between an event and the one before it, unless more follow.

Airflow up to 3.3 starts a DAG run with the first of several events that arrive close together, and gives the others to
the next DAG run, which only a later event starts (apache/airflow#54659, #56050). So the last of them is fired when the
scheduler has processed those before it.
"""


class OrganizationChangedError(Exception):
    """The connection now leads to another organization; the watcher has to begin again."""


@dataclass(slots=True, eq=False)
class PendingEvent:
    """
    An event that is not yet known to be stored.

    :param event: what happened.
    :param payload: what the trigger fires.
    :param is_fired: whether the triggerer has taken the event from the trigger, and so reports when it is stored.
    """

    event: Event
    payload: dict[str, Any]
    is_fired: bool = False


@dataclass(frozen=True, slots=True)
class SweepEnd:
    """
    The end of a sweep, behind all events that it found.

    :param began_at: when the sweep began.
    """

    began_at: datetime


class EventStream:
    """
    Finds the new events of one watcher in the runs that the poller reads.

    :param wanted: which events.
    :param cursor: the watcher's cursor.
    :param organization: whose events they are.
    :param form_values: include the values of forms in the payloads.
    :param poke_interval: seconds between two polls.
    :param hold: seconds; see :data:`HOLD`.
    :param clock: the time by which it holds events.
    """

    def __init__(
        self,
        wanted: EventFilter,
        cursor: Cursor,
        organization: str,
        *,
        form_values: bool = False,
        poke_interval: float = 60.0,
        hold: float = HOLD,
        clock: Clock,
    ) -> None:
        self.wanted = wanted
        self.cursor = cursor
        self.organization = organization
        self.form_values = form_values
        self.poke_interval = poke_interval
        self._hold = hold
        self._clock = clock
        self._last_at = -inf
        self._items: deque[PendingEvent | SweepEnd] = deque()
        self._pending: set[str] = set()
        """Ids of the events that were found and are not known to be stored."""
        self._arrival = asyncio.Event()
        self._has_ended = False

    @property
    def with_(self) -> tuple[str, ...]:
        """What a run that is read by itself has to include."""
        return (*self.wanted.with_, *(WITH_FORM_VALUES if self.form_values else ()))

    def has_new_events(self, run: Mapping[str, Any]) -> bool:
        """Return whether a run in a list seems to hold new events, so that it has to be read by itself."""
        if not self.wanted.matches(run):
            return False
        try:
            self._note_completions(run)
            if any(map(self._is_new, find_events(run, self.wanted, self.cursor.completed_at))):
                return True
        except Exception:  # noqa: BLE001 (a listed run may be malformed in any way; by itself it may not be)
            return True
        if not self.wanted.needs_tasks or "tasks" in run or run.get("archived_at"):
            return False
        # The list does not include the tasks.
        changed_at = parse_datetime(run.get("last_updated"))
        return changed_at is None or changed_at >= self.cursor.floor

    def deliver(self, run: Mapping[str, Any]) -> None:
        """
        Find the new events of a run that was read by itself.

        :raises MalformedResponseError: the run cannot be read.
        """
        self._note_completions(run)
        for event in find_events(run, self.wanted, self.cursor.completed_at):
            if self._is_new(event):
                payload = to_payload(event, run, self.organization, form_values=self.form_values)
                self._pending.add(event.id)
                self._add(PendingEvent(event, payload))

    def end_sweep(self, began_at: datetime) -> None:
        """Report that a sweep has read all lists, and that all runs that it named for this watcher were read."""
        self._add(SweepEnd(began_at))

    def end(self) -> None:
        """Report that the connection now leads to another organization."""
        self._has_ended = True
        self._arrival.set()

    async def next_item(self) -> PendingEvent | SweepEnd:
        """
        Return the next event, or the end of a sweep.

        :raises OrganizationChangedError: the connection now leads to another organization.
        """
        while (due_at := self._due_at()) > self._clock.now():
            if self._has_ended:
                raise OrganizationChangedError(
                    f"The connection does not lead to organization {self.organization!r} any more"
                )
            self._arrival.clear()
            await self._clock.wait(self._arrival, due_at)
        item = self._items.popleft()
        if isinstance(item, PendingEvent):
            self._last_at = self._clock.now()
        return item

    def store(self, item: PendingEvent | SweepEnd) -> None:
        """Advance the cursor, since an item and all before it are stored."""
        if isinstance(item, SweepEnd):
            self.cursor.advance(item.began_at)
        else:
            self.cursor.store(item.event)
            self._pending.discard(item.event.id)
            task = item.event.task
            if "task.reopened" in self.wanted.events and task is not None:
                # Until the reopening was stored, the completion after it could not be noted.
                completed_at = completion(task)
                if completed_at is not None:
                    self.cursor.note_completion(str(task["id"]), completed_at)

    def _due_at(self) -> float:
        """Return when the next item may be taken."""
        if not self._items:
            return inf
        is_last = sum(isinstance(item, PendingEvent) for item in islice(self._items, 3)) == 1
        return self._last_at + self._hold if is_last and isinstance(self._items[0], PendingEvent) else -inf

    def _is_new(self, event: Event) -> bool:
        return event.id not in self._pending and self.cursor.is_new(event)

    def _note_completions(self, run: Mapping[str, Any]) -> None:
        if "task.reopened" in self.wanted.events:
            for task_id, completed_at in completions(run, self.wanted):
                self.cursor.note_completion(task_id, completed_at)

    def _add(self, item: PendingEvent | SweepEnd) -> None:
        self._items.append(item)
        self._arrival.set()
