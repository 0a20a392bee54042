"""When a connection is read again, and when its session stays in use."""

from __future__ import annotations

import json
from unittest.mock import Mock

import pytest

from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.waiting.polls import FetchRun, PollError, ReloadingHook

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
OAUTH = "https://account.tallyfy.com/oauth/token"
FOUND = {"json": {"data": {"id": "r1"}}}


@pytest.fixture
def connect(monkeypatch):
    def connect(host="https://tallyfy.test/api", **extra):
        described = {
            "conn_type": "tallyfy",
            "host": host,
            "login": "acme",
            "extra": {"client_id": "c", "client_secret": "s", "token_url": OAUTH, **extra},
        }
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(described))

    connect()
    return connect


@pytest.fixture
def issued(requests_mock):
    return requests_mock.post(OAUTH, json={"access_token": "token", "expires_in": 3600})


def failures(hook, number):
    return [isinstance(hook.fetch(FetchRun("r1", ("next_task",))), PollError) for _ in range(number)]


@pytest.mark.usefixtures("connect")
def test_an_outage_requests_no_new_token(issued, requests_mock):
    requests_mock.get(RUN, [*[{"status_code": 500}] * 5, FOUND])
    assert failures(ReloadingHook("tallyfy_default"), 6) == [True] * 5 + [False]
    assert issued.call_count == 1


@pytest.mark.usefixtures("connect")
def test_nor_does_an_outage_of_the_secrets_backend(issued, requests_mock, monkeypatch):
    requests_mock.get(RUN, [{"status_code": 500}, FOUND])
    hook = ReloadingHook("tallyfy_default")
    assert failures(hook, 1) == [True]
    with monkeypatch.context() as outage:
        outage.setattr(TallyfyHook, "get_connection", Mock(side_effect=OSError("down")))
        assert failures(hook, 2) == [True] * 2
    assert failures(hook, 1) == [False]
    assert issued.call_count == 1


def test_a_changed_connection_is_used(connect, issued, requests_mock):
    requests_mock.get(RUN, [{"status_code": 500}, FOUND])
    hook = ReloadingHook("tallyfy_default")
    assert failures(hook, 1) == [True]
    connect(client_secret="another")
    assert failures(hook, 1) == [False]
    assert issued.call_count == 2
    assert "client_secret=another" in issued.last_request.text


@pytest.mark.usefixtures("connect")
def test_a_refused_token_is_not_used_again(issued, requests_mock):
    requests_mock.get(RUN, [{"status_code": 401, "json": {"message": "Unauthenticated"}}] * 4 + [FOUND])
    hook = ReloadingHook("tallyfy_default")
    assert failures(hook, 2) == [True, False]
    # Each fetch renews the token once by itself, and the connection is read again after that.
    assert issued.call_count == 5


@pytest.mark.usefixtures("connect", "issued")
@pytest.mark.parametrize(
    "target", [("https://tallyfy.test/api", "other"), ("https://staging.tallyfy.test/api", "acme")]
)
def test_another_api_or_organization_is_not_polled(requests_mock, target):
    """In an Airflow of many teams, a triggerer may have another connection of the same id than the worker had."""
    run = requests_mock.get(RUN, **FOUND)
    answer = ReloadingHook("tallyfy_default").fetch(FetchRun("r1", ("next_task",)), target)
    assert "but the run is of organization" in str(answer.error)
    assert answer.is_denial
    assert not answer.affects_all
    assert run.call_count == 0


@pytest.mark.usefixtures("connect", "issued")
def test_the_same_api_and_organization_are_polled(requests_mock):
    requests_mock.get(RUN, **FOUND)
    response = ReloadingHook("tallyfy_default").fetch(
        FetchRun("r1", ("next_task",)), ("https://tallyfy.test/api", "acme")
    )
    assert response.run["id"] == "r1"


def test_tallyfys_own_api_has_two_urls(connect, issued, requests_mock):
    connect(host=None)
    requests_mock.get("https://go.tallyfy.com/api/organizations/acme/runs/r1", **FOUND)
    response = ReloadingHook("tallyfy_default").fetch(
        FetchRun("r1", ("next_task",)), ("https://api.tallyfy.com", "acme")
    )
    assert response.run["id"] == "r1"


@pytest.mark.usefixtures("connect", "issued")
@pytest.mark.parametrize(
    ("said", "remaining"), [("12", 12), ("9" * 9, 999_999_999), ("9" * 5000, None), ("²", None), ("-1", None)]
)
def test_rate_limit_remaining(requests_mock, said, remaining):
    requests_mock.get(RUN, **FOUND, headers={"X-RateLimit-Remaining": said})
    hook = ReloadingHook("tallyfy_default")
    assert failures(hook, 1) == [False]
    assert hook.rate_limit_remaining == remaining
