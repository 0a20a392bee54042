"""
Release only what a person approves.

`launch` launches the approval process in Tallyfy, once, however often the task is tried, and `notes` completes its
first task. `gate` waits for the decision without a worker: if a release manager approves the release, `publish` runs;
if it is rejected, `publish` is skipped. While it waits, it comments on the task in Tallyfy, whose assignees are
notified. If `publish` fails, it reports an issue on the process. It runs unchanged against the sandbox.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

# On Airflow 3 alone, import these from airflow.sdk; this also runs on 2.11.
from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_tallyfy.notifications.tallyfy import TallyfyCommentNotifier, TallyfyIssueNotifier
from airflow_provider_tallyfy.operators.tallyfy import (
    TallyfyApprovalOperator,
    TallyfyCompleteTaskOperator,
    TallyfyLaunchRunOperator,
)

RELEASE_APPROVAL = "5eed0001000000000000000000000001"


@dag(
    schedule=None,
    catchup=False,
    tags=["tallyfy", "example"],
    doc_md=__doc__,
    params={"version": Param("3.0.0", type="string", description="The version to release.")},
)
def tallyfy_release_gate() -> None:
    # [START howto_operator_launch_run]
    launch = TallyfyLaunchRunOperator(
        task_id="launch",
        checklist_id=RELEASE_APPROVAL,
        name="Release {{ params.version }}",
        kickoff={"Version": "{{ params.version }}"},
    )
    # [END howto_operator_launch_run]

    # [START howto_operator_complete_task]
    notes = TallyfyCompleteTaskOperator(
        task_id="notes", run_id=launch.output["id"], task="Prepare release notes"
    )
    # [END howto_operator_complete_task]

    # [START howto_notifier_comment]
    comment = TallyfyCommentNotifier(
        task_id="{{ tallyfy.task_id }}",
        content="{{ 'Reminder: ' if tallyfy.reminder }}Version {{ params.version }} waits for your decision.",
    )
    # [END howto_notifier_comment]

    # [START howto_operator_approval]
    gate = TallyfyApprovalOperator(
        task_id="gate",
        run_id=launch.output["id"],
        task="Approve release",
        approvers=["Release managers"],
        notifiers=comment,
        remind_every=timedelta(seconds=5),  # a day is enough if people take days
        max_reminders=5,
        deferrable=True,
        poke_interval=timedelta(seconds=5),  # a minute is enough if people take days
        timeout=timedelta(days=30),
    )
    # [END howto_operator_approval]

    # [START howto_notifier_issue]
    @task(
        on_failure_callback=TallyfyIssueNotifier(
            run_id="{{ ti.xcom_pull('launch', key='id') }}",
            content="Version {{ params.version }} could not be published: {{ exception }}",
        )
    )
    def publish(decision: dict[str, Any], params: dict[str, Any]) -> str:
        return f"Version {params['version']} is out. Why: {decision['form_values']['comment']}"

    # [END howto_notifier_issue]

    notes >> gate
    publish(gate.output)


tallyfy_release_gate()
