"""Waits for a task, for the end of a run, and for an approval, with downstream tasks."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_tallyfy.notifications.tallyfy import TallyfyCommentNotifier
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator, TallyfyBranchOperator
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyRunSensor, TallyfyTaskSensor

RUN_ID = "{{ params.run_id }}"
PARAMS = {"run_id": Param("", type="string")}
WAIT = {"run_id": RUN_ID, "poke_interval": 2, "retries": 2}


@task
def after(result: dict[str, Any]) -> str:
    return str(result.get("status") or result["is_approved"])


with DAG("gates_branch", schedule=None, params=PARAMS):

    @task.branch
    def choose(done: dict[str, Any]) -> str:
        return "praised" if done["form_values"]["comment"] == "Looks good to me." else "questioned"

    @task
    def praised() -> None: ...

    @task
    def questioned() -> None: ...

    wait_for_task = TallyfyTaskSensor(
        task_id="wait",
        task="Approve release",
        deferrable=True,
        start_from_trigger=True,
        end_from_trigger=True,
        **WAIT,
    )
    choose(wait_for_task.output) >> [praised(), questioned()]

with DAG("gates_end_of_run", schedule=None, params=PARAMS):
    after(TallyfyRunSensor(task_id="wait", deferrable=True, **WAIT).output)


def gate(name: str, **arguments: Any) -> None:
    with DAG(f"gates_{name}", schedule=None, params=PARAMS):

        @task(trigger_rule="all_done")
        def whatever_happens() -> None: ...

        @task
        def clean_up() -> None: ...

        approval = TallyfyApprovalOperator(task_id="wait", task="approve_release", **WAIT, **arguments)
        following, in_the_end, teardown = after(approval.output), whatever_happens(), clean_up()
        approval >> following >> in_the_end >> teardown.as_teardown()
        approval >> teardown


gate("approval", deferrable=True)
gate("approval_strict", deferrable=True, fail_on_reject=True)
gate("approval_ignoring_rules", ignore_downstream_trigger_rules=True)
gate("approval_of_ada", deferrable=True, approvers="ada@example.com")
gate("approval_of_the_owner", deferrable=True, approvers={"users": [1002], "exclude": ["ada@example.com"]})
gate("approval_nobody_in_time", deferrable=True, timeout=15, on_timeout="approve", approvers=[1002])
gate(
    "approval_reminded",
    deferrable=True,
    remind_every=4,
    max_reminders=60,
    notifiers=TallyfyCommentNotifier(
        task_id="{{ tallyfy.task_id }}",
        content="{{ 'Reminder' if tallyfy.reminder else 'Please decide' }}: {{ tallyfy.title }}, {{ tallyfy.url }}",
    ),
)

for name, field, branches in (
    ("decision", None, {"approved": "praised", "rejected": "questioned"}),
    ("field", "comment", {"Looks good to me.": "praised", "No.": ["questioned"]}),
):
    with DAG(f"gates_branch_by_{name}", schedule=None, params=PARAMS):

        @task
        def praised() -> None: ...

        @task
        def questioned() -> None: ...

        @task(trigger_rule="none_failed_min_one_success")
        def joined() -> None: ...

        choose_branch = TallyfyBranchOperator(
            task_id="wait", task="Approve release", branches=branches, field=field, deferrable=True, **WAIT
        )
        choose_branch >> [praised(), questioned()] >> joined()
