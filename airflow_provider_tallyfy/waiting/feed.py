"""
The activity feed, as a hint of which runs changed.

The rule held here: the feed is never believed, only listened to. What it tells makes a run be read; what it does not
tell is found by reading anyway, only later. So it may be late, incomplete, or silent, and nothing is lost.

Entries are told apart by their ids, not by their times: one that is published late still counts, as long as it stands
among those that a look reads.
"""

from __future__ import annotations

from math import inf

from airflow_provider_tallyfy.protocol.answers import Activity, Page

MOST_PAGES = 5
"""Pages of 100 entries that one look at the feed may take."""
LONGEST_LATENESS = 60.0
"""Seconds after which an entry for a change that was seen elsewhere counts as missing."""
REMEMBERED = 600.0
"""Seconds for which it is known which runs the feed told of."""
_MOST_KNOWN = 2000


class Feed:
    """What the feed has told so far. Times are seconds on a monotonic clock."""

    def __init__(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Forget everything: from now on nothing is known of the feed."""
        self.since = inf
        """Every change after this moment has been told, or will be, as far as the feed is honest."""
        self.page = 1
        """The page to read next; above 1 in the midst of a look."""
        self._known: dict[str, None] = {}
        self._told: dict[str, float] = {}
        self._expected: dict[str, float] = {}
        self._overflows = 0

    @property
    def is_followed(self) -> bool:
        """Whether it has been looked at, so that the next look tells what changed since."""
        return self.since != inf

    def covers(self, moment: float) -> bool:
        """Tell whether a change after this moment would be told."""
        return self.since <= moment

    def told_of(self, run_id: str, since: float) -> bool:
        """Tell whether it told of the run after this moment; it is known for the last :data:`REMEMBERED` seconds."""
        return self._told.get(run_id, -inf) >= since

    def read(self, page: Page[Activity], now: float) -> set[str]:
        """
        Take the page that was asked for; return the ids of the runs that it has news of.

        The first page of all has no news: it tells what was known when the feed began to be followed. A look that
        finds nothing but news reads on, up to :data:`MOST_PAGES`; if that does not reach what is known, the feed
        begins anew, and every run has to be read once.
        """
        news = [activity for activity in page.items if activity.id not in self._known]
        self._known.update(dict.fromkeys(activity.id for activity in news))
        while len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]
        if not self.is_followed:
            self.since = now
            return set()
        runs = {activity.run_id for activity in news if activity.run_id is not None}
        self._told.update(dict.fromkeys(runs, now))
        for run_id in runs:
            self._expected.pop(run_id, None)
        if len(news) < len(page.items) or not news or page.is_last:
            self._end_look(now)
            self._overflows = 0
        elif self.page < MOST_PAGES:
            self.page += 1
        else:
            self._end_look(now)
            self._overflows += 1
            self.since = now
        return runs

    def _end_look(self, now: float) -> None:
        self.page = 1
        self._told = {run_id: told for run_id, told in self._told.items() if told >= now - REMEMBERED}

    def expect(self, run_id: str, now: float) -> None:
        """Take note that the run was seen to have changed without a word of the feed's."""
        self._expected.setdefault(run_id, now + LONGEST_LATENESS)

    def complaint(self, now: float) -> str | None:
        """Return why the feed is of no use, or ``None`` while it is."""
        missing = [run_id for run_id, due_at in self._expected.items() if due_at <= now]
        if missing:
            return (
                f"it has not told of a change of run {missing[0]} that was seen {LONGEST_LATENESS:.0f} s ago"
            )
        if self._overflows > 2:
            return f"it tells of more than {MOST_PAGES * 100} things at every look"
        return None
