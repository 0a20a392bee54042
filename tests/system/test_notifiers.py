"""DAG runs of a real Airflow that fail or are late, and their reports in Tallyfy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dev.airflow_api import IN_AIRFLOW_2
from dev.processes import TIMEOUT

if TYPE_CHECKING:
    from tests.support.environment import Environment

pytestmark = pytest.mark.system


def launched(environment: Environment, beginning: str) -> list[dict[str, Any]]:
    runs = environment.sandbox.request("GET", "/runs", params={"per_page": "100", "archived": "true"})
    return [run for run in runs if run["name"].startswith(beginning)]


def test_dag_runs_that_fail_together(environment: Environment) -> None:
    """The DAG processor calls one notifier for all of them."""
    run_id = environment.sandbox.launch("Blocked by an issue")
    dag_runs = [
        environment.airflow.trigger("notify_of_dag_runs", {"tallyfy_run_id": run_id}) for _ in range(4)
    ]
    for dag_run in dag_runs:
        assert dag_run.wait() == "failed"

    def incidents() -> list[dict[str, Any]]:
        found = launched(environment, "notify_of_dag_runs failed: ")
        return found if len(found) >= len(dag_runs) else []

    found = environment.airflow.api.wait_for(incidents, TIMEOUT, "the incidents")
    names = {f"notify_of_dag_runs failed: {dag_run.dag_run_id}" for dag_run in dag_runs}
    assert sorted(run["name"] for run in found) == sorted(names)
    for run in found:
        assert list(run["prerun"].values()) == ["task_failure"]
        assert run["summary"].startswith(
            "{{ no_such_thing }}\n\nLaunched by Airflow: DAG notify_of_dag_runs, run "
        )
    assert environment.sandbox.request("GET", f"/runs/{run_id}")["status"] in ("issue", "problem")

    [dag_run, *_] = dag_runs
    dag_run.clear("load")
    dag_run.wait_for_task("load", "failed")

    def again() -> bool:
        return len(launched(environment, f"notify_of_dag_runs failed: {dag_run.dag_run_id}")) == 2

    environment.airflow.api.wait_for(
        again, TIMEOUT, "another incident, since it was cleared and failed again"
    )


@pytest.mark.skipif(IN_AIRFLOW_2, reason="Airflow 2 has no deadlines")
def test_a_deadline_that_is_missed(environment: Environment) -> None:
    dag_run = environment.airflow.trigger("notify_of_deadlines")

    assert dag_run.wait() == "success", dag_run.failures()

    found = launched(environment, "AsyncCallback: ") + launched(environment, "SyncCallback: ")
    assert sorted(run["name"] for run in found) == dag_run.xcom("wait")
    assert {run["name"].partition(": ")[2] for run in found} == {
        f"notify_of_deadlines {dag_run.dag_run_id} is late"
    }
    for run in found:
        assert f"DAG notify_of_deadlines, run {dag_run.dag_run_id}" in run["summary"]
