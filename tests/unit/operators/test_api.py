from __future__ import annotations

from datetime import UTC, datetime

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_tallyfy.exceptions import TallyfyIndeterminateError
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApiOperator, TallyfyGetRunOperator

API = "https://tallyfy.test/api/organizations/acme"


def call(**arguments):
    return TallyfyApiOperator(task_id="call", **arguments).execute({})


@pytest.fixture
def dag():
    with DAG(
        "dag", schedule=None, start_date=datetime(2026, 1, 5, tzinfo=UTC), params={"status": "active", "x": 1}
    ) as dag:
        yield dag


def test_returns_the_whole_answer(connection, requests_mock):
    requests_mock.get(f"{API}/tags", json={"data": [{"id": "t1"}], "meta": {}})
    assert call(endpoint="tags", query={"q": "Ur gent", "archived": None}) == {
        "data": [{"id": "t1"}],
        "meta": {},
    }
    assert requests_mock.last_request.query == "q=ur%20gent"


@pytest.mark.parametrize("paginate", [False, True])
def test_query_rendered_to_text_is_refused(connection, requests_mock, paginate):
    with pytest.raises(AirflowFailException, match="query must be a mapping, not the text"):
        call(endpoint="tags", query="q=1", paginate=paginate)
    assert not requests_mock.called


def test_query_from_another_task(dag):
    with dag:
        output = TallyfyGetRunOperator(task_id="before", run_id="r1").output
        after = TallyfyApiOperator(task_id="after", endpoint="tags", query=output)
    assert after.upstream_task_ids == {"before"}


def test_response_filter(connection, requests_mock):
    requests_mock.get("https://tallyfy.test/api/me", json={"data": {"id": 7}})
    assert call(endpoint="/me", response_filter=lambda body: body["data"]["id"]) == 7


def test_body(connection, requests_mock):
    requests_mock.put(f"{API}/runs/r1", json={"data": {"id": "r1"}})
    assert call(endpoint="runs/r1", method="put", json={"name": "Release 3"}) == {"data": {"id": "r1"}}
    assert requests_mock.last_request.json() == {"name": "Release 3"}


def test_empty_answer(connection, requests_mock):
    requests_mock.delete(f"{API}/tasks/t1", status_code=204)
    assert call(endpoint="tasks/t1", method="DELETE") is None


def test_paginate(connection, requests_mock):
    def page(number):
        return {"data": [{"id": number}], "meta": {"pagination": {"current_page": number, "total_pages": 2}}}

    requests_mock.get(f"{API}/users", [{"json": page(1)}, {"json": page(2)}])
    assert call(endpoint="users", paginate=True, query={"q": "a"}) == [{"id": 1}, {"id": 2}]
    assert requests_mock.last_request.qs == {"q": ["a"], "page": ["2"], "per_page": ["100"]}
    requests_mock.get(f"{API}/users", [{"json": page(1)}, {"json": page(2)}])
    assert call(endpoint="users", paginate=True, response_filter=len) == 2


@pytest.mark.parametrize("paginate", [False, True])
def test_parameter_names_may_be_numbers(connection, requests_mock, paginate):
    requests_mock.get(f"{API}/users", json={"data": []})
    call(endpoint="users", paginate=paginate, query={2026: "a"})
    assert requests_mock.last_request.qs["2026"] == ["a"]


def test_paginate_with_any_parameter_name(connection, requests_mock):
    requests_mock.get(f"{API}/users", json={"data": []})
    assert call(endpoint="users", paginate=True, query={"endpoint": "a", "self": "b"}) == []
    assert requests_mock.last_request.qs.items() >= {"endpoint": ["a"], "self": ["b"]}.items()


@pytest.mark.parametrize("more", [{"method": "POST"}, {"method": None}, {"json": {}}])
def test_paginate_is_only_for_get(connection, requests_mock, more):
    with pytest.raises(AirflowFailException, match="only for GET"):
        call(endpoint="users", paginate=True, **more)
    assert requests_mock.call_count == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "../me"},
        {"endpoint": "runs?q=1"},
        {"endpoint": None},
        {"endpoint": ["runs"]},
        {"endpoint": "runs", "method": "FETCH"},
        {"endpoint": "runs", "method": None},
        {"endpoint": "runs", "query": {"q": object()}},
        {"endpoint": "runs", "method": "POST", "json": float("nan")},
    ],
)
def test_invalid_arguments_fail_without_retries(connection, requests_mock, wrong):
    with pytest.raises(AirflowFailException):
        call(**wrong)
    assert not requests_mock.called


def test_error_of_the_filter_is_raised(connection, requests_mock):
    requests_mock.get(f"{API}/tags", json={"data": []})
    with pytest.raises(ValueError, match="invalid literal"):
        call(endpoint="tags", response_filter=lambda _: int("one"))


def test_write_without_answer(connection, requests_mock):
    requests_mock.post(f"{API}/tags", status_code=500)
    with pytest.raises(TallyfyIndeterminateError):
        call(endpoint="tags", method="POST", json={"title": "Urgent"})


class TestQuery:
    """Not ``params``: Airflow takes those from every operator, and mixes the DAG's in."""

    def test_query_beside_params_of_the_dag(self, dag):
        operator = TallyfyApiOperator(task_id="call", endpoint="runs", query={"status": "active"})
        assert operator.query == {"status": "active"}
        assert {name: operator.params[name] for name in operator.params} == {"status": "active", "x": 1}
        assert TallyfyApiOperator(task_id="without", endpoint="runs").query is None

    def test_query_of_a_mapped_task_may_equal_the_params_of_the_dag(self, dag):
        mapped = TallyfyApiOperator.partial(task_id="call", query={"status": "active", "x": 1}).expand(
            endpoint=["runs", "tasks"]
        )
        operator = mapped.unmap({"endpoint": "runs"})
        assert (operator.endpoint, operator.query) == ("runs", {"status": "active", "x": 1})

    def test_query_can_be_expanded(self, dag):
        mapped = TallyfyApiOperator.partial(task_id="call", endpoint="runs").expand(
            query=[{"status": "active"}, {"q": "b"}]
        )
        assert mapped.unmap({"query": {"status": "active"}}).query == {"status": "active"}

    def test_template_fields(self):
        assert TallyfyApiOperator.template_fields == (
            "endpoint",
            "method",
            "query",
            "json",
            "tallyfy_conn_id",
        )


@pytest.mark.parametrize("arguments", [{"paginate": "false"}, {"response_filter": "len"}], ids=str)
def test_arguments_of_other_types_are_refused(arguments):
    [name] = arguments
    with pytest.raises(ValueError, match=f"Task 'call': {name} must be "):
        call(endpoint="runs", **arguments)
