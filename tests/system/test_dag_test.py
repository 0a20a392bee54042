"""Each example DAG runs as it stands under ``airflow dags test``, which is ``dag.test()``, without a scheduler."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from airflow_provider_tallyfy.sandbox.server import SandboxServer
from dev.people import OF_THE_SEEDED_PROCESS, People
from dev.processes import ChildProcess, end, wait_until
from dev.sandbox import SandboxClient

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[2] / "example_dags"
AIRFLOW = Path(sys.executable).with_name("airflow")
#: The number of times that a DAG has read the run when it waits: in a task of its own, and as the sensor.
READS_WHEN_WAITING = 2


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIRFLOW_HOME with a database."""
    home = tmp_path_factory.mktemp("airflow")
    migration = ChildProcess(
        "airflow db migrate",
        [str(AIRFLOW), "db", "migrate"],
        log=home / "db-migrate.log",
        environment=_environment(home),
    )
    try:
        migration.start()
        migration.wait(timeout=120)
    finally:
        migration.kill()
    return home


@pytest.fixture
def sandbox() -> Iterator[SandboxClient]:
    with SandboxServer() as server:
        yield SandboxClient(server.url)


@pytest.mark.parametrize("dag_id", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_example_succeeds(dag_id: str, home: Path, sandbox: SandboxClient) -> None:
    process = ChildProcess(
        f"airflow dags test {dag_id}",
        [str(AIRFLOW), "dags", "test", dag_id],
        log=home / f"{dag_id}.log",
        environment={**_environment(home), "AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection()},
    )
    people = People(sandbox, dag_id)
    try:
        process.start()
        if dag_id in OF_THE_SEEDED_PROCESS:
            wait_until(
                lambda: process.has_ended() or _reads(sandbox) >= READS_WHEN_WAITING,
                60,
                "the DAG to wait or end",
            )
        wait_until(lambda: process.has_ended() or people.work() < 0, 120, f"{dag_id} to end")
        process.wait(timeout=60)
    finally:
        end([process])

    assert "state=success" in process.tail().rpartition("DagRun Finished")[2]


def _reads(sandbox: SandboxClient) -> int:
    statistics = requests.get(f"{sandbox.url}/_sandbox/stats", timeout=10).json()
    return sum(
        row["count"]
        for row in statistics["requests"]
        if row["method"] == "GET" and row["path"].endswith(SEEDED_RUN_ID)
    )


def _environment(home: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
