from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_tallyfy.sandbox.model import Condition, Operation, Rule, Subject, Verb
from airflow_provider_tallyfy.sandbox.rules import apply_rules
from airflow_provider_tallyfy.sandbox.seeds import (
    ONBOARDING_CHECKLIST_ID,
    ONBOARDING_RUN_ID,
    SEEDED_RUN_ID,
    seeded_store,
)

PLAN = f"5eed0003{5:024x}"


def visible(client, run_id):
    return {alias for alias, task in client.tasks(run_id).items() if task["status"] != "auto-skipped"}


def approve_contract(client, *, is_approved):
    return client.complete(ONBOARDING_RUN_ID, "review_contract", is_approved=is_approved).json()["data"]


def test_a_rejection_hides_and_shows_steps_and_says_so(client):
    before = visible(client, ONBOARDING_RUN_ID)
    changed = approve_contract(client, is_approved=False)["tasks_changed_by_rules"]
    assert {task["title"]: task["status"] for task in changed.values()} == {
        "Set up account": "auto-skipped",
        "Welcome call": "auto-skipped",
        "Tell the customer that the contract was declined": "active",
    }
    after = visible(client, ONBOARDING_RUN_ID)
    assert before - after == {"set_up_account", "welcome_call"}
    assert after - before == {"decline_customer"}
    assert client.data(f"/runs/{ONBOARDING_RUN_ID}")["progress"] == {"complete": 1, "total": 4, "percent": 25}


def test_an_approval_changes_nothing(client):
    before = visible(client, ONBOARDING_RUN_ID)
    assert approve_contract(client, is_approved=True)["tasks_changed_by_rules"] == {}
    assert visible(client, ONBOARDING_RUN_ID) == before


def test_reopening_the_approval_shows_the_steps_again(client):
    before = visible(client, ONBOARDING_RUN_ID)
    task = approve_contract(client, is_approved=False)
    client.delete(f"/runs/{ONBOARDING_RUN_ID}/completed-tasks/{task['id']}")
    assert visible(client, ONBOARDING_RUN_ID) == before


def test_a_kick_off_value_hides_a_step_and_another_shows_it_again(client):
    for plan, is_visible in (("Starter", False), ("Enterprise", True)):
        client.put(f"/runs/{ONBOARDING_RUN_ID}", {"prerun": {PLAN: plan}})
        assert ("security_review" in visible(client, ONBOARDING_RUN_ID)) is is_visible


def test_a_kick_off_value_hides_a_step_from_the_start(client):
    prerun = {f"5eed0003{1:024x}": "A", f"5eed0003{3:024x}": "a@b.example", PLAN: "Starter"}
    prerun[f"5eed0003{6:024x}"] = {"id": 1, "text": "Europe"}
    run = client.launch(ONBOARDING_CHECKLIST_ID, prerun=prerun)
    assert "security_review" not in visible(client, run["id"])
    assert run["progress"]["total"] == 4


def test_a_hidden_task_cannot_be_completed(client):
    refused = client.complete(ONBOARDING_RUN_ID, "decline_customer")
    assert refused.status_code == 422
    assert client.tasks(ONBOARDING_RUN_ID)["decline_customer"]["is_completable"] is False


def test_a_hidden_task_is_left_out_of_the_runs_tasks(client):
    run = client.data(f"/runs/{ONBOARDING_RUN_ID}", **{"with": "tasks"})
    assert "decline_customer" not in {task["alias"] for task in run["tasks"]["data"]}


def test_a_run_is_complete_when_all_that_is_left_is_hidden(client):
    client.decide(SEEDED_RUN_ID, is_approved=False)
    run = client.data(f"/runs/{SEEDED_RUN_ID}")
    assert (run["status"], run["progress"]) == ("complete", {"complete": 2, "total": 2, "percent": 100})


def test_a_completed_task_is_not_hidden_any_more(client):
    client.complete(SEEDED_RUN_ID, "announce_release")
    client.decide(SEEDED_RUN_ID, is_approved=False)
    assert client.tasks(SEEDED_RUN_ID)["announce_release"]["status"] == "completed"


def test_the_template_shows_its_rules(client):
    actions = client.data(f"/checklists/{ONBOARDING_CHECKLIST_ID}")["automated_actions"]
    last = actions[-1]
    assert last["conditions"][0] | {"id": ""} == {
        "id": "",
        "conditionable_id": PLAN,
        "conditionable_type": "Prerun",
        "operation": "equals",
        "statement": "Starter",
        "logic": "and",
        "position": 1,
    }
    assert (last["then_actions"][0]["action_type"], last["then_actions"][0]["action_verb"]) == (
        "visibility",
        "hide",
    )


@pytest.mark.parametrize(
    ("operation", "statement", "holds"),
    [
        (Operation.EQUALS, "Business", True),
        (Operation.EQUALS, "Starter", False),
        (Operation.NOT_EQUALS, "Starter", True),
        (Operation.CONTAINS, "sine", True),
        (Operation.CONTAINS, "x", False),
        (Operation.IS_EMPTY, "", False),
        (Operation.IS_NOT_EMPTY, "", True),
        (Operation.APPROVED, "", False),
    ],
)
@pytest.mark.parametrize("subject", [Subject.PRERUN, Subject.CAPTURE])
def test_how_a_field_is_compared(operation, statement, holds, subject):
    run = seeded_store("demo").runs[ONBOARDING_RUN_ID]
    field_id = PLAN if subject is Subject.PRERUN else f"5eed0004{5:024x}"
    first, target, *_ = run.tasks.values()
    first.taskdata[field_id] = "Business"
    rule = Rule("r", "r", (Condition(subject, field_id, operation, statement),), Verb.HIDE, target.step_id)
    run.checklist = replace(run.checklist, rules=(rule,))
    apply_rules(run)
    assert target.hidden is holds


@pytest.mark.parametrize(
    ("operation", "is_approved", "holds"),
    [
        (Operation.COMPLETED, True, True),
        (Operation.COMPLETED, False, True),
        (Operation.APPROVED, True, True),
        (Operation.APPROVED, False, False),
        (Operation.REJECTED, True, False),
        (Operation.REJECTED, False, True),
        (Operation.EQUALS, True, False),
    ],
)
def test_how_a_step_is_judged_once_it_is_completed(operation, is_approved, holds):
    run = seeded_store("demo").runs[ONBOARDING_RUN_ID]
    review, target, *_ = (task for task in run.tasks.values() if task.alias != "collect_documents")
    condition = Condition(Subject.STEP, review.step_id, operation)
    run.checklist = replace(run.checklist, rules=(Rule("r", "r", (condition,), Verb.HIDE, target.step_id),))
    apply_rules(run)
    assert not target.hidden
    review.completed_at, review.is_approved = run.created_at, is_approved
    apply_rules(run)
    assert target.hidden is holds


def test_a_condition_on_what_is_not_there_never_holds():
    run = seeded_store("demo").runs[ONBOARDING_RUN_ID]
    target = next(iter(run.tasks.values()))
    for subject, operation in ((Subject.STEP, Operation.COMPLETED), (Subject.CAPTURE, Operation.IS_EMPTY)):
        condition = Condition(subject, "f" * 32, operation)
        run.checklist = replace(
            run.checklist, rules=(Rule("r", "r", (condition,), Verb.HIDE, target.step_id),)
        )
        apply_rules(run)
        assert not target.hidden
