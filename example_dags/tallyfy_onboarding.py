"""
Launch a process in Tallyfy for each row of a CSV file, and wait for all of them.

`read_customers` returns the rows, and `launch` launches an onboarding for each, once. `contract` waits until a person
has reviewed each contract, and `wait` until each onboarding is complete. The kick-off form is filled in with plain
Python values, by the labels that people see. It runs unchanged against the sandbox.
"""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta
from typing import Any

# On Airflow 3 alone, import these from airflow.sdk; this also runs on 2.11.
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_tallyfy.operators.tallyfy import TallyfyLaunchRunOperator
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyRunSensor, TallyfyTaskSensor

CUSTOMER_ONBOARDING = "5eed0001000000000000000000000002"
# In production, a file from another system.
CUSTOMERS = """\
name,email,plan,region,modules,start
Globex,grace@globex.example,Business,Europe,Reports;Automations,2026-01-05
Initech,peter@initech.example,Starter,Americas,Reports,2026-02-01
Umbrella,alice@umbrella.example,Enterprise,Asia Pacific,Single sign-on,2026-03-15
"""


@dag(schedule=None, catchup=False, tags=["tallyfy", "example"], doc_md=__doc__)
def tallyfy_onboarding() -> None:
    @task
    def read_customers() -> list[dict[str, Any]]:
        return [
            {
                "name": f"Onboarding of {row['name']}",
                "kickoff": {
                    "Customer name": row["name"],
                    "Contact email": row["email"],
                    "Plan": row["plan"],
                    "Region": row["region"],
                    "Modules": row["modules"].split(";"),
                    "Start date": date.fromisoformat(row["start"]),
                },
            }
            for row in csv.DictReader(io.StringIO(CUSTOMERS))
        ]

    launch = TallyfyLaunchRunOperator.partial(
        task_id="launch",
        checklist_id=CUSTOMER_ONBOARDING,
        multiple_outputs=False,  # what follows takes whole processes
    ).expand_kwargs(read_customers())

    # [START howto_sensor_task]
    contract = TallyfyTaskSensor.partial(
        task_id="contract",
        task="Review contract",
        deferrable=True,
        poke_interval=timedelta(seconds=5),
        timeout=timedelta(days=30),
    ).expand_kwargs(launch.output.map(lambda run: {"run_id": run["id"]}))
    # [END howto_sensor_task]

    # [START howto_sensor_run]
    wait = TallyfyRunSensor.partial(
        task_id="wait",
        target_statuses=("complete",),
        deferrable=True,
        poke_interval=timedelta(seconds=5),  # a minute is enough if people take days
        timeout=timedelta(days=60),
    ).expand_kwargs(launch.output.map(lambda run: {"run_id": run["id"]}))
    # [END howto_sensor_run]

    @task
    def count_signed(reviews: list[dict[str, Any]]) -> int:
        return sum(review["is_approved"] for review in reviews)

    @task
    def report(runs: list[dict[str, Any]]) -> list[str]:
        return [f"{run['name']} is {run['status']}" for run in runs]

    count_signed(contract.output)
    report(wait.output)


tallyfy_onboarding()
