"""Exports in a real Airflow: each DAG run exports what changed since the last one, in spite of faults."""

from __future__ import annotations

import csv
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from dev.sandbox import SandboxClient, running_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dev.airflow_api import DagRun
    from tests.support.environment import Environment

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="the state of assets came with Airflow 3.3"),
]

HOUR = 3600
RECORDS = 1_150  # on 12 pages
SEGMENT = 1_000  # records after which an attempt saves its progress
FIELDS = ("name", "status", "last_updated", "completed_at", "archived_at")  # as the API has them


def exported(dag_run: DagRun) -> dict[str, dict[str, Any]]:
    assert dag_run.wait() == "success", dag_run.failures()
    result = dag_run.xcom("export")
    records: list[dict[str, Any]] = []
    for path in result["paths"]:
        with Path(urlsplit(path).path).open(newline="") as file:
            records += csv.DictReader(file) if path.endswith(".csv") else map(json.loads, file)
    found = {record["id"]: record for record in records}
    assert len(found) == len(records) == result["records"]
    return found


@pytest.fixture
def sandbox(environment: Environment) -> Iterator[SandboxClient]:
    """A sandbox for one test, which the connection ``tallyfy_exports`` leads to."""
    with running_sandbox() as sandbox, environment.connection("tallyfy_exports", sandbox.connection()):
        yield sandbox


def test_export_without_an_outlet_keeps_its_state_and_a_retry_continues(
    environment: Environment, sandbox: SandboxClient, tmp_path: Path
) -> None:
    for number in range(6):
        sandbox.launch(f"Export of tasks {number}")
    gone = {"method": "GET", "path": "[?&]page=2", "action": "status", "status": 404}
    # The second time, the connection was read again.
    sandbox.control("POST", "/faults", [{**gone, "body": {"message": "Gone."}, "times": 2}])
    first = environment.airflow.trigger("export_without_outlet", {"folder": str(tmp_path)})
    tasks = exported(first)
    assert first.task("export")["try_number"] == 2
    assert "that an earlier attempt read" in first.log("export")
    changed = sandbox.launch("Export of tasks")
    second = exported(environment.airflow.trigger("export_without_outlet", {"folder": str(tmp_path)}))
    assert {task["run_id"] for task in second.values()} == {changed}
    assert len(second) == 3
    assert not tasks.keys() & second.keys()
    assert not list(tmp_path.glob(".tallyfy-*"))


def held(sandbox: SandboxClient) -> dict[str, dict[str, Any]]:
    """Return all runs that the sandbox holds, with archived ones."""
    parameters = {"checklist_id": RELEASE_CHECKLIST_ID, "archived": "true", "without_pagination": "true"}
    return {run["id"]: run for run in sandbox.request("GET", "/runs", params=parameters)}


def comment(sandbox: SandboxClient, run_id: str) -> str | None:
    """Return the value of the field "Comment" of the release template's approval."""
    fields = [field for task in sandbox.tasks(run_id, "form_fields") for field in task["form_fields"]["data"]]
    [value] = [field["field_value"] for field in fields if field["alias"] == "comment"]
    return value or None


@contextmanager
def users_at_work(url: str, ids: list[str]) -> Iterator[None]:
    """Let users work until the ``with`` block ends, on runs all over the list."""
    stop = Event()

    def work() -> None:
        users = SandboxClient(url)
        for number in count():
            run_id = ids[number * 7 % len(ids)]
            users.launch(f"Launched meanwhile {number}")
            if users.run(run_id)["archived_at"]:
                users.request("PUT", f"/runs/{run_id}/activate")
            elif number % 5 == 4:
                users.archive(run_id)
            else:
                users.request("PUT", f"/runs/{run_id}", json={"name": f"Renamed {number}"})
                if users.next_task(run_id):
                    users.complete_next(run_id)
            if stop.wait(0.3):
                return

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            yield
        finally:
            stop.set()
            working.result()


def kill_worker(environment: Environment, pid: int) -> None:
    """Kill the Celery worker that has a task's process; with the LocalExecutor, that process."""
    if part := environment.airflow.worker_of(pid):
        environment.airflow.kill(part)
        environment.airflow.start(part)
    else:
        os.kill(pid, signal.SIGKILL)


def test_loads_hold_the_last_state_of_each_run_whatever_happens_meanwhile(
    environment: Environment, sandbox: SandboxClient, tmp_path: Path
) -> None:
    """A worker is killed in the middle of the full load; then 429s, and a list that lags."""

    def trigger() -> DagRun:
        return environment.airflow.trigger("export_incrementally", {"folder": str(tmp_path)})

    def faults(*new: Mapping[str, Any]) -> None:
        sandbox.control("POST", "/faults", new)

    def applied() -> list[int]:
        return [fault["applied"] for fault in sandbox.control("GET", "/faults")["data"]]

    # Many runs that were launched an hour ago.
    sandbox.advance_clock(-HOUR)
    sandbox.control("POST", "/runs", {"count": RECORDS, "checklist_id": RELEASE_CHECKLIST_ID})
    sandbox.advance_clock(HOUR)
    untouched, *at_first = sorted(held(sandbox))
    # All but the last page is read, and no request for that one returns before the worker is dead.
    faults({"method": "GET", "path": "[?&]page=12$", "action": "delay", "delay": 60, "times": None})
    dag_run = trigger()
    pid = int(dag_run.wait_for_task("export", "running")["pid"])
    with users_at_work(sandbox.url, at_first):
        environment.airflow.api.wait_for(lambda: applied()[0], 120, "the export to hang")
        kill_worker(environment, pid)
        sandbox.control("DELETE", "/faults")
        loads = [exported(dag_run)]
    assert f"Continuing after {SEGMENT} runs" in dag_run.log("export", try_number=2)
    assert set(at_first) <= loads[0].keys()

    storm = {"method": "GET", "action": "status", "status": 429, "headers": {"Retry-After": "1"}, "times": 2}
    faults(*({**storm, "path": f"[?&]page={page}(&|$)"} for page in (1, 7)))
    with users_at_work(sandbox.url, at_first):
        loads.append(exported(trigger()))
    assert applied() == [2, 2]

    sandbox.behave(list_lag=600)
    unseen = sandbox.launch("Launched while the list lags")
    with users_at_work(sandbox.url, at_first):
        loads.append(exported(trigger()))
    assert not any(unseen in load for load in loads)

    sandbox.behave(list_lag=0)
    loads.append(exported(trigger()))
    assert unseen in loads[-1]
    assert [untouched in load for load in loads] == [True, False, False, False]

    last: dict[str, dict[str, Any]] = {}
    for load in loads:
        for run_id, record in load.items():
            if run_id not in last or record["last_updated"] >= last[run_id]["last_updated"]:
                last[run_id] = record
    now = held(sandbox)
    assert {run_id: [record[name] for name in FIELDS] for run_id, record in last.items()} == {
        run_id: [run[name] for name in FIELDS] for run_id, run in now.items()
    }
    worked_on = [
        run_id for run_id, run in now.items() if run["progress"]["complete"] and not run["archived_at"]
    ]
    assert {run_id: last[run_id]["comment"] for run_id in worked_on} == {
        run_id: comment(sandbox, run_id) for run_id in worked_on
    }
    assert not list(tmp_path.glob(".tallyfy-*"))
