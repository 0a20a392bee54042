"""What was decided on an approval, as the gate returns and logs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.actions.completer import who_completed
from airflow_provider_tallyfy.protocol.completion import Person, last_comment
from airflow_provider_tallyfy.protocol.formatting import one_line, quoted, shortened
from airflow_provider_tallyfy.protocol.payload import sanitize_payload

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.waiting.triggerer import Log


def describe_decision(task: dict[str, Any], run_id: str, hook: TallyfyHook, log: Log) -> dict[str, Any]:
    """
    Return what was decided, by whom and when, and what that person wrote, as plain JSON.

    :param task: as :class:`~airflow_provider_tallyfy.waiting.task_done.TaskDoneCondition` gives it.
    :param run_id: the id of its run.
    :param hook: reads the member's name if the task has only an id.
    :param log: gets a warning if the name cannot be read.
    """
    person = who_completed(task, hook, log.warning)
    decision: dict[str, Any] = sanitize_payload(
        {
            "run_id": run_id,
            "task_id": task["id"],
            "title": task.get("title"),
            "is_approved": task["is_approved"],
            "decided_by": person and person.as_json(),
            "decided_at": task.get("completed_at"),
            "comment": person and last_comment(task, person),
            "form_values": task["form_values"],
        }
    )
    return decision


def format_decision(decision: dict[str, Any]) -> str:
    """Return what :func:`describe_decision` gives as one line for the log."""
    task = f"Task {quoted(str(decision['title']))} of run {decision['run_id']}"
    if decision["is_approved"] is None:
        return f"{task} is hidden by a rule, so it has no decision"
    person = Person(**decision["decided_by"]) if decision["decided_by"] else "an unknown person"
    comment = f", with the comment: {shortened(decision['comment'], 500)}" if decision["comment"] else ""
    return one_line(
        f"{task} was {'approved' if decision['is_approved'] else 'rejected'} by {person}{comment}"
    )
