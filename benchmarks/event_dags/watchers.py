"""A DAG for each template in ``templates.json``, which starts when one of its processes completes."""

from __future__ import annotations

import json
from pathlib import Path

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from airflow_provider_tallyfy.assets.tallyfy import event_asset

for checklist_id in json.loads(Path(__file__).with_name("templates.json").read_text()):
    asset = event_asset("process.completed", checklist_id=checklist_id, poke_interval=10)
    with DAG(f"completed_{checklist_id}", schedule=asset, catchup=False, is_paused_upon_creation=False):
        EmptyOperator(task_id="nothing")
