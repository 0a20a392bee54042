"""Incremental exports of one template."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, Param

from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.transfers.tallyfy_to_object_storage import TallyfyToObjectStorageOperator

PARAMS = {"folder": Param("", type="string")}

with DAG("export_incrementally", schedule=None, max_active_runs=1, params=PARAMS):
    TallyfyToObjectStorageOperator(
        task_id="export",
        tallyfy_conn_id="tallyfy_exports",
        path="file://{{ params.folder }}",
        checklist_id=RELEASE_CHECKLIST_ID,
        outlets=[Asset("tallyfy_system_test_runs")],
        retries=2,
        retry_delay=timedelta(seconds=1),
    )

with DAG("export_without_outlet", schedule=None, max_active_runs=1, params=PARAMS):
    TallyfyToObjectStorageOperator(
        task_id="export",
        tallyfy_conn_id="tallyfy_exports",
        path="file://{{ params.folder }}",
        records="tasks",
        file_format="csv",
        page_size=5,
        retries=2,
        retry_delay=timedelta(seconds=1),
    )
