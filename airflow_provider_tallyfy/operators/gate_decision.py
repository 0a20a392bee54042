"""The decision on a task: whether it counts, what the gate returns for it, and the line that it logs for auditors."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_tallyfy.actions.attempts import READ_LAG_PAUSES
from airflow_provider_tallyfy.actions.completing import who_completed
from airflow_provider_tallyfy.protocol.completion import (
    Approvers,
    Person,
    completer,
    last_comment,
    read_approvers,
)
from airflow_provider_tallyfy.protocol.formatting import one_line, quoted, shortened
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.protocol.responses import parse_datetime
from airflow_provider_tallyfy.protocol.tasks import decision, is_approval, is_completed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.waiting.evidence import Log

AUDIT_PREFIX = "tallyfy.gate.decision"
"""What the log line of each decision begins with."""
_PAUSES_FOR_COMMENT = (2.0, 4.0, 8.0, 16.0)
"""Seconds between reads of a task whose comment may come right after the decision."""
_MAX_LOGGED_TEXT = 500


class DecisionReader:
    """
    Reads a decided task by itself, and finds out whether its decision counts.

    :param run_id: the id of its run.
    :param hook: reads the task, the people and the run.
    :param approvers: who may decide, as given to the operator; ``None`` for everyone.
    :param require_comment: whether the one who decided has to say why.
    :param without_comments: removes from a task the comments that the gate's notifiers wrote.
    :param log: the task's.
    """

    def __init__(
        self,
        run_id: str,
        hook: TallyfyHook,
        approvers: Any,
        require_comment: bool,
        without_comments: Callable[[dict[str, Any]], dict[str, Any]],
        log: Log,
    ) -> None:
        self._run_id = run_id
        self._hook = hook
        self._approvers = approvers
        self._require_comment = require_comment
        self._without_comments = without_comments
        self._log = log

    def read_approvers(self) -> Approvers | None:
        """
        Return who may decide.

        :raises InvalidValueError: someone is not known, or no one is named.
        """
        if self._approvers is None:
            return None
        return read_approvers(self._approvers, self._hook.get_directory())

    def read(self, task: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        """
        Return the task as it is by itself, and why its decision does not count, if so.

        :param task: completed, as the wait saw it.
        :raises AirflowException: it is not completed any more, or was completed again.
        """
        shown = self._read_again(task)
        problem = None
        if (approvers := self.read_approvers()) is not None:
            run = self._hook.get_run(self._run_id) if approvers.excludes_starter else {}
            problem = approvers.find_problem(shown, run.get("started_by"))
        if problem is None and self._require_comment:
            shown = self._read_comment(shown)
            if (person := completer(shown)) is None or not last_comment(shown, person):
                problem = "who wrote no comment, which is required"
        if problem is not None:
            person = who_completed(shown, self._hook, self._log)
            problem = f"{person.in_full if person else 'an unknown user'}, {problem}"
        return shown, problem

    def _read_again(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same completion of the task from its own endpoint; reads may lag."""
        for pause in (*READ_LAG_PAUSES, None):
            shown = self._hook.get_task(self._run_id, str(task["id"]), with_=("form_fields", "threads"))
            if _is_same_completion(task, shown):
                return self._without_comments({**task, **shown, "is_approved": task["is_approved"]})
            if pause is not None:
                time.sleep(pause)
        raise AirflowException(
            f"Task {quoted(str(task.get('title')))} of run {self._run_id} was decided, but is not completed any more, "
            "or was completed again. A retry waits for the new decision."
        )

    def _read_comment(self, task: dict[str, Any]) -> dict[str, Any]:
        for pause in _PAUSES_FOR_COMMENT:
            if (person := completer(task)) is None or last_comment(task, person):
                return task
            time.sleep(pause)
            task = self._read_again(task)
        return task


def _is_same_completion(task: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    if not is_completed(shown) or parse_datetime(shown.get("completed_at")) != parse_datetime(
        task.get("completed_at")
    ):
        return False
    may_be_approval = is_approval(shown) or not shown.get("task_type")
    return not may_be_approval or decision(shown) is task["is_approved"]


def describe_decision(
    task: dict[str, Any], run_id: str, hook: TallyfyHook, log: Log, try_number: int | None
) -> dict[str, Any]:
    """
    Return what was decided, by whom and when, and what that person wrote, as plain JSON.

    :param task: as :class:`~airflow_provider_tallyfy.waiting.task_done.TaskDoneCondition` gives it.
    :param run_id: the id of its run.
    :param hook: reads the member's name if the task has only an id.
    :param log: gets a warning if the name cannot be read.
    :param try_number: of the task instance that acts on the decision.
    """
    person = who_completed(task, hook, log)
    described: dict[str, Any] = sanitize_payload(
        {
            "run_id": run_id,
            "task_id": task["id"],
            "title": task.get("title"),
            "is_approved": task["is_approved"],
            "decided_by": person and person.as_json(),
            "decided_at": task.get("completed_at"),
            "comment": person and last_comment(task, person),
            "form_values": task["form_values"],
            "timed_out": False,
            "try_number": try_number,
        }
    )
    return described


def describe_timeout(
    name: str, run_id: str, is_approved: bool | None, try_number: int | None
) -> dict[str, Any]:
    """Return what :func:`describe_decision` does, for a task that was not decided in time."""
    unknown = dict.fromkeys(("task_id", "decided_by", "decided_at", "comment", "form_values"))
    known = {"run_id": run_id, "title": name, "is_approved": is_approved, "try_number": try_number}
    return {**unknown, **known, "timed_out": True}


def format_decision(decision: dict[str, Any]) -> str:
    """Return what :func:`describe_decision` gives as one line for the log."""
    task = f"Task {quoted(str(decision['title']))} of run {decision['run_id']}"
    is_approved = decision["is_approved"]
    verb = "completed" if is_approved is None else "approved" if is_approved else "rejected"
    if decision["timed_out"]:
        counts_as = "" if is_approved is None else f", and counts as {verb}"
        return f"{task} was not decided in time{counts_as}"
    if not decision["decided_at"] and is_approved is None:
        return f"{task} is hidden by a rule, so it has no decision"
    person = Person(**decision["decided_by"]) if decision["decided_by"] else "an unknown person"
    comment = (
        f", with the comment: {shortened(decision['comment'], _MAX_LOGGED_TEXT)}"
        if decision["comment"]
        else ""
    )
    return one_line(f"{task} was {verb} by {person}{comment}")


def format_audit_line(decision: dict[str, Any], context: Context, effect: str) -> str:
    """
    Return the line by which auditors find a decision in the logs: :data:`AUDIT_PREFIX` and JSON.

    :param decision: as :func:`describe_decision` gives it; long texts are cut.
    :param context: of the task instance.
    :param effect: what the gate does: ``open``, ``closed``, ``failed``, or the branches.
    """
    ti = context.get("ti")
    names = {
        "dag_id": "dag_id",
        "dag_run_id": "run_id",
        "airflow_task_id": "task_id",
        "map_index": "map_index",
    }
    of_airflow = {name: getattr(ti, attribute, None) for name, attribute in names.items()}
    line = {**of_airflow, "effect": effect, **decision}
    return f"{AUDIT_PREFIX} {json.dumps(_cut(line), ensure_ascii=True, default=str)}"


def _cut(value: Any) -> Any:
    """Return a value whose texts are cut to :data:`_MAX_LOGGED_TEXT` characters."""
    if isinstance(value, str):
        return value if len(value) <= _MAX_LOGGED_TEXT else f"{value[:_MAX_LOGGED_TEXT]}…"
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list) else value
