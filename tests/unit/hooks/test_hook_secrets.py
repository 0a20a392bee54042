"""No message, representation, attribute, traceback or log record holds a secret, even when the server echoes it."""

from __future__ import annotations

import pytest
import requests

from airflow_provider_tallyfy.exceptions import TallyfyError
from airflow_provider_tallyfy.hooks import credentials
from tests.support.secrets import SECRET, TOKEN

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
OAUTH = "https://tallyfy.test/oauth/token"
EXCHANGE = "https://tallyfy.test/api/applications/acme/users/ada%40example.com/token"
ISSUED = "issued-token-that-must-stay-hidden"
PERSONS = "persons-token-that-must-stay-hidden"


def echoes(secret):
    """Responses that say a secret, whole or cut where a message is cut."""
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
def test_access_token(hook, requests_mock, everything_shown, method, echo):
    requests_mock.request(method, RUN, [echoes(TOKEN)[echo]])
    with pytest.raises(TallyfyError) as error:
        hook.request(method, "runs/r1")
    assert TOKEN[:15] not in everything_shown(error.value)


@pytest.mark.parametrize("echo", KINDS)
def test_client_secret(application, requests_mock, everything_shown, echo):
    requests_mock.post(OAUTH, [echoes(SECRET)[echo]])
    with pytest.raises(TallyfyError) as error:
        application().get_run("r1")
    assert SECRET[:13] not in everything_shown(error.value)


@pytest.mark.parametrize("echo", KINDS)
def test_application_token_during_the_exchange(application, requests_mock, everything_shown, echo):
    requests_mock.post(OAUTH, json={"access_token": ISSUED, "expires_in": 604_800})
    requests_mock.post(EXCHANGE, [echoes(ISSUED)[echo]])
    with pytest.raises(TallyfyError) as error:
        application(user_email="ada@example.com").get_run("r1")
    assert ISSUED[:12] not in everything_shown(error.value)


@pytest.mark.parametrize("secret", [ISSUED, PERSONS, SECRET])
@pytest.mark.parametrize("echo", KINDS)
def test_all_secrets_with_user_email(application, requests_mock, everything_shown, echo, secret):
    requests_mock.post(OAUTH, json={"access_token": ISSUED, "expires_in": 604_800})
    requests_mock.post(EXCHANGE, json={"access_token": PERSONS, "expires_in": 7_776_000})
    requests_mock.get(RUN, [echoes(secret)[echo]])
    with pytest.raises(TallyfyError) as error:
        application(user_email="ada@example.com").get_run("r1")
    assert secret[:12] not in everything_shown(error.value)


@pytest.mark.parametrize("echo", KINDS)
def test_renewed_token(application, requests_mock, everything_shown, echo):
    responses = [{"json": {"access_token": token, "expires_in": 604_800}} for token in (ISSUED, PERSONS)]
    requests_mock.post(OAUTH, responses)
    requests_mock.get(RUN, [{"status_code": 401}, echoes(ISSUED)[echo]])
    with pytest.raises(TallyfyError) as error:
        application().get_run("r1")
    assert ISSUED[:12] not in everything_shown(error.value)


def test_invalid_token_is_not_shown(application, requests_mock, everything_shown):
    requests_mock.post(OAUTH, json={"access_token": f"{ISSUED}\r\nX-Evil: 1", "expires_in": 604_800})
    requests_mock.get(RUN, json={"data": {"id": "r1"}})
    with pytest.raises(TallyfyError) as error:
        application().get_run("r1")
    assert ISSUED not in everything_shown(error.value)
    assert "X-Evil" not in str(error.value)


def test_every_secret_is_masked(application, connect, requests_mock, monkeypatch):
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


def test_successful_request_logs_no_token(hook, requests_mock, log):
    requests_mock.get(RUN, json={"data": {"id": "r1"}})
    hook.get_run("r1")
    assert TOKEN not in log.text
