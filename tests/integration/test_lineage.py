"""What operators and sensors report to Airflow's lineage collector, against the sandbox's real server."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.lineage import hook as lineage_hook

from airflow_provider_tallyfy.operators.tallyfy import (
    TallyfyApprovalOperator,
    TallyfyCompleteTaskOperator,
    TallyfyGetRunOperator,
    TallyfyLaunchRunOperator,
)
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyTaskSensor
from dev.sandbox import SandboxClient


class Collector:
    def __init__(self):
        self.reported = []

    def add_input_asset(self, context, *, uri):
        self.reported.append(("read", uri))

    def add_output_asset(self, context, *, uri):
        self.reported.append(("changed", uri))


@pytest.fixture
def reported(monkeypatch):
    collector = Collector()
    monkeypatch.setattr(lineage_hook, "get_hook_lineage_collector", lambda: collector)
    return collector.reported


def test_reports_what_tasks_read_and_change(sandbox, reported):
    users = SandboxClient(sandbox.url)
    launch = TallyfyLaunchRunOperator(
        task_id="launch",
        checklist_id=RELEASE_CHECKLIST_ID,
        on_retry="relaunch",
        kickoff={"Version": "1"},
        name="Lineage",
    )
    run_id = launch.execute({})["id"]
    run = f"tallyfy://sandbox/runs/{run_id}"
    assert reported == [("read", f"tallyfy://sandbox/checklists/{RELEASE_CHECKLIST_ID}"), ("changed", run)]
    reported.clear()
    TallyfyGetRunOperator(task_id="get", run_id=run_id).execute({})
    assert reported == [("read", run)]
    reported.clear()
    first = users.tasks(run_id)[0]
    values = {field["alias"]: "Fine" for field in users.task(run_id, first["id"])["form_fields"]["data"]}
    TallyfyCompleteTaskOperator(
        task_id="complete", run_id=run_id, task=first["id"], form_fields=values
    ).execute({})
    assert reported == [("changed", run)]
    reported.clear()
    TallyfyTaskSensor(task_id="wait", run_id=run_id, task=first["id"]).execute({})
    assert reported == [("read", run)]
    reported.clear()
    for task in users.tasks(run_id):
        if task["title"] == "Approve release":
            users.complete(users.task(run_id, task["id"]))
    TallyfyApprovalOperator(task_id="gate", run_id=run_id, task="Approve release").execute({})
    assert reported == [("read", run)]
