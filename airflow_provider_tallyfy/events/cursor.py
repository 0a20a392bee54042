"""How far a watcher has come: which events Airflow has stored, and from when on others may still be found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
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

    :param organization: the organization that it belongs to.
    :param floor: events before this time are stored, or were never wanted.
    :param swept: when the last complete sweep of the lists began.
    :param seen: the events since the floor that are stored: a hash of each id, with the event's time in seconds since
        the epoch.
    :param completed: tasks that were seen completed: each id, with the time of the completion, likewise.
    """

    organization: str
    floor: datetime
    swept: datetime | None = None
    seen: dict[str, int] = field(default_factory=dict)
    completed: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Some of Tallyfy's times have no fraction of a second.
        self.floor = self.floor.astimezone(UTC).replace(microsecond=0)

    def is_new(self, event: Event) -> bool:
        """Return whether an event is still to be fired."""
        if _key(event.id) in self.seen:
            return False
        # A reopening is identified by the completion that it undid; its own time is not exact.
        return event.undone_at is not None or event.occurred_at >= self.floor

    def store(self, event: Event) -> None:
        """Record that Airflow has stored an event."""
        self.seen[_key(event.id)] = int(event.occurred_at.timestamp())
        if event.undone_at is not None and event.task is not None:
            self.completed.pop(str(event.task["id"]), None)

    def note_completion(self, task_id: str, completed_at: int) -> None:
        """Record that a task is completed, unless this completion is known to be undone, or one before is to be."""
        known = self.completed.get(task_id)
        if known is not None and _key(reopened_id(task_id, known)) not in self.seen:
            return
        if _key(reopened_id(task_id, completed_at)) not in self.seen:
            self.completed[task_id] = completed_at

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
        since = int(self.floor.timestamp())
        self.seen = {key: at for key, at in self.seen.items() if at >= since}
        self.completed = dict(sorted(self.completed.items(), key=lambda item: item[1])[-MAX_COMPLETED:])

    def merge(self, other: Cursor) -> None:
        """Add what another triggerer stored meanwhile, which had the same watcher for a moment."""
        if other.organization == self.organization:
            self.seen |= other.seen
            self.floor = max(self.floor, other.floor)

    def as_json(self) -> dict[str, Any]:
        """Return the cursor as plain JSON."""
        return {
            "organization": self.organization,
            "floor": self.floor.isoformat(),
            "swept": None if self.swept is None else self.swept.isoformat(),
            "seen": dict(self.seen),
            "completed": dict(self.completed),
        }

    @classmethod
    def from_json(cls, stored: Any) -> Cursor | None:
        """Return the cursor in a stored value, or ``None`` if there is none."""
        if not isinstance(stored, Mapping):
            return None
        floor = parse_datetime(stored.get("floor"))
        organization = stored.get("organization")
        if floor is None or not isinstance(organization, str):
            return None
        return cls(
            organization,
            floor,
            parse_datetime(stored.get("swept")),
            _times(stored.get("seen")),
            _times(stored.get("completed")),
        )


def _times(stored: Any) -> dict[str, int]:
    return {str(key): int(at) for key, at in stored.items()} if isinstance(stored, Mapping) else {}


def _key(event_id: str) -> str:
    return sha256(event_id.encode()).hexdigest()[:16]
