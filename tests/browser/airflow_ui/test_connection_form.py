"""The form for a connection, in the Airflow that is installed: what it shows, what it saves, what *Test* says."""

from __future__ import annotations

import json
from itertools import count

import pytest
from playwright.sync_api import expect

from airflow_provider_tallyfy import get_provider_info
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.sandbox.access import TOKEN
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION
from dev.airflow_api import IN_AIRFLOW_2

pytestmark = pytest.mark.browser

[CONNECTION_TYPE] = get_provider_info()["connection-types"]
OWN_FIELDS = CONNECTION_TYPE["conn-fields"]
SECRET = "hush-this-is-the-client-secret"
_numbers = count()
in_airflow_3 = pytest.mark.skipif(IN_AIRFLOW_2, reason="the list of Airflow 2 has no button Test")


@pytest.fixture
def conn_id():
    return f"from_form_{next(_numbers)}"


@pytest.fixture
def saved(environment):
    """Return a connection as it is in Airflow's database, with its extra as a dictionary."""

    def read(conn_id):
        query = "SELECT conn_id, conn_type, host, schema, login, password, port, extra FROM connection"
        [row] = [row for row in environment.airflow.rows(query) if row[0] == conn_id]
        names = ("conn_type", "host", "schema", "login", "password", "port")
        return dict(zip(names, row[1:-1], strict=True), extra=json.loads(row[-1] or "{}"))

    return read


@pytest.fixture
def hook_of(saved, monkeypatch):
    def hook(conn_id):
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(saved(conn_id)))
        return TallyfyHook()

    return hook


@pytest.fixture
def fill_in(form, environment):
    def begin(conn_id):
        form.open_new(conn_id)
        form.fill(API_URL=f"{environment.sandbox.url}/api", Organization_ID=ORGANIZATION, Access_token=TOKEN)

    return begin


def test_form_shows_only_the_fields_of_tallyfy(form, conn_id):
    form.open_new(conn_id)
    shown = form.labels()
    form.show_extras()
    shown += [label for label in form.labels() if label not in shown]

    expected = ["Description", "API URL", "Organization ID", "Access token"]
    expected += [field["label"] for field in OWN_FIELDS.values()]
    assert {label.lower() for label in shown} == {
        "connection id",
        "connection type",
        *map(str.lower, expected),
        *(["extra fields json"] if IN_AIRFLOW_2 else []),
    }
    assert len(shown) == len(set(shown))


def test_each_field_has_its_help(form, conn_id):
    form.open_new(conn_id)
    placeholders = CONNECTION_TYPE["ui-field-behaviour"]["placeholders"]
    for name, label in CONNECTION_TYPE["ui-field-behaviour"]["relabeling"].items():
        if name != "extra":
            expect(form.field(label)).to_have_attribute("placeholder", placeholders[name])
    form.show_extras()
    for field in OWN_FIELDS.values():
        expect(form.group(field["label"])).to_contain_text(field["description"])


def test_secrets_are_hidden_while_they_are_typed(form, conn_id):
    form.open_new(conn_id)
    expect(form.field("Access token")).to_have_attribute("type", "password")
    form.show_extras()
    expect(form.field("Client secret")).to_have_attribute("type", "password")


def test_required_fields_alone_give_a_working_connection(form, conn_id, fill_in, hook_of):
    fill_in(conn_id)
    form.save()

    hook = hook_of(conn_id)
    assert hook.test_connection() == (True, "Connected to Tallyfy sandbox as Ada Okafor.")
    hook.get_conn().close()
    assert hook.connection.web_url == "https://go.tallyfy.com"
    assert (hook.connection.timeout, hook.connection.verify) == (30, True)
    assert (hook.connection.client_id, hook.connection.client_secret) == (None, None)


def test_every_field_is_saved(form, conn_id, fill_in, hook_of, saved):
    fill_in(conn_id)
    form.show_extras()
    form.field("Web URL").fill("https://people.example")
    form.field("Timeout (seconds)").fill("12")
    form.field("Verify certificates").fill("false")
    form.tick("Allow plain http")
    form.field("Client ID").fill("the-client")
    form.field("Client secret").fill(SECRET)
    form.field("User e-mail").fill("ada@example.com")
    form.field("Token URL").fill("https://account.example/oauth/token")
    form.save()

    connection = hook_of(conn_id).connection
    assert connection.web_url == "https://people.example"
    assert (connection.timeout, connection.verify) == (12, False)
    assert (connection.client_id, connection.client_secret) == ("the-client", SECRET)
    assert (connection.user_email, connection.token_url) == (
        "ada@example.com",
        "https://account.example/oauth/token",
    )
    assert saved(conn_id)["extra"]["allow_http"] is True


def test_saved_secrets_are_not_shown_and_survive_other_changes(form, page, conn_id, fill_in, hook_of):
    fill_in(conn_id)
    form.show_extras()
    form.field("Client ID").fill("the-client")
    form.field("Client secret").fill(SECRET)
    form.save()
    responses = []
    page.on("response", lambda response: responses.append(response))

    form.open_saved(conn_id)
    form.show_extras()

    expect(form.field("Client ID")).to_have_value("the-client")
    expect(form.field("Client secret")).to_have_attribute("type", "password")
    seen = [
        page.content(),
        *page.evaluate("[...document.querySelectorAll('input, textarea')].map(e => e.value)"),
    ]
    seen += [each.text() for each in responses if "/api/v2/connections" in each.url]
    assert any("the-client" in text for text in seen)
    assert not any(secret in text for text in seen for secret in (SECRET, TOKEN))

    form.field("Timeout (seconds)").fill("14")
    form.save()
    connection = hook_of(conn_id).connection
    assert (connection.timeout, connection.client_secret) == (14, SECRET)


def test_a_new_secret_replaces_the_saved_one(form, conn_id, fill_in, hook_of):
    fill_in(conn_id)
    form.show_extras()
    form.field("Client ID").fill("the-client")
    form.field("Client secret").fill(SECRET)
    form.save()

    form.open_saved(conn_id)
    form.show_extras()
    form.field("Client secret").fill("another-secret")
    form.save()

    assert hook_of(conn_id).connection.client_secret == "another-secret"


def test_a_saved_connection_is_used_by_a_task(form, conn_id, fill_in, environment):
    fill_in(conn_id)
    form.save()

    dag_run = environment.airflow.trigger("saved_connection", {"conn_id": conn_id})

    assert dag_run.wait(90) == "success", dag_run.failures()
    assert dag_run.xcom("who")["data"]["full_name"] == "Ada Okafor"


def as_saved(environment, conn_id, **changes):
    """Save a connection by Airflow's API, with the port on its own: see the last test."""
    host, _, port = environment.sandbox.url.rpartition(":")
    described = {"conn_type": "tallyfy", "host": f"{host}/api", "port": int(port), "login": ORGANIZATION}
    body = {"connection_id": conn_id, "password": TOKEN, **described, **changes}
    environment.airflow.api.request("POST", "/connections", json=body)


@in_airflow_3
def test_the_test_button_accepts_a_working_connection(form, environment, conn_id):
    as_saved(environment, conn_id)
    assert "Connected to Tallyfy sandbox as Ada Okafor." in form.test(conn_id)


@in_airflow_3
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"password": "a-wrong-token"}, "GET /me returned 401: Unauthenticated."),
        ({"login": "other"}, "GET /organizations/other returned 403"),
        ({"login": ""}, "login (the organization id) is missing"),
        ({"port": 9}, "refused"),
    ],
)
def test_the_test_button_shows_the_error_and_no_token(form, page, environment, conn_id, changes, message):
    as_saved(environment, conn_id, **changes)
    assert message in form.test(conn_id)
    assert not any(token in page.content() for token in (TOKEN, "a-wrong-token"))


@in_airflow_3
@pytest.mark.xfail(
    strict=True, reason="Airflow 3.3.2's UI sends port 0 for none, and its API refuses that as a change"
)
def test_the_test_button_needs_no_port(form, conn_id, fill_in):
    fill_in(conn_id)
    form.save()
    assert "Connected to" in form.test(conn_id)


@pytest.mark.skipif(not IN_AIRFLOW_2, reason="Airflow 3 has no such button in the form")
@pytest.mark.parametrize(
    ("token", "message"),
    [
        (TOKEN, "Connected to Tallyfy sandbox as Ada Okafor."),
        ("a-wrong-token", "GET /me returned 401: Unauthenticated."),
    ],
)
def test_airflow_2_tests_the_form_before_and_after_saving(form, page, conn_id, fill_in, token, message):
    fill_in(conn_id)
    form.field("Access token").fill(token)
    form.tick("Allow plain http")
    assert message in form.test_what_is_typed()
    form.save()

    form.open_saved(conn_id)
    form.field("Access token").fill(token)  # Airflow 2 tests what stands in the form
    answer = form.test_what_is_typed()
    assert message in answer
    assert token not in answer


def test_the_command_line_tests_the_connection(form, conn_id, fill_in, environment):
    fill_in(conn_id)
    form.save()
    assert "success" in environment.airflow.run("connections", "test", conn_id)
