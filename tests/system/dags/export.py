"""Incremental exports of one template."""

from __future__ import annotations

import os
from datetime import timedelta
from tempfile import gettempdir

from airflow.sdk import DAG, Asset, Param

from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.transfers.tallyfy_to_object_storage import TallyfyToObjectStorageOperator

FOLDER = os.environ.get("TALLYFY_EXPORTS", gettempdir())

with DAG(
    "export_incrementally",
    schedule=None,
    max_active_runs=1,
    params={"folder": Param("", type="string")},
):
    TallyfyToObjectStorageOperator(
        task_id="export",
        tallyfy_conn_id="tallyfy_exports",
        path="file://{{ params.folder }}",
        checklist_id=RELEASE_CHECKLIST_ID,
        outlets=[Asset("tallyfy_system_test_runs")],
        retries=2,
        retry_delay=timedelta(seconds=1),
    )

with DAG("export_without_outlet", schedule=None, max_active_runs=1):
    TallyfyToObjectStorageOperator(
        task_id="export",
        path=f"file://{FOLDER}/tasks",
        records="tasks",
        file_format="csv",
        page_size=5,
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
