"""
Data that breaks a rule, and a person who decides what becomes of it.

`check` counts the rows that break the rule. `ask` starts a process in Tallyfy for them, `decision` waits until a person
has filled in its form, and `choose` takes the branch that the form says. It runs as it is against the sandbox.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

# On Airflow 3 alone, this can be `from airflow.sdk import ...`; written so, it runs on 2.11 too.
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_tallyfy.operators.tallyfy import TallyfyLaunchRunOperator
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyTaskSensor

DATA_QUALITY_EXCEPTION = "5eed0001000000000000000000000004"


@dag(schedule=None, catchup=False, tags=["tallyfy", "example"], doc_md=__doc__)
def tallyfy_data_quality() -> None:
    @task
    def check() -> int:
        amounts = [12, 7, -3, 40, -8]  # in life, a query
        return sum(amount < 0 for amount in amounts)

    ask = TallyfyLaunchRunOperator(
        task_id="ask",
        checklist_id=DATA_QUALITY_EXCEPTION,
        name="Negative amounts in orders",
        kickoff={"Table": "orders", "Rows": check()},
    )

    decision = TallyfyTaskSensor(
        task_id="decision",
        run_id=ask.output["id"],
        task="decide_on_rows",
        deferrable=True,
        poke_interval=timedelta(seconds=5),  # a minute is enough if people take days
        timeout=timedelta(days=7),
    )

    @task.branch
    def choose(decided: dict[str, Any]) -> str:
        return {"Load": "load_all", "Drop": "load_the_rest"}[decided["form_values"]["decision"]]

    @task
    def load_all() -> str:
        return "All rows were loaded."

    @task
    def load_the_rest() -> str:
        return "The rows that broke the rule were dropped, the others loaded."

    choose(decision.output) >> [load_all(), load_the_rest()]


tallyfy_data_quality()
