"""
The activity feed, as a hint of which runs changed.

The feed is never believed. What it tells makes a run be read; what it does not tell is found by reading anyway, only
later. So it may be late, incomplete, or silent, and nothing is lost.

Entries are told apart by their ids, not by their times: one that is published late still counts, if it stands among
those that a poll reads.
"""

from __future__ import annotations

from math import inf

from airflow_provider_tallyfy.protocol.responses import Activity, Page

MAX_PAGES = 5
"""Pages of 100 entries that one poll of the feed may take."""
MAX_OVERFLOWS = 3
REMEMBERED = 600.0
"""Seconds for which it is known which runs the feed named."""
_MAX_KNOWN = 2000


class Feed:
    """What the feed has told so far."""

    def __init__(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Forget everything: from now on nothing is known of the feed."""
        self.since = inf
        """Every change after this time has been told, or will be, as far as the feed is complete."""
        self.page = 1
        """The page to read next; above 1 within a poll."""
        self.overflows = 0
        """Polls in a row that did not reach what was known."""
        self._known: dict[str, None] = {}
        self._new: dict[str, None] = {}
        self._told_at: dict[str, float] = {}

    @property
    def is_followed(self) -> bool:
        """Whether it has been polled, so that the next poll tells what changed since."""
        return self.since != inf

    def covers(self, moment: float) -> bool:
        """Tell whether a change after this time would be told."""
        return self.since <= moment

    def told_of(self, run_id: str, since: float) -> bool:
        """Tell whether it named the run after this time; that is known for :data:`REMEMBERED` seconds."""
        return self._told_at.get(run_id, -inf) >= since

    def update_from(self, page: Page[Activity], now: float) -> set[str]:
        """
        Take the page that was asked for; return the ids of the runs that it has news of.

        The first page of all has no news: it tells what was known when the feed began to be followed. A poll reads on,
        up to :data:`MAX_PAGES`, until it comes to an entry that was known *before it began*: entries that arrive
        meanwhile push others to the next page. If it does not come to one, every run has to be polled once.
        """
        new = [entry for entry in page.items if entry.id not in self._known and entry.id not in self._new]
        self._new.update(dict.fromkeys(entry.id for entry in new))
        is_first_of_all = not self.is_followed
        runs: set[str] = set()
        if is_first_of_all:
            self.since = now
        else:
            runs = {entry.run_id for entry in new if entry.run_id is not None}
            self._told_at.update(dict.fromkeys(runs, now))
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
        self._told_at = {
            run_id: told_at for run_id, told_at in self._told_at.items() if told_at >= now - REMEMBERED
        }
