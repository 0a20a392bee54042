"""The OpenLineage provider, with its file transport, gets what tasks read and changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.sandbox.server import SandboxServer
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from dev.airflow_commands import airflow_commands
from dev.sandbox import SandboxClient

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not AIRFLOW_V_3_3_PLUS, reason="the OpenLineage provider is installed with Airflow 3.3"
    ),
]

DAGS = Path(__file__).parent / "lineage_dags"


def test_openlineage_gets_the_datasets_of_each_task(tmp_path):
    lineage = tmp_path / "lineage.json"
    with SandboxServer() as server:
        sandbox = SandboxClient(server.url)
        environment = {
            **os.environ,
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection(),
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(lineage), "append": True}
            ),
        }
        for command in (("db", "migrate"), ("dags", "test", "lineage")):
            with airflow_commands(environment) as commands:
                log = tmp_path / f"{command[0]}.log"
                commands.start(*command, log=log, environment={}).wait(240)
        run_id = sandbox.runs()[0]["id"]
    events = map(json.loads, lineage.read_text().splitlines())
    found = {
        event["job"]["name"]: [
            [(dataset["namespace"], dataset["name"]) for dataset in event[direction]]
            for direction in ("inputs", "outputs")
        ]
        for event in events
        if event["eventType"] == "COMPLETE"
    }
    run = ("tallyfy://sandbox", f"runs/{run_id}")
    template = ("tallyfy://sandbox", f"checklists/{RELEASE_CHECKLIST_ID}")
    assert found["lineage.launch"] == [[template], [run]]
    assert found["lineage.read"] == [[run], []]
    assert found["lineage.export"] == [[], [("file", f"{tmp_path}/runs.jsonl")]]
