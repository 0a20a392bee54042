"""
A launch happens once, shown by faults: in each case one process exists afterwards, and the operator returns it.

A minute of certainty takes a second here, and no longer than that does a server take that answers late.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.actions import attempts, launching
from airflow_provider_tallyfy.exceptions import (
    TallyfyConnectionError,
    TallyfyIndeterminateError,
    TallyfyNotFoundError,
    TallyfyRateLimitError,
)
from airflow_provider_tallyfy.hooks import transport
from airflow_provider_tallyfy.operators import tallyfy as operators
from airflow_provider_tallyfy.operators.tallyfy import TallyfyLaunchRunOperator
from airflow_provider_tallyfy.sandbox.seeds import ONBOARDING_CHECKLIST_ID, RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.waiting import worker
from dev.sandbox import SandboxClient
from tests.unit.conftest import TaskInstance, TaskStateStore

RUNS = "/runs$"
WINDOW = 1.0


@pytest.fixture(autouse=True)
def _soon_certain(monkeypatch):
    monkeypatch.setattr(attempts, "INDETERMINATE_WINDOW", WINDOW)
    monkeypatch.setattr(attempts, "_WINDOW_PAUSES", (0.05, *(0.1,) * 20))
    monkeypatch.setattr(attempts, "READ_LAG_PAUSES", (0.1, 0.2))
    monkeypatch.setattr(launching, "_PAUSES_UNTIL_GONE", (0.1, 0.2))
    monkeypatch.setattr(transport.random, "uniform", lambda *_: 0)


@pytest.fixture(params=["3.3", "before 3.3"])
def keeps_state(request, monkeypatch):
    """Whether there is a task state store; older versions of Airflow have none."""
    is_kept = request.param == "3.3"
    monkeypatch.setattr(version_compat, "AIRFLOW_V_3_3_PLUS", is_kept)
    monkeypatch.setattr(attempts, "never_expire", lambda: None)
    return is_kept


class Airflow:
    """One task instance, of which there can be several tries."""

    def __init__(self, map_index=-1, run_id="manual__1", run_after=None):
        self.store = TaskStateStore()
        self.tries = 0
        self.map_index = map_index
        self.run_id = run_id
        began = run_after or datetime.now(UTC)
        self.dag_run = SimpleNamespace(run_after=began, start_date=began, clear_number=0)

    def context(self):
        """The context of the next try."""
        self.tries += 1
        ti = TaskInstance()
        ti.dag_id, ti.run_id, ti.task_id = "release", self.run_id, "launch"
        ti.map_index, ti.try_number = self.map_index, self.tries
        return {"ti": ti, "dag_run": self.dag_run, "task_state_store": self.store}

    def run(self, **arguments):
        """Execute the operator once, in a try of its own."""
        return operator(**arguments).execute(self.context())


@pytest.fixture
def airflow(keeps_state):
    return Airflow()


def operator(**arguments):
    return TallyfyLaunchRunOperator(
        **{"task_id": "launch", "checklist_id": RELEASE_CHECKLIST_ID, "name": "Release 3", **arguments}
    )


def fault(sandbox, action, **more):
    answer = requests.post(
        f"{sandbox.url}/_sandbox/faults",
        json=[{"action": action, "method": "POST", "path": RUNS, **more}],
        timeout=10,
    )
    assert answer.status_code == 200, answer.text


def request_count(sandbox, method="POST"):
    shown = requests.get(f"{sandbox.url}/_sandbox/stats", timeout=10).json()
    path = "/api/organizations/sandbox/runs"
    return sum(row["count"] for row in shown["requests"] if (row["method"], row["path"]) == (method, path))


def launched(sandbox, name="Release 3"):
    return sandbox.change(lambda store: [run.id for run in store.runs.values() if run.name == name])


def archive(sandbox, run, for_good=""):
    url = f"{sandbox.base_url}/organizations/sandbox/runs/{run['id']}{for_good}"
    assert requests.delete(url, headers=sandbox.headers, timeout=10).ok


def the_only(sandbox, run):
    assert launched(sandbox) == [run["id"]]
    return True


class TestLag:
    """Reads that show a state which is some seconds old."""

    @pytest.fixture
    def people(self, sandbox):
        return SandboxClient(sandbox.url)

    def test_run_is_returned_before_reads_show_it(self, sandbox, airflow, people):
        people.behave(run_lag=60, list_lag=60)
        run = airflow.run(kickoff={"Version": "3.0"})
        assert the_only(sandbox, run)
        assert (run["name"], run["status"], "next_task" in run) == ("Release 3", "active", False)

    def test_lagging_run_is_waited_for(self, sandbox, airflow, people, monkeypatch):
        people.behave(run_lag=20)
        pauses = []

        def pause(seconds):
            pauses.append(seconds)
            assert len(pauses) < 100
            if len(pauses) <= 3:
                people.complete_next(launched(sandbox)[0])
            people.advance_clock(seconds)

        monkeypatch.setattr(
            operators,
            "time",
            SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=pause),
        )
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=people.advance_clock)
        monkeypatch.setattr(worker, "time", clock)
        run = airflow.run(wait_for_completion=True, poke_interval=60, timeout=600)
        assert (run["status"], the_only(sandbox, run)) == ("complete", True)

    def test_lagging_list_after_a_launch_without_answer(self, sandbox, airflow, people):
        people.behave(run_lag=0.5, list_lag=0.5)
        fault(sandbox, "apply_then_drop")
        assert the_only(sandbox, airflow.run())

    def test_retry_that_follows_at_once(self, sandbox, airflow, people):
        run = airflow.run()
        people.behave(list_lag=0.5, run_lag=0.5)
        airflow.store = TaskStateStore()
        people.behave(list_lag=0.7)
        assert airflow.run()["id"] == run["id"]
        assert the_only(sandbox, run)


ANSWERED_BADLY = [
    pytest.param("apply_then_drop", {}, id="it is applied, then the connection breaks off"),
    pytest.param("apply_then_status", {"status": 500}, id="it is applied, then answered with 500"),
    pytest.param("apply_then_status", {"status": 502, "body": "<html>"}, id="a proxy answers for it"),
    pytest.param("apply_then_status", {"status": 201, "body": {"data": {}}}, id="the answer has no id"),
    pytest.param("truncate", {}, id="the answer breaks off"),
]
NOT_APPLIED = [
    pytest.param("drop", {}, id="the connection breaks off before"),
    pytest.param("status", {"status": 503}, id="503"),
    pytest.param("malformed", {}, id="a proxy's page with 200"),
]


class TestOneAttempt:
    def test_returns_the_run_with_its_next_task(self, sandbox, airflow):
        context = airflow.context()
        run = operator(kickoff={"Version": "3.0"}, summary="Ask Ada.").execute(context)
        assert the_only(sandbox, run)
        assert run["next_task"]["title"] == "Prepare release notes"
        assert list(run["prerun"].values()) == ["3.0"]
        assert run["summary"].startswith(
            "Ask Ada.\n\nLaunched by Airflow: DAG release, task launch, run manual__1 ("
        )
        assert context["ti"].xcoms["tallyfy_run_url"].endswith(f"/sandbox/processes/{run['id']}")
        assert request_count(sandbox, "GET") == 0, "a first try searches nothing"

    def test_waits_for_completion_in_a_worker(self, sandbox, airflow, monkeypatch):
        people = SandboxClient(sandbox.url)

        def meanwhile(_):
            people.complete_next(launched(sandbox)[0])

        monkeypatch.setattr(
            operators,
            "time",
            SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=meanwhile),
        )
        run = airflow.run(wait_for_completion=True, poke_interval=timedelta(seconds=1))
        assert the_only(sandbox, run)
        assert run["status"] == "complete"

    def test_polls_a_last_time_at_the_timeout(self, sandbox, airflow, monkeypatch):
        now, pauses = [1000.0], []

        def pause(seconds):
            pauses.append(seconds)
            now[0] += seconds

        monkeypatch.setattr(
            operators,
            "time",
            SimpleNamespace(time=lambda: now[0], monotonic=lambda: now[0], sleep=pause),
        )
        with pytest.raises(AirflowSensorTimeout, match="was not complete after 150 seconds"):
            airflow.run(wait_for_completion=True, poke_interval=60, timeout=150)
        assert pauses == [60, 60, 30]
        (run_id,) = launched(sandbox)
        shown = requests.get(f"{sandbox.url}/_sandbox/stats", timeout=10).json()["requests"]
        assert sum(row["count"] for row in shown if row["path"].endswith(f"/runs/{run_id}")) == 4

    def test_waits_in_the_triggerer_and_a_retry_for_the_same_run(self, sandbox, airflow):
        for _ in range(2):
            with pytest.raises(TaskDeferred) as deferral:
                airflow.run(wait_for_completion=True, deferrable=True, timeout=3600)
            (run_id,) = launched(sandbox)
            _, arguments = deferral.value.trigger.serialize()
            assert (arguments["run_id"], list(arguments["target_statuses"])) == (run_id, ["complete"])
        event = {"outcome": "met", "result": {"id": run_id, "status": "complete"}}
        waiting = operator(wait_for_completion=True, deferrable=True)
        resumed = waiting.resume_execution(deferral.value.method_name, {"event": event}, airflow.context())
        assert resumed == event["result"]

    @pytest.mark.parametrize(("action", "more"), ANSWERED_BADLY)
    def test_applied_launch_is_found(self, sandbox, airflow, action, more):
        fault(sandbox, action, **more)
        assert the_only(sandbox, airflow.run())
        assert request_count(sandbox) == 1

    @pytest.mark.parametrize(("action", "more"), NOT_APPLIED)
    def test_launch_that_was_not_applied_is_sent_again(self, sandbox, airflow, action, more):
        fault(sandbox, action, **more)
        before = datetime.now(UTC)
        assert the_only(sandbox, airflow.run())
        assert datetime.now(UTC) - before > timedelta(seconds=WINDOW)
        assert request_count(sandbox) == 2
        assert request_count(sandbox, "GET") >= 4, "two lists are searched, more than once"

    def test_launch_applied_after_the_time_out_is_found(self, sandbox, airflow, monkeypatch):
        described = json.loads(os.environ["AIRFLOW_CONN_TALLYFY_DEFAULT"])
        described["extra"]["timeout"] = 0.2
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(described))
        fault(sandbox, "delay", delay=0.7)
        assert the_only(sandbox, airflow.run())
        time.sleep(0.3)
        assert (request_count(sandbox), len(launched(sandbox))) == (1, 1)

    def test_hook_repeats_a_launch_after_429(self, sandbox, airflow):
        fault(sandbox, "status", status=429, headers={"Retry-After": "0"}, times=3)
        assert the_only(sandbox, airflow.run())
        assert request_count(sandbox, "GET") == 0

    def test_launch_is_sent_twice_at_most(self, sandbox, airflow):
        fault(sandbox, "drop", times=None)
        with pytest.raises(TallyfyIndeterminateError):
            airflow.run()
        assert request_count(sandbox) == launching.MAX_SENDS == 2
        requests.delete(f"{sandbox.url}/_sandbox/faults", timeout=10)
        assert the_only(sandbox, airflow.run())

    def test_launch_is_not_sent_again_if_the_search_fails(self, sandbox, airflow, monkeypatch):
        monkeypatch.setattr(transport, "DEFAULT_RETRIES", 0)
        faults = [
            {"action": "apply_then_drop", "method": "POST", "path": RUNS},
            {"action": "drop", "method": "GET", "path": r"/runs\?", "times": 5},
        ]
        requests.post(f"{sandbox.url}/_sandbox/faults", json=faults, timeout=10)
        monkeypatch.setattr(transport.time, "sleep", lambda _: None)
        with pytest.raises(TallyfyConnectionError) as error:
            airflow.run()
        assert isinstance(error.value.__context__, TallyfyIndeterminateError)
        assert request_count(sandbox) == 1
        assert the_only(sandbox, airflow.run())

    def test_run_is_found_behind_many_newer_ones(self, sandbox, airflow):
        run = airflow.run()
        requests.post(f"{sandbox.url}/_sandbox/runs", json={"count": 230, "name": "Newer"}, timeout=30)
        airflow.store = TaskStateStore()
        assert airflow.run()["id"] == run["id"]
        assert the_only(sandbox, run)

    def test_execute_without_task_instance(self, sandbox):
        fault(sandbox, "apply_then_drop")
        assert the_only(sandbox, operator().execute({}))


class TestLaterTries:
    def test_retry_after_success_returns_the_same_run(self, sandbox, airflow):
        run = airflow.run()
        again = airflow.run(kickoff={"Version": "another"})
        assert again == {**run, "last_updated": again["last_updated"]}
        assert the_only(sandbox, again)

    def test_cleared_task_finds_its_run_without_state(self, sandbox, airflow):
        run = airflow.run()
        airflow.store = TaskStateStore()  # [state_store] clear_on_success
        assert airflow.run()["id"] == run["id"]
        assert the_only(sandbox, run)

    def test_archived_run_counts_as_launched(self, sandbox, airflow):
        run = airflow.run()
        requests.delete(
            f"{sandbox.base_url}/organizations/sandbox/runs/{run['id']}", headers=sandbox.headers, timeout=10
        )
        airflow.store = TaskStateStore()
        again = airflow.run()
        assert (again["id"], again["status"]) == (run["id"], "archived")
        assert the_only(sandbox, again)

    def test_retry_of_a_try_that_sent_nothing(self, sandbox, airflow, keeps_state):
        with pytest.raises(AirflowFailException):
            airflow.run(kickoff={"No such field": 1})
        before = datetime.now(UTC)
        assert the_only(sandbox, airflow.run())
        waited = datetime.now(UTC) - before > timedelta(seconds=WINDOW)
        assert waited is not keeps_state, "without a store it is possible that something was sent just now"

    def test_retry_after_a_declined_launch_does_not_wait(self, sandbox, airflow, keeps_state):
        fault(sandbox, "status", status=429, headers={"Retry-After": "0"}, times=5)
        with pytest.raises(TallyfyRateLimitError):
            airflow.run()
        before = datetime.now(UTC)
        assert the_only(sandbox, airflow.run())
        assert (datetime.now(UTC) - before > timedelta(seconds=WINDOW)) is not keeps_state

    @pytest.mark.parametrize("cleared", [0, 1])
    def test_dag_run_deleted_and_created_again(self, sandbox, airflow, cleared):
        run = airflow.run()
        again = Airflow()
        again.dag_run.clear_number = cleared
        again.tries = 1
        other = again.run()
        assert launched(sandbox) == [run["id"], other["id"]]
        assert again.run()["id"] == other["id"]

    def test_long_summary(self, sandbox, airflow):
        run = airflow.run(summary="Ask Ada. " * 20_000)
        assert run["summary"].startswith("Ask Ada. Ask Ada. ")
        airflow.store = TaskStateStore()
        assert airflow.run()["id"] == run["id"]
        assert the_only(sandbox, run)

    def test_another_template_is_another_launch(self, sandbox, airflow):
        run = airflow.run()
        kickoff = {"Customer name": "Globex", "Contact email": "a@b.example", "Region": "Europe"}
        other = airflow.run(checklist_id=ONBOARDING_CHECKLIST_ID, kickoff=kickoff)
        assert launched(sandbox) == [run["id"], other["id"]]

    def test_deleted_run_of_an_earlier_try(self, sandbox, monkeypatch):
        monkeypatch.setattr(version_compat, "AIRFLOW_V_3_3_PLUS", True)
        monkeypatch.setattr(attempts, "never_expire", lambda: None)
        airflow = Airflow()
        run = airflow.run()
        archive(sandbox, run)
        archive(sandbox, run, for_good="/delete")
        with pytest.raises(TallyfyNotFoundError, match=run["id"]):
            airflow.run()
        assert launched(sandbox) == []

    def test_relaunch_launches_one_run_at_each_try(self, sandbox, airflow):
        fault(sandbox, "apply_then_drop", times=2)
        first, second = (airflow.run(on_retry="relaunch") for _ in range(2))
        assert launched(sandbox) == [first["id"], second["id"]]
        assert "try 1" in first["summary"]
        assert "try 2" in second["summary"]

    def test_each_row_of_a_mapped_task_is_launched_once(self, sandbox, keeps_state):
        """A hundred of them; some answers break off, and then every row is retried."""
        fault(sandbox, "apply_then_drop", times=10, after=5)
        rows = [Airflow(map_index=number) for number in range(100)]

        def run(row):
            return row.run(kickoff={"Version": str(row.map_index)})["id"]

        first = list(map(run, rows))
        second = list(map(run, rows))
        assert first == second
        assert sorted(launched(sandbox)) == sorted(first)
        versions = sandbox.change(lambda store: [[*store.runs[run_id].prerun.values()] for run_id in first])
        assert versions == [[str(number)] for number in range(100)]


WORKER = """
import json, os, signal, sys
from datetime import datetime
from types import SimpleNamespace
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.operators.tallyfy import TallyfyLaunchRunOperator

checklist_id, when, kept_in, began = sys.argv[1:]
began = datetime.fromisoformat(began)
launch_run = TallyfyHook.launch_run

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def launch_and_die(self, *args, **values):
    if when == "before":
        die()
    launch_run(self, *args, **values)
    die()

class Store:
    def get(self, key, default=None):
        return default
    def set(self, key, value, retention=None):
        with open(kept_in, "w") as file:
            json.dump({key: value}, file)

TallyfyHook.launch_run = launch_and_die
ti = SimpleNamespace(dag_id="release", run_id="manual__1", task_id="launch", map_index=-1, try_number=1)
ti.xcom_push = lambda **_: None
context = {"ti": ti}
context |= {"dag_run": SimpleNamespace(run_after=began, start_date=began, clear_number=0), "task_state_store": Store()}
TallyfyLaunchRunOperator(task_id="launch", checklist_id=checklist_id, name="Release 3").execute(context)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_worker_killed_around_the_request(sandbox, keeps_state, when, tmp_path):
    kept_in = tmp_path / "state.json"
    airflow = Airflow()
    began = airflow.dag_run.start_date.isoformat()
    worker = subprocess.run(
        [sys.executable, "-c", WORKER, RELEASE_CHECKLIST_ID, when, str(kept_in), began],
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert worker.returncode == -signal.SIGKILL, worker.stderr
    assert len(launched(sandbox)) == (when == "after")

    airflow.tries = 1
    if kept_in.exists():
        airflow.store.kept = json.loads(kept_in.read_text())
    assert the_only(sandbox, airflow.run())
