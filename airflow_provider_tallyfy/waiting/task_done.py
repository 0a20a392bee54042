"""
The condition that a task of a run is completed.

The task may be added to the run later. It can never be completed if the run is complete without it, if several tasks
have its name, or if a decision is required that no user can take. The caller decides what a hidden task means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import listed, quoted
from airflow_provider_tallyfy.protocol.forms import read_task_form
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, parse_datetime
from airflow_provider_tallyfy.protocol.tasks import (
    AmbiguousTaskError,
    decision,
    find_task,
    is_approval,
    is_completed,
    is_hidden,
    named,
    task_name,
)
from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.outcomes import (
    Condition,
    Denied,
    Evaluation,
    Met,
    Pending,
    Skipped,
    Unreachable,
)
from airflow_provider_tallyfy.waiting.polls import PollError, RunSnapshot
from airflow_provider_tallyfy.waiting.run_status import is_complete

ON_SKIPPED = ("skip", "succeed", "fail")
"""What to do if a rule hides the task."""


@dataclass(frozen=True, slots=True)
class TaskDoneCondition(Condition):
    """
    A task of a run is completed.

    :param task_name: its id, alias or title.
    :param on_skipped: what to do if a rule hides it, one of :data:`ON_SKIPPED`.
    :param needs_decision: whether it has to be an approval.
    """

    task_name: str
    on_skipped: str = "skip"
    needs_decision: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "task_name", task_name(self.task_name))
        check_on_skipped(self.on_skipped)

    @property
    def with_(self) -> tuple[str, ...]:
        """The tasks with their forms (page "Get process"); for a decision, with their comments."""
        threads = ("tasks.threads",) if self.needs_decision else ()
        return ("next_task", "tasks", "tasks.form_fields", *threads)

    @property
    def required_tasks(self) -> tuple[str, ...]:
        """The task, also if it is hidden."""
        return (self.task_name,)

    def evaluate(self, snapshot: RunSnapshot) -> Evaluation[TaskDoneCondition]:
        """Return whether the task is completed, in a run with :attr:`with_` and :attr:`required_tasks`."""
        run = snapshot.run
        try:
            task = find_task(snapshot.tasks_by_name, self.task_name)
        except AmbiguousTaskError as error:
            return Unreachable(f"In run {run.get('id')}, {error}")
        if task is None:
            return self._without_task(snapshot)
        if is_hidden(task) and not is_completed(task):
            return self._hidden(run, task)
        # A task whose type Tallyfy does not say may be one.
        if self.needs_decision and task.get("task_type") and not is_approval(task):
            return Unreachable(
                f"Task {named(task)} of run {run.get('id')} is no approval task, but one of type "
                f"{quoted(str(task.get('task_type')))}; no user can approve or reject it."
            )
        if not is_completed(task):
            return Pending(self)
        if self.needs_decision and _decision(task) is None:
            return Unreachable(
                f"Task {named(task)} of run {run.get('id')} is completed, but neither approved nor rejected."
            )
        return _met(task, happened_at=parse_datetime(task.get("completed_at")), is_certain=True)

    def describe_run(self, snapshot: RunSnapshot) -> str:
        """Describe how far the run is, and how the task is, who has it and when it is due."""
        run = snapshot.run
        try:
            task = find_task(snapshot.tasks_by_name, self.task_name)
        except AmbiguousTaskError:
            return messages.describe_task(run, f"{quoted(self.task_name)} is the name of several tasks")
        except MalformedResponseError:
            return messages.describe_task(run, "its tasks cannot be read")
        if task is None:
            titles = listed(quoted(str(each.get("title"))) for each in snapshot.all_tasks) or "none"
            state = f"task {quoted(self.task_name)} is not there yet; there are {titles}"
            return messages.describe_task(run, state)
        return messages.describe_task(run, _describe(task), task)

    def describe_goal(self) -> str:
        """Name the task, and what has to be done with it."""
        return f"task {quoted(self.task_name)} is {'approved or rejected' if self.needs_decision else 'completed'}"

    @staticmethod
    def describe_result(result: dict[str, Any]) -> str:
        """Describe how the task is."""
        return _describe(result)

    def _without_task(self, snapshot: RunSnapshot) -> Evaluation[TaskDoneCondition]:
        run = snapshot.run
        if not is_complete(run):
            return Pending(self)
        if run.get("archived_at") or run.get("status") == "archived":
            return Unreachable(
                f"Run {run.get('id')} was archived in Tallyfy after it was complete, and its tasks with it. Whether "
                f"task {quoted(self.task_name)} was completed cannot be seen any more; restore the run in Tallyfy."
            )
        if (error := snapshot.tasks_error) is not None:  # so a rule may hide the task
            return Pending(self) if PollError(error).is_transient else Denied(error)
        return Unreachable(
            f"Run {run.get('id')} is complete, and has no task {quoted(self.task_name)}. "
            f"Its tasks are: {listed(map(named, snapshot.all_tasks)) or 'none'}."
        )

    def _hidden(self, run: dict[str, Any], task: Mapping[str, Any]) -> Met | Unreachable | Skipped:
        if self.on_skipped == "succeed":
            return _met(task)
        reason = f"A rule hides task {named(task)} of run {run.get('id')}."
        return Unreachable(reason) if self.on_skipped == "fail" else Skipped(reason)


def check_on_skipped(on_skipped: object) -> None:
    """
    Check what a caller wants to be done about a hidden task.

    :raises ValueError: it is none of :data:`ON_SKIPPED`.
    """
    if on_skipped not in ON_SKIPPED:
        raise ValueError(
            f"on_skipped is one of {listed(map(quoted, ON_SKIPPED))}, not {quoted(str(on_skipped))}."
        )


def _met(task: Mapping[str, Any], *, happened_at: datetime | None = None, is_certain: bool = False) -> Met:
    """Return the task as Tallyfy has it, with its decision and the values of its form, ``None`` if unreadable."""
    form_values = warning = None
    try:
        form_values = read_task_form(task)
    except MalformedResponseError as error:
        # The task is completed all the same, and no later poll would show more.
        warning = f"The form of task {named(task)} cannot be read, so form_values is None: {error}"
    result = {**task, "is_approved": _decision(task), "form_values": form_values}
    return Met(result, happened_at, is_certain, fingerprint=task.get("id"), warning=warning)


def _decision(task: Mapping[str, Any]) -> bool | None:
    """Return the decision; ``None`` for a task that is no approval, whatever its ``is_approved`` is."""
    may_be_approval = is_approval(task) or not task.get("task_type")
    return decision(task) if may_be_approval else None


def _describe(task: Mapping[str, Any]) -> str:
    return f"{quoted(str(task.get('title') or 'untitled'))} is {_state(task)}"


def _state(task: Mapping[str, Any]) -> str:
    if is_completed(task):
        return {True: "approved", False: "rejected", None: "completed"}[_decision(task)]
    return "hidden by a rule" if is_hidden(task) else "open"
