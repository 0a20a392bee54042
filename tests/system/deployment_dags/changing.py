"""A wait whose DAG file is changed while it is deferred: a test replaces the three values."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor

CODE = "first"
RUN_ID = "{{ params.run_id }}"
POKE_INTERVAL = 2


class Sensor(TallyfyNextTaskSensor):
    def execute_complete(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        return {**super().execute_complete(*arguments, **options), "code": CODE}


with DAG("changing", schedule=None, params={"run_id": Param(type="string")}):
    Sensor(
        task_id="wait",
        run_id=RUN_ID,
        tallyfy_conn_id="tallyfy_of_all",
        deferrable=True,
        poke_interval=POKE_INTERVAL,
    )
