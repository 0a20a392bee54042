"""
A task is completed once, over real HTTP and with faults; invalid arguments fail before anything is sent.

Pauses take no time.
"""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.actions import attempts, completing
from airflow_provider_tallyfy.exceptions import (
    TallyfyIndeterminateError,
    TallyfyNotFoundError,
    TallyfyPermissionError,
    TallyfyValidationError,
)
from airflow_provider_tallyfy.hooks import transport
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.operators.tallyfy import TallyfyCompleteTaskOperator
from airflow_provider_tallyfy.protocol.completion import Person
from airflow_provider_tallyfy.protocol.forms import read_task_form
from airflow_provider_tallyfy.sandbox.seeds import COMPLETE_RUN_ID, ONBOARDING_RUN_ID, SEEDED_RUN_ID
from dev.processes import wait_until
from dev.sandbox import SandboxClient
from tests.integration.moved_clock import SandboxTime
from tests.unit.conftest import TaskInstance, TaskStateStore

COMPLETED = "completed-tasks$"
UPDATED = "/tasks/[0-9a-f]+$"
APPLIED = [("apply_then_drop", {}), ("apply_then_status", {"status": 500}), ("truncate", {})]
NOT_APPLIED = [("drop", {}), ("status", {"status": 503})]
APPROVAL = {"run_id": SEEDED_RUN_ID, "task": "approve release", "form_fields": {"Comment": "All is well."}}


@pytest.fixture(autouse=True)
def clock(sandbox, monkeypatch):
    clock = SandboxTime(sandbox)
    for module in (attempts, completing, transport):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def people(sandbox):
    return SandboxClient(sandbox.url)


@pytest.fixture(params=["3.3", "before 3.3"])
def airflow(request, monkeypatch):
    """One task instance, with and without a task state store."""
    monkeypatch.setattr(version_compat, "AIRFLOW_V_3_3_PLUS", request.param == "3.3")
    monkeypatch.setattr(attempts, "never_expire", lambda: None)
    return Airflow()


class Airflow:
    def __init__(self):
        self.store = TaskStateStore()
        self.tries = 0

    def complete(self, **arguments):
        """Execute the operator once, in a try of its own."""
        self.tries += 1
        ti = TaskInstance()
        ti.try_number = self.tries
        return complete({"ti": ti, "task_state_store": self.store}, **arguments)


def complete(context=None, **arguments):
    return TallyfyCompleteTaskOperator(task_id="complete", **arguments).execute(context or {})


def approval():
    [task] = [task for task in TallyfyHook().get_tasks(SEEDED_RUN_ID) if task["task_type"] == "approval"]
    return task["id"]


def fault(sandbox, action, path, **more):
    answer = requests.post(
        f"{sandbox.url}/_sandbox/faults", json=[{"action": action, "path": path, **more}], timeout=10
    )
    assert answer.status_code == 200, answer.text


def written(sandbox):
    """How many requests changed something, or tried to."""
    shown = requests.get(f"{sandbox.url}/_sandbox/stats", timeout=10).json()
    return sum(row["count"] for row in shown["requests"] if row["method"] != "GET")


class TestCompleting:
    @pytest.mark.parametrize("name", ["approve release", "Approve release", "approve_release"])
    @pytest.mark.parametrize(("given", "decided"), [(True, True), (False, False), ("False", False)])
    def test_approval_with_form(self, sandbox, name, given, decided):
        task = complete(**{**APPROVAL, "task": name}, is_approved=given)
        assert (task["title"], task["status"], task["is_approved"]) == (
            "Approve release",
            "completed",
            decided,
        )
        assert read_task_form(task) == {"comment": "All is well."}

    def test_task_without_form(self, sandbox):
        complete(**APPROVAL, is_approved=True)
        task = complete(run_id=SEEDED_RUN_ID, task="Announce release", is_approved=False)
        assert (task["status"], task["is_approved"]) == ("completed", None)
        assert TallyfyHook().get_run(SEEDED_RUN_ID)["status"] == "complete"

    @pytest.mark.parametrize("who", [1002, "1002", "ben@example.com"])
    def test_override_user(self, sandbox, who):
        assert complete(**APPROVAL, is_approved=True, override_user=who)["completer_id"] == 1002

    def test_stored_form_values_need_not_be_given(self, sandbox):
        hook = TallyfyHook()
        [task] = [task for task in hook.get_tasks(SEEDED_RUN_ID) if task["task_type"] == "approval"]
        hook.update_task(
            SEEDED_RUN_ID, task["id"], taskdata={"5eed000a000000000000000000000002": "Looks good."}
        )
        assert complete(**{**APPROVAL, "form_fields": None}, is_approved=True)["is_approved"] is True


class TestOnce:
    def test_retry_after_success_succeeds(self, sandbox):
        first = complete(**APPROVAL, is_approved=False)
        sent = written(sandbox)
        assert complete(**APPROVAL, is_approved=False) == first
        assert written(sandbox) == sent

    @pytest.mark.parametrize(("action", "more"), [*APPLIED, *NOT_APPLIED])
    def test_form_values_without_answer_are_sent_again(self, sandbox, people, action, more):
        fault(sandbox, action, UPDATED, method="PUT", **more)
        task = complete(**APPROVAL, is_approved=True)
        assert (task["is_approved"], read_task_form(task)) == (True, {"comment": "All is well."})
        assert people.completions(task["id"]) == 1

    @pytest.mark.parametrize("second", ["refuse", "accept", "overwrite"])
    @pytest.mark.parametrize("lag", [0, 20])
    @pytest.mark.parametrize(("action", "more"), APPLIED)
    def test_applied_completion_is_found(self, sandbox, people, action, more, lag, second):
        people.behave(second_completion=second, run_lag=lag, list_lag=lag)
        fault(sandbox, action, COMPLETED, method="POST", **more)
        task = complete(**APPROVAL, is_approved=True)
        assert (task["is_approved"], read_task_form(task)) == (True, {"comment": "All is well."})
        assert people.completions(task["id"]) == 1

    @pytest.mark.parametrize(("action", "more"), NOT_APPLIED)
    def test_completion_that_was_not_applied_is_left_to_the_next_try(
        self, sandbox, people, airflow, action, more
    ):
        people.behave(second_completion="accept")
        fault(sandbox, action, COMPLETED, method="POST", **more)
        with pytest.raises(TallyfyIndeterminateError):
            airflow.complete(**APPROVAL, is_approved=True)
        assert people.completions(approval()) == 0
        assert airflow.complete(**APPROVAL, is_approved=True)["is_approved"] is True
        assert people.completions(approval()) == 1

    def test_completion_applied_after_the_time_out_is_found(self, sandbox, people, clock, monkeypatch):
        described = json.loads(os.environ["AIRFLOW_CONN_TALLYFY_DEFAULT"])
        described["extra"]["timeout"] = 0.2
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(described))
        people.behave(second_completion="accept")
        fault(sandbox, "delay", COMPLETED, method="POST", delay=0.4)
        task_id = approval()
        monkeypatch.setattr(
            clock, "sleep", lambda _: wait_until(lambda: people.completions(task_id), 30, "the completion")
        )
        assert complete(**APPROVAL, is_approved=True)["is_approved"] is True
        assert people.completions(task_id) == 1

    @pytest.mark.parametrize("second", ["refuse", "accept"])
    def test_answer_counts_and_not_a_lagging_read(self, sandbox, people, second):
        people.behave(second_completion=second, run_lag=30, list_lag=30)
        task = complete(**APPROVAL, is_approved=True)
        assert (task["status"], task["is_approved"]) == ("completed", True)
        assert read_task_form(task) == {"comment": "All is well."}
        assert people.completions(task["id"]) == 1

    @pytest.mark.parametrize("second", ["refuse", "accept"])
    def test_retry_over_lagging_reads(self, sandbox, people, airflow, second):
        people.behave(second_completion=second, run_lag=30, list_lag=30)
        airflow.complete(**APPROVAL, is_approved=True)
        assert airflow.complete(**APPROVAL, is_approved=True)["is_approved"] is True
        assert people.completions(approval()) == 1

    @pytest.mark.parametrize("is_emptied", [False, True])
    def test_worker_killed_after_the_request(self, people, airflow, monkeypatch, is_emptied):
        people.behave(second_completion="accept", run_lag=30, list_lag=30)
        complete_task = TallyfyHook.complete_task

        def killed(*args, **values):
            complete_task(*args, **values)
            raise KeyboardInterrupt

        monkeypatch.setattr(TallyfyHook, "complete_task", killed)
        with pytest.raises(KeyboardInterrupt):
            airflow.complete(**APPROVAL, is_approved=True)
        if is_emptied:
            airflow.store = TaskStateStore()
        assert airflow.complete(**APPROVAL, is_approved=True)["is_approved"] is True
        assert people.completions(approval()) == 1

    def test_retry_of_a_try_that_sent_nothing_does_not_wait(self, airflow, clock):
        with pytest.raises(AirflowFailException):
            airflow.complete(**APPROVAL)
        began = clock.monotonic()
        airflow.complete(**APPROVAL, is_approved=True)
        waited = clock.monotonic() - began > attempts.INDETERMINATE_WINDOW
        assert waited is not version_compat.AIRFLOW_V_3_3_PLUS

    def test_retry_after_a_failed_first_request_does_not_wait(self, sandbox, airflow, clock):
        fault(sandbox, "status", "/tasks", method="GET", status=403)
        with pytest.raises(TallyfyPermissionError):
            airflow.complete(**APPROVAL, is_approved=True)
        began = clock.monotonic()
        assert airflow.complete(**APPROVAL, is_approved=True)["is_approved"] is True
        waited = clock.monotonic() - began > attempts.INDETERMINATE_WINDOW
        assert waited is not version_compat.AIRFLOW_V_3_3_PLUS

    @pytest.mark.parametrize("they_approve", [True, False])
    def test_user_completes_it_before_it_is_repeated(self, sandbox, people, monkeypatch, they_approve):
        people.behave(second_completion="overwrite")
        fault(sandbox, "status", COMPLETED, method="POST", status=429, headers={"Retry-After": "1"})
        task_id, hook = approval(), TallyfyHook()

        def meanwhile(_):
            hook.complete_task(SEEDED_RUN_ID, task_id, is_approved=they_approve, override_user=1002)

        monkeypatch.setattr(transport, "time", SimpleNamespace(monotonic=time.monotonic, sleep=meanwhile))
        if they_approve:
            assert complete(**APPROVAL, is_approved=True)["completer_id"] == 1002
        else:
            with pytest.raises(
                AirflowFailException, match=r"was rejected by Ben Larsen <ben@example.com> at 2"
            ):
                complete(**APPROVAL, is_approved=True)
        assert people.completions(task_id) == 1

    def test_completion_is_repeated_after_429(self, sandbox, people):
        fault(sandbox, "status", COMPLETED, method="POST", status=429, headers={"Retry-After": "0"}, times=2)
        assert complete(**APPROVAL, is_approved=True)["is_approved"] is True
        assert people.completions(approval()) == 1

    @pytest.mark.parametrize("form_fields", [APPROVAL["form_fields"], None])
    def test_user_completes_it_while_it_is_prepared(self, sandbox, people, monkeypatch, form_fields):
        people.behave(second_completion="accept")
        hook, task_id = TallyfyHook(), approval()
        value = {"5eed000a000000000000000000000002": "Looks good."}
        hook.update_task(SEEDED_RUN_ID, task_id, taskdata=value)
        complete_task, directory = TallyfyHook.complete_task, TallyfyHook.get_directory

        def meanwhile(self):
            complete_task(hook, SEEDED_RUN_ID, task_id, is_approved=True, override_user=1002)
            return directory(self)

        monkeypatch.setattr(TallyfyHook, "get_directory", meanwhile)
        task = complete(
            **{**APPROVAL, "form_fields": form_fields}, is_approved=True, override_user="ada@example.com"
        )
        assert task["completer_id"] == 1002
        assert people.completions(task_id) == 1

    def test_answer_about_another_task_is_no_evidence(self, sandbox, people):
        fault(sandbox, "status", COMPLETED, method="POST", status=200, body={"data": {"id": "x"}})
        with pytest.raises(TallyfyIndeterminateError, match="is not that task"):
            complete(**APPROVAL, is_approved=True)

    def test_task_of_a_process_that_was_just_launched(self, sandbox, people):
        people.behave(run_lag=5, list_lag=5)
        run_id = people.launch("Release 3")
        task = complete(run_id=run_id, task="Prepare release notes")
        assert people.completions(task["id"]) == 1

    def test_completion_without_any_answer(self, sandbox):
        fault(sandbox, "drop", COMPLETED, times=None)
        with pytest.raises(TallyfyIndeterminateError):
            complete(**APPROVAL, is_approved=True)

    @pytest.mark.parametrize("they_approve", [True, False])
    def test_user_completes_it_at_the_same_time(self, sandbox, monkeypatch, they_approve):
        complete_task = TallyfyHook.complete_task

        def second(hook, run_id, task_id, **decision):
            complete_task(hook, run_id, task_id, is_approved=they_approve, override_user=1002)
            return complete_task(hook, run_id, task_id, **decision)

        monkeypatch.setattr(TallyfyHook, "complete_task", second)
        if they_approve:
            assert complete(**APPROVAL, is_approved=True)["completer_id"] == 1002
        else:
            with pytest.raises(
                AirflowFailException, match=r"was rejected by Ben Larsen <ben@example.com> at 2"
            ):
                complete(**APPROVAL, is_approved=True)

    def test_conflicting_decision(self, sandbox):
        sent = written(sandbox)
        with pytest.raises(AirflowFailException) as error:
            complete(run_id=COMPLETE_RUN_ID, task="Approve release", is_approved=False)
        message = str(error.value)
        assert message.startswith("Task 'Approve release' was approved by Ben Larsen <ben@example.com> at 20")
        assert message.endswith("so it cannot be rejected.")
        assert written(sandbox) == sent

    def test_line_breaks_in_names_are_removed(self, sandbox, monkeypatch):
        named = Person(1002, "Ben\nINFO forged", "ben@example.com")
        monkeypatch.setattr(completing, "who_completed", lambda *_: named)
        with pytest.raises(AirflowFailException, match=r"approved by Ben INFO forged <ben@example\.com>"):
            complete(run_id=COMPLETE_RUN_ID, task="Approve release", is_approved=False)

    def test_invalid_override_user(self, sandbox):
        with pytest.raises(AirflowFailException, match="override_user: a member's id or e-mail address was"):
            complete(**APPROVAL, is_approved=True, override_user={"id": 1002})

    def test_name_of_the_completer_is_read(self, sandbox):
        complete(**APPROVAL, is_approved=True, override_user=1001)  # none of its assignees
        with pytest.raises(AirflowFailException, match=r"was approved by Ada Okafor <ada@example.com> at"):
            complete(**APPROVAL, is_approved=False)

    def test_completer_is_an_id_if_members_cannot_be_read(self, sandbox):
        complete(**APPROVAL, is_approved=True, override_user=1001)
        fault(sandbox, "status", "/users", status=403)
        with pytest.raises(AirflowFailException, match="was approved by member 1001 at"):
            complete(**APPROVAL, is_approved=False)


class TestRefused:
    def test_one_error_names_all_mistakes_before_anything_is_sent(self, sandbox):
        with pytest.raises(AirflowFailException) as error:
            complete(
                run_id=ONBOARDING_RUN_ID,
                task="Collect documents of Globex",
                form_fields={"Plan": "Golden", "Colour": "red", "Start date": []},
                override_user="unknown@example.com",
            )
        lines = str(error.value).splitlines()
        assert lines[0] == "Nothing was sent, since 4 things are wrong with the values:"
        assert "'Customer name' (text) is required, but would be empty" in str(error.value)
        assert "'Colour' is not a field of the form" in str(error.value)
        assert "'Plan' (radio): " in str(error.value)
        assert "override_user: 'unknown@example.com' is not a member: none of the " in str(error.value)
        assert "ada@example.com" not in str(error.value)  # which ends in a log
        assert "The fields are:" in lines
        assert written(sandbox) == 0

    def test_required_field_cannot_be_emptied(self, sandbox):
        with pytest.raises(AirflowFailException, match=r"'Comment' .* is required, but would be empty"):
            complete(**{**APPROVAL, "form_fields": {"Comment": None}}, is_approved=True)
        assert written(sandbox) == 0

    @pytest.mark.parametrize("run_id", [SEEDED_RUN_ID, COMPLETE_RUN_ID])
    def test_approval_needs_a_decision(self, sandbox, run_id):
        with pytest.raises(AirflowFailException, match="is_approved must be True or False"):
            complete(**{**APPROVAL, "run_id": run_id})
        assert written(sandbox) == 0

    @pytest.mark.parametrize(
        ("decision", "shown"), [("perhaps", "the text 'perhaps'"), ("yes", "the text 'yes'"), (1, "a number")]
    )
    def test_invalid_decision(self, sandbox, decision, shown):
        with pytest.raises(AirflowFailException, match=f"is_approved must be True or False, but is {shown}"):
            complete(**APPROVAL, is_approved=decision)
        assert written(sandbox) == 0

    @pytest.mark.parametrize("user", [True, False, 0, "0", -1, "-1", 1.5, ["ada@example.com"]])
    def test_override_user_that_is_no_member(self, sandbox, user):
        with pytest.raises(AirflowFailException, match="override_user: "):
            complete(**APPROVAL, is_approved=True, override_user=user)
        assert written(sandbox) == 0

    def test_ambiguous_title(self, sandbox):
        hook = TallyfyHook()
        for task in hook.get_tasks(SEEDED_RUN_ID):
            if task["title"] in ("Approve release", "Announce release"):
                hook.update_task(SEEDED_RUN_ID, task["id"], title="Release")
        sent = written(sandbox)
        with pytest.raises(AirflowFailException, match="'Release' matches 2 tasks"):
            complete(**{**APPROVAL, "task": "Release"}, is_approved=True)
        assert written(sandbox) == sent

    def test_hidden_task_with_the_same_title_is_ignored(self, sandbox):
        hook = TallyfyHook()
        task_id = approval()
        for task in hook.get_tasks(SEEDED_RUN_ID):
            if task["title"] in ("Approve release", "Announce release"):
                hook.update_task(SEEDED_RUN_ID, task["id"], title="Release")
        # A rejection hides the other one.
        complete(**{**APPROVAL, "task": task_id}, is_approved=False)
        assert complete(**{**APPROVAL, "task": "Release"}, is_approved=False)["id"] == task_id

    def test_invalid_run_id(self, sandbox):
        with pytest.raises(AirflowFailException, match="run_id must be a Tallyfy id"):
            complete(**{**APPROVAL, "run_id": "a/b"}, is_approved=True)

    @pytest.mark.parametrize("name", [None, "", True])
    def test_missing_task_name(self, sandbox, name):
        with pytest.raises(AirflowFailException, match="task must be a task's id, alias or title, but is"):
            complete(run_id=SEEDED_RUN_ID, task=name)

    def test_unknown_task(self, sandbox):
        with pytest.raises(TallyfyNotFoundError) as error:
            complete(run_id=SEEDED_RUN_ID, task="Aprove release")
        assert "'Aprove release' is not a task of the process, or not yet." in str(error.value)
        assert "  'Approve release' (alias approve_release, id fe1f19fb78ae59688cb843354eb32649)" in str(
            error.value
        )

    def test_hidden_task(self, sandbox):
        complete(**APPROVAL, is_approved=False)
        sent = written(sandbox)
        with pytest.raises(TallyfyValidationError, match="'Announce release' is hidden by a rule"):
            complete(run_id=SEEDED_RUN_ID, task="Announce release")
        assert written(sandbox) == sent

    def test_open_issue(self, sandbox):
        hook = TallyfyHook()
        [task] = [task for task in hook.get_tasks(SEEDED_RUN_ID) if task["task_type"] == "approval"]
        hook.request("POST", f"tasks/{task['id']}/problem", json={"content": "The build is broken."})
        with pytest.raises(TallyfyValidationError, match="issue"):
            complete(**APPROVAL, is_approved=True)

    def test_unknown_process(self, sandbox):
        with pytest.raises(TallyfyNotFoundError):
            complete(**{**APPROVAL, "run_id": "f" * 32}, is_approved=True)
