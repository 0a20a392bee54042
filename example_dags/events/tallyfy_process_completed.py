"""
Start when a process is completed in Tallyfy. This needs Airflow 3.

It runs unchanged against the sandbox; for your organization, replace the id of the template.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task

from airflow_provider_tallyfy.assets.tallyfy import event_asset

RELEASE_APPROVAL = "5eed0001000000000000000000000001"

# [START howto_trigger_event]
completed = event_asset("process.completed", checklist_id=RELEASE_APPROVAL, poke_interval=10)


@dag(schedule=completed, catchup=False, tags=["tallyfy", "example"], doc_md=__doc__)
def tallyfy_process_completed() -> None:
    @task
    def completed_processes() -> list[dict[str, Any]]:
        # Airflow starts one DAG run for events that arrive close together.
        events = get_current_context()["triggering_asset_events"][completed]
        payloads = [event.extra["payload"] for event in events]
        # After a triggerer was killed, an event may be fired twice, with the same id.
        return list({payload["event_id"]: payload for payload in payloads}.values())

    @task
    def archive_files(process: dict[str, Any]) -> str:
        # Archive them here.
        return f"{process['run']['name']}, completed at {process['occurred_at']}"

    archive_files.expand(process=completed_processes())


# [END howto_trigger_event]


tallyfy_process_completed()
