from __future__ import annotations

import pytest

from airflow_provider_tallyfy.sandbox.seeds import ONBOARDING_RUN_ID, SEEDED_RUN_ID


def next_task(client, run_id):
    return client.data(f"/runs/{run_id}", **{"with": "next_task"})["next_task"]


def test_collection_has_exactly_the_documented_keys(client):
    [task] = next_task(client, SEEDED_RUN_ID)["data"]
    assert task.keys() == {"id", "increment_id", "title", "alias", "owners", "deadline"}
    assert task["owners"].keys() == {"users", "guests", "groups"}
    assert task["alias"] == "approve_release"


def test_object_has_exactly_the_documented_keys(object_client):
    task = next_task(object_client, SEEDED_RUN_ID)
    assert task.keys() == {"id", "title", "position", "status", "deadline"}
    assert (task["title"], task["position"], task["status"]) == ("Approve release", 2, "not-started")


def test_when_all_is_done_the_collection_is_empty_and_the_object_is_null(client, object_client):
    for each, none_left in ((client, {"data": []}), (object_client, None)):
        each.decide(SEEDED_RUN_ID, is_approved=True)
        each.complete(SEEDED_RUN_ID, "announce_release")
        run = each.data(f"/runs/{SEEDED_RUN_ID}", **{"with": "next_task"})
        assert run["next_task"] == none_left
        assert run["status"] == "complete"


def test_collection_goes_by_deadline_and_object_by_position(client, object_client):
    for each in (client, object_client):
        filled = {
            field["id"]: field
            for field in each.tasks(ONBOARDING_RUN_ID)["collect_documents"]["form_fields"]["data"]
        }
        values = {
            field_id: {"text": "Globex", "radio": "Business"}[field["field_type"]]
            for field_id, field in filled.items()
            if field["required"]
        }
        task_id = each.tasks(ONBOARDING_RUN_ID)["collect_documents"]["id"]
        each.put(f"/runs/{ONBOARDING_RUN_ID}/tasks/{task_id}", {"taskdata": values})
        assert each.complete(ONBOARDING_RUN_ID, "collect_documents").status_code == 200
    assert next_task(client, ONBOARDING_RUN_ID)["data"][0]["alias"] == "security_review"
    assert next_task(object_client, ONBOARDING_RUN_ID)["title"] == "Review contract"


@pytest.mark.parametrize("hidden_first", [True, False])
def test_a_hidden_task_is_never_next(client, object_client, hidden_first):
    for each in (client, object_client):
        each.decide(SEEDED_RUN_ID, is_approved=not hidden_first)
    expected = None if hidden_first else "Announce release"
    found = next_task(client, SEEDED_RUN_ID)["data"]
    assert [task["title"] for task in found] == ([expected] if expected else [])
    found = next_task(object_client, SEEDED_RUN_ID)
    assert (found and found["title"]) == expected


def test_a_moved_deadline_changes_the_next_task(client):
    first = next_task(client, SEEDED_RUN_ID)["data"][0]
    other = client.tasks(SEEDED_RUN_ID)["announce_release"]
    client.put(f"/runs/{SEEDED_RUN_ID}/tasks/{other['id']}", {"deadline": "2020-01-01T00:00:00Z"})
    second = next_task(client, SEEDED_RUN_ID)["data"][0]
    assert (first["alias"], second["alias"]) == ("approve_release", "announce_release")


def test_next_task_in_a_list_of_runs(client):
    found = {run["name"]: run["next_task"]["data"] for run in client.data("/runs", **{"with": "next_task"})}
    assert found["Release 2.3.0"] == []
    assert found["Release 2.4.0"][0]["alias"] == "approve_release"
