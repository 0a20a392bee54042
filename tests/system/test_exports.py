"""Exports in a real Airflow: each DAG run loads what changed since the one before, whatever happens between."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS

if TYPE_CHECKING:
    from conftest import Site

    from dev.airflow_api import DagRun

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="the state of assets came with Airflow 3.3"),
]


def exported(dag_run: DagRun) -> dict[str, dict[str, Any]]:
    assert dag_run.wait(timeout=120) == "success", dag_run.failures()
    result = dag_run.xcom("export")
    records: list[dict[str, Any]] = []
    for path in result["paths"]:
        with Path(urlsplit(path).path).open(newline="") as file:
            records += csv.DictReader(file) if path.endswith(".csv") else map(json.loads, file)
    found = {record["id"]: record for record in records}
    assert len(found) == len(records) == result["records"]
    return found


def fault(site: Site, **fault: Any) -> None:
    url = f"{site.sandbox.url}/_sandbox/faults"
    requests.post(url, json=[fault], timeout=10).raise_for_status()


def test_each_dag_run_loads_what_changed_since_the_one_before(site: Site) -> None:
    """A full load, then three while users work, with 429s and a list that lags: together they hold the last state."""
    kept = exported(site.airflow.trigger("export_incrementally"))
    ids = [site.sandbox.launch(f"Export {number}") for number in range(3)]

    second = exported(site.airflow.trigger("export_incrementally"))
    assert set(ids) <= second.keys()
    kept |= second

    site.sandbox.complete_next(ids[0])
    fault(
        site,
        method="GET",
        path="/runs[?]",
        action="status",
        status=429,
        headers={"Retry-After": "2"},
        times=2,
    )
    site.sandbox.behave(list_lag=600)
    site.sandbox.complete_next(ids[1])
    third = exported(site.airflow.trigger("export_incrementally"))
    assert ids[1] not in third
    kept |= third

    site.sandbox.behave(list_lag=0)
    fourth = exported(site.airflow.trigger("export_incrementally"))
    kept |= fourth
    assert ids[2] not in {*third, *fourth}
    parameters = {"checklist_id": RELEASE_CHECKLIST_ID, "archived": "true", "per_page": "100"}
    now = {run["id"]: run for run in site.sandbox.request("GET", "/runs", params=parameters)}
    assert {run_id: kept[run_id]["last_updated"] for run_id in now} == {
        run_id: run["last_updated"] for run_id, run in now.items()
    }


def test_a_task_without_an_outlet_keeps_its_state_and_a_retry_its_place(site: Site) -> None:
    for number in range(6):
        site.sandbox.launch(f"Export of tasks {number}")
    # Once more with the connection read again.
    fault(
        site, method="GET", path="[?&]page=2", action="status", status=404, body={"message": "Gone."}, times=2
    )
    first = site.airflow.trigger("export_without_outlet")
    tasks = exported(first)
    assert first.task("export")["try_number"] == 2
    assert "an earlier try had read" in first.log("export")
    changed = site.sandbox.launch("Export of tasks")
    second = exported(site.airflow.trigger("export_without_outlet"))
    assert {task["run_id"] for task in second.values()} == {changed}
    assert len(second) == 3
    assert not tasks.keys() & second.keys()
    folder = Path(urlsplit(first.xcom("export")["paths"][0]).path).parent
    assert not list(folder.glob(".tallyfy-*"))
