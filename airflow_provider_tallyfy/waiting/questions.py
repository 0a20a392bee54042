"""What the watcher asks of Tallyfy: one run, a page of a list of runs, or a page of the activity feed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.protocol.tasks import find_task, read_tasks

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
    """
    One run by itself.

    :param with_: what to include.
    :param tasks: the names of tasks that have to be there. Where the run itself does not show one, all of its tasks are
        read: among them are those that a rule hides (page "List process tasks").
    """

    run_id: str
    with_: tuple[str, ...]
    tasks: tuple[str, ...] = ()

    def __call__(self, hook: TallyfyHook) -> dict[str, Any]:
        """Ask, and return the run."""
        run = hook.get_run(self.run_id, with_=self.with_)
        # An archived run's tasks are gone with it.
        if not run.get("archived_at") and any(map(partial(_lacks, run), self.tasks)):
            # After the run, so that a run that was complete without a task had it not even then.
            of_tasks = [name.removeprefix("tasks.") for name in self.with_ if name.startswith("tasks.")]
            run["tasks"] = {"data": hook.get_tasks(self.run_id, with_=of_tasks)}
        return run


def _lacks(run: dict[str, Any], name: str) -> bool:
    """Tell whether a hidden task, which a run does not show, may be meant: a likeness but for case is not enough."""
    try:
        found = find_task(read_tasks(run), name)
        return found is None or name not in (found.get("id"), found.get("alias"), found.get("title"))
    except ValueError:  # unreadable or ambiguous, which whoever asked finds out too
        return False


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
