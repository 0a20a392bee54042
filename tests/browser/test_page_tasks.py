"""Tasks on the page: complete, approve, reject, reopen, fill in the form, comment."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from airflow_provider_tallyfy.sandbox.seeds import ONBOARDING_RUN_ID, SEEDED_RUN_ID

pytestmark = pytest.mark.browser


def test_complete_a_task(screen, client):
    run_id = client.launch("Release 2.5.0")
    screen.open_process(run_id)
    expect(screen.task("Prepare release notes").get_by_text("Next", exact=True)).to_be_visible()

    screen.button("Prepare release notes", "Complete").click()

    expect(screen.status("Prepare release notes")).to_have_text("Completed")
    expect(screen.task("Prepare release notes")).to_contain_text("by Ada Okafor")
    expect(screen.task("Approve release").get_by_text("Next", exact=True)).to_be_visible()
    expect(screen.page.locator(".process-header")).to_contain_text("1 of 3 tasks done")
    expect(screen.page.get_by_role("status")).to_contain_text("Prepare release notes: Completed.")
    assert client.tasks(run_id)[0]["status"] == "completed"


def test_missing_answer_is_reported_at_its_field(screen, client):
    screen.expect_refusals()
    screen.open_process(SEEDED_RUN_ID)
    comment = screen.task("Approve release").get_by_role("textbox", name="Comment (required)")

    screen.button("Approve release", "Approve").click()
    expect(comment).to_have_accessible_description("Comment is required")
    expect(comment).to_have_attribute("aria-invalid", "true")
    expect(comment).to_be_focused()
    expect(screen.status("Approve release")).to_have_text("Waiting for approval")

    comment.fill("All checks passed.")
    expect(screen.task("Approve release")).not_to_contain_text("Comment is required")
    screen.button("Approve release", "Approve").click()

    expect(screen.status("Approve release")).to_have_text("Approved")
    expect(screen.task("Approve release").locator("dd")).to_have_text("All checks passed.")
    approval = client.tasks(SEEDED_RUN_ID)[1]
    assert approval["is_approved"] is True
    assert list(approval["taskdata"].values()) == ["All checks passed."]


def test_a_rejection_applies_the_rules(screen, client):
    screen.open_process(SEEDED_RUN_ID)
    screen.task("Approve release").get_by_role("textbox", name="Comment (required)").fill("Too risky.")

    screen.button("Approve release", "Reject").click()

    expect(screen.status("Approve release")).to_have_text("Rejected")
    hidden = screen.task("Announce release")
    expect(hidden).to_contain_text("Hidden by a rule")
    expect(hidden.get_by_role("button")).to_have_count(0)
    expect(screen.page.locator(".process-header")).to_contain_text("Finished")
    assert client.tasks(SEEDED_RUN_ID)[1]["is_approved"] is False


def test_a_completed_task_is_reopened(screen, client):
    screen.open_process(SEEDED_RUN_ID)

    screen.button("Prepare release notes", "Reopen").click()

    expect(screen.status("Prepare release notes")).to_have_text("In progress")
    expect(screen.button("Prepare release notes", "Complete")).to_be_visible()
    expect(screen.page.locator(".process-header")).to_contain_text("0 of 3 tasks done")
    assert client.tasks(SEEDED_RUN_ID)[0]["completed_at"] is None


def test_hidden_task(screen):
    screen.open_process(ONBOARDING_RUN_ID)

    title = "Tell the customer that the contract was declined"
    hidden = screen.task(title)

    expect(hidden).to_have_text(f"{title}Hidden by a ruleChiara Riccialias decline_customer")
    visible = screen.task("Set up account").get_by_role("heading")
    assert _colour(hidden.get_by_role("heading")) != _colour(visible)


def test_each_type_of_field_is_saved(screen, client):
    screen.open_process(ONBOARDING_RUN_ID)
    task = screen.task("Collect documents of Globex")
    task.get_by_role("textbox", name="Customer name (required)").fill("Globex Ltd")
    task.get_by_role("textbox", name="Notes").fill("First line\nsecond line")
    task.get_by_role("textbox", name="Contact email").fill("hank@example.org")
    task.get_by_label("Start date").fill("2027-02-03")
    task.get_by_role("radio", name="Business").check()
    task.get_by_label("Region").select_option(label="Asia Pacific")
    task.get_by_role("checkbox", name="Reports").check()
    task.get_by_role("checkbox", name="Single sign-on").check()
    task.get_by_role("textbox", name="Product").fill("Standard")
    task.get_by_role("textbox", name="Seats").fill("30")
    task.get_by_role("textbox", name="Account team").fill("Ben Larsen, client@example.org, customer success")
    task.get_by_role("textbox", name="Contract").fill("contract.pdf")
    expect(task).to_contain_text("Not saved yet")

    screen.button("Collect documents of Globex", "Save").click()

    expect(task).not_to_contain_text("Not saved yet")
    expect(screen.status("Collect documents of Globex")).to_have_text("In progress")
    saved = client.tasks(ONBOARDING_RUN_ID)[0]
    fields = client.task(ONBOARDING_RUN_ID, saved["id"])["form_fields"]["data"]
    values = {field["label"]: field["field_value"] for field in fields}
    group = values["Account team"].pop("groups")
    assert len(group) == 1
    assert values["Contract"][0].pop("id")
    assert values == {
        "Customer name": "Globex Ltd",
        "Notes": "First line\nsecond line",
        "Contact email": "hank@example.org",
        "Start date": "2027-02-03T00:00:00.000Z",
        "Plan": "Business",
        "Region": {"id": 3, "text": "Asia Pacific", "value": None},
        "Modules": [
            {"id": 1, "text": "Reports", "value": None, "selected": True},
            {"id": 3, "text": "Single sign-on", "value": None, "selected": True},
        ],
        "Licences": ["Standard", "30"],
        "Account team": {"users": [1002], "guests": ["client@example.org"]},
        "Contract": [{"filename": "contract.pdf", "version": 1, "url": ""}],
    }
    screen.page.reload()
    expect(task.get_by_role("radio", name="Business")).to_be_checked()
    expect(task.get_by_role("textbox", name="Account team")).to_have_value(
        "Ben Larsen, client@example.org, Customer success"
    )


def test_invalid_value_is_reported_at_its_field(screen):
    screen.expect_refusals()
    screen.open_process(ONBOARDING_RUN_ID)
    task = screen.task("Collect documents of Globex")
    email = task.get_by_role("textbox", name="Contact email")
    team = task.get_by_role("textbox", name="Account team")

    email.fill("nobody")
    email.press("Enter")
    expect(email).to_have_accessible_description("Contact email must be a valid email address")

    email.fill("")
    team.fill("Nobody Inparticular")
    screen.button("Collect documents of Globex", "Save").click()
    expect(task).to_contain_text("No member and no group is called “Nobody Inparticular”.")
    expect(team).to_be_focused()


def test_an_open_issue_blocks_a_task_until_it_is_resolved(screen, client):
    announce = client.tasks(SEEDED_RUN_ID)[2]
    client.request("POST", f"/tasks/{announce['id']}/problem", json={"content": "The press list is missing."})
    screen.open_process(SEEDED_RUN_ID)
    task = screen.task("Announce release")
    expect(task).to_contain_text("An open issue keeps this task from being completed.")
    expect(screen.button("Announce release", "Complete")).to_have_count(0)

    task.get_by_text("Comments").click()
    expect(task).to_contain_text("The press list is missing.")
    task.get_by_role("button", name="Mark as resolved").click()

    expect(screen.button("Announce release", "Complete")).to_be_visible()


def test_a_comment_is_written_and_shown(screen, client):
    screen.open_process(SEEDED_RUN_ID)
    task = screen.task("Approve release")
    task.get_by_text("Comments").click()
    task.get_by_label("Write a comment").fill("Who has seen the test report?")

    task.get_by_role("button", name="Add comment").click()

    expect(task.locator(".thread")).to_contain_text("Who has seen the test report?")
    expect(task.locator(".thread")).to_contain_text("Ada Okafor")
    expect(task.get_by_label("Write a comment")).to_have_value("")


@pytest.mark.parametrize("context_options", [{"timezone_id": "America/New_York"}])
def test_deadlines_in_the_time_zone_of_the_browser(screen, client):
    announce = client.tasks(SEEDED_RUN_ID)[2]
    client.request(
        "PUT", f"/runs/{SEEDED_RUN_ID}/tasks/{announce['id']}", json={"deadline": "2090-01-16T17:00:00Z"}
    )
    screen.open_process(SEEDED_RUN_ID)

    expect(screen.task("Announce release")).to_contain_text("Jan 16, 2090, 12:00")


def _colour(locator):
    return locator.evaluate("element => getComputedStyle(element).color")
