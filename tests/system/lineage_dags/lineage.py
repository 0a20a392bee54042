"""Three DAGs with one task each: in a worker, too, each task has a process, and so a lineage collector, of its own."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator, TallyfyLaunchRunOperator
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID, SEEDED_RUN_ID
from airflow_provider_tallyfy.transfers.tallyfy_to_object_storage import TallyfyToObjectStorageOperator

with DAG("launch", schedule=None):
    TallyfyLaunchRunOperator(
        task_id="task", checklist_id=RELEASE_CHECKLIST_ID, name="Lineage", kickoff={"Version": "1"}
    )

with DAG("read", schedule=None):
    TallyfyGetRunOperator(task_id="task", run_id=SEEDED_RUN_ID)

with DAG("export", schedule=None):
    TallyfyToObjectStorageOperator(
        task_id="task", path=f"file://{os.environ['AIRFLOW_HOME']}/runs.jsonl", since="1970-01-01"
    )
