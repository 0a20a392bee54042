from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
import requests

from airflow_provider_tallyfy.protocol import requests as api_requests
from airflow_provider_tallyfy.protocol.requests import Request, build_request

ROOT = "https://tallyfy.test/api"
RUN = "/organizations/acme/runs/r1"


def sent(made):
    """The URL that requests makes of a call."""
    return requests.Request(made.method, ROOT + made.target).prepare().url


class TestCall:
    def test_tallyfy_wants_its_client_header(self):
        assert api_requests.HEADERS == {"Accept": "application/json", "X-Tallyfy-Client": "APIClient"}

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "get", "Delete"])
    def test_methods_in_any_case(self, method):
        assert build_request(method, "runs", "acme").method == method.upper()

    @pytest.mark.parametrize("method", ["", "HEAD", "OPTIONS", "GET ", "GET\r\nX: y", None, 1])
    def test_other_methods_are_refused(self, method):
        with pytest.raises(ValueError, match="method must be one of GET, POST, PUT, PATCH, DELETE"):
            build_request(method, "runs", "acme")

    def test_only_a_read_or_a_token_can_be_sent_again(self):
        assert build_request("GET", "runs", "acme").is_repeatable
        assert not any(
            build_request(m, "runs", "acme").is_repeatable for m in ("POST", "PUT", "PATCH", "DELETE")
        )
        assert api_requests.application_token("id", "secret").is_repeatable
        assert api_requests.person_token("acme", "ada@example.com").is_repeatable

    def test_a_call_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            build_request("GET", "runs", "acme").method = "DELETE"

    def test_its_representation_does_not_show_a_form(self):
        assert "shown-to-nobody" not in repr(api_requests.application_token("id", "shown-to-nobody"))


class TestTarget:
    @pytest.mark.parametrize(
        ("params", "query"),
        [
            ({}, ""),
            ({"q": None}, ""),
            ({"q": "two words"}, "?q=two%20words"),
            ({"q": "a+b"}, "?q=a%2Bb"),
            ({"q": "a&b=c#d"}, "?q=a%26b%3Dc%23d"),
            ({"q": "é"}, "?q=%C3%A9"),
            ({"q": ""}, "?q="),
            ({"q": "100%"}, "?q=100%25"),
            ({"a b": 1}, "?a%20b=1"),
            ({"starred": True, "archived": False}, "?starred=true&archived=false"),
            ({"page": 3, "ratio": 0.5}, "?page=3&ratio=0.5"),
            ({"owners": [1001, 1002]}, "?owners=1001%2C1002"),
            ({"owners": (1001,), "flags": [True, False]}, "?owners=1001&flags=true%2Cfalse"),
            ({"tags": []}, "?tags="),
            ({"created_after": date(2026, 1, 2)}, "?created_after=2026-01-02"),
            # Tallyfy drops an offset
            (
                {"at": datetime(2026, 1, 5, 0, 30, tzinfo=timezone(timedelta(hours=1)))},
                "?at=2026-01-04T23%3A30%3A00.000Z",
            ),
        ],
    )
    def test_the_query_is_what_tallyfy_reads(self, params, query):
        made = build_request("GET", "runs", "acme", params=params)
        assert made.target == f"/organizations/acme/runs{query}"
        assert sent(made) == f"{ROOT}/organizations/acme/runs{query}"

    def test_the_order_stays(self):
        assert build_request("GET", "runs", "acme", params={"b": 1, "a": 2}).params == (
            ("b", "1"),
            ("a", "2"),
        )

    @pytest.mark.parametrize("name", ["with", "with_"])
    def test_a_set_of_names_is_sent_whole_in_any_order(self, name):
        names = {"tasks", "next_task", "tags", "folders", "stages"}
        [(sent_name, value)] = build_request("GET", "runs", "acme", params={name: names}).params
        assert sent_name == "with"
        assert sorted(value.split(",")) == sorted(names)

    @pytest.mark.parametrize("value", [{"a": 1}, b"abc", ["a", None], [{"b": 1}]])
    def test_what_has_no_text_in_a_query_is_refused_by_its_name(self, value):
        with pytest.raises(ValueError, match="owners"):
            build_request("GET", "runs", "acme", params={"owners": value})

    @pytest.mark.parametrize("params", ["q=a", [("q", "a")], 5])
    def test_what_is_no_mapping_is_refused(self, params):
        with pytest.raises(ValueError, match="query parameters must be a mapping, not"):
            build_request("GET", "runs", "acme", params=params)


class TestPage:
    def test_the_largest_page_unless_another_is_asked_for(self):
        assert build_request("GET", "runs", "acme").page(1).params == (("per_page", "100"), ("page", "1"))
        asked = build_request("GET", "runs", "acme", params={"per_page": 20, "q": "a"}).page(2)
        assert dict(asked.params) == {"per_page": "20", "q": "a", "page": "2"}

    def test_the_rest_of_the_call_stays(self):
        made = Request("GET", "/me", (("q", "a"),), json={"a": 1}, form={"b": "2"})
        page = made.page(3)
        assert (page.method, page.path, page.json, page.form) == ("GET", "/me", {"a": 1}, {"b": "2"})
        assert made.params == (("q", "a"),)


class TestRuns:
    @pytest.mark.parametrize(
        ("with_", "query"),
        [
            (("next_task",), "?with=next_task"),
            (("next_task", "tasks.form_fields"), "?with=next_task%2Ctasks.form_fields"),
            (["next_task"], "?with=next_task"),
            ("next_task,tasks", "?with=next_task%2Ctasks"),
            (" next_task , tasks ,", "?with=next_task%2Ctasks"),
            ((" next_task ", ""), "?with=next_task"),
            ((name for name in ("tags", "tasks")), "?with=tags%2Ctasks"),
            ({"tags"}, "?with=tags"),
            ((), ""),
            ("", ""),
            (set(), ""),
            (None, ""),
        ],
    )
    def test_get_run_with(self, with_, query):
        made = api_requests.get_run("acme", "r1", with_, form_fields_values=False)
        assert (made.method, made.target) == ("GET", RUN + query)

    def test_get_run_with_the_values_of_all_form_fields(self):
        made = api_requests.get_run("acme", "r1", ("next_task",), form_fields_values=True)
        assert made.target == f"{RUN}?with=next_task&form_fields_values=true"

    @pytest.mark.parametrize("with_", [(1,), ("tasks", None), (["tasks"],), {1}, b"tasks"])
    def test_a_name_that_is_none_is_refused(self, with_):
        with pytest.raises(ValueError, match="with_ must be a sequence of names"):
            api_requests.get_run("acme", "r1", with_, form_fields_values=False)

    @pytest.mark.parametrize("with_", [0, 1, 1.5, True, False])
    def test_what_is_no_sequence_is_refused_as_well(self, with_):
        with pytest.raises(ValueError, match="with_ must be a sequence of names"):
            api_requests.get_run("acme", "r1", with_, form_fields_values=False)

    def test_list_runs(self):
        made = api_requests.list_runs("acme", {"q": "Release 1", "with_": ("next_task",), "status": None})
        assert (made.method, made.path) == ("GET", "/organizations/acme/runs")
        assert dict(made.params) == {"q": "Release 1", "with": "next_task"}

    @pytest.mark.parametrize(
        ("with_", "query"), [((), ""), ("steps", "?with=steps"), (("steps", "tags"), "?with=steps%2Ctags")]
    )
    def test_get_checklist(self, with_, query):
        made = api_requests.get_checklist("acme", "c1", with_)
        assert (made.method, made.target) == ("GET", f"/organizations/acme/checklists/c1{query}")

    def test_launch_run(self):
        made = api_requests.launch_run(
            "acme", "c1", {"name": "Release", "prerun": {"f": False}, "summary": None}
        )
        assert (made.method, made.target) == ("POST", "/organizations/acme/runs")
        assert made.json == {"checklist_id": "c1", "name": "Release", "prerun": {"f": False}}


class TestTasks:
    def test_get_tasks(self):
        made = api_requests.get_tasks("acme", "r1", {"with_": "form_fields", "status": "active"})
        assert (made.method, made.path) == ("GET", f"{RUN}/tasks")
        assert dict(made.params) == {"with": "form_fields", "status": "active"}

    @pytest.mark.parametrize(("with_", "query"), [((), ""), ("form_fields", "?with=form_fields")])
    def test_get_task(self, with_, query):
        made = api_requests.get_task("acme", "r1", "t1", with_)
        assert (made.method, made.target) == ("GET", f"{RUN}/tasks/t1{query}")

    @pytest.mark.parametrize("state", api_requests.COMMENT_STATES)
    def test_comment(self, state):
        made = api_requests.comment("acme", "t1", "Look at this.\n", state)
        assert (made.method, made.target) == ("POST", "/organizations/acme/tasks/t1/comment")
        assert made.json == {"content": "Look at this.\n", "state": state}
        assert not made.is_repeatable

    @pytest.mark.parametrize("state", ["closed", "", None, "Open", ["open"]])
    def test_a_comment_in_no_such_state_is_refused(self, state):
        with pytest.raises(ValueError, match="state must be one of open, hide-for-guests, collapsed, but is"):
            api_requests.comment("acme", "t1", "Look.", state)

    @pytest.mark.parametrize(
        ("subject", "path"),
        [({"run_id": "r1", "task_id": None}, "runs/r1"), ({"run_id": None, "task_id": "t1"}, "tasks/t1")],
    )
    def test_report_issue(self, subject, path):
        made = api_requests.report_issue("acme", **subject, content="It is empty.")
        assert (made.method, made.target) == ("POST", f"/organizations/acme/{path}/problem")
        assert made.json == {"content": "It is empty."}
        assert not made.is_repeatable

    @pytest.mark.parametrize("both", [("r1", "t1"), (None, None)])
    def test_an_issue_is_on_a_run_or_on_a_task(self, both):
        with pytest.raises(ValueError, match="Give either run_id or task_id"):
            api_requests.report_issue("acme", *both, "It is empty.")

    @pytest.mark.parametrize("content", ["", " \n", None, 5, ["a"]])
    def test_a_comment_or_issue_that_says_nothing_is_refused(self, content):
        for make in (
            lambda: api_requests.comment("acme", "t1", content, "open"),
            lambda: api_requests.report_issue("acme", None, "t1", content),
        ):
            with pytest.raises(ValueError, match="content must be a text"):
                make()

    def test_get_threads(self):
        made = api_requests.get_threads("acme", "t1")
        assert (made.method, made.target) == ("GET", "/organizations/acme/tasks/t1?with=threads")

    def test_update_task(self):
        made = api_requests.update_task("acme", "r1", "t1", {"taskdata": {"f": ""}, "title": None})
        assert (made.method, made.target, made.json) == ("PUT", f"{RUN}/tasks/t1", {"taskdata": {"f": ""}})

    @pytest.mark.parametrize(
        ("values", "body"),
        [
            ({}, {"task_id": "t1"}),
            ({"is_approved": None, "override_user": None}, {"task_id": "t1"}),
            ({"is_approved": False}, {"task_id": "t1", "is_approved": False}),
            (
                {"is_approved": True, "override_user": 7},
                {"task_id": "t1", "is_approved": True, "override_user": 7},
            ),
        ],
    )
    def test_complete_task(self, values, body):
        made = api_requests.complete_task("acme", "r1", "t1", values)
        assert (made.method, made.target, made.json) == ("POST", f"{RUN}/completed-tasks", body)

    @pytest.mark.parametrize("bad", ["", "..", "a/b", "%2e%2e", None, -1])
    def test_every_id_is_checked_by_its_name(self, bad):
        for name, make in {
            "run_id": [
                lambda: api_requests.get_run("acme", bad, (), form_fields_values=False),
                lambda: api_requests.get_tasks("acme", bad, {}),
                lambda: api_requests.get_task("acme", bad, "t1", ()),
                lambda: api_requests.update_task("acme", bad, "t1", {}),
                lambda: api_requests.complete_task("acme", bad, "t1", {}),
            ],
            "task_id": [
                lambda: api_requests.update_task("acme", "r1", bad, {}),
                lambda: api_requests.complete_task("acme", "r1", bad, {}),
                lambda: api_requests.get_task("acme", "r1", bad, ()),
                lambda: api_requests.comment("acme", bad, "Look.", "open"),
                lambda: api_requests.get_threads("acme", bad),
            ],
            "checklist_id": [
                lambda: api_requests.launch_run("acme", bad, {}),
                lambda: api_requests.get_checklist("acme", bad, ()),
            ],
        }.items():
            for made in make:
                with pytest.raises(ValueError, match=f"^{name} must be a Tallyfy id"):
                    made()


class TestAccounts:
    def test_who_it_is(self):
        assert (api_requests.me().method, api_requests.me().target) == ("GET", "/me")
        assert api_requests.get_organization("acme").target == "/organizations/acme"

    def test_a_token_for_an_application(self):
        made = api_requests.application_token("the id", "the secret")
        assert made.method == "POST"
        assert made.form == {
            "grant_type": "client_credentials",
            "client_id": "the id",
            "client_secret": "the secret",
            "scope": "*",
        }
        assert made.json is None

    def test_a_token_for_a_person(self):
        made = api_requests.person_token("acme", "ada/../ben@example.com")
        assert made.method == "POST"
        assert made.target == "/applications/acme/users/ada%2F..%2Fben%40example.com/token"
        assert made.json is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"is_approved": "yes"}, "is_approved must be True or False, not str"),
        ({"is_approved": 1}, "is_approved must be True or False, not int"),
        ({"override_user": True}, "override_user must be the id of a member, a number, not bool"),
        ({"override_user": "ada@example.com"}, "override_user must be the id of a member, a number, not str"),
    ],
)
def test_a_completion_with_what_is_no_decision_or_no_member(values, said):
    with pytest.raises(ValueError, match=said):
        api_requests.complete_task("acme", "r1", "t1", values)


@pytest.mark.parametrize("name", ["tags", "users", "groups", "folders"])
def test_a_launch_with_a_text_in_place_of_a_list(name):
    with pytest.raises(ValueError, match=f"{name} must be a list of ids, not str"):
        api_requests.launch_run("acme", "c1", {name: "one-id"})
    assert api_requests.launch_run("acme", "c1", {name: ["one-id"]}).json[name] == ["one-id"]


@pytest.mark.parametrize(
    ("deadline", "sent"),
    [
        ("2026-01-05T17:00:00+01:00", "2026-01-05T16:00:00.000Z"),
        (datetime(2026, 1, 5, 16, tzinfo=UTC), "2026-01-05T16:00:00.000Z"),
        ("2026-01-05 17:00:00", "2026-01-05 17:00:00"),
    ],
)
def test_a_deadline_is_sent_in_utc(deadline, sent):
    assert api_requests.update_task("acme", "r1", "t1", {"deadline": deadline}).json == {"deadline": sent}
