"""
Wait until people have moved a process in Tallyfy on to its next task.

`read_run` reads the process; `wait_for_next_task` waits until its next task changes. It waits in the triggerer and
holds no worker, for a minute or a month. It runs unchanged against the sandbox; for a process of your own, pass its id
as the param `run_id`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

# On Airflow 3 alone, import these from airflow.sdk; this also runs on 2.11.
from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor

SEEDED_RUN = "5eed5eed5eed5eed5eed5eed5eed5eed"


@dag(
    schedule=None,
    catchup=False,
    tags=["tallyfy", "example"],
    doc_md=__doc__,
    params={"run_id": Param(SEEDED_RUN, type="string", description="Id of the process in Tallyfy.")},
)
def tallyfy_wait_for_next_task() -> None:
    # [START howto_sensor_next_task]
    read_run = TallyfyGetRunOperator(task_id="read_run", run_id="{{ params.run_id }}")

    wait_for_next_task = TallyfyNextTaskSensor(
        task_id="wait_for_next_task",
        run_id="{{ params.run_id }}",
        from_task=read_run.output["next_task"],
        deferrable=True,
        poke_interval=timedelta(seconds=5),  # a minute is enough if people take days
        timeout=timedelta(days=30),
    )
    # [END howto_sensor_next_task]

    @task
    def report(moved_on: dict[str, Any]) -> str:
        next_task = moved_on["next_task"]
        what_next = f"'{next_task['title']}' is next" if next_task else "nothing is left to do"
        return f"The process is {moved_on['run_status']}, and {what_next}."

    report(wait_for_next_task.output)


tallyfy_wait_for_next_task()
