"""
A DAG for each event, by its name, that starts when it happens to a process of the template "Pipeline incident".

It has nothing to run, so the scheduler ends its DAG runs by itself.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

from airflow_provider_tallyfy.assets.tallyfy import event_asset
from airflow_provider_tallyfy.events.kinds import EVENTS

PIPELINE_INCIDENT = "5eed0001000000000000000000000003"

for event in EVENTS:
    # A process has several tasks, and only one of them is to be an event.
    task = "tell_who_waits" if event == "task.completed" else None
    asset = event_asset(event, checklist_id=PIPELINE_INCIDENT, task=task, poke_interval=10)
    with DAG(event, schedule=asset, catchup=False):
        EmptyOperator(task_id="nothing")
