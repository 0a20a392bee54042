"""
Waits during a deployment's changes: secrets backends, rotated tokens, a triggerer that dies, new code.

The Airflow of this file has a triggerer without DAG files, and no connection in its environment. API server and
triggerer have the connection ``tallyfy_of_all``, and workers get it from the API server. Only workers and triggers have
``tallyfy_of_workers``.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION
from dev.processes import TIMEOUT, wait_until
from dev.real_airflow import RealAirflow
from dev.sandbox import SandboxClient, running_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.airflow_api import DagRun

pytestmark = pytest.mark.system

DAGS = Path(__file__).parent / "deployment_dags"
BACKEND = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
FIRST_TOKEN, NEXT_TOKEN = "first-token-of-the-deployment", "next-token-of-the-deployment"


@dataclass(frozen=True)
class Deployment:
    airflow: RealAirflow
    sandbox: SandboxClient
    folder: Path

    @property
    def dags(self) -> Path:
        return self.folder / "dags"

    def grant(self, token: str) -> None:
        self._control("POST", token, user_id=1002)

    def revoke(self, token: str) -> None:
        self._control("DELETE", token)

    def _control(self, method: str, token: str, **more: Any) -> None:
        url = f"{self.sandbox.url}/_sandbox/tokens"
        requests.request(method, url, json={"token": token, **more}, timeout=10).raise_for_status()

    def write_connection(self, file: str, conn_id: str, token: str) -> None:
        """Replace a file of connections at once, as a deployment does."""
        described = {**json.loads(self.sandbox.connection()), "password": token}
        new = self.folder / f"{file}.new"
        new.write_text(json.dumps({conn_id: described}))
        new.replace(self.folder / file)

    def wait_in(self, dag_id: str) -> tuple[str, str, DagRun]:
        """Start a process and a DAG run that waits for it; return its id, its first task's, and the DAG run."""
        run_id = self.sandbox.launch(f"Run for {dag_id}")
        first = self.sandbox.next_task(run_id)
        assert first is not None
        return run_id, first["id"], self.airflow.trigger(dag_id, {"run_id": run_id})

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        return self.airflow.rows(query)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("deployment")
    shutil.copytree(DAGS, folder / "dags")
    (folder / "no_dags").mkdir()
    backend = _backend("SECRETS__BACKEND", folder / "of_all.json")
    workers_backend = _backend("WORKERS__SECRETS_BACKEND", folder / "of_workers.json")
    triggerer = {
        **backend,
        **workers_backend,
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "no_dags"),
    }
    environments = {
        "api-server": backend,
        "scheduler": workers_backend,  # whose children the workers are
        "triggerer": triggerer,
    }
    with ExitStack() as stack:
        sandbox = stack.enter_context(running_sandbox())
        airflow = RealAirflow(folder / "dags", environments=environments, parallelism=8)
        deployment = Deployment(airflow, sandbox, folder)
        deployment.grant(FIRST_TOKEN)
        deployment.write_connection("of_all.json", "tallyfy_of_all", FIRST_TOKEN)
        deployment.write_connection("of_workers.json", "tallyfy_of_workers", FIRST_TOKEN)
        stack.enter_context(airflow)
        yield deployment


def _backend(setting: str, file: Path) -> dict[str, str]:
    kwargs = json.dumps({"connections_file_path": str(file)})
    return {f"AIRFLOW__{setting}": BACKEND, f"AIRFLOW__{setting}_KWARGS": kwargs}


def test_connections_come_from_secrets_backends_and_tokens_are_rotated_under_waits(
    deployment: Deployment,
) -> None:
    sandbox = deployment.sandbox
    waits = [deployment.wait_in(f"wait_{conn_id}") for conn_id in ("tallyfy_of_all", "tallyfy_of_workers")]
    for _, _, dag_run in waits:
        dag_run.wait_for_task("wait", "deferred")

    deployment.grant(NEXT_TOKEN)
    deployment.write_connection("of_all.json", "tallyfy_of_all", NEXT_TOKEN)
    deployment.write_connection("of_workers.json", "tallyfy_of_workers", NEXT_TOKEN)
    deployment.revoke(FIRST_TOKEN)
    assert _status_with(sandbox, FIRST_TOKEN) == 401
    deployment.airflow.kill("scheduler")  # a wait does not need it until it ends
    following = {run_id: sandbox.complete_next(run_id) for run_id, _, _ in waits}
    deployment.airflow.start("scheduler")

    for run_id, first_id, dag_run in waits:
        assert dag_run.wait_for_task("wait", "success")["try_number"] == 1
        result = dag_run.xcom("wait")
        assert (result["from_task_id"], result["next_task"]) == (first_id, following[run_id])
    assert _files_with(deployment, FIRST_TOKEN) == _files_with(deployment, NEXT_TOKEN) == []


def test_wait_in_the_triggerer_survives_a_restart_and_the_deletion_of_xcoms(deployment: Deployment) -> None:
    """Clearing an upstream task deletes its XComs; after a restart, Airflow renders the arguments again."""
    run_id, first_id, dag_run = deployment.wait_in("wait_in_triggerer")
    dag_run.wait_for_task("wait", "deferred")
    with closing(sqlite3.connect(deployment.airflow.home / "airflow.db", timeout=60)) as database:
        of_dag_run = f"dag_id = 'wait_in_triggerer' AND run_id = '{dag_run.dag_run_id}'"

        def keys() -> set[str]:
            return {key for (key,) in deployment.rows(f"SELECT key FROM xcom WHERE {of_dag_run}")}  # noqa: S608

        wait_until(lambda: "tallyfy_rendered" in keys(), TIMEOUT, "the arguments to be saved")
        deployment.airflow.kill("triggerer")
        with database:
            database.execute(f"DELETE FROM xcom WHERE {of_dag_run} AND task_id = 'read_run'")  # noqa: S608
    following = deployment.sandbox.complete_next(run_id)
    deployment.airflow.start("triggerer")

    instance = dag_run.wait_for_task("wait", "success")
    assert (instance["try_number"], instance["pid"]) == (1, None)
    result = dag_run.xcom("wait")
    assert (result["from_task_id"], result["next_task"]) == (first_id, following)


def test_deferred_wait_ends_in_the_code_that_was_deployed_meanwhile(deployment: Deployment) -> None:
    run_id, first_id, dag_run = deployment.wait_in("changing")
    dag_run.wait_for_task("wait", "deferred")

    file = deployment.dags / "changing.py"
    code = file.read_text()
    for old, new in {
        'CODE = "first"': 'CODE = "second"',
        'RUN_ID = "{{ params.run_id }}"': f'RUN_ID = "{SEEDED_RUN_ID}"',
        "POKE_INTERVAL = 2": "POKE_INTERVAL = 3600",
    }.items():
        assert old in code
        code = code.replace(old, new)
    file.write_text(code)
    deployment.airflow.api.wait_for(
        lambda: deployment.airflow.api.request("GET", "/dags/changing/dagVersions")["total_entries"] == 2,
        TIMEOUT,
        "the second version of the DAG",
    )
    following = deployment.sandbox.complete_next(run_id)

    assert dag_run.wait_for_task("wait", "success")["try_number"] == 1
    result = dag_run.xcom("wait")
    assert result["code"] == "second"
    # The run and the poke interval stay as they were when the wait began.
    assert (result["run_id"], result["from_task_id"]) == (run_id, first_id)
    assert result["next_task"] == following


def _status_with(sandbox: SandboxClient, token: str) -> int:
    url = f"{sandbox.url}/api/organizations/{ORGANIZATION}/runs"
    headers = {"Authorization": f"Bearer {token}", "X-Tallyfy-Client": "APIClient"}
    return requests.get(url, headers=headers, timeout=10).status_code


def _files_with(deployment: Deployment, token: str) -> list[Path]:
    """Return the files of Airflow's home that hold a token: logs, and the database."""
    files = [path for path in deployment.airflow.home.rglob("*") if path.is_file()]
    return [path for path in files if token.encode() in path.read_bytes()]
