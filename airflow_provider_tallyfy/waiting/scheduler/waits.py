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
"""Of a pause: polls that fall due within that are made together."""
OPEN_STATUSES = ("active", "delayed", "problem")
"""The statuses in whose lists a run may stand that was never seen (page "List processes")."""


@dataclass(frozen=True, slots=True)
class PollSchedule:
    """
    How often a wait polls; the words have the meaning that they have on Airflow's sensors.

    :param poke_interval: seconds between two polls.
    :param exponential_backoff: let that time double from poll to poll.
    :param max_wait: seconds that it does not go beyond, or ``None``.
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


class ScheduledWait(ABC):
    """
    One wait, which wants its run to be polled again and again.

    :param run_id: the run's id.
    :param condition: what is waited for, and so what has to be read.
    :param schedule: how often to poll.
    :param begins_at: when the first poll is due.
    :param last_poll_at: when to poll whatever the schedule says, since the wait ends soon after.
    :param target: the API and the organization that the run is of, if they are known.
    """

    __slots__ = (
        "begins_at",
        "condition",
        "due_at",
        "is_listable",
        "last_poll_at",
        "pause",
        "polls",
        "read_at",
        "read_with",
        "run_id",
        "schedule",
        "target",
    )

    def __init__(
        self,
        run_id: str,
        condition: Condition,
        schedule: PollSchedule,
        begins_at: float,
        last_poll_at: float = inf,
        target: Target | None = None,
    ) -> None:
        self.run_id = run_id
        self.condition = condition
        self.schedule = schedule
        self.begins_at = self.due_at = begins_at
        self.last_poll_at = last_poll_at
        self.target = target
        self.is_listable = False
        self.polls = 0
        self.pause = self._next_pause()
        """Seconds until the next poll, as the wait wants it now."""
        self.read_at = -inf
        self.read_with = -inf  # when the polls began that were made together with that one

    @abstractmethod
    def deliver(self, result: PollResult, polled_at: float) -> None:
        """Take the result of a poll that began at some time."""

    def poll(self, polled_at: float, phase: float) -> None:
        """Note that the run was polled; ``phase`` is when the polls began that were made together with it."""
        self.read_at, self.read_with = polled_at, phase
        if self.due_at <= polled_at + CLOSE_TOGETHER * self.pause:
            self.polls += 1
            self.pause = self._next_pause()
        if self.last_poll_at <= polled_at:
            self.last_poll_at = inf
        # All that was polled together falls due together, unless it took longer than half the pause.
        self.due_at = max(phase, polled_at - self.pause / 2) + self.pause

    def let_pass(self, now: float) -> None:
        """Note the polls that the activity feed made unnecessary, so that a growing pause grows on."""
        while self.schedule.exponential_backoff and self.due_at + self.pause <= now:
            self.due_at += self.pause
            self.polls += 1
            self.pause = self._next_pause()

    def _next_pause(self) -> float:
        return max(self.schedule.pause_after(max(self.polls, 1)), MIN_PAUSE)


@dataclass(slots=True, eq=False)
class WatchedRun:
    """A run that is waited for, and what is known of it."""

    run_id: str
    waits: list[ScheduledWait] = field(default_factory=list)
    is_hinted: bool = False  # the feed named it
    recheck_at: float = inf  # what it showed is not certain, or the entry of the feed came before the change
    read_alone_at: float = -inf
    failures: int = 0
    retry_at: float = -inf
    retry_after: float = -inf  # no sooner, as Tallyfy said
    status: str | None = None
    tried: tuple[str, ...] = ()  # the statuses in whose lists it was not found, since it was last seen

    @property
    def pause(self) -> float:
        """Seconds between two polls, as the most eager of its waits wants it now."""
        return min((wait.pause for wait in self.waits), default=MIN_PAUSE)

    @property
    def is_listable(self) -> bool:
        """Whether a list shows all that its waits need."""
        return all(wait.is_listable for wait in self.waits)

    @property
    def status_to_try(self) -> str | None:
        """The status in whose list it stands; before it was ever seen, each of those in which it may."""
        statuses = OPEN_STATUSES if self.status is None else (self.status,)
        return next((status for status in statuses if status not in self.tried), None)

    def begun(self, now: float) -> list[ScheduledWait]:
        """Return the waits whose first poll is due."""
        return [wait for wait in self.waits if wait.begins_at <= now]
