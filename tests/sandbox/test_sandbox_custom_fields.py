from __future__ import annotations

import pytest

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID

RUN = f"/runs/{SEEDED_RUN_ID}"


@pytest.fixture(params=["process", "task"])
def subject(request, client):
    """The address of a run or task, and the key that is defined for it."""
    if request.param == "process":
        return RUN, "cost_center"
    return f"{RUN}/tasks/{client.tasks(SEEDED_RUN_ID)['approve_release']['id']}", "priority"


def test_values_are_replaced_set_and_removed(client, subject):
    path, key = subject
    assert client.data(f"{path}/custom-fields") == {"custom_fields": {}}
    put = client.put(f"{path}/custom-fields", {"custom_fields": {key: "High"}})
    assert (put.status_code, put.json()["data"]["custom_fields"]) == (200, {key: "High"})
    assert client.data(path)["custom_fields"] == {key: "High"}
    patched = client.call("PATCH", f"{path}/custom-fields/{key}", json={"value": "Low"})
    assert patched.json()["data"]["custom_fields"] == {key: "Low"}
    assert client.delete(f"{path}/custom-fields/{key}").json()["data"]["custom_fields"] == {}
    client.put(f"{path}/custom-fields", {"custom_fields": {key: "High"}})
    assert client.put(f"{path}/custom-fields", {"custom_fields": {}}).json()["data"]["custom_fields"] == {}


def test_a_key_must_be_defined_for_the_kind_of_record(client, subject):
    path, key = subject
    other = {"cost_center": "priority", "priority": "cost_center"}[key]
    assert client.put(f"{path}/custom-fields", {"custom_fields": {other: "x"}}).status_code == 422
    assert client.call("PATCH", f"{path}/custom-fields/{other}", json={"value": "x"}).status_code == 422
    assert client.delete(f"{path}/custom-fields/{other}").status_code == 422


def test_an_admin_defines_keys(client, light_client):
    body = {"key": "budget", "applies_to": "process", "field_type": "number", "is_required": True}
    assert light_client.post("/custom-field-keys", body).status_code == 403
    assert client.post("/custom-field-keys", body).status_code == 201
    assert client.post("/custom-field-keys", body).status_code == 422
    keys = client.data("/custom-field-keys", applies_to="process")
    assert [key["key"] for key in keys] == ["cost_center", "budget"]

    # A required key must be among the values that replace all, but not where one is set.
    refused = client.put(f"{RUN}/custom-fields", {"custom_fields": {"cost_center": "CC-1"}})
    assert (refused.status_code, list(refused.json()["errors"])) == (422, ["custom_fields.budget"])
    patched = client.call("PATCH", f"{RUN}/custom-fields/cost_center", json={"value": "CC-1"})
    assert patched.status_code == 200
    assert client.call("GET", "/runs/none/custom-fields").status_code == 404
