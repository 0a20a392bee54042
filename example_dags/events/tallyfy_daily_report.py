"""
Start every morning, and when a process is completed in Tallyfy. This needs Airflow 3.

It runs unchanged against the sandbox; for your organization, replace the id of the template.
"""

from __future__ import annotations

from airflow.sdk import dag, get_current_context, task
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_provider_tallyfy.assets.tallyfy import event_asset

RELEASE_APPROVAL = "5eed0001000000000000000000000001"

completed = event_asset("process.completed", checklist_id=RELEASE_APPROVAL, poke_interval=10)


@dag(
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("0 6 * * *", timezone="UTC"), assets=completed
    ),
    catchup=False,
    tags=["tallyfy", "example"],
    doc_md=__doc__,
)
def tallyfy_daily_report() -> None:
    @task
    def write_report() -> int:
        events = get_current_context()["triggering_asset_events"]
        # Empty if the timetable started the DAG run.
        names = [event.extra["payload"]["run"]["name"] for event in events.get(completed, [])]
        # Write the report here.
        return len(names)

    write_report()


tallyfy_daily_report()
