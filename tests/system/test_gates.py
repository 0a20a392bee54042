"""Waits for a task, for the end of a run and for an approval in a real Airflow, and what comes after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.support.environment import Environment, Wait

pytestmark = pytest.mark.system

SOON = 300.0
BEN = {"id": 1002, "name": "Ben Larsen", "email": "ben@example.com"}


@pytest.fixture(scope="module", autouse=True)
def _waits_are_started(environment: Environment) -> None:
    """Start the waits that hold no worker before the first test."""
    for dag_id in (
        "branch",
        "end_of_run",
        "approval",
        "approval_nobody_in_time",
        "approval_reminded",
        "approval_strict",
        "approval_of_ada",
        "approval_of_the_owner",
        "branch_by_decision",
        "branch_by_field",
        "approval",
    ):
        environment.start_wait(f"gates_{dag_id}", done=1)


def decide(wait: Wait, *, is_approved: bool) -> None:
    """Let Ben decide on the approval that is next, with a remark."""
    assert wait.first is not None
    task = wait.sandbox.task(wait.run_id, wait.first["id"])
    wait.sandbox.request("POST", f"/tasks/{task['id']}/comment", json={"content": "A remark of Ada's."})
    wait.sandbox.complete(task, is_approved=is_approved)


def decided(environment: Environment, dag_id: str, *, is_approved: bool) -> Wait:
    wait = environment.wait_in(dag_id, done=1)
    wait.until("deferred", "running")
    decide(wait, is_approved=is_approved)
    return wait


def test_branch_by_form_value_without_a_worker(environment: Environment) -> None:
    wait = environment.wait_in("gates_branch", done=1)
    assert wait.until("deferred")["pid"] is None

    wait.complete_next()

    assert wait.dag_run.wait(SOON) == "success", wait.dag_run.failures()
    states = wait.dag_run.task_states()
    assert (states["praised"], states["questioned"]) == ("success", "skipped")
    assert wait.until("success")["pid"] is None
    assert wait.dag_run.xcom("wait")["is_approved"] is True
    assert wait.dag_run.extra_links("wait") == {"Tallyfy process": wait.sandbox.process_url(wait.run_id)}


def test_run_sensor(environment: Environment) -> None:
    wait = environment.wait_in("gates_end_of_run", done=1)
    wait.until("deferred")
    wait.complete_next()
    wait.complete_next()

    assert wait.dag_run.wait(SOON) == "success", wait.dag_run.failures()
    assert wait.dag_run.xcom("after") == "complete"


def test_approved(environment: Environment) -> None:
    wait = decided(environment, "gates_approval", is_approved=True)

    assert wait.dag_run.wait(SOON) == "success", wait.dag_run.failures()
    assert set(wait.dag_run.task_states().values()) == {"success"}
    result: dict[str, Any] = wait.dag_run.xcom("wait")
    assert (result["is_approved"], result["decided_by"]) == (True, BEN)
    assert (result["form_values"], result["comment"]) == ({"comment": "Looks good to me."}, None)
    assert result["decided_at"] is not None
    assert "approved by Ben Larsen" in wait.log()


@pytest.mark.parametrize(
    ("dag_id", "at_the_end"), [("gates_approval", "success"), ("gates_approval_ignoring_rules", "skipped")]
)
def test_rejected(environment: Environment, dag_id: str, at_the_end: str) -> None:
    wait = decided(environment, dag_id, is_approved=False)

    wait.dag_run.wait(SOON)

    assert wait.dag_run.task_states() == {
        "wait": "success",
        "after": "skipped",
        "whatever_happens": at_the_end,
        "clean_up": "success",
    }
    result: dict[str, Any] = wait.dag_run.xcom("wait")
    assert (result["is_approved"], result["decided_by"]) == (False, BEN)


def test_fail_on_reject(environment: Environment) -> None:
    wait = decided(environment, "gates_approval_strict", is_approved=False)

    instance = wait.until("failed")

    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert "rejected by Ben Larsen" in wait.log()
    wait.dag_run.wait(SOON)
    states = wait.dag_run.task_states()
    assert (states["after"], states["whatever_happens"]) == ("upstream_failed", "success")
    assert states["clean_up"] == "success"


def test_decision_of_no_approver_fails_without_retries(environment: Environment) -> None:
    wait = decided(environment, "gates_approval_of_ada", is_approved=True)

    instance = wait.until("failed")

    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert "Ben Larsen <ben@example.com>, who may not decide: the approvers are Ada Okafor" in wait.log()
    assert wait.dag_run.xcom("wait")["decided_by"] == BEN
    wait.dag_run.wait(SOON)
    assert wait.dag_run.task_states()["after"] == "upstream_failed"


def test_decision_of_an_approver_is_logged(environment: Environment) -> None:
    wait = decided(environment, "gates_approval_of_the_owner", is_approved=True)

    assert wait.dag_run.wait(SOON) == "success", wait.dag_run.failures()
    log = wait.log()
    assert "tallyfy.gate.decision" in log
    assert "ben@example.com" in log


def test_on_timeout_approve_opens_with_a_warning(environment: Environment) -> None:
    wait = environment.wait_in("gates_approval_nobody_in_time", done=1)

    assert wait.dag_run.wait(SOON) == "success", wait.dag_run.failures()
    result = wait.dag_run.xcom("wait")
    assert (result["timed_out"], result["is_approved"], result["decided_by"]) == (True, True, None)
    assert "NO ONE APPROVED" in wait.log()


def test_triggerer_sends_reminders(environment: Environment) -> None:
    wait = environment.wait_in("gates_approval_reminded", done=1)
    wait.until("deferred")
    assert wait.first is not None
    task_id = wait.first["id"]

    def reminders() -> int:
        return [each.partition(":")[0] for each in wait.sandbox.comments(task_id)].count("Reminder")

    # Of those that are due before a triggerer takes the task over, none is sent.
    wait.dag_run.api.wait_for(lambda: reminders() >= 2, SOON, "two reminders")
    assert wait.dag_run.task_states()["wait"] == "deferred"
    decide(wait, is_approved=True)

    assert wait.dag_run.wait(SOON) == "success", wait.dag_run.failures()
    sent = [each.partition(":")[0] for each in wait.sandbox.comments(task_id)]
    assert (sent[0], sent.count("Please decide")) == ("Please decide", 1)


@pytest.mark.parametrize("dag_id", ["gates_branch_by_decision", "gates_branch_by_field"])
def test_branch_operator(environment: Environment, dag_id: str) -> None:
    wait = decided(environment, dag_id, is_approved=True)

    assert wait.dag_run.wait(SOON) == "success", wait.dag_run.failures()
    assert wait.dag_run.xcom("wait")["branches"] == ["praised"]
    assert wait.dag_run.task_states() == {
        "wait": "success",
        "praised": "success",
        "questioned": "skipped",
        "joined": "success",
    }
