"""How far a watcher has come: what has been told, and from when on something may still turn up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from airflow_provider_tallyfy.events.kinds import Event, reopened_id
from airflow_provider_tallyfy.protocol.responses import parse_datetime

OVERLAP = timedelta(hours=1)
"""So much later than it happened, an event may show in Tallyfy's answers and is still told."""
MIN_OVERLAP = timedelta(minutes=2)
MAX_SEEN = 1500
"""If more events than these are within the overlap, it is shortened, to :data:`MIN_OVERLAP` at least."""
MAX_COMPLETED = 1000
"""For so many tasks, those completed last, it is known that they were completed, so that a reopening is seen."""


@dataclass(slots=True)
class Place:
    """
    The place of one watcher.

    :param organization: the organization that it is about.
    :param floor: events from before this time have been told, or are none.
    :param swept: when the last complete reading of the lists began.
    :param seen: events since the floor that have been told, by a hash of their id; when they happened, in seconds
        since the epoch.
    :param completed: tasks that were seen completed, by id; when, likewise.
    """

    organization: str
    floor: datetime
    swept: datetime | None = None
    seen: dict[str, int] = field(default_factory=dict)
    completed: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Tallyfy says some times to the second only.
        self.floor = self.floor.astimezone(UTC).replace(microsecond=0)

    def is_new(self, event: Event) -> bool:
        """Tell whether an event is still to be told."""
        if _key(event.id) in self.seen:
            return False
        # A reopening says itself which completion it undid; when it happened is known only roughly.
        return event.undone_at is not None or event.occurred_at >= self.floor

    def store(self, event: Event) -> None:
        """Note that an event has been told, and that this is certain."""
        self.seen[_key(event.id)] = int(event.occurred_at.timestamp())
        if event.undone_at is not None and event.task is not None:
            self.completed.pop(str(event.task["id"]), None)

    def note_completion(self, task_id: str, completed_at: int) -> None:
        """Note that a task is completed, unless it is known that this completion, or the one before, was undone."""
        known = self.completed.get(task_id)
        if known is not None and _key(reopened_id(task_id, known)) not in self.seen:
            return
        if _key(reopened_id(task_id, completed_at)) not in self.seen:
            self.completed[task_id] = completed_at

    def advance(self, swept: datetime) -> None:
        """
        Note that all lists were read, and everything that they named; forget what cannot turn up any more.

        The floor follows the reading *before* this one. So whatever a list left out because others moved between its
        pages, a second reading brings.
        """
        if self.swept is not None:
            floor = self.swept - OVERLAP
            if len(self.seen) > MAX_SEEN:
                oldest_kept = sorted(self.seen.values())[-MAX_SEEN]
                shortened = datetime.fromtimestamp(oldest_kept, UTC)
                floor = max(floor, min(shortened, self.swept - MIN_OVERLAP))
            self.floor = max(self.floor, floor.replace(microsecond=0))
        self.swept = swept
        since = int(self.floor.timestamp())
        self.seen = {key: at for key, at in self.seen.items() if at >= since}
        latest = sorted(self.completed.items(), key=lambda item: item[1])[-MAX_COMPLETED:]
        self.completed = dict(latest)

    def merge(self, other: Place) -> None:
        """Add what another triggerer stored meanwhile, which has the same watcher for a moment."""
        if other.organization == self.organization:
            self.seen |= other.seen
            self.floor = max(self.floor, other.floor)

    def as_json(self) -> dict[str, Any]:
        """Return the place as plain JSON."""
        return {
            "organization": self.organization,
            "floor": self.floor.isoformat(),
            "swept": None if self.swept is None else self.swept.isoformat(),
            "seen": dict(self.seen),
            "completed": dict(self.completed),
        }

    @classmethod
    def from_json(cls, stored: Any) -> Place | None:
        """Return a place that was stored, or ``None`` if it is none."""
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
