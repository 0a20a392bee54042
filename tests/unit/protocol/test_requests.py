from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
import requests

from airflow_provider_tallyfy.protocol import requests as api_requests
from airflow_provider_tallyfy.protocol.requests import Request, build_request

ROOT = "https://tallyfy.test/api"
RUN = "/organizations/acme/runs/r1"


def sent(made):
    """Return the URL that requests makes of a request."""
    return requests.Request(made.method, ROOT + made.target).prepare().url


class TestBuildRequest:
    def test_headers(self):
        assert api_requests.HEADERS == {"Accept": "application/json", "X-Tallyfy-Client": "APIClient"}

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "get", "Delete"])
    def test_methods_in_any_case(self, method):
        assert build_request(method, "runs", "acme").method == method.upper()

    @pytest.mark.parametrize("method", ["", "HEAD", "OPTIONS", "GET ", "GET\r\nX: y", None, 1])
    def test_other_methods_are_refused(self, method):
        with pytest.raises(ValueError, match="method must be one of GET, POST, PUT, PATCH, DELETE"):
            build_request(method, "runs", "acme")

    @pytest.mark.parametrize("json", ["\ud800", {"a": ["\ud83d"]}, {"\udc00": 1}])
    def test_half_of_a_surrogate_pair_is_refused(self, json):
        with pytest.raises(ValueError, match=r"json cannot be sent as JSON: .* surrogates not allowed"):
            build_request("POST", "runs", "acme", json=json)

    def test_reads_and_token_requests_are_repeatable(self):
        assert build_request("GET", "runs", "acme").is_retryable
        assert not any(
            build_request(m, "runs", "acme").is_retryable for m in ("POST", "PUT", "PATCH", "DELETE")
        )
        assert api_requests.application_token("id", "secret").is_retryable
        assert api_requests.user_token("acme", "ada@example.com").is_retryable

    def test_repr_hides_the_form(self):
        assert "hidden-secret" not in repr(api_requests.application_token("id", "hidden-secret"))


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
            ({"id": 1234567890123456789, "price": Decimal("1.50")}, "?id=1234567890123456789&price=1.50"),
            ({"q": "شركة 👩\u200d👧"}, "?q=%D8%B4%D8%B1%D9%83%D8%A9%20%F0%9F%91%A9%E2%80%8D%F0%9F%91%A7"),
            # Tallyfy drops an offset
            (
                {"at": datetime(2026, 1, 5, 0, 30, tzinfo=timezone(timedelta(hours=1)))},
                "?at=2026-01-04T23%3A30%3A00.000Z",
            ),
        ],
    )
    def test_query(self, params, query):
        made = build_request("GET", "runs", "acme", params=params)
        assert made.target == f"/organizations/acme/runs{query}"
        assert sent(made) == f"{ROOT}/organizations/acme/runs{query}"

    def test_query_keeps_the_order(self):
        assert build_request("GET", "runs", "acme", params={"b": 1, "a": 2}).params == (
            ("b", "1"),
            ("a", "2"),
        )

    @pytest.mark.parametrize("name", ["with", "with_"])
    def test_with_takes_a_set(self, name):
        names = {"tasks", "next_task", "tags", "folders", "stages"}
        [(sent_name, value)] = build_request("GET", "runs", "acme", params={name: names}).params
        assert sent_name == "with"
        assert sorted(value.split(",")) == sorted(names)

    @pytest.mark.parametrize(
        "value",
        [
            {"a": 1},
            b"abc",
            ["a", None],
            [{"b": 1}],
            float("nan"),
            float("inf"),
            pytest.param(10**5000, id="a huge number"),
            "\ud800",
            datetime(2026, 3, 29, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
        ],
    )
    def test_invalid_query_parameter_is_refused_by_name(self, value):
        with pytest.raises(ValueError, match="owners"):
            build_request("GET", "runs", "acme", params={"owners": value})

    @pytest.mark.parametrize("params", ["q=a", [("q", "a")], 5])
    def test_query_that_is_not_a_mapping_is_refused(self, params):
        with pytest.raises(ValueError, match="query parameters must be a mapping, not"):
            build_request("GET", "runs", "acme", params=params)


class TestPage:
    def test_per_page_defaults_to_100(self):
        assert build_request("GET", "runs", "acme").page(1).params == (("per_page", "100"), ("page", "1"))
        custom = build_request("GET", "runs", "acme", params={"per_page": 20, "q": "a"}).page(2)
        assert dict(custom.params) == {"per_page": "20", "q": "a", "page": "2"}

    def test_page_keeps_the_rest_of_the_request(self):
        made = Request("GET", "/me", (("q", "a"),), json={"a": 1}, form={"b": "2"})
        page = made.page(3)
        assert (page.method, page.path, page.json, page.form) == ("GET", "/me", {"a": 1}, {"b": "2"})
        assert made.params == (("q", "a"),)


class TestWith:
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
    def test_with(self, with_, query):
        made = build_request("GET", "runs/r1", "acme", params={"with_": with_})
        assert (made.method, made.target) == ("GET", RUN + query)

    @pytest.mark.parametrize(
        "with_", [(1,), ("tasks", None), (["tasks"],), {1}, b"tasks", 0, 1, 1.5, True, False]
    )
    def test_other_values_are_refused(self, with_):
        with pytest.raises(ValueError, match="with_ must be a sequence of names"):
            build_request("GET", "runs/r1", "acme", params={"with_": with_})


class TestTokens:
    def test_application_token(self):
        made = api_requests.application_token("the id", "the secret")
        assert made.method == "POST"
        assert made.form == {
            "grant_type": "client_credentials",
            "client_id": "the id",
            "client_secret": "the secret",
            "scope": "*",
        }
        assert made.json is None

    def test_user_token(self):
        made = api_requests.user_token("acme", "ada/../ben@example.com")
        assert made.method == "POST"
        assert made.target == "/applications/acme/users/ada%2F..%2Fben%40example.com/token"
        assert made.json is None
