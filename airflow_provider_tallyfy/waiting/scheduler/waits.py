"""The waits that the scheduler serves, and the runs that they are about."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import inf

from airflow_provider_tallyfy.waiting.outcomes import Condition
from airflow_provider_tallyfy.waiting.polls import PollResult, Target

MIN_PAUSE = 1.0
"""Seconds between two polls of a run, however short the ``poke_interval`` is."""
CLOSE_TOGETHER = 0.1
"""Share of a pause: polls that fall due within that are made together."""
OPEN_STATUSES = ("active", "delayed", "problem")
"""Statuses whose lists may show a run that was never read (page "List processes")."""


@dataclass(frozen=True, slots=True)
class PollSchedule:
    """
    How often a wait polls. The parameters mean what they mean on Airflow's sensors.

    :param poke_interval: seconds between two polls.
    :param exponential_backoff: let that time double from poll to poll.
    :param max_wait: maximum of that time in seconds, or ``None``.
    :param ends_at: when the wait times out, in seconds since the epoch; ``None`` for never. The last poll comes shortly
        before, however long the pause would be.
    """

    poke_interval: float
    exponential_backoff: bool = False
    max_wait: float | None = None
    ends_at: float | None = None

    def pause_after(self, count: int) -> float:
        """
        Return the seconds to wait after poll number ``count``, the first being 1.

        Airflow's own formula: half the interval first, doubling, with as much again by chance, at least a second.
        """
        if not self.exponential_backoff:
            return self.poke_interval
        base = max(self.poke_interval * 2.0 ** min(count - 2, 60), 1.0)
        return min(base * random.uniform(1, 2), self.max_wait or inf)  # noqa: S311 (spreads load)


@dataclass(slots=True, eq=False)
class ScheduledWait(ABC):
    """
    One wait, and when its run is polled for it.

    :param run_id: the run's id.
    :param condition: what is waited for, and so what has to be read.
    :param schedule: how often to poll.
    :param begins_at: when the first poll is due.
    :param last_poll_at: when to poll in any case, since the wait ends soon after.
    :param target: the API and the organization that the run is of, if they are known.
    """

    run_id: str
    condition: Condition
    schedule: PollSchedule
    begins_at: float
    last_poll_at: float = inf
    target: Target | None = None
    is_listable: bool = field(default=False, init=False)
    polls: int = field(default=0, init=False)
    read_at: float = field(default=-inf, init=False)
    read_with: float = field(
        default=-inf, init=False
    )  # when the polls began that were made together with that one
    due_at: float = field(init=False)
    pause: float = field(init=False)  # seconds until the next poll

    def __post_init__(self) -> None:
        self.due_at = self.begins_at
        self.pause = self._next_pause()

    @abstractmethod
    def deliver(self, result: PollResult, polled_at: float) -> None:
        """Take the result of a poll, and when it began."""

    def poll(self, polled_at: float, phase: float) -> None:
        """Note that the run was polled; ``phase`` is when the polls began that were made together with it."""
        self.read_at, self.read_with = polled_at, phase
        if self.due_at <= polled_at + CLOSE_TOGETHER * self.pause:
            self.polls += 1
            self.pause = self._next_pause()
        if self.last_poll_at <= polled_at:
            self.last_poll_at = inf
        # Runs that were polled together are next due together, unless that took longer than half the pause.
        self.due_at = max(phase, polled_at - self.pause / 2) + self.pause

    def skip_polls(self, now: float) -> None:
        """Count polls that the activity feed made unnecessary, so that a growing pause keeps growing."""
        while self.schedule.exponential_backoff and self.due_at + self.pause <= now:
            self.due_at += self.pause
            self.polls += 1
            self.pause = self._next_pause()

    def _next_pause(self) -> float:
        return max(self.schedule.pause_after(max(self.polls, 1)), MIN_PAUSE)


@dataclass(slots=True, eq=False)
class WatchedRun:
    """A run and its waits, and when it was read."""

    run_id: str
    waits: list[ScheduledWait] = field(default_factory=list)
    has_activity: bool = False  # the feed named it
    recheck_at: float = inf  # its last poll is not certain, or may not show yet what the feed named
    read_alone_at: float = -inf
    probed_at: float = -inf  # to find out whether there is an outage
    failures: int = 0
    retry_at: float = -inf
    retry_after: float = -inf  # no sooner, by Tallyfy's Retry-After
    status: str | None = None
    tried: tuple[str, ...] = ()  # the statuses whose lists did not show it since it was last read

    @property
    def pause(self) -> float:
        """Seconds between two polls: the shortest pause of its waits."""
        return min((wait.pause for wait in self.waits), default=MIN_PAUSE)

    @property
    def is_listable(self) -> bool:
        """Whether a list shows all that its waits need."""
        return all(wait.is_listable for wait in self.waits)

    @property
    def status_to_try(self) -> str | None:
        """The status whose list may show it; each of :data:`OPEN_STATUSES` if it was never read."""
        statuses = OPEN_STATUSES if self.status is None else (self.status,)
        return next((status for status in statuses if status not in self.tried), None)

    def begun(self, now: float) -> list[ScheduledWait]:
        """Return the waits whose first poll is due."""
        return [wait for wait in self.waits if wait.begins_at <= now]
