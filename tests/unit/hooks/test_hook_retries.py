from __future__ import annotations

import io
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from airflow_provider_tallyfy.exceptions import (
    TallyfyConfigurationError,
    TallyfyConnectionError,
    TallyfyError,
    TallyfyIndeterminateError,
    TallyfyRateLimitError,
    TallyfyServerError,
    TallyfyValidationError,
)
from airflow_provider_tallyfy.hooks import transport

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
GOOD = {"json": {"data": {"id": "r1"}}}
WRITES = ["POST", "PUT", "PATCH", "DELETE"]


def wrapped(reason):
    """What requests makes of an error of urllib3."""
    return requests.ConnectionError(MaxRetryError(None, "/api", reason=reason))


def refused_certificate():
    reason = SSLError(ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate"))
    return requests.exceptions.SSLError(MaxRetryError(None, "/api", reason=reason))


# Nothing of the request reached Tallyfy.
NOT_SENT = [
    requests.ConnectTimeout("timed out"),
    requests.ConnectTimeout(MaxRetryError(None, "/api", reason=ConnectTimeoutError("timed out"))),
    wrapped(NewConnectionError(None, "[Errno 111] Connection refused")),
    requests.exceptions.ProxyError(MaxRetryError(None, "/api", reason=NewConnectionError(None, "refused"))),
]
# It may have.
SENT_PERHAPS = [
    requests.ReadTimeout("timed out"),
    wrapped(ReadTimeoutError(None, "/api", "timed out")),
    requests.ConnectionError(
        ProtocolError("Connection aborted.", ConnectionResetError(104, "reset by peer"))
    ),
    requests.ConnectionError(ProtocolError("Connection aborted.", BrokenPipeError(32, "broken pipe"))),
    requests.ConnectionError("closed without a response"),
    requests.exceptions.ChunkedEncodingError("incomplete"),
    requests.exceptions.SSLError("unexpected end"),
    ConnectionResetError(104, "reset by peer"),
    TimeoutError("timed out"),
    ProtocolError("incomplete"),
]


def named(errors):
    return [pytest.param(error, id=f"{number}-{type(error).__name__}") for number, error in enumerate(errors)]


def assert_growing(pauses):
    """Each pause is about twice the one before; up to a second each is drawn at random."""
    assert len(pauses) == 4
    for pause, least in zip(pauses, [0, 2, 4, 8], strict=True):
        assert least <= pause <= least + 1


class TestReads:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 507, 599])
    def test_retries_after_status(self, hook, requests_mock, pauses, status):
        requests_mock.get(RUN, [{"status_code": status}] * 4 + [GOOD])
        assert hook.get_run("r1")["id"] == "r1"
        assert requests_mock.call_count == 5
        assert_growing(pauses)

    @pytest.mark.parametrize("error", named(NOT_SENT + SENT_PERHAPS))
    def test_retries_after_broken_connection(self, hook, requests_mock, pauses, error):
        requests_mock.get(RUN, [{"exc": error}] * 4 + [GOOD])
        assert hook.get_run("r1")["id"] == "r1"
        assert_growing(pauses)

    @pytest.mark.parametrize(
        ("trouble", "error"),
        [
            ({"status_code": 429}, TallyfyRateLimitError),
            ({"status_code": 503}, TallyfyServerError),
            ({"exc": requests.ReadTimeout("timed out")}, TallyfyConnectionError),
        ],
    )
    def test_fails_after_the_last_retry(self, connect, requests_mock, pauses, trouble, error):
        requests_mock.get(RUN, [trouble])
        for retries in (4, 1, 0):
            requests_mock.reset_mock()
            pauses.clear()
            with pytest.raises(error):
                connect(retries=retries).get_run("r1")
            assert (requests_mock.call_count, len(pauses)) == (retries + 1, retries)

    @pytest.mark.parametrize("status", [408, 421, 425])
    def test_failed_attempt_below_500_is_not_retried(self, hook, requests_mock, status):
        requests_mock.get(RUN, status_code=status)
        with pytest.raises(TallyfyServerError):
            hook.get_run("r1")
        assert requests_mock.call_count == 1

    def test_negative_retries_are_refused(self, connect):
        with pytest.raises(ValueError, match="retries"):
            connect(retries=-1).get_run("r1")

    def test_each_retry_is_logged(self, hook, requests_mock, log):
        troubles = [
            {"status_code": 503, "json": {"message": "Maintenance."}, "headers": {"X-Request-Id": "q-1"}},
            {"exc": requests.ReadTimeout("read timed out")},
        ]
        requests_mock.get(RUN, [*troubles, GOOD])
        hook.get_run("r1")
        first, second = [r.getMessage() for r in log.records if r.name == "hook-under-test"]
        answered = "GET /organizations/acme/runs/r1 returned 503: Maintenance. (request id q-1)"
        assert first.startswith(f"{answered}; retrying in ")
        assert second.startswith(
            "GET /organizations/acme/runs/r1 got no response: ReadTimeout: read timed out; retrying"
        )


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("given", "seconds"),
        [
            ("7", 7),
            ("0", 0),
            (" 30 ", 30),
            ("1.5", 1.5),
            ("0.25", 0.25),
            ("7, 8", 8),
            ("60,30", 60),
            ("30, 60.5", 60.5),
        ],
    )
    @pytest.mark.parametrize("status", [429, 503])
    def test_in_seconds(self, hook, requests_mock, pauses, status, given, seconds):
        requests_mock.get(RUN, [{"status_code": status, "headers": {"Retry-After": given}}, GOOD])
        hook.get_run("r1")
        assert len(pauses) == 1
        assert seconds <= pauses[0] <= seconds + 1

    def test_date(self, hook, requests_mock, pauses):
        moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        requests_mock.get(RUN, [{"status_code": 429, "headers": {"Retry-After": moment}}, GOOD])
        hook.get_run("r1")
        assert 50 <= pauses[0] <= 62

    def test_past_date(self, hook, requests_mock, pauses):
        moment = "Wed, 21 Oct 2015 07:28:00 GMT"
        requests_mock.get(RUN, [{"status_code": 429, "headers": {"Retry-After": moment}}, GOOD])
        hook.get_run("r1")
        assert pauses[0] <= 1

    @pytest.mark.parametrize(
        "given",
        [
            "",
            "soon",
            "-5",
            "-1.5",
            "1.",
            ".5",
            "1e3",
            "nan",
            "inf",
            "7,",
            ",7",
            "7, soon",
            "7 s",
            "2026-01-01",
            "\u0667",
        ],
    )
    def test_malformed_value_is_ignored(self, hook, requests_mock, pauses, given):
        requests_mock.get(RUN, [{"status_code": 429, "headers": {"Retry-After": given}}, GOOD])
        hook.get_run("r1")
        assert pauses[0] <= 1

    @pytest.mark.parametrize(
        "given", ["121", "86400", "120.5", "7, 86400", "9" * 400, "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"]
    )
    def test_wait_is_at_most_two_minutes(self, hook, requests_mock, pauses, given):
        requests_mock.get(RUN, [{"status_code": 429, "headers": {"Retry-After": given}}, GOOD])
        hook.get_run("r1")
        assert pauses == [transport.MAX_RETRY_DELAY]
        assert transport.MAX_RETRY_DELAY == 120

    def test_error_has_retry_after(self, connect, requests_mock):
        requests_mock.get(RUN, status_code=429, headers={"Retry-After": "7"})
        with pytest.raises(TallyfyRateLimitError) as error:
            connect(retries=0).get_run("r1")
        assert error.value.retry_after == 7


@pytest.mark.parametrize("method", WRITES)
class TestWrites:
    def test_retries_after_429(self, hook, requests_mock, pauses, method):
        responses = [{"status_code": 429, "headers": {"Retry-After": "3"}}, {"status_code": 429}, GOOD]
        requests_mock.request(method, RUN, responses)
        assert hook.request(method, "runs/r1", json={"a": 1}) == GOOD["json"]
        assert [request.json() for request in requests_mock.request_history] == [{"a": 1}] * 3
        assert 3 <= pauses[0] <= 4

    def test_fails_after_the_last_429(self, hook, requests_mock, method):
        requests_mock.request(method, RUN, status_code=429)
        with pytest.raises(TallyfyRateLimitError, match="Nothing was changed"):
            hook.request(method, "runs/r1")
        assert requests_mock.call_count == 5

    @pytest.mark.parametrize("error", named(NOT_SENT))
    def test_retries_if_nothing_was_sent(self, hook, requests_mock, pauses, method, error):
        requests_mock.request(method, RUN, [{"exc": error}, GOOD])
        assert hook.request(method, "runs/r1") == GOOD["json"]
        assert len(pauses) == 1

    @pytest.mark.parametrize("error", named(NOT_SENT))
    def test_connection_error_if_nothing_was_ever_sent(self, hook, requests_mock, method, error):
        requests_mock.request(method, RUN, exc=error)
        with pytest.raises(TallyfyConnectionError):
            hook.request(method, "runs/r1")
        assert requests_mock.call_count == 5

    @pytest.mark.parametrize("error", named(SENT_PERHAPS))
    def test_indeterminate_if_it_may_have_been_sent(self, hook, requests_mock, pauses, method, error):
        requests_mock.request(method, RUN, exc=error)
        with pytest.raises(
            TallyfyIndeterminateError, match="may have been applied: check in Tallyfy"
        ) as error:
            hook.request(method, "runs/r1")
        assert str(error.value).startswith(f"{method} /organizations/acme/runs/r1 got no response: ")
        assert (requests_mock.call_count, pauses) == (1, [])

    @pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 507, 599])
    def test_server_error_is_indeterminate(self, hook, requests_mock, pauses, method, status):
        requests_mock.request(method, RUN, status_code=status, json={"message": "Oops."})
        with pytest.raises(
            TallyfyIndeterminateError, match="may have been applied: check in Tallyfy"
        ) as error:
            hook.request(method, "runs/r1")
        assert (error.value.status, error.value.tallyfy_message) == (status, "Oops.")
        assert (requests_mock.call_count, pauses) == (1, [])


class BrokenBody(io.BytesIO):
    """A body during which the connection breaks."""

    def read1(self, size=-1):
        raise ConnectionResetError(104, "reset by peer")


@pytest.mark.parametrize(
    "broken",
    [{"body": BrokenBody()}, {"content": b"plain", "headers": {"Content-Encoding": "gzip"}}],
    ids=["connection", "encoding"],
)
def test_error_counts_even_if_its_body_cannot_be_read(hook, requests_mock, broken):
    requests_mock.post(RUN, [{"status_code": 429, **broken}, {"status_code": 422, **broken}])
    with pytest.raises(TallyfyValidationError, match="returned 422"):
        hook.request("POST", "runs/r1")
    assert requests_mock.call_count == 2


@pytest.mark.parametrize("method", ["GET", *WRITES])
class TestPermanentErrors:
    """Another attempt can only fail in the same way, and nothing was sent."""

    def test_untrusted_certificate(self, hook, requests_mock, pauses, method):
        requests_mock.request(method, RUN, exc=refused_certificate())
        with pytest.raises(TallyfyConnectionError, match=r"certificate verify failed.*extra 'verify'"):
            hook.request(method, "runs/r1")
        assert (requests_mock.call_count, pauses) == (1, [])

    @pytest.mark.parametrize("kind", [requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader])
    def test_malformed_request(self, hook, requests_mock, pauses, method, kind):
        requests_mock.request(method, RUN, exc=kind("not shown"))
        with pytest.raises(TallyfyConnectionError, match="the request could not be made") as error:
            hook.request(method, "runs/r1")
        assert "not shown" not in str(error.value)
        assert (requests_mock.call_count, pauses) == (1, [])

    def test_invalid_host_name(self, connect, pauses, method):
        hook = connect({"allow_http": True}, host=f"http://{'a' * 70}.localhost/api")
        with pytest.raises(TallyfyError) as error:
            hook.request(method, "runs/r1")
        assert not isinstance(error.value, TallyfyIndeterminateError)
        assert pauses == []

    def test_missing_ca_bundle(self, connect, pauses, method):
        hook = connect({"verify": "/there/is/no/such.pem"}, host="https://127.0.0.1:9")
        with pytest.raises(
            TallyfyConfigurationError,
            match=r"extra 'verify' is neither true nor false, nor the path of a CA bundle",
        ):
            hook.request(method, "runs/r1")
        assert pauses == []

    @pytest.mark.parametrize(
        "value", [float("nan"), float("inf"), object(), {1, 2}, datetime(2026, 1, 1, tzinfo=UTC)]
    )
    def test_body_that_is_not_json(self, hook, requests_mock, pauses, method, value):
        requests_mock.request(method, RUN, **GOOD)
        with pytest.raises(ValueError, match="json"):
            hook.request(method, "runs/r1", json={"due": value})
        assert (requests_mock.call_count, pauses) == (0, [])
