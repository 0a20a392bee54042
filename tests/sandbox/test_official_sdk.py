"""Tallyfy's official Python SDK, each of its methods, against the sandbox."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tallyfy import TallyfyError, TallyfyIndeterminateError, TallyfySDK

from airflow_provider_tallyfy.sandbox.seeds import (
    COMPLETE_RUN_ID,
    INCIDENT_CHECKLIST_ID,
    ONBOARDING_CHECKLIST_ID,
    ONBOARDING_RUN_ID,
    RELEASE_CHECKLIST_ID,
    SEEDED_RUN_ID,
)

ORG = "sandbox"
MANAGERS = {
    name: manager
    for name, manager in vars(TallyfySDK("unused")).items()
    if type(manager).__module__.startswith("tallyfy.")
}
METHODS = {
    f"{name}.{method}"
    for name, manager in MANAGERS.items()
    for method, _ in inspect.getmembers(manager, inspect.ismethod)
    if not method.startswith("_")
}
# They send nothing.
LEFT_OUT = {"users.get_invitation_template_message", "users.validate_invitation_data"}
CALLED = {".".join(call) for call in re.findall(r"\bsdk\.(\w+)\.(\w+)\(", Path(__file__).read_text("utf-8"))}


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


def test_each_method_is_called_by_a_test():
    assert METHODS - CALLED == LEFT_OUT


def test_current_user_and_organizations(sdk):
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


def test_launch_get_and_list(sdk, client):
    client.control("POST", "/behavior", {"working_days": "all"})  # or the order of tasks depends on the day
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
    guest = sdk.users.get_guest(ORG, "press@example.org")
    tasks = sdk.users.get_guest_tasks(ORG, guest.guest_id).data
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


def test_the_sdk_waits_after_a_429_and_retries_safe_requests(sdk, client):
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


def test_a_template_from_creation_to_archiving(sdk):
    template = sdk.templates.create_template(ORG, "Leave request", summary="Asks for leave", owner_id=1002)
    assert (template.title, template.type, template.owner_id, template.archived_at) == (
        "Leave request",
        "procedure",
        1002,
        None,
    )
    changed = sdk.templates.update_template_metadata(
        ORG, template.id, title="Leave", guidance="Ask in time", users=[1003], kickoff_title="Your leave"
    )
    assert (changed.title, changed.summary, changed.kickoff_title, changed.users) == (
        "Leave",
        "Asks for leave",
        "Your leave",
        [1003],
    )
    # Members who are not sent are removed, as in the server's source.
    assert sdk.templates.update_template_metadata(ORG, template.id, title="Leave").users == []

    first = sdk.templates.add_step_to_template(
        ORG,
        template.id,
        {"title": "Approve", "step_type": "approval", "assignees": [1002], "groups": [], "position": 7},
    )
    second = sdk.templates.add_step_to_template(
        ORG,
        template.id,
        {
            "title": "Enter",
            "deadline": {"value": 2, "unit": "days", "option": "from", "step": "start_run"},
            "guests": ["payroll@example.org"],
        },
    )
    copy = sdk.templates.clone_step(ORG, template.id, first["id"])
    assert [(step.title, step.position) for step in sdk.templates.get_template_steps(ORG, template.id)] == [
        ("Approve", 1),
        ("Enter", 2),
        ("Approve", 3),
    ]
    assert sdk.templates.delete_step(ORG, template.id, copy["id"])
    assert sdk.templates.reorder_step(ORG, template.id, second["id"], 1)["position"] == 1
    sdk.templates.edit_description_on_step(ORG, template.id, first["id"], "Yes or no?")
    changed = sdk.templates.add_assignees_to_step(ORG, template.id, first["id"], [1001], ["boss@example.org"])
    assert (changed["summary"], set(changed["assignees"]), changed["guests"]) == (
        "Yes or no?",
        {1001, 1002},
        ["boss@example.org"],
    )

    run = sdk.tasks.launch_process(ORG, template.id, "Leave of Ada")
    tasks = sdk.tasks.get_tasks_for_process(ORG, process_id=run.id).data
    assert [(task.title, task.task_type) for task in tasks] == [("Enter", "task"), ("Approve", "approval")]
    assert sdk.templates.delete_template(ORG, template.id)
    assert sdk.tasks.get_process(ORG, run.id, with_="checklist").checklist_title == "Leave"
    with pytest.raises(TallyfyError) as gone:
        sdk.templates.get_template(ORG, template_id=template.id)
    assert gone.value.status_code == 404
    assert len(sdk.templates.get_all_templates(ORG).data) == 4


def test_a_copied_template_has_its_own_parts(sdk):
    copy = sdk.templates.duplicate_template(ORG, ONBOARDING_CHECKLIST_ID, "Onboarding 2", tenant=ORG)
    original = sdk.templates.get_template(ORG, template_id=ONBOARDING_CHECKLIST_ID)
    copied = sdk.templates.get_template(ORG, template_id=copy.id)
    assert [step.title for step in copied.steps] == [step.title for step in original.steps]
    assert not {step.id for step in copied.steps} & {step.id for step in original.steps}
    assert copied.automated_actions[0].then_actions[0].target_step_id in {step.id for step in copied.steps}
    assert sdk.templates.delete_template_with_references(ORG, copy.id)["deleted_references"] == []


def test_form_fields_of_a_step(sdk):
    [step, other, _] = (step.id for step in sdk.templates.get_template_steps(ORG, RELEASE_CHECKLIST_ID))
    field = sdk.form_fields.add_form_field_to_step(
        ORG,
        RELEASE_CHECKLIST_ID,
        step,
        {
            "field_type": "dropdown",
            "label": "Kind",
            "required": True,
            "options": [{"id": 1, "text": "Patch"}],
            "default_value_enabled": False,
        },
    )
    assert (field.label, field.step_id, field.required) == ("Kind", step, True)
    args = (ORG, RELEASE_CHECKLIST_ID, step, field.id)
    assert sdk.form_fields.update_dropdown_options(*args, ["Minor", "Major"])
    assert sdk.form_fields.add_dropdown_option(*args, "Patch", position=0)
    assert sdk.form_fields.get_dropdown_options(*args) == ["Patch", "Minor", "Major"]
    assert sdk.form_fields.reorder_dropdown_options(*args, ["Major", "Minor", "Patch"])
    assert sdk.form_fields.remove_dropdown_option(*args, "Minor")
    assert sdk.form_fields.get_dropdown_options(*args) == ["Major", "Patch"]
    changed = sdk.form_fields.update_form_field(
        *args,
        label="What kind?",
        field_type="dropdown",
        required=False,
        options=[{"id": 1, "text": "Patch"}],
    )
    assert (changed.label, changed.required) == ("What kind?", False)
    note = sdk.form_fields.add_form_field_to_step(
        ORG, RELEASE_CHECKLIST_ID, step, {"field_type": "text", "label": "Note", "required": False}
    )
    assert sdk.form_fields.reorder_form_fields(
        ORG, RELEASE_CHECKLIST_ID, step, [{"id": note.id, "position": 1}]
    )
    fields = sdk.form_fields.get_step(ORG, RELEASE_CHECKLIST_ID, step).captures
    assert [(each.label, each.position) for each in fields] == [("Note", 1), ("What kind?", 2)]
    assert sdk.form_fields.move_form_field(ORG, RELEASE_CHECKLIST_ID, step, note.id, other, 1)
    assert sdk.form_fields.delete_form_field(*args)
    assert sdk.form_fields.get_step(ORG, RELEASE_CHECKLIST_ID, step).captures == []
    # The process that was launched before still has the form that it was launched with.
    tasks = sdk.tasks.get_tasks_for_process(ORG, process_id=SEEDED_RUN_ID).data
    task = sdk.tasks.get_task(ORG, SEEDED_RUN_ID, tasks[1].id, with_="form_fields")
    assert [each["label"] for each in task.extra["form_fields"]["data"]] == ["Comment"]


def test_a_new_rule_hides_a_task(sdk):
    steps = {step.alias: step.id for step in sdk.templates.get_template_steps(ORG, RELEASE_CHECKLIST_ID)}
    rule = sdk.templates.create_automation_rule(
        ORG,
        RELEASE_CHECKLIST_ID,
        {
            "alias": "Do not announce",
            "conditions": [
                {
                    "conditionable_id": steps["prepare_release_notes"],
                    "conditionable_type": "Step",
                    "operation": "completed",
                    "statement": "any_time",
                    "logic": "and",
                }
            ],
            "then_actions": [
                {
                    "action_type": "visibility",
                    "action_verb": "hide",
                    "target_step_id": steps["announce_release"],
                }
            ],
        },
    )
    changed = sdk.templates.update_automation_rule(
        ORG, RELEASE_CHECKLIST_ID, rule["id"], {"automated_alias": "Never announce"}
    )
    assert (changed["automated_alias"], len(changed["conditions"])) == ("Never announce", 1)
    run = sdk.tasks.launch_process(ORG, RELEASE_CHECKLIST_ID, "Release 3")
    tasks = {task.alias: task for task in sdk.tasks.get_tasks_for_process(ORG, process_id=run.id).data}
    sdk.tasks.complete_task(ORG, run.id, tasks["prepare_release_notes"].id)
    assert sdk.tasks.get_task(ORG, run.id, tasks["announce_release"].id).status == "auto-skipped"
    found = sdk.templates.get_step_dependencies(ORG, RELEASE_CHECKLIST_ID, steps["announce_release"])
    assert "'visibility_conditions_count': 2" in str(found)
    sdk.templates.delete_automation_rule(ORG, RELEASE_CHECKLIST_ID, rule["id"])
    left = sdk.templates.get_template(ORG, template_id=RELEASE_CHECKLIST_ID).automated_actions
    assert [each.automated_alias for each in left] == ["on_rejection_1"]


def test_the_kickoff_form_is_reopened_and_completed(sdk):
    assert sdk.tasks.get_process(ORG, COMPLETE_RUN_ID).status == "complete"
    assert sdk.tasks.reopen_kickoff_form(ORG, COMPLETE_RUN_ID)
    reopened = sdk.tasks.get_process(ORG, COMPLETE_RUN_ID)
    assert (reopened.status, reopened.prerun_completed_at) == ("active", None)
    assert sdk.tasks.complete_kickoff_form(ORG, COMPLETE_RUN_ID)
    assert sdk.tasks.get_process(ORG, COMPLETE_RUN_ID).status == "complete"


def test_members_are_invited_disabled_and_change_their_role(sdk):
    user = sdk.users.invite_user_to_organization(ORG, "eva@example.com", "Eva", "Nowak", role="standard")
    assert (user.full_name, user.role, user.status) == ("Eva Nowak", "Standard", "active")
    assert sdk.users.resend_invitation(ORG, "eva@example.com")
    assert sdk.users.change_user_role(ORG, user.id, "light")
    assert sdk.users.disable_user(ORG, user.id)
    disabled = sdk.users.get_user(ORG, user.id)
    assert (disabled.role, disabled.status) == ("Light", "disabled")
    assert sdk.users.enable_user(ORG, user.id)
    assert sdk.users.approve_user(ORG, user.id)
    assert sdk.users.get_user(ORG, user.id).status == "active"
    with pytest.raises(TallyfyError, match="default administrator"):
        sdk.users.disable_user(ORG, 1001)

    invitation = {"email": "flo@example.com", "first_name": "Flo", "last_name": "Kim"}
    [flo] = sdk.users.invite_multiple_users(ORG, [invitation])
    custom = sdk.users.invite_user_with_custom_role_permissions(
        ORG, "gus@example.com", "Gus", "Ito", role="light"
    )
    assert [found.id for found in sdk.users.search_members_by_name(ORG, "Flo")["users"]] == [flo.id]
    assert custom.id in {user.id for user in sdk.users.get_all_organization_members(ORG)["users"].data}


def test_guests_are_changed_and_disabled(sdk):
    assert sdk.users.get_guest_by_email(ORG, "press@example.org").first_name == "Paul"
    # Only associated members can be changed, as in the server's source; anything else is ignored.
    assert sdk.users.update_guest(ORG, "press@example.org", first_name="Pavel").first_name == "Paul"
    assert sdk.users.disable_guest(ORG, "press@example.org")
    assert sdk.users.get_guest(ORG, "press@example.org").details.disabled_at is not None
    assert sdk.users.enable_guest(ORG, "press@example.org")
    assert sdk.users.get_guest(ORG, "press@example.org").details.disabled_at is None


def test_groups_are_created_changed_and_deleted(sdk):
    group = sdk.groups.create_group(ORG, "Night shift", "Works at night", [1002], ["client@example.org"])
    assert (group.members, group.guests) == ([1002], ["client@example.org"])
    assert sdk.groups.update_group(ORG, group.id, members=[1003]).members == [1003]
    assert sdk.groups.delete_group(ORG, group.id)
    assert [each.name for each in sdk.groups.get_groups(ORG)] == ["Release managers", "Customer success"]


def test_tags_are_added_to_templates_and_processes(sdk):
    tag = sdk.tags.create_tag(ORG, "Late", "#ff0000")
    assert sdk.tags.update_tag(ORG, tag.id, title="Too late").title == "Too late"
    assert sdk.tags.tag_template(ORG, RELEASE_CHECKLIST_ID, tag.id)
    assert sdk.tags.tag_process(ORG, SEEDED_RUN_ID, tag.id)
    assert [run.id for run in sdk.tasks.get_organization_runs(ORG, tag=tag.id).data] == [SEEDED_RUN_ID]
    assert sdk.tags.untag_template(ORG, tag.id, RELEASE_CHECKLIST_ID)
    assert sdk.templates.get_template(ORG, template_id=RELEASE_CHECKLIST_ID).tags == []
    assert sdk.tags.untag_process(ORG, SEEDED_RUN_ID, tag.id)
    with pytest.raises(ValueError, match="not found"):
        sdk.tags.untag_process(ORG, SEEDED_RUN_ID, tag.id)
    assert sdk.tags.tag_process(ORG, SEEDED_RUN_ID, tag.id)
    assert sdk.tags.delete_tag(ORG, tag.id)
    assert "Too late" not in str(sdk.tasks.get_process(ORG, SEEDED_RUN_ID, with_="tags").tags)


def test_folders_are_created_and_filled(sdk):
    folder = sdk.folders.create_folder(ORG, "Finance")
    inner = sdk.folders.create_folder(ORG, "Payroll", parent_id=folder.id)
    assert sdk.folders.update_folder(ORG, inner.id, name="Salaries").parent_id == folder.id
    assert sdk.folders.add_object_to_folder(ORG, folder.id, RELEASE_CHECKLIST_ID, "checklist") is True
    assert sdk.folders.get_folder(ORG, folder.id).total == 1
    [customers] = sdk.folders.get_folders(ORG, folder_type="run")
    link = sdk.folders.add_object_to_folder(ORG, customers.id, SEEDED_RUN_ID, "run")
    found = sdk.tasks.get_organization_runs(ORG, folder=customers.id).data
    assert {run.id for run in found} == {SEEDED_RUN_ID, ONBOARDING_RUN_ID}
    assert sdk.folders.remove_object_from_folder(ORG, link["id"])
    assert sdk.folders.get_folder(ORG, customers.id).total == 1
    with pytest.raises(TallyfyError):
        sdk.folders.add_object_to_folder(ORG, folder.id, SEEDED_RUN_ID, "run")
    assert sdk.folders.delete_folder(ORG, folder.id)
    assert sdk.folders.get_folder(ORG, inner.id).parent_id is None


def test_files_are_uploaded_and_downloaded(sdk):
    content = bytes(range(256)) * 100
    file = sdk.files.upload_file(ORG, content, "report.bin", "ko_field", "Checklist", ONBOARDING_CHECKLIST_ID)
    assert (file.filename, file.subject["type"]) == ("report.bin", "Checklist")
    assert sdk.files.download_file(ORG, file.id) == content
    assert sdk.files.download_file_from_url(f"organizations/{ORG}/file/{file.id}/dl") == content
    with pytest.raises(TallyfyError) as missing:
        sdk.files.download_file(ORG, "0" * 32)
    assert missing.value.status_code == 404
    with pytest.raises(TallyfyError) as missing:
        sdk.files.upload_file(ORG, content, "report.bin", "ko_field", "Checklist", "0" * 32)
    assert missing.value.status_code == 422


def test_every_search(sdk):
    assert [each.id for each in sdk.tasks.get_organization_processes(ORG).data][-1] == COMPLETE_RUN_ID
    for found in (
        sdk.searches.search(ORG, "globex"),
        sdk.searches.search_processes(ORG, "globex"),
        sdk.tasks.search(ORG, "globex"),
        sdk.tasks.search_processes(ORG, "globex"),
    ):
        assert [each.id for each in found.data] == [ONBOARDING_RUN_ID]
    for names in (
        sdk.searches.search_processes_by_name(ORG, "Onboarding of Globex"),
        sdk.tasks.search_processes_by_name(ORG, "Onboarding of Globex"),
        sdk.tasks.find_process_by_name(ORG, "Onboarding of Globex"),
    ):
        assert ONBOARDING_RUN_ID in str(names)
    assert [each.title for each in sdk.searches.search_templates(ORG, "incident").data] == [
        "Pipeline incident"
    ]
    assert len(sdk.tasks.search_templates(ORG, "e").data) == 4
    assert len(sdk.tasks.search_tasks(ORG, "approve").data) == 2
    assert sdk.searches.search_snippets(ORG, "anything").data == []
    assert len(sdk.searches.search(ORG, "approve", on="step").data) == 1
    assert len(sdk.searches.search(ORG, "cause", on="capture").data) == 1
    assert sdk.templates.search_templates_by_name(ORG, "Pipeline incident") == INCIDENT_CHECKLIST_ID


def test_the_search_compares_dates_and_starters(sdk):
    created = {run.id: run.created_at[:10] for run in sdk.tasks.get_organization_runs(ORG).data}

    def found(*conditions, join="AND"):
        filter_ = [{"type": "boolean", "value": join}, *conditions]
        return {each.id for each in sdk.searches.search(ORG, "e", filter_=filter_).data}

    since = {"field": "date", "operation": ">=", "value": created[ONBOARDING_RUN_ID]}
    assert found(since) == {SEEDED_RUN_ID, ONBOARDING_RUN_ID}
    starter = {"field": "starter", "value": 1003}
    assert found(since, starter) == {ONBOARDING_RUN_ID}
    on_day = {"field": "date", "value": created[COMPLETE_RUN_ID]}
    assert found(on_day, starter, join="OR") == {COMPLETE_RUN_ID, ONBOARDING_RUN_ID}
    with pytest.raises(TallyfyError, match="title, description, starter, date"):
        found({"field": "weather", "value": "fine"})
