"""One DAG for each mode of the sensor. Each reads a run, then waits for its next task."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor

RUN_ID = "{{ params.run_id }}"


def waiting_dag(name: str, *, tallyfy_conn_id: str = "tallyfy_default", **sensor_arguments: Any) -> DAG:
    with DAG(f"next_task_{name}", schedule=None, params={"run_id": Param(type="string")}) as dag:
        read_run = TallyfyGetRunOperator(task_id="read_run", run_id=RUN_ID, tallyfy_conn_id=tallyfy_conn_id)
        wait = TallyfyNextTaskSensor(
            task_id="wait",
            run_id=RUN_ID,
            tallyfy_conn_id=tallyfy_conn_id,
            retries=2,
            **{"from_task": read_run.output["next_task"], "poke_interval": 2, **sensor_arguments},
        )
        read_run >> wait
    return dag


deferred = waiting_dag("deferred", deferrable=True)
deferred_object = waiting_dag("deferred_object", tallyfy_conn_id="tallyfy_object", deferrable=True)
deferred_outage = waiting_dag("deferred_outage", tallyfy_conn_id="tallyfy_outage", deferrable=True)
deferred_timeout = waiting_dag("deferred_timeout", deferrable=True, timeout=5)
deferred_soft_fail = waiting_dag("deferred_soft_fail", deferrable=True, timeout=5, soft_fail=True)
poke = waiting_dag("poke")
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

    read_each = TallyfyGetRunOperator.partial(task_id="read_run").expand(run_id=run_ids())
    wait_each = TallyfyNextTaskSensor.partial(
        task_id="wait_each", deferrable=True, poke_interval=2, retries=2
    ).expand_kwargs(read_each.output.map(lambda run: {"run_id": run["id"], "from_task": run["next_task"]}))
    collect(wait_each.output)
