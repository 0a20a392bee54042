"""What is encoded for launches and tasks, over real HTTP: the sandbox takes it, and it reads back as it was given."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import requests

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.protocol import forms
from airflow_provider_tallyfy.protocol.forms import field_types
from airflow_provider_tallyfy.protocol.forms.fields import (
    by_name,
    read_kickoff_fields,
    read_task_fields,
    stored_values,
)
from airflow_provider_tallyfy.protocol.idempotency_key import IdempotencyKey, find_launched, search_filters
from airflow_provider_tallyfy.protocol.launch_request import encode_launch, needs_directory
from airflow_provider_tallyfy.protocol.tasks import find_task
from airflow_provider_tallyfy.protocol.validation import FormValuesError
from airflow_provider_tallyfy.sandbox.model import FieldType
from airflow_provider_tallyfy.sandbox.seeds import (
    ONBOARDING_CHECKLIST_ID,
    ONBOARDING_RUN_ID,
    RELEASE_CHECKLIST_ID,
)

PAGE = Path(__file__).parents[2] / "docs" / "form-values.md"
NAMES = {"date": date, "datetime": datetime, "ZoneInfo": ZoneInfo}
LABELS = {
    "text": "Customer name",
    "textarea": "Notes",
    "email": "Contact email",
    "date": "Start date",
    "radio": "Plan",
    "dropdown": "Region",
    "multiselect": "Modules",
    "table": "Licences",
    "assignees_form": "Account team",
    "file": "Contract",
}


def documented():
    """Give label, value, what is sent, and what is read for each row of the documentation's table."""
    section = PAGE.read_text().split("\n## Values by type of field\n")[1].split("\n## ")[0]
    rows = section.split("| --- | --- | --- | --- |\n")[1].split("\n\n")[0].splitlines()
    field_type = ""
    for row in rows:
        kind, *cells = (cell.strip() for cell in row.strip("|").split(" | "))
        field_type = kind.split("`")[1] if kind else field_type
        yield LABELS[field_type], *(eval(cell.strip(" |`"), dict(NAMES)) for cell in cells)  # noqa: S307


DOCUMENTED = list(documented())
# By the label of the field: what is given, and what it reads back as.
GIVEN = [
    *((label, given, read) for label, given, _, read in DOCUMENTED),
    ("Customer name", "Ünïcödé 🎉 " + "x" * 190, "Ünïcödé 🎉 " + "x" * 190),
    ("Notes", "x" * 30_000, "x" * 30_000),
    ("Modules", [], []),
    ("Start date", "2026-07-05 12:00:00", "2026-07-05 12:00:00"),
]


def name_of(value):
    """Name a test, the same in every process that runs some of them."""
    return str(sorted(value)) if isinstance(value, set) else str(value)


REQUIRED = {"Customer name": "Globex", "Contact email": "client@example.org", "Region": "Europe"}


@pytest.fixture
def hook(sandbox):
    hook = TallyfyHook()
    with hook.get_conn():
        yield hook


@pytest.fixture
def checklist(hook):
    return hook.get_checklist(ONBOARDING_CHECKLIST_ID, with_="steps")


def collect_documents(hook, run_id=ONBOARDING_RUN_ID):
    """Return the task whose form has a field of each type, found by its title."""
    found = find_task(hook.get_tasks(run_id), "COLLECT documents of Globex")
    return hook.get_task(run_id, found["id"], with_="form_fields")


def test_documentation_has_every_type(checklist):
    types = {field.label: field.field_type for field in read_kickoff_fields(checklist)}
    assert {types[label] for label, *_ in DOCUMENTED} == {*FieldType} == {*field_types.FIELD_TYPES}


@pytest.mark.parametrize(("label", "given", "sent", "read"), DOCUMENTED, ids=name_of)
def test_documented_values(hook, checklist, label, given, sent, read):
    fields = read_kickoff_fields(checklist)
    [field] = by_name(fields).matches(label)
    assert field_types.encode(field, given, hook.get_directory()) == sent
    assert field_types.decode(field, sent) == read
    assert field_types.encode(field, read, hook.get_directory()) == sent


@pytest.mark.parametrize(("label", "given", "read"), GIVEN, ids=name_of)
def test_value_at_a_launch_reads_back(hook, checklist, label, given, read):
    kickoff = {**REQUIRED, label.upper(): given} if label not in REQUIRED else {**REQUIRED, label: given}
    directory = hook.get_directory() if needs_directory(checklist, kickoff) else None
    run = hook.launch_run(ONBOARDING_CHECKLIST_ID, **encode_launch(checklist, kickoff, directory=directory))
    values = forms.read_form(read_kickoff_fields(checklist), hook.get_run(run["id"])["prerun"])
    assert values[label.lower().replace(" ", "_")] == read


@pytest.mark.parametrize(("label", "given", "read"), GIVEN, ids=name_of)
def test_value_of_a_task_reads_back_and_is_cleared(hook, label, given, read):
    task = collect_documents(hook)
    fields = read_task_fields(task)
    before = forms.read_task_form(task)
    written = forms.encode_task_values(fields, {label: given}, hook.get_directory())
    hook.update_task(ONBOARDING_RUN_ID, task["id"], taskdata=written)
    alias = f"{label.lower().replace(' ', '_')}_checked"
    assert forms.read_task_form(collect_documents(hook)) == {**before, alias: read}

    hook.update_task(ONBOARDING_RUN_ID, task["id"], taskdata=forms.encode_task_values(fields, {label: None}))
    emptied = forms.read_task_form(collect_documents(hook))
    nothing = "" if label in ("Customer name", "Notes") else before[alias]
    assert emptied == {**before, alias: nothing}


def test_required_fields_of_a_task(hook):
    task = collect_documents(hook)
    fields = read_task_fields(task)
    with pytest.raises(FormValuesError) as error:
        forms.encode_task_values(fields, {"Plan": "Starter"}, stored=stored_values(task))
    assert error.value.problems == ("'Customer name' (text) is required, but would be empty",)
    values = {"Plan": "Starter", fields[0].id: "Globex"}
    written = forms.encode_task_values(fields, values, stored=stored_values(task))
    hook.update_task(ONBOARDING_RUN_ID, task["id"], taskdata=written)
    assert forms.encode_task_values(fields, {}, stored=stored_values(collect_documents(hook))) == {}
    assert hook.complete_task(ONBOARDING_RUN_ID, task["id"])["status"] == "completed"


def test_overrides_at_a_launch(hook, checklist):
    overrides = {
        "review_contract": {"owners": ["ben@example.com"], "deadline": datetime(2030, 1, 4, 17, tzinfo=UTC)},
        "Welcome CALL": {"owners": {"groups": ["customer success"], "guests": ["x@y.example"]}},
    }
    values = encode_launch(checklist, REQUIRED, overrides, hook.get_directory())
    run = hook.launch_run(ONBOARDING_CHECKLIST_ID, **values)
    tasks = hook.get_tasks(run["id"])
    review, call = find_task(tasks, "Review contract"), find_task(tasks, "welcome_call")
    assert review["owners"]["users"] == [1002]
    assert review["deadline"].startswith("2030-01-04T17:00:00")
    assert (call["owners"]["users"], call["owners"]["guests"]) == ([], ["x@y.example"])
    assert call["owners"]["groups"] == ["5eed0007000000000000000000000002"]


def test_launch_is_found_by_its_idempotency_key(hook, sandbox):
    key = IdempotencyKey("release", "manual__2026-01-05T12:00:00+00:00", "launch", 3)
    started = datetime.now(UTC)

    def found(key=key):
        filters, _ = search_filters(RELEASE_CHECKLIST_ID)
        return find_launched(hook.get_runs_pages(**filters), key.value, started)

    assert found() is None
    run = hook.launch_run(RELEASE_CHECKLIST_ID, name="Release 3", summary=key.append_note("Ask Ada."))
    other = IdempotencyKey("release", "manual__2026-01-05T12:00:00+00:00", "launch", 4)
    hook.launch_run(RELEASE_CHECKLIST_ID, summary=other.note)
    requests.post(f"{sandbox.url}/_sandbox/runs", json={"count": 150}, timeout=30).raise_for_status()
    assert found()["id"] == run["id"]
    assert (run["name"], run["summary"]) == ("Release 3", f"Ask Ada.\n\n{key.note}")
    hook.request("DELETE", f"runs/{run['id']}")
    assert found()["id"] == run["id"]
    assert found(IdempotencyKey("release", "never", "launch")) is None


def test_comment_on_a_task(hook):
    task = collect_documents(hook)
    assert hook.comment(task["id"], "The pipeline needs you.")["content"] == "The pipeline needs you."
    [thread] = hook.get_task(ONBOARDING_RUN_ID, task["id"], with_="threads")["threads"]["data"]
    assert thread["content"] == "The pipeline needs you."
