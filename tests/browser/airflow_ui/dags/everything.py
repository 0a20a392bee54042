"""Every operator and sensor that has a process to lead to, while it waits and after it."""

from __future__ import annotations

from typing import Any

# Written so, it runs on Airflow 2.11 too.
from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_tallyfy.operators.tallyfy import (
    TallyfyApiOperator,
    TallyfyApprovalOperator,
    TallyfyCompleteTaskOperator,
    TallyfyGetRunOperator,
    TallyfyLaunchRunOperator,
)
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.sensors.tallyfy import (
    TallyfyNextTaskSensor,
    TallyfyRunSensor,
    TallyfyTaskSensor,
)

RUN_ID = "{{ params.run_id }}"
WAIT = {"run_id": RUN_ID, "deferrable": True, "poke_interval": 5}

with DAG("everything", schedule=None, params={"run_id": Param("", type="string")}):
    read_run = TallyfyGetRunOperator(task_id="read_run", run_id=RUN_ID)
    launch = TallyfyLaunchRunOperator(
        task_id="launch",
        checklist_id=RELEASE_CHECKLIST_ID,
        name="Release {{ params.run_id[:4] }}",
        kickoff={"Version": "3.0.0"},
    )
    complete = TallyfyCompleteTaskOperator(
        task_id="complete", run_id=launch.output["id"], task="Prepare release notes"
    )
    TallyfyNextTaskSensor(task_id="next_task", from_task=read_run.output["next_task"], **WAIT)
    TallyfyTaskSensor(task_id="task_done", task="Approve release", **WAIT)
    TallyfyRunSensor(task_id="run_complete", **WAIT)
    TallyfyApprovalOperator(task_id="approval", task="Approve release", **WAIT)
    TallyfyTaskSensor(
        task_id="zero_worker",
        task="Approve release",
        start_from_trigger=True,
        end_from_trigger=True,
        **WAIT,
    )
    TallyfyTaskSensor(
        task_id="reschedule",
        run_id=RUN_ID,
        task="Approve release",
        mode="reschedule",
        poke_interval=60,  # each poke starts a worker
    )
    TallyfyApiOperator(task_id="who", endpoint="/me")

with DAG("mapped", schedule=None, params={"run_ids": Param([], type="array")}):

    @task
    def run_ids(params: dict[str, Any]) -> list[str]:
        return list(params["run_ids"])

    TallyfyTaskSensor.partial(
        task_id="task_done", task="Approve release", deferrable=True, poke_interval=5
    ).expand(run_id=run_ids())
