"""DAG runs that fail, or are late, and are reported to Tallyfy."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.notifications.tallyfy import TallyfyIssueNotifier, TallyfyLaunchRunNotifier
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_0_PLUS

incident = TallyfyLaunchRunNotifier(
    checklist_id=RELEASE_CHECKLIST_ID,
    name="{{ dag.dag_id }} failed: {{ run_id }}",
    kickoff={"Version": "{{ reason }}"},
    summary="{{ no_such_thing }}",
)
with DAG(
    "notify_of_dag_runs",
    schedule=None,
    params={"tallyfy_run_id": Param("", type="string")},
    on_failure_callback=[
        incident,
        TallyfyIssueNotifier(run_id="{{ params.tallyfy_run_id }}", content="{{ run_id }} failed"),
    ],
) as notify_of_dag_runs:

    @task
    def load() -> None:
        raise ValueError("the file is empty")

    load()


def late(kind: str) -> dict[str, Any]:
    return {
        "checklist_id": RELEASE_CHECKLIST_ID,
        "name": f"{kind}: {{{{ dag_run.dag_id }}}} {{{{ dag_run.dag_run_id }}}} is late",
        "kickoff": {"Version": "{{ deadline.deadline_time }}"},
    }


def deadlines() -> dict[str, Any]:
    """Return the argument of a DAG with a deadline that is missed at once, for each kind of callback."""
    from airflow.sdk.definitions import deadline

    kinds = [deadline.AsyncCallback]
    if (
        deadline.DeadlineAlert.__module__ != deadline.AsyncCallback.__module__
    ):  # Airflow 3.1 has no other that works
        kinds.append(deadline.SyncCallback)
    return {
        "deadline": [
            deadline.DeadlineAlert(
                reference=deadline.DeadlineReference.DAGRUN_QUEUED_AT,
                interval=timedelta(seconds=1),
                callback=kind(TallyfyLaunchRunNotifier, late(kind.__name__)),
            )
            for kind in kinds
        ]
    }


try:
    missed = deadlines() if AIRFLOW_V_3_0_PLUS else {}
except ImportError:  # Airflow 3.0
    missed = {}

if missed:
    with DAG("notify_of_deadlines", schedule=None, **missed) as notify_of_deadlines:

        @task
        def wait(run_id: str | None = None) -> list[str]:
            """Wait until each deadline has been reported."""
            hook = TallyfyHook()
            for _ in range(90):
                names = [run["name"] for run in hook.list_runs() if f"{run_id} is late" in run["name"]]
                if len(names) >= len(missed["deadline"]):
                    return sorted(names)
                time.sleep(1)
            raise TimeoutError(f"only {names}")

        wait()
