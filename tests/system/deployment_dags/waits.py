"""Waits through connections that are in no environment variable."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor

for conn_id in ("tallyfy_of_all", "tallyfy_of_workers"):
    with DAG(f"wait_{conn_id}", schedule=None, params={"run_id": Param(type="string")}):
        TallyfyNextTaskSensor(
            task_id="wait",
            run_id="{{ params.run_id }}",
            tallyfy_conn_id=conn_id,
            deferrable=True,
            poke_interval=2,
        )

with DAG("wait_in_triggerer", schedule=None, params={"run_id": Param("", type="string")}):
    run_id = "{{ params.run_id }}"
    read_run = TallyfyGetRunOperator(task_id="read_run", run_id=run_id, tallyfy_conn_id="tallyfy_of_all")
    read_run >> TallyfyNextTaskSensor(
        task_id="wait",
        run_id=run_id,
        from_task=read_run.output["next_task"],
        tallyfy_conn_id="tallyfy_of_all",
        deferrable=True,
        start_from_trigger=True,
        end_from_trigger=True,
        poke_interval=2,
        retries=2,
    )
