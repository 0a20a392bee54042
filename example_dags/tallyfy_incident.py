"""
Ask people for help when a task fails.

When `load` fails, a notifier launches an incident process in Tallyfy, with what is known in its kick-off form. This
example fails on purpose at the first try and succeeds at the second, so that it leaves no failed DAG run. That is why
`on_retry_callback` gets the notifier; in production, give it to `on_failure_callback` of a task or of the DAG. It runs
unchanged against the sandbox.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

# On Airflow 3 alone, import these from airflow.sdk; this also runs on 2.11.
from airflow.providers.common.compat.sdk import AirflowException, dag, task

from airflow_provider_tallyfy.notifications.tallyfy import TallyfyLaunchRunNotifier

PIPELINE_INCIDENT = "5eed0001000000000000000000000003"


@dag(schedule=None, catchup=False, tags=["tallyfy", "example"], doc_md=__doc__)
def tallyfy_incident() -> None:
    # [START howto_notifier_launch_run]
    open_incident = TallyfyLaunchRunNotifier(
        checklist_id=PIPELINE_INCIDENT,
        name="{{ ti.task_id }} of {{ ti.dag_id }} failed",
        kickoff={
            "Pipeline": "{{ ti.dag_id }}",
            "Task": "{{ ti.task_id }}",
            "Error": "{{ exception }}",
        },
    )

    @task(retries=1, retry_delay=timedelta(seconds=1), on_retry_callback=open_incident)
    def load(ti: Any = None) -> str:
        if ti.try_number == 1:
            raise AirflowException("The warehouse refused the connection.")
        return "42 rows were loaded."

    # [END howto_notifier_launch_run]

    load()


tallyfy_incident()
