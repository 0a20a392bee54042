"""Deferred waits and gates in a real Airflow, of every version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.processes import TIMEOUT

if TYPE_CHECKING:
    from tests.support.environment import Environment

pytestmark = pytest.mark.system

WAITS = ("wait_to_end_in_a_worker", "wait_to_end_in_the_triggerer", "wait_until_complete")

#: The states of each gate and of its downstream task when Ada approves.
GATES = {
    "of_an_approver": ("success", "success"),
    "of_another_approver": ("failed", "upstream_failed"),
    "of_four_eyes": ("failed", "upstream_failed"),
    "rejected_at_the_timeout": ("success", "skipped"),
    "approved_at_the_timeout": ("success", "success"),
}
ADA = {"id": 1001, "name": "Ada Okafor", "email": "ada@example.com"}


def test_deferred_waits_end_and_what_follows_gets_their_results(environment: Environment) -> None:
    sandbox = environment.sandbox
    run_id = sandbox.launch("Run for every Airflow")
    first = sandbox.next_task(run_id)
    dag_run = environment.airflow.trigger("every_airflow", {"run_id": run_id})
    for wait in WAITS:
        dag_run.wait_for_task(wait, "deferred")
        assert dag_run.extra_links(wait) == {"Tallyfy process": sandbox.process_url(run_id)}

    second = sandbox.complete_next(run_id)
    for wait in WAITS[:2]:
        dag_run.wait_for_task(f"summary_of_{wait}", "success")
        assert first is not None
        assert second is not None
        assert dag_run.xcom(f"summary_of_{wait}") == [first["id"], second["id"]]
        assert "not about this wait" not in dag_run.log(wait)
    assert dag_run.task("wait_until_complete")["state"] == "deferred"

    while sandbox.complete_next(run_id):
        pass
    assert dag_run.wait() == "success"
    assert dag_run.xcom("wait_until_complete")["status"] == "complete"
    assert dag_run.xcom("read_again")["next_task"] is None
    assert dag_run.xcom("wait_at_the_end")["next_task"] is None


def test_gates_open_only_by_a_decision_that_counts(environment: Environment) -> None:
    sandbox = environment.sandbox
    run_id = sandbox.launch("Gates of every Airflow")  # Ada launches it
    approval = sandbox.complete_next(run_id)
    assert approval is not None
    dag_run = environment.airflow.trigger("gates_of_every_airflow", {"run_id": run_id})

    def sent() -> list[str]:
        return [comment.partition(":")[0] for comment in sandbox.comments(approval["id"])]

    for gate in ("rejected_at_the_timeout", "approved_at_the_timeout"):
        dag_run.wait_for_task(gate, "success")
    for gate in ("of_an_approver", "of_another_approver", "of_four_eyes", "branch"):
        dag_run.wait_for_task(gate, "deferred")
    dag_run.api.wait_for(lambda: sent().count("Reminder") >= 2, TIMEOUT, "two reminders")
    assert dag_run.task("of_an_approver")["state"] == "deferred"

    sandbox.complete(sandbox.task(run_id, approval["id"]), member_id=ADA["id"])

    assert dag_run.wait() == "failed"
    states = dag_run.task_states()
    assert {gate: (states[gate], states[f"{gate}_publish"]) for gate in GATES} == GATES, dag_run.failures()
    assert (states["branch"], states["publish"], states["repair"]) == ("success", "success", "skipped")

    assert (sent()[0], sent().count("Please decide")) == ("Please decide", 1)
    for gate, problem in (
        ("of_another_approver", "who may not decide: the approvers are Ben Larsen"),
        ("of_four_eyes", "who launched the process, and so may not decide"),
    ):
        assert f"Ada Okafor <ada@example.com>, {problem}" in dag_run.log(gate)
        assert dag_run.xcom(gate)["decided_by"] == ADA
        instance = dag_run.task(gate)
        assert instance["try_number"] <= instance["max_tries"]  # there were retries left
    assert "tallyfy.gate.decision" in dag_run.log("of_an_approver")
    assert dag_run.xcom("of_an_approver")["comment"] is None  # Airflow wrote its comments as Ada
    assert dag_run.xcom("branch")["branches"] == ["publish"]
    assert "NO ONE APPROVED" in dag_run.log("approved_at_the_timeout")
    for gate, is_approved in (("rejected_at_the_timeout", False), ("approved_at_the_timeout", True)):
        result = dag_run.xcom(gate)
        assert (result["timed_out"], result["is_approved"], result["decided_by"]) == (True, is_approved, None)
