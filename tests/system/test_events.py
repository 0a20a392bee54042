"""A real Airflow starts each DAG once for an event in Tallyfy, also if a triggerer dies."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_tallyfy.events.cursor import hash_of
from airflow_provider_tallyfy.events.kinds import EVENTS
from airflow_provider_tallyfy.sandbox.seeds import INCIDENT_CHECKLIST_ID
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from dev.airflow_api import DagRun
from dev.backends import ProductionBackend
from dev.processes import TIMEOUT, wait_until
from dev.real_airflow import RealAirflow
from dev.sandbox import running_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.sandbox import SandboxClient

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="the state of assets came with Airflow 3.3"),
]

EXAMPLES = [*Path(__file__).parents[2].glob("example_dags/events/*.py")]
EACH_EVENT = Path(__file__).parent / "event_dags" / "each_event.py"
COMPLETED = ("tallyfy_process_completed", "completed_processes")
APPROVED = ("tallyfy_request_approved", "approved_requests")
KILLS = 3
LAG = 20.0  # seconds, in which there are two polls


class WatchedSandbox:
    """A sandbox, and an Airflow whose watchers have started."""

    def __init__(self, airflow: RealAirflow, sandbox: SandboxClient) -> None:
        self.airflow = airflow
        self.sandbox = sandbox
        #: DAGs, each with a process that may start it only once.
        self.once: list[tuple[str, str]] = []

    def prepare(self) -> None:
        """Start the processes in which something happens later."""
        self.incident = self.launch_incident("Incident to reopen")
        self.sandbox.complete_next(self.incident)
        self.old_incident = self.launch_incident("Incident to archive")

    def until_watched(self) -> None:
        """Wait until the watchers have started; what happens in Tallyfy later is an event."""
        wait_until(lambda: len(self.cursors()) == 2 + len(EVENTS), TIMEOUT, "the watchers to start")

    def launch_incident(self, name: str) -> str:
        [pipeline] = [
            field["id"]
            for field in self.sandbox.request("GET", f"/checklists/{INCIDENT_CHECKLIST_ID}")["prerun"]
            if field["required"]
        ]
        body = {"checklist_id": INCIDENT_CHECKLIST_ID, "name": name, "prerun": {pipeline: "Sales"}}
        return str(self.sandbox.request("POST", "/runs", json=body)["id"])

    def cursors(self) -> list[dict[str, Any]]:
        return [json.loads(value) for (value,) in self.airflow.rows("SELECT value FROM asset_state_store")]

    def completed(self, name: str) -> str:
        """Launch and complete a process, and return its id."""
        run_id = self.sandbox.launch(name)
        while self.sandbox.next_task(run_id):
            self.sandbox.complete_next(run_id)
        return run_id

    def dag_runs(self, dag_id: str) -> list[DagRun]:
        query = f"SELECT run_id, state FROM dag_run WHERE dag_id = '{dag_id}'"  # noqa: S608
        rows = self.airflow.rows(query)
        assert {state for _, state in rows} <= {"queued", "running", "success"}
        return [DagRun(self.airflow.api, dag_id, run_id) for run_id, state in rows if state == "success"]

    def received(self, dag: tuple[str, str]) -> list[dict[str, Any]]:
        """Return the events that successful DAG runs received, without those that a DAG run dropped."""
        dag_id, task_id = dag
        return [payload for dag_run in self.dag_runs(dag_id) for payload in dag_run.xcom(task_id)]

    def starts(self, dag_id: str, run_id: str) -> Counter[str]:
        """Return how often successful DAG runs received an event of a process, by the event's id."""
        self.airflow.check()
        query = (
            "SELECT asset_event.extra, dag_run.dag_id FROM dag_run"
            " JOIN dagrun_asset_event ON dagrun_asset_event.dag_run_id = dag_run.id"
            " JOIN asset_event ON asset_event.id = dagrun_asset_event.event_id"
            " WHERE dag_run.state = 'success'"
        )
        payloads = [_payload(extra) for extra, started in self.airflow.rows(query) if started == dag_id]
        return Counter(payload["event_id"] for payload in payloads if payload["run"]["id"] == run_id)

    def until_polled(self, times: int = 1, of: str = "/activity-feeds") -> None:
        """Wait for a number of polls of the feed, or of the list of runs."""

        def polls() -> int:
            routes = self.sandbox.control("GET", "/stats")["routes"]
            return sum(each["count"] for each in routes if each["path"].endswith(of))

        enough = polls() + times
        wait_until(lambda: polls() >= enough, TIMEOUT, f"{times} requests for {of}")

    def until_received(self, dag: tuple[str, str], runs: set[str]) -> list[dict[str, Any]]:
        """Wait until DAG runs received events of these processes, and return these events."""

        def of_these() -> list[dict[str, Any]] | None:
            self.airflow.check()
            payloads = [payload for payload in self.received(dag) if payload["run"]["id"] in runs]
            return payloads if {payload["run"]["id"] for payload in payloads} == runs else None

        return wait_until(of_these, TIMEOUT, f"{len(runs)} processes to start {dag[0]}", interval=0.5)


def _payload(extra: Any) -> dict[str, Any]:
    payload: dict[str, Any] = (extra if isinstance(extra, dict) else json.loads(extra))["payload"]
    return payload


@pytest.fixture(scope="module")
def watched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WatchedSandbox]:
    dags = tmp_path_factory.mktemp("dags")
    for path in (*EXAMPLES, EACH_EVENT):
        shutil.copy(path, dags)
    shape: dict[str, Any] = {}
    if request.config.getoption("production"):
        shape = {"backend": ProductionBackend(), "triggerers": 2}
    with running_sandbox() as sandbox:
        environment = {
            "AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection(),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            # Another triggerer takes the watchers of one that was killed after three heartbeats.
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "6",
            # On a busy machine, SQLite refuses a write now and then.
            "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "3",
            "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
        }
        airflow = RealAirflow(dags, environment=environment, **shape)
        watched = WatchedSandbox(airflow, sandbox)
        watched.prepare()
        with airflow:
            watched.until_watched()
            yield watched
            # As late as possible, since an event may be repeated at any later poll.
            for dag_id, run_id in watched.once:
                assert [*watched.starts(dag_id, run_id).values()] == [1], dag_id


def test_each_event_starts_its_dag_once(watched):
    users = watched.sandbox
    completed = watched.completed("A name in no log")
    to_reopen = next(task for task in users.tasks(watched.incident) if task["completed_at"])
    wait_until(
        lambda: any(hash_of(to_reopen["id"]) in cursor["completed"] for cursor in watched.cursors()),
        TIMEOUT,
        "the completion to be saved before it is undone",
    )
    users.request("DELETE", f"/runs/{watched.incident}/completed-tasks/{to_reopen['id']}")
    new = watched.launch_incident("Incident")
    path = f"/tasks/{users.tasks(new)[0]['id']}"
    users.request("POST", f"{path}/comment", json={"content": "Is it the disk?", "state": "open"})
    issue = users.request("POST", f"{path}/problem", json={"content": "No access"})
    users.request("POST", f"{path}/resolved-threads", json={"content": "Granted", "thread_id": issue["id"]})
    users.complete_next(new)
    users.complete_next(new)
    users.archive(watched.old_incident)

    subjects = dict.fromkeys(EVENTS, new)
    subjects |= {"task.reopened": watched.incident, "process.archived": watched.old_incident}
    for event, run_id in subjects.items():
        wait_until(lambda: watched.starts(event, run_id), TIMEOUT, f"{event} to start its DAG")  # noqa: B023
        [event_id] = watched.starts(event, run_id)
        assert event_id.startswith(f"{event}/")
        assert len(watched.dag_runs(event)) == 1
    watched.once += subjects.items()

    [payload] = watched.until_received(COMPLETED, {completed})
    assert (payload["event"], payload["run"]["name"]) == ("process.completed", "A name in no log")
    [approval] = watched.until_received(APPROVED, {completed})
    assert approval["task"]["is_approved"] is True
    assert approval["task"]["form_values"]

    log = "".join(path.read_text() for path in watched.airflow.logs.glob("triggerer*.log"))
    assert "process.completed/" in log
    for secret in ("A name in no log", "Looks good to me.", "sandbox-token"):
        assert secret not in log


def test_killed_triggerers_and_a_feed_that_lags_lose_and_repeat_no_event(watched):
    """With each triggerer a sweep begins, which finds processes before the feed names them."""
    watched.sandbox.control("POST", "/activity", {"delay": LAG})
    try:
        runs = set()
        for number in range(KILLS):
            runs |= {watched.completed(f"Before kill {number}.{each}") for each in range(3)}
            time.sleep(4 * number)  # before, in and after the poll
            watched.airflow.kill("triggerer")
            found_by_sweep = {watched.completed(f"After kill {number}.{each}") for each in range(3)}
            runs |= found_by_sweep
            watched.airflow.start("triggerer")
        watched.until_received(COMPLETED, runs)
        named_by_feed = watched.completed("Named by the feed")
        watched.until_received(COMPLETED, {named_by_feed})
        watched.until_polled()  # since the feed names all of them
    finally:
        watched.sandbox.control("POST", "/activity", {})
    # An event may be fired again after a kill, with the same id, which the DAG run drops.
    assert {len(watched.starts(COMPLETED[0], run_id)) for run_id in runs} == {1}
    watched.once += [(COMPLETED[0], run_id) for run_id in (*found_by_sweep, named_by_feed)]


def test_outage_then_a_forbidden_feed_and_two_hundred_completions(watched):
    """Each is one asset event."""
    # They have a mapped task for each event. A third DAG needs the watcher.
    for dag_id, _ in (COMPLETED, APPROVED):
        watched.airflow.api.pause(dag_id)

    def stored() -> Counter[str]:
        payloads = [_payload(extra) for (extra,) in watched.airflow.rows("SELECT extra FROM asset_event")]
        return Counter(each["run"]["id"] for each in payloads if each["event"] == "process.completed")

    faults = watched.sandbox.control
    faults("POST", "/faults", [{"path": "/api", "action": "drop", "times": None}])
    try:
        runs = {watched.completed(f"Many {number}") for number in range(200)}
        wait_until(
            lambda: faults("GET", "/faults")["data"][0]["applied"] >= 2,
            TIMEOUT,
            "polls to fail",
            interval=1.0,
        )
        assert not runs & stored().keys()
        faults("DELETE", "/faults")
        fault = {"path": "/activity-feeds", "action": "status", "status": 403, "times": None}
        faults("POST", "/faults", [{**fault, "body": {"message": "This action is unauthorized."}}])
        wait_until(lambda: runs <= stored().keys(), TIMEOUT, "all events to be stored")
        watched.until_polled(2, of="/runs")
        assert {count for run_id, count in stored().items() if run_id in runs} == {1}
    finally:
        faults("DELETE", "/faults")
