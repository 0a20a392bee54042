"""Reads of an export: retried through 429s and outages, within the budget, and only in one organization."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import requests

from airflow_provider_tallyfy.exceptions import (
    TallyfyConnectionError,
    TallyfyPermissionError,
    TallyfyServerError,
)
from airflow_provider_tallyfy.export.client import MAX_OUTAGE, RetryingClient
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from tests.support.moved_time import MovedTime

URL = "https://tallyfy.test/api/organizations/acme/runs"


@pytest.fixture
def connect(monkeypatch):
    def connect(organization="acme", password="a-token", **extra):  # noqa: S107
        described = {
            "conn_type": "tallyfy",
            "host": "https://tallyfy.test/api",
            "login": organization,
            "password": password,
            "extra": {"requests_per_hour": 0, **extra},
        }
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(described))

    connect()
    return connect


@pytest.fixture
def made(connect):
    """A client, its clock, and the lines that it logged."""

    def made(**arguments):
        clock, lines = MovedTime(), []
        client = RetryingClient(
            TallyfyHook(), lambda *line: lines.append(line[0] % line[1:]), clock=clock, **arguments
        )
        return SimpleNamespace(client=client, clock=clock, lines=lines, read=lambda: client.fetch(read))

    return made


def read(hook):
    return hook.request("GET", "runs")


def test_heeds_a_long_retry_after(made, requests_mock):
    requests_mock.get(URL, [{"status_code": 429, "headers": {"Retry-After": "1800"}}, {"json": {"data": []}}])
    reader = made()
    assert reader.read() == {"data": []}
    assert reader.clock.now - 1000 == 1800
    assert reader.client.requests == 2
    assert "retrying in 1800 s" in reader.lines[0]


def test_retries_through_an_outage_for_an_hour(made, requests_mock):
    requests_mock.get(URL, exc=requests.ConnectionError)
    reader = made()
    with pytest.raises(TallyfyConnectionError):
        reader.read()
    assert MAX_OUTAGE - 300 < reader.clock.now - 1000 <= MAX_OUTAGE
    assert len(reader.lines) < 25


def test_raises_a_refusal_at_once(made, requests_mock):
    requests_mock.get(URL, status_code=403, json={"message": "Light members may not."})
    reader = made()
    with pytest.raises(TallyfyPermissionError):
        reader.read()
    assert reader.clock.now == 1000


def test_uses_a_rotated_token(made, connect, requests_mock):
    requests_mock.get(URL, status_code=401, json={"message": "Expired."})
    requests_mock.get(URL, json={"data": []}, request_headers={"Authorization": "Bearer new"})
    reader = made()
    connect(password="new")
    assert reader.read() == {"data": []}


def test_raises_if_the_connection_leads_to_another_organization(made, connect, requests_mock):
    requests_mock.get(URL, [{"json": {"data": []}}, {"status_code": 401, "json": {"message": "Expired."}}])
    reader = made()
    reader.read()
    connect(organization="other")
    with pytest.raises(Exception, match="other"):
        reader.read()


def test_spreads_requests_over_the_hour(made, requests_mock):
    requests_mock.get(URL, json={"data": []})
    reader = made(requests_per_hour=60)
    for _ in range(72):
        reader.read()
    # A burst of 12, and 60 more at 45 an hour.
    assert reader.clock.now - 1000 == pytest.approx(60 * 80, abs=100)


def test_heeds_x_ratelimit_remaining(made, requests_mock):
    requests_mock.get(URL, json={"data": []}, headers={"X-RateLimit-Remaining": "3"})
    reader = made()
    for _ in range(4):
        reader.read()
    assert reader.clock.now - 1000 >= 18


def test_calls_idle_while_it_waits(made, requests_mock):
    requests_mock.get(URL, [{"status_code": 503}] * 5 + [{"json": {"data": []}}])
    ticks = []
    made(idle=lambda: ticks.append(1)).read()
    assert len(ticks) >= 5


def test_response_ends_an_outage(made, requests_mock):
    requests_mock.get(URL, ([{"status_code": 503}] * 12 + [{"json": {"data": []}}]) * 3)
    reader = made()
    for _ in range(3):
        reader.read()
    assert reader.clock.now - 1000 > MAX_OUTAGE
    requests_mock.get(URL, status_code=503)
    with pytest.raises(TallyfyServerError):
        reader.read()
