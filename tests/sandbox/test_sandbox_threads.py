from __future__ import annotations

import pytest

from airflow_provider_tallyfy.sandbox.seeds import COMPLETE_RUN_ID, SEEDED_RUN_ID


@pytest.fixture
def task_id(client):
    return client.tasks(SEEDED_RUN_ID)["approve_release"]["id"]


def test_a_comment_on_a_task(client, task_id):
    written = client.post(f"/tasks/{task_id}/comment", {"content": "Looks good", "sent_to": [1002]})
    assert written.status_code == 201
    comment = written.json()["data"]
    assert (comment["content"], comment["label"], comment["author_id"]) == ("Looks good", "comment", 1001)
    assert client.data(f"/tasks/{task_id}", **{"with": "threads"})["threads"]["data"] == [comment]

    path = f"/tasks/{task_id}/comment/{comment['id']}"
    assert client.put(path, {"content": "Looks bad"}).json()["data"]["content"] == "Looks bad"
    assert client.delete(path).status_code == 204
    assert client.data(f"/tasks/{task_id}", **{"with": "threads"})["threads"]["data"] == []
    assert client.delete(path).status_code == 404


def test_state_of_a_comment(client, task_id):
    path = f"/tasks/{task_id}/comment"
    states = [
        client.post(path, {"content": "x", **more}).json()["data"]["state"]
        for more in ({}, {"state": "open"}, {"state": "collapsed"}, {"state": "hide-for-guests"})
    ]
    assert states == ["hide-for-guests", "open", "collapsed", "hide-for-guests"]
    of_run = client.post(f"/runs/{SEEDED_RUN_ID}/comment", {"content": "x", "state": "open"}).json()["data"]
    assert of_run["state"] == "open"

    def edited(**more):
        return client.put(f"{path}/{of_task}", {"content": "y", **more}).json()["data"]["state"]

    of_task = client.post(path, {"content": "x", "state": "open"}).json()["data"]["id"]
    assert [edited(), edited(state="collapsed")] == ["open", "collapsed"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"content": ""},
        {"content": None},
        {"content": "x", "label": "shout"},
        {"content": "x", "state": "shut"},
    ],
)
def test_a_comment_needs_content_and_a_known_label_and_state(client, task_id, body):
    assert client.post(f"/tasks/{task_id}/comment", body).status_code == 422


def test_only_its_author_changes_a_comment(client, light_client):
    onboarding = next(run for run in client.data("/runs") if run["name"] == "Onboarding of Globex")
    task_id = client.tasks(onboarding["id"])["set_up_account"]["id"]
    comment = client.post(f"/tasks/{task_id}/comment", {"content": "Mine"}).json()["data"]
    refused = light_client.put(f"/tasks/{task_id}/comment/{comment['id']}", {"content": "Yours"})
    assert refused.status_code == 403


def test_an_issue_on_a_task_blocks_its_completion_until_it_is_resolved(client, task_id):
    issue = client.post(f"/tasks/{task_id}/problem", {"content": "Tests are red"}).json()["data"]
    task = client.data(f"/tasks/{task_id}", **{"with": "issues"})
    assert (task["status"], task["is_completable"], task["has_issues"]) == ("not-started", False, True)
    assert [each["id"] for each in task["issues"]["data"]] == [issue["id"]]
    assert client.data(f"/runs/{SEEDED_RUN_ID}")["status"] == "problem"

    refused = client.complete(SEEDED_RUN_ID, "approve_release", is_approved=True)
    assert refused.status_code == 409
    assert refused.json()["error"] is True

    body = {"thread_id": issue["id"], "content": "Fixed"}
    resolved = client.post(f"/tasks/{task_id}/resolved-threads", {**body, "state": "collapsed"}).json()[
        "data"
    ]
    assert (resolved["label"], resolved["state"]) == ("resolve", "collapsed")
    assert client.data(f"/runs/{SEEDED_RUN_ID}")["status"] == "active"
    client.decide(SEEDED_RUN_ID, is_approved=True)
    assert client.post(f"/tasks/{task_id}/resolved-threads", body).status_code == 422


def test_an_issue_on_a_run_blocks_all_its_tasks(client, task_id):
    issue = client.post(f"/runs/{SEEDED_RUN_ID}/problem", {"content": "Stop"}).json()["data"]
    run = client.data(f"/runs/{SEEDED_RUN_ID}")
    assert (run["status"], run["has_open_issue"]) == ("issue", True)
    assert {run["name"] for run in client.data("/runs", status="problem")} == {"Release 2.4.0"}
    assert {run["name"] for run in client.data("/runs", status="issue")} == {"Release 2.4.0"}

    path = f"/runs/{SEEDED_RUN_ID}"
    done = client.tasks(SEEDED_RUN_ID)["prepare_release_notes"]["id"]
    assert client.complete(SEEDED_RUN_ID, "announce_release").status_code == 409
    assert client.put(f"{path}/tasks/{task_id}", {"title": "Other"}).status_code == 409
    assert client.delete(f"{path}/completed-tasks/{done}").status_code == 409

    client.post(f"{path}/resolved-threads", {"thread_id": issue["id"], "content": "Go on"})
    assert client.complete(SEEDED_RUN_ID, "announce_release").status_code == 200


def test_an_issue_reopens_a_completed_task_and_its_run(client):
    task_id = client.tasks(COMPLETE_RUN_ID)["announce_release"]["id"]
    client.post(f"/tasks/{task_id}/comment", {"content": "Wrong text", "label": "problem"})
    assert client.data(f"/tasks/{task_id}")["completed_at"] is None
    run = client.data(f"/runs/{COMPLETE_RUN_ID}")
    assert (run["status"], run["completed_at"]) == ("problem", None)


def test_a_comment_on_a_run(client):
    assert client.post(f"/runs/{SEEDED_RUN_ID}/comment", {"content": "Hello"}).status_code == 201
    assert client.data(f"/runs/{SEEDED_RUN_ID}")["status"] == "active"


def test_limit_of_120_comments_an_hour(client, task_id):
    path = f"/tasks/{task_id}/comment"
    client.sandbox.change(lambda store: [store.spend("Comment") for _ in range(119)])
    assert client.post(path, {"content": "x"}).status_code == 201
    refused = client.post(path, {"content": "x"})
    assert refused.status_code == 429
    assert refused.json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert "Comment (120 per hour per organization)" in refused.json()["message"]
    assert 3500 < int(refused.headers["Retry-After"]) <= 3600
    assert len(client.data(f"/tasks/{task_id}", **{"with": "threads"})["threads"]["data"]) == 1

    client.advance(seconds=int(refused.headers["Retry-After"]))
    assert client.post(path, {"content": "x"}).status_code == 201


def test_limit_of_30_guest_invitations_an_hour(client):
    client.sandbox.change(lambda store: [store.spend("Guest Invite") for _ in range(29)])
    assert client.post("/guests", {"email": "last@example.org"}).status_code == 201
    refused = client.post("/guests", {"email": "one-more@example.org"})
    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert client.call("GET", "/guests/one-more@example.org").status_code == 404
    client.advance(hours=1)
    assert client.post("/guests", {"email": "one-more@example.org"}).status_code == 201
