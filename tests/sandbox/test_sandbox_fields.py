from __future__ import annotations

import pytest

from airflow_provider_tallyfy.sandbox import fields
from airflow_provider_tallyfy.sandbox.model import Column, FieldType, FormField, Option
from airflow_provider_tallyfy.sandbox.seeds import ONBOARDING_CHECKLIST_ID, ONBOARDING_RUN_ID

EUROPE = {"id": 1, "text": "Europe", "value": None}
REPORTS = {"id": 1, "text": "Reports", "value": None, "selected": True}

GOOD = {
    "customer_name": ["Acme", "x" * 200, 12345, 1.5, True],
    "notes": ["Long", "x" * 30_000],
    "contact_email": ["a@b.example"],
    "start_date": ["2026-01-02", "2026-01-02T03:04:05.678Z", "2026-01-02 03:04:05"],
    "plan": ["Starter"],
    "region": [EUROPE, {"id": 1, "text": "Europe"}],
    "modules": [[REPORTS], [REPORTS, {"id": 2, "text": "Automations", "selected": False}], []],
    # One entry for each column: the documentation has one row, tallyfy/mcp-public that column's values in all rows.
    "licences": [["Standard", "25"], [["Standard", "Enterprise"], ["25", "3"]]],
    "account_team": [{"users": [1001], "guests": ["a@b.example"], "groups": []}, {"users": ["1001"]}],
    "contract": [
        [{"id": "asset", "filename": "contract.pdf", "version": 1}],
        [{"filename": "contract.pdf", "source": "url", "url": "https://files.example/contract.pdf"}],
        [{"full_url": "https://files.example/contract.pdf"}],
    ],
}
BAD = {
    "customer_name": ["x" * 201, ["Acme"], {"text": "Acme"}],
    "notes": ["x" * 30_001, 12345, True, {"value": "Long"}],
    "contact_email": ["nobody", 5],
    "start_date": ["tomorrow", 1767225600, "1767225600", "2026-13-01"],
    "plan": ["starter", {"id": 1, "text": "Starter"}, "Platinum"],
    "region": [
        "Europe",
        {"id": 1},
        {"text": "Europe"},
        {"id": 2, "text": "Europe"},
        {"id": 1, "text": "europe"},
    ],
    "modules": [REPORTS, ["Reports"], [{"id": 2, "text": "Reports"}]],
    "licences": [["Standard"], ["Standard", "25", "x"], "Standard", [["Standard", "25"]]],
    "account_team": [[1001], {"users": [5]}, {"people": [1001]}, {"users": 1001}],
    "contract": ["contract.pdf", {"id": "asset"}, [{"filename": "contract.pdf"}]],
}


@pytest.fixture
def kick_off(client):
    """The fields of the onboarding template's kick-off form, by alias."""
    return {
        field["alias"]: field for field in client.data(f"/checklists/{ONBOARDING_CHECKLIST_ID}")["prerun"]
    }


@pytest.fixture
def captures(client):
    """The form fields of the onboarding run's first task, by the alias of the kick-off field they are like."""
    found = client.tasks(ONBOARDING_RUN_ID)["collect_documents"]["form_fields"]["data"]
    return {field["alias"].removesuffix("_checked"): field for field in found}


@pytest.fixture
def task_path(client):
    return f"/runs/{ONBOARDING_RUN_ID}/tasks/{client.tasks(ONBOARDING_RUN_ID)['collect_documents']['id']}"


def required(kick_off):
    return {
        kick_off["customer_name"]["id"]: "Acme",
        kick_off["contact_email"]["id"]: "a@b.example",
        kick_off["region"]["id"]: EUROPE,
    }


def test_a_template_has_a_field_of_every_type_with_its_options_and_columns(kick_off, captures):
    for found in (kick_off, captures):
        assert {field["field_type"] for field in found.values()} == {str(each) for each in FieldType}
        assert [option["text"] for option in found["region"]["options"]] == [
            "Europe",
            "Americas",
            "Asia Pacific",
        ]
        assert [column["label"] for column in found["licences"]["columns"]] == ["Product", "Seats"]


@pytest.mark.parametrize("alias", GOOD)
def test_a_valid_value_is_kept(client, kick_off, captures, task_path, alias):
    for value in GOOD[alias]:
        prerun = required(kick_off) | {kick_off[alias]["id"]: value}
        run = client.launch(ONBOARDING_CHECKLIST_ID, prerun=prerun)
        assert run["prerun"][kick_off[alias]["id"]] == value
        task = client.put(task_path, {"taskdata": {captures[alias]["id"]: value}}).json()["data"]
        assert task["taskdata"][captures[alias]["id"]] == value
        assert task["status"] == "in-progress"


@pytest.mark.parametrize("alias", BAD)
def test_refuses_an_invalid_value_in_prerun_and_taskdata(client, kick_off, captures, task_path, alias):
    for value in BAD[alias]:
        prerun = required(kick_off) | {kick_off[alias]["id"]: value}
        refused = client.post("/runs", {"checklist_id": ONBOARDING_CHECKLIST_ID, "prerun": prerun})
        assert (refused.status_code, list(refused.json()["errors"])) == (
            422,
            [f"prerun.{kick_off[alias]['id']}"],
        ), value
        refused = client.put(task_path, {"taskdata": {captures[alias]["id"]: value}, "title": "Changed"})
        assert (refused.status_code, list(refused.json()["errors"])) == (
            422,
            [f"taskdata.{captures[alias]['id']}"],
        ), value
    after = client.data(task_path)
    assert (after["taskdata"], after["status"]) == ({}, "not-started")
    assert after["title"] != "Changed"


def test_a_table_with_the_wrong_number_of_entries_gets_the_documented_message(client, captures, task_path):
    refused = client.put(task_path, {"taskdata": {captures["licences"]["id"]: ["one"]}})
    assert refused.json()["message"] == "Number of columns does not match required columns"


def test_a_launch_without_the_required_fields_names_each(client, kick_off):
    refused = client.post("/runs", {"checklist_id": ONBOARDING_CHECKLIST_ID, "prerun": {}})
    assert refused.status_code == 422
    messages = {message for [message] in refused.json()["errors"].values()}
    assert messages == {"Customer name is required", "Contact email is required", "Region is required"}


@pytest.mark.parametrize("empty", [None, "", []])
def test_an_empty_value_does_not_satisfy_a_required_field(client, kick_off, empty):
    prerun = required(kick_off) | {kick_off["customer_name"]["id"]: empty}
    refused = client.post("/runs", {"checklist_id": ONBOARDING_CHECKLIST_ID, "prerun": prerun})
    assert list(refused.json()["errors"]) == [f"prerun.{kick_off['customer_name']['id']}"]


def test_an_unknown_key_is_ignored(client, kick_off, captures, task_path):
    prerun = required(kick_off) | {"customer_name": "by alias", "f" * 32: "by nothing"}
    assert set(client.launch(ONBOARDING_CHECKLIST_ID, prerun=prerun)["prerun"]) == set(required(kick_off))
    alias = captures["notes"]["alias"]
    answer = client.put(
        task_path, {"taskdata": {alias: "by alias", kick_off["notes"]["id"]: "by another's id"}}
    )
    assert (answer.status_code, answer.json()["data"]["taskdata"]) == (200, {})


def test_the_kick_off_values_of_a_run_can_be_changed(client, kick_off):
    name = kick_off["customer_name"]["id"]
    run = client.put(f"/runs/{ONBOARDING_RUN_ID}", {"prerun": {name: "Initech"}}).json()["data"]
    assert run["prerun"][name] == "Initech"
    assert client.tasks(ONBOARDING_RUN_ID)["collect_documents"]["title"] == "Collect documents of Initech"
    assert client.put(f"/runs/{ONBOARDING_RUN_ID}", {"prerun": {name: ""}}).status_code == 422


def field(field_type):
    return FormField(
        "f" * 32,
        "it",
        "It",
        field_type,
        options=(Option(1, "One"), Option(2, "Two")),
        columns=(Column(1, "A"),),
    )


@pytest.mark.parametrize(
    ("field_type", "value", "text"),
    [
        (FieldType.TEXT, "plain", "plain"),
        (FieldType.TEXT, None, ""),
        (FieldType.DROPDOWN, {"id": 1, "text": "One"}, "One"),
        (
            FieldType.MULTISELECT,
            [{"id": 1, "text": "One", "selected": True}, {"id": 2, "text": "Two"}],
            "One",
        ),
        (FieldType.MULTISELECT, [{"id": 1, "text": "One"}], ""),
        (FieldType.TABLE, ["a", "b"], "a, b"),
        (FieldType.TABLE, [["a", "b"], ["c", "d"]], "a, b, c, d"),
        (FieldType.ASSIGNEES_FORM, {"users": [1], "guests": ["a@b.example"]}, "1, a@b.example"),
        (FieldType.ASSIGNEES_FORM, {"users": [], "guests": []}, ""),
        (FieldType.FILE, [{"id": "x", "filename": "a.pdf"}], "a.pdf"),
        (FieldType.FILE, [{"url": "https://files.example/a.pdf"}], ""),
    ],
)
def test_rendered_variables(field_type, value, text):
    one = field(field_type)
    assert fields.render(one, value) == text
    assert fields.fill_in("<{{ it }}> {{other}}", [one], {one.id: value}) == f"<{text}> {{{{other}}}}"
