"""The hook against the sandbox's real server: real sockets, and responses that break off. Pauses take no time."""

from __future__ import annotations

import json
import socket
import time
from types import SimpleNamespace

import pytest
import requests
from urllib3.connection import HTTPConnection

from airflow_provider_tallyfy.exceptions import (
    TallyfyAuthError,
    TallyfyConnectionError,
    TallyfyError,
    TallyfyIndeterminateError,
    TallyfyNotFoundError,
    TallyfyPermissionError,
    TallyfyRateLimitError,
    TallyfyResponseError,
    TallyfyServerError,
    TallyfyValidationError,
)
from airflow_provider_tallyfy.hooks import transport
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.protocol.people import encode_assignees
from airflow_provider_tallyfy.sandbox.seeds import (
    COMPLETE_RUN_ID,
    RELEASE_CHECKLIST_ID,
    SEEDED_RUN_ID,
)
from dev.sandbox import SandboxClient

APPLICATION = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}
RUN_PATH = f"/api/organizations/sandbox/runs/{SEEDED_RUN_ID}"


@pytest.fixture(params=["collection", "object"])
def either_sandbox(request, sandbox):
    SandboxClient(sandbox.url).behave(next_task=request.param)
    return sandbox


@pytest.fixture
def sandbox(server):
    server.reset()
    return server


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """The pauses that the hook would have made."""
    made = []
    monkeypatch.setattr(transport, "time", SimpleNamespace(monotonic=time.monotonic, sleep=made.append))
    return made


@pytest.fixture
def connect(monkeypatch):
    def connect(sandbox, extra=None, **fields):
        described = {
            "conn_type": "tallyfy",
            "host": sandbox.base_url,
            "login": "sandbox",
            "password": "sandbox-token",
            "extra": {"timeout": 10, **(extra or {})},
            **fields,
        }
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(described))
        return TallyfyHook()

    return connect


@pytest.fixture
def hook(connect, sandbox):
    hook = connect(sandbox)
    with hook.get_conn():
        yield hook


@pytest.fixture
def fault(sandbox):
    """Let requests go wrong."""

    def fault(action, **more):
        response = requests.post(
            f"{sandbox.url}/_sandbox/faults", json=[{"action": action, **more}], timeout=10
        )
        assert response.status_code == 200, response.text

    return fault


def count_requests(sandbox, method, path):
    """Return how many requests for a path arrived."""
    shown = requests.get(f"{sandbox.url}/_sandbox/stats", timeout=10).json()
    return sum(row["count"] for row in shown["requests"] if (row["method"], row["path"]) == (method, path))


def launched(sandbox, name):
    return sandbox.change(lambda store: sum(run.name == name for run in store.runs.values()))


class TestRuns:
    def test_run_from_first_to_last_task(self, either_sandbox, connect):
        hook = connect(either_sandbox)
        with hook.get_conn():
            run = hook.launch_run(RELEASE_CHECKLIST_ID, name="From first to last")
            seen = []
            for _ in range(20):
                task = hook.get_next_task(run["id"])
                if task is None:
                    break
                seen.append(task["id"])
                self.complete(hook, run["id"], task["id"])
            assert task is None
            assert len(seen) == len(set(seen)) > 1
            finished = hook.get_run(run["id"], with_="next_task,tasks")
            assert (finished["next_task"], finished["status"]) == (None, "complete")
            assert set(seen) <= {task["id"] for task in finished["tasks"]["data"]}

    @staticmethod
    def complete(hook, run_id, task_id):
        [task] = [t for t in hook.get_tasks(run_id, with_="form_fields") if t["id"] == task_id]
        taskdata = {field["id"]: "Done." for field in task["form_fields"]["data"] if field["required"]}
        if taskdata:
            hook.update_task(run_id, task_id, taskdata=taskdata)
        is_approved = True if task["task_type"] != "task" else None
        hook.complete_task(run_id, task_id, is_approved=is_approved)

    def test_run_is_unchanged_but_for_next_task(self, either_sandbox, connect):
        hook = connect(either_sandbox)
        with hook.get_conn():
            raw = hook.request("GET", f"runs/{SEEDED_RUN_ID}", params={"with": "next_task"})["data"]
            run = hook.get_run(SEEDED_RUN_ID)
            assert run["next_task"]["id"] in json.dumps(raw["next_task"])
            assert {**run, "next_task": None} == {**raw, "next_task": None}
            assert hook.get_run(COMPLETE_RUN_ID)["next_task"] is None

    def test_pages(self, hook, sandbox):
        requests.post(f"{sandbox.url}/_sandbox/runs", json={"count": 230, "name": "Many more"}, timeout=30)
        runs = list(hook.list_runs(q="Many more", with_=["next_task"]))
        assert len({run["id"] for run in runs}) == len(runs) == 230
        assert all(run["next_task"]["id"] for run in runs)
        assert count_requests(sandbox, "GET", "/api/organizations/sandbox/runs") == 3
        assert len(list(hook.list_runs(q="Many more", per_page=50))) == 230
        assert list(hook.list_runs(q="There is none of this name")) == []

    def test_complete_and_reopen(self, hook):
        task = hook.get_next_task(SEEDED_RUN_ID)
        TestRuns.complete(hook, SEEDED_RUN_ID, task["id"])
        assert hook.get_next_task(SEEDED_RUN_ID) != task
        with pytest.raises(TallyfyValidationError, match="Nothing was changed"):
            hook.complete_task(SEEDED_RUN_ID, task["id"])
        hook.request("DELETE", f"runs/{SEEDED_RUN_ID}/completed-tasks/{task['id']}")
        assert hook.get_next_task(SEEDED_RUN_ID)["id"] == task["id"]

    def test_not_found(self, hook):
        with pytest.raises(TallyfyNotFoundError) as error:
            hook.get_run("f" * 32)
        assert error.value.status == 404
        assert error.value.request_id in str(error.value)

    def test_parameters_are_quoted(self, hook):
        name = "100% of A&B + ünïcödé / #1?"
        run = hook.launch_run(RELEASE_CHECKLIST_ID, name=name)
        assert [found["id"] for found in hook.list_runs(q=name)] == [run["id"]]


def test_assignees_by_name_and_address(hook):
    people = ["Ada Okafor", "BEN@example.com\n", "grace@example.org\n"]
    found = encode_assignees(people, hook.get_directory())
    assert found == {"users": [1001, 1002], "guests": ["grace@example.org"], "groups": []}


class TestFaults:
    @pytest.mark.parametrize(
        ("action", "more", "error"),
        [
            ("drop", {}, TallyfyConnectionError),
            ("truncate", {}, TallyfyConnectionError),
            ("status", {"status": 503}, TallyfyServerError),
        ],
    )
    def test_read_is_retried(self, hook, sandbox, fault, pauses, action, more, error):
        fault(action, method="GET", times=4, **more)
        assert hook.get_run(SEEDED_RUN_ID)["id"] == SEEDED_RUN_ID
        assert (count_requests(sandbox, "GET", RUN_PATH), len(pauses)) == (5, 4)
        fault(action, method="GET", times=None, **more)
        with pytest.raises(error):
            hook.get_run(SEEDED_RUN_ID)
        assert count_requests(sandbox, "GET", RUN_PATH) == 10

    @pytest.mark.parametrize(
        ("action", "more", "was_applied"),
        [
            ("drop", {}, 0),
            ("apply_then_drop", {}, 1),
            ("truncate", {}, 1),
            ("malformed", {}, 0),
            ("status", {"status": 503}, 0),
            ("apply_then_status", {"status": 502}, 1),
        ],
    )
    def test_write_without_a_clear_response_is_sent_once(
        self, hook, sandbox, fault, pauses, action, more, was_applied
    ):
        fault(action, method="POST", **more)
        with pytest.raises(TallyfyIndeterminateError, match="may have been applied: check in Tallyfy"):
            hook.launch_run(RELEASE_CHECKLIST_ID, name="Once")
        assert count_requests(sandbox, "POST", "/api/organizations/sandbox/runs") == 1
        assert launched(sandbox, "Once") == was_applied
        assert pauses == []

    def test_page_of_a_proxy(self, hook, fault, pauses):
        fault("malformed", method="GET")
        with pytest.raises(TallyfyResponseError, match="the body is a page of HTML or XML") as error:
            hook.get_run(SEEDED_RUN_ID)
        assert "Bad gateway" not in str(error.value)
        assert pauses == []

    def test_too_many_requests(self, hook, sandbox, fault, pauses):
        fault("status", status=429, headers={"Retry-After": "7"}, times=2)
        hook.launch_run(RELEASE_CHECKLIST_ID, name="Once")
        assert launched(sandbox, "Once") == 1
        assert [int(pause) for pause in pauses] == [7, 7]
        fault("status", status=429, headers={"Retry-After": "7"}, times=None)
        with pytest.raises(TallyfyRateLimitError) as error:
            hook.launch_run(RELEASE_CHECKLIST_ID, name="Never")
        assert error.value.retry_after == 7
        assert launched(sandbox, "Never") == 0

    def test_slow_response_times_out(self, connect, sandbox, fault):
        hook = connect(sandbox, {"timeout": 0.1})
        fault("delay", delay=0.5, method="GET")
        with hook.get_conn():
            assert hook.get_run(SEEDED_RUN_ID)["id"] == SEEDED_RUN_ID
            assert count_requests(sandbox, "GET", RUN_PATH) == 2
            fault("delay", delay=0.5, method="POST")
            with pytest.raises(TallyfyIndeterminateError, match="timed out"):
                hook.launch_run(RELEASE_CHECKLIST_ID, name="Once")

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
    def test_refused_connection_is_no_indeterminate_error(self, connect, sandbox, method, pauses):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            hook = connect(sandbox, host=f"http://127.0.0.1:{closed.getsockname()[1]}/api")
        with hook.get_conn(), pytest.raises(TallyfyConnectionError, match="refused"):
            hook.request(method, "runs")
        assert len(pauses) == 4

    def test_host_without_tls(self, connect, sandbox):
        hook = connect(sandbox, host=f"https://127.0.0.1:{sandbox.port}/api")
        with hook.get_conn(), pytest.raises(TallyfyConnectionError, match="SSL"):
            hook.get_run(SEEDED_RUN_ID)

    def test_silent_host_times_out(self, connect, sandbox):
        """It takes the connection, and says nothing."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            host = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
            hook = connect(sandbox, {"timeout": 0.05}, host=host)
            with hook.get_conn():
                with pytest.raises(TallyfyConnectionError, match="timed out"):
                    hook.get_run("r1")
                with pytest.raises(TallyfyIndeterminateError):
                    hook.launch_run("c1")

    def test_revoked_token(self, hook, sandbox):
        hook.get_run(SEEDED_RUN_ID)
        requests.delete(f"{sandbox.url}/_sandbox/tokens", json={"token": "sandbox-token"}, timeout=10)
        with pytest.raises(TallyfyAuthError, match="Check the credentials of connection"):
            hook.get_run(SEEDED_RUN_ID)

    def test_connection_is_reused_after_an_empty_response(self, hook, fault, monkeypatch):
        fault("status", status=204, method="DELETE", body="")
        connected = []
        connect = HTTPConnection.connect

        def counted(connection):
            connected.append(connection)
            connect(connection)

        monkeypatch.setattr(HTTPConnection, "connect", counted)
        assert hook.request("DELETE", f"runs/{SEEDED_RUN_ID}") is None
        for _ in range(2):
            hook.get_run(SEEDED_RUN_ID)
        assert len(connected) == 1


class TestCredentials:
    def test_application_with_user_email(self, connect, sandbox):
        hook = connect(sandbox, {**APPLICATION, "user_email": "ben@example.com"}, password=None)
        with hook.get_conn():
            assert hook.request("GET", "/me")["data"]["email"] == "ben@example.com"
            assert hook.get_run(SEEDED_RUN_ID)["id"] == SEEDED_RUN_ID
            assert count_requests(sandbox, "POST", "/oauth/token") == 1
            assert hook.test_connection()[0]
        assert count_requests(sandbox, "POST", "/oauth/token") == 2  # the test requests its own token

    def test_application_without_user_email(self, connect, sandbox):
        hook = connect(sandbox, APPLICATION, password=None)
        with hook.get_conn(), pytest.raises(TallyfyPermissionError, match="needs a user's token"):
            hook.get_run(SEEDED_RUN_ID)

    def test_revoked_token_is_renewed(self, connect, sandbox):
        hook = connect(sandbox, {**APPLICATION, "user_email": "ben@example.com"}, password=None)
        with hook.get_conn():
            hook.get_run(SEEDED_RUN_ID)
            token = (
                hook.get_conn()
                .auth(requests.Request("GET", sandbox.base_url).prepare())
                .headers["Authorization"]
            )
            body = {"token": token.removeprefix("Bearer ")}
            requests.delete(f"{sandbox.url}/_sandbox/tokens", json=body, timeout=10)
            hook.launch_run(RELEASE_CHECKLIST_ID, name="Once")
        assert launched(sandbox, "Once") == 1
        assert count_requests(sandbox, "POST", "/oauth/token") == 2

    @pytest.mark.parametrize(
        ("change", "kind"),
        [
            ({"client_secret": "wrong-secret"}, TallyfyAuthError),
            ({"user_email": "unknown@example.com"}, TallyfyAuthError),
            ({"token_url": "{url}/there/is/nothing"}, TallyfyError),
        ],
    )
    def test_invalid_credentials(self, connect, sandbox, change, kind):
        change = {name: value.format(url=sandbox.url) for name, value in change.items()}
        hook = connect(sandbox, {**APPLICATION, **change}, password=None)
        with hook.get_conn(), pytest.raises(kind, match="token"):
            hook.get_run(SEEDED_RUN_ID)

    def test_token_request_is_retried(self, connect, sandbox, fault):
        hook = connect(sandbox, {**APPLICATION, "user_email": "ben@example.com"}, password=None)
        fault("drop", path="/oauth/token", times=2)
        fault("status", status=503, path="/applications/", times=1)
        with hook.get_conn():
            assert hook.get_run(SEEDED_RUN_ID)["id"] == SEEDED_RUN_ID


class TestTestConnection:
    def test_success(self, hook):
        assert hook.test_connection() == (True, "Connected to Tallyfy sandbox as Ada Okafor.")

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"password": "wrong"}, "GET /me returned 401: Unauthenticated."),
            ({"login": "other"}, "GET /organizations/other returned 403"),
            ({"host": "http://127.0.0.1:9/api"}, "refused"),
        ],
    )
    def test_failure(self, connect, sandbox, fields, said):
        hook = connect(sandbox, **fields)
        good, message = hook.test_connection()
        assert not good
        assert said in message
