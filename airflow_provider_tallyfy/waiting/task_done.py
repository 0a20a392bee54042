"""
The rule of one task: a wait is over as soon as the task is completed, or it is certain that it will not be.

A task that is not there yet is waited for. It is lost where the run is complete without it, where its name is that of
several tasks, and where a decision is waited for that nobody can take. What a task that a rule hides means is for the
caller to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_tallyfy.protocol.answers import UnreadableAnswerError, read_moment
from airflow_provider_tallyfy.protocol.forms import read_task_form
from airflow_provider_tallyfy.protocol.tasks import (
    AmbiguousTaskError,
    decision,
    find_task,
    is_approval,
    is_completed,
    is_hidden,
    named,
    read_tasks,
)
from airflow_provider_tallyfy.protocol.text import listed, quoted
from airflow_provider_tallyfy.waiting import report
from airflow_provider_tallyfy.waiting.verdicts import Lost, Over, Skipped, Waiting

ON_SKIPPED = ("skip", "succeed", "fail")
"""What can be done about a task that a rule hides."""


@dataclass(frozen=True, slots=True)
class TaskDoneCondition:
    """
    A task of a run is completed.

    :param task_name: its id, alias or title.
    :param on_skipped: what to do where a rule hides it, one of :data:`ON_SKIPPED`.
    :param needs_decision: whether it has to be an approval.
    """

    task_name: str
    on_skipped: str = "skip"
    needs_decision: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.task_name, str) or not self.task_name.strip():
            raise ValueError("task names no task; pass the id, alias or title of one.")
        check_on_skipped(self.on_skipped)

    @property
    def with_(self) -> tuple[str, ...]:
        """The tasks with their forms (page "Get process"); for a decision, with what was said about it."""
        threads = ("tasks.threads",) if self.needs_decision else ()
        return ("next_task", "tasks", "tasks.form_fields", *threads)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task, also where it is hidden."""
        return (self.task_name,)

    @property
    def outlives_archiving(self) -> bool:
        """The tasks of an archived run are gone with it."""
        return False

    def as_json(self) -> dict[str, Any]:
        """Return what is waited for."""
        return {
            "task_name": self.task_name,
            "on_skipped": self.on_skipped,
            "needs_decision": self.needs_decision,
        }

    def met_by(self, run: dict[str, Any]) -> Waiting[TaskDoneCondition] | Over | Lost | Skipped:
        """Decide on a run, as it is with :attr:`with_` and :attr:`tasks`."""
        try:
            task = self._find(run)
        except AmbiguousTaskError as error:
            return Lost(f"In run {run.get('id')}, {error}")
        if task is None:
            return self._without_task(run)
        if is_hidden(task) and not is_completed(task):
            return self._hidden(run, task)
        # A task whose type Tallyfy does not say may be one.
        if self.needs_decision and task.get("task_type") and not is_approval(task):
            return Lost(
                f"Task {named(task)} of run {run.get('id')} is no approval task, but one of type "
                f"{quoted(str(task.get('task_type')))}; nobody can approve or reject it."
            )
        if not is_completed(task):
            return Waiting(self)
        if self.needs_decision and decision(task) is None:
            return Lost(
                f"Task {named(task)} of run {run.get('id')} is completed, but neither approved nor rejected."
            )
        return Over(_result(task), happened_at=read_moment(task.get("completed_at")))

    def described(self, run: dict[str, Any]) -> str:
        """Say how far the run is, and how the task is, who has it and when it is due."""
        try:
            task = self._find(run)
        except AmbiguousTaskError:
            return report.described_task(run, f"{quoted(self.task_name)} is the name of several tasks")
        except UnreadableAnswerError:
            return report.described_task(run, "its tasks cannot be read")
        if task is None:
            return report.described_task(run, f"task {quoted(self.task_name)} is not there")
        return report.described_task(run, _outcome(task), task)

    def wish(self) -> str:
        """Name the task, and what has to be done with it."""
        return f"task {quoted(self.task_name)} is {'approved or rejected' if self.needs_decision else 'completed'}"

    @staticmethod
    def outcome(result: dict[str, Any]) -> str:
        """Say how the task is."""
        return _outcome(result)

    def _find(self, run: dict[str, Any]) -> Mapping[str, Any] | None:
        """Return the task; of several by that name, the one that no rule hides."""
        tasks = read_tasks(run)
        try:
            return find_task(tasks, self.task_name)
        except AmbiguousTaskError:
            if shown := find_task([task for task in tasks if not is_hidden(task)], self.task_name):
                return shown
            raise

    def _without_task(self, run: dict[str, Any]) -> Waiting[TaskDoneCondition] | Lost:
        if not run.get("completed_at") and run.get("status") not in ("complete", "completed"):
            return Waiting(self)
        return Lost(
            f"Run {run.get('id')} is complete, and has no task {quoted(self.task_name)}. "
            f"Its tasks are: {listed(map(named, read_tasks(run))) or 'none'}."
        )

    def _hidden(self, run: dict[str, Any], task: Mapping[str, Any]) -> Over | Lost | Skipped:
        if self.on_skipped == "succeed":
            return Over(_result(task))
        reason = f"A rule hides task {named(task)} of run {run.get('id')}."
        return Lost(reason) if self.on_skipped == "fail" else Skipped(reason)


def check_on_skipped(on_skipped: object) -> None:
    """
    Make sure that a caller named something that can be done about a hidden task.

    :raises ValueError: where it is anything else.
    """
    if on_skipped not in ON_SKIPPED:
        raise ValueError(
            f"on_skipped is one of {listed(map(quoted, ON_SKIPPED))}, not {quoted(str(on_skipped))}."
        )


def _result(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task as Tallyfy has it, with its decision and its form's values."""
    return {**task, "is_approved": decision(task), "form_values": read_task_form(task)}


def _outcome(task: Mapping[str, Any]) -> str:
    return f"{quoted(str(task.get('title') or 'untitled'))} is {_state(task)}"


def _state(task: Mapping[str, Any]) -> str:
    if is_completed(task):
        return {True: "approved", False: "rejected", None: "completed"}[decision(task)]
    return "hidden by a rule" if is_hidden(task) else "open"
