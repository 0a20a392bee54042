"""
Gates that are to work in every Airflow, each with a task that runs if it opens.

All of them wait for the same approval, so one decision shows which of them count it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_tallyfy.notifications.tallyfy import TallyfyCommentNotifier
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator, TallyfyBranchOperator

WAITING: dict[str, Any] = {
    "run_id": "{{ params.run_id }}",
    "task": "Approve release",
    "deferrable": True,
    "poke_interval": 2,
}
# A task that fails for another reason, such as a busy machine, must not be taken for a closed gate.
AGAIN = {"retries": 2, "retry_delay": timedelta(seconds=1)}
COMMENT = TallyfyCommentNotifier(
    task_id="{{ tallyfy.task_id }}",
    content="{{ 'Reminder' if tallyfy.reminder else 'Please decide' }}: {{ tallyfy.title }}",
)
GATES: dict[str, dict[str, Any]] = {
    "of_an_approver": {"approvers": [1001], "notifiers": COMMENT, "remind_every": 4, "max_reminders": 60},
    "of_another_approver": {"approvers": "ben@example.com"},
    "of_four_eyes": {"approvers": {"exclude": ["started_by"]}},
    "rejected_at_the_timeout": {"timeout": 5, "on_timeout": "reject"},
    "approved_at_the_timeout": {"timeout": 5, "on_timeout": "approve"},
}


@task
def publish() -> None: ...


@task
def repair() -> None: ...


with DAG(
    "gates_of_every_airflow", schedule=None, params={"run_id": ""}, default_args=AGAIN, max_active_tasks=2
):
    for name, arguments in GATES.items():
        gate = TallyfyApprovalOperator(task_id=name, **arguments, **WAITING)
        gate >> publish.override(task_id=f"{name}_publish")()

    branch = TallyfyBranchOperator(
        task_id="branch",
        branches={"approved": "publish", "rejected": "repair"},
        approvers="Ada Okafor",
        **WAITING,
    )
    branch >> [publish(), repair()]
