"""The metrics of the requests of a hook."""

from __future__ import annotations

import pytest
import requests

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.hooks import transport

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
GOOD = {"json": {"data": {"id": "r1"}}}


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (GOOD, "ok"),
        ({"status_code": 400}, "invalid"),
        ({"status_code": 401}, "unauthorized"),
        ({"status_code": 403}, "forbidden"),
        ({"status_code": 404}, "not_found"),
        ({"status_code": 410}, "not_found"),
        ({"status_code": 415}, "invalid"),
        ({"status_code": 422}, "invalid"),
        ({"status_code": 302, "headers": {"Location": "https://elsewhere.test"}}, "unreadable"),
        ({"status_code": 429}, "rate_limited"),
        ({"status_code": 408}, "server_error"),
        ({"status_code": 503}, "server_error"),
        ({"text": "<html>"}, "unreadable"),
        ({"json": {"data": []}}, "unreadable"),
        ({"exc": requests.ReadTimeout("timed out")}, "unreachable"),
        ({"exc": requests.exceptions.InvalidHeader("half of a token")}, "unreachable"),
    ],
)
def test_request_is_counted_by_outcome(connect, requests_mock, recorded_metrics, response, outcome):
    requests_mock.get(RUN, **response)
    hook = connect(retries=0)
    if outcome == "ok":
        hook.get_run("r1")
    else:
        with pytest.raises(exceptions.TallyfyError):
            hook.get_run("r1")
    assert recorded_metrics.counts("tallyfy.requests") == {outcome: 1}


def test_too_large_response_is_counted(connect, requests_mock, recorded_metrics, monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_SIZE", 10)
    requests_mock.get(RUN, **GOOD)
    with pytest.raises(exceptions.TallyfyResponseError):
        connect(retries=0).get_run("r1")
    assert recorded_metrics.counts("tallyfy.requests") == {"unreadable": 1}


def test_each_attempt_is_counted(hook, requests_mock, recorded_metrics):
    requests_mock.get(
        RUN, [{"status_code": 503}, {"exc": requests.ConnectionError}, {"status_code": 429}, GOOD]
    )
    hook.get_run("r1")
    assert recorded_metrics.counts("tallyfy.requests") == {
        "server_error": 1,
        "unreachable": 1,
        "rate_limited": 1,
        "ok": 1,
    }


def test_indeterminate_write_is_counted(hook, requests_mock, recorded_metrics):
    requests_mock.post(RUN, status_code=502)
    with pytest.raises(exceptions.TallyfyIndeterminateError):
        hook.request("POST", "runs/r1")
    assert recorded_metrics.counts("tallyfy.requests") == {"server_error": 1}


def test_failing_metrics_do_not_fail_the_request(hook, requests_mock, recorded_metrics, monkeypatch):
    monkeypatch.setattr(recorded_metrics, "incr", None)
    requests_mock.get(RUN, **GOOD)
    assert hook.get_run("r1")["id"] == "r1"
