"""Reads that go on for hours: through 429s and outages, within the budget, and only in one organization."""

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
from airflow_provider_tallyfy.export.client import MAX_OUTAGE, PatientClient
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

URL = "https://tallyfy.test/api/organizations/acme/runs"


class MovedTime:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


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
        client = PatientClient(
            TallyfyHook(), lambda *line: lines.append(line[0] % line[1:]), clock=clock, **arguments
        )
        return SimpleNamespace(client=client, clock=clock, lines=lines, read=lambda: client.fetch(read))

    return made


def read(hook):
    return hook.request("GET", "runs")


def test_retry_after_is_heeded_however_long_it_is(made, requests_mock):
    requests_mock.get(URL, [{"status_code": 429, "headers": {"Retry-After": "1800"}}, {"json": {"data": []}}])
    patient = made()
    assert patient.read() == {"data": []}
    assert patient.clock.now - 1000 == 1800
    assert patient.client.requests == 2
    assert "retrying in 1800 s" in patient.lines[0]


def test_an_outage_is_waited_out_for_an_hour(made, requests_mock):
    requests_mock.get(URL, exc=requests.ConnectionError)
    patient = made()
    with pytest.raises(TallyfyConnectionError):
        patient.read()
    assert MAX_OUTAGE - 300 < patient.clock.now - 1000 <= MAX_OUTAGE
    assert len(patient.lines) < 25


def test_a_refusal_is_final(made, requests_mock):
    requests_mock.get(URL, status_code=403, json={"message": "Light members may not."})
    patient = made()
    with pytest.raises(TallyfyPermissionError):
        patient.read()
    assert patient.clock.now == 1000


def test_a_token_that_was_rotated_is_taken_up(made, connect, requests_mock):
    requests_mock.get(URL, status_code=401, json={"message": "Expired."})
    requests_mock.get(URL, json={"data": []}, request_headers={"Authorization": "Bearer new"})
    patient = made()
    connect(password="new")
    assert patient.read() == {"data": []}


def test_a_connection_that_leads_elsewhere_meanwhile_is_not_read_from(made, connect, requests_mock):
    requests_mock.get(URL, [{"json": {"data": []}}, {"status_code": 401, "json": {"message": "Expired."}}])
    patient = made()
    patient.read()
    connect(organization="other")
    with pytest.raises(Exception, match="other"):
        patient.read()


def test_requests_are_spread_over_the_hour(made, requests_mock):
    requests_mock.get(URL, json={"data": []})
    patient = made(requests_per_hour=60)
    for _ in range(72):
        patient.read()
    # A burst of 12, and 60 more at 45 an hour.
    assert patient.clock.now - 1000 == pytest.approx(60 * 80, abs=100)


def test_what_tallyfy_says_is_left_is_heeded(made, requests_mock):
    requests_mock.get(URL, json={"data": []}, headers={"X-RateLimit-Remaining": "3"})
    patient = made()
    for _ in range(4):
        patient.read()
    assert patient.clock.now - 1000 >= 18


def test_it_says_that_it_is_still_there_while_it_waits(made, requests_mock):
    requests_mock.get(URL, [{"status_code": 503}] * 5 + [{"json": {"data": []}}])
    ticks = []
    made(idle=lambda: ticks.append(1)).read()
    assert len(ticks) >= 5


def test_an_outage_ends_with_the_first_response(made, requests_mock):
    requests_mock.get(URL, ([{"status_code": 503}] * 12 + [{"json": {"data": []}}]) * 3)
    patient = made()
    for _ in range(3):
        patient.read()
    assert patient.clock.now - 1000 > MAX_OUTAGE
    requests_mock.get(URL, status_code=503)
    with pytest.raises(TallyfyServerError):
        patient.read()
