from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime

import pytest

from airflow_provider_tallyfy.exceptions import TallyfyIndeterminateError, TallyfyResponseError

ROOT = "https://tallyfy.test/api"
RUNS = f"{ROOT}/organizations/acme/runs"
RUN = f"{RUNS}/r1"
TASK = {"id": "t1", "title": "Sign"}


def page(number, of, items):
    pagination = {"current_page": number, "total_pages": of, "per_page": 100, "links": []}
    return {"json": {"data": items, "meta": {"pagination": pagination}}}


def sent(mocked):
    """Path and query of each request, as they went out."""
    return [request.url.removeprefix(ROOT) for request in mocked.request_history]


class TestGetRun:
    @pytest.mark.parametrize(
        ("came", "next_task"),
        [
            (None, None),
            ({"data": []}, None),
            (TASK, TASK),
            ({"data": [TASK]}, TASK),
        ],
    )
    def test_next_task_is_none_or_one_task(self, hook, requests_mock, came, next_task):
        run = {"id": "r1", "progress": {"percent": 50}, "tasks": {"data": [TASK]}, "extra": None}
        requests_mock.get(RUN, json={"data": {**run, "next_task": came}})
        assert hook.get_run("r1") == {**run, "next_task": next_task}
        assert hook.get_next_task("r1") == next_task
        assert sent(requests_mock) == ["/organizations/acme/runs/r1?with=next_task"] * 2

    def test_query(self, hook, requests_mock):
        requests_mock.get(RUN, json={"data": {"id": "r1"}})
        hook.get_run("r1", with_=["next_task", "tasks"], form_fields_values=True)
        hook.get_run("r1", with_="tags, tasks")
        assert hook.get_run("r1", with_=()) == {"id": "r1"}
        assert sent(requests_mock) == [
            "/organizations/acme/runs/r1?with=next_task%2Ctasks&form_fields_values=true",
            "/organizations/acme/runs/r1?with=tags%2Ctasks",
            "/organizations/acme/runs/r1",
        ]

    def test_response_without_a_next_task_is_an_error(self, hook, requests_mock):
        requests_mock.get(RUN, json={"data": {"id": "r1"}})
        with pytest.raises(TallyfyResponseError, match="run r1 has no next_task, although it was requested"):
            hook.get_next_task("r1")


@pytest.mark.parametrize(
    ("read", "body", "problem"),
    [
        (
            lambda hook: hook.get_run("r1"),
            {"data": {"next_task": "t1"}},
            "'next_task' is neither empty nor a task",
        ),
        (
            lambda hook: list(hook.list_runs()),
            {"data": [{"next_task": "t1"}]},
            "'next_task' is neither empty",
        ),
        (lambda hook: hook.get_checklist("c1"), {"data": []}, "an object under 'data' was expected"),
        (lambda hook: hook.get_task("r1", "t1"), {"data": []}, "an object under 'data' was expected"),
        (lambda hook: hook.get_threads("t1"), {"data": TASK}, "a list of objects under 'data' was expected"),
        (lambda hook: hook.get_activities_page(1), {"data": [{"event": "completed"}]}, "an entry has no id"),
    ],
)
def test_malformed_response_is_an_error(hook, requests_mock, read, body, problem):
    requests_mock.get(re.compile(ROOT), json=body)
    with pytest.raises(TallyfyResponseError, match=f"cannot be read: {problem}"):
        read(hook)


class TestGetOne:
    def test_get_checklist(self, hook, requests_mock):
        checklist = {"id": "c1", "prerun": [{"id": "f1"}], "steps": []}
        requests_mock.get(f"{ROOT}/organizations/acme/checklists/c1", json={"data": checklist})
        assert hook.get_checklist("c1") == checklist
        assert hook.get_checklist("c1", with_=("steps", "tags")) == checklist
        path = "/organizations/acme/checklists/c1"
        assert sent(requests_mock) == [path, f"{path}?with=steps%2Ctags"]

    def test_get_task(self, hook, requests_mock):
        requests_mock.get(f"{RUN}/tasks/t1", json={"data": TASK})
        assert hook.get_task("r1", "t1") == TASK
        assert hook.get_task("r1", "t1", with_="form_fields") == TASK
        path = "/organizations/acme/runs/r1/tasks/t1"
        assert sent(requests_mock) == [path, f"{path}?with=form_fields"]


class TestDirectory:
    def test_reads_all_pages_of_members_and_groups(self, hook, requests_mock):
        users = f"{ROOT}/organizations/acme/users"
        pages = [
            page(1, 2, [{"id": 7, "email": "ada@example.com"}]),
            page(2, 2, [{"id": 8, "email": "ben@example.com"}]),
        ]
        requests_mock.get(users, pages * 2)
        requests_mock.get(f"{ROOT}/organizations/acme/groups", **page(1, 1, [{"id": "g1", "name": "Staff"}]))
        directory = hook.get_directory()
        assert [member.id for member in directory.members] == [7, 8]
        assert directory.group("staff").id == "g1"
        assert requests_mock.call_count == 5  # what has several pages is read twice

    @pytest.mark.parametrize(
        ("users", "groups", "reason"),
        [
            ([{"email": "ada@example.com"}], [], "a member has no id"),
            ([], [{"name": "Staff"}], "a group has no id"),
        ],
    )
    def test_malformed_directory_is_a_response_error(self, hook, requests_mock, users, groups, reason):
        requests_mock.get(f"{ROOT}/organizations/acme/users", json={"data": users})
        requests_mock.get(f"{ROOT}/organizations/acme/groups", json={"data": groups})
        with pytest.raises(TallyfyResponseError, match=f"members and groups cannot be read: {reason}"):
            hook.get_directory()


class TestLists:
    def test_pages_are_read_lazily(self, hook, requests_mock):
        requests_mock.get(
            RUNS, [page(1, 3, [{"id": "a"}, {"id": "b"}]), page(2, 3, [{"id": "c"}]), page(3, 3, [])]
        )
        runs = hook.list_runs(q="two words", starred=True, owners=[1, 2], status=None)
        assert requests_mock.call_count == 0
        assert next(runs)["id"] == "a"
        assert requests_mock.call_count == 1
        assert [run["id"] for run in runs] == ["b", "c"]
        query = "/organizations/acme/runs?per_page=100&q=two%20words&starred=true&owners=1%2C2&page="
        assert sent(requests_mock) == [f"{query}{number}" for number in (1, 2, 3)]

    def test_list_runs_reads_next_task(self, hook, requests_mock):
        requests_mock.get(RUNS, **page(1, 1, [{"id": "a", "next_task": {"data": [TASK]}}, {"id": "b"}]))
        assert list(hook.list_runs(with_=["next_task"])) == [
            {"id": "a", "next_task": TASK},
            {"id": "b"},
        ]
        assert requests_mock.last_request.qs["with"] == ["next_task"]

    def test_pages_by_links(self, hook, requests_mock):
        more = {
            "json": {"data": [{"id": "a"}], "meta": {"pagination": {"links": {"next": f"{RUNS}?page=2"}}}}
        }
        end = {"json": {"data": [{"id": "b"}], "meta": {"pagination": {"links": []}}}}
        requests_mock.get(RUNS, [more, end])
        assert [item["id"] for item in hook.paginate("runs")] == ["a", "b"]

    @pytest.mark.parametrize(
        "second",
        [
            {"text": "<html>"},
            {"json": {"data": {}}},
            {"json": {"message": "Oops."}},
            page(1, 2, [{"id": "a"}]),
        ],
    )
    def test_malformed_page_is_not_the_end(self, hook, requests_mock, second):
        requests_mock.get(RUNS, [page(1, 2, [{"id": "a"}]), second])
        taken = []
        with pytest.raises(TallyfyResponseError, match="GET /organizations/acme/runs returned"):
            taken.extend(item["id"] for item in hook.paginate("runs"))
        assert requests_mock.call_count == 2

    def test_endless_list_is_an_error(self, hook, requests_mock):
        again = {"data": [{"id": "a"}], "meta": {"pagination": {"links": {"next": f"{RUNS}?page=2"}}}}
        requests_mock.get(RUNS, json=again)
        with pytest.raises(TallyfyResponseError, match="page 2 is the same as the page before"):
            list(itertools.islice(hook.paginate("runs"), 50))
        assert requests_mock.call_count == 2

    @pytest.mark.parametrize("read", ["list_runs", "paginate", "get_tasks"])
    def test_page_in_the_query_is_refused(self, hook, requests_mock, read):
        arguments = {"paginate": ["runs"], "get_tasks": ["r1"]}.get(read, [])
        with pytest.raises(ValueError, match="is read from the first page to the last; leave 'page' out"):
            list(getattr(hook, read)(*arguments, page=2))
        assert requests_mock.call_count == 0

    def test_without_pagination(self, hook, requests_mock):
        requests_mock.get(f"{RUN}/tasks", json={"data": [TASK]})
        assert hook.get_tasks("r1", without_pagination=True) == [TASK]
        assert sent(requests_mock) == ["/organizations/acme/runs/r1/tasks?without_pagination=true"]

    def test_get_tasks(self, hook, requests_mock):
        requests_mock.get(f"{RUN}/tasks", [page(1, 2, [TASK]), page(2, 2, [{"id": "t2"}])])
        assert hook.get_tasks("r1", status="active", with_="form_fields") == [TASK, {"id": "t2"}]
        query = "/organizations/acme/runs/r1/tasks?per_page=100&status=active&with=form_fields&page="
        assert sent(requests_mock) == [f"{query}1", f"{query}2"]

    def test_paginate_an_absolute_endpoint(self, hook, requests_mock):
        requests_mock.get(f"{ROOT}/me/organizations", **page(1, 1, [{"id": "acme"}]))
        assert list(hook.paginate("/me/organizations", per_page=10)) == [{"id": "acme"}]
        assert sent(requests_mock) == ["/me/organizations?per_page=10&page=1"]


class TestWrites:
    def test_launch_run(self, hook, requests_mock):
        requests_mock.post(RUNS, status_code=201, json={"data": {"id": "r2", "next_task": {"data": [TASK]}}})
        launched = hook.launch_run("c1", name="Release", prerun={"f": "v"}, tags=["a"], summary=None)
        assert launched == {"id": "r2", "next_task": TASK}
        assert requests_mock.last_request.json() == {
            "checklist_id": "c1",
            "name": "Release",
            "prerun": {"f": "v"},
            "tags": ["a"],
        }
        assert requests_mock.last_request.headers["Content-Type"] == "application/json"

    def test_update_task(self, hook, requests_mock):
        requests_mock.put(f"{RUN}/tasks/t1", json={"data": TASK})
        assert hook.update_task("r1", "t1", taskdata={"f": ""}, deadline=None, title="Sign") == TASK
        assert requests_mock.last_request.json() == {"taskdata": {"f": ""}, "title": "Sign"}

    @pytest.mark.parametrize(
        ("arguments", "body"),
        [
            ({}, {"task_id": "t1"}),
            ({"is_approved": False}, {"task_id": "t1", "is_approved": False}),
            (
                {"is_approved": True, "override_user": 7},
                {"task_id": "t1", "is_approved": True, "override_user": 7},
            ),
        ],
    )
    def test_complete_task(self, hook, requests_mock, arguments, body):
        requests_mock.post(f"{RUN}/completed-tasks", json={"data": TASK})
        assert hook.complete_task("r1", "t1", **arguments) == TASK
        assert requests_mock.last_request.json() == body

    def test_comment(self, hook, requests_mock):
        requests_mock.post(
            f"{ROOT}/organizations/acme/tasks/t1/comment", status_code=201, json={"data": {"id": "x1"}}
        )
        assert hook.comment("t1", "Look at this.") == {"id": "x1"}
        assert requests_mock.last_request.json() == {"content": "Look at this.", "state": "open"}
        hook.comment("t1", "Look at this.", state="collapsed")
        assert requests_mock.last_request.json()["state"] == "collapsed"

    @pytest.mark.parametrize(
        ("subject", "path"), [({"run_id": "r1"}, "runs/r1"), ({"task_id": "t1"}, "tasks/t1")]
    )
    def test_report_issue(self, hook, requests_mock, subject, path):
        url = f"{ROOT}/organizations/acme/{path}/problem"
        requests_mock.post(url, status_code=201, json={"data": {"id": "x1"}})
        assert hook.report_issue("It is empty.", **subject) == {"id": "x1"}
        assert requests_mock.last_request.json() == {"content": "It is empty."}

    def test_get_threads(self, hook, requests_mock):
        url = f"{ROOT}/organizations/acme/tasks/t1"
        requests_mock.get(url, json={"data": {**TASK, "threads": {"data": [{"id": "x1"}]}}})
        assert hook.get_threads("t1") == [{"id": "x1"}]
        assert sent(requests_mock) == ["/organizations/acme/tasks/t1?with=threads"]

    @pytest.mark.parametrize(
        ("method", "arguments", "problem"),
        [
            *[
                (
                    "launch_run",
                    {"checklist_id": "c1", name: "one-id"},
                    f"{name} must be a list of ids, not str",
                )
                for name in ("tags", "users", "groups", "folders")
            ],
            ("complete_task", {"is_approved": "yes"}, "is_approved must be True or False, not str"),
            ("complete_task", {"is_approved": 1}, "is_approved must be True or False, not int"),
            ("complete_task", {"override_user": True}, "override_user must be .* a number, not bool"),
            ("complete_task", {"override_user": "a@b.example"}, "override_user must be .* a number, not str"),
            ("update_task", {"deadline": "tomorrow"}, "a date is written 2026-01-31"),
            *[
                (
                    "comment",
                    {"task_id": "t1", "content": "Look.", "state": state},
                    "state must be one of open, ",
                )
                for state in ("closed", "", None, "Open", ["open"])
            ],
            *[
                (method, {"task_id": "t1", "content": content}, "content must be a text, and not empty")
                for content in ("", " \n", None, 5, ["a"])
                for method in ("comment", "report_issue")
            ],
            ("report_issue", {"content": "Empty."}, "Give either run_id or task_id"),
            ("report_issue", {"content": "Empty.", "run_id": "r1", "task_id": "t1"}, "Give either run_id"),
            ("report_issue", {"content": "Empty.", "run_id": ""}, "run_id must be a Tallyfy id"),
        ],
    )
    def test_invalid_arguments_are_refused(self, hook, requests_mock, method, arguments, problem):
        ids = {"run_id": "r1", "task_id": "t1"} if method in ("complete_task", "update_task") else {}
        with pytest.raises(ValueError, match=problem):
            getattr(hook, method)(**ids, **arguments)
        assert requests_mock.call_count == 0

    @pytest.mark.parametrize(
        ("deadline", "encoded"),
        [
            ("2026-01-05T17:00:00+01:00", "2026-01-05T16:00:00.000Z"),
            (datetime(2026, 1, 5, 16, tzinfo=UTC), "2026-01-05T16:00:00.000Z"),
            ("2026-01-05 17:00:00", "2026-01-05 17:00:00"),
        ],
    )
    def test_deadline_is_converted_to_utc(self, hook, requests_mock, deadline, encoded):
        requests_mock.put(f"{RUN}/tasks/t1", json={"data": TASK})
        hook.update_task("r1", "t1", deadline=deadline)
        assert requests_mock.last_request.json() == {"deadline": encoded}

    def test_characters_that_cannot_be_sent_are_replaced_in_comments(self, hook, requests_mock):
        requests_mock.post(re.compile(ROOT), status_code=201, json={"data": {"id": "x1"}})
        hook.comment("t1", "a\ud800\0")
        hook.report_issue("a\ud800\0", task_id="t1")
        assert [each.json()["content"] for each in requests_mock.request_history] == ["a??", "a??"]

    def test_malformed_response_to_a_write_is_indeterminate(self, hook, requests_mock):
        requests_mock.post(RUNS, status_code=201, json={"data": []})
        with pytest.raises(
            TallyfyIndeterminateError, match=r"POST /organizations/acme/runs .* cannot be read"
        ):
            hook.launch_run("c1")


class TestRequest:
    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "delete"])
    def test_returns_the_whole_body(self, hook, requests_mock, method):
        requests_mock.request(method.upper(), RUN, json={"data": {"id": "r1"}, "meta": {}})
        assert hook.request(method, "runs/r1") == {"data": {"id": "r1"}, "meta": {}}

    def test_params_and_json(self, hook, requests_mock):
        requests_mock.post(RUNS, json=None)
        hook.request(
            "POST", "runs", params={"q": "a b", "left_out": None, "on": True}, json={"a": [None, 1.5]}
        )
        assert sent(requests_mock) == ["/organizations/acme/runs?q=a%20b&on=true"]
        assert requests_mock.last_request.json() == {"a": [None, 1.5]}

    def test_no_body_by_default(self, hook, requests_mock):
        requests_mock.delete(RUN, status_code=204)
        assert hook.request("DELETE", "runs/r1") is None
        assert requests_mock.last_request.body is None
        assert "Content-Type" not in requests_mock.last_request.headers

    @pytest.mark.parametrize(
        "response", [{"status_code": 204}, {"text": ""}, {"text": " \n"}, {"text": "null"}]
    )
    def test_empty_body_is_none(self, hook, requests_mock, response):
        requests_mock.put(RUN, **response)
        assert hook.request("PUT", "runs/r1", json={}) is None
        assert requests_mock.last_request.json() == {}


class TestRunUrl:
    def test_run_url(self, connect):
        assert connect().run_url("r1") == "https://go.tallyfy.com/acme/processes/r1"
        assert (
            connect({"web_url": "http://people.test/"}).run_url("r1")
            == "http://people.test/acme/processes/r1"
        )


class TestTestConnection:
    @pytest.fixture
    def tallyfy(self, requests_mock):
        requests_mock.get(f"{ROOT}/organizations/acme", json={"data": {"id": "acme", "name": "Acme Inc."}})
        requests_mock.get(f"{ROOT}/me", json={"data": {"id": 7, "full_name": "Ada Okafor"}})
        return requests_mock

    def test_success(self, hook, tallyfy):
        assert hook.test_connection() == (True, "Connected to Acme Inc. as Ada Okafor.")

    @pytest.mark.parametrize(
        ("person", "name"),
        [
            ({"id": 7, "username": "ada"}, "ada"),
            ({"id": 7, "email": "ada@example.com"}, "ada@example.com"),
            ({"id": 7}, "7"),
        ],
    )
    def test_success_without_names(self, hook, tallyfy, person, name):
        tallyfy.get(f"{ROOT}/me", json={"data": person})
        tallyfy.get(f"{ROOT}/organizations/acme", json={"data": {"id": "acme"}})
        assert hook.test_connection() == (True, f"Connected to acme as {name}.")

    @pytest.mark.parametrize("place", ["/me", "/organizations/acme"])
    @pytest.mark.parametrize(
        ("response", "said"),
        [
            ({"status_code": 401, "json": {"message": "Unauthenticated."}}, ": Unauthenticated."),
            ({"status_code": 403}, "returned 403"),
            ({"status_code": 404}, "returned 404"),
            ({"status_code": 503}, "returned 503"),
            ({"text": "<html>"}, "cannot be read"),
            ({"json": []}, "cannot be read"),
        ],
    )
    def test_failure(self, hook, tallyfy, place, response, said):
        tallyfy.get(f"{ROOT}{place}", **response)
        good, message = hook.test_connection()
        assert not good
        assert f"GET {place} " in message
        assert said in message
        assert len(sent(tallyfy)) == (1 if place == "/me" else 2)  # once each, since a user waits

    def test_invalid_connection(self, connect):
        good, message = connect(password=None).test_connection()
        assert not good
        assert (
            "Connection 'tallyfy_default' cannot be used: password (the access token) is missing" in message
        )

    def test_missing_connection(self, hook, monkeypatch):
        monkeypatch.delenv("AIRFLOW_CONN_TALLYFY_DEFAULT")
        good, message = hook.test_connection()
        assert not good
        assert "tallyfy_default" in message


class TestPages:
    def test_get_runs_page(self, hook, requests_mock):
        requests_mock.get(RUNS, **page(3, 7, [{"id": "r1", "next_task": [TASK]}]))
        found = hook.get_runs_page(3, status="active", checklist_id=None, with_=("next_task",))
        assert (found.items, found.is_last, found.total_pages) == (
            ({"id": "r1", "next_task": TASK},),
            False,
            7,
        )
        assert sent(requests_mock) == [
            "/organizations/acme/runs?per_page=100&status=active&with=next_task&page=3"
        ]

    def test_get_activities_page(self, hook, requests_mock):
        entry = {"id": 7, "parentable_type": "App\\Models\\Run", "parentable_id": "r1"}
        feed = f"{ROOT}/organizations/acme/activity-feeds"
        requests_mock.get(feed, **page(1, 2, [entry]))
        found = hook.get_activities_page(1)
        assert [(activity.id, activity.run_id) for activity in found.items] == [("7", "r1")]
        assert sent(requests_mock) == [
            "/organizations/acme/activity-feeds?per_page=100&sort=-created_at&page=1"
        ]
