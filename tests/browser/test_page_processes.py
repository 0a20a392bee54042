"""The list of processes; launch, archive and restore."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from airflow_provider_tallyfy.sandbox.seeds import COMPLETE_RUN_ID, ONBOARDING_RUN_ID, SEEDED_RUN_ID

pytestmark = pytest.mark.browser


def test_progress_and_next_task_in_the_list(screen):
    screen.open_list()

    row = screen.process("Release 2.4.0")
    expect(row).to_contain_text("Release approval")
    expect(row).to_contain_text("Running")
    expect(row).to_contain_text("1 of 3 tasks done")
    expect(row).to_contain_text("Next: Approve release")
    expect(row).to_contain_text("Ben Larsen, Release managers")
    expect(row).to_contain_text(re.compile(r"due \w+ \d+, \d{4}.*, in \d+ (days|hours)"))
    bar = row.get_by_role("progressbar", name="Progress of Release 2.4.0")
    assert bar.evaluate("bar => [bar.value, bar.max]") == [1, 3]


def test_overdue_task(screen):
    screen.open_list()

    expect(screen.process("Onboarding of Globex")).to_contain_text("overdue by 1 day")


@pytest.mark.parametrize("next_task", ["collection", "object"])
def test_next_task_in_both_formats(screen, client, next_task):
    client.behave(next_task=next_task)
    screen.open_list()

    row = screen.process("Release 2.4.0")
    expect(row).to_contain_text("Next: Approve release")
    expect(row).to_contain_text("Ben Larsen")


def test_filters_show_finished_and_archived_processes(screen, client):
    client.archive(SEEDED_RUN_ID)
    screen.open_list()

    expect(screen.process("Release 2.4.0")).to_have_count(0)
    screen.page.get_by_role("button", name="Finished 1").click()
    expect(screen.process("Release 2.3.0")).to_contain_text("3 of 3 tasks done")
    screen.page.get_by_role("button", name="Archived 1").click()
    expect(screen.process("Release 2.4.0")).to_contain_text("Archived")
    expect(screen.process("Release 2.3.0")).to_have_count(0)


def test_a_search_finds_processes_by_name(screen):
    screen.open_list()

    screen.page.get_by_role("searchbox", name="Search processes by name").fill("globex")

    expect(screen.process("Release 2.4.0")).to_have_count(0)
    expect(screen.process("Onboarding of Globex")).to_be_visible()


def test_show_more_of_a_long_list(screen, client):
    client.control("POST", "/runs", {"count": 60})
    screen.open_list()

    expect(screen.page.locator(".process")).to_have_count(50)
    expect(screen.page.get_by_text("50 of 62 processes shown")).to_be_visible()
    screen.page.get_by_role("button", name="Show more").click()
    expect(screen.page.locator(".process")).to_have_count(62)


@pytest.mark.parametrize("path", ["/#/processes/{run_id}", "/sandbox/processes/{run_id}"])
def test_address_of_a_process(screen, path):
    screen.page.goto(screen.url + path.format(run_id=COMPLETE_RUN_ID))

    expect(screen.page.get_by_role("heading", name="Release 2.3.0")).to_be_visible()
    expect(screen.page).to_have_title("Release 2.3.0 · Tallyfy sandbox")
    screen.page.get_by_role("link", name="All processes").click()
    expect(screen.page.get_by_role("heading", name="Processes")).to_be_visible()


def test_unknown_process(screen):
    screen.expected_errors.append("the server responded with a status of 404")
    screen.page.goto(f"{screen.url}/#/processes/nobody-knows-it")

    expect(screen.page.get_by_role("heading", name="No such process")).to_be_visible()
    expect(screen.page.locator("main")).to_contain_text("nobody-knows-it")


def test_a_process_is_archived_and_restored(screen, client):
    screen.open_process(SEEDED_RUN_ID)

    screen.page.get_by_role("button", name="Archive").click()
    expect(screen.page.get_by_text("This process is archived")).to_be_visible()
    assert client.run(SEEDED_RUN_ID)["archived_at"] is not None

    screen.page.get_by_role("button", name="Restore").click()
    expect(screen.task("Approve release")).to_be_visible()
    assert client.run(SEEDED_RUN_ID)["archived_at"] is None


def test_kick_off_values_are_shown(screen):
    screen.open_process(ONBOARDING_RUN_ID)

    screen.page.get_by_text("Kick-off form").click()

    values = screen.page.locator(".kick-off")
    for label, value in {
        "Customer name": "Globex",
        "Region": "Europe",
        "Modules": "Reports",
        "Licences": "Product: StandardSeats: 25",
        "Start date": "—",
    }.items():
        expect(values.locator("div", has_text=label).locator("dd")).to_have_text(
            re.compile(re.sub("Seats", r"\\s*Seats", value))
        )


def test_a_process_is_launched_with_its_kick_off_form(screen, client):
    screen.expect_refusals()
    screen.open_list()
    screen.page.get_by_role("button", name="Launch a process").click()
    dialog = screen.page.get_by_role("dialog", name="Launch a process")
    dialog.get_by_label("Template").select_option(label="Customer onboarding")
    dialog.get_by_label("Name of the process").fill("Onboarding of Initech")
    dialog.get_by_role("textbox", name="Customer name").fill("Initech")
    dialog.get_by_role("radio", name="Starter").check()

    dialog.get_by_role("button", name="Launch", exact=True).click()
    email = dialog.get_by_role("textbox", name="Contact email")
    expect(email).to_have_accessible_description("Contact email is required")
    expect(email).to_be_focused()
    expect(dialog.get_by_text("Region is required")).to_be_visible()

    email.fill("peter@example.org")
    dialog.get_by_label("Region").select_option(label="Americas")
    dialog.get_by_role("button", name="Launch", exact=True).click()

    expect(dialog).to_be_hidden()
    expect(screen.page.get_by_role("heading", name="Onboarding of Initech")).to_be_visible()
    # The template's rule for the Starter plan.
    expect(screen.status("Security review")).to_have_text("Hidden by a rule")
    run = client.run(screen.page.url.rpartition("/")[2])
    assert {"id": 2, "text": "Americas", "value": None} in run["prerun"].values()
