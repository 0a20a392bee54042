from __future__ import annotations

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_tallyfy import exceptions

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
PATH = "/organizations/acme/runs/r1"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (400, exceptions.TallyfyValidationError, "correct what was sent"),
        (401, exceptions.TallyfyAuthError, "Check the credentials of connection 'tallyfy_default'"),
        (402, exceptions.TallyfyError, "check what was sent"),
        (403, exceptions.TallyfyPermissionError, "may not do this, or is not a member of the organization"),
        (404, exceptions.TallyfyNotFoundError, "check the id, and the connection's organization and host"),
        (409, exceptions.TallyfyValidationError, "correct what was sent"),
        (410, exceptions.TallyfyNotFoundError, "check the id"),
        (413, exceptions.TallyfyError, "check what was sent"),
        (418, exceptions.TallyfyError, "check what was sent"),
        (422, exceptions.TallyfyValidationError, "Nothing was changed; correct what was sent"),
        (429, exceptions.TallyfyRateLimitError, "send fewer requests"),
    ],
)
def test_error_has_request_response_and_advice(hook, requests_mock, method, status, kind, advice):
    body = {"message": "It is so.", "errors": {"name": ["Too long."]}}
    requests_mock.request(method, RUN, status_code=status, json=body, headers={"X-Request-Id": "q-1"})
    with pytest.raises(exceptions.TallyfyError) as error:
        hook.request(method, "runs/r1", params={"q": "not in the text"})
    assert type(error.value) is kind
    said = f"{method} {PATH} returned {status}: It is so. (name: Too long.) (request id q-1). "
    assert str(error.value).startswith(said)
    assert advice in str(error.value).removeprefix(said)
    assert error.value.status == status
    assert error.value.tallyfy_message == "It is so. (name: Too long.)"
    assert error.value.request_id == "q-1"
    assert error.value.is_from_tallyfy
    assert requests_mock.call_count == (5 if status == 429 else 1)


def test_server_error(hook, requests_mock):
    requests_mock.get(RUN, status_code=502, text="<html>Bad gateway</html>", headers={"X-Request-Id": "q-1"})
    with pytest.raises(exceptions.TallyfyServerError) as error:
        hook.get_run("r1")
    assert str(error.value) == (
        f"GET {PATH} returned 502 (request id q-1). Nothing was changed; try again later."
    )
    assert (error.value.tallyfy_message, error.value.is_from_tallyfy) == (None, False)


@pytest.mark.parametrize("content", ["<html>Blocked by policy</html>", "Blocked by policy", ""])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429])
def test_error_of_a_firewall_says_so(hook, requests_mock, status, content):
    requests_mock.get(RUN, status_code=status, text=content)
    with pytest.raises(exceptions.TallyfyError, match="not Tallyfy's, so a proxy or a firewall") as error:
        hook.get_run("r1")
    assert "host of connection 'tallyfy_default'" in str(error.value)
    assert (": Blocked by policy. " in str(error.value)) is (content == "Blocked by policy")
    assert (error.value.tallyfy_message, error.value.is_from_tallyfy) == (None, False)


@pytest.mark.parametrize("message", ["API endpoint not found", "Endpoint not found."])
def test_unknown_endpoint_is_about_the_host(hook, requests_mock, message):
    requests_mock.get(RUN, status_code=404, json={"message": message})
    with pytest.raises(exceptions.TallyfyNotFoundError) as error:
        hook.get_run("r1")
    assert "the path in the host of connection 'tallyfy_default'" in str(error.value)
    assert "does not exist" not in str(error.value)


def test_no_response(hook, requests_mock):
    requests_mock.get(RUN, exc=requests.ReadTimeout("Read timed out."))
    with pytest.raises(exceptions.TallyfyConnectionError) as error:
        hook.get_run("r1")
    said = str(error.value)
    assert said.startswith(f"GET {PATH} got no response: ReadTimeout: Read timed out.")
    assert (
        "Check the host and the extra 'verify' of connection 'tallyfy_default', the network, and any proxy."
        in said
    )
    assert (error.value.status, error.value.tallyfy_message, error.value.request_id) == (None, None, None)


@pytest.mark.parametrize(
    ("method", "kind", "advice"),
    [
        (
            "GET",
            exceptions.TallyfyResponseError,
            "Check that the host of connection 'tallyfy_default' is Tallyfy's API",
        ),
        ("POST", exceptions.TallyfyIndeterminateError, "It may have been applied: check in Tallyfy"),
    ],
)
def test_malformed_response(hook, requests_mock, pauses, method, kind, advice):
    for text, what in {"<html>Log in</html>": "a page of HTML or XML", "Log in": "not JSON"}.items():
        requests_mock.request(method, RUN, text=text, headers={"X-Request-Id": "q-1"})
        with pytest.raises(exceptions.TallyfyError) as error:
            hook.request(method, "runs/r1")
        assert type(error.value) is kind
        said = str(error.value)
        assert said.startswith(
            f"{method} {PATH} returned 200 (request id q-1), but the response cannot be read: the body is {what}"
        )
        assert (error.value.status, error.value.request_id) == (200, "q-1")
        assert advice in said
    assert pauses == []


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("text", ["<html>nobody's business", "nobody's business", '{"a": nobody\'s business'])
def test_malformed_body_is_not_shown(hook, requests_mock, everything_shown, method, text):
    requests_mock.request(method, RUN, text=text)
    with pytest.raises(exceptions.TallyfyError, match="cannot be read") as error:
        hook.request(method, "runs/r1")
    assert "business" not in everything_shown(error.value)
    assert error.value.__context__ is None  # the parser's error has the whole body


def test_messages_are_cut(hook, requests_mock):
    body = {"message": "x" * 100_000}
    requests_mock.get(RUN, status_code=422, json=body, headers={"X-Request-Id": "q" * 100_000})
    with pytest.raises(exceptions.TallyfyValidationError) as error:
        hook.get_run("r1")
    assert error.value.tallyfy_message == "x" * 500
    assert error.value.request_id == "q" * 100
    assert len(str(error.value)) < 1000


def test_message_is_one_line_before_it_is_cut(hook, requests_mock):
    requests_mock.get(RUN, status_code=422, json={"message": " \r\nToo\u2028 \x00\tlong." * 1000})
    with pytest.raises(exceptions.TallyfyValidationError) as error:
        hook.get_run("r1")
    expected = ("Too long. " * 1000)[:500]
    assert error.value.tallyfy_message == expected
    assert f"returned 422: {expected}. " in str(error.value)


def test_logged_message_is_one_short_line(hook, requests_mock, log):
    message = "Maintenance.\n" + "x" * 10_000
    requests_mock.get(
        RUN, [{"status_code": 503, "json": {"message": message}}, {"json": {"data": {"id": "r1"}}}]
    )
    hook.get_run("r1")
    [line] = [record.getMessage() for record in log.records if record.name == "hook-under-test"]
    assert f": Maintenance. {'x' * 487}; retrying" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "response",
    [
        {"status_code": 422, "json": {"message": "No.\n2026-01-01 ERROR forged"}},
        {"status_code": 422, "headers": {"X-Request-Id": "q-1\n2026-01-01 ERROR forged"}},
        {"text": "<html>\n2026-01-01 ERROR forged"},
        {"exc": requests.ConnectionError("BadStatusLine: x\r\n2026-01-01 ERROR forged\n")},
    ],
)
def test_line_breaks_are_removed(connect, requests_mock, response):
    requests_mock.get(RUN, [response])
    with pytest.raises(exceptions.TallyfyError) as error:
        connect(retries=0).get_run("r1")
    assert "\n" not in str(error.value)


def test_every_error_is_an_airflow_exception():
    kinds = [
        kind
        for kind in vars(exceptions).values()
        if isinstance(kind, type) and kind.__module__ == exceptions.__name__
    ]
    assert len(kinds) == 11
    for kind in kinds:
        assert issubclass(kind, exceptions.TallyfyError)
        assert issubclass(kind, AirflowException)
        assert str(kind("No.", status=422)) == "No."


def test_invalid_argument_is_a_value_error_and_nothing_is_sent(hook, requests_mock):
    for use in (
        lambda: hook.get_run("../other"),
        lambda: hook.get_run("r1", with_=[1]),
        lambda: hook.get_tasks("a/b"),
        lambda: hook.get_task("r1", "%2e%2e"),
        lambda: hook.get_task("", "t1"),
        lambda: hook.get_next_task(-1),
        lambda: hook.get_checklist(".."),
        lambda: hook.get_threads(None),
        lambda: hook.launch_run(None),
        lambda: hook.update_task("r1", "a b"),
        lambda: hook.complete_task("r1", -7),
        lambda: hook.request("HEAD", "runs"),
        lambda: hook.request("GET", "runs?q=a"),
        lambda: hook.request("GET", "https://other.test/"),
        lambda: hook.paginate("../me"),
        lambda: hook.run_url("r1\n"),
    ):
        with pytest.raises(ValueError, match="must be"):
            use()
    assert requests_mock.call_count == 0
