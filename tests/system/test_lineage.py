"""The OpenLineage provider, with its file transport, gets what tasks read and changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID, SEEDED_RUN_ID
from airflow_provider_tallyfy.sandbox.server import SandboxServer
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
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
        commands = [["db", "migrate"], *(["dags", "test", dag_id] for dag_id in ("launch", "read", "export"))]
        for command in commands:
            # Each in a process that may have children: OpenLineage's listener starts some.
            done = subprocess.run(
                [sys.executable, "-m", "airflow", *command], env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
        [launched] = [run["id"] for run in sandbox.runs() if run["name"] == "Lineage"]
    found = {
        event["job"]["name"]: [
            [(dataset["namespace"], dataset["name"]) for dataset in event[direction]]
            for direction in ("inputs", "outputs")
        ]
        for event in map(json.loads, lineage.read_text().splitlines())
        if event["eventType"] == "COMPLETE"
    }
    organization = "tallyfy://sandbox"
    assert found["launch.task"] == [
        [(organization, f"checklists/{RELEASE_CHECKLIST_ID}")],
        [(organization, f"runs/{launched}")],
    ]
    assert found["read.task"] == [[(organization, f"runs/{SEEDED_RUN_ID}")], []]
    assert found["export.task"] == [[], [("file", f"{tmp_path}/runs.jsonl")]]
