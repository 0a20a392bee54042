"""Reads a list of runs page by page, to poll many runs with few requests."""

from __future__ import annotations

from dataclasses import dataclass, field

BATCH_THRESHOLD = 3
"""Up to so many runs are read by themselves rather than in a list."""


@dataclass(slots=True, eq=False)
class Sweep:
    """
    The state of reading the list of runs of one status, page by page.

    :param status: the status.
    :param pending: ids of the runs to find that it has not found yet.
    :param began_at: when it began; the runs that it finds are next due together.
    :param pages: how many pages the list has, if that is known.
    """

    status: str
    pending: set[str]
    began_at: float
    pages: int | None = None
    page: int = field(default=1, init=False)
    _found: int = field(default=0, init=False)

    @property
    def is_at_end(self) -> bool:
        """Whether the whole list was read."""
        return self.pages is not None and self.page > self.pages

    @property
    def is_worthwhile(self) -> bool:
        """Whether the rest takes fewer requests than reading each pending run by itself."""
        if not self.pending:
            return False
        if self.pages is None:
            return self.page == 1 or self._found >= self.page - 1
        return 0 < self.pages - self.page + 1 < len(self.pending)

    def turn_page(self, found: int) -> None:
        """Go to the next page; ``found`` of the pending runs were on this one."""
        self.page += 1
        self._found += found
