"""Simulated users: they complete the tasks of the processes that an example DAG waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID

if TYPE_CHECKING:
    from dev.sandbox import SandboxClient

#: The examples that wait for the seeded process. The others launch processes.
OF_THE_SEEDED_PROCESS = frozenset({"tallyfy_read_run", "tallyfy_wait_for_next_task"})
#: The examples that fill in a form for a person to check.
OF_FILLED_FORMS = frozenset({"tallyfy_generated_text"})

Report = Callable[[str, dict[str, Any]], object]


def _ignore(who: str, task: dict[str, Any]) -> None:
    """Report nothing."""


@dataclass
class SimulatedUsers:
    """
    Complete one task after the other, each some seconds after it became the next.

    :param sandbox: where they work
    :param dag_id: the example that waits for them
    :param delay: the seconds for which they leave a task to the reader of the demo
    :param report: is called with a name and the task, for each task that they or the reader completed
    """

    sandbox: SandboxClient
    dag_id: str
    delay: float = 0.0
    report: Report = _ignore
    _known: frozenset[str] = field(init=False)
    _since: dict[str, float] = field(default_factory=dict, init=False)
    _open: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._known = frozenset(run["id"] for run in self.sandbox.runs())

    def runs(self) -> list[str]:
        """Return the ids of the DAG's processes."""
        if self.dag_id in OF_THE_SEEDED_PROCESS:
            return [SEEDED_RUN_ID]
        return [run["id"] for run in self.sandbox.runs() if run["id"] not in self._known]

    def tasks(self) -> list[dict[str, Any]]:
        """Return the visible tasks of these processes."""
        return [task for run_id in self.runs() for task in self.sandbox.tasks(run_id)]

    def comments(self) -> list[tuple[str, str, str]]:
        """Return id, task and text of the comments on these tasks, the oldest first."""
        threads = [
            (str(thread["id"]), task["title"], thread["content"])
            for run_id in self.runs()
            for task in self.sandbox.tasks(run_id, "threads")
            for thread in task["threads"]["data"]
        ]
        return sorted(threads, key=lambda each: int(each[0]) if each[0].isdigit() else 0)

    def next_tasks(self) -> list[dict[str, Any]]:
        """Return the next task of each of these processes."""
        following = [(run_id, self.sandbox.next_task(run_id)) for run_id in self.runs()]
        return [{**task, "run_id": run_id} for run_id, task in following if task is not None]

    def work(self) -> int:
        """Complete each next task whose delay has passed; return how many."""
        following = {task["id"]: task for task in self.next_tasks()}
        for task_id in self._open.keys() - following.keys():
            self.report("You", self._open.pop(task_id))
        done = 0
        for task_id, task in following.items():
            since = self._since.setdefault(task_id, time.monotonic())
            self._open[task_id] = task
            if time.monotonic() - since >= self.delay:
                whole = self.sandbox.task(task["run_id"], task_id)
                if self.dag_id in OF_FILLED_FORMS and _is_to_be_filled(whole):
                    continue
                self.sandbox.complete(whole)
                del self._open[task_id]
                users = whole["owners"]["users"]
                owner = (
                    self.sandbox.request("GET", f"/users/{users[0]}")["full_name"] if users else "A member"
                )
                self.report(owner, whole)
                done += 1
        return done


def _is_to_be_filled(task: dict[str, Any]) -> bool:
    return any(field["required"] and not field["field_value"] for field in task["form_fields"]["data"])
