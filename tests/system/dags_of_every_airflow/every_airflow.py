"""Waits that end in a worker and in the triggerer, with downstream tasks, for every version of Airflow."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor, TallyfyRunSensor

RUN_ID = "{{ params.run_id }}"
WAITING: dict[str, Any] = {"run_id": RUN_ID, "deferrable": True, "poke_interval": 2}


@task
def summary(moved_on: dict[str, Any]) -> list[Any]:
    next_task = moved_on["next_task"]
    return [moved_on["from_task_id"], next_task["id"] if next_task else None]


with DAG("every_airflow", schedule=None, params={"run_id": ""}):
    read_run = TallyfyGetRunOperator(task_id="read_run", run_id=RUN_ID)
    in_worker = TallyfyNextTaskSensor(
        task_id="wait_to_end_in_a_worker", from_task=read_run.output["next_task"], **WAITING
    )
    in_triggerer = TallyfyNextTaskSensor(
        task_id="wait_to_end_in_the_triggerer",
        from_task=read_run.output["next_task"],
        end_from_trigger=True,
        **WAITING,
    )
    for wait in (in_worker, in_triggerer):
        wait >> summary.override(task_id=f"summary_of_{wait.task_id}")(wait.output)

    complete = TallyfyRunSensor(task_id="wait_until_complete", **WAITING)
    read_again = TallyfyGetRunOperator(task_id="read_again", run_id=RUN_ID)
    complete >> read_again
    # Nothing is next any more.
    at_the_end = TallyfyNextTaskSensor(
        task_id="wait_at_the_end", from_task=read_again.output["next_task"], **WAITING
    )
