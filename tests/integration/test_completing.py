"""A task is completed once, over real HTTP and with faults; what is wrong is told before anything is sent."""

from __future__ import annotations

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_tallyfy.actions import attempts, completing
from airflow_provider_tallyfy.exceptions import (
    TallyfyIndeterminateError,
    TallyfyNotFoundError,
    TallyfyValidationError,
)
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.operators.tallyfy import TallyfyCompleteTaskOperator
from airflow_provider_tallyfy.protocol.completion import Person
from airflow_provider_tallyfy.protocol.forms import read_task_form
from airflow_provider_tallyfy.sandbox.seeds import COMPLETE_RUN_ID, ONBOARDING_RUN_ID, SEEDED_RUN_ID

COMPLETED = "completed-tasks$"
UPDATED = "/tasks/[0-9a-f]+$"
APPROVAL = {"run_id": SEEDED_RUN_ID, "task": "approve release", "form_fields": {"Comment": "All is well."}}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(completing, "_PAUSES", (0.1, 0.2))


def complete(**arguments):
    return TallyfyCompleteTaskOperator(task_id="complete", **arguments).execute({})


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
    def test_an_approval_with_its_form(self, sandbox, name, given, decided):
        task = complete(**{**APPROVAL, "task": name}, is_approved=given)
        assert (task["title"], task["status"], task["is_approved"]) == (
            "Approve release",
            "completed",
            decided,
        )
        assert read_task_form(task) == {"comment": "All is well."}

    def test_a_task_without_a_form(self, sandbox):
        complete(**APPROVAL, is_approved=True)
        task = complete(run_id=SEEDED_RUN_ID, task="Announce release", is_approved=False)
        assert (task["status"], task["is_approved"]) == ("completed", None)
        assert TallyfyHook().get_run(SEEDED_RUN_ID)["status"] == "complete"

    @pytest.mark.parametrize("who", [1002, "1002", "ben@example.com"])
    def test_in_somebody_elses_name(self, sandbox, who):
        assert complete(**APPROVAL, is_approved=True, override_user=who)["completer_id"] == 1002

    def test_what_stands_in_the_form_already_need_not_be_given(self, sandbox):
        hook = TallyfyHook()
        [task] = [task for task in hook.get_tasks(SEEDED_RUN_ID) if task["task_type"] == "approval"]
        hook.update_task(
            SEEDED_RUN_ID, task["id"], taskdata={"5eed000a000000000000000000000002": "Looks good."}
        )
        assert complete(**{**APPROVAL, "form_fields": None}, is_approved=True)["is_approved"] is True


class TestOnce:
    def test_a_retry_after_success_succeeds(self, sandbox):
        first = complete(**APPROVAL, is_approved=False)
        sent = written(sandbox)
        assert complete(**APPROVAL, is_approved=False) == first
        assert written(sandbox) == sent

    @pytest.mark.parametrize("path", [COMPLETED, UPDATED], ids=["completing", "writing values"])
    @pytest.mark.parametrize(
        ("action", "more"),
        [
            ("apply_then_drop", {}),
            ("apply_then_status", {"status": 500}),
            ("drop", {}),
            ("status", {"status": 503}),
            ("truncate", {}),
        ],
    )
    def test_a_write_without_a_clear_answer(self, sandbox, path, action, more):
        fault(sandbox, action, path, method="POST" if path == COMPLETED else "PUT", **more)
        task = complete(**APPROVAL, is_approved=True)
        assert (task["is_approved"], read_task_form(task)) == (True, {"comment": "All is well."})
        feed = TallyfyHook().paginate("activity-feeds", entity_type="task", entity_id=task["id"])
        assert sum("completed" in entry["verb"] for entry in feed) == 1

    def test_one_that_never_gets_an_answer(self, sandbox):
        fault(sandbox, "drop", COMPLETED, times=None)
        with pytest.raises(TallyfyIndeterminateError):
            complete(**APPROVAL, is_approved=True)

    @pytest.mark.parametrize("they_approve", [True, False])
    def test_somebody_who_is_quicker(self, sandbox, monkeypatch, they_approve):
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

    def test_a_task_that_was_decided_otherwise(self, sandbox):
        sent = written(sandbox)
        with pytest.raises(AirflowFailException) as error:
            complete(run_id=COMPLETE_RUN_ID, task="Approve release", is_approved=False)
        message = str(error.value)
        assert message.startswith("Task 'Approve release' was approved by Ben Larsen <ben@example.com> at 20")
        assert message.endswith("so it cannot be rejected.")
        assert written(sandbox) == sent

    def test_a_name_is_one_line_of_what_is_said(self, sandbox, monkeypatch):
        named = Person(1002, "Ben\nINFO forged", "ben@example.com")
        monkeypatch.setattr(completing, "who_completed", lambda *_: named)
        with pytest.raises(AirflowFailException, match=r"approved by Ben INFO forged <ben@example\.com>"):
            complete(run_id=COMPLETE_RUN_ID, task="Approve release", is_approved=False)

    def test_an_override_user_that_names_nobody(self, sandbox):
        with pytest.raises(AirflowFailException, match="override_user: a member's id or e-mail address was"):
            complete(**APPROVAL, is_approved=True, override_user={"id": 1002})

    def test_who_decided_is_asked_for_where_the_task_has_only_an_id(self, sandbox):
        complete(**APPROVAL, is_approved=True, override_user=1001)  # none of its assignees
        with pytest.raises(AirflowFailException, match=r"was approved by Ada Okafor <ada@example.com> at"):
            complete(**APPROVAL, is_approved=False)

    def test_who_decided_is_an_id_where_members_cannot_be_read(self, sandbox):
        complete(**APPROVAL, is_approved=True, override_user=1001)
        fault(sandbox, "status", "/users", status=403)
        with pytest.raises(AirflowFailException, match="was approved by member 1001 at"):
            complete(**APPROVAL, is_approved=False)


class TestRefused:
    def test_all_that_is_wrong_is_told_before_anything_is_sent(self, sandbox):
        with pytest.raises(AirflowFailException) as error:
            complete(
                run_id=ONBOARDING_RUN_ID,
                task="Collect documents of Globex",
                form_fields={"Plan": "Golden", "Colour": "red", "Start date": []},
                override_user="nobody@example.com",
            )
        lines = str(error.value).splitlines()
        assert lines[0] == "Nothing was sent, since 4 things are wrong with the values:"
        assert "'Customer name' (text) is required, but would be empty" in str(error.value)
        assert "'Colour' is no field of the form" in str(error.value)
        assert "'Plan' (radio): " in str(error.value)
        assert "override_user: 'nobody@example.com' is no member; there are ada@example.com" in str(
            error.value
        )
        assert "The fields are:" in lines
        assert written(sandbox) == 0

    def test_a_required_field_that_would_be_emptied(self, sandbox):
        with pytest.raises(AirflowFailException, match=r"'Comment' .* is required, but would be empty"):
            complete(**{**APPROVAL, "form_fields": {"Comment": None}}, is_approved=True)
        assert written(sandbox) == 0

    @pytest.mark.parametrize("run_id", [SEEDED_RUN_ID, COMPLETE_RUN_ID])
    def test_an_approval_without_a_decision(self, sandbox, run_id):
        with pytest.raises(AirflowFailException, match="is_approved must be True or False"):
            complete(**{**APPROVAL, "run_id": run_id})
        assert written(sandbox) == 0

    def test_a_decision_that_is_none(self, sandbox):
        with pytest.raises(ValueError, match="is_approved must be True or False, but is the text 'perhaps'"):
            complete(**APPROVAL, is_approved="perhaps")

    @pytest.mark.parametrize("name", [None, "", 5])
    def test_a_task_without_a_name(self, sandbox, name):
        with pytest.raises(ValueError, match="task must be a task's id, alias or title, but is"):
            complete(run_id=SEEDED_RUN_ID, task=name)

    def test_a_task_that_is_not_there(self, sandbox):
        with pytest.raises(TallyfyNotFoundError) as error:
            complete(run_id=SEEDED_RUN_ID, task="Aprove release")
        assert "'Aprove release' is no task of the process, or not yet." in str(error.value)
        assert "  'Approve release' (alias approve_release, id fe1f19fb78ae59688cb843354eb32649)" in str(
            error.value
        )

    def test_a_task_that_a_rule_hides(self, sandbox):
        complete(**APPROVAL, is_approved=False)
        sent = written(sandbox)
        with pytest.raises(TallyfyValidationError, match="'Announce release' is hidden by a rule"):
            complete(run_id=SEEDED_RUN_ID, task="Announce release")
        assert written(sandbox) == sent

    def test_a_task_with_an_open_issue(self, sandbox):
        hook = TallyfyHook()
        [task] = [task for task in hook.get_tasks(SEEDED_RUN_ID) if task["task_type"] == "approval"]
        hook.request("POST", f"tasks/{task['id']}/problem", json={"content": "The build is broken."})
        with pytest.raises(TallyfyValidationError, match="issue"):
            complete(**APPROVAL, is_approved=True)

    def test_a_process_that_is_not_there(self, sandbox):
        with pytest.raises(TallyfyNotFoundError):
            complete(**{**APPROVAL, "run_id": "f" * 32}, is_approved=True)
