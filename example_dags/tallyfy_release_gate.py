"""
A release that goes out only when a person approves it.

`launch` starts the approval process in Tallyfy, once, however often the task is tried. `gate` waits for the decision
without a worker: if a release manager approves the release, `publish` runs; if it is rejected, `publish` is skipped.
While it waits, it comments on the task in Tallyfy, of which its assignees are notified. It runs as it is against the
sandbox.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

# On Airflow 3 alone, this can be `from airflow.sdk import ...`; written so, it runs on 2.11 too.
from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_tallyfy.notifications.tallyfy import TallyfyCommentNotifier
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator, TallyfyLaunchRunOperator

RELEASE_APPROVAL = "5eed0001000000000000000000000001"


@dag(
    schedule=None,
    catchup=False,
    tags=["tallyfy", "example"],
    doc_md=__doc__,
    params={"version": Param("3.0.0", type="string", description="The version to release.")},
)
def tallyfy_release_gate() -> None:
    launch = TallyfyLaunchRunOperator(
        task_id="launch",
        checklist_id=RELEASE_APPROVAL,
        name="Release {{ params.version }}",
        kickoff={"Version": "{{ params.version }}"},
    )

    gate = TallyfyApprovalOperator(
        task_id="gate",
        run_id=launch.output["id"],
        task="Approve release",
        approvers=["Release managers"],
        notifiers=TallyfyCommentNotifier(
            task_id="{{ tallyfy.task_id }}",
            content="{{ 'Reminder: ' if tallyfy.reminder }}Version {{ params.version }} waits for your decision.",
        ),
        remind_every=timedelta(seconds=5),  # a day is enough if people take days
        max_reminders=5,
        deferrable=True,
        poke_interval=timedelta(seconds=5),  # a minute is enough if people take days
        timeout=timedelta(days=30),
    )

    @task
    def publish(decision: dict[str, Any], params: dict[str, Any]) -> str:
        return f"Version {params['version']} is out. Why: {decision['form_values']['comment']}"

    publish(gate.output)


tallyfy_release_gate()
