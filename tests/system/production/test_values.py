"""Values that JSON can hold and PostgreSQL refuses end no task, whether a worker or the triggerer returns them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Site

    from dev.airflow_api import DagRun

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
def dag_run(site: Site) -> DagRun:
    run_id = site.sandbox.launch("Odd values")
    site.sandbox.complete_next(run_id)
    site.sandbox.complete_next(run_id)
    dag_run = site.airflow.trigger(
        "odd_values", {"run_id": run_id, "open": site.sandbox.launch("Odd values to complete")}
    )
    dag_run.wait(timeout=120)
    return dag_run


@pytest.mark.parametrize("task_id", TASKS)
def test_task_succeeds_and_its_result_can_be_read(dag_run: DagRun, task_id: str) -> None:
    assert dag_run.task(task_id)["state"] == "success", dag_run.log(task_id)
    result: dict[str, Any] = dag_run.xcom(task_id)
    assert {"id", "run_id", "data"} & set(result)
    text = json.dumps(result, ensure_ascii=False, allow_nan=False)
    assert "\0" not in text
    text.encode()
