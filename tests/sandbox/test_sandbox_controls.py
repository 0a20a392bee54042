from __future__ import annotations

import time

import pytest
import requests

from airflow_provider_tallyfy.sandbox.controls import normalized
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID, SEEDED_RUN_ID
from airflow_provider_tallyfy.sandbox.server import SandboxServer

RUN = f"/runs/{SEEDED_RUN_ID}"


def fault(client, action, **more):
    client.control("POST", "/faults", [{"action": action, **more}])


def launched(client):
    """How many runs of this name there are, read in a way that none of the faults here affects."""
    return len(
        client.sandbox.change(lambda store: [run for run in store.runs.values() if run.name == "Once"])
    )


def launch(client):
    return client.post("/runs", {"checklist_id": RELEASE_CHECKLIST_ID, "name": "Once"})


def test_without_the_option_there_are_no_controls():
    with SandboxServer(test_controls=False) as sandbox:
        for path in ("faults", "stats", "clock", "runs", "activity", "tokens", "behavior", "completions"):
            assert requests.get(f"{sandbox.url}/_sandbox/{path}", timeout=10).status_code == 404
            assert requests.post(f"{sandbox.url}/_sandbox/{path}", json=[], timeout=10).status_code == 404
        answer = requests.get(f"{sandbox.base_url}/me", headers=sandbox.headers, timeout=10)
        assert answer.status_code == 200


def test_a_status_with_headers_and_a_body(client):
    fault(client, "status", status=429, headers={"Retry-After": "7"}, body={"message": "Slow down."})
    refused = client.call("GET", RUN)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "7")
    assert refused.json() == {"message": "Slow down."}
    assert "X-Request-Id" in refused.headers
    assert client.call("GET", RUN).status_code == 200


def test_a_status_with_html(client):
    fault(client, "status", status=502, body="<html>Bad gateway</html>")
    refused = client.call("GET", RUN)
    assert (refused.status_code, refused.headers["Content-Type"]) == (502, "text/html")
    assert refused.text == "<html>Bad gateway</html>"


def test_times_and_after(client):
    fault(client, "status", times=2, after=1)
    assert [client.call("GET", RUN).status_code for _ in range(5)] == [200, 500, 500, 200, 200]
    [shown] = client.control("GET", "/faults")["data"]
    assert (shown["matched"], shown["applied"]) == (3, 2)


def test_a_fault_applies_until_it_is_removed(client):
    fault(client, "status", times=None)
    assert {client.call("GET", RUN).status_code for _ in range(5)} == {500}
    client.control("DELETE", "/faults")
    assert client.call("GET", RUN).status_code == 200


def test_a_fault_matches_method_and_path(client):
    fault(client, "status", method="PUT", path=r"/runs/[0-9a-f]+$", times=None)
    fault(client, "status", status=503, path=r"with=next_task", times=None)
    assert client.call("GET", RUN).status_code == 200
    assert client.put(RUN, {"summary": "x"}).status_code == 500
    assert client.put(f"{RUN}/activate").status_code == 200
    assert client.call("GET", f"{RUN}?with=next_task").status_code == 503


def test_the_first_fault_that_is_left_applies(client):
    faults = [{"action": "status", "status": status} for status in (500, 502, 503)]
    client.control("POST", "/faults", faults)
    assert [client.call("GET", RUN).status_code for _ in range(4)] == [500, 502, 503, 200]


def test_a_delay(client):
    fault(client, "delay", delay=0.3)
    answer = client.call("GET", RUN)
    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() >= 0.3


def test_a_delayed_request_is_applied_after_a_disconnect(client):
    fault(client, "delay", delay=0.3)
    with pytest.raises(requests.ReadTimeout):
        client.call("POST", "/runs", json={"checklist_id": RELEASE_CHECKLIST_ID, "name": "Once"}, timeout=0.1)
    assert launched(client) == 0
    time.sleep(0.4)
    assert launched(client) == 1


def test_drop(client):
    fault(client, "drop")
    with pytest.raises(requests.ConnectionError):
        launch(client)
    assert launched(client) == 0
    assert launch(client).status_code == 201


def test_apply_then_drop(client):
    fault(client, "apply_then_drop")
    with pytest.raises(requests.ConnectionError):
        launch(client)
    assert launched(client) == 1


def test_apply_then_status(client):
    fault(client, "apply_then_status", status=504)
    assert launch(client).status_code == 504
    assert launched(client) == 1


def test_truncate(client):
    fault(client, "truncate")
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        client.call("GET", RUN)
    assert client.call("GET", RUN).status_code == 200


def test_malformed(client):
    fault(client, "malformed")
    answer = client.call("GET", RUN)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize(
    "bad",
    [
        {"action": "explode"},
        {"action": "status", "path": "("},
        {"action": "status", "times": 0},
        {"action": "status", "status": 99},
        {"action": "delay"},
        {},
    ],
)
def test_refuses_an_invalid_fault(client, bad):
    answer = requests.post(f"{client.sandbox.url}/_sandbox/faults", json=[bad], timeout=10)
    assert answer.status_code == 422
    assert client.control("GET", "/faults")["data"] == []


def test_faults_apply_to_token_requests(sandbox, client):
    fault(client, "status", path="^/oauth/token$", status=503)
    assert requests.post(f"{sandbox.url}/oauth/token", data={}, timeout=10).status_code == 503


def test_statistics_count_by_path_and_by_its_shape(client):
    client.control("DELETE", "/stats")
    client.call("GET", RUN)
    client.call("GET", RUN, params={"with": "next_task"})
    client.call("GET", "/runs/none")
    client.put(RUN, {"summary": "x"})
    statistics = client.control("GET", "/stats")
    prefix = "/api/organizations/sandbox"
    assert statistics["total"] == 4
    assert statistics["requests"] == [
        {"method": "GET", "path": f"{prefix}{RUN}", "count": 2},
        {"method": "GET", "path": f"{prefix}/runs/none", "count": 1},
        {"method": "PUT", "path": f"{prefix}{RUN}", "count": 1},
    ]
    shape = "/api/organizations/{organization}/runs/{id}"
    assert {"method": "GET", "path": shape, "count": 2} in statistics["routes"]
    client.control("DELETE", "/stats")
    assert client.control("GET", "/stats") == {"total": 0, "requests": [], "routes": []}


def test_statistics_count_requests_with_faults(client):
    client.control("DELETE", "/stats")
    fault(client, "status")
    client.call("GET", RUN)
    assert client.control("GET", "/stats")["total"] == 1


def test_requests_of_the_page_are_not_counted_and_have_no_faults(client):
    client.control("DELETE", "/stats")
    fault(client, "status", times=None)
    page = client.call("GET", RUN, headers={"X-Tallyfy-Client": "SandboxPage"})
    assert page.status_code == 200
    assert requests.get(f"{client.sandbox.url}/_page/session", timeout=10).status_code == 200
    assert client.control("GET", "/stats")["total"] == 0


def test_the_shape_of_a_path():
    assert normalized(f"/api/organizations/x/runs/{'a' * 32}/tasks/{'b' * 32}") == (
        "/api/organizations/{organization}/runs/{id}/tasks/{id}"
    )
    assert normalized("/api/applications/x/users/a@b.example/token") == "/api/applications/x/users/{id}/token"
    assert normalized("/api/organizations/x/users/1001") == "/api/organizations/{organization}/users/{id}"


def test_the_clock_runs_on_after_it_was_moved(client):
    assert abs(client.control("GET", "/clock")["offset_seconds"]) < 1
    assert round(client.control("POST", "/clock", {"advance": 90})["offset_seconds"]) == 90
    assert client.control("POST", "/clock", {"set": "2030-01-02T03:04:05Z"})["now"].startswith(
        "2030-01-02T03:04:05"
    )
    assert client.launch()["created_at"].startswith("2030-01-02T03:04:")


@pytest.mark.parametrize(
    "bad", [{}, {"advance": 1, "set": "2030-01-01"}, {"set": "soon"}, {"advance": "long"}]
)
def test_refuses_advance_with_set(client, bad):
    answer = requests.post(f"{client.sandbox.url}/_sandbox/clock", json=bad, timeout=10)
    assert answer.status_code == 422


def test_many_runs_at_once(client):
    ids = client.control("POST", "/runs", {"count": 250, "name": "Load"})["data"]
    assert len(set(ids)) == 250
    assert client.data(f"/runs/{ids[-1]}")["name"] == "Load 250"
    assert client.get("/runs", q="Load")["meta"]["pagination"]["total"] == 250


def test_a_token_can_be_rotated(client):
    client.control("POST", "/tokens", {"token": "fresh", "user_id": 1002, "expires_in": 60})
    client.control("DELETE", "/tokens", {"token": "sandbox-token"})
    assert client.call("GET", RUN).status_code == 401
    client.session.headers["Authorization"] = "Bearer fresh"
    assert client.call("GET", RUN).status_code == 200
    client.advance(seconds=60)
    assert client.call("GET", RUN).status_code == 401


def test_reset(sandbox, client):
    client.delete(RUN)
    fault(client, "status", times=None)
    client.advance(days=9)
    sandbox.reset()
    assert client.control("GET", "/stats")["total"] == 0
    assert client.data(RUN)["status"] == "active"
    assert abs(client.control("GET", "/clock")["offset_seconds"]) < 1
