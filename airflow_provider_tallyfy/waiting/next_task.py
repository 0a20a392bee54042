"""
The rule of the next task: a wait is over as soon as another task is next, or none is left.

The task to move on from (the *baseline*) is either named by the caller or taken from the first run that is seen. From
then on it never changes: the condition that carries it is what is kept and handed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_tallyfy.protocol.addresses import identifier
from airflow_provider_tallyfy.protocol.answers import read_moment
from airflow_provider_tallyfy.protocol.text import quoted
from airflow_provider_tallyfy.waiting import report
from airflow_provider_tallyfy.waiting.verdicts import Lost, Over, Waiting


@dataclass(frozen=True, slots=True)
class NextTaskCondition:
    """
    Another task is next than the baseline, or none is.

    :param from_task_id: the baseline; ``None`` takes the task that is next at the first sight.
    """

    from_task_id: str | None = None

    @property
    def with_(self) -> tuple[str, ...]:
        """Only the next task is needed beside the run itself."""
        return ("next_task",)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Which other tasks the run has does not matter."""
        return ()

    @property
    def outlives_archiving(self) -> bool:
        """An archived run does not move on."""
        return False

    def as_json(self) -> dict[str, Any]:
        """Return the baseline."""
        return {"from_task_id": self.from_task_id}

    def met_by(self, run: dict[str, Any]) -> Waiting[NextTaskCondition] | Over | Lost:
        """Decide on a run, as the hook gives it."""
        if self.from_task_id is not None and self.from_task_id == str(run.get("id")):
            return Lost(
                f"from_task is {self.from_task_id}, the id of the run itself, and so no task to move on from. "
                "Pass get_run.output['next_task']: Airflow takes get_run.output['next_task']['id'] for the XCom 'id'."
            )
        next_task = run["next_task"]
        next_id = None if next_task is None else str(next_task["id"])
        if next_id is not None and self.from_task_id in (None, next_id):
            return Waiting(NextTaskCondition(next_id))
        return Over(
            {
                "run_id": run.get("id"),
                "from_task_id": self.from_task_id,
                "next_task": next_task,
                "run_status": run.get("status"),
                "progress": run.get("progress"),
            },
            # When the task before was completed, a run does not say; only when the last one was.
            happened_at=read_moment(run.get("completed_at")) if next_task is None else None,
        )

    def described(self, run: dict[str, Any]) -> str:
        """Say how far the run is, and what is next."""
        return report.described(run)

    def wish(self) -> str:
        """Name the baseline, if it is known."""
        other = self.from_task_id or "the first one seen"
        return f"a task other than {other} is next, or none is left"

    @staticmethod
    def outcome(result: dict[str, Any]) -> str:
        """Say what is next."""
        next_task = result["next_task"]
        return (
            f"{quoted(str(next_task.get('title') or 'untitled'))} is next" if next_task else "no task is left"
        )


def from_task_id(from_task: object) -> str | None:
    """
    Return the id of the task that a caller names to move on from, or ``None`` where none is named.

    :param from_task: a task's id, the task object itself, or nothing: ``None``, an empty text or object.
    :raises ValueError: where it is anything else.
    """
    # 'None' is what Jinja makes of None; no task has that id.
    if from_task is None or from_task in ("", "None", {}):
        return None
    if isinstance(from_task, Mapping):
        if "id" not in from_task:
            raise ValueError(
                "from_task is an object without 'id'; pass a task object of Tallyfy, or a task's id."
            )
        return _id(from_task["id"], "from_task['id']")
    if isinstance(from_task, str) and from_task.lstrip().startswith("{"):
        raise ValueError(
            "from_task is a task object that a template turned into text. Pass get_run.output['next_task'], "
            "or let the template end in ['next_task']['id'], or set render_template_as_native_obj=True on the DAG."
        )
    return _id(from_task, "from_task")


def _id(value: object, field: str) -> str:
    return identifier(str(value) if isinstance(value, int) and not isinstance(value, bool) else value, field)
