"""A way through the pages of a list of runs, to poll many runs with few requests."""

from __future__ import annotations

from dataclasses import dataclass, field

BATCH_THRESHOLD = 3
"""So many requests are not worth saving."""


@dataclass(slots=True, eq=False)
class Sweep:
    """
    A walk through the list of runs of one status.

    :param status: the status.
    :param pending: ids of the runs that it is for, as far as it has not come to them.
    :param began_at: when it began; what it polls is due together again.
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
        """Whether the list was walked to its end."""
        return self.pages is not None and self.page > self.pages

    @property
    def is_worthwhile(self) -> bool:
        """Whether to go on takes fewer requests than to read by itself each run that is still pending."""
        if not self.pending:
            return False
        if self.pages is None:
            return self.page == 1 or self._found >= self.page - 1
        return 0 < self.pages - self.page + 1 < len(self.pending)

    def turn_page(self, found: int) -> None:
        """Go to the next page; ``found`` of the pending runs stood on this one."""
        self.page += 1
        self._found += found
