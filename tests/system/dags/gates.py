"""Waits for one task, for the end of a run, and for an approval; what comes after them."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator
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
