"""
The activity feed, as a hint of which runs changed.

The feed is a hint only: a run that it names is read soon, and all others are read too, only later. So it may be late,
incomplete or silent, and no change is lost.

Entries are compared by their ids, not by their times, so one that is published late still counts, if it is among those
that a poll reads.
"""

from __future__ import annotations

from math import inf

from airflow_provider_tallyfy.protocol.responses import Activity, Page

MAX_PAGES = 5
"""Pages of 100 entries that one poll of the feed may take."""
MAX_OVERFLOWS = 3
REMEMBERED = 600.0
"""Seconds for which the runs that the feed named are remembered."""
_MAX_KNOWN = 2000


class Feed:
    """The entries that were read so far."""

    def __init__(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Forget everything."""
        self.since = inf
        """The feed names every change after this time, as far as it is complete."""
        self.page = 1
        """The page to read next; above 1 during a poll of several pages."""
        self.overflows = 0
        """Polls in a row that did not reach a known entry."""
        self._known: dict[str, None] = {}
        self._new: dict[str, None] = {}
        self._named_at: dict[str, float] = {}

    @property
    def is_followed(self) -> bool:
        """Whether it has been polled, so that the next poll names what changed since."""
        return self.since != inf

    def covers(self, moment: float) -> bool:
        """Return whether the feed would name a change after this time."""
        return self.since <= moment

    def has_named(self, run_id: str, since: float) -> bool:
        """Return whether it named the run after this time, at most :data:`REMEMBERED` seconds ago."""
        return self._named_at.get(run_id, -inf) >= since

    def update_from(self, page: Page[Activity], now: float) -> set[str]:
        """
        Take the page that was requested; return the ids of the runs that new entries name.

        The first page of all has no new entries. Later, a poll reads up to :data:`MAX_PAGES` pages until it reaches an
        entry that was known *before it began*: entries that arrive meanwhile push others to the next page. If it does
        not reach one, every run has to be polled once.
        """
        new = [entry for entry in page.items if entry.id not in self._known and entry.id not in self._new]
        self._new.update(dict.fromkeys(entry.id for entry in new))
        is_first_of_all = not self.is_followed
        runs: set[str] = set()
        if is_first_of_all:
            self.since = now
        else:
            runs = {entry.run_id for entry in new if entry.run_id is not None}
            self._named_at.update(dict.fromkeys(runs, now))
        reaches_known = any(entry.id in self._known for entry in page.items)
        if is_first_of_all or reaches_known or page.is_last:
            self.overflows = 0
            self._end_poll(now)
        elif self.page < MAX_PAGES:
            self.page += 1
        else:
            self.overflows += 1
            self.since = now
            self._end_poll(now)
        return runs

    def _end_poll(self, now: float) -> None:
        self.page = 1
        self._known.update(self._new)
        self._new.clear()
        while len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        self._named_at = {
            run_id: named_at for run_id, named_at in self._named_at.items() if named_at >= now - REMEMBERED
        }
