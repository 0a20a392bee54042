"""The past of runs and tasks, for reads that lag."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from airflow_provider_tallyfy.sandbox.model import Run, Task

_ALWAYS = datetime.min.replace(tzinfo=UTC)

_Version = tuple[datetime, Run | Task | None]


class History:
    """Keeps a copy of each run and one-off task at each of its changes, for as long as a read may lag.

    :param items: the runs and one-off tasks that there are; they count as old.
    """

    def __init__(self, items: Iterable[Run | Task]) -> None:
        self._versions: dict[str, list[_Version]] = {item.id: [(_ALWAYS, _copy(item))] for item in items}

    def add(self, item_id: str, item: Run | Task | None, *, at: datetime, oldest_read: datetime) -> None:
        """Add the new state of a run or task, and drop the states that no read needs any more.

        :param item: the run or task, or ``None`` if it was deleted.
        :param at: the moment of the change.
        :param oldest_read: the moment that the read with the longest lag shows.
        """
        versions = self._versions.setdefault(item_id, [])
        versions.append((at, None if item is None else _copy(item)))
        while len(versions) > 1 and versions[1][0] <= oldest_read:
            del versions[0]

    def as_of(self, moment: datetime) -> tuple[dict[str, Run], dict[str, Task]]:
        """Return the runs and tasks at a moment, by id."""
        runs: dict[str, Run] = {}
        tasks: dict[str, Task] = {}
        for item_id, versions in self._versions.items():
            item = next((item for at, item in reversed(versions) if at <= moment), None)
            if isinstance(item, Run):
                runs[item_id] = item
                tasks |= item.tasks
            elif item is not None:
                tasks[item_id] = item
        return runs, tasks


def _copy(item: Run | Task) -> Run | Task:
    return _copy_task(item) if isinstance(item, Task) else _copy_run(item)


def _copy_run(run: Run) -> Run:
    return replace(
        run,
        prerun=dict(run.prerun),
        tasks={task.id: _copy_task(task) for task in run.tasks.values()},
        threads=[replace(thread) for thread in run.threads],
    )


def _copy_task(task: Task) -> Task:
    return replace(task, taskdata=dict(task.taskdata), threads=[replace(thread) for thread in task.threads])
