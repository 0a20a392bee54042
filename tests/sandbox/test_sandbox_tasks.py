from __future__ import annotations

import pytest

from airflow_provider_tallyfy.sandbox.seeds import COMPLETE_RUN_ID, ONBOARDING_RUN_ID, SEEDED_RUN_ID

DOCUMENTED_KEYS = {
    *("id", "increment_id", "title", "run_id", "checklist_id", "step_id", "alias", "status", "status_label"),
    *("task_type", "is_oneoff_task", "is_completable", "is_approved", "owners", "position", "started_at"),
    *("deadline", "created_at", "last_updated", "completed_at", "archived_at", "starter_id", "completer_id"),
    *("everyone_must_complete", "can_complete_only_assignees", "max_assignable", "webhook", "top_secret"),
}
ONE_OFF = {
    "title": "Water the plants",
    "task_type": "task",
    "owners": {"users": [1001]},
    "deadline": "2099-06-30T17:00:00Z",
}


def test_a_task_has_the_documented_keys(client):
    task = client.tasks(SEEDED_RUN_ID)["approve_release"]
    shown = client.data(f"/tasks/{task['id']}")
    assert shown.keys() >= DOCUMENTED_KEYS
    assert not shown.keys() & {"form_fields", "run", "step"}
    assert "summary" not in task
    assert shown["summary"] == "Say in the comment why version 2.4.0 may or may not go out."
    assert client.data(f"/runs/{SEEDED_RUN_ID}/tasks/{task['id']}") == shown


def test_with_adds_form_fields_run_and_step(client):
    task_id = client.tasks(SEEDED_RUN_ID)["approve_release"]["id"]
    included = "form_fields,run,run.checklist,step,threads,threads_count,issues,tags,ko-form-fields,assets"
    shown = client.data(f"/tasks/{task_id}", **{"with": included})
    [comment] = shown["form_fields"]["data"]
    assert (comment["alias"], comment["field_type"], comment["required"], comment["field_value"]) == (
        *("comment", "textarea"),
        *(True, None),
    )
    assert shown["run"]["data"]["checklist"]["data"]["title"] == "Release approval"
    assert shown["step"]["data"]["title"] == "Approve release"
    assert shown["ko-form-fields"]["data"][0]["field_value"] == "2.4.0"


def test_a_task_is_found_only_in_its_own_run(client):
    task_id = client.tasks(SEEDED_RUN_ID)["approve_release"]["id"]
    assert client.call("GET", f"/runs/{COMPLETE_RUN_ID}/tasks/{task_id}").status_code == 404
    body = {"task_id": task_id, "is_approved": True}
    assert client.post(f"/runs/{COMPLETE_RUN_ID}/completed-tasks", body).status_code == 404


def test_filter_by_status_as_measured(client):
    run = f"/runs/{ONBOARDING_RUN_ID}"
    tasks = client.tasks(ONBOARDING_RUN_ID)
    notes = tasks["collect_documents"]["form_fields"]["data"][1]["id"]
    client.put(f"{run}/tasks/{tasks['collect_documents']['id']}", {"taskdata": {notes: "Begun."}})
    client.complete(ONBOARDING_RUN_ID, "review_contract", is_approved=True)
    client.post(f"/tasks/{tasks['set_up_account']['id']}/problem", {"content": "No account"})
    idea = {"content": "Call earlier", "label": "improvement"}
    client.post(f"/tasks/{tasks['welcome_call']['id']}/comment", idea)
    client.advance(hours=12)
    expected = {
        "all": [1, 2, 3, 4, 5, 6],
        "complete": [2],
        "active": [1, 3, 4, 5, 6],  # with the one that a rule hides
        "active-visible": [1, 3, 4, 5],
        "not-started": [3, 4, 5],
        "in-progress": [1],
        "overdue": [1],
        "due-soon": [4],
        "on-time": [3, 4, 5],
        "has-problem": [3],
        "has-improvement": [5],
        "auto-skipped": [1, 2, 3, 4, 5],  # all but those
        "complete,overdue": [1, 2],
        "complete,nonsense": [2],
        # Unknown values filter nothing; these are in the documentation.
        **{name: [1, 2, 3, 4, 5, 6] for name in ("completed", "incomplete", "active_visible", "hasproblem")},
    }
    assert expected == {
        status: [task["position"] for task in client.data(f"{run}/tasks", status=status)]
        for status in expected
    }


def test_a_task_has_one_of_four_statuses(client):
    tasks = client.tasks(ONBOARDING_RUN_ID)
    assert {task["status"] for task in tasks.values()} == {"not-started", "auto-skipped"}
    assert tasks["decline_customer"]["status"] == "auto-skipped"
    # A status that is sent is ignored.
    path = f"/runs/{ONBOARDING_RUN_ID}/tasks/{tasks['set_up_account']['id']}"
    assert client.put(path, {"status": "completed"}).json()["data"]["status"] == "not-started"


def test_filters_by_time_follow_the_clock(client):
    def overdue(status):
        return [task["alias"] for task in client.data(f"/runs/{SEEDED_RUN_ID}/tasks", status=status)]

    client.advance(days=1)
    assert overdue("due-soon") == ["approve_release"]
    client.advance(days=1)
    assert overdue("overdue") == ["approve_release"]
    assert client.data(f"/runs/{SEEDED_RUN_ID}")["late_tasks"] == 1
    assert client.data(f"/runs/{SEEDED_RUN_ID}")["status"] == "delayed"


def test_sorting_and_paging(client):
    path = f"/runs/{ONBOARDING_RUN_ID}/tasks"

    def order(**params):
        return [task["position"] for task in client.data(path, **params)]

    assert order() == order(sort="position") == [1, 2, 3, 4, 5, 6]
    assert order(sort="-position") == [6, 5, 4, 3, 2, 1]
    assert order(sort="deadline") == [1, 4, 2, 6, 3, 5]
    answer = client.get(path, per_page=4, page=2)
    assert [task["position"] for task in answer["data"]] == [5, 6]
    assert answer["meta"]["pagination"]["total_pages"] == 2


def test_filters_by_owner_and_deadline(client):
    path = f"/runs/{ONBOARDING_RUN_ID}/tasks"
    task = client.tasks(ONBOARDING_RUN_ID)["set_up_account"]
    day = task["deadline"][:10]

    def aliases(**params):
        return {task["alias"] for task in client.data(path, **params)}

    assert aliases(owners="1004") == {"set_up_account"}
    assert aliases(guests="client@example.org") == {"welcome_call"}
    assert aliases(groups=f"5eed0007{2:024x}") == {"security_review"}
    assert aliases(unassigned="true") == set()
    assert aliases(deadline_on=day) == {"set_up_account"}
    assert aliases(deadline_after=day) == {"welcome_call"}
    assert "set_up_account" not in aliases(deadline_before=day)
    assert aliases(deadline_start_range=day, deadline_end_range=day) == {"set_up_account"}


def test_complete(client):
    run = client.launch()
    answer = client.complete(run["id"], "prepare_release_notes")
    task = answer.json()["data"]
    assert answer.status_code == 200
    assert (task["status"], task["completer_id"], task["tasks_changed_by_rules"]) == ("completed", 1001, {})
    assert task["completed_at"] is not None
    assert client.data(f"/runs/{run['id']}")["progress"]["complete"] == 1


def test_a_run_completes_with_its_last_task_and_reopens_with_any(client):
    client.decide(SEEDED_RUN_ID, is_approved=True)
    client.complete(SEEDED_RUN_ID, "announce_release")
    run = client.data(f"/runs/{SEEDED_RUN_ID}")
    assert (run["status"], run["progress"]["percent"]) == ("complete", 100)
    assert run["completed_at"] is not None

    task_id = client.tasks(SEEDED_RUN_ID)["announce_release"]["id"]
    reopened = client.delete(f"/runs/{SEEDED_RUN_ID}/completed-tasks/{task_id}").json()["data"]
    assert reopened["status"] == "in-progress"
    assert [
        reopened[key] for key in ("completed_at", "completer_id", "completer_guest_id", "is_approved")
    ] == [None] * 4
    run = client.data(f"/runs/{SEEDED_RUN_ID}")
    assert (run["status"], run["completed_at"]) == ("active", None)
    assert (run["progress"]["complete"], run["progress"]["approved"]) == (2, 1)


def test_a_completed_task_is_completed_only_once_and_not_changed(client):
    task_id = client.tasks(SEEDED_RUN_ID)["prepare_release_notes"]["id"]
    refused = client.post(f"/runs/{SEEDED_RUN_ID}/completed-tasks", {"task_id": task_id})
    assert refused.status_code == 422
    assert "already completed" in refused.json()["message"]
    assert client.put(f"/runs/{SEEDED_RUN_ID}/tasks/{task_id}", {"title": "Other"}).status_code == 422


def test_refuses_to_reopen_an_open_task(client):
    task_id = client.tasks(SEEDED_RUN_ID)["approve_release"]["id"]
    assert client.delete(f"/runs/{SEEDED_RUN_ID}/completed-tasks/{task_id}").status_code == 422


def test_an_approval_needs_a_decision_and_its_required_fields(client):
    task = client.tasks(SEEDED_RUN_ID)["approve_release"]
    undecided = client.complete(SEEDED_RUN_ID, "approve_release")
    assert (undecided.status_code, list(undecided.json()["errors"])) == (422, ["is_approved"])
    empty = client.complete(SEEDED_RUN_ID, "approve_release", is_approved=False)
    assert empty.status_code == 422
    assert empty.json()["message"] == "Comment is required"
    assert client.data(f"/tasks/{task['id']}")["completed_at"] is None


@pytest.mark.parametrize("is_approved", [True, False])
def test_the_decision_is_kept_until_the_task_is_reopened(client, is_approved):
    client.decide(SEEDED_RUN_ID, is_approved=is_approved)
    task = client.tasks(SEEDED_RUN_ID)["approve_release"]
    assert (task["status"], task["is_approved"]) == ("completed", is_approved)
    client.delete(f"/runs/{SEEDED_RUN_ID}/completed-tasks/{task['id']}")
    assert client.tasks(SEEDED_RUN_ID)["approve_release"]["is_approved"] is None


def test_a_decision_on_an_ordinary_task_is_ignored(client):
    run = client.launch()
    assert (
        client.complete(run["id"], "prepare_release_notes", is_approved=True).json()["data"]["is_approved"]
        is None
    )


def test_another_member_can_be_recorded_as_the_completer(client):
    run = client.launch()
    refused = client.complete(run["id"], "prepare_release_notes", override_user=7)
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["override_user"])
    done = client.complete(run["id"], "prepare_release_notes", override_user=1003).json()["data"]
    assert done["completer_id"] == 1003


def test_update_a_task_of_a_run(client):
    task = client.tasks(SEEDED_RUN_ID)["approve_release"]
    change = {
        "title": "Decide",
        "deadline": "2099-07-01 09:00:00",
        "owners": {"users": [1003]},
        "summary": "Now.",
        "position": 9,
    }
    changed = client.put(f"/runs/{SEEDED_RUN_ID}/tasks/{task['id']}", change).json()["data"]
    assert (changed["title"], changed["deadline"]) == ("Decide", "2099-07-01T09:00:00.000Z")
    assert (changed["summary"], changed["position"]) == ("Now.", 9)
    # Owners replace: a list that is left out is emptied.
    assert changed["owners"] == {"users": [1003], "guests": [], "groups": []}


@pytest.mark.parametrize(
    ("owners", "field"),
    [
        ({"users": [5]}, "owners.users"),
        ({"guests": ["nobody"]}, "owners.guests"),
        ({"groups": ["no"]}, "owners.groups"),
    ],
)
def test_owners_must_exist(client, owners, field):
    task = client.tasks(SEEDED_RUN_ID)["approve_release"]
    refused = client.put(f"/runs/{SEEDED_RUN_ID}/tasks/{task['id']}", {"owners": owners})
    assert (refused.status_code, list(refused.json()["errors"])) == (422, [field])


def test_a_one_off_task_from_creation_to_deletion(client):
    created = client.post("/tasks", ONE_OFF)
    assert created.status_code == 201
    task = created.json()["data"]
    assert (task["run_id"], task["step_id"], task["is_oneoff_task"]) == (None, None, True)
    assert task["status"] == "not-started"
    path = f"/tasks/{task['id']}"

    # For a one-off task these three are required at each update.
    missing = client.put(path, {"title": "Feed the cat"})
    assert (missing.status_code, set(missing.json()["errors"])) == (422, {"deadline", "owners"})
    changed = {**ONE_OFF, "title": "Feed the cat"}
    assert client.put(path, changed).json()["data"]["title"] == "Feed the cat"

    done = client.post("/completed-tasks", {"task_id": task["id"]}).json()["data"]
    assert done["status"] == "completed"
    assert "tasks_changed_by_rules" not in done
    assert client.delete(f"/completed-tasks/{task['id']}").json()["data"]["status"] == "in-progress"

    assert client.delete(path).status_code == 204
    assert client.call("GET", path).status_code == 404
    assert client.put(f"{path}/restore").status_code == 200
    assert client.delete(f"{path}/delete").status_code == 204
    assert client.put(f"{path}/restore").status_code == 404


def test_a_one_off_task_can_have_form_fields(client):
    fields = [
        {
            "label": "Pot size",
            "field_type": "radio",
            "required": True,
            "options": [{"id": 1, "text": "S"}, {"id": 2, "text": "L"}],
        }
    ]
    task = client.post("/tasks", {**ONE_OFF, "form_fields": fields}).json()["data"]
    body = {"task_id": task["id"]}
    assert client.post("/completed-tasks", body).status_code == 422
    [field] = client.data(f"/tasks/{task['id']}", **{"with": "form_fields"})["form_fields"]["data"]
    client.put(f"/tasks/{task['id']}", {**ONE_OFF, "taskdata": {field["id"]: "L"}})
    assert client.post("/completed-tasks", body).status_code == 200


def test_a_one_off_task_in_a_run_counts_for_it(client):
    client.post("/tasks", {**ONE_OFF, "run_id": SEEDED_RUN_ID})
    assert client.data(f"/runs/{SEEDED_RUN_ID}")["progress"]["total"] == 4


@pytest.mark.parametrize("field", ["title", "task_type", "owners", "deadline"])
def test_required_fields_of_a_one_off_task(client, field):
    refused = client.post("/tasks", {key: value for key, value in ONE_OFF.items() if key != field})
    assert (refused.status_code, list(refused.json()["errors"])) == (422, [field])


def test_a_task_of_a_run_is_not_a_one_off_task(client):
    task_id = client.tasks(SEEDED_RUN_ID)["approve_release"]["id"]
    assert client.post("/completed-tasks", {"task_id": task_id, "is_approved": True}).status_code == 404
    assert client.put(f"/tasks/{task_id}", ONE_OFF).status_code == 404
    assert client.delete(f"/tasks/{task_id}").status_code == 422


def test_a_one_off_task_for_its_assignees_only(client):
    task = client.post(
        "/tasks", {**ONE_OFF, "owners": {"users": [1002]}, "can_complete_only_assignees": True}
    )
    body = {"task_id": task.json()["data"]["id"]}
    assert client.post("/completed-tasks", body).status_code == 403
    path = f"/tasks/{body['task_id']}"
    client.put(path, {**ONE_OFF, "owners": {"groups": [f"5eed0007{1:024x}"]}})  # Ada is in this group
    assert client.post("/completed-tasks", body).status_code == 200


@pytest.mark.parametrize("change", [{"owners": {"users": [5]}}, {"tags": ["none"]}, {"task_type": "chore"}])
def test_a_one_off_task_with_bad_input_is_refused(client, change):
    assert client.post("/tasks", {**ONE_OFF, **change}).status_code == 422


def test_refuses_to_delete_an_unknown_task(client, light_client):
    assert client.delete("/tasks/none/delete").status_code == 404
    task = client.post("/tasks", ONE_OFF).json()["data"]  # of Ada
    client.delete(f"/tasks/{task['id']}")
    assert light_client.put(f"/tasks/{task['id']}/restore").status_code == 404
    assert light_client.delete(f"/tasks/{task['id']}/delete").status_code == 404


def test_the_tags_of_a_one_off_task(client):
    tag = f"5eed0008{1:024x}"
    task = client.post("/tasks", {**ONE_OFF, "tags": [tag]}).json()["data"]
    shown = client.data(f"/tasks/{task['id']}", **{"with": "tags"})
    assert [each["title"] for each in shown["tags"]["data"]] == ["Urgent"]
    assert [each["id"] for each in client.data("/tasks", tag="Urgent")] == [task["id"]]


def test_the_organizations_tasks(client):
    client.post("/tasks", ONE_OFF)
    everything = client.data("/tasks", without_pagination="true")
    assert (
        len(everything) == 12
    )  # three of each release, five of the onboarding that are not hidden, the new one
    assert [task["title"] for task in client.data("/tasks", is_oneoff="true")] == ["Water the plants"]
    assert len(client.data("/tasks", q="approve release")) == 2
    newest = client.data("/tasks", sort="completed_newest", status="complete")
    assert newest[0]["run_id"] == SEEDED_RUN_ID
    client.delete(f"/runs/{SEEDED_RUN_ID}")
    assert len(client.data("/tasks", without_pagination="true")) == 9
    assert len(client.data("/tasks", archived="only")) == 3


def test_the_tasks_of_a_member(client, light_client):
    assert [task["alias"] for task in light_client.data("/me/tasks")] == ["set_up_account"]
    mine = client.data("/me/tasks")
    assert {task["alias"] for task in mine} == {"review_contract", "approve_release"}
    assert len(client.data("/me/tasks", status="all")) == 3  # of the finished release too
    assert [task["alias"] for task in client.data("/users/1004/tasks")] == ["set_up_account"]
    assert client.call("GET", "/users/1/tasks").status_code == 404
    assert {task["alias"] for task in client.data("/guests/client@example.org/tasks")} == {"welcome_call"}


def one_off(client, task_type, **more):
    answer = client.post(
        "/tasks", {**ONE_OFF, "deadline": "2027-06-30T17:00:00Z", "task_type": task_type, **more}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


@pytest.mark.parametrize("task_type", ["expiring", "expiring_email"])
def test_a_task_that_expires_ends_at_its_deadline_without_a_completer(client, task_type):
    task = one_off(client, task_type, run_id=SEEDED_RUN_ID)
    client.control("POST", "/clock", {"set": "2027-06-30T16:59:50Z"})
    assert client.data(f"/tasks/{task['id']}")["status"] == "not-started"
    client.control("POST", "/clock", {"set": "2027-07-05T00:00:00Z"})
    ended = client.data(f"/tasks/{task['id']}")
    assert (ended["status"], ended["completed_at"]) == ("completed", "2027-06-30T17:00:00.000Z")
    assert (ended["completer_id"], ended["is_approved"]) == (None, False)
    [entry] = client.data("/activity-feeds", entity_type="task", entity_id=task["id"], verb="completed")
    assert entry["description"] == ["Expired task: Water the plants"]
    assert client.data(f"/runs/{SEEDED_RUN_ID}")["progress"]["complete"] == 2


def test_a_task_that_expires_can_be_acknowledged(client):
    task = one_off(client, "expiring")
    done = client.post("/completed-tasks", {"task_id": task["id"]}).json()["data"]
    assert (done["completer_id"], done["is_approved"]) == (1001, True)
    client.delete(f"/completed-tasks/{task['id']}")
    said = {"task_id": task["id"], "is_approved": False}
    assert client.post("/completed-tasks", said).json()["data"]["is_approved"] is False


def test_other_tasks_do_not_expire(client):
    tasks = [one_off(client, task_type) for task_type in ("task", "approval", "email")]
    client.control("POST", "/clock", {"set": "2027-07-05T00:00:00Z"})
    assert {client.data(f"/tasks/{task['id']}")["status"] for task in tasks} == {"not-started"}


def test_an_archived_task_does_not_expire(client):
    task = one_off(client, "expiring")
    client.delete(f"/tasks/{task['id']}")
    client.control("POST", "/clock", {"set": "2027-07-05T00:00:00Z"})
    client.data("/tasks")
    assert client.sandbox.change(lambda store: store.tasks[task["id"]].completed_at) is None


def test_refuses_values_with_a_completion(client):
    task = client.tasks(SEEDED_RUN_ID)["approve_release"]
    values = {task["form_fields"]["data"][0]["id"]: "Checked."}
    path = f"/runs/{SEEDED_RUN_ID}"
    both = client.put(f"{path}/tasks/{task['id']}", {"taskdata": values, "status": "completed"})
    assert both.status_code == 422
    body = {"task_id": task["id"], "is_approved": True, "taskdata": values}
    assert client.post(f"{path}/completed-tasks", body).status_code == 422
    assert client.data(f"/tasks/{task['id']}")["taskdata"] == {}


@pytest.mark.parametrize("deadline", [1767225600, "1767225600", "soon", None])
def test_refuses_a_deadline_that_is_not_an_iso_date(client, deadline):
    refused = client.post("/tasks", {**ONE_OFF, "deadline": deadline})
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["deadline"])


def test_the_offset_of_a_date_is_dropped(client):
    task = one_off(client, "task", deadline="2027-06-30T17:00:00+05:30")
    assert task["deadline"] == "2027-06-30T17:00:00.000Z"


def test_filter_by_the_day_of_creation(client):
    today = client.control("GET", "/clock")["now"][:10]
    one_off(client, "task")
    client.advance(days=2)
    later = client.control("GET", "/clock")["now"][:10]
    one_off(client, "approval")

    def created(days):
        return [task["task_type"] for task in client.data("/tasks", created=days, is_oneoff="true")]

    assert (created(today), created(later)) == (["task"], ["approval"])
    assert len(created(f"{today}:{later}")) == 2
    assert client.call("GET", "/tasks", params={"created": "lately"}).status_code == 422
