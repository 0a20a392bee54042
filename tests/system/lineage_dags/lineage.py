"""A DAG whose tasks launch, read and export a process."""

from __future__ import annotations

import os

from airflow.sdk import DAG

from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator, TallyfyLaunchRunOperator
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.transfers.tallyfy_to_object_storage import TallyfyToObjectStorageOperator

with DAG("lineage", schedule=None):
    launch = TallyfyLaunchRunOperator(
        task_id="launch", checklist_id=RELEASE_CHECKLIST_ID, name="Lineage", kickoff={"Version": "1"}
    )
    read = TallyfyGetRunOperator(task_id="read", run_id=launch.output["id"])
    export = TallyfyToObjectStorageOperator(
        task_id="export", path=f"file://{os.environ['AIRFLOW_HOME']}/runs.jsonl", since="1970-01-01"
    )
    read >> export
