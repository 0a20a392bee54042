"""
What a plan keeps account of: who waits for a run, what was last seen of it, and the way through many runs.

All times are seconds on one monotonic clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from airflow_provider_tallyfy.waiting.looks import Look
from airflow_provider_tallyfy.waiting.pace import Pace
from airflow_provider_tallyfy.waiting.questions import IN_LISTS, Listing

SHORTEST_PAUSE = 1.0
"""Seconds between two looks at a run, however short its waits' ``poke_interval`` is."""
CLOSE_TOGETHER = 0.1
"""Of an interval: looks that fall due within that are made together."""
OPEN_STATUSES = ("active", "delayed", "problem")
"""The statuses in whose lists a run may stand that was never seen (page "List processes")."""


@dataclass(slots=True, eq=False)
class Watch(ABC):
    """
    One wait's wish to see a run again and again.

    :param run_id: the run's id.
    :param with_: what has to be included.
    :param pace: how often to look.
    :param begins_at: when its first look is due.
    :param last_look_at: when to look whatever the pace says, since the wait ends soon after.
    :param tasks: the names of tasks that have to be there, also where a rule hides them.
    """

    run_id: str
    with_: tuple[str, ...]
    pace: Pace
    begins_at: float
    last_look_at: float = inf
    tasks: tuple[str, ...] = ()
    due_at: float = field(init=False)
    looks: int = 0
    read_at: float = -inf
    read_with: float = -inf  # when the looks began that were made together with that one

    def __post_init__(self) -> None:
        self.due_at = self.begins_at

    @property
    def interval(self) -> float:
        """Seconds between its looks, as far as they are regular."""
        return max(self.pace.poke_interval, SHORTEST_PAUSE)

    @abstractmethod
    def tell(self, look: Look) -> None:
        """Take what was seen."""

    def was_read(self, asked_at: float, phase: float) -> None:
        """Take note that the run was read; ``phase`` is when the looks began that were made together with it."""
        self.read_at, self.read_with = asked_at, phase
        if self.due_at <= asked_at + CLOSE_TOGETHER * self.interval:
            self.looks += 1
        if self.last_look_at <= asked_at:
            self.last_look_at = inf
        pause = max(self.pace.after_look(max(self.looks, 1)), SHORTEST_PAUSE)
        # All that was read together falls due together, unless reading took longer than half the pause.
        self.due_at = max(phase, asked_at - pause / 2) + pause


@dataclass(slots=True, eq=False)
class WatchedRun:
    """A run that somebody waits for, with what was last seen of it, and what is to be done about it."""

    run_id: str
    watches: list[Watch] = field(default_factory=list)
    due_at: float = inf
    is_hinted: bool = False  # the feed told of it
    is_news: bool = False  # it looked new in a list
    is_watched_closely: bool = False  # the feed told of it, and nothing was new yet
    failures: int = 0
    retry_at: float = -inf
    status: str | None = None
    checklist_id: str | None = None
    tried: tuple[str, ...] = ()  # the statuses in whose lists it was not found, since it was last seen
    next_id: str | None = None
    seen_at: float = -inf
    face: tuple[Any, ...] | None = None  # as it was when read by itself
    face_at: float = -inf
    listed_next_id: str | None = None

    @property
    def with_(self) -> tuple[str, ...]:
        """What any of its waits needs to be included."""
        return tuple(dict.fromkeys(name for watch in self.watches for name in watch.with_))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that any of its waits needs to see."""
        return tuple(dict.fromkeys(name for watch in self.watches for name in watch.tasks))

    @property
    def is_listable(self) -> bool:
        """Whether a list shows all that its waits need."""
        return not self.is_news and set(self.with_) <= set(IN_LISTS)

    def status_to_try(self) -> str | None:
        """Return the status in whose list it stands; before it was ever seen, each of those in which it may."""
        statuses = OPEN_STATUSES if self.status is None else (self.status,)
        return next((status for status in statuses if status not in self.tried), None)

    def takes(self, seen: Mapping[str, Any], asked_at: float) -> float | None:
        """Take what was read by itself; return since when it must have changed, or ``None`` if it has not."""
        next_id, face = next_id_of(seen), face_of(seen)
        since = None
        if self.face is not None and face != self.face:
            since = self.face_at
        if self.seen_at != -inf and next_id != self.next_id:
            since = self.seen_at
        self.next_id, self.seen_at, self.face, self.face_at = next_id, asked_at, face, asked_at
        return since

    def takes_from_list(self, seen: Mapping[str, Any], asked_at: float) -> None:
        """Take what a list showed, as far as it is not news."""
        self.listed_next_id = next_id = next_id_of(seen)
        if next_id is not None and (self.seen_at == -inf or next_id == self.next_id):
            self.next_id, self.seen_at = next_id, asked_at
        if self.face == face_of(seen):
            self.face_at = asked_at


@dataclass(slots=True, eq=False)
class Course:
    """A way to read many runs: through the pages of a list, or (without one) each by itself."""

    listing: Listing | None
    wanted: dict[str, None]
    began_at: float
    page: int = 1
    pages: int | None = None
    found: int = 0

    @property
    def is_at_end(self) -> bool:
        """Whether the list was walked to its end."""
        return self.pages is not None and self.page > self.pages

    @property
    def pays(self) -> bool:
        """Whether going on takes fewer requests than reading by itself what is still wanted."""
        if self.listing is None or not self.wanted:
            return bool(self.wanted)
        if self.pages is None:
            return self.page == 1 or self.found >= self.page - 1
        return 0 < self.pages - self.page + 1 < len(self.wanted)


def face_of(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what changes when people do something to a run; its status also changes by the passing of time."""
    progress = run.get("progress")
    if isinstance(progress, Mapping):
        progress = (progress.get("complete"), progress.get("total"))
    return next_id_of(run), progress, run.get("completed_at"), run.get("archived_at")


def next_id_of(run: Mapping[str, Any]) -> str | None:
    """Return the id of the run's next task."""
    next_task = run.get("next_task")
    return str(next_task["id"]) if isinstance(next_task, Mapping) else None


def text_or_none(value: Any) -> str | None:
    """Return a text of an answer, or ``None`` for anything else."""
    return value if isinstance(value, str) and value else None
