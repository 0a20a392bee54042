"""
Let a person decide what to do with data that breaks a rule.

`check` counts the rows that break the rule. `ask` launches a process in Tallyfy for them, and `decision` waits until a
person has filled in its form, and follows the branch that the form names. It runs unchanged against the sandbox.
"""

from __future__ import annotations

from datetime import timedelta

# On Airflow 3 alone, import these from airflow.sdk; this also runs on 2.11.
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_tallyfy.operators.tallyfy import TallyfyBranchOperator, TallyfyLaunchRunOperator

DATA_QUALITY_EXCEPTION = "5eed0001000000000000000000000004"


@dag(schedule=None, catchup=False, tags=["tallyfy", "example"], doc_md=__doc__)
def tallyfy_data_quality() -> None:
    @task
    def check() -> int:
        amounts = [12, 7, -3, 40, -8]  # in production, a query
        return sum(amount < 0 for amount in amounts)

    ask = TallyfyLaunchRunOperator(
        task_id="ask",
        checklist_id=DATA_QUALITY_EXCEPTION,
        name="Negative amounts in orders",
        kickoff={"Table": "orders", "Rows": check()},
    )

    # [START howto_operator_branch]
    decision = TallyfyBranchOperator(
        task_id="decision",
        run_id=ask.output["id"],
        task="decide_on_rows",
        field="decision",
        branches={"Load": "load_all", "Drop": "load_the_rest"},
        deferrable=True,
        poke_interval=timedelta(seconds=5),  # a minute is enough if people take days
        timeout=timedelta(days=7),
    )
    # [END howto_operator_branch]

    @task
    def load_all() -> str:
        return "All rows were loaded."

    @task
    def load_the_rest() -> str:
        return "The rows that broke the rule were dropped, the others loaded."

    decision >> [load_all(), load_the_rest()]


tallyfy_data_quality()
