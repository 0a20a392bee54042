"""Values that are valid in JSON and refused by PostgreSQL fail no task, in a worker or in the triggerer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dev.airflow_api import DagRun
    from tests.support.environment import Environment

pytestmark = [pytest.mark.system, pytest.mark.production]

TASKS = [
    "launch",
    "get_run",
    "api",
    "complete",
    "next_task",
    "next_task_in_triggerer",
    "next_task_without_worker",
    "task",
    "run",
    "gate",
    "gate_in_triggerer",
]


@pytest.fixture(scope="module")
def dag_run(environment: Environment) -> DagRun:
    run_id = environment.sandbox.launch("Odd values")
    environment.sandbox.complete_next(run_id)
    environment.sandbox.complete_next(run_id)
    dag_run = environment.airflow.trigger(
        "odd_values", {"run_id": run_id, "open": environment.sandbox.launch("Odd values to complete")}
    )
    dag_run.wait()
    return dag_run


@pytest.mark.parametrize("task_id", TASKS)
def test_task_succeeds_and_its_result_can_be_read(dag_run: DagRun, task_id: str) -> None:
    assert dag_run.task(task_id)["state"] == "success", dag_run.log(task_id)
    result: dict[str, Any] = dag_run.xcom(task_id)
    assert {"id", "run_id", "data"} & set(result)
    text = json.dumps(result, ensure_ascii=False, allow_nan=False)
    assert "\0" not in text
    text.encode()
