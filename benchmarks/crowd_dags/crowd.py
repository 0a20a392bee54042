"""Many waits in a DAG run: begun and ended in the triggerer, or begun by workers that handed them over."""

from __future__ import annotations

import os

from airflow.sdk import DAG, Param

from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor

SENSORS = int(os.environ["CROWD_SENSORS"])

for dag_id, in_triggerer in (("begun_in_triggerer", True), ("begun_by_workers", False)):
    with DAG(dag_id, schedule=None, params={"waits": Param([], type="array")}):
        for number in range(SENSORS):
            TallyfyNextTaskSensor(
                task_id=f"wait_{number}",
                run_id=f"{{{{ params.waits[{number}][0] }}}}",
                from_task=f"{{{{ params.waits[{number}][1] }}}}",
                deferrable=True,
                poke_interval=10,
                start_from_trigger=in_triggerer,
                end_from_trigger=in_triggerer,
            )
