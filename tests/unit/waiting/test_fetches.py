"""How a run is read of which a task is waited for, also one that a rule hides."""

from __future__ import annotations

import pytest

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.waiting.fetches import FetchRun

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
SHOWN = {"id": "t1", "alias": "sign", "title": "Sign"}
HIDDEN = {"id": "t2", "alias": "decline", "title": "Decline", "status": "auto-skipped"}


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
