"""The cursor of a watcher: which events Airflow has stored, and since when others may still be found."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from heapq import nlargest
from typing import Any

from airflow_provider_tallyfy.events.kinds import Event, reopened_id
from airflow_provider_tallyfy.protocol.responses import parse_datetime

OVERLAP = timedelta(hours=1)
"""An event is found if it shows in Tallyfy's responses at most this long after it happened."""
MIN_OVERLAP = timedelta(minutes=2)
MAX_SEEN = 1500
"""If more events than these are within the overlap, it is shortened, to :data:`MIN_OVERLAP` at least."""
MAX_COMPLETED = 1000
"""How many completed tasks are remembered, those completed last, so that a reopening is recognized."""


@dataclass(slots=True)
class Cursor:
    """
    The cursor of one watcher.

    Ids are stored as hashes, since Airflow warns of a state above 64 KiB.

    :param floor: events before this time are stored, or were never wanted.
    :param swept: when the last complete sweep of the lists began.
    :param seen: the stored events since the floor: the hash of each id, and when it happened, in seconds since the
        epoch.
    :param completed: tasks that were seen completed: the hash of each id, and when, in seconds since the epoch.
    """

    floor: datetime
    swept: datetime | None = None
    seen: dict[str, int] = field(default_factory=dict)
    completed: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Some of Tallyfy's times have no fraction of a second.
        self.floor = self.floor.astimezone(UTC).replace(microsecond=0)

    def is_new(self, event: Event) -> bool:
        """Return whether an event is still to be fired."""
        if hash_of(event.id) in self.seen:
            return False
        # A reopening is identified by the completion that it undid; its own time is not exact.
        return event.undone_at is not None or event.occurred_at >= self.floor

    def store(self, event: Event) -> None:
        """Record that Airflow has stored an event."""
        self.seen[hash_of(event.id)] = int(event.occurred_at.timestamp())
        if event.undone_at is not None and event.task is not None:
            self.completed.pop(hash_of(str(event.task["id"])), None)

    def completed_at(self, task_id: str) -> int | None:
        """Return when a task was completed, in seconds since the epoch, if it was seen completed."""
        return self.completed.get(hash_of(task_id))

    def note_completion(self, task_id: str, completed_at: int) -> None:
        """
        Record that a task is completed, unless the event for its reopening is stored.

        An earlier completion is kept until the event for the reopening after it is stored.
        """
        known = self.completed_at(task_id)
        if known is not None and hash_of(reopened_id(task_id, known)) not in self.seen:
            return
        if hash_of(reopened_id(task_id, completed_at)) not in self.seen:
            self.completed[hash_of(task_id)] = completed_at

    def advance(self, swept: datetime) -> None:
        """
        Record that a sweep is complete, and forget what no response can show any more.

        The floor follows the sweep *before* this one: a second sweep finds what the first one missed because runs moved
        from page to page while it read them.
        """
        if self.swept is not None:
            floor = self.swept - OVERLAP
            if len(self.seen) > MAX_SEEN:
                oldest_kept = datetime.fromtimestamp(sorted(self.seen.values())[-MAX_SEEN], UTC)
                floor = max(floor, min(oldest_kept, self.swept - MIN_OVERLAP))
            self.floor = max(self.floor, floor.replace(microsecond=0))
        self.swept = swept
        self._forget()

    def merge(self, other: Cursor) -> None:
        """Add what another triggerer stored meanwhile, which had the same watcher for a moment."""
        self.seen |= other.seen
        self.floor = max(self.floor, other.floor)

    def to_json(self) -> dict[str, Any]:
        """Return the cursor as plain JSON."""
        self._forget()
        return {
            "floor": self.floor.isoformat(),
            "swept": None if self.swept is None else self.swept.isoformat(),
            "seen": dict(self.seen),
            "completed": dict(self.completed),
        }

    @classmethod
    def from_json(cls, stored: Any) -> Cursor | None:
        """Return the cursor in a stored value, or ``None`` if there is none."""
        floor = parse_datetime(stored.get("floor")) if isinstance(stored, Mapping) else None
        if floor is None:
            return None
        swept = parse_datetime(stored.get("swept"))
        return cls(floor, swept, _times(stored.get("seen")), _times(stored.get("completed")))

    def _forget(self) -> None:
        """Forget stored events before the floor, and all but the tasks that were completed last."""
        since = int(self.floor.timestamp())
        self.seen = {key: at for key, at in self.seen.items() if at >= since}
        # A sweep notes the completed tasks of all runs.
        self.completed = dict(nlargest(MAX_COMPLETED, self.completed.items(), key=lambda item: item[1]))


def hash_of(text: str) -> str:
    """Return a hash of an id: 48 bits, so that two of some thousand ids hardly ever have the same."""
    return urlsafe_b64encode(sha256(text.encode()).digest()[:6]).decode()


def _times(stored: Any) -> dict[str, int]:
    return {str(key): int(at) for key, at in stored.items()} if isinstance(stored, Mapping) else {}
