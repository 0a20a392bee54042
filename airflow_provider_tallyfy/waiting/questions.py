"""What the watcher asks of Tallyfy: one run, a page of a list of runs, or a page of the activity feed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.protocol.answers import Activity, Page

IN_LISTS = ("next_task",)
"""What a list of runs includes; a wait that needs more has its run read by itself."""


@dataclass(frozen=True, slots=True)
class Listing:
    """
    A list of runs.

    :param status: of this status only.
    :param checklist_id: of this template only; ``None`` for all.
    """

    status: str
    checklist_id: str | None = None


@dataclass(frozen=True, slots=True)
class AskRun:
    """One run by itself."""

    run_id: str
    with_: tuple[str, ...]

    def __call__(self, hook: TallyfyHook) -> dict[str, Any]:
        """Ask, and return the run."""
        return hook.get_run(self.run_id, with_=self.with_)


@dataclass(frozen=True, slots=True)
class AskList:
    """One page of a list, the newest runs first."""

    listing: Listing
    page: int

    def __call__(self, hook: TallyfyHook) -> Page[dict[str, Any]]:
        """Ask, and return the page."""
        return hook.get_runs_page(
            self.page,
            status=self.listing.status,
            checklist_id=self.listing.checklist_id,
            with_=IN_LISTS,
            sort="-created_at",
        )


@dataclass(frozen=True, slots=True)
class AskFeed:
    """One page of the activity feed, the newest entries first."""

    page: int

    def __call__(self, hook: TallyfyHook) -> Page[Activity]:
        """Ask, and return the page."""
        return hook.get_activities_page(self.page)


Question = AskRun | AskList | AskFeed
