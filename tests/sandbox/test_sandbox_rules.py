from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from airflow_provider_tallyfy.sandbox.model import Action, Condition, Owners, Rule
from airflow_provider_tallyfy.sandbox.rules import apply_rules
from airflow_provider_tallyfy.sandbox.seeds import (
    ONBOARDING_CHECKLIST_ID,
    ONBOARDING_RUN_ID,
    RELEASE_CHECKLIST_ID,
    SEEDED_RUN_ID,
    seeded_store,
)

PLAN = f"5eed0003{5:024x}"
STEPS = [f"5eed0002{number:024x}" for number in (1, 2, 3)]


@pytest.fixture
def run():
    """The onboarding run, without a server."""
    return seeded_store("demo").runs[ONBOARDING_RUN_ID]


def is_hidden_by(run, *conditions):
    """Return whether a task is hidden by a rule with these conditions."""
    _, _, target, *_ = run.tasks.values()
    run.checklist = replace(
        run.checklist, rules=(Rule("r", "r", conditions, (Action("hide", target.step_id),)),)
    )
    apply_rules(run, run.created_at)
    return target.hidden


def visible(client, run_id):
    return {alias for alias, task in client.tasks(run_id).items() if task["status"] != "auto-skipped"}


def approve_contract(client, *, is_approved):
    return client.complete(ONBOARDING_RUN_ID, "review_contract", is_approved=is_approved).json()["data"]


def test_a_rejection_hides_and_shows_steps(client):
    before = visible(client, ONBOARDING_RUN_ID)
    changed = approve_contract(client, is_approved=False)["tasks_changed_by_rules"]
    assert {task["title"]: task["status"] for task in changed.values()} == {
        "Set up account": "auto-skipped",
        "Welcome call": "auto-skipped",
        "Tell the customer that the contract was declined": "not-started",
    }
    after = visible(client, ONBOARDING_RUN_ID)
    assert before - after == {"set_up_account", "welcome_call"}
    assert after - before == {"decline_customer"}
    progress = {"complete": 1, "total": 4, "percent": 25, "approved": 0, "rejected": 1}
    assert client.data(f"/runs/{ONBOARDING_RUN_ID}")["progress"] == progress


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


def test_a_run_with_only_hidden_tasks_left_is_complete(client):
    client.decide(SEEDED_RUN_ID, is_approved=False)
    run = client.data(f"/runs/{SEEDED_RUN_ID}")
    progress = {"complete": 2, "total": 2, "percent": 100, "approved": 0, "rejected": 1}
    assert (run["status"], run["progress"]) == ("complete", progress)


def test_a_completed_task_is_not_hidden(client):
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
        ("equals", "Business", True),
        ("equals", "Starter", False),
        ("not_equals", "Starter", True),
        ("contains", "sine", True),
        ("contains", "x", False),
        ("is_empty", "", False),
        ("is_not_empty", "", True),
        ("approved", "", False),
    ],
)
@pytest.mark.parametrize("subject", ["Prerun", "Capture"])
def test_conditions_on_a_field(run, operation, statement, holds, subject):
    field_id = PLAN if subject == "Prerun" else f"5eed0004{5:024x}"
    collect, *_ = run.tasks.values()
    collect.taskdata[field_id] = "Business"
    assert is_hidden_by(run, Condition(subject, field_id, operation, statement)) is holds


@pytest.mark.parametrize(
    ("operation", "is_approved", "holds"),
    [
        ("completed", True, True),
        ("completed", False, True),
        ("approved", True, True),
        ("approved", False, False),
        ("rejected", True, False),
        ("rejected", False, True),
        ("equals", True, False),
    ],
)
def test_conditions_on_a_completed_step(run, operation, is_approved, holds):
    _, review, *_ = run.tasks.values()
    condition = Condition("Step", review.step_id, operation, "any_time")
    assert not is_hidden_by(run, condition)
    review.completed_at, review.is_approved = run.created_at, is_approved
    assert is_hidden_by(run, condition) is holds


@pytest.mark.parametrize(("subject", "operation"), [("Step", "completed"), ("Capture", "is_empty")])
def test_a_condition_on_an_unknown_part_never_holds(run, subject, operation):
    assert not is_hidden_by(run, Condition(subject, "f" * 32, operation, "any_time"))


def with_rules(client, *rules):
    """Launch a release whose template has other rules."""

    def change(store):
        template = store.checklists[RELEASE_CHECKLIST_ID]
        store.checklists[template.id] = replace(template, rules=rules)

    client.sandbox.change(change)
    return client.launch()["id"]


def after_the_notes(operation="completed", clause="any_time", **action):
    conditions = (Condition("Step", STEPS[0], operation, clause),)
    return Rule("r", "r", conditions, (Action(target_step_id=STEPS[2], **action),))


@pytest.mark.parametrize(
    ("verb", "assignees", "expected"),
    [
        ("assign", Owners((1001, 1003), groups=("g",)), ([1003, 1001], ["press@example.org"], ["g"])),
        ("assign_only", Owners((1001,)), ([1001], [], [])),
        ("unassign", Owners((1003,)), ([], ["press@example.org"], [])),
        ("clear_assignees", Owners(), ([], [], [])),
    ],
)
def test_a_rule_assigns(client, verb, assignees, expected):
    run_id = with_rules(client, after_the_notes(action_verb=verb, assignees=assignees))
    client.complete(run_id, "prepare_release_notes")
    task = client.tasks(run_id)["announce_release"]
    assert task["owners"] == dict(zip(("users", "guests", "groups"), expected, strict=True))
    [entry] = client.data("/activity-feeds", entity_type="task", entity_id=task["id"])
    assert (entry["verb"], entry["type"]) == (["owners-updated"], ["execution"])


def test_a_rule_moves_a_deadline_once_and_to_a_working_day(client):
    run_id = with_rules(client, after_the_notes(action_verb="deadline", deadline=timedelta(days=1)))
    client.control("POST", "/clock", {"set": "2027-01-01T12:00:00Z"})
    client.complete(run_id, "prepare_release_notes")
    tasks = client.tasks(run_id)
    assert tasks["announce_release"]["deadline"] == "2027-01-04T09:00:00.000Z"
    client.advance(days=7)
    notes = f"/runs/{run_id}/completed-tasks/{tasks['prepare_release_notes']['id']}"
    assert client.delete(notes).status_code == 200
    client.complete(run_id, "prepare_release_notes")
    assert client.tasks(run_id)["announce_release"]["deadline"] == "2027-01-04T09:00:00.000Z"


def test_a_rule_leaves_a_deadline_that_was_set_by_hand(client):
    with_rules(client, after_the_notes(action_verb="deadline", deadline=timedelta(days=1)))
    by_hand = {"deadline": "2027-01-08T12:00:00Z", "deadline_set_by_hand": True}
    run_id = client.launch(tasks={STEPS[2]: by_hand})["id"]
    client.complete(run_id, "prepare_release_notes")
    assert client.tasks(run_id)["announce_release"]["deadline"] == "2027-01-08T12:00:00.000Z"


def test_a_rule_reopens_a_task_and_with_it_a_finished_run(client):
    rejected = Condition("Step", STEPS[1], "rejected", "any_time")
    run_id = with_rules(client, Rule("r", "r", (rejected,), (Action("reopen", STEPS[0]),)))
    client.complete(run_id, "prepare_release_notes")
    client.complete(run_id, "announce_release")
    client.decide(run_id, is_approved=False)
    assert client.tasks(run_id)["prepare_release_notes"]["status"] == "in-progress"
    assert client.data(f"/runs/{run_id}")["completed_at"] is None


def test_a_condition_on_a_step_needs_a_time(client):
    run_id = with_rules(client, after_the_notes(clause="", action_verb="hide"))
    client.complete(run_id, "prepare_release_notes")
    assert client.tasks(run_id)["announce_release"]["status"] == "not-started"


@pytest.mark.parametrize(
    ("clause", "late_by", "holds"),
    [
        *[("on-time", -1, True), ("on-time", 1, False)],
        *[("early_24", -25, True), ("early_24", -1, False)],
        *[("late_24", 25, True), ("late_24", 1, False)],
        ("sometime", 0, False),
    ],
)
def test_conditions_on_the_time_of_a_step(run, clause, late_by, holds):
    collect, *_ = run.tasks.values()
    collect.completed_at = collect.deadline + timedelta(hours=late_by)
    assert is_hidden_by(run, Condition("Step", collect.step_id, "completed", clause)) is holds


@pytest.mark.parametrize(("logic", "holds"), [("and", False), ("or", True)])
def test_conditions_are_joined(run, logic, holds):
    starter = Condition("Prerun", PLAN, "equals", "Starter")
    other = Condition("Prerun", PLAN, "equals_any", "Business, Enterprise", logic)
    assert is_hidden_by(run, starter, other) is holds


def test_rules_at_the_launch_write_no_feed_entry(client):
    always = Condition("Prerun", f"5eed000a{1:024x}", "is_empty")
    run_id = with_rules(client, Rule("r", "r", (always,), (Action("hide", STEPS[2]),)))
    assert client.tasks(run_id)["announce_release"]["status"] == "auto-skipped"
    feed = client.data("/activity-feeds", entity_type="run", entity_id=run_id)
    assert [entry["type"] for entry in feed] == [["Process"]]
