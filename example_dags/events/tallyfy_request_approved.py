"""
Start for each approved request, with the values of its form. This needs Airflow 3.

Requests that are approved close together are in one DAG run, with a mapped task for each. It runs unchanged against the
sandbox; for your organization, replace the template and the approval task.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task

from airflow_provider_tallyfy.assets.tallyfy import event_asset

RELEASE_APPROVAL = "5eed0001000000000000000000000001"

approved = event_asset(
    "task.completed",
    checklist_id=RELEASE_APPROVAL,
    task="Approve release",
    decision="approved",
    form_values=True,
    poke_interval=10,
)


@dag(schedule=approved, catchup=False, tags=["tallyfy", "example"], doc_md=__doc__)
def tallyfy_request_approved() -> None:
    @task
    def approved_requests() -> list[dict[str, Any]]:
        events = get_current_context()["triggering_asset_events"][approved]
        payloads = [event.extra["payload"] for event in events]
        return list({payload["event_id"]: payload for payload in payloads}.values())

    @task
    def carry_out(request: dict[str, Any]) -> dict[str, Any]:
        approval = request["task"]
        return {"run_id": request["run"]["id"], "values": approval["form_values"]}

    carry_out.expand(request=approved_requests())


tallyfy_request_approved()
