"""How a run is read of which a task is waited for, also one that a rule hides."""

from __future__ import annotations

import pytest
import requests

from airflow_provider_tallyfy.exceptions import TallyfyError, TallyfyServerError
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.polls import FetchRun

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
SHOWN = {"id": "t1", "alias": "sign", "title": "Sign"}
HIDDEN = {"id": "t2", "alias": "decline", "title": "Decline", "status": "auto-skipped"}
DONE = {"json": {"data": {"id": "t2", "completed_at": "2026-01-01"}}}


@pytest.fixture
def asked(connection, requests_mock):
    def ask(*names, run=None):
        shown = {"id": "r1", "tasks": {"data": [SHOWN]}, **(run or {})}
        requests_mock.get(RUN, json={"data": shown})
        requests_mock.get(f"{RUN}/tasks", json={"data": [SHOWN, HIDDEN]})
        question = FetchRun("r1", ("next_task", "tasks", "tasks.form_fields", "tasks.threads"), names)
        return question(TallyfyHook(retries=0)).run

    ask.history = requests_mock.request_history
    return ask


def test_a_task_that_the_run_shows_takes_one_request(asked):
    assert asked("sign")["tasks"] == {"data": [SHOWN]}
    assert len(asked.history) == 1


def test_a_task_that_it_does_not_show_is_looked_for_among_all(asked):
    assert asked("sign", "decline")["tasks"] == {"data": [SHOWN, HIDDEN]}
    assert len(asked.history) == 2
    assert asked.history[1].qs["with"] == ["form_fields,threads"]


def test_a_shown_task_whose_name_differs_in_case_does_not_stand_for_a_hidden_one(asked):
    assert asked("Sign")["tasks"] == {"data": [SHOWN]}
    assert len(asked.history) == 1
    assert asked("SIGN")["tasks"] == {"data": [SHOWN, HIDDEN]}


def test_not_where_the_run_is_archived_and_its_tasks_with_it(asked):
    asked("decline", run={"archived_at": "2026-01-01"})
    assert len(asked.history) == 1


@pytest.mark.parametrize("shown", [{"tasks": "many"}, {"tasks": {"data": [SHOWN, SHOWN | {"id": "t3"}]}}])
def test_what_is_unreadable_or_ambiguous_is_left_to_whoever_asked(asked, shown):
    assert asked("sign", run=shown)["tasks"] == shown["tasks"]
    assert len(asked.history) == 1


def test_a_numeric_id_is_the_same_task_as_its_text(asked):
    assert asked("7", run={"tasks": {"data": [SHOWN | {"id": 7}]}})["tasks"] == {"data": [SHOWN | {"id": 7}]}
    assert len(asked.history) == 1


class TestARefusalOfTheListOfTasks:
    @pytest.fixture
    def read(self, connection, requests_mock):
        def read(name="decline", **refusal):
            requests_mock.get(RUN, json={"data": {"id": "r1", "tasks": {"data": [SHOWN]}, "next_task": None}})
            requests_mock.get(f"{RUN}/tasks", **refusal)
            requests_mock.get(f"{RUN}/tasks/decline", status_code=404, json={"message": "No query results"})
            requests_mock.get(f"{RUN}/tasks/t2", json={"data": HIDDEN})
            return FetchRun("r1", ("next_task", "tasks"), (name,))(TallyfyHook(retries=0))

        return read

    @pytest.mark.parametrize("says", ["No query results", "API endpoint not found"])
    @pytest.mark.parametrize("status", [403, 404])
    def test_says_nothing_of_the_run(self, read, status, says):
        snapshot = read(status_code=status, json={"message": says})
        assert snapshot.run["tasks"] == {"data": [SHOWN]}
        assert snapshot.tasks_error.status == status

    def test_leaves_a_hidden_task_to_be_read_by_its_id(self, read):
        snapshot = read("t2", status_code=403, json={"message": "No."})
        assert snapshot.run["tasks"] == {"data": [SHOWN, HIDDEN]}

    @pytest.mark.parametrize("outage", [{"status_code": 503}, {"status_code": 403, "text": "<html>"}])
    def test_nor_does_an_outage_of_it(self, read, outage):
        snapshot = read(**outage)
        assert snapshot.run["tasks"] == {"data": [SHOWN]}
        assert snapshot.tasks_error is not None

    @pytest.mark.parametrize(
        "refusal",
        [
            {"status_code": 401, "json": {"message": "No."}},
            {"status_code": 429, "json": {"message": "No."}},
        ],
    )
    def test_but_what_would_refuse_the_run_too_does(self, read, refusal):
        with pytest.raises(TallyfyError):
            read(**refusal)


def test_the_list_of_tasks_is_left_out_while_it_is_out(asked, connection):
    reason = TallyfyServerError("503")
    fetch = FetchRun("r1", ("next_task", "tasks"), ("decline",), tasks_error=reason)
    assert asked("sign")
    assert fetch(TallyfyHook(retries=0)).tasks_error is reason
    assert [request.path.rpartition("/")[2] for request in asked.history] == ["r1", "r1"]


class TestTheTaskToMoveOnFrom:
    def test_a_run_that_shows_its_tasks_takes_one_request(self, connection, requests_mock):
        done = [DONE["json"]["data"], {"id": "t3", "status": "active"}]
        run = {"id": "r1", "next_task": {"id": "t9"}, "tasks": {"data": done}}
        requests_mock.get(RUN, json={"data": run})
        fetch = FetchRun.for_conditions(
            "r1", [NextTaskCondition("t2"), NextTaskCondition("t3")], with_left_tasks=True
        )
        assert fetch(TallyfyHook(retries=0)).left_tasks == {"t2": "2026-01-01"}
        assert [request.qs for request in requests_mock.request_history] == [{"with": ["next_task,tasks"]}]

    def test_one_that_it_does_not_show_is_read_by_itself(self, connection, requests_mock):
        requests_mock.get(RUN, json={"data": {"id": "r1", "next_task": {"id": "t9"}, "tasks": {"data": []}}})
        requests_mock.get(f"{RUN}/tasks/t2", json={"data": HIDDEN})
        fetch = FetchRun.for_conditions("r1", [NextTaskCondition("t2")], with_left_tasks=True)
        assert fetch(TallyfyHook(retries=0)).left_tasks == {"t2": None}

    @pytest.fixture
    def left_tasks(self, connection, requests_mock):
        def read(*task_ids, **answers):
            requests_mock.get(RUN, json={"data": {"id": "r1", "next_task": {"id": "t9"}}})
            for task_id, answer in answers.items():
                requests_mock.get(f"{RUN}/tasks/{task_id}", **answer)
            fetch = FetchRun("r1", ("next_task",), left_tasks=task_ids)
            return fetch(TallyfyHook(retries=0)).left_tasks

        read.history = requests_mock.request_history
        return read

    @pytest.mark.parametrize("status", [404, 410])
    def test_one_answer_that_it_is_missing_proves_nothing(self, left_tasks, status):
        missing = {"status_code": status, "json": {"message": "No."}}
        assert left_tasks("t1", "t2", t1=missing, t2=DONE) == {"t2": "2026-01-01"}

    @pytest.mark.parametrize(
        "outage",
        [
            {"status_code": 429, "json": {"message": "Too Many Attempts."}},
            {"status_code": 503},
            {"status_code": 403, "text": "<html>"},
            {"exc": requests.ConnectTimeout},
        ],
    )
    def test_after_an_outage_no_other_is_asked_for(self, left_tasks, outage):
        assert left_tasks("t2", "t1", "t3", t1=outage, t2=DONE, t3=outage) == {"t2": "2026-01-01"}
        assert len(left_tasks.history) == 3
