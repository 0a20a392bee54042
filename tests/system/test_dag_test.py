"""DAGs under ``airflow dags test``, which is ``dag.test()``, without a scheduler: the examples, and a launch."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from airflow_provider_tallyfy.sandbox.server import SandboxServer
from dev.airflow_commands import AirflowCommands, Command, airflow_commands
from dev.processes import TIMEOUT, ChildProcess, end, wait_until
from dev.sandbox import SandboxClient
from dev.simulated_users import OF_THE_SEEDED_PROCESS, SimulatedUsers
from tests.unit.documentation.pages import ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.system

EXAMPLES = ROOT / "example_dags"
AIRFLOW = Path(sys.executable).with_name("airflow")
#: How often a DAG has read the run when it waits: in a task, and in the sensor.
READS_WHEN_WAITING = 2


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIRFLOW_HOME with a database, and a folder with the examples and DAGs of these tests."""
    home = tmp_path_factory.mktemp("airflow")
    shutil.copytree(EXAMPLES, home / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("launches.py", "approval_gate.py", "notifiers.py"):
        shutil.copy(Path(__file__).parent / "dags" / name, home / "dags")
    return home


@pytest.fixture(scope="module")
def airflow(home: Path) -> Iterator[AirflowCommands]:
    environment = _environment(home)
    with airflow_commands(environment) as commands:
        commands.start("db", "migrate", log=home / "db-migrate.log", environment={}).wait()
    with airflow_commands(environment) as commands:  # migrations change the logging of their process
        # Airflow 3.0 and 3.1 refuse a task whose outlet they have not seen in a DAG that was processed.
        commands.start("dags", "reserialize", log=home / "dags-reserialize.log", environment={}).wait()
        yield commands


@dataclass(frozen=True)
class DagTest:
    """``airflow dags test`` of a DAG, which connects to a sandbox for this test."""

    dag_id: str
    command: Command
    sandbox: SandboxClient
    home: Path

    def wait_until_it_waits(self) -> None:
        """Wait until the DAG waits for the seeded process, or has ended."""
        wait_until(
            lambda: self.command.has_ended() or _reads(self.sandbox) >= READS_WHEN_WAITING,
            TIMEOUT,
            "the DAG to wait",
        )

    def state(self) -> str:
        """Wait until it ends, and return the state of the DAG's last run."""
        self.command.wait()
        with closing(sqlite3.connect(self.home / "airflow.db")) as database:
            query = "SELECT state FROM dag_run WHERE dag_id = ? ORDER BY id DESC LIMIT 1"
            [(state,)] = database.execute(query, (self.dag_id,))
        return str(state)


@pytest.fixture
def sandbox() -> Iterator[SandboxClient]:
    with SandboxServer() as server:
        yield SandboxClient(server.url)


@pytest.fixture
def dags_test(
    airflow: AirflowCommands, home: Path, sandbox: SandboxClient, tmp_path: Path
) -> Callable[..., DagTest]:
    def start(dag_id: str, *arguments: str) -> DagTest:
        environment = {"AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection()}
        log = tmp_path / "output.log"
        command = airflow.start("dags", "test", dag_id, *arguments, log=log, environment=environment)
        return DagTest(dag_id, command, sandbox, home)

    return start


@pytest.mark.parametrize("dag_id", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_example_succeeds(dag_id: str, dags_test: Callable[..., DagTest], sandbox: SandboxClient) -> None:
    users = SimulatedUsers(sandbox, dag_id)
    test = dags_test(dag_id)
    if dag_id in OF_THE_SEEDED_PROCESS:
        test.wait_until_it_waits()
    wait_until(lambda: test.command.has_ended() or users.work() < 0, TIMEOUT, f"{dag_id} to end")
    assert test.state() == "success"


@pytest.mark.usefixtures("airflow")  # which has made the database
def test_quick_start_to_the_letter(home: Path, sandbox: SandboxClient, tmp_path: Path) -> None:
    """Its commands, up to the one that gives the DAG to a scheduler, and its DAG."""
    page = ROOT / "docs" / "quick-start.md"
    [(_, dag)] = blocks(page, "python")
    (tmp_path / "quick_start.py").write_text(dag)
    environment = {
        **_environment(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path),
        "PATH": os.pathsep.join([str(AIRFLOW.parent), os.environ["PATH"]]),
    }
    done = []
    for command, shown in _commands(page):
        if "dags unpause" in command:
            break
        if command.startswith(("airflow connections", "AIRFLOW__", "airflow dags", "airflow config")):
            command = command.replace("http://127.0.0.1:8090", sandbox.url)
            ended = subprocess.run(
                ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, timeout=TIMEOUT
            )
            assert ended.returncode == 0, ended.stderr
            assert [line for line in shown if line not in ended.stdout] == [], ended.stdout
            done.append(ended.stdout)
    assert any(str(tmp_path) in output for output in done)

    process = ChildProcess(
        "airflow dags test quick_start",
        [str(AIRFLOW), "dags", "test", "quick_start"],
        log=home / "quick_start.log",
        environment=environment,
    )
    try:
        process.start()
        wait_until(
            lambda: process.has_ended() or _reads(sandbox) >= READS_WHEN_WAITING, TIMEOUT, "the DAG to wait"
        )
        sandbox.complete_next(SEEDED_RUN_ID)
        process.wait()
    finally:
        end([process])
    assert "state=success" in process.tail().rpartition("DagRun Finished")[2]


def _commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a page with the lines that the page shows as its output."""
    for _, block in blocks(page, "console"):
        for shell in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = shell.splitlines()
            yield command, [line for line in shown if line]


def test_launch_and_complete(dags_test: Callable[..., DagTest], sandbox: SandboxClient) -> None:
    sandbox.control("POST", "/faults", [{"action": "apply_then_drop", "method": "POST", "path": "/runs$"}])
    assert dags_test("launch_and_complete", "--conf", json.dumps({"name": "7.1"})).state() == "success"
    [run] = [run for run in sandbox.request("GET", "/runs") if run["name"] == "launch_and_complete 7.1"]
    assert run["progress"] == {"complete": 2, "total": 3, "percent": 67, "approved": 1, "rejected": 0}


def test_a_dag_run_that_fails(
    dags_test: Callable[..., DagTest], sandbox: SandboxClient, tmp_path: Path
) -> None:
    """The callbacks of a DAG get a serialized DAG here, which renders no templates."""
    test = dags_test("notify_of_dag_runs")
    wait_until(test.command.has_ended, TIMEOUT, "the DAG to end")
    [run] = [run for run in sandbox.request("GET", "/runs") if run["name"].startswith("notify_of_dag_runs ")]
    assert list(run["prerun"].values()) == ["task_failure"]
    _, _, callbacks = (tmp_path / "output.log").read_text().rpartition("Marking run ")
    assert "Traceback" not in callbacks


@pytest.mark.parametrize(("mode", "is_approved"), [("poked", False), ("deferred", False), ("deferred", True)])
def test_approval_gate(
    mode: str, is_approved: bool, home: Path, dags_test: Callable[..., DagTest], sandbox: SandboxClient
) -> None:
    dag_id = f"approval_gate_{mode}"
    day = "2026-01-01" if is_approved else "2026-01-02"
    test = dags_test(dag_id, day)
    test.wait_until_it_waits()
    approval = sandbox.next_task(SEEDED_RUN_ID)
    assert approval is not None
    sandbox.complete(sandbox.task(SEEDED_RUN_ID, approval["id"]), is_approved=is_approved)
    test.command.wait()

    assert _states(home, dag_id, day) == {
        "approval": "success",
        "publish": "success" if is_approved else "skipped",
        "report": "success",
        "clean_up": "success",
    }


def _states(home: Path, dag_id: str, day: str) -> dict[str, str]:
    """Return the states of the tasks of a DAG's run of a day."""
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        return dict(
            database.execute(
                "SELECT task_id, task_instance.state FROM task_instance JOIN dag_run USING (dag_id, run_id) "
                "WHERE dag_id = ? AND date(logical_date) = ?".replace("logical_date", _date_column(database)),
                (dag_id, day),
            )
        )


def _date_column(database: sqlite3.Connection) -> str:
    columns = {row[1] for row in database.execute("PRAGMA table_info(dag_run)")}
    return "logical_date" if "logical_date" in columns else "execution_date"


def _reads(sandbox: SandboxClient) -> int:
    return sum(
        row["count"]
        for row in sandbox.control("GET", "/stats")["requests"]
        if row["method"] == "GET" and row["path"].endswith(SEEDED_RUN_ID)
    )


def _environment(home: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
