"""How a run and its tasks are read, also tasks that a rule hides."""

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
def fetched(connection, requests_mock):
    def fetch_run(*names, run=None):
        shown = {"id": "r1", "tasks": {"data": [SHOWN]}, **(run or {})}
        requests_mock.get(RUN, json={"data": shown})
        requests_mock.get(f"{RUN}/tasks", json={"data": [SHOWN, HIDDEN]})
        fetch = FetchRun("r1", ("next_task", "tasks", "tasks.form_fields", "tasks.threads"), names)
        return fetch(TallyfyHook(retries=0)).run

    fetch_run.history = requests_mock.request_history
    return fetch_run


def test_a_task_that_the_run_shows_takes_one_request(fetched):
    assert fetched("sign")["tasks"] == {"data": [SHOWN]}
    assert len(fetched.history) == 1


def test_a_task_that_the_run_does_not_show_is_found_in_the_list_of_tasks(fetched):
    assert fetched("sign", "decline")["tasks"] == {"data": [SHOWN, HIDDEN]}
    assert len(fetched.history) == 2
    assert fetched.history[1].qs["with"] == ["form_fields,threads"]


def test_a_match_that_ignores_case_does_not_replace_a_hidden_task(fetched):
    assert fetched("Sign")["tasks"] == {"data": [SHOWN]}
    assert len(fetched.history) == 1
    assert fetched("SIGN")["tasks"] == {"data": [SHOWN, HIDDEN]}


def test_the_tasks_of_an_archived_run_are_not_listed(fetched):
    fetched("decline", run={"archived_at": "2026-01-01"})
    assert len(fetched.history) == 1


@pytest.mark.parametrize("shown", [{"tasks": "many"}, {"tasks": {"data": [SHOWN, SHOWN | {"id": "t3"}]}}])
def test_unreadable_or_ambiguous_tasks_are_left_to_the_condition(fetched, shown):
    assert fetched("sign", run=shown)["tasks"] == shown["tasks"]
    assert len(fetched.history) == 1


def test_a_numeric_id_is_the_same_task_as_its_text(fetched):
    assert fetched("7", run={"tasks": {"data": [SHOWN | {"id": 7}]}})["tasks"] == {
        "data": [SHOWN | {"id": 7}]
    }
    assert len(fetched.history) == 1


class TestRefusedListOfTasks:
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
    def test_it_does_not_concern_the_run(self, read, status, says):
        snapshot = read(status_code=status, json={"message": says})
        assert snapshot.run["tasks"] == {"data": [SHOWN]}
        assert snapshot.tasks_error.status == status

    def test_a_hidden_task_is_read_by_its_id(self, read):
        snapshot = read("t2", status_code=403, json={"message": "No."})
        assert snapshot.run["tasks"] == {"data": [SHOWN, HIDDEN]}

    @pytest.mark.parametrize("outage", [{"status_code": 503}, {"status_code": 403, "text": "<html>"}])
    def test_an_outage_does_not_concern_the_run(self, read, outage):
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
    def test_an_error_that_affects_all_requests_is_raised(self, read, refusal):
        with pytest.raises(TallyfyError):
            read(**refusal)


def test_the_list_of_tasks_is_not_read_while_it_is_disabled(fetched, connection):
    reason = TallyfyServerError("503")
    fetch = FetchRun("r1", ("next_task", "tasks"), ("decline",), tasks_error=reason)
    assert fetched("sign")
    assert fetch(TallyfyHook(retries=0)).tasks_error is reason
    assert [request.path.rpartition("/")[2] for request in fetched.history] == ["r1", "r1"]


class TestTasksToMoveOnFrom:
    def test_a_run_that_shows_its_tasks_takes_one_request(self, connection, requests_mock):
        done = [DONE["json"]["data"], {"id": "t3", "status": "active"}]
        run = {"id": "r1", "next_task": {"id": "t9"}, "tasks": {"data": done}}
        requests_mock.get(RUN, json={"data": run})
        fetch = FetchRun.for_conditions(
            "r1", [NextTaskCondition("t2"), NextTaskCondition("t3")], with_tasks=True
        )
        assert fetch(TallyfyHook(retries=0)).done_tasks == {"t2": "2026-01-01"}
        assert [request.qs for request in requests_mock.request_history] == [{"with": ["next_task,tasks"]}]

    def test_a_task_that_the_run_does_not_show_is_read_by_itself(self, connection, requests_mock):
        requests_mock.get(RUN, json={"data": {"id": "r1", "next_task": {"id": "t9"}, "tasks": {"data": []}}})
        requests_mock.get(f"{RUN}/tasks/t2", json={"data": HIDDEN})
        fetch = FetchRun.for_conditions("r1", [NextTaskCondition("t2")], with_tasks=True)
        assert fetch(TallyfyHook(retries=0)).done_tasks == {"t2": None}

    @pytest.fixture
    def done_tasks(self, connection, requests_mock):
        def read(*task_ids, **answers):
            requests_mock.get(RUN, json={"data": {"id": "r1", "next_task": {"id": "t9"}}})
            for task_id, answer in answers.items():
                requests_mock.get(f"{RUN}/tasks/{task_id}", **answer)
            fetch = FetchRun("r1", ("next_task",), from_task_ids=task_ids)
            return fetch(TallyfyHook(retries=0)).done_tasks

        read.history = requests_mock.request_history
        return read

    @pytest.mark.parametrize("status", [404, 410])
    def test_a_missing_task_is_left_out(self, done_tasks, status):
        missing = {"status_code": status, "json": {"message": "No."}}
        assert done_tasks("t1", "t2", t1=missing, t2=DONE) == {"t2": "2026-01-01"}

    @pytest.mark.parametrize(
        "outage",
        [
            {"status_code": 429, "json": {"message": "Too Many Attempts."}},
            {"status_code": 503},
            {"status_code": 403, "text": "<html>"},
            {"exc": requests.ConnectTimeout},
        ],
    )
    def test_no_further_task_is_read_after_an_outage(self, done_tasks, outage):
        assert done_tasks("t2", "t1", "t3", t1=outage, t2=DONE, t3=outage) == {"t2": "2026-01-01"}
        assert len(done_tasks.history) == 3
