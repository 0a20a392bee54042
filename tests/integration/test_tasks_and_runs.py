"""Waits for tasks and for runs' statuses, as the triggerer runs them, against the sandbox's real server."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from airflow_provider_tallyfy.hooks.connection import DEFAULT_REQUESTS_PER_HOUR
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator
from airflow_provider_tallyfy.sandbox.seeds import ONBOARDING_RUN_ID, SEEDED_RUN_ID
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyRunTrigger, TallyfyTaskTrigger, TallyfyTrigger
from airflow_provider_tallyfy.waiting import watcher
from airflow_provider_tallyfy.waiting.evidence import CONFIRMATION_SECONDS
from airflow_provider_tallyfy.waiting.scheduler.budget import RequestBudget
from airflow_provider_tallyfy.waiting.scheduler.scheduler import MAX_STALENESS
from tests.integration.moved_clock import MovedClock
from tests.support.sandbox_controls import ControlledSandbox

LONGEST = 60.0
INTERVAL = 10.0
APPROVAL = "Approve release"


class Environment(ControlledSandbox):
    """A sandbox and a user."""

    def task(self, run_id, alias):
        found = next(task for task in self.people.tasks(run_id) if task["alias"] == alias)
        return self.people.task(run_id, found["id"])

    def decide(self, *, is_approved, run_id=SEEDED_RUN_ID):
        self.people.complete(self.task(run_id, "approve_release"), is_approved=is_approved)

    def add_task(self, title, run_id=SEEDED_RUN_ID):
        owners = {"users": [1001], "guests": [], "groups": []}
        body = {
            "title": title,
            "run_id": run_id,
            "owners": owners,
            "task_type": "task",
            "deadline": "2030-01-01 00:00:00",
        }
        return self.people.request("POST", "/tasks", json=body)


@pytest.fixture
def tallyfy(server, monkeypatch):
    server.reset()
    settings = {
        "conn_type": "tallyfy",
        "host": server.base_url,
        "login": "sandbox",
        "password": "sandbox-token",
        "extra": {"web_url": server.url},
    }
    monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(settings))
    return Environment(server)


@pytest.fixture
def fired(monkeypatch, caplog):
    """Run a trigger until it fires. In each pause before a poll, the next of the given actions is done."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(TallyfyTrigger, "log", logging.getLogger("trigger"))
    monkeypatch.setattr(watcher, "STARTUP_PAUSE", 0.0)

    def run(trigger, *actions):
        clock = MovedClock(actions)
        monkeypatch.setattr(watcher, "Clock", lambda: clock)

        async def first_event():
            return (await anext(trigger.run())).payload

        event = asyncio.run(asyncio.wait_for(first_event(), LONGEST))
        run.passed = clock.passed
        return event

    return run


def for_task(name, run_id=SEEDED_RUN_ID, **arguments):
    return TallyfyTaskTrigger(
        **{
            "tallyfy_conn_id": "tallyfy_default",
            "run_id": run_id,
            "poke_interval": INTERVAL,
            "task_name": name,
            **arguments,
        }
    )


def for_run(*statuses, run_id=SEEDED_RUN_ID, **arguments):
    return TallyfyRunTrigger(
        **{
            "tallyfy_conn_id": "tallyfy_default",
            "run_id": run_id,
            "poke_interval": INTERVAL,
            "target_statuses": statuses,
            **arguments,
        }
    )


class TestTask:
    @pytest.mark.parametrize(
        "name", ["approve_release", APPROVAL, "APPROVE RELEASE", "fe1f19fb78ae59688cb843354eb32649"]
    )
    def test_decision_ends_the_wait_with_the_form_values(self, tallyfy, fired, name):
        event = fired(for_task(name), lambda: tallyfy.decide(is_approved=False))
        assert event["outcome"] == "met"
        assert event["result"]["is_approved"] is False
        assert event["result"]["completer_id"] == 1002
        assert event["result"]["form_values"] == {"comment": "Looks good to me."}
        assert fired.passed == INTERVAL

    def test_completed_task_ends_the_wait_at_the_first_poll(self, tallyfy, fired):
        event = fired(for_task("prepare_release_notes"))
        assert event["result"]["form_values"] == {}
        assert tallyfy.requests_since_last_call() == {"runs/{id}": 1}

    def test_each_change_of_the_task_is_logged(self, tallyfy, fired, caplog):
        fired(for_task(APPROVAL), None, lambda: tallyfy.decide(is_approved=True))
        lines = [line for line in caplog.messages if " tasks are done; " in line]
        assert f"1 of 3 tasks are done; '{APPROVAL}' is open; " in lines[0]
        assert "; with user 1002, group 5eed0007000000000000000000000001; due 20" in lines[0]
        assert f"'{APPROVAL}' is approved; task fe1f" in lines[-1]

    @pytest.mark.parametrize(
        ("on_skipped", "outcome"), [("skip", "skipped"), ("fail", "unreachable"), ("succeed", "met")]
    )
    def test_hidden_task_ends_the_wait(self, tallyfy, fired, on_skipped, outcome):
        event = fired(
            for_task("announce_release", on_skipped=on_skipped),
            None,
            lambda: tallyfy.decide(is_approved=False),
        )
        assert event["outcome"] == outcome
        if outcome == "met":
            assert event["result"]["status"] == "auto-skipped"

    def test_task_hidden_from_the_start_is_found_among_all_tasks(self, tallyfy, fired):
        assert fired(for_task("decline_customer", run_id=ONBOARDING_RUN_ID))["outcome"] == "skipped"
        # A second read has to agree that it is hidden.
        assert tallyfy.requests_since_last_call() == {"runs/{id}": 2, "runs/{id}/tasks": 2}

    def test_task_may_be_added_later(self, tallyfy, fired, caplog):
        def complete():
            task = tallyfy.add_task("Print the posters")
            tallyfy.people.complete(tallyfy.people.task(SEEDED_RUN_ID, task["id"]))

        event = fired(for_task("print the posters"), None, complete)
        assert event["result"]["title"] == "Print the posters"
        assert "task 'print the posters' is not there yet; there are 'Prepare" in caplog.text

    def test_run_that_ends_without_the_task_is_unreachable(self, tallyfy, fired):
        def finish():
            tallyfy.people.complete_next(SEEDED_RUN_ID)
            tallyfy.people.complete_next(SEEDED_RUN_ID)

        event = fired(for_task("Print the posters"), None, finish)
        assert event["outcome"] == "unreachable"
        assert f"'{APPROVAL}' (alias approve_release" in event["reason"]

    def test_ambiguous_name_is_unreachable(self, tallyfy, fired):
        event = fired(for_task(APPROVAL), None, lambda: tallyfy.add_task(APPROVAL))
        assert event["outcome"] == "unreachable"
        assert "matches 2 tasks" in event["reason"]

    def test_archived_run_without_the_task_is_unreachable(self, tallyfy, fired):
        event = fired(for_task("Print the posters"), None, lambda: tallyfy.people.archive(SEEDED_RUN_ID))
        assert (event["outcome"], "archived" in event["reason"]) == ("unreachable", True)

    @pytest.mark.parametrize("path", ["with=next_task", "/tasks"])
    def test_outage_of_either_request_does_not_end_the_wait(self, tallyfy, fired, caplog, path):
        tallyfy.fault(method="GET", path=path, times=3, action="status", status=503)
        event = fired(for_task("decline_customer", run_id=ONBOARDING_RUN_ID))
        assert event["outcome"] == "skipped"
        assert "Poll failed (2 in a row)" in caplog.text

    def test_decision_needs_an_approval_task(self, tallyfy, fired):
        event = fired(for_task("announce_release", needs_decision=True))
        assert "no approval task" in event["reason"]

    def test_empty_name_fails_the_task(self, tallyfy, fired):
        event = fired(for_task(""))
        assert event["error"] == "TallyfyConfigurationError"
        assert "task must be a task's id, alias or title" in event["message"]


class TestRun:
    def test_end_of_the_run_ends_the_wait(self, tallyfy, fired):
        def complete_next():
            tallyfy.people.complete_next(SEEDED_RUN_ID)

        event = fired(for_run("complete"), complete_next, complete_next)
        assert event["result"]["status"] == "complete"
        assert fired.passed == 2 * INTERVAL

    def test_missed_deadline_is_seen(self, tallyfy, fired):
        event = fired(for_run("delayed"), lambda: tallyfy.control("POST", "clock", advance=90 * 86400))
        assert (event["outcome"], event["result"]["status"]) == ("met", "delayed")
        assert fired.passed == INTERVAL + CONFIRMATION_SECONDS  # a status comes and goes

    def test_archived_run_is_unreachable(self, tallyfy, fired):
        event = fired(for_run("complete"), None, lambda: tallyfy.people.archive(SEEDED_RUN_ID))
        assert (event["outcome"], "archived" in event["reason"]) == ("unreachable", True)

    def test_archived_may_be_the_target(self, tallyfy, fired):
        event = fired(for_run("archived"), None, lambda: tallyfy.people.archive(SEEDED_RUN_ID))
        assert event["result"]["archived_at"] is not None

    def test_deleted_run_is_unreachable_even_if_archived_is_the_target(self, tallyfy, fired):
        def delete():
            tallyfy.people.archive(SEEDED_RUN_ID)
            tallyfy.people.delete(SEEDED_RUN_ID)

        event = fired(for_run("archived"), None, delete)
        assert (event["outcome"], "gone" in event["reason"]) == ("unreachable", True)


def test_many_waits_share_lists_and_see_a_change_that_the_feed_lacks(tallyfy, monkeypatch):
    """A deadline that passes is no activity, so the feed does not name the run."""
    monkeypatch.setattr(watcher, "STARTUP_PAUSE", 0.0)
    ids = tallyfy.launch(400)
    delayed = ids[123]
    requests_since_last_call = []

    def delay_one():
        requests_since_last_call.append(tallyfy.requests_since_last_call())
        tallyfy.control("POST", "activity", missing=["updated", "started"])
        task = tallyfy.task(delayed, "announce_release")
        path = f"/runs/{delayed}/tasks/{task['id']}"
        tallyfy.people.request("PUT", path, json={"deadline": "2020-01-01 00:00:00"})
        tallyfy.requests_since_last_call()

    clock = MovedClock([None, None, delay_one])
    monkeypatch.setattr(watcher, "Clock", lambda: clock)

    async def first_to_fire():
        waits = {
            run_id: asyncio.ensure_future(anext(for_run("delayed", run_id=run_id).run())) for run_id in ids
        }
        done, others = await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
        for wait in others:
            wait.cancel()
        return [run_id for run_id, wait in waits.items() if wait in done]

    tallyfy.requests_since_last_call()
    assert asyncio.run(asyncio.wait_for(first_to_fire(), LONGEST)) == [delayed]
    # Four pages of the list, and once more those whose statuses its first page did not show.
    assert 4 <= requests_since_last_call[0]["runs"] <= 8
    assert requests_since_last_call[0]["activity-feeds"] <= 3
    assert MAX_STALENESS / 2 < clock.passed - 3 * INTERVAL <= MAX_STALENESS
    # Each poll of the feed, all the lists once more, and the one run by itself.
    requests = tallyfy.requests_since_last_call()
    assert requests["runs"] <= 8
    # Each run in its turn, at the pace that the budget allows: half of it at most.
    assert requests["runs/{id}"] <= 1 + clock.passed / (RequestBudget(DEFAULT_REQUESTS_PER_HOUR).pause * 2)


@pytest.mark.parametrize("is_approved", [True, False])
def test_approval_returns_who_decided_and_their_comment(tallyfy, monkeypatch, is_approved):
    task = tallyfy.task(SEEDED_RUN_ID, "approve_release")
    tallyfy.people.request("POST", f"/tasks/{task['id']}/comment", json={"content": "Checked by Ada."})
    monkeypatch.setattr("time.sleep", lambda _: tallyfy.decide(is_approved=is_approved))
    gate = TallyfyApprovalOperator(task_id="gate", run_id=SEEDED_RUN_ID, task=APPROVAL, poke_interval=1)
    context = {"task": gate}
    result = gate.execute(context)
    assert result["is_approved"] is is_approved
    assert result["decided_by"] == {"id": 1002, "name": "Ben Larsen", "email": "ben@example.com"}
    assert result["form_values"] == {"comment": "Looks good to me."}
    assert result["comment"] is None  # Ada's is not Ben's
