"""The polls of a wait that has a worker, over HTTP, with a clock that only pauses move."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.protocol import tasks as tasks_module
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.outcomes import (
    Denied,
    Met,
    Pending,
    PollFailed,
    Skipped,
    Unconfirmed,
    Unreachable,
)
from airflow_provider_tallyfy.waiting.polls import FetchRun, RunSnapshot
from airflow_provider_tallyfy.waiting.run_status import RunStatusCondition
from airflow_provider_tallyfy.waiting.task_done import TaskDoneCondition
from airflow_provider_tallyfy.waiting.worker import RunPoller

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
NOT_FOUND = {"status_code": 404, "json": {"message": "No query results"}}
WAF = {"status_code": 403, "text": "<html>Forbidden</html>"}
B = NextTaskCondition("B")


def response(next_id="B", **fields):
    run = {"id": "r1", "status": "active", "next_task": {"data": [{"id": next_id}] if next_id else []}}
    return {"json": {"data": run | {"progress": {"complete": 1, "total": 3}} | fields}}


def task(status, task_id="B"):
    return {"json": {"data": {"id": task_id, "status": status}}}


@pytest.fixture
def poller(connection):
    return RunPoller("tallyfy_default", "r1", logging.getLogger("task"))


@pytest.fixture
def tallyfy(requests_mock):
    def respond(*these, task_b=None):
        task_b = task_b or task("in-progress")
        requests_mock.get(f"{RUN}/tasks/B", **task_b)
        return requests_mock.get(RUN, list(these))

    return respond


def test_a_change_costs_one_more_request_and_no_pause(poller, tallyfy, requests_mock, time_of_polls):
    began = time_of_polls.monotonic()
    tallyfy(response("C"), task_b=task("completed"))
    assert isinstance(poller.poll(B), Met)
    assert requests_mock.call_count == 2
    assert time_of_polls.monotonic() == began


def test_so_does_a_change_that_hides_the_task(poller, tallyfy, requests_mock):
    tallyfy(response("C"), task_b=task("auto-skipped"))
    assert isinstance(poller.poll(B), Met)
    assert requests_mock.call_count == 2


@pytest.mark.parametrize(
    "task_b",
    [
        task("in-progress"),
        task("completed", "another"),
        WAF,
        {"status_code": 503},
        NOT_FOUND,
        {"status_code": 404, "json": {"message": "API endpoint not found"}},
    ],
)
def test_an_old_answer_does_not_end_the_wait(poller, tallyfy, task_b):
    tallyfy(response("A"), response("B"), task_b=task_b)
    assert isinstance(poller.poll(B), Pending)


def test_no_next_task_in_one_answer_does_not_end_the_wait(poller, tallyfy):
    tallyfy(response(None), response("B"))
    assert isinstance(poller.poll(B), Pending)


@pytest.mark.parametrize("data", [{}, {"name": "x"}, {"id": "r2", "next_task": None, "status": "complete"}])
def test_an_answer_about_something_else_is_a_failed_poll(poller, tallyfy, data):
    tallyfy({"json": {"data": data}})
    assert isinstance(poller.poll(B), PollFailed)


def test_an_answer_without_next_task_is_a_failed_poll(poller, tallyfy):
    tallyfy({"json": {"data": {"id": "r1", "status": "active"}}})
    assert isinstance(poller.poll(B), PollFailed)


def test_a_run_that_is_missing_for_some_seconds_is_not_gone(poller, tallyfy):
    tallyfy(*[NOT_FOUND] * 5, response("B"))
    assert isinstance(poller.poll(B), Pending)


def test_a_token_that_no_longer_sees_the_run_is_replaced(poller, tallyfy, requests_mock, monkeypatch):
    tallyfy(response("B"))
    assert isinstance(poller.poll(B), Pending)
    tallyfy(NOT_FOUND)
    requests_mock.get(RUN, request_headers={"Authorization": "Bearer new"}, **response("B"))
    monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", "tallyfy://acme:new@tallyfy.test")
    assert isinstance(poller.poll(B), Pending)


def test_a_wrong_base_url_is_an_error_of_the_connection(poller, tallyfy):
    tallyfy({"status_code": 404, "json": {"message": "API endpoint not found"}})
    outcome = poller.poll(B)
    assert isinstance(outcome, Denied)
    assert isinstance(outcome.error, exceptions.TallyfyConfigurationError)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 410, 451])
@pytest.mark.parametrize(
    "body", [{"text": "<html>"}, {"text": ""}, {"json": []}, {"json": {}}, {"json": {"message": "Forbidden"}}]
)
def test_a_firewall_s_answer_is_an_outage(poller, tallyfy, status, body):
    tallyfy({"status_code": status, **body})
    assert [type(poller.poll(B)) for _ in range(3)] == [PollFailed] * 3


def test_a_complete_run_whose_hidden_task_cannot_be_listed_skips_or_is_denied(poller, tallyfy, requests_mock):
    tallyfy(response(None, status="complete", tasks=[]))
    requests_mock.get(f"{RUN}/tasks", status_code=403, json={"message": "You may not list tasks."})
    requests_mock.get(f"{RUN}/tasks/t1", json={"data": {"id": "t1", "status": "auto-skipped"}})
    assert isinstance(poller.poll(TaskDoneCondition("t1")), Skipped)
    requests_mock.get(f"{RUN}/tasks/sign", status_code=404, json={"message": "No query results"})
    other = RunPoller("tallyfy_default", "r1", logging.getLogger("task"))
    outcome = other.poll(TaskDoneCondition("sign"))
    assert isinstance(outcome, Denied)
    assert "You may not list tasks." in str(outcome.error)


def test_an_outage_of_the_list_of_tasks_does_not_stop_the_wait(poller, tallyfy, requests_mock, time_of_polls):
    """The run is evaluated all the same, and the list is not requested before the end of its Retry-After."""
    run = tallyfy(response("A", tasks=[]))
    listed = requests_mock.get(f"{RUN}/tasks", status_code=503, headers={"Retry-After": "600"})
    for _ in range(10):
        assert isinstance(poller.poll(TaskDoneCondition("sign")), Pending)
        time_of_polls.sleep(50)
    assert (run.call_count, listed.call_count) == (10, 1)
    tallyfy(response("A", tasks=[{"id": "t1", "alias": "sign", "completed_at": "2026-01-01T00:00:00Z"}]))
    assert isinstance(poller.poll(TaskDoneCondition("sign")), Met)


def test_a_deferrable_wait_leaves_the_confirmation_to_the_triggerer(poller, tallyfy, time_of_polls):
    began = time_of_polls.monotonic()
    tallyfy(response(None))
    assert isinstance(poller.poll(B, confirm=False), Unconfirmed)
    assert time_of_polls.monotonic() == began


def test_a_deleted_run_is_gone_after_half_a_minute(poller, tallyfy, time_of_polls):
    began = time_of_polls.monotonic()
    tallyfy(NOT_FOUND)
    assert isinstance(poller.poll(B), Unreachable)
    assert 30 <= time_of_polls.monotonic() - began <= 60


def test_retry_after_is_heeded(poller, tallyfy, time_of_polls):
    polls = tallyfy({"status_code": 503, "headers": {"Retry-After": "600"}}, response("B"))
    for _ in range(599):
        assert isinstance(poller.poll(B), PollFailed)
        time_of_polls.sleep(1)
    assert polls.call_count == 1
    time_of_polls.sleep(1)
    assert isinstance(poller.poll(B), Pending)


def test_a_run_is_indexed_once_for_all_its_waits(monkeypatch):
    indexed = []
    index = tasks_module._by_name
    monkeypatch.setattr(tasks_module, "_by_name", lambda tasks: indexed.append(1) or index(tasks))
    snapshot = RunSnapshot({"id": "r1", "status": "active", "tasks": [{"id": f"t{n}"} for n in range(200)]})
    for number in range(200):
        condition = TaskDoneCondition(f"t{number}")
        condition.evaluate(snapshot)
        condition.describe_run(snapshot)
    assert len(indexed) == 1


def test_all_that_several_conditions_need_is_asked_for_at_once():
    conditions = [B, NextTaskCondition("A"), TaskDoneCondition("sign"), RunStatusCondition(("complete",))]
    assert FetchRun.for_conditions("r1", conditions) == FetchRun(
        "r1", ("next_task", "tasks", "tasks.form_fields"), ("sign",), ("B", "A")
    )
