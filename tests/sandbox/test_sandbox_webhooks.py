"""Webhooks reach a receiver over HTTP, on loopback addresses only, and no request waits for them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID, SEEDED_RUN_ID
from dev.processes import wait_until


class Receiver:
    """A receiver of webhooks on a loopback port: what it got, and a gate that can hold its answers back."""

    def __init__(self) -> None:
        receiver = self
        self.got: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status = 200
        self.may_answer = threading.Event()
        self.may_answer.set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.got.append((self.path, dict(self.headers), body))
                receiver.may_answer.wait(timeout=30)
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def wait_for(self, count: int) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
        """Return what came, when there are so many deliveries."""
        wait_until(lambda: len(self.got) >= count, 30, f"{count} deliveries")
        assert len(self.got) == count
        return self.got


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, daemon=True)
    thread.start()
    yield receiver
    receiver.may_answer.set()
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join(timeout=30)


def set_webhook(client, url, path=f"/checklists/{RELEASE_CHECKLIST_ID}"):
    title = client.data(path)["title"]
    answer = client.put(path, {"title": title, "webhook": url})
    assert answer.status_code == 200
    assert answer.json()["data"]["webhook"] == url


def watch(client, url):
    body = {
        "object_type": "organization",
        "object_id": "sandbox",
        "notification_type": "webhook",
        "frequency": "electric",
        "webhook": url,
    }
    return client.post("/users/1001/add-watcher", body)


def test_webhook_of_a_template(client, receiver):
    set_webhook(client, f"{receiver.url}/secret")
    field = client.data(f"/checklists/{RELEASE_CHECKLIST_ID}")["prerun"][0]
    run = client.launch(name="Release 5", prerun={field["id"]: "5.0"})
    client.complete(run["id"], "prepare_release_notes")
    client.decide(run["id"], is_approved=True)
    client.complete(run["id"], "announce_release")
    (path, headers, launched), (_, _, first), (_, _, second), *ends = receiver.wait_for(5)

    assert path == "/secret"
    assert {name.lower(): value for name, value in headers.items()}["x-tallyfy-orgid"] == "sandbox"
    assert not {name.lower() for name in headers} & {"authorization", "x-signature", "x-hub-signature"}
    assert (launched["id"], launched["status"], launched["completed_at"]) == (run["id"], "in-progress", None)
    assert launched["ko-form-fields"] == {"version": "5.0"}
    assert launched["launcher"]["email"] == "ada@example.com"
    assert launched["process-tasks"].keys() == {
        "prepare_release_notes",
        "approve_release",
        "announce_release",
    }
    assert launched["guest-links"].keys() == {"press@example.org"}

    assert first["this_task"]["alias"] == "prepare_release_notes"
    assert (first["this_task"]["status"], first["completer"]["id"]) == ("completed", 1001)
    assert (first["next_task"]["alias"], first["process"]["id"]) == ("approve_release", run["id"])
    assert first["form-fields"] == {"version": "5.0"}
    assert second["form-fields"] == {"version": "5.0", "comment": "Checked."}
    assert [each["value"] for each in second["this_task"]["captures"].values()] == ["Checked."]
    assert "is_approved" not in second["this_task"]
    [ended] = [payload for _, _, payload in ends if "this_task" not in payload]
    [last] = [payload for _, _, payload in ends if "this_task" in payload]
    assert (ended["status"], ended["progress"], last["next_task"]) == ("completed", 100, [])


def test_webhook_of_a_step_replaces_that_of_the_template(client, receiver):
    set_webhook(client, f"{receiver.url}/template")
    path = f"/checklists/{RELEASE_CHECKLIST_ID}/steps"
    set_webhook(client, f"{receiver.url}/step", f"{path}/{client.data(path)[0]['id']}")
    run = client.launch()
    client.complete(run["id"], "prepare_release_notes")
    assert [path for path, _, _ in receiver.wait_for(2)] == ["/template", "/step"]


def test_webhook_of_a_task(client, receiver):
    task = client.tasks(SEEDED_RUN_ID)["announce_release"]
    changed = client.put(f"/runs/{SEEDED_RUN_ID}/tasks/{task['id']}", {"webhook": f"{receiver.url}/task"})
    assert changed.status_code == 200
    client.complete(SEEDED_RUN_ID, "announce_release")
    [(path, _, payload)] = receiver.wait_for(1)
    assert (path, payload["this_task"]["id"]) == ("/task", task["id"])


def test_watcher_of_the_organization(client, light_client, receiver):
    assert watch(light_client, receiver.url).status_code == 403
    answer = watch(client, f"{receiver.url}/watcher")
    assert answer.status_code == 201
    watcher = answer.json()["data"]
    assert [each["webhook"] for each in client.data("/watchers", notification="webhook")] == [
        watcher["webhook"]
    ]

    run = client.launch()
    task = client.tasks(run["id"])["prepare_release_notes"]
    client.post(f"/tasks/{task['id']}/comment", {"content": "Soon"})
    issue = client.post(f"/tasks/{task['id']}/problem", {"content": "Not yet"}).json()["data"]
    client.post(f"/tasks/{task['id']}/resolved-threads", {"thread_id": issue["id"], "content": "Now"})
    owners = {"users": [1002], "guests": [], "groups": []}
    client.put(f"/runs/{run['id']}/tasks/{task['id']}", {"owners": owners})
    client.complete(run["id"], "prepare_release_notes")
    payloads = [payload for _, _, payload in receiver.wait_for(7)]
    assert [payload["event"] for payload in payloads] == [
        "process.launched",
        "task.comment_added",
        "task.issue_raised",
        "task.comment_added",  # what resolves an issue is a comment
        "task.issue_resolved",
        "task.assigned",
        "task.completed",
    ]
    assert {payload["process"]["id"] for payload in payloads} == {run["id"]}
    assert payloads[-1]["task"]["id"] == task["id"]

    assert client.delete(f"/remove-watcher/{watcher['id']}").status_code == 204
    assert client.delete(f"/remove-watcher/{watcher['id']}").status_code == 404
    client.launch()
    assert client.data("/watchers") == []
    assert len(receiver.got) == 7


def test_a_delivery_that_is_refused_is_not_repeated(client, receiver):
    receiver.status = 500
    set_webhook(client, receiver.url)
    client.launch(name="First")
    client.launch(name="Second")
    assert [payload["name"] for _, _, payload in receiver.wait_for(2)] == ["First", "Second"]


def test_requests_do_not_wait_for_deliveries(client, receiver):
    set_webhook(client, receiver.url)
    receiver.may_answer.clear()
    client.launch(name="Held")
    receiver.wait_for(1)
    client.launch(name="Queued")
    assert client.data("/runs", q="Queued")
    assert len(receiver.got) == 1
    receiver.may_answer.set()
    receiver.wait_for(2)


def test_nothing_is_sent_to_an_address_that_is_not_loopback(client, sandbox, receiver, monkeypatch):
    sent = []
    monkeypatch.setattr(
        "airflow_provider_tallyfy.sandbox.webhooks.requests.Session.post",
        lambda session, url, **arguments: sent.append(url),
    )
    for url in (
        "https://hooks.example.com/tallyfy",
        "http://10.0.0.1/",
        "http://localhost.example.com/",
        "ftp://127.0.0.1/",
        "nonsense",
    ):
        set_webhook(client, url)
        client.launch()
    set_webhook(client, "http://localhost:1/last")
    client.launch()
    wait_until(lambda: sent, 30, "the last delivery")
    assert sent == ["http://localhost:1/last"]


def test_a_reset_sends_nothing(client, sandbox, receiver):
    set_webhook(client, receiver.url)
    client.launch()
    receiver.wait_for(1)
    sandbox.reset()
    client.launch()
    assert len(receiver.got) == 1
