"""What an approval means for the tasks that come after it: they run, or they are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY

from airflow_provider_tallyfy.acting.completer import who_completed
from airflow_provider_tallyfy.protocol.decisions import Person, last_comment
from airflow_provider_tallyfy.protocol.text import one_line, quoted, shortened
from airflow_provider_tallyfy.version_compat import skip

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context

    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.waiting.triggerer import Log


def described(task: dict[str, Any], run_id: str, hook: TallyfyHook, log: Log) -> dict[str, Any]:
    """
    Return what was decided, by whom and when, and what that person wrote, as plain JSON.

    :param task: as :class:`~airflow_provider_tallyfy.waiting.task_done.TaskDoneCondition` gives it.
    :param run_id: the id of its run.
    :param hook: asks who it was, where the task does not say.
    :param log: told where nobody can say.
    """
    person = who_completed(task, hook, log.warning)
    return {
        "run_id": run_id,
        "task_id": task["id"],
        "title": task.get("title"),
        "is_approved": task["is_approved"],
        "decided_by": person and person.as_json(),
        "decided_at": task.get("completed_at"),
        "comment": person and last_comment(task, person),
        "form_values": task["form_values"],
    }


def in_words(result: dict[str, Any]) -> str:
    """Return what :func:`described` gives as a sentence."""
    task = f"Task {quoted(str(result['title']))} of run {result['run_id']}"
    if result["is_approved"] is None:
        return f"{task} is hidden by a rule; nobody is asked."
    person = Person(**result["decided_by"]) if result["decided_by"] else "somebody"
    remark = f", who wrote: {shortened(result['comment'], 500)}" if result["comment"] else ""
    return one_line(f"{task} was {'approved' if result['is_approved'] else 'rejected'} by {person}{remark}")


def skip_downstream(
    operator: BaseOperator, context: Context, result: dict[str, Any], *, ignore_trigger_rules: bool
) -> None:
    """
    Skip what comes after an operator: what is next to it, or all of it; teardowns never.

    Airflow 3 does that by an exception, so the result is pushed before: nothing is returned then.
    """
    task = context["task"]
    to_skip = list(_to_skip(task, ignore_trigger_rules)) if task.downstream_task_ids else []
    if not to_skip:
        return
    if operator.do_xcom_push:
        values = {**(result if operator.multiple_outputs else {}), XCOM_RETURN_KEY: result}
        for key, value in values.items():
            context["ti"].xcom_push(key=key, value=value)
    skip(operator, context, to_skip)


def _to_skip(task: Any, ignore_trigger_rules: bool) -> Iterator[Any]:
    relatives = task.get_flat_relatives if ignore_trigger_rules else task.get_direct_relatives
    return (each for each in relatives(upstream=False) if not each.is_teardown)
