"""A DAG that uses a connection saved in the form."""

from __future__ import annotations

# Written so, it runs on Airflow 2.11 too.
from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_tallyfy.operators.tallyfy import TallyfyApiOperator

with DAG("saved_connection", schedule=None, params={"conn_id": Param("", type="string")}):
    TallyfyApiOperator(task_id="who", endpoint="/me", tallyfy_conn_id="{{ params.conn_id }}")
