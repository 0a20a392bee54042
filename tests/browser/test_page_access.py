"""The page on a phone, by keyboard, in dark and light, and with texts that look like code."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from airflow_provider_tallyfy.sandbox.seeds import ONBOARDING_RUN_ID, RELEASE_CHECKLIST_ID, SEEDED_RUN_ID

pytestmark = pytest.mark.browser

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}

# The texts whose contrast with what is behind them is lower than WCAG's level AA asks for.
LOW_CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const over = (top, below) => {
    const alpha = top[3] ?? 1;
    return [0, 1, 2].map((index) => top[index] * alpha + below[index] * (1 - alpha));
  };
  const ground = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) {
      layers.push(numbers(getComputedStyle(each).backgroundColor));
    }
    return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const luminance = (colour) => colour
    .map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (text === "" || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const behind = ground(element);
    const [one, other] = [luminance(over(numbers(style.color), behind)), luminance(behind)];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (contrast < (isLarge ? 3 : 4.5)) low.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return low;
}"""


@pytest.mark.parametrize("context_options", [PHONE])
def test_fits_a_phone(screen, client):
    run_id = client.launch("Anamewithoutaplacewherealinecouldbebroken" * 4)
    narrow = "() => document.documentElement.scrollWidth <= innerWidth"
    screen.open_list()
    assert screen.page.evaluate(narrow)
    for each in (run_id, ONBOARDING_RUN_ID):
        screen.open_process(each)
        assert screen.page.evaluate(narrow)
    screen.page.get_by_role("button", name="Launch a process").click()
    screen.page.get_by_label("Template").select_option(label="Customer onboarding")
    expect(screen.page.get_by_role("heading", name="Kick-off form")).to_be_visible()
    assert screen.page.locator("dialog").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_text_in_both_color_schemes(screen, client, scheme):
    screen.expect_refusals()
    screen.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    screen.open_list()
    assert screen.page.evaluate(LOW_CONTRASTS) == []
    announce = client.tasks(SEEDED_RUN_ID)[2]
    client.request("POST", f"/tasks/{announce['id']}/problem", json={"content": "A problem."})
    screen.open_process(SEEDED_RUN_ID)
    screen.button("Approve release", "Approve").click()
    expect(screen.task("Approve release")).to_contain_text("Comment is required")
    screen.task("Announce release").get_by_text("Comments").click()
    assert screen.page.evaluate(LOW_CONTRASTS) == []
    screen.open_process(ONBOARDING_RUN_ID)
    expect(screen.page.get_by_text("overdue by 1 day")).to_be_visible()
    assert screen.page.evaluate(LOW_CONTRASTS) == []


def test_color_schemes_differ(screen):
    screen.open_list()
    colours = set()
    for scheme in ("light", "dark"):
        screen.page.emulate_media(color_scheme=scheme)
        colours.add(screen.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


def test_complete_a_task_by_keyboard(screen, client):
    client.launch("Release 2.5.0")
    screen.open_list()

    _tab_to(screen, "Release 2.5.0")
    screen.page.keyboard.press("Enter")
    expect(screen.page.get_by_role("heading", name="Release 2.5.0")).to_be_focused()
    _tab_to(screen, "Complete “Prepare release notes”")
    outline = screen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    screen.page.keyboard.press("Enter")

    expect(screen.status("Prepare release notes")).to_have_text("Completed")
    # The button is gone; the keyboard is still at its task, and Enter there undoes nothing.
    expect(screen.page.get_by_role("heading", name="Prepare release notes")).to_be_focused()
    screen.page.keyboard.press("Tab")
    expect(screen.button("Prepare release notes", "Reopen")).to_be_focused()


def test_escape_closes_the_launch_dialog_and_keeps_its_values(screen):
    screen.open_list()
    _tab_to(screen, "Launch a process")
    screen.page.keyboard.press("Enter")
    dialog = screen.page.get_by_role("dialog", name="Launch a process")
    expect(dialog.get_by_label("Template")).to_be_focused()
    dialog.get_by_label("Template").select_option(label="Release approval")
    dialog.get_by_role("textbox", name="Version").fill("3.0.0")

    screen.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(screen.page.get_by_role("button", name="Launch a process")).to_be_focused()

    screen.page.keyboard.press("Enter")
    expect(dialog.get_by_role("textbox", name="Version")).to_have_value("3.0.0")


def test_skip_link(screen):
    screen.open_list()
    screen.page.keyboard.press("Tab")
    expect(screen.page.get_by_role("link", name="Skip to content")).to_be_focused()
    screen.page.keyboard.press("Enter")
    screen.page.keyboard.press("Tab")
    expect(screen.page.get_by_role("searchbox")).to_be_focused()


def test_markup_in_texts_is_escaped(screen, client):
    code = '<img src="x" onerror="window.hit = true"><script>window.hit = true</script>'
    body = {"checklist_id": RELEASE_CHECKLIST_ID, "name": f"Name {code}", "summary": f"Summary {code}"}
    run_id = client.request("POST", "/runs", json=body)["id"]
    task = client.tasks(run_id)[0]
    client.request("PUT", f"/runs/{run_id}/tasks/{task['id']}", json={"title": f"Title {code}"})
    client.request("POST", f"/tasks/{task['id']}/comment", json={"content": f"Comment {code}"})

    screen.open_list()
    expect(screen.process(f"Name {code}")).to_contain_text(f"Next: Title {code}")
    screen.open_process(run_id)
    expect(screen.page.get_by_role("heading", name=f"Name {code}")).to_be_visible()
    expect(screen.page.locator(".process-header .summary")).to_have_text(f"Summary {code}")
    expect(screen.task(f"Title {code}")).to_be_visible()
    screen.task(f"Title {code}").get_by_text("Comments").click()
    expect(screen.page.get_by_text(f"Comment {code}")).to_be_visible()

    assert screen.page.locator("main img, main script").count() == 0
    assert screen.page.evaluate("window.hit") is None


def test_controls_have_names(screen):
    screen.open_process(ONBOARDING_RUN_ID)
    nameless = """() => [...document.querySelectorAll("main input, main textarea, main select")]
      .filter((control) => control.labels.length === 0).map((control) => control.id)"""
    assert screen.page.evaluate(nameless) == []
    names = [button.inner_text() for button in screen.page.get_by_role("button").all()]
    assert len(names) == len(set(names))


def _tab_to(screen, name):
    """Press Tab until the thing with this text has the focus."""
    focused = "document.activeElement.textContent"
    for _ in range(60):
        screen.page.keyboard.press("Tab")
        if screen.page.evaluate(focused) == name:
            return
    pytest.fail(f"Tab never reached {name!r}.")
