"""
A process in Tallyfy for each row of a CSV file, and a wait for all of them.

`read_customers` gives the rows, `launch` starts an onboarding for each, each once; `wait` waits for every one to be
complete. The kick-off form is filled in by the labels that people see, with plain Python values. It runs as it is
against the sandbox.
"""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta
from typing import Any

# On Airflow 3 alone, this can be `from airflow.sdk import ...`; written so, it runs on 2.11 too.
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_tallyfy.operators.tallyfy import TallyfyLaunchRunOperator
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyRunSensor

CUSTOMER_ONBOARDING = "5eed0001000000000000000000000002"
# In life, a file that another system left somewhere.
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
        task_id="launch", checklist_id=CUSTOMER_ONBOARDING
    ).expand_kwargs(read_customers())

    wait = TallyfyRunSensor.partial(
        task_id="wait",
        target_statuses=("complete",),
        deferrable=True,
        poke_interval=timedelta(seconds=5),  # a minute is enough if people take days
        timeout=timedelta(days=60),
    ).expand_kwargs(launch.output.map(lambda run: {"run_id": run["id"]}))

    @task
    def report(runs: list[dict[str, Any]]) -> list[str]:
        return [f"{run['name']} is {run['status']}" for run in runs]

    report(wait.output)


tallyfy_onboarding()
