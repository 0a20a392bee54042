"""No message, representation, attribute, traceback or log record holds a secret, even when the server echoes it."""

from __future__ import annotations

import pytest
import requests

from airflow_provider_tallyfy.exceptions import TallyfyError
from airflow_provider_tallyfy.hooks import credentials

TOKEN = "personal-token-that-nobody-may-see"
SECRET = "client-secret-that-nobody-may-see"
RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
OAUTH = "https://tallyfy.test/oauth/token"
EXCHANGE = "https://tallyfy.test/api/applications/acme/users/ada%40example.com/token"
ISSUED = "issued-token-that-nobody-may-see"
PERSONS = "persons-token-that-nobody-may-see"


def echoes(secret):
    """Answers that say a secret, whole or cut where a message is cut."""
    return {
        "message": {"status_code": 422, "json": {"message": f"Bad header: Bearer {secret}"}},
        "message cut": {"status_code": 422, "json": {"message": "x" * 480 + secret}},
        "errors by field": {"status_code": 422, "json": {"errors": {secret: [secret]}}},
        "oauth": {"status_code": 401, "json": {"error": "invalid", "error_description": f"no {secret}"}},
        "request id": {"status_code": 403, "headers": {"X-Request-Id": secret}},
        "server error": {"status_code": 500, "json": {"message": secret}},
        "too many": {"status_code": 429, "json": {"message": secret}},
        "other": {"status_code": 418, "json": {"message": secret}},
        "no json": {"text": secret},
        "no json, cut": {"text": "x" * 20 + secret},
        "broken": {"exc": requests.ReadTimeout(f"while sending {secret}")},
        "malformed": {"exc": requests.exceptions.InvalidHeader(f"bad value 'Bearer {secret}'")},
        "moved": {"status_code": 302, "headers": {"Location": f"https://{secret}.test/{secret}"}},
    }


KINDS = list(echoes(""))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("echo", KINDS)
def test_the_access_token(hook, requests_mock, everything_shown, method, echo):
    requests_mock.request(method, RUN, [echoes(TOKEN)[echo]])
    with pytest.raises(TallyfyError) as error:
        hook.request(method, "runs/r1")
    assert TOKEN[:15] not in everything_shown(error.value)


@pytest.mark.parametrize("echo", KINDS)
def test_the_clients_secret(application, requests_mock, everything_shown, echo):
    requests_mock.post(OAUTH, [echoes(SECRET)[echo]])
    with pytest.raises(TallyfyError) as error:
        application().get_run("r1")
    assert SECRET[:13] not in everything_shown(error.value)


@pytest.mark.parametrize("echo", KINDS)
def test_the_applications_token_while_it_is_exchanged(application, requests_mock, everything_shown, echo):
    requests_mock.post(OAUTH, json={"access_token": ISSUED, "expires_in": 604_800})
    requests_mock.post(EXCHANGE, [echoes(ISSUED)[echo]])
    with pytest.raises(TallyfyError) as error:
        application(user_email="ada@example.com").get_run("r1")
    assert ISSUED[:12] not in everything_shown(error.value)


@pytest.mark.parametrize("secret", [ISSUED, PERSONS, SECRET])
@pytest.mark.parametrize("echo", KINDS)
def test_all_of_them_when_a_person_is_acted_for(application, requests_mock, everything_shown, echo, secret):
    requests_mock.post(OAUTH, json={"access_token": ISSUED, "expires_in": 604_800})
    requests_mock.post(EXCHANGE, json={"access_token": PERSONS, "expires_in": 7_776_000})
    requests_mock.get(RUN, [echoes(secret)[echo]])
    with pytest.raises(TallyfyError) as error:
        application(user_email="ada@example.com").get_run("r1")
    assert secret[:12] not in everything_shown(error.value)


@pytest.mark.parametrize("echo", KINDS)
def test_a_token_that_was_renewed_stays_secret(application, requests_mock, everything_shown, echo):
    answers = [{"json": {"access_token": token, "expires_in": 604_800}} for token in (ISSUED, PERSONS)]
    requests_mock.post(OAUTH, answers)
    requests_mock.get(RUN, [{"status_code": 401}, echoes(ISSUED)[echo]])
    with pytest.raises(TallyfyError) as error:
        application().get_run("r1")
    assert ISSUED[:12] not in everything_shown(error.value)


def test_a_token_that_cannot_stand_in_a_header_is_refused_unshown(
    application, requests_mock, everything_shown
):
    requests_mock.post(OAUTH, json={"access_token": f"{ISSUED}\r\nX-Evil: 1", "expires_in": 604_800})
    requests_mock.get(RUN, json={"data": {"id": "r1"}})
    with pytest.raises(TallyfyError) as error:
        application().get_run("r1")
    assert ISSUED not in everything_shown(error.value)
    assert "X-Evil" not in str(error.value)


def test_airflow_is_told_every_secret_to_mask(application, connect, requests_mock, monkeypatch):
    masked = []
    monkeypatch.setattr(credentials, "mask_secret", masked.append)
    requests_mock.post(OAUTH, json={"access_token": ISSUED, "expires_in": 604_800})
    requests_mock.post(EXCHANGE, json={"access_token": PERSONS, "expires_in": 7_776_000})
    requests_mock.get(RUN, json={"data": {"id": "r1"}})
    application(user_email="ada@example.com").get_run("r1")
    assert masked == [SECRET, ISSUED, PERSONS]
    masked.clear()
    connect().get_run("r1")
    assert masked == [TOKEN]


def test_nothing_is_logged_of_a_call_that_goes_well(hook, requests_mock, log):
    requests_mock.get(RUN, json={"data": {"id": "r1"}})
    hook.get_run("r1")
    assert TOKEN not in log.text
