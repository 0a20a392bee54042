from __future__ import annotations

import pytest

from airflow_provider_tallyfy.sandbox.seeds import (
    ONBOARDING_CHECKLIST_ID,
    RELEASE_CHECKLIST_ID,
    SEEDED_RUN_ID,
)


@pytest.mark.parametrize(
    ("path", "key", "expected"),
    [
        ("/users", "email", ["ada@example.com", "ben@example.com", "chiara@example.com", "dev@example.com"]),
        ("/users-list", "role", ["Admin", "Standard", "Standard", "Light"]),
        ("/guests", "email", ["client@example.org", "press@example.org"]),
        ("/guests-list", "email", ["client@example.org", "press@example.org"]),
        ("/groups", "name", ["Release managers", "Customer success"]),
        ("/tags", "title", ["Urgent", "Customer"]),
        ("/folders", "name", ["Operations", "Customers"]),
        (
            "/checklists",
            "title",
            ["Release approval", "Customer onboarding", "Pipeline incident", "Data quality exception"],
        ),
    ],
)
def test_seeded_items(client, path, key, expected):
    assert [item[key] for item in client.data(path)] == expected


@pytest.mark.parametrize("path", ["/users", "/guests", "/groups", "/tags", "/folders", "/checklists"])
def test_each_item_is_found_by_its_id(client, path):
    for item in client.data(path):
        key = item["email"] if path == "/guests" else item["id"]
        assert client.data(f"{path}/{key}")["id"] == item["id"]
    assert client.call("GET", f"{path}/404").status_code == 404


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("/users", "chiara", 1),
        ("/guests", "press", 1),
        ("/groups", "release", 1),
        ("/tags", "urgent", 1),
        ("/checklists", "onboarding", 1),
        ("/checklists", "nothing", 0),
    ],
)
def test_search_in_a_list(client, path, text, found):
    assert client.get(path, q=text)["meta"]["pagination"]["total"] == found


def test_filters_of_templates_and_folders(client):
    def titles(**params):
        return [checklist["title"] for checklist in client.data("/checklists", **params)]

    assert titles(starred="true") == ["Customer onboarding"]
    assert titles(tag=f"5eed0008{2:024x}") == ["Customer onboarding"]
    assert titles(folder=f"5eed0009{1:024x}") == [
        "Release approval",
        "Pipeline incident",
        "Data quality exception",
    ]
    assert [folder["name"] for folder in client.data("/folders", folder_type="run")] == ["Customers"]
    assert client.data("/folders", folder_type="run")[0]["total"] == 1


def test_a_template_has_steps_and_tags_only_on_request(client):
    path = f"/checklists/{ONBOARDING_CHECKLIST_ID}"
    bare = client.data(path)
    assert len(bare["prerun"]) == 10
    assert "steps" not in bare
    full = client.data(path, **{"with": "steps,tags,folder"})
    steps, [tag] = full["steps"]["data"], full["tags"]["data"]
    assert [step["position"] for step in steps] == [1, 2, 3, 4, 5, 6]
    assert len(steps[0]["captures"]) == 10
    # An association with the tag, whose id is an integer.
    assert (tag["title"], tag["tag_id"], type(tag["id"])) == ("Customer", f"5eed0008{2:024x}", int)
    assert full["folder"] is None


def test_steps_and_form_fields_of_a_template(client):
    path = f"/checklists/{RELEASE_CHECKLIST_ID}"
    steps = client.data(f"{path}/steps")
    assert [step["step_type"] for step in steps] == ["task", "approval", "task"]
    assert client.data(f"{path}/steps/{steps[1]['id']}") == steps[1]
    assert client.call("GET", f"{path}/steps/none").status_code == 404
    fields = client.data(f"{path}/form-fields")
    assert [field["alias"] for field in fields["ko_form_fields"]] == ["version"]
    assert [field["alias"] for field in fields["form_fields"]] == ["comment"]


def test_invite_a_guest(client):
    body = {"email": "New@Example.org", "first_name": "Nia", "company_name": "Initech"}
    created = client.post("/guests", body)
    assert created.status_code == 201
    guest = client.data("/guests/new@example.org")
    assert (guest["first_name"], guest["details"]["company_name"]) == ("Nia", "Initech")
    assert client.post("/guests", body).json()["data"]["id"] == guest["id"]


def test_search(client):
    found = client.get("/search", search="release", on="process,blueprint,task")
    assert [run["name"] for run in found["process"]["data"]] == ["Release 2.3.0", "Release 2.4.0"]
    assert [checklist["title"] for checklist in found["blueprint"]["data"]] == ["Release approval"]
    assert found["task"]["meta"]["pagination"]["total"] == 6
    client.delete(f"/runs/{SEEDED_RUN_ID}")
    assert len(client.get("/search", search="release")["process"]["data"]) == 1
    assert client.call("GET", "/search", params={"search": "x", "on": "weather"}).status_code == 422


@pytest.mark.parametrize(
    "query",
    [
        {"filter[": "x"},
        {"filter[1]": "x", "filter[1][field]": "date"},
        {"filter[0]": "AND", "filter[1]": "x"},
        {"filter[field][0]": "date", "filter[value]": "x"},
        {"filter[field]": "date", "filter[value][a]": "x"},
        {"filter[field]": "date", "filter[operation][a]": "<", "filter[value]": "x"},
    ],
)
def test_refuses_a_malformed_filter(client, query):
    refused = client.call("GET", "/search", params={"search": "release", **query})
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["filter"])
