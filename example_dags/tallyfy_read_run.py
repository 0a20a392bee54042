"""
Read a process in Tallyfy and say how far it is, and list the names of all active processes.

It runs unchanged against the sandbox; for a process of your own, pass its id as the param `run_id`.
"""

from __future__ import annotations

from typing import Any

# On Airflow 3 alone, import these from airflow.sdk; this also runs on 2.11.
from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_tallyfy.operators.tallyfy import TallyfyApiOperator, TallyfyGetRunOperator

SEEDED_RUN = "5eed5eed5eed5eed5eed5eed5eed5eed"


@dag(
    schedule=None,
    catchup=False,
    tags=["tallyfy", "example"],
    doc_md=__doc__,
    params={"run_id": Param(SEEDED_RUN, type="string", description="Id of the process in Tallyfy.")},
)
def tallyfy_read_run() -> None:
    # [START howto_operator_get_run]
    read_run = TallyfyGetRunOperator(
        task_id="read_run", run_id="{{ params.run_id }}", with_="next_task,tasks"
    )
    # [END howto_operator_get_run]

    # [START howto_operator_api]
    TallyfyApiOperator(
        task_id="active_runs",
        endpoint="runs",
        query={"status": "active"},
        paginate=True,
        response_filter=lambda runs: [run["name"] for run in runs],
    )
    # [END howto_operator_api]

    @task
    def summarize(run: dict[str, Any]) -> str:
        tasks = run["tasks"]["data"]
        done = sum(task["completed_at"] is not None for task in tasks)
        next_task = run["next_task"]
        what_next = f"'{next_task['title']}' is next" if next_task else "nothing is left to do"
        return f"{run['name']} is {run['status']}: {done} of {len(tasks)} tasks are done, and {what_next}."

    summarize(read_run.output)


tallyfy_read_run()
