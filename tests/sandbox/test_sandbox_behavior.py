"""Each behavior for which the sources on Tallyfy disagree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import requests

from airflow_provider_tallyfy.sandbox import store
from airflow_provider_tallyfy.sandbox.access import LIMITS, Limiter
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.clock import to_working_day
from airflow_provider_tallyfy.sandbox.model import Run, Task
from airflow_provider_tallyfy.sandbox.seeds import (
    ONBOARDING_CHECKLIST_ID,
    ONBOARDING_RUN_ID,
    SEEDED_RUN_ID,
)
from airflow_provider_tallyfy.sandbox.server import SandboxServer
from dev.sandbox import SandboxClient

RUN = f"/runs/{SEEDED_RUN_ID}"
DEFAULTS = Behavior().model_dump()


def behave(client, **behavior):
    return client.control("POST", "/behavior", behavior)


def announcement(client):
    [task] = client.sandbox.change(
        lambda store: [
            task.id for task in store.runs[SEEDED_RUN_ID].tasks.values() if task.alias == "announce_release"
        ]
    )
    return task


def complete(client, task_id, **body):
    return client.post(f"{RUN}/completed-tasks", {"task_id": task_id, **body})


class TestControl:
    def test_fields_that_are_not_sent_stay(self, client):
        assert client.control("GET", "/behavior") == DEFAULTS
        assert behave(client, run_lag=3) == DEFAULTS | {"run_lag": 3}
        assert behave(client, errors="structured") == DEFAULTS | {"run_lag": 3, "errors": "structured"}
        assert behave(client, run_lag=0, errors="message") == DEFAULTS

    @pytest.mark.parametrize(
        "bad",
        [
            {"run_lag": -1},
            {"list_lag": "long"},
            {"second_completion": "maybe"},
            {"errors": None},
            {"run_lags": 3},
            [],
        ],
    )
    def test_refuses_invalid_values(self, client, bad):
        answer = requests.post(f"{client.sandbox.url}/_sandbox/behavior", json=bad, timeout=10)
        assert answer.status_code == 422
        assert client.control("GET", "/behavior") == DEFAULTS

    def test_a_reset_restores_the_behavior_of_the_start(self):
        start = Behavior(second_completion="accept", run_lag=2)
        with SandboxServer(**start.model_dump()) as sandbox:
            people = SandboxClient(sandbox.url)
            people.behave(second_completion="refuse", list_lag=9)
            sandbox.reset()
            assert people.control("GET", "/behavior") == start.model_dump()

    def test_sandbox_client_understands_the_behavior(self, client):
        people = SandboxClient(client.sandbox.url)
        people.behave(run_lag=1.5, list_lag=2, second_completion="accept", errors="structured")
        assert people.control("GET", "/behavior") == DEFAULTS | {
            "run_lag": 1.5,
            "list_lag": 2,
            "second_completion": "accept",
            "errors": "structured",
        }
        people.behave(run_lag=0)
        assert people.control("GET", "/behavior")["list_lag"] == 2


class TestLag:
    def test_run_and_tasks_lag(self, client):
        behave(client, run_lag=5)
        task_id = announcement(client)
        complete(client, task_id)
        client.put(RUN, {"name": "Renamed"})
        client.post(f"/tasks/{task_id}/comment", {"content": "Done."})

        def seen():
            task = client.data(f"{RUN}/tasks/{task_id}", **{"with": "threads"})
            run = client.data(RUN, **{"with": "tasks"})
            return (
                run["name"],
                run["progress"]["complete"],
                sum(each["completed_at"] is not None for each in run["tasks"]["data"]),
                task["completed_at"] is not None,
                client.data(f"/tasks/{task_id}")["status"],
                len(task["threads"]["data"]),
            )

        assert seen() == ("Release 2.4.0", 1, 1, False, "not-started", 0)
        client.advance(seconds=4)
        assert seen() == ("Release 2.4.0", 1, 1, False, "not-started", 0)
        client.advance(seconds=1)
        assert seen() == ("Renamed", 2, 2, True, "completed", 1)

    def test_changes_appear_in_order(self, client):
        behave(client, run_lag=10)
        seen = []
        for number in range(5):
            client.put(RUN, {"name": f"Name {number}"})
            seen.append(client.data(RUN)["name"])
            client.advance(seconds=5)
        assert seen == ["Release 2.4.0", "Release 2.4.0", "Name 0", "Name 1", "Name 2"]

    def test_a_later_run_is_not_found(self, client):
        behave(client, run_lag=5, list_lag=5)
        run = client.launch(name="New")
        [task_id, *_] = client.sandbox.change(lambda store: list(store.runs[run["id"]].tasks))
        paths = [f"/runs/{run['id']}", f"/runs/{run['id']}/tasks", f"/tasks/{task_id}"]
        for path in paths:
            missing = client.call("GET", path)
            assert (missing.status_code, missing.json()["code"]) == (404, "RESOURCE_NOT_FOUND")
        assert client.get("/runs", q="New")["meta"]["pagination"]["total"] == 0
        client.advance(seconds=5)
        assert [client.call("GET", path).status_code for path in paths] == [200, 200, 200]
        assert client.get("/runs", q="New")["meta"]["pagination"]["total"] == 1

    def test_a_deleted_run_is_still_shown(self, client):
        behave(client, run_lag=5)
        one_off = client.post(
            "/tasks",
            {
                "title": "Once",
                "task_type": "task",
                "owners": {"users": [1001]},
                "deadline": "2030-01-01T00:00:00Z",
            },
        ).json()["data"]["id"]
        client.advance(seconds=5)
        assert client.data(f"/tasks/{one_off}")["title"] == "Once"
        assert client.delete(f"/tasks/{one_off}/delete").status_code == 204
        assert client.delete(RUN).status_code == 200
        assert client.delete(f"{RUN}/delete").status_code == 200
        assert client.data(RUN)["status"] == "active"
        assert client.data(f"/tasks/{one_off}")["title"] == "Once"
        client.advance(seconds=5)
        assert client.call("GET", RUN).status_code == 404
        assert client.call("GET", f"/tasks/{one_off}").status_code == 404

    def test_lists_lag_independently(self, client):
        behave(client, list_lag=5)
        task_id = announcement(client)
        complete(client, task_id)

        def seen():
            tasks = {task["id"]: task for task in client.data(f"{RUN}/tasks", without_pagination="true")}
            [run] = client.data("/runs", q="Release 2.4.0")
            done = client.data("/tasks", q="Announce release", status="complete")
            [found] = client.get("/search", search="Release 2.4.0")["process"]["data"]
            return (
                tasks[task_id]["status"],
                run["progress"]["complete"],
                found["progress"]["complete"],
                task_id in [task["id"] for task in done],
            )

        assert client.data(RUN)["progress"]["complete"] == 2
        assert client.data(f"{RUN}/tasks/{task_id}")["status"] == "completed"
        assert seen() == ("not-started", 1, 1, False)
        client.advance(seconds=5)
        assert seen() == ("completed", 2, 2, True)

    def test_a_write_uses_and_shows_the_current_state(self, client):
        behave(client, run_lag=60, list_lag=60)
        run = client.launch()
        assert client.put(f"/runs/{run['id']}", {"name": "New"}).json()["data"]["name"] == "New"
        completed = complete(client, announcement(client))
        assert completed.json()["data"]["status"] == "completed"
        assert complete(client, announcement(client)).status_code == 422

    def test_state_before_the_lag_is_shown(self, client):
        complete(client, announcement(client))
        behave(client, run_lag=3600)
        assert client.data(RUN)["progress"]["complete"] == 2

    def test_no_lag_shows_the_current_state(self, client):
        behave(client, run_lag=60)
        complete(client, announcement(client))
        behave(client, run_lag=0)
        assert client.data(RUN)["progress"]["complete"] == 2

    def test_the_web_page_and_the_sandbox_client_do_not_lag(self, client):
        behave(client, run_lag=60, list_lag=60, errors="structured")
        people = SandboxClient(client.sandbox.url)
        assert people.complete_next(SEEDED_RUN_ID)["title"] == "Announce release"
        assert people.complete_next(SEEDED_RUN_ID) is None
        assert [task["status"] for task in people.tasks(SEEDED_RUN_ID)] == ["completed"] * 3
        refused = client.call("GET", "/runs/none", headers={"X-Tallyfy-Client": "SandboxPage"})
        assert refused.json()["message"] == "Resource not found"
        assert client.data(RUN)["progress"]["complete"] == 1

    def test_old_states_are_dropped(self, client):
        behave(client, run_lag=5)
        for number in range(20):
            client.put(RUN, {"name": f"Name {number}"})
            client.advance(seconds=1)
        [kept] = client.sandbox.change(
            lambda store: [len(states) for key, states in store._versions.items() if key == SEEDED_RUN_ID]
        )
        assert kept <= 7

    def test_a_change_copies_only_its_own_run(self, client, monkeypatch):
        behave(client, run_lag=5)
        copy, copied = store._snapshot, []
        monkeypatch.setattr(store, "_snapshot", lambda item: copied.append(item) or copy(item))
        client.put(RUN, {"summary": "x"})
        assert [item.name for item in copied if isinstance(item, Run)] == ["Release 2.4.0"]
        assert {task.run_id for task in copied if isinstance(task, Task)} == {SEEDED_RUN_ID}


class TestSecondCompletion:
    def test_it_is_refused(self, client):
        task_id = announcement(client)
        assert complete(client, task_id).status_code == 200
        refused = complete(client, task_id)
        assert (refused.status_code, refused.json()["message"]) == (422, "This task is already completed.")
        assert client.control("GET", "/completions")[task_id] == 1

    @pytest.mark.parametrize("mode", ["accept", "overwrite"])
    def test_accept_answers_200_and_records_again(self, client, mode):
        behave(client, second_completion=mode)
        task_id = announcement(client)
        first = complete(client, task_id).json()["data"]
        client.advance(minutes=1)
        again = complete(client, task_id, override_user=1003)
        assert again.status_code == 200
        second = again.json()["data"]
        changed = {"completer_id", "completed_at", "last_updated"} if mode == "overwrite" else set()
        assert {name for name in first if first[name] != second[name]} == changed
        rows = client.data("/activity-feeds", entity_type="task", entity_id=task_id, verb="completed")
        assert [row["actor_id"] for row in rows] == [[1001], [1003]]
        people = SandboxClient(client.sandbox.url)
        assert people.completions(task_id) == 2
        assert people.completions("none") == 0

    def test_another_decision_is_ignored(self, client):
        behave(client, second_completion="accept")
        client.decide(SEEDED_RUN_ID, is_approved=True)
        again = client.complete(SEEDED_RUN_ID, "approve_release", is_approved=False)
        assert (again.status_code, again.json()["data"]["is_approved"]) == (200, True)
        assert client.tasks(SEEDED_RUN_ID)["announce_release"]["status"] == "not-started"

    def test_overwrite_replaces_the_decision(self, client):
        behave(client, second_completion="overwrite")
        client.decide(SEEDED_RUN_ID, is_approved=True)
        again = client.complete(SEEDED_RUN_ID, "approve_release", is_approved=False)
        assert (again.status_code, again.json()["data"]["is_approved"]) == (200, False)
        assert client.tasks(SEEDED_RUN_ID)["announce_release"]["status"] == "auto-skipped"


class TestErrors:
    def test_they_can_be_structured(self, client):
        behave(client, errors="structured")
        task_id = announcement(client)
        assert client.call("GET", "/runs/none").json() == {
            "error": {"code": "RESOURCE_NOT_FOUND", "message": "Resource not found", "details": {}}
        }
        invalid = client.put(f"/runs/{ONBOARDING_RUN_ID}", {"name": "x" * 551, "owner_id": "nobody"})
        error = invalid.json()["error"]
        assert invalid.json().keys() == {"error"}
        assert (invalid.status_code, error["code"]) == (422, "UNPROCESSABLE_ENTITY")
        assert error["details"].keys() == {"name", "owner_id"}
        assert error["message"] in error["details"]["name"]
        assert client.post(f"{RUN}/problem", {"content": "No."}).status_code == 201
        conflict = complete(client, task_id)
        assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "CONFLICT")
        client.session.headers["Authorization"] = "Bearer none"
        assert client.call("GET", RUN).json()["error"]["message"] == "Unauthenticated."
        endpoint = client.call("GET", "/nothing")
        assert endpoint.json()["error"]["code"] == "ENDPOINT_NOT_FOUND"

    def test_retry_after_stays_in_the_header(self, client):
        behave(client, errors="structured", rate_limit="burst")
        for _ in range(13):
            refused = client.call("GET", RUN)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert int(refused.headers["Retry-After"]) > 0


class TestFormats:
    def test_the_users_among_owners(self, client):
        assert client.tasks(SEEDED_RUN_ID)["approve_release"]["owners"]["users"] == [1002]
        behave(client, owners="objects")
        [user] = client.tasks(SEEDED_RUN_ID)["approve_release"]["owners"]["users"]
        assert (user["id"], user["full_name"]) == (1002, "Ben Larsen")
        [next_task] = client.data(RUN, **{"with": "next_task"})["next_task"]["data"]
        assert next_task["owners"]["users"] == [user]

    @pytest.mark.parametrize(("answers", "other"), [("field_value", "value"), ("value", "field_value")])
    def test_the_key_of_an_answer(self, client, answers, other):
        behave(client, answers=answers)
        client.decide(SEEDED_RUN_ID, is_approved=True)
        [field] = client.tasks(SEEDED_RUN_ID)["approve_release"]["form_fields"]["data"]
        assert field[answers] == "Checked."
        assert other not in field

    def test_the_lists_of_a_template(self, client):
        path = f"/checklists/{ONBOARDING_CHECKLIST_ID}"
        wrapped = client.data(path, **{"with": "steps,tags"})
        behave(client, template_lists="bare")
        bare = client.data(path, **{"with": "steps,tags"})
        assert wrapped["steps"] == {"data": bare["steps"]}
        assert wrapped["tags"] == {"data": bare["tags"]}


class TestTaskFilter:
    def test_as_documented(self, client):
        client.post(f"/tasks/{announcement(client)}/problem", {"content": "No"})
        behave(client, task_filter="documented")
        expected = {
            "complete": [1],
            "incomplete": [2, 3],
            "active": [2, 3],
            "active_visible": [2, 3],
            "inprogress": [],
            "not-started": [2, 3],
            "hasproblem": [3],
            "overdue": [],
            "due_soon": [],
        }
        assert expected == {
            status: [task["position"] for task in client.data(f"{RUN}/tasks", status=status)]
            for status in expected
        }

    def test_other_values_are_refused_as_documented(self, client):
        behave(client, task_filter="documented")
        for status in ("auto-skipped", "nonsense", "complete,overdue"):
            refused = client.call("GET", f"{RUN}/tasks", params={"status": status})
            assert (refused.status_code, list(refused.json()["errors"])) == (422, ["status"])


class TestWrites:
    def test_members_and_groups_that_an_update_leaves_out(self, client):
        people = {"users": [1002, 1003], "groups": [f"5eed0007{1:024x}"]}
        client.put(RUN, people)
        behave(client, run_update="keep")
        kept = client.put(RUN, {"name": "Renamed"}).json()["data"]
        assert (kept["users"], kept["groups"]) == (people["users"], people["groups"])
        assert client.put(RUN, {"users": []}).json()["data"]["users"] == []
        behave(client, run_update="replace")
        assert client.put(RUN, {"name": "Again"}).json()["data"]["groups"] == []

    def test_the_state_of_a_comment_without_one(self, client):
        path = f"/tasks/{announcement(client)}/comment"
        states = []
        for state in ("hide-for-guests", "open"):
            behave(client, comment_state=state)
            states.append(client.post(path, {"content": "x"}).json()["data"]["state"])
        assert states == ["hide-for-guests", "open"]

    @pytest.mark.parametrize(
        ("sent", "weekdays"),
        [
            ("2027-01-01T17:00:00Z", "2027-01-01T17:00:00.000Z"),  # a Friday
            ("2027-01-02T17:00:00Z", "2027-01-04T09:00:00.000Z"),
            ("2027-01-03T23:59:59+02:00", "2027-01-04T09:00:00.000Z"),
            ("2027-01-04T03:00:00Z", "2027-01-04T09:00:00.000Z"),
            ("2027-01-04T10:00:00Z", "2027-01-04T10:00:00.000Z"),
        ],
    )
    def test_deadlines_move_to_working_days(self, client, sent, weekdays):
        path = f"{RUN}/tasks/{announcement(client)}"
        assert client.put(path, {"deadline": sent}).json()["data"]["deadline"] == weekdays
        behave(client, working_days="all")
        assert client.put(path, {"deadline": sent}).json()["data"]["deadline"] == f"{sent[:19]}.000Z"

    def test_the_order_of_deadlines_stays(self):
        """Otherwise the next task would depend on the hour of the launch."""
        start = datetime(2027, 1, 1, tzinfo=UTC)
        moved = [to_working_day(start + timedelta(hours=hour)) for hour in range(7 * 24)]
        assert moved == sorted(moved)
        assert {day.weekday() for day in moved} == {0, 1, 2, 3, 4}

    def test_the_deadlines_of_a_launch_move_too(self, client):
        client.control("POST", "/clock", {"set": "2027-01-01T12:00:00Z"})
        days = {alias: task["deadline"] for alias, task in client.tasks(client.launch()["id"]).items()}
        assert days == {
            "prepare_release_notes": "2027-01-04T09:00:00.000Z",
            "approve_release": "2027-01-04T09:00:00.000Z",
            "announce_release": days["announce_release"],
        }
        assert days["announce_release"].startswith("2027-01-04T12:00")


class TestRateLimit:
    def get(self, client, times=1, user="sandbox-token"):
        """Return the last of some answers."""
        for _ in range(times):
            answer = client.call("GET", "", headers={"Authorization": f"Bearer {user}"})
        return answer

    def test_no_limit_by_default(self, client):
        answer = self.get(client, 15)
        assert answer.status_code == 200
        assert "X-RateLimit-Remaining" not in answer.headers

    def test_refuses_requests_over_the_limit_until_the_window_ends(self, client):
        behave(client, rate_limit="burst")
        assert self.get(client).headers["X-RateLimit-Remaining"] == "11"
        assert self.get(client, 11).headers["X-RateLimit-Remaining"] == "0"
        refused = self.get(client)
        assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        assert 0 < int(refused.headers["Retry-After"]) <= 5
        client.advance(seconds=int(refused.headers["Retry-After"]))
        assert self.get(client).status_code == 200

    def test_limits_of_users_and_of_the_organization(self, client):
        behave(client, rate_limit="user")
        assert self.get(client).headers["X-RateLimit-Remaining"] == "599"
        light = self.get(client, user="sandbox-light-token")
        assert light.headers["X-RateLimit-Remaining"] == "599"
        behave(client, rate_limit="organization")
        self.get(client)
        light = self.get(client, user="sandbox-light-token")
        assert light.headers["X-RateLimit-Remaining"] == "98"

    def test_the_organization_has_a_limit_for_a_minute_and_one_for_an_hour(self):
        limiter, start = Limiter(), datetime(2027, 1, 1, tzinfo=UTC)

        def take(minute):
            return limiter.take(LIMITS["organization"], "GET", "", start + timedelta(minutes=minute))

        for minute in range(10):
            assert {take(minute)[1] for _ in range(100)} == {None}
            assert take(minute) == (0, 60)
        assert take(10) == (0, 3000)

    def test_limit_on_gets_ignores_writes_and_the_web_page(self, client):
        behave(client, rate_limit="burst")
        for _ in range(13):
            client.put(RUN, {"name": "Renamed"})
        assert self.get(client).status_code == 200
        people = SandboxClient(client.sandbox.url)
        for _ in range(13):
            people.run(SEEDED_RUN_ID)
