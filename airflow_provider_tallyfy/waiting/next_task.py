"""
The condition that another task of a run is next, or that none is left.

The task to move on from (the *baseline*) is either named by the caller or taken from the first poll. From then on it
never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import quoted
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, parse_datetime
from airflow_provider_tallyfy.protocol.urls import identifier
from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.outcomes import Condition, Met, Pending, Unreachable
from airflow_provider_tallyfy.waiting.polls import RunSnapshot
from airflow_provider_tallyfy.waiting.run_status import is_complete

SAME_CHANGE = timedelta(seconds=2)
"""Maximum difference of two of Tallyfy's times that belong to one change."""


@dataclass(frozen=True, slots=True)
class NextTaskCondition(Condition):
    """
    Another task is next than the baseline, or none is.

    :param from_task_id: the baseline; ``None`` takes the task that is next at the first poll.
    """

    from_task_id: str | None = None

    def evaluate(self, snapshot: RunSnapshot) -> Pending[NextTaskCondition] | Met | Unreachable:
        """Return whether the run has moved on from the baseline."""
        run = snapshot.run
        if self.from_task_id is not None and self.from_task_id == str(run.get("id")):
            return Unreachable(
                f"from_task is {self.from_task_id}, the id of the run itself, and so no task to move on from. "
                "Pass get_run.output['next_task']: Airflow takes get_run.output['next_task']['id'] for the XCom 'id'."
            )
        if "next_task" not in run and not is_complete(run):
            raise MalformedResponseError("it does not say which task is next")
        next_task = run.get("next_task")
        next_id = None if next_task is None else str(next_task["id"])
        if next_id is not None and self.from_task_id in (None, next_id):
            return Pending(NextTaskCondition(next_id))
        if next_task is not None and self.from_task_id in (next_task.get("alias"), next_task.get("title")):
            return Unreachable(
                f"from_task is {self.from_task_id}, the alias or title of a task, and not its id ({next_id}). Pass the "
                "id, or get_run.output['next_task']; to wait for a task by its name, use a TallyfyTaskSensor."
            )
        return Met(
            {
                "run_id": run.get("id"),
                "from_task_id": self.from_task_id,
                "next_task": next_task,
                "run_status": run.get("status"),
                "progress": run.get("progress"),
            },
            # A run does not say when the task before was completed, only when the last one was.
            happened_at=parse_datetime(run.get("completed_at")) if next_task is None else None,
            is_certain=is_complete(run) if next_task is None else self._is_done(snapshot),
            fingerprint=next_id,
        )

    def _is_done(self, snapshot: RunSnapshot) -> bool:
        """Return whether the baseline is completed or hidden, and the run is no older than that."""
        done, baseline = snapshot.done_tasks or {}, self.from_task_id
        if baseline is None or baseline not in done:
            return False
        done_at = parse_datetime(done[baseline])
        updated_at = parse_datetime(snapshot.run.get("last_updated"))
        return done_at is None or updated_at is None or done_at - updated_at < SAME_CHANGE

    def describe_run(self, snapshot: RunSnapshot) -> str:
        """Describe how far the run is, and what is next."""
        return messages.describe_run(snapshot.run)

    def describe_goal(self) -> str:
        """Name the baseline, if it is known."""
        task = "its next task" if self.from_task_id is None else f"task {self.from_task_id}"
        return f"the run moves on from {task}"

    @staticmethod
    def describe_result(result: dict[str, Any]) -> str:
        """Name the task that is next."""
        next_task = result["next_task"]
        return (
            f"{quoted(str(next_task.get('title') or 'untitled'))} is next" if next_task else "no task is left"
        )


def from_task_id(from_task: object) -> str | None:
    """
    Return the id of the task to move on from, or ``None`` if the caller names none.

    :param from_task: a task's id, the task object itself, or nothing: ``None``, an empty text or object.
    :raises ValueError: it is anything else.
    """
    # 'None' is what Jinja makes of None; no task has that id.
    if from_task is None or from_task in ("", "None", {}):
        return None
    if isinstance(from_task, Mapping):
        if "id" not in from_task:
            raise ValueError(
                "from_task is an object without 'id'; pass a task object of Tallyfy, or a task's id."
            )
        return identifier(from_task["id"], "from_task['id']")
    if isinstance(from_task, str) and from_task.lstrip().startswith("{"):
        raise ValueError(
            "from_task is a task object that a template turned into text. Pass get_run.output['next_task'], "
            "or let the template end in ['next_task']['id'], or set render_template_as_native_obj=True on the DAG."
        )
    return identifier(from_task, "from_task")
