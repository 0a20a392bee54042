"""The requests that waits make: for one run, a page of a list of runs, or a page of the activity feed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.exceptions import TallyfyError, TallyfyNotFoundError, TallyfyPermissionError
from airflow_provider_tallyfy.protocol.tasks import find_task, is_completed, is_hidden
from airflow_provider_tallyfy.waiting.polls import PollError, RunSnapshot

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.protocol.responses import Activity, Page
    from airflow_provider_tallyfy.waiting.outcomes import Condition

IN_LISTS = ("next_task",)
"""What a list of runs includes; a wait that needs more has its run read by itself."""
MAX_LEFT_TASKS = 5
"""Tasks that one request for a run reads by themselves; further waits are confirmed by a second read of the run."""


@dataclass(frozen=True, slots=True)
class FetchRun:
    """
    One run by itself.

    :param with_: what to include.
    :param required_tasks: the names of tasks that have to be there. If the run itself does not show one, all of its
        tasks are read: among them are those that a rule hides (page "List process tasks").
    :param left_tasks: ids of tasks that waits move on from. If another task is next, these are read by themselves.
    """

    run_id: str
    with_: tuple[str, ...]
    required_tasks: tuple[str, ...] = ()
    left_tasks: tuple[str, ...] = ()

    @classmethod
    def for_conditions(cls, run_id: str, conditions: Iterable[Condition]) -> FetchRun:
        """Return the request that shows all that some conditions need."""
        conditions = tuple(conditions)
        return cls(
            run_id,
            _unique(name for condition in conditions for name in condition.with_),
            _unique(name for condition in conditions for name in condition.required_tasks),
            _unique(condition.left_task for condition in conditions if condition.left_task is not None),
        )

    def __call__(self, hook: TallyfyHook) -> RunSnapshot:
        """Send it, and return what the run shows."""
        run = hook.get_run(self.run_id, with_=self.with_)
        snapshot = RunSnapshot(run)
        # An archived run's tasks are gone with it.
        if not run.get("archived_at") and any(map(partial(_lacks, snapshot), self.required_tasks)):
            # After the run, so that a run that was complete without a task had it not even then.
            of_tasks = [name.removeprefix("tasks.") for name in self.with_ if name.startswith("tasks.")]
            try:
                run["tasks"] = {"data": hook.get_tasks(self.run_id, with_=of_tasks)}
                snapshot = RunSnapshot(run)
            except (TallyfyNotFoundError, TallyfyPermissionError) as error:
                # This is about the list: the run itself was read just now, so it is neither gone nor denied.
                if PollError(error).is_transient:
                    raise
        next_task = run.get("next_task")
        if next_task is None:
            return snapshot
        left = [task_id for task_id in self.left_tasks if task_id != str(next_task["id"])][:MAX_LEFT_TASKS]
        found = dict(_completions(hook, self.run_id, left))
        return replace(snapshot, left_tasks=found) if found else snapshot


def _completions(hook: TallyfyHook, run_id: str, task_ids: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """
    Read tasks by themselves, and give when each was completed, ``None`` for a hidden one.

    A task that is open, missing or not known is left out: a replica that lags may not have a task yet. After an outage
    or a 429 no other task is asked for, since the answer would most likely be the same.
    """
    for task_id in task_ids:
        try:
            task = hook.get_task(run_id, task_id)
        except TallyfyError as error:
            if PollError(error).is_transient:
                return
            continue
        if str(task.get("id")) == task_id and (is_completed(task) or is_hidden(task)):
            completed_at = task.get("completed_at")
            yield task_id, completed_at if isinstance(completed_at, str) else None


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _lacks(snapshot: RunSnapshot, name: str) -> bool:
    """Tell whether a hidden task, which a run does not show, may be meant: a likeness but for case is not enough."""
    try:
        found = find_task(snapshot.tasks_by_name, name)
        return found is None or name not in (str(found.get("id")), found.get("alias"), found.get("title"))
    except ValueError:  # unreadable or ambiguous, which whoever asked finds out too
        return False


@dataclass(frozen=True, slots=True)
class FetchRunPage:
    """One page of the list of runs of one status, the newest first."""

    status: str
    page: int

    def __call__(self, hook: TallyfyHook) -> Page[dict[str, Any]]:
        """Send it, and return the page."""
        return hook.get_runs_page(self.page, status=self.status, with_=IN_LISTS, sort="-created_at")


@dataclass(frozen=True, slots=True)
class FetchFeedPage:
    """One page of the activity feed, the newest entries first."""

    page: int

    def __call__(self, hook: TallyfyHook) -> Page[Activity]:
        """Send it, and return the page."""
        return hook.get_activities_page(self.page)


Fetch = FetchRun | FetchRunPage | FetchFeedPage
