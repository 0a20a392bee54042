"""Notifiers against the sandbox over HTTP: what people find in Tallyfy after a callback, however it went."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.notifications.tallyfy import (
    TallyfyCommentNotifier,
    TallyfyIssueNotifier,
    TallyfyLaunchRunNotifier,
)
from airflow_provider_tallyfy.sandbox.seeds import COMPLETE_RUN_ID, RELEASE_CHECKLIST_ID, SEEDED_RUN_ID
from tests.support.sandbox_controls import ControlledSandbox

APPROVAL = "fe1f19fb78ae59688cb843354eb32649"


@pytest.fixture
def hook(sandbox):
    return TallyfyHook()


@pytest.fixture
def fault(sandbox):
    return ControlledSandbox(sandbox).fault


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    from airflow_provider_tallyfy.actions import launching
    from airflow_provider_tallyfy.notifications import tallyfy

    monkeypatch.setattr(tallyfy, "_PAUSES", (0.0,))
    monkeypatch.setattr(launching, "_SHORT_PAUSES", (0.0,))


@pytest.fixture
def log(monkeypatch, caplog):
    for notifier in (TallyfyLaunchRunNotifier, TallyfyCommentNotifier, TallyfyIssueNotifier):
        monkeypatch.setattr(notifier, "log", logging.getLogger("notifier-under-test"))
    caplog.set_level(logging.ERROR, "notifier-under-test")
    return caplog


def failure(**more):
    ids = {"dag_id": "ingest", "run_id": "manual__1", "task_id": "load", "map_index": -1, "try_number": 1}
    dag_run = SimpleNamespace(dag_id="ingest", run_id="manual__1", start_date=datetime.now(UTC))
    return {
        "dag": DAG("ingest", schedule=None),
        "run_id": "manual__1",
        "ti": SimpleNamespace(**ids),
        "dag_run": dag_run,
        "exception": ValueError("The file is empty."),
        **more,
    }


def incident(**arguments):
    given = {
        "checklist_id": RELEASE_CHECKLIST_ID,
        "name": "Incident",
        "kickoff": {"Version": "{{ exception }}"},
    }
    return TallyfyLaunchRunNotifier(**{**given, **arguments})


def incidents(hook):
    return [run for run in hook.list_runs(archived="true") if run["name"] == "Incident"]


def threads(hook, label, task_id=APPROVAL):
    return [thread for thread in hook.get_threads(task_id) if thread["label"] == label]


class TestLaunch:
    @pytest.mark.parametrize("action", ["none", "apply_then_drop", "drop"])
    def test_one_failure_one_process(self, hook, fault, action):
        context = failure()
        if action != "none":
            fault(action=action, method="POST", path="/runs$")
        for _ in range(3):
            incident()(context)
        assert len(incidents(hook)) == 1

    def test_archived_incident_is_not_opened_again(self, hook):
        context = failure()
        incident()(context)
        [run] = incidents(hook)
        hook.request("DELETE", f"runs/{run['id']}")
        incident()(context)
        assert len(incidents(hook)) == 1

    def test_awaited_deadline(self, hook):
        context = {
            "dag_run": {"dag_id": "ingest", "dag_run_id": "manual__1"},
            "deadline": {"id": "d1", "deadline_time": "2026-01-05T13:00:00Z"},
        }

        async def wait():
            await incident(kickoff={"Version": "{{ dag_run.dag_id }}"}, context=context)

        asyncio.run(wait())
        asyncio.run(wait())
        [run] = incidents(hook)
        assert "DAG ingest, run manual__1 (" in run["summary"]


class TestComment:
    @pytest.mark.parametrize("state", ["open", "hide-for-guests", "collapsed"])
    def test_comment_in_each_state(self, hook, state):
        TallyfyCommentNotifier(task_id=APPROVAL, content="{{ exception }}", state=state)(failure())
        [thread] = threads(hook, "comment")
        assert (thread["content"], thread["state"]) == ("The file is empty.", state)

    def test_comment_without_answer(self, hook, fault, log):
        fault(action="apply_then_drop", method="POST", path="/comment$")
        TallyfyCommentNotifier(task_id=APPROVAL, content="Look.")(failure())
        assert len(threads(hook, "comment")) == 1
        [error] = [record.getMessage() for record in log.records if record.name == "notifier-under-test"]
        assert error.startswith("The comment may or may not have been written; check the task in Tallyfy ")


class TestIssue:
    def test_issue_on_a_process_blocks_it(self, hook):
        TallyfyIssueNotifier(run_id=SEEDED_RUN_ID, content="{{ exception }}")(failure())
        assert hook.get_run(SEEDED_RUN_ID)["status"] in ("problem", "issue")

    @pytest.mark.parametrize("action", ["none", "apply_then_drop"])
    def test_one_failure_one_issue_on_a_task(self, hook, fault, action):
        if action != "none":
            fault(action=action, method="POST", path="/problem$")
        for _ in range(2):
            TallyfyIssueNotifier(task_id=APPROVAL, content="{{ exception }}")(failure())
        [issue] = threads(hook, "problem")
        assert issue["content"] == "The file is empty."
        hook.request(
            "POST",
            f"tasks/{APPROVAL}/resolved-threads",
            json={"thread_id": issue["id"], "content": "Filled."},
        )
        TallyfyIssueNotifier(task_id=APPROVAL, content="{{ exception }}")(failure())
        assert len(threads(hook, "problem")) == 2

    def test_issue_reopens_a_completed_task(self, hook):
        [task, *_] = hook.get_tasks(COMPLETE_RUN_ID, status="complete")
        TallyfyIssueNotifier(task_id=task["id"], content="It is empty.")(failure())
        assert hook.get_task(COMPLETE_RUN_ID, task["id"])["completed_at"] is None
