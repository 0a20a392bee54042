"""Sensors that start and end in the triggerer, for each form of their arguments."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task, task_group

from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator
from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor

RUN_ID = "{{ params.run_id }}"
ZERO_WORKER = {
    "deferrable": True,
    "start_from_trigger": True,
    "end_from_trigger": True,
    "poke_interval": 2,
    "retries": 2,
}


@task
def follow_up(moved_on: dict[str, Any]) -> str:
    return str(moved_on["from_task_id"])


@task
def run_ids(params: dict[str, Any]) -> list[str]:
    return list(params["run_ids"])


def dag_with_tasks_around(name: str, **sensor_arguments: Any) -> DAG:
    with DAG(f"zero_worker_{name}", schedule=None, params={"run_id": Param("", type="string")}) as dag:
        read_run = TallyfyGetRunOperator(task_id="read_run", run_id=RUN_ID)
        arguments = {"from_task": read_run.output["next_task"], **sensor_arguments}
        wait = TallyfyNextTaskSensor(task_id="wait", run_id=RUN_ID, **{**ZERO_WORKER, **arguments})
        read_run >> wait
        follow_up(wait.output)
    return dag


output = dag_with_tasks_around("output")
template = dag_with_tasks_around(
    "template", from_task="{{ ti.xcom_pull('read_run', key='next_task', map_indexes=None)['id'] }}"
)
no_task_object = dag_with_tasks_around(
    "no_task_object", from_task="{{ ti.xcom_pull('read_run', key='next_task', map_indexes=None) }}", retries=0
)


def waiting_dag(name: str, run_id: Param | None = None, **sensor_arguments: Any) -> DAG:
    params = {"run_id": run_id or Param("", type="string"), "from_task": Param("", type="string")}
    with DAG(f"zero_worker_{name}", schedule=None, params=params) as dag:
        arguments = {"run_id": RUN_ID, "from_task": "{{ params.from_task }}", **sensor_arguments}
        TallyfyNextTaskSensor(task_id="wait", **{**ZERO_WORKER, **arguments})
    return dag


alone = waiting_dag("alone")
not_at_the_start = waiting_dag("not_at_the_start", start_from_trigger=False)
not_at_the_end = waiting_dag("not_at_the_end", end_from_trigger=False)
timeout = waiting_dag("timeout", timeout=5)
# In the triggerer, this one would end Airflow's process.
required_param = waiting_dag("required_param", run_id=Param(type="string"))

with DAG("zero_worker_literal", schedule=None) as literal:
    TallyfyNextTaskSensor(task_id="wait", run_id=SEEDED_RUN_ID, from_task="another-task", **ZERO_WORKER)

with DAG("zero_worker_task_group", schedule=None, params={"run_ids": Param([], type="array")}) as group:

    @task_group
    def each_run(run_id: str) -> None:
        read_run = TallyfyGetRunOperator(task_id="read_run", run_id=run_id)
        wait = TallyfyNextTaskSensor(
            task_id="wait",
            run_id=read_run.output["id"],
            from_task=read_run.output["next_task"],
            **ZERO_WORKER,
        )
        follow_up(wait.output)

    each_run.expand(run_id=run_ids())

# Nor this one, as Airflow itself maps sensors.
with DAG("zero_worker_mapped", schedule=None, params={"run_ids": Param(type="array")}) as mapped:
    read_each = TallyfyGetRunOperator.partial(task_id="read_run", multiple_outputs=False).expand(
        run_id=run_ids()
    )
    TallyfyNextTaskSensor.partial(task_id="wait", **ZERO_WORKER).expand_kwargs(
        read_each.output.map(lambda run: {"run_id": run["id"], "from_task": run["next_task"]})
    )
