"""Many sensors at once: most begin and end in the triggerer, some in workers."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor

SENSORS = 20
WAIT = {"deferrable": True, "poke_interval": 5, "retries": 2}

with DAG("crowd", schedule=None, max_active_runs=50, params={"waits": Param([], type="array")}):
    for number in range(SENSORS):
        TallyfyNextTaskSensor(
            task_id=f"wait_{number}",
            run_id=f"{{{{ params.waits[{number}].run_id }}}}",
            from_task=f"{{{{ params.waits[{number}].from_task }}}}",
            start_from_trigger=True,
            end_from_trigger=True,
            **WAIT,
        )

with DAG("crowd_from_workers", schedule=None, params={"waits": Param([], type="array")}) as from_workers:

    @from_workers.task(retries=3, retry_delay=1)
    def waits(params: dict) -> list[dict[str, str]]:
        return list(params["waits"])

    TallyfyNextTaskSensor.partial(task_id="wait", **WAIT).expand_kwargs(waits())
