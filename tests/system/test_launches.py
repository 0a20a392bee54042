"""DAGs in a real Airflow that launch processes, complete tasks and report failures, with faults and retries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION
from dev.processes import TIMEOUT

if TYPE_CHECKING:
    from tests.support.environment import Environment

pytestmark = pytest.mark.system


def launched(environment: Environment, name: str) -> list[dict[str, Any]]:
    runs = environment.sandbox.request("GET", "/runs", params={"per_page": "100", "archived": "true"})
    return [run for run in runs if run["name"] == name]


def fault(environment: Environment, **fault: Any) -> None:
    environment.sandbox.control("POST", "/faults", [{"method": "POST", "path": "/runs$", **fault}])


def test_launch_complete_and_call_the_api(environment: Environment) -> None:
    fault(environment, action="apply_then_drop")
    dag_run = environment.airflow.trigger("launch_and_complete", {"name": "3.1"})

    assert dag_run.wait() == "success", dag_run.failures()

    [run] = launched(environment, "launch_and_complete 3.1")
    launch = dag_run.xcom("launch")
    assert (launch["id"], launch["next_task"]["title"]) == (run["id"], "Prepare release notes")
    assert dag_run.task("launch")["try_number"] == 1
    tasks = {task["title"]: task for task in environment.sandbox.tasks(run["id"])}
    assert tasks["Prepare release notes"]["status"] == "completed"
    assert tasks["Approve release"]["is_approved"] is True
    assert dag_run.xcom("approve")["id"] == tasks["Approve release"]["id"]
    assert dag_run.xcom("count") == 1
    link = {"Tallyfy process": f"{environment.sandbox.url}/{ORGANIZATION}/processes/{run['id']}"}
    assert dag_run.extra_links("launch") == dag_run.extra_links("approve") == link

    dag_run.clear("launch")
    assert dag_run.wait() == "success", dag_run.failures()
    assert dag_run.xcom("launch")["id"] == run["id"]
    assert len(launched(environment, "launch_and_complete 3.1")) == 1


def test_each_row_of_a_mapped_task_is_launched_once(environment: Environment) -> None:
    fault(environment, action="apply_then_status", status=500, after=2, times=3)
    versions = [f"4.{number}" for number in range(10)]
    dag_run = environment.airflow.trigger("launch_mapped", {"rows": versions})

    assert dag_run.wait() == "success", dag_run.failures()

    ids = dag_run.xcom("collect")
    runs = {run["id"]: run for run in launched(environment, dag_run.dag_run_id)}
    assert len(runs) == 10
    assert [list(runs[run_id]["prerun"].values()) for run_id in ids] == [[version] for version in versions]


def test_a_retry_and_a_task_that_was_cleared_return_the_same_process(environment: Environment) -> None:
    dag_run = environment.airflow.trigger("launch_fails_after", {"name": "5.1"})

    assert dag_run.wait() == "success", dag_run.failures()

    assert dag_run.task("launch")["try_number"] == 2
    [run] = launched(environment, "launch_fails_after 5.1")
    assert dag_run.xcom("launch")["id"] == run["id"]
    environment.sandbox.archive(run["id"])

    dag_run.clear("launch")
    dag_run.wait_for_task("launch", "success")
    assert dag_run.wait() == "success", dag_run.failures()
    assert dag_run.task("launch")["try_number"] == 3
    assert dag_run.xcom("launch")["id"] == run["id"]
    assert len(launched(environment, "launch_fails_after 5.1")) == 1


def test_a_failed_task_launches_an_incident_and_comments_on_a_task(environment: Environment) -> None:
    task = environment.sandbox.next_task(SEEDED_RUN_ID)
    assert task is not None
    dag_run = environment.airflow.trigger("launch_on_failure", {"name": "6.1", "tallyfy_task_id": task["id"]})

    assert dag_run.wait() == "failed"

    def incident() -> list[dict[str, Any]]:
        return launched(environment, "Incident in launch_on_failure 6.1")

    [run] = environment.airflow.api.wait_for(incident, TIMEOUT, "the incident")
    [version] = run["prerun"].values()
    assert version.startswith("load: the file is empty!")
    assert "DAG launch_on_failure, task load, run " in run["summary"]

    [comment] = environment.airflow.api.wait_for(
        lambda: environment.sandbox.comments(task["id"]), TIMEOUT, "the comment"
    )
    assert comment.startswith("load failed: the file is empty!")
