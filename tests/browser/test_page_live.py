"""The page follows the server: changes appear, typed text stays, a restart of the server is noticed."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from airflow_provider_tallyfy.sandbox.seeds import ONBOARDING_RUN_ID, SEEDED_RUN_ID
from airflow_provider_tallyfy.sandbox.server import SandboxServer
from dev.processes import wait_until
from dev.sandbox import SandboxClient

pytestmark = pytest.mark.browser

COLLECT = "Collect documents of Globex"


def test_a_run_launched_through_the_api_appears(screen, client):
    screen.open_list()

    client.launch("Release 9.0.0")

    expect(screen.process("Release 9.0.0")).to_be_visible()
    expect(screen.page.get_by_role("status")).to_contain_text("Release 9.0.0 is now in this list.")


def test_changes_keep_typed_text_focus_and_scroll_position(screen, client):
    screen.open_process(ONBOARDING_RUN_ID)
    notes = screen.task(COLLECT).get_by_role("textbox", name="Notes")
    notes.press_sequentially("half a sentence")
    notes.press("ArrowLeft")
    screen.task(COLLECT).get_by_role("radio", name="Enterprise").check()
    screen.task(COLLECT).get_by_label("Region").select_option(label="Americas")
    notes.focus()
    screen.page.evaluate("scrollTo({top: 150, behavior: 'instant'})")
    scrolled = screen.page.evaluate("scrollY")
    assert scrolled > 0

    collect = client.tasks(ONBOARDING_RUN_ID)[0]
    fields = {
        field["label"]: field["id"]
        for field in client.task(ONBOARDING_RUN_ID, collect["id"])["form_fields"]["data"]
    }
    theirs = {
        fields["Customer name"]: "Globex Corporation",
        fields["Notes"]: "Somebody else's words",
        fields["Plan"]: "Starter",
        fields["Region"]: {"id": 1, "text": "Europe", "value": None},
    }
    client.request("PUT", f"/runs/{ONBOARDING_RUN_ID}/tasks/{collect['id']}", json={"taskdata": theirs})
    customer = screen.task(COLLECT).get_by_role("textbox", name="Customer name (required)")
    expect(customer).to_have_value("Globex Corporation")

    expect(notes).to_be_focused()
    expect(notes).to_have_value("half a sentence")
    expect(screen.task(COLLECT).get_by_role("radio", name="Enterprise")).to_be_checked()
    expect(screen.task(COLLECT).get_by_label("Region")).to_have_value("2")
    assert screen.page.evaluate("scrollY") == scrolled
    screen.page.keyboard.type("x")
    expect(notes).to_have_value("half a sentencxe")

    with screen.page.expect_request(lambda request: request.method == "PUT") as sent:
        screen.button(COLLECT, "Save").click()
    # What was not touched here is not sent.
    assert sent.value.post_data_json["taskdata"] == {
        fields["Notes"]: "half a sentencxe",
        fields["Plan"]: "Enterprise",
        fields["Region"]: {"id": 2, "text": "Americas", "value": None},
    }


def test_a_saved_field_follows_the_server_again(screen, client):
    screen.open_process(ONBOARDING_RUN_ID)
    customer = screen.task(COLLECT).get_by_role("textbox", name="Customer name (required)")
    customer.fill("Mine")
    screen.button(COLLECT, "Save").click()
    expect(screen.task(COLLECT)).not_to_contain_text("Not saved yet")

    collect = client.tasks(ONBOARDING_RUN_ID)[0]
    field_id = next(iter(collect["taskdata"]))
    client.request(
        "PUT",
        f"/runs/{ONBOARDING_RUN_ID}/tasks/{collect['id']}",
        json={"taskdata": {field_id: "Somebody else's"}},
    )

    expect(customer).to_have_value("Somebody else's")


def test_keeps_typed_text_when_the_task_is_completed_elsewhere(screen, client):
    screen.open_process(SEEDED_RUN_ID)
    comment = screen.task("Approve release").get_by_role("textbox", name="Comment (required)")
    comment.press_sequentially("My long reasoning")

    client.complete_next(SEEDED_RUN_ID)

    expect(screen.status("Approve release")).to_have_text("Approved")
    expect(screen.task("Approve release")).to_contain_text("What you entered is kept here")
    expect(comment).to_have_value("My long reasoning")
    expect(comment).to_be_focused()


def test_an_open_section_stays_open(screen, client):
    screen.open_process(SEEDED_RUN_ID)
    task = screen.task("Approve release")
    task.get_by_text("Comments").click()
    task.get_by_label("Write a comment").fill("a draft")

    approval = client.tasks(SEEDED_RUN_ID)[1]
    client.request("POST", f"/tasks/{approval['id']}/comment", json={"content": "Hello?"})

    expect(task.get_by_text("Hello?")).to_be_visible()
    expect(task.get_by_label("Write a comment")).to_have_value("a draft")


def test_reconnects_to_a_restarted_server_and_keeps_typed_text(screen):
    screen.expect_outage()
    with SandboxServer() as first:
        port = first.port
        screen.url = first.url
        screen.open_process(ONBOARDING_RUN_ID)
        notes = screen.task(COLLECT).get_by_role("textbox", name="Notes")
        notes.press_sequentially("written during the outage")

    outage = screen.page.get_by_role("alert").filter(has_text="The sandbox does not answer.")
    expect(outage).to_be_visible()
    expect(notes).to_have_value("written during the outage")

    with SandboxServer(port=port) as second:
        expect(outage).to_be_hidden()
        expect(notes).to_have_value("written during the outage")
        expect(notes).to_be_focused()
        # And the page is live again.
        SandboxClient(second.url).complete_next(ONBOARDING_RUN_ID)
        expect(screen.status(COLLECT)).to_have_text("Completed")


def test_polls_without_an_event_stream(screen, client):
    screen.expected_errors.append("status of 503")
    screen.page.route("**/_page/events", lambda route: route.fulfill(status=503, body="no stream"))
    screen.open_list()

    client.launch("Release 9.0.0")

    expect(screen.process("Release 9.0.0")).to_be_visible()


def test_a_hidden_tab_stops_listening(screen, sandbox, client):
    hide = "hidden => { Object.defineProperty(document, 'hidden', { configurable: true, value: hidden }); "
    hide += "document.dispatchEvent(new Event('visibilitychange')); }"
    others = _listeners(sandbox)
    screen.open_list()
    wait_until(lambda: _listeners(sandbox) == others + 1, 10, "the page to listen")

    screen.page.evaluate(hide, True)
    wait_until(lambda: _listeners(sandbox) == others, 10, "the page to stop listening")
    client.launch("Release 9.0.0")
    screen.page.evaluate(hide, False)

    expect(screen.process("Release 9.0.0")).to_be_visible()
    wait_until(lambda: _listeners(sandbox) == others + 1, 10, "the page to listen again")


def _listeners(sandbox):
    return sandbox.change(lambda store: len(store.listeners))
