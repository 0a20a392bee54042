"""Tasks whose workers are killed, and values that PostgreSQL refuses."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_tallyfy.notifications.tallyfy import TallyfyLaunchRunNotifier
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

NAME = "{{ dag.dag_id }} {{ params.name }}"
PARAMS = {"name": Param("", type="string")}
HOUR = 3600

with DAG("launch_through_kill", schedule=None, params=PARAMS):
    TallyfyLaunchRunOperator(
        task_id="launch",
        checklist_id=RELEASE_CHECKLIST_ID,
        name=NAME,
        kickoff={"Version": "{{ params.name }}"},
        retries=2,
        retry_delay=timedelta(seconds=1),
    )


incident = TallyfyLaunchRunNotifier(checklist_id=RELEASE_CHECKLIST_ID, name=f"Incident in {NAME}")

with DAG("incident_through_kill", schedule=None, params=PARAMS):

    @task(on_failure_callback=incident)
    def work() -> None:
        print("Working.", flush=True)  # noqa: T201 (the tests wait for it)
        time.sleep(HOUR)

    work()

with DAG("incident", schedule=None, params=PARAMS):

    @task(on_failure_callback=incident)
    def fail() -> None:
        raise RuntimeError("The file is empty.")

    fail()


ODD: dict[str, Any] = {"tallyfy_conn_id": "tallyfy_odd"}
WAIT: dict[str, Any] = {**ODD, "run_id": "{{ params.run_id }}", "poke_interval": 2}
IN_TRIGGERER = {"deferrable": True, "start_from_trigger": True}

# Each run_id is that of a process whose first two tasks are completed, but for that of `complete`.
with DAG(
    "odd_values", schedule=None, params={"run_id": Param("", type="string"), "open": Param("", type="string")}
):
    TallyfyLaunchRunOperator(
        task_id="launch", checklist_id=RELEASE_CHECKLIST_ID, name="Odd {{ run_id }}", **ODD
    )
    TallyfyGetRunOperator(task_id="get_run", run_id="{{ params.run_id }}", **ODD)
    TallyfyApiOperator(task_id="api", endpoint="runs/{{ params.run_id }}", **ODD)
    TallyfyCompleteTaskOperator(
        task_id="complete", run_id="{{ params.open }}", task="Prepare release notes", **ODD
    )
    TallyfyNextTaskSensor(task_id="next_task", from_task="another-task", **WAIT)
    TallyfyNextTaskSensor(task_id="next_task_in_triggerer", from_task="another-task", **WAIT, **IN_TRIGGERER)
    TallyfyNextTaskSensor(
        task_id="next_task_without_worker",
        from_task="another-task",
        end_from_trigger=True,
        **WAIT,
        **IN_TRIGGERER,
    )
    TallyfyTaskSensor(task_id="task", task="Prepare release notes", **WAIT)
    TallyfyRunSensor(task_id="run", target_statuses=("active",), **WAIT)
    TallyfyApprovalOperator(task_id="gate", task="Approve release", **WAIT)
    TallyfyApprovalOperator(task_id="gate_in_triggerer", task="Approve release", **WAIT, **IN_TRIGGERER)
