"""
Approvals in every shape of DAG, in the real scheduler of whichever Airflow this Python has.

What becomes of each shape is a property of its test in pytest's JUnit report, from which ``make test-matrix`` writes
the table in ``docs/gates.md``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_tallyfy.version_compat import FINDS_SKIPS_OF_UNMAPPED_TASKS
from dev.backends import ProductionBackend
from dev.real_airflow import RealAirflow
from dev.sandbox import SandboxClient, running_sandbox

if TYPE_CHECKING:
    from dev.airflow_api import DagRun

DAGS = Path(__file__).parent / "gate_dags"
sys.path.insert(0, str(DAGS))
from gate_shapes import SHAPES, SHAPES_OF_AIRFLOWS_OWN, Shape  # noqa: E402 - a module of the DAGs folder

pytestmark = pytest.mark.system

SOON = 300.0
DAG_FILE = """\
# A DAG of Airflow's.
from gate_shapes import build

dag = build({name!r})
"""


@dataclass(frozen=True)
class Gates:
    """An Airflow with a DAG for each shape, and their DAG runs, which were all started at once."""

    airflow: RealAirflow
    sandbox: SandboxClient
    dag_runs: dict[str, DagRun]
    run_ids: dict[str, list[str]]

    def decide(self, name: str) -> None:
        """Reject the first process of a shape, and approve the second."""
        for run_id, is_approved in zip(self.run_ids[name], (False, True), strict=True):
            task = self._approval(run_id)
            if task["completed_at"] is None:
                self.sandbox.complete(task, is_approved=is_approved)

    def approve_again(self, name: str) -> None:
        """Reopen the approval that was rejected, and approve it."""
        [run_id, _] = self.run_ids[name]
        task = self._approval(run_id)
        self.sandbox.request("DELETE", f"/runs/{run_id}/completed-tasks/{task['id']}")
        self.sandbox.complete(self._approval(run_id))

    def hide(self, name: str) -> None:
        """Answer as if rules hid the approvals."""
        for run_id in self.run_ids[name]:
            run = self.sandbox.request("GET", f"/runs/{run_id}", params={"with": "tasks,next_task"})
            for task in run["tasks"]["data"]:
                if task["alias"] == "approve_release":
                    task["status"] = "auto-skipped"
            fault = {
                "method": "GET",
                "path": f"runs/{run_id}",
                "times": None,
                "action": "status",
                "status": 200,
                "body": {"data": run},
            }
            requests.post(f"{self.sandbox.url}/_sandbox/faults", json=[fault], timeout=10).raise_for_status()

    def _approval(self, run_id: str) -> dict[str, Any]:
        tasks = self.sandbox.tasks(run_id)
        [task_id] = [task["id"] for task in tasks if task["alias"] == "approve_release"]
        return self.sandbox.task(run_id, task_id)


@pytest.fixture(scope="module")
def gates(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gates]:
    dags = tmp_path_factory.mktemp("gates")
    shutil.copy(DAGS / "gate_shapes.py", dags)

    def write(*names: str) -> None:  # a file for each, since an import error is one of a file
        for name in names:
            (dags / f"{name}.py").write_text(DAG_FILE.format(name=name))

    write(*(name for name in SHAPES if not is_refused(name)), *SHAPES_OF_AIRFLOWS_OWN)
    with ExitStack() as stack:
        sandbox = stack.enter_context(running_sandbox())
        environment = {
            "AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection(),
            # There are many files. One that is new is processed at once all the same.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "300",
        }
        backend = ProductionBackend() if request.config.getoption("production") else None
        airflow = stack.enter_context(
            RealAirflow(dags, environment=environment, parallelism=8, backend=backend)
        )
        gates = Gates(airflow, sandbox, {}, {})
        for name, shape in SHAPES.items():
            if is_refused(name):
                continue
            gates.run_ids[name] = [sandbox.launch(f"{name} {number}") for number in (1, 2)]
            for run_id in gates.run_ids[name]:
                sandbox.complete_next(run_id)  # so that its approval is next
            if shape.hidden:
                gates.hide(name)
            elif shape.decide and not shape.deferred:
                gates.decide(name)
            gates.dag_runs[name] = airflow.trigger(name, {"run_ids": gates.run_ids[name]})
        for name in SHAPES_OF_AIRFLOWS_OWN:
            gates.dag_runs[name] = airflow.trigger(name)
        write(*filter(is_refused, SHAPES))
        yield gates


def is_refused(name: str) -> bool:
    """Tell whether this Airflow is to refuse the DAG; one does since 3.2.2 what others cannot."""
    is_of_some = name == "mapped_behind_with_rule" and not FINDS_SKIPS_OF_UNMAPPED_TASKS
    return is_of_some or not SHAPES[name].states


@pytest.mark.parametrize("name", [name for name in SHAPES if not is_refused(name)])
def test_nothing_runs_after_a_rejection(
    gates: Gates, name: str, record_property: Callable[[str, object], None]
) -> None:
    shape, dag_run = SHAPES[name], gates.dag_runs[name]
    if shape.deferred:
        number = 2 if "each.gate[0]" in shape.states else 1
        task_id = "each.gate" if number == 2 else "gate"
        dag_run.wait_for_mapped_tasks(task_id, "deferred", number=number, timeout=SOON)
        gates.decide(name)

    dag_run.wait(SOON)
    assert_states(dag_run, shape)
    for task_id in shape.cleared:
        dag_run.clear(task_id)
        dag_run.wait(SOON)
        assert_states(dag_run, shape)
    states = dag_run.instance_states()
    rejected = states.get("gate", states.get("each.gate[0]", "skipped"))
    record_property(shape.title, "held" if rejected == "success" else f"held, gate {rejected}")


@pytest.mark.parametrize("name", [name for name in SHAPES if is_refused(name)])
def test_invalid_shape_is_refused_when_it_is_parsed(
    gates: Gates, name: str, record_property: Callable[[str, object], None]
) -> None:
    def error() -> str | None:
        errors = gates.airflow.api.request("GET", "/importErrors", params={"limit": 100})["import_errors"]
        return next((each["stack_trace"] for each in errors if each["filename"].endswith(f"{name}.py")), None)

    message = gates.airflow.api.wait_for(error, SOON, f"the import error of {name}")
    assert "'gate'" in message
    record_property(SHAPES[name].title, "refused")


@pytest.mark.parametrize("name", SHAPES_OF_AIRFLOWS_OWN)
def test_airflows_own_gate(gates: Gates, name: str, record_property: Callable[[str, object], None]) -> None:
    title, _, closed = SHAPES_OF_AIRFLOWS_OWN[name]
    gates.dag_runs[name].wait(SOON)
    state = gates.dag_runs[name].instance_states()[closed]
    assert state in ("skipped", "success")
    record_property(title, "held" if state == "skipped" else "**runs**")


@pytest.mark.parametrize("name", ["plain", "started_in_the_triggerer", "deferred"])
def test_rejected_task_runs_after_approval_and_clear(gates: Gates, name: str) -> None:
    dag_run = gates.dag_runs[name]
    assert dag_run.wait(SOON) == "success"

    gates.approve_again(name)
    dag_run.clear("gate", "publish")

    assert dag_run.wait(SOON) == "success"
    states = dag_run.instance_states()
    assert (states["gate"], states["publish"]) == ("success", "success")


def assert_states(dag_run: DagRun, shape: Shape) -> None:
    """Compare the states of all task instances; a ``*`` stands for one that differs between Airflow versions."""
    states = dag_run.instance_states()
    assert {key: "*" if shape.states.get(key) == "*" else state for key, state in states.items()} == (
        shape.states
    )
