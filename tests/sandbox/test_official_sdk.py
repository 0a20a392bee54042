"""Tallyfy's own Python SDK drives the sandbox, so that the sandbox is not only this project's idea of Tallyfy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tallyfy import TallyfyError, TallyfyIndeterminateError, TallyfySDK

from airflow_provider_tallyfy.sandbox.seeds import (
    ONBOARDING_CHECKLIST_ID,
    ONBOARDING_RUN_ID,
    RELEASE_CHECKLIST_ID,
    SEEDED_RUN_ID,
)

ORG = "sandbox"


@pytest.fixture
def sdk(sandbox) -> Iterator[TallyfySDK]:
    with TallyfySDK(
        "sandbox-token", base_url=sandbox.base_url, timeout=10, retry_delay=0.01, retry_jitter=0
    ) as sdk:
        yield sdk


@pytest.fixture
def tasks(sdk):
    """The seeded run's tasks by alias."""
    return {task.alias: task for task in sdk.tasks.get_tasks_for_process(ORG, process_id=SEEDED_RUN_ID).data}


def test_who_one_is(sdk):
    assert sdk.users.get_current_user_info(ORG).email == "ada@example.com"
    assert [each.id for each in sdk.organizations.get_current_user_organizations().data] == [ORG]
    assert sdk.organizations.get_organization(ORG).name == "Tallyfy sandbox"


def test_a_wrong_token_is_a_401(sandbox):
    with TallyfySDK("wrong", base_url=sandbox.base_url) as sdk, pytest.raises(TallyfyError) as refused:
        sdk.organizations.get_organization(ORG)
    assert refused.value.status_code == 401


def test_templates(sdk, client):
    assert [each.title for each in sdk.templates.get_all_templates(ORG).data] == [
        "Release approval",
        "Customer onboarding",
        "Pipeline incident",
        "Data quality exception",
    ]
    template = sdk.templates.get_template(ORG, template_name="Customer onboarding")
    assert template.id == ONBOARDING_CHECKLIST_ID
    assert {field.field_type for field in template.prerun} >= {"text", "dropdown", "table", "file"}
    assert [step.position for step in template.steps] == [1, 2, 3, 4, 5, 6]
    assert template.automated_actions[0].then_actions[0].action_verb == "hide"
    assert [tag.title for tag in template.tags] == ["Customer"]
    client.control("POST", "/behavior", {"template_lists": "bare"})  # it cannot count wrapped steps
    assert sdk.templates.get_template_with_steps(ORG, template_id=template.id)["step_count"] == 6


def test_the_steps_and_the_kick_off_form_of_a_template(sdk):
    steps = sdk.templates.get_template_steps(ORG, RELEASE_CHECKLIST_ID)
    assert [(step.alias, step.step_type) for step in steps] == [
        ("prepare_release_notes", "task"),
        ("approve_release", "approval"),
        ("announce_release", "task"),
    ]
    assert steps[1].captures[0].required is True
    fields = sdk.templates.get_kickoff_form_fields(ORG, ONBOARDING_CHECKLIST_ID)
    assert [field["alias"] for field in fields if field["required"]] == [
        "customer_name",
        "contact_email",
        "region",
    ]


def test_the_analysis_of_a_template_finds_its_rules(sdk):
    steps = {step.alias: step.id for step in sdk.templates.get_template_steps(ORG, RELEASE_CHECKLIST_ID)}
    found = sdk.templates.get_step_visibility_conditions(ORG, RELEASE_CHECKLIST_ID, steps["announce_release"])
    assert "hide" in str(found)


def test_launch_get_and_list(sdk):
    fields = {
        field["alias"]: field for field in sdk.templates.get_kickoff_form_fields(ORG, ONBOARDING_CHECKLIST_ID)
    }
    values = {
        "customer_name": "Initech",
        "contact_email": "a@b.example",
        "region": {"id": 2, "text": "Americas"},
    }
    prerun = {fields[alias]["id"]: value for alias, value in values.items()}
    run = sdk.tasks.launch_process(
        ORG,
        ONBOARDING_CHECKLIST_ID,
        "Onboarding of Initech",
        summary="By the SDK",
        owner_id=1002,
        prerun=prerun,
    )
    assert (run.name, run.status, run.owner_id, run.progress.total) == (
        "Onboarding of Initech",
        "active",
        1002,
        5,
    )
    assert run.prerun == prerun

    same = sdk.tasks.get_process(ORG, run.id, with_="next_task,checklist,tags")
    assert same.extra["next_task"]["data"][0]["title"] == "Collect documents of Initech"
    listed = sdk.tasks.get_organization_runs(
        ORG, checklist_id=ONBOARDING_CHECKLIST_ID, sort="created_at", per_page=1
    )
    assert [each.name for each in listed.data] == ["Onboarding of Globex"]
    assert (listed.meta.total_pages, listed.meta.links.next is not None) == (2, True)


def test_a_launch_that_lacks_required_fields_is_refused(sdk):
    with pytest.raises(TallyfyError, match="Customer name is required") as refused:
        sdk.tasks.launch_process(ORG, ONBOARDING_CHECKLIST_ID, "Nobody")
    assert (refused.value.status_code, refused.value.side_effect_possible) == (422, False)


def test_update_archive_and_reactivate(sdk):
    assert sdk.tasks.update_process(ORG, SEEDED_RUN_ID, name="Release 2.4.1", starred=True).starred is True
    assert sdk.tasks.archive_process(ORG, SEEDED_RUN_ID)
    assert sdk.tasks.get_process(ORG, SEEDED_RUN_ID).archived_at is not None
    assert [run.id for run in sdk.tasks.get_organization_runs(ORG, archived="only").data] == [SEEDED_RUN_ID]
    assert sdk.tasks.get_tasks_for_process(ORG, process_id=SEEDED_RUN_ID).data == []
    assert sdk.tasks.reactivate_process(ORG, SEEDED_RUN_ID).status == "active"


def test_values_completion_and_reopening(sdk, tasks):
    task = sdk.tasks.get_task(
        ORG, SEEDED_RUN_ID, tasks["approve_release"].id, with_="form_fields,step,run,summary"
    )
    assert (task.task_type, task.step.alias, task.run.name) == (
        "approval",
        "approve_release",
        "Release 2.4.0",
    )
    [comment] = task.extra["form_fields"]["data"]

    with pytest.raises(TallyfyError, match="Comment is required"):
        sdk.tasks.complete_task(ORG, SEEDED_RUN_ID, task.id, is_approved=True)
    changed = sdk.tasks.update_task(
        ORG, SEEDED_RUN_ID, task.id, taskdata={comment["id"]: "Go"}, deadline="2099-12-31 23:59:59"
    )
    assert (changed.taskdata, changed.status) == ({comment["id"]: "Go"}, "in-progress")
    with pytest.raises(TallyfyError, match="is approved"):
        sdk.tasks.complete_task(ORG, SEEDED_RUN_ID, task.id)
    done = sdk.tasks.complete_task(ORG, SEEDED_RUN_ID, task.id, is_approved=True, override_user=1002)
    assert (done.status, done.is_approved, done.completer_id) == ("completed", True, 1002)
    with pytest.raises(TallyfyError, match="already completed"):
        sdk.tasks.complete_task(ORG, SEEDED_RUN_ID, task.id, is_approved=True)
    reopened = sdk.tasks.reopen_task(ORG, SEEDED_RUN_ID, task.id)
    assert (reopened.status, reopened.is_approved, reopened.completed_at) == ("in-progress", None, None)


def test_lists_of_tasks(sdk):
    listed = sdk.tasks.get_tasks_for_process(
        ORG, process_name="Release 2.4.0", status="active-visible", sort="-position"
    )
    assert [task.alias for task in listed.data] == ["announce_release", "approve_release"]
    assert listed.meta.total == 2
    assert {task.alias for task in sdk.tasks.get_my_tasks(ORG, status="active").data} == {
        "review_contract",
        "approve_release",
    }
    assert [task.alias for task in sdk.tasks.get_user_tasks(ORG, 1004).data] == ["set_up_account"]


def test_a_standalone_task(sdk):
    task = sdk.tasks.create_task(
        ORG, "Water the plants", "2099-12-31 23:59:59", user_ids=[1001], description="All of them"
    )
    assert (task.is_oneoff_task, task.summary, task.deadline) == (
        True,
        "All of them",
        "2099-12-31T23:59:59.000Z",
    )
    owners = {"users": [1001], "guests": [], "groups": []}
    sdk.tasks.update_standalone_task(
        ORG, task.id, title="Feed the cat", deadline="2099-12-31 23:59:59", owners=owners
    )
    assert sdk.tasks.get_standalone_task(ORG, task.id).title == "Feed the cat"
    assert sdk.tasks.complete_standalone_task(ORG, task.id).status == "completed"
    assert sdk.tasks.reopen_standalone_task(ORG, task.id).status == "in-progress"
    assert sdk.tasks.delete_standalone_task(ORG, task.id)
    with pytest.raises(TallyfyError) as gone:
        sdk.tasks.get_standalone_task(ORG, task.id)
    assert gone.value.status_code == 404


def test_comments_and_issues(sdk, tasks):
    task_id = tasks["approve_release"].id
    comment = sdk.threads.add_task_comment(ORG, task_id, "Looks good", sent_to=[1002])
    assert sdk.threads.update_task_comment(ORG, task_id, comment.id, "Looks bad").content == "Looks bad"
    issue = sdk.threads.report_task_issue(ORG, task_id, "Tests are red")
    assert [each.label for each in sdk.threads.get_task_comments(ORG, SEEDED_RUN_ID, task_id)] == [
        "comment",
        "problem",
    ]
    with pytest.raises(TallyfyError) as blocked:
        sdk.tasks.complete_task(ORG, SEEDED_RUN_ID, task_id, is_approved=True)
    assert blocked.value.status_code == 409
    assert sdk.threads.resolve_task_issues(ORG, task_id, issue.id)
    assert sdk.threads.delete_task_comment(ORG, task_id, comment.id)
    left = sdk.threads.get_standalone_task_comments(ORG, task_id)
    assert [each.label for each in left] == ["problem", "resolve"]
    assert left[0].resolve_id == left[1].id


def test_people(sdk):
    assert [user.id for user in sdk.users.get_organization_users(ORG).data] == [1001, 1002, 1003, 1004]
    assert len(sdk.users.get_organization_users_list(ORG).data) == 4
    assert sdk.users.get_user(ORG, 1002).full_name == "Ben Larsen"
    assert sdk.users.get_user_by_email(ORG, "dev@example.com").role == "Light"
    assert len(sdk.users.get_organization_guests(ORG).data) == 2
    assert len(sdk.users.get_organization_guests_list(ORG).data) == 2
    created = sdk.users.create_guest(ORG, "nia@example.org", "Nia", "Adeyemi", company_name="Initech")
    assert sdk.users.get_guest(ORG, "nia@example.org").email == created.email
    tasks = sdk.users.get_guest_tasks(ORG, "press@example.org").data
    assert {task.alias for task in tasks} == {"announce_release"}


def test_groups_tags_and_folders(sdk):
    groups = sdk.groups.get_groups(ORG)
    assert [group.members for group in groups] == [[1001, 1002], [1003]]
    assert sdk.groups.get_group(ORG, groups[0].id).name == "Release managers"
    tags = sdk.tags.get_tags(ORG)
    assert sdk.tags.get_tag(ORG, tags[0].id).title == "Urgent"
    assert [folder.name for folder in sdk.folders.get_folders(ORG)] == ["Operations"]
    [folder] = sdk.folders.get_folders(ORG, folder_type="run")
    assert sdk.folders.get_folder(ORG, folder.id).total == 1


def test_search(sdk):
    assert [found.id for found in sdk.searches.find_process_by_name(ORG, "release 2.4.0")] == [SEEDED_RUN_ID]
    assert sdk.searches.search_templates_by_name(ORG, "release approval") == RELEASE_CHECKLIST_ID
    found = sdk.searches.search_all(ORG, "onboarding", types=["blueprint", "process"])
    assert [result.id for result in found["process"].data] == [ONBOARDING_RUN_ID]
    assert [result.title for result in found["blueprint"].data] == ["Customer onboarding"]
    assert len(sdk.searches.search_tasks(ORG, "approve").data) == 2


def test_it_waits_out_a_429_and_repeats_what_is_safe_to_repeat(sdk, client):
    faults = [
        {"action": "status", "status": 429, "headers": {"Retry-After": "0"}, "method": "POST"},
        {"action": "status", "status": 503, "method": "GET"},
        {"action": "drop", "method": "GET"},
    ]
    client.control("POST", "/faults", faults)
    run = sdk.tasks.launch_process(ORG, RELEASE_CHECKLIST_ID, "Release 3")
    assert sdk.tasks.get_process(ORG, run.id).name == "Release 3"
    assert all(fault["applied"] == 1 for fault in client.control("GET", "/faults")["data"])


@pytest.mark.parametrize("action", ["apply_then_drop", "apply_then_status"])
def test_a_launch_whose_answer_is_lost_may_have_been_applied(sdk, client, action):
    client.control("POST", "/faults", [{"action": action, "method": "POST", "path": "/runs$"}])
    with pytest.raises(TallyfyIndeterminateError):
        sdk.tasks.launch_process(ORG, RELEASE_CHECKLIST_ID, "Once")
    assert len(client.data("/runs", q="Once")) == 1
