from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_tallyfy.sandbox.seeds import (
    COMPLETE_RUN_ID,
    ONBOARDING_CHECKLIST_ID,
    ONBOARDING_RUN_ID,
    RELEASE_CHECKLIST_ID,
    SEEDED_RUN_ID,
)
from airflow_provider_tallyfy.sandbox.server import SandboxServer

DOCUMENTED_KEYS = {
    *("id", "increment_id", "checklist_id", "checklist_title", "name", "summary", "status", "progress"),
    *(
        "whole_progress",
        "started_by",
        "owner_id",
        "prerun",
        "prerun_status",
        "starred",
        "created_at",
        "started_at",
    ),
    *("last_updated", "archived_at", "completed_at", "due_date", "due_date_passed", "due_soon", "late_tasks"),
    *("collaborators", "type", "is_public", "users", "groups", "parent_id", "can_add_oot", "has_open_issue"),
}


def names(runs):
    return {run["name"] for run in runs}


def test_keys_of_a_run(client):
    run = client.data(f"/runs/{SEEDED_RUN_ID}")
    assert run.keys() >= DOCUMENTED_KEYS
    assert not run.keys() & {"next_task", "tasks", "checklist", "tags", "form_fields", "form_fields_values"}
    assert run["progress"] == {"complete": 1, "total": 3, "percent": 33, "approved": 0, "rejected": 0}
    assert run["created_at"].endswith("Z")


def test_each_include_of_a_run(client):
    included = (
        "checklist,tasks,tags,assets,next_task,permissions,tasks_meta,ko_form_fields,form_fields,stages,folders,"
        "member_watchers,guest_watchers"
    )
    run = client.data(f"/runs/{ONBOARDING_RUN_ID}", **{"with": included})
    assert all("data" in run[name] for name in included.split(","))
    assert run["checklist"]["data"]["id"] == ONBOARDING_CHECKLIST_ID
    assert [tag["title"] for tag in run["tags"]["data"]] == ["Customer"]
    assert [folder["name"] for folder in run["folders"]["data"]] == ["Customers"]
    kick_off = {field["alias"]: field["field_value"] for field in run["ko_form_fields"]["data"]}
    assert (kick_off["customer_name"], kick_off["region"]["text"]) == ("Globex", "Europe")
    assert "form_fields" not in run["tasks"]["data"][0]


def test_nested_includes(client):
    included = "tasks.form_fields,tasks.step,tasks.threads"
    run = client.data(f"/runs/{SEEDED_RUN_ID}", **{"with": included})
    approval = run["tasks"]["data"][1]
    assert [field["alias"] for field in approval["form_fields"]["data"]] == ["comment"]
    assert approval["step"]["data"]["step_type"] == "approval"
    assert approval["threads"] == {"data": []}


def test_form_field_values_of_all_tasks(client):
    run = client.data(f"/runs/{COMPLETE_RUN_ID}", form_fields_values="true")
    assert [field["field_value"] for field in run["form_fields_values"]["data"]] == ["All checks passed."]


def test_launch(client):
    response = client.post(
        "/runs", {"checklist_id": RELEASE_CHECKLIST_ID, "name": "Release 3", "starred": True}
    )
    assert response.status_code == 201
    run = client.data(f"/runs/{response.json()['data']['id']}")
    assert (run["name"], run["status"], run["starred"], run["owner_id"]) == (
        "Release 3",
        "active",
        True,
        1001,
    )
    assert list(client.tasks(run["id"])) == ["prepare_release_notes", "approve_release", "announce_release"]


def test_a_launch_without_a_name_uses_the_title_of_the_template(client):
    assert client.launch()["name"].startswith("Release approval - 20")


def test_launch_overrides_owners_and_deadlines_by_step(client):
    step = client.data(f"/checklists/{RELEASE_CHECKLIST_ID}/steps")[0]
    override = {
        "owners": {"users": [1002], "guests": ["client@example.org"]},
        "deadline": "2099-01-02T03:04:05+05:00",
    }
    run = client.launch(tasks={step["id"]: override, "0" * 32: override})
    task = client.tasks(run["id"])["prepare_release_notes"]
    assert task["owners"] == {"users": [1002], "guests": ["client@example.org"], "groups": []}
    assert task["deadline"] == "2099-01-02T03:04:05.000Z"  # the offset is dropped


def test_a_step_without_owners_is_assigned_to_the_starter(sandbox, client):
    values = {"5eed0003" + f"{1:024x}": "A", "5eed0003" + f"{3:024x}": "a@b.example"}
    values["5eed0003" + f"{6:024x}"] = {"id": 1, "text": "Europe"}
    run = client.launch(ONBOARDING_CHECKLIST_ID, prerun=values, user_id=1002)
    assert run["started_by"] == 1002


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"checklist_id": "f" * 32}, "checklist_id"),
        ({"checklist_id": ""}, "checklist_id"),
        ({"name": "x" * 551}, "name"),
        ({"owner_id": 77}, "owner_id"),
        ({"users": [77]}, "users"),
        ({"groups": ["none"]}, "groups"),
        ({"tags": ["none"]}, "tags"),
        ({"folders": ["none"]}, "folders"),
        ({"parent_id": "none"}, "parent_id"),
        ({"prerun": ["a list"]}, "prerun"),
    ],
)
def test_a_launch_with_bad_input_is_refused_and_launches_nothing(client, change, field):
    before = client.get("/runs")["meta"]["pagination"]["total"]
    response = client.post("/runs", {"checklist_id": RELEASE_CHECKLIST_ID, **change})
    assert response.status_code == 422
    assert list(response.json()["errors"]) == [field]
    assert client.get("/runs")["meta"]["pagination"]["total"] == before


def test_refuses_unknown_owners_in_a_launch(client):
    step = client.data(f"/checklists/{RELEASE_CHECKLIST_ID}/steps")[0]
    tasks = {step["id"]: {"owners": {"users": [77]}}}
    refused = client.post("/runs", {"checklist_id": RELEASE_CHECKLIST_ID, "tasks": tasks})
    assert (refused.status_code, list(refused.json()["errors"])) == (
        422,
        [f"tasks.{step['id']}.owners.users"],
    )


def test_a_php_client_may_send_an_empty_list_for_an_empty_map(client):
    client.launch(prerun=[], tasks=[])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"q": "release 2"}, {"Release 2.4.0", "Release 2.3.0"}),
        ({"status": "active"}, {"Release 2.4.0"}),
        ({"status": "delayed"}, {"Onboarding of Globex"}),
        ({"status": "complete"}, {"Release 2.3.0"}),
        ({"status": "starred"}, set()),
        ({"starred": "false"}, {"Release 2.4.0", "Release 2.3.0", "Onboarding of Globex"}),
        ({"owners": "1004"}, {"Onboarding of Globex"}),
        ({"owners": "1002,1004"}, {"Release 2.4.0", "Release 2.3.0", "Onboarding of Globex"}),
        ({"checklist_id": ONBOARDING_CHECKLIST_ID}, {"Onboarding of Globex"}),
        ({"blueprint_id": ONBOARDING_CHECKLIST_ID}, {"Onboarding of Globex"}),
        ({"folder": f"5eed0009{2:024x}"}, {"Onboarding of Globex"}),
        ({"tag": f"5eed0008{1:024x}"}, {"Release 2.4.0"}),
        ({"tag_ids": f"5eed0008{1:024x},5eed0008{2:024x}"}, {"Release 2.4.0", "Onboarding of Globex"}),
        ({"untagged": "true"}, {"Release 2.3.0"}),
        ({"groups": f"5eed0007{2:024x}"}, {"Onboarding of Globex"}),
        ({"type": "procedure"}, {"Release 2.4.0", "Release 2.3.0", "Onboarding of Globex"}),
        ({"type": "form"}, set()),
    ],
)
def test_filters(client, filters, expected):
    assert names(client.data("/runs", **filters)) == expected


def test_an_unknown_status_is_refused(client):
    assert client.call("GET", "/runs", params={"status": "nonsense"}).status_code == 422


def test_a_plus_in_a_query_is_a_plus(sandbox, client):
    client.launch(name="Release 2+4")
    url = f"{sandbox.base_url}/organizations/sandbox/runs?q="
    for text, expected in (
        ("release+2", set()),
        ("release%202.4", {"Release 2.4.0"}),
        ("2+4", {"Release 2+4"}),
    ):
        found = requests.get(url + text, headers=sandbox.headers, timeout=10).json()["data"]
        assert names(found) == expected


def test_paging(client):
    for number in range(9):
        client.launch(name=f"Run {number}")
    seen, page = [], 1
    while True:
        answer = client.get("/runs", per_page=5, page=page)
        pagination = answer["meta"]["pagination"]
        assert (pagination["total"], pagination["total_pages"], pagination["per_page"]) == (12, 3, 5)
        assert (pagination["current_page"], pagination["count"]) == (page, len(answer["data"]))
        assert set(pagination["links"]) == {1: {"next"}, 2: {"next", "previous"}, 3: {"previous"}}[page]
        seen += [run["id"] for run in answer["data"]]
        if page == pagination["total_pages"]:
            break
        page += 1
    assert len(seen) == len(set(seen)) == 12


def test_the_link_to_the_next_page_keeps_the_filters(sandbox, client):
    following = client.get("/runs", per_page=1, q="Release")["meta"]["pagination"]["links"]["next"]
    assert "q=Release" in urlsplit(following).query
    answer = requests.get(following, headers=sandbox.headers, timeout=10).json()
    assert names(answer["data"]) == {"Release 2.3.0"}


def test_one_page_has_no_links(client):
    assert client.get("/runs")["meta"]["pagination"]["links"] == []


def test_a_page_beyond_the_last_is_empty(client):
    for page in (9, 10**30):
        answer = client.get("/runs", page=page)
        assert answer["data"] == []
        assert answer["meta"]["pagination"]["current_page"] == page


def test_no_list_has_more_than_a_hundred_on_a_page(client):
    client.control("POST", "/runs", {"count": 150})
    answer = client.get("/runs", per_page=500)
    assert len(answer["data"]) == answer["meta"]["pagination"]["per_page"] == 100
    everything = client.get("/runs", without_pagination="true")
    assert len(everything["data"]) == 153
    assert "meta" not in everything


def test_sorting(client):
    def order(**params):
        return [run["name"] for run in client.data("/runs", **params)]

    assert order() == ["Release 2.4.0", "Onboarding of Globex", "Release 2.3.0"]
    assert order(sort="created_at") == ["Release 2.3.0", "Onboarding of Globex", "Release 2.4.0"]
    assert order(sort_by="-name") == ["Release 2.4.0", "Release 2.3.0", "Onboarding of Globex"]


def test_an_update_changes_what_is_sent_and_removes_members_and_groups_that_are_not(client):
    path = f"/runs/{SEEDED_RUN_ID}"
    people = {"users": [1002, 1003], "groups": [f"5eed0007{1:024x}"]}
    before = client.put(path, people).json()["data"]
    assert {name: before[name] for name in people} == people
    client.advance(minutes=1)

    def changed(**body):
        after = client.put(path, body).json()["data"]
        return {
            name: after[name] for name in before if before[name] != after[name] and name != "last_updated"
        }

    assert changed(summary="Soon", **people) == {"summary": "Soon"}
    assert changed(users=[1002]) == {"summary": "Soon", "users": [1002], "groups": []}
    assert changed(name="Renamed") == {"summary": "Soon", "name": "Renamed", "users": [], "groups": []}
    assert changed(groups=people["groups"]).keys() == {"summary", "name", "users"}
    assert client.put(path, {"owner_id": 5, **people}).status_code == 422
    assert client.data(path)["users"] == []


def test_archived_run(client):
    task_id = client.tasks(SEEDED_RUN_ID)["approve_release"]["id"]
    archived = client.delete(f"/runs/{SEEDED_RUN_ID}").json()["data"]
    assert archived["status"] == "archived"
    assert archived["archived_at"] is not None

    run = client.data(f"/runs/{SEEDED_RUN_ID}", **{"with": "tasks,next_task"})
    assert (run["status"], run["tasks"], run["next_task"]) == ("archived", {"data": []}, {"data": []})
    assert "Release 2.4.0" not in names(client.data("/runs"))
    assert names(client.data("/runs", status="archived")) == {"Release 2.4.0"}
    assert names(client.data("/runs", archived="only")) == {"Release 2.4.0"}
    assert len(client.data("/runs", archived="true")) == 3

    assert client.data(f"/runs/{SEEDED_RUN_ID}/tasks") == []
    for path in (f"/runs/{SEEDED_RUN_ID}/tasks/{task_id}", f"/tasks/{task_id}"):
        assert client.call("GET", path).status_code == 404
    assert client.post(f"/runs/{SEEDED_RUN_ID}/completed-tasks", {"task_id": task_id}).status_code == 404


def test_activate_restores_a_run(client):
    before = client.data(f"/runs/{SEEDED_RUN_ID}", **{"with": "tasks,next_task"})
    client.delete(f"/runs/{SEEDED_RUN_ID}")
    assert client.put(f"/runs/{SEEDED_RUN_ID}/activate").json()["data"]["archived_at"] is None
    after = client.data(f"/runs/{SEEDED_RUN_ID}", **{"with": "tasks,next_task"})
    del before["last_updated"], after["last_updated"]
    assert after == before


def test_only_an_archived_run_is_deleted_for_good_and_only_by_an_admin(sandbox, client, light_client):
    path = f"/runs/{ONBOARDING_RUN_ID}/delete"
    assert client.delete(path).status_code == 422
    client.delete(f"/runs/{ONBOARDING_RUN_ID}")
    assert light_client.delete(path).status_code == 403
    deleted = client.delete(path)
    assert (deleted.status_code, deleted.content) == (200, b"")
    assert client.call("GET", f"/runs/{ONBOARDING_RUN_ID}").status_code == 404
    assert client.delete(path).status_code == 404


def test_unknown_run_and_unknown_endpoint(sandbox, client):
    missing = client.call("GET", "/runs/none").json()
    assert missing == {"error": True, "message": "Resource not found", "code": "RESOURCE_NOT_FOUND"}
    nowhere = client.call("GET", "/processes").json()
    assert nowhere == {"error": True, "message": "API endpoint not found", "code": "ENDPOINT_NOT_FOUND"}


def test_an_empty_sandbox_has_people_and_nothing_else():
    with SandboxServer(seed="empty") as sandbox:
        base = f"{sandbox.base_url}/organizations/sandbox"
        for path, total in (("/runs", 0), ("/checklists", 0), ("/users", 4)):
            answer = requests.get(base + path, headers=sandbox.headers, timeout=10).json()
            assert answer["meta"]["pagination"]["total"] == total
            assert answer["meta"]["pagination"]["total_pages"] == 1


def test_seeded_ids_are_the_same_at_each_start(client):
    tasks = {alias: task["id"] for alias, task in client.tasks(SEEDED_RUN_ID).items()}
    with SandboxServer() as other:
        again = requests.get(
            f"{other.base_url}/organizations/sandbox/runs/{SEEDED_RUN_ID}",
            params={"with": "tasks"},
            headers=other.headers,
            timeout=10,
        ).json()["data"]
    assert {task["alias"]: task["id"] for task in again["tasks"]["data"]} == tasks
