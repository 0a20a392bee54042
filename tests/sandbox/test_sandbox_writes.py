"""Writes of clients besides processes and tasks, as far as test_official_sdk.py does not test them."""

from __future__ import annotations

import pytest

from airflow_provider_tallyfy.sandbox.seeds import (
    ONBOARDING_CHECKLIST_ID,
    ONBOARDING_RUN_ID,
    RELEASE_CHECKLIST_ID,
    SEEDED_RUN_ID,
)

FIELD = {"label": "Kind", "field_type": "text", "required": False}
ONE_OFF = {
    "title": "Water the plants",
    "task_type": "task",
    "deadline": "2099-12-31T10:00:00Z",
    "owners": {"users": [1001], "guests": [], "groups": []},
}


def create(client, path, **body):
    answer = client.post(path, body)
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


def refused(answer):
    assert answer.status_code == 422, answer.text
    return list(answer.json()["errors"])


@pytest.fixture
def step_path(client):
    path = f"/checklists/{RELEASE_CHECKLIST_ID}/steps"
    return f"{path}/{client.data(path)[0]['id']}"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/checklists", {"type": "procedure"}, "title"),
        ("/checklists", {"title": "A", "folder_id": "nowhere"}, "folder_id"),
        ("/checklists", {"title": "A", "users": [7]}, "users"),
        ("/groups", {"name": "Night shift"}, "description"),
        ("/groups", {"name": "Night shift", "description": "x", "members": [7]}, "members"),
        ("/tags", {"title": "x" * 31}, "title"),
        ("/tags", {"title": "Urgent"}, "title"),
        ("/folders", {"parent_id": None}, "name"),
        ("/folders", {"name": "A", "parent_id": "nowhere"}, "parent_id"),
        ("/guests", {"email": "nobody"}, "email"),
        ("/guests", {"email": "ada@example.com"}, "email"),
        ("/users/invite", {"email": "x@example.com", "last_name": "X"}, "first_name"),
        (
            "/users/invite",
            {"email": "x@example.com", "first_name": "X", "last_name": "X", "role": "king"},
            "role",
        ),
        ("/checklists/tags", {"subject_type": "Run", "subject_id": SEEDED_RUN_ID, "tag_id": "x"}, "tag_id"),
    ],
)
def test_refuses_invalid_values(client, path, body, field):
    assert refused(client.post(path, body)) == [field]


TEMPLATE = f"/checklists/{RELEASE_CHECKLIST_ID}"
RULE = {"automated_alias": "r", "conditions": [], "then_actions": []}
HIDE = {"action_verb": "hide", "target_step_id": f"5eed0002{3:024x}"}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/checklists", {"title": "A", "prerun": 5}, "prerun"),
        ("/checklists", {"title": "A", "steps": ["B"]}, "steps"),
        ("/checklists", {"title": "A", "steps": {"data": None}}, "steps"),
        ("/checklists", {"title": "A", "steps": [{"title": "B", "captures": [5]}]}, "captures"),
        (f"{TEMPLATE}/steps", {"title": "A", "assignees": [7]}, "assignees"),
        (f"{TEMPLATE}/steps", {"title": "A", "deadline": {"value": 10**9, "unit": "days"}}, "deadline"),
        (f"{TEMPLATE}/steps", {"title": "A", "deadline": {"value": 1, "unit": []}}, "deadline"),
        (f"{TEMPLATE}/automated-actions", RULE | {"conditions": ["x"]}, "conditions"),
        (
            f"{TEMPLATE}/automated-actions",
            RULE | {"then_actions": [HIDE | {"assignees": {"users": [7]}}]},
            "then_actions.assignees.users",
        ),
        (f"{TEMPLATE}/clone", ["not", "an", "object"], "body"),
        ("/checklists/tags", {"tag_id": [], "subject_type": [], "subject_id": []}, "tag_id"),
        ("/runs", {"checklist_id": RELEASE_CHECKLIST_ID, "user_id": 7}, "user_id"),
    ],
)
def test_refuses_parts_of_the_wrong_shape(client, path, body, field):
    assert refused(client.post(path, body)) == [field]


def test_a_position_after_the_last_is_the_last(client, step_path):
    for position in (9, 10**30):
        assert client.put(f"{step_path}/reorder", {"position": position}).json()["data"]["position"] == 3


def test_a_folder_is_not_within_itself(client):
    outer = create(client, "/folders", name="Outer")
    inner = create(client, "/folders", name="Inner", parent_id=outer["id"])
    for parent in (outer, inner):
        answer = client.put(f"/folders/{outer['id']}", {"name": "Outer", "parent_id": parent["id"]})
        assert refused(answer) == ["parent_id"]
    assert "Inner" in {folder["name"] for folder in client.data("/folders")}


@pytest.mark.parametrize("text", ["\\ud800", "NaN"])
def test_json_that_cannot_be_shown_is_refused(client, text):
    """An answer with such a value would make each list with it fail."""
    value = "NaN" if text == "NaN" else f'"{text}"'
    field = client.data(TEMPLATE)["prerun"][0]["id"]
    body = f'{{"checklist_id": "{RELEASE_CHECKLIST_ID}", "prerun": {{"{field}": {value}}}}}'
    answer = client.call("POST", "/runs", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert len(client.data("/runs")) == 3


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"label": None}, "label"),
        ({"field_type": "number"}, "field_type"),
        ({"required": None}, "required"),
        ({"field_type": "radio", "options": [{"id": 1, "text": "Only"}]}, "options"),
        ({"field_type": "dropdown"}, "options"),
        ({"field_type": "dropdown", "options": [{"text": "Without an id"}]}, "options.0.id"),
        ({"field_type": "table"}, "columns"),
    ],
)
def test_refuses_an_invalid_form_field(client, step_path, change, field):
    assert refused(client.post(f"{step_path}/captures", FIELD | change)) == [field]


def test_settings_are_kept_and_shown(client, step_path):
    kept = {"default_value": "Patch", "collect_time": True}
    field = create(client, f"{step_path}/captures", **FIELD, **kept, unknown="ignored")
    assert field.items() >= kept.items()
    assert "unknown" not in field
    title = client.data(step_path)["title"]
    deadline = {"value": 3, "unit": "weeks", "option": "from", "step": "start_run"}
    changed = client.put(step_path, {"title": title, "deadline": deadline, "roles": ["r1"]}).json()["data"]
    assert (changed["deadline"], changed["roles"], changed["assignees"]) == (deadline, ["r1"], [])
    assert refused(client.put(step_path, {"title": title, "deadline": {"value": 1, "unit": "moons"}})) == [
        "deadline"
    ]


def test_archived_template(client, light_client):
    path = f"/checklists/{RELEASE_CHECKLIST_ID}"
    assert client.delete(f"{path}/delete").status_code == 422
    assert client.delete(path).status_code == 200
    assert client.call("GET", path).status_code == 404
    assert refused(client.post("/runs", {"checklist_id": RELEASE_CHECKLIST_ID})) == ["checklist_id"]
    body = {"subject_type": "Checklist", "subject_id": RELEASE_CHECKLIST_ID, "tag_type": "private"}
    tag = client.data("/tags")[0]["id"]
    assert refused(client.post("/checklists/tags", {**body, "tag_id": tag})) == ["subject_id"]
    assert [each["id"] for each in client.data("/checklists", archived="only")] == [RELEASE_CHECKLIST_ID]
    assert client.put(f"{path}/restore").json()["data"]["archived_at"] is None
    assert client.put(f"{path}/publish").status_code == 200
    client.delete(path)
    assert light_client.delete(f"{path}/delete").status_code == 403
    assert client.delete(f"{path}/delete").status_code == 200
    assert client.put(f"{path}/activate").status_code == 404
    assert client.data(f"/runs/{SEEDED_RUN_ID}")["checklist_title"] == "Release approval"


def test_an_export_of_a_template_can_be_imported(client):
    path = f"/checklists/{ONBOARDING_CHECKLIST_ID}"
    export = client.data(path, **{"with": "steps"})
    kept = {name: export[name] for name in ("title", "type", "prerun", "steps", "guidance")}
    copy = create(client, "/checklists", **kept)
    assert [field["label"] for field in copy["prerun"]] == [field["label"] for field in export["prerun"]]
    assert not {field["id"] for field in copy["prerun"]} & {field["id"] for field in export["prerun"]}
    assert copy["steps_count"] == 6
    fields = client.data(f"/checklists/{copy['id']}/form-fields")["form_fields"]
    assert len(fields) == 10


def test_kickoff_fields_are_added_changed_ordered_and_deleted(client):
    path = f"/checklists/{RELEASE_CHECKLIST_ID}"
    template = client.data(path)
    prerun = [*template["prerun"], FIELD]
    changed = client.put(path, {"title": template["title"], "prerun": prerun}).json()["data"]["prerun"]
    assert [field["label"] for field in changed] == ["Version", "Kind"]
    changed[0]["position"], changed[1]["position"], changed[1]["label"] = 2, 1, "Which kind?"
    changed = client.put(path, {"title": template["title"], "prerun": changed}).json()["data"]["prerun"]
    assert [field["label"] for field in changed] == ["Which kind?", "Version"]
    # A field that is not sent stays; there is a request of its own to delete it.
    client.put(path, {"title": template["title"], "prerun": changed[:1]})
    assert len(client.data(path)["prerun"]) == 2
    assert client.delete(f"{path}/preruns/{changed[0]['id']}").status_code == 204
    assert [field["label"] for field in client.data(path)["prerun"]] == ["Version"]
    assert client.delete(f"{path}/preruns/{changed[0]['id']}").status_code == 404


def test_an_answer_is_changed_by_its_id(client):
    path = f"/runs/{SEEDED_RUN_ID}"
    [field] = client.data(f"{path}/form-fields")["form_fields"]
    assert (field["label"], field["value_id"]) == ("Comment", None)
    missing = client.put("/form-field/value", {"id": field["id"], "form_value": "Go"})
    assert (missing.status_code, '"capture" on null' in missing.json()["message"]) == (500, True)
    client.put(f"{path}/tasks/{field['task_id']}", {"taskdata": {field["id"]: "Wait"}})
    [field] = client.data(f"{path}/form-fields")["form_fields"]
    assert client.put("/form-field/value", {"id": field["value_id"], "form_value": "Go"}).status_code == 200
    assert client.data(f"{path}/tasks/{field['task_id']}")["taskdata"] == {field["id"]: "Go"}
    assert client.put("/form-field/value", {"id": field["value_id"], "form_value": 5}).status_code in (
        200,
        422,
    )
    assert client.data(f"{path}/form-fields")["ko_form_fields"][0]["label"] == "Version"


def test_a_guest_answers_a_field(client):
    task = create(
        client, "/tasks", **ONE_OFF | {"owners": {"guests": ["press@example.org"]}}, form_fields=[FIELD]
    )
    [field] = client.data(f"/tasks/{task['id']}", **{"with": "form_fields"})["form_fields"]["data"]
    body = {"id": field["id"], "form_value": "Yes"}
    assert client.post("/guests/press@example.org/form-field/value", body).status_code == 200
    assert client.data(f"/tasks/{task['id']}")["taskdata"] == {field["id"]: "Yes"}
    assert client.post("/guests/client@example.org/form-field/value", body).status_code == 404


def test_the_export_of_a_process_has_all_its_answers(client, light_client):
    client.decide(SEEDED_RUN_ID, is_approved=True)
    export = client.post(f"/runs/{SEEDED_RUN_ID}/export", None).json()["data"]
    assert len(export["tasks"]["data"]) == 3
    assert "Checked." in str(export["tasks"])
    run = client.launch()
    task = client.tasks(run["id"])["approve_release"]
    client.put(f"/runs/{run['id']}/tasks/{task['id']}", {"owners": {"users": [1004]}})
    assert light_client.post(f"/runs/{run['id']}/export", None).status_code == 403


def test_a_task_is_copied(client):
    task = create(client, "/tasks", **ONE_OFF, form_fields=[FIELD])
    client.post("/completed-tasks", {"task_id": task["id"]})
    copy = create(client, f"/tasks/{task['id']}/clone")
    assert copy["id"] != task["id"]
    assert (copy["title"], copy["status"], copy["completed_at"]) == (
        ONE_OFF["title"],
        client.data(f"/tasks/{copy['id']}")["status"],
        None,
    )


def test_each_assignee_gets_a_task_in_one_process(client):
    [managers, _] = client.data("/groups")
    owners = {"users": [1002, 1003], "guests": ["press@example.org"], "groups": [managers["id"]]}
    task = create(client, "/tasks", **ONE_OFF | {"owners": owners}, separate_task_for_each_assignee=True)
    tasks = client.data(f"/runs/{task['run_id']}/tasks", without_pagination="true")
    assert len(tasks) == 4
    assert task["id"] in {each["id"] for each in tasks}
    for each in tasks:
        assert client.post(f"/runs/{task['run_id']}/completed-tasks", {"task_id": each["id"]}).ok
    assert client.data(f"/runs/{task['run_id']}")["status"] == "complete"
    nobody = {"users": [], "guests": [], "groups": []}
    body = ONE_OFF | {"owners": nobody, "separate_task_for_each_assignee": True}
    assert refused(client.post("/tasks", body)) == ["owners"]


def test_a_file_is_described_downloaded_and_deleted(client):
    fields = {"uploaded_from": "ko_field", "subject_type": "Run", "subject_id": SEEDED_RUN_ID}
    upload = client.call("POST", "/file", data=fields, files={"name": ('né"w.txt', b"a\r\nb")})
    file = upload.json()["data"]
    assert client.data(f"/assets/{file['id']}") == file
    download = client.call("GET", f"/file/{file['id']}/dl")
    assert download.content == b"a\r\nb"
    assert download.headers["Content-Type"] == "application/octet-stream"
    assert download.headers["Content-Disposition"].startswith("attachment")
    assert client.delete(f"/file/{file['id']}").status_code == 200
    assert client.call("GET", f"/file/{file['id']}/dl").status_code == 404


def test_an_upload_without_a_file_or_above_the_limit_is_refused(client, monkeypatch):
    monkeypatch.setattr("airflow_provider_tallyfy.sandbox.files.MAX_BYTES", 10)
    fields = {"uploaded_from": "ko_field", "subject_type": "Run", "subject_id": SEEDED_RUN_ID}
    too_large = client.call("POST", "/assets", data=fields, files={"name": ("x.txt", b"x" * 11)})
    assert refused(too_large) == ["name"]
    assert refused(client.call("POST", "/assets", data=fields)) == ["name"]
    wrong = client.call("POST", "/assets", data={"subject_type": "Run"}, files={"name": ("x.txt", b"x")})
    assert refused(wrong) == ["uploaded_from", "subject_id"]


def test_a_disabled_member_gets_401(client, light_client):
    assert light_client.call("GET", "/me").status_code == 200
    assert client.delete("/users/1004/disable").status_code == 200
    assert light_client.call("GET", "/me").status_code == 401
    assert client.put("/users/1004/enable").status_code == 200
    assert light_client.call("GET", "/me").status_code == 200
    assert light_client.delete("/users/1002/disable").status_code == 403


def test_a_member_becomes_a_guest_and_a_guest_a_member(client):
    assert client.put("/users/1004/to/guest").json()["data"]["email"] == "dev@example.com"
    assert client.data("/users/1004")["status"] == "disabled"
    member = client.post("/guests/press@example.org/to/member", None).json()["data"]
    assert (member["email"], member["role"]) == ("press@example.org", "Light")
    assert client.call("GET", "/guests/press@example.org").status_code == 404


def test_profile_of_a_member_is_changed(client):
    body = {"first_name": "Benjamin", "last_name": "Larsen", "timezone": "Europe/Oslo"}
    changed = client.put("/users/1002", body).json()["data"]
    assert (changed["full_name"], changed["timezone"]) == ("Benjamin Larsen", "Europe/Oslo")
    assert refused(client.put("/users/1002", {"first_name": "Ben"})) == ["last_name", "timezone"]


def test_a_deleted_guest_is_taken_off_all_tasks(client):
    assert client.tasks(SEEDED_RUN_ID)["announce_release"]["owners"]["guests"] == ["press@example.org"]
    assert client.delete("/guests/press@example.org").status_code == 200
    assert client.tasks(SEEDED_RUN_ID)["announce_release"]["owners"]["guests"] == []


def test_a_deleted_group_is_taken_off_all_templates_and_tasks(client):
    [managers, _] = client.data("/groups")
    assert client.delete(f"/groups/{managers['id']}").status_code == 204
    assert client.tasks(SEEDED_RUN_ID)["approve_release"]["owners"]["groups"] == []
    assert client.data(f"{TEMPLATE}/steps")[1]["groups"] == []
    assert client.tasks(client.launch()["id"])["approve_release"]["owners"]["groups"] == []


def test_deleted_tags_and_folders_are_not_shown_in_older_versions(client):
    client.control("POST", "/behavior", {"run_lag": 60, "list_lag": 60})
    for path in ("/tags", "/folders"):
        for item in client.data(path):
            assert client.delete(f"{path}/{item['id']}").status_code == 204
    included = {"with": "tags,folders,checklist.tags,checklist.folder"}
    for run in (client.data(f"/runs/{ONBOARDING_RUN_ID}", **included), *client.data("/runs", **included)):
        assert (run["tags"], run["folders"]) == ({"data": []}, {"data": []})
        assert run["checklist"]["data"]["tags"] == {"data": []}
        assert run["checklist"]["data"]["folder"] is None


def test_deleting_an_unknown_tag_is_no_error(client):
    assert client.delete("/tags/nowhere").status_code == 204
