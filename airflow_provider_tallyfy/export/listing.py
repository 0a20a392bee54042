"""
Find the runs that changed, in lists whose pages are no snapshot.

Tallyfy has no ``updated_since``: tallyfy/n8n measured that it ignores every ``*_since``. So the list is requested in
descending order of the last change, and read up to the first page of runs that did not change. No source says that
Tallyfy honours this order, so it is relied on only after the pages have proved it. Otherwise the whole list is read in
the order of creation, on which the sources agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.exceptions import TallyfyResponseError
from airflow_provider_tallyfy.protocol.responses import Page, is_id, parse_datetime

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

MAX_PASSES = 3
"""How often a list is read that shows fewer runs than its total, since runs left it meanwhile."""
MAX_REREADS = 5
"""How often the pages before one are read again, since runs that left the list moved others to them."""
_MIN_STEPS = 8
"""Steps from one time to an earlier one that prove an order."""

RunPage = Page[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run was listed: the number of the list, and of the page in it."""

    listing: int = 0
    page: int = 1


def fetch_page(hook: TallyfyHook, number: int, params: Mapping[str, Any]) -> RunPage:
    """
    Read one page of the list of runs.

    :raises TallyfyResponseError: it cannot be read.
    """
    page = hook.get_runs_page(number, **params)
    if not all(is_id(run.get("id")) for run in page.items):
        raise TallyfyResponseError(f"GET runs, page {number}, cannot be read: a run has no id")
    return page


class RunListing:
    """
    Yields each run of an organization that changed once.

    :param read: reads one page with these query parameters.
    :param filters: query parameters of the list.
    :param since: leaves out runs that did not change since; ``None`` for all runs.
    :param until: leaves out runs that changed at this time or later.
    :param seen: ids of runs that were yielded before; those that are yielded are added.
    :param start: where to begin in a list of all runs, if a run of that page was yielded before.
    :param log: a logger's ``info``.
    """

    def __init__(
        self,
        read: Callable[[int, Mapping[str, Any]], RunPage],
        filters: Mapping[str, Any],
        *,
        since: datetime | None,
        until: datetime | None,
        seen: set[str],
        start: Position = Position(),
        log: Callable[..., object],
    ) -> None:
        self._read = read
        self._filters = dict(filters)
        self._since = since
        self._until = until
        self._seen = seen
        self._start = start
        self._log = log
        self.total: int | None = None
        """The total of the list that is being read, if it has one."""
        self.position = start
        self._shown = False
        self._is_order_refuted = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the runs of the default list, then archived ones, which it leaves out."""
        listings: list[dict[str, str]] = [{}]
        if not {"status", "archived"} & self._filters.keys():
            # The documentation names the first way to list archived runs, the official SDK the second, which is tried
            # if the first shows none.
            listings += [{"status": "archived"}, {"archived": "only"}]
        for number, filters in list(enumerate(listings))[self._start.listing :]:
            self._shown = False
            yield from self._runs(number, filters, self._start.page if number == self._start.listing else 1)
            if number and self._shown:
                return

    def _runs(self, listing: int, filters: Mapping[str, str], first_page: int) -> Iterator[dict[str, Any]]:
        """Yield the runs of one list."""
        params = {**self._filters, **filters}
        if self._since is not None and not self._is_order_refuted:
            proof = _OrderProof()
            for page in self._accepted(listing, filters, {**params, "sort": "-last_updated"}, 1):
                proof.add(page.items)
                if proof.is_refuted and not page.is_last:
                    self._is_order_refuted = True
                    break
                yield from self._fresh(page)
                if proof.is_conclusive and proof.oldest < self._since:
                    break
            if not self._is_order_refuted:
                yield from self._moved_up({**params, "sort": "-last_updated"}, proof.newest)
                return
            self._log("Tallyfy does not sort runs by their last change; reading the whole list")
        # New runs stand first here and move others to later pages, where they are read again.
        params["sort"] = "-created_at"
        first_page = self._resumable_page(params, first_page) if self._since is None else 1
        for number in range(MAX_PASSES):
            listed: set[str] = set()
            smallest_total = inf
            for page in self._accepted(listing, filters, params, first_page):
                listed.update(str(run["id"]) for run in page.items)
                # Runs that were launched meanwhile stand on earlier pages, and belong to the next load.
                smallest_total = min(smallest_total, inf if page.total is None else page.total)
                yield from self._fresh(page)
            # Only a list that was read from its beginning can be counted.
            if first_page > 1 or len(listed) >= smallest_total or smallest_total == inf:
                return
            if number + 1 < MAX_PASSES:
                self._log("The list showed %d of %d runs; reading it again", len(listed), smallest_total)

    def _accepted(
        self, listing: int, filters: Mapping[str, str], params: Mapping[str, Any], first_page: int
    ) -> Iterator[RunPage]:
        """Yield the pages of a list; none if Tallyfy ignores its filter and returns the default list."""
        for number, page in self._pages(params, first_page):
            if filters and not any(run.get("archived_at") for run in page.items):
                return
            self.position, self.total = Position(listing, number), page.total
            self._shown = self._shown or bool(page.items)
            yield page

    def _resumable_page(self, params: Mapping[str, Any], number: int) -> int:
        """Return a page whose first run was yielded before, so that all runs before it were, too."""
        while number > 1:
            runs = self._read(number, params).items
            if runs and str(runs[0]["id"]) in self._seen:
                return number
            number -= 1
        return 1

    def _pages(self, params: Mapping[str, Any], number: int) -> Iterator[tuple[int, RunPage]]:
        """Yield the pages. If runs left the list, the next ones moved to pages before, which are read again."""
        total: int | None = None
        per_page = 1
        furthest = rereads = 0
        while True:
            page = self._read(number, params)
            moved = 0 if total is None or page.total is None else total - page.total
            total = page.total
            if moved > 0 and rereads < MAX_REREADS:
                rereads += 1
                number = max(1, number - ceil(moved / per_page))
                continue
            if number > furthest:
                furthest, rereads = number, 0
            per_page = max(per_page, len(page.items))
            yield number, page
            if page.is_last:
                return
            number += 1

    def _moved_up(self, params: Mapping[str, Any], newest: datetime | None) -> Iterator[dict[str, Any]]:
        """Yield the runs that changed while the list was read, and so moved to its beginning."""
        if newest is None or self.position.page == 1:
            return
        for _, page in self._pages(params, 1):
            yield from self._fresh(page)
            moments = [_last_updated(run) for run in page.items]
            if any(moment is not None and moment < newest for moment in moments):
                return

    def _fresh(self, page: RunPage) -> Iterator[dict[str, Any]]:
        for run in page.items:
            run_id, moment = str(run["id"]), _last_updated(run)
            # A run that does not say when it changed may have changed.
            is_wanted = moment is None or (
                (self._since is None or moment >= self._since)
                and (self._until is None or moment < self._until)
            )
            if is_wanted and run_id not in self._seen:
                self._seen.add(run_id)
                yield run


class _OrderProof:
    """Checks whether a list is in descending order of the last change, and cannot be in the order of creation."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._steps = 0
        self._created_rises = self._created_falls = False
        self._last_created: datetime | None = None
        self.is_refuted = False
        self.newest: datetime | None = None
        self.oldest: Any = None

    @property
    def is_conclusive(self) -> bool:
        return (
            not self.is_refuted and self._steps >= _MIN_STEPS and self._created_rises and self._created_falls
        )

    def add(self, runs: Iterable[Mapping[str, Any]]) -> None:
        """Check the next runs; those that moved to a later page come twice, and refute nothing."""
        for run in runs:
            if run["id"] in self._ids:
                continue
            self._ids.add(run["id"])
            updated, created = _last_updated(run), parse_datetime(run.get("created_at"))
            if updated is None or (self.oldest is not None and updated > self.oldest):
                self.is_refuted = True
                return
            self._steps += self.oldest is not None and updated < self.oldest
            self.oldest = updated
            self.newest = self.newest or updated
            if created is not None and self._last_created is not None:
                self._created_rises |= created > self._last_created
                self._created_falls |= created < self._last_created
            self._last_created = created


def _last_updated(run: Mapping[str, Any]) -> datetime | None:
    return parse_datetime(run.get("last_updated"))
