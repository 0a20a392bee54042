"""Whatever an operator or a sensor returns can be stored by Airflow, on PostgreSQL too."""

from __future__ import annotations

import pytest

from airflow_provider_tallyfy.operators.tallyfy import (
    TallyfyApiOperator,
    TallyfyCompleteTaskOperator,
    TallyfyGetRunOperator,
)
from airflow_provider_tallyfy.sensors.tallyfy import (
    TallyfyNextTaskSensor,
    TallyfyRunSensor,
    TallyfyTaskSensor,
)

API = "https://tallyfy.test/api/organizations/acme"
ODD = {"title": "a\0b \ud83d", "\0": [2**70, -(2**70)], "digits": 10**18 + 1}
SANITIZED = {"title": "a?b ?", "?": [str(2**70), str(-(2**70))], "digits": 10**18 + 1}
TASK = {"id": "t1", "alias": "sign", "status": "completed", "completed_at": "2026-01-01T00:00:00Z", **ODD}
RUN = {
    "id": "r1",
    "status": "complete",
    "progress": ODD,
    "next_task": {"id": "t2", **ODD},
    "tasks": {"data": [TASK]},
    **ODD,
}


@pytest.fixture(autouse=True)
def tallyfy(connection, requests_mock):
    requests_mock.get(f"{API}/runs/r1", json={"data": RUN})
    requests_mock.get(f"{API}/runs/r1/tasks", json={"data": [TASK]})
    requests_mock.get(f"{API}/runs/r1/tasks/t1", json={"data": TASK})
    return requests_mock


@pytest.mark.parametrize(
    "operator",
    [
        TallyfyGetRunOperator(task_id="a", run_id="r1"),
        TallyfyCompleteTaskOperator(task_id="b", run_id="r1", task="sign"),
        TallyfyApiOperator(task_id="c", endpoint="runs/r1", response_filter=lambda body: body["data"]),
        TallyfyRunSensor(task_id="d", run_id="r1"),
        TallyfyTaskSensor(task_id="e", run_id="r1", task="sign"),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_odd_values_are_replaced(operator, context):
    result = operator.execute(context)
    assert {key: result[key] for key in SANITIZED} == SANITIZED
    assert result.keys().isdisjoint({"\0"})


def test_odd_values_of_the_next_task_are_replaced(context):
    result = TallyfyNextTaskSensor(task_id="a", run_id="r1", from_task="t1").execute(context)
    assert result["next_task"] == {"id": "t2", **SANITIZED}
    assert result["progress"] == SANITIZED


def test_odd_values_of_answers_and_pages_are_replaced(tallyfy):
    body = {"data": [{"id": "r1", **ODD}], "meta": {}}
    tallyfy.get(f"{API}/runs", json=body)
    assert TallyfyApiOperator(task_id="a", endpoint="runs").execute({})["data"] == [{"id": "r1", **SANITIZED}]
    pages = TallyfyApiOperator(task_id="b", endpoint="runs", paginate=True).execute({})
    assert pages == [{"id": "r1", **SANITIZED}]


def test_other_objects_of_a_filter_are_returned_as_they_are():
    made = object()
    operator = TallyfyApiOperator(task_id="a", endpoint="runs/r1", response_filter=lambda _: made)
    assert operator.execute({}) is made
