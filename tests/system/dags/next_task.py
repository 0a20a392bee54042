"""One DAG for each mode of the sensor. The test names the task that is next, or a task reads it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor

RUN_ID = "{{ params.run_id }}"


def waiting_dag(name: str, *, reads_run: bool = False, **sensor_arguments: Any) -> DAG:
    params = {"run_id": Param(type="string"), "from_task": Param(type="string")}
    with DAG(f"next_task_{name}", schedule=None, params=params) as dag:
        arguments = {"from_task": "{{ params.from_task }}", "poke_interval": 2, **sensor_arguments}
        if reads_run:
            read_run = TallyfyGetRunOperator(task_id="read_run", run_id=RUN_ID)
            arguments["from_task"] = read_run.output["next_task"]
        TallyfyNextTaskSensor(task_id="wait", run_id=RUN_ID, retries=2, **arguments)
    return dag


deferred = waiting_dag("deferred", deferrable=True)
deferred_after_read = waiting_dag("deferred_after_read", reads_run=True, deferrable=True)
deferred_object = waiting_dag("deferred_object", tallyfy_conn_id="tallyfy_object", deferrable=True)
deferred_outage = waiting_dag("deferred_outage", tallyfy_conn_id="tallyfy_outage", deferrable=True)
deferred_timeout = waiting_dag("deferred_timeout", deferrable=True, timeout=5)
deferred_soft_fail = waiting_dag("deferred_soft_fail", deferrable=True, timeout=5, soft_fail=True)
poke = waiting_dag("poke", reads_run=True)
reschedule_first_look = waiting_dag(
    "reschedule_first_look", mode="reschedule", poke_interval=5, from_task=None
)


with DAG("next_task_mapped", schedule=None, params={"run_ids": Param(type="array")}) as mapped:

    @task
    def run_ids(params: dict[str, Any]) -> list[str]:
        return list(params["run_ids"])

    @task
    def collect(results: list[dict[str, Any]]) -> dict[str, Any]:
        return {result["run_id"]: result["from_task_id"] for result in results}

    read_each = TallyfyGetRunOperator.partial(task_id="read_run", multiple_outputs=False).expand(
        run_id=run_ids()
    )
    wait_each = TallyfyNextTaskSensor.partial(
        task_id="wait_each", deferrable=True, poke_interval=2, retries=2
    ).expand_kwargs(read_each.output.map(lambda run: {"run_id": run["id"], "from_task": run["next_task"]}))
    collect(wait_each.output)
