from __future__ import annotations

import json

import pytest
from requests.structures import CaseInsensitiveDict

from airflow_provider_tallyfy.protocol.errors import ErrorKind, read_error


def said(body, status=422):
    return read_error(status, {}, json.dumps(body).encode()).message


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ErrorKind.REDIRECT),
        (304, ErrorKind.REDIRECT),
        (308, ErrorKind.REDIRECT),
        (400, ErrorKind.VALIDATION),
        (401, ErrorKind.AUTHENTICATION),
        (402, ErrorKind.OTHER),
        (403, ErrorKind.PERMISSION),
        (404, ErrorKind.NOT_FOUND),
        (405, ErrorKind.OTHER),
        (409, ErrorKind.VALIDATION),
        (410, ErrorKind.NOT_FOUND),
        (413, ErrorKind.OTHER),
        (422, ErrorKind.VALIDATION),
        (429, ErrorKind.RATE_LIMIT),
        (500, ErrorKind.SERVER),
        (502, ErrorKind.SERVER),
        (503, ErrorKind.SERVER),
        (504, ErrorKind.SERVER),
        (507, ErrorKind.SERVER),
        (599, ErrorKind.SERVER),
    ],
)
def test_kind_follows_from_the_status(status, kind):
    failure = read_error(status, {}, b'{"message": "200 OK"}')
    assert (failure.kind, failure.status) == (kind, status)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"message": "No."}, "No."),
        ({"error": True, "message": "No.", "code": "NO"}, "No."),
        ({"message": "  Two\n lines "}, "  Two\n lines "),
        (
            {"error": "invalid_client", "error_description": "Client authentication failed"},
            "Client authentication failed",
        ),
        ({"error": "invalid_client"}, "invalid_client"),
        (
            {
                "error": "invalid_client",
                "error_description": "Failed",
                "message": "Client authentication failed",
            },
            "Client authentication failed",
        ),
        (
            {
                "message": "The given data was invalid.",
                "errors": {"name": ["Too long.", "Too dull."], "users": "None"},
            },
            "The given data was invalid. (name: Too long. Too dull.; users: None)",
        ),
        ({"errors": {"name": ["Too long."]}}, "name: Too long."),
        (
            {"errors": {"name": ["Too long.", {"rule": "max"}, ["x"], 7, None]}},
            "name: Too long. rule: max x 7",
        ),
        (
            {"message": "No.", "errors": {"name": {"rule": None}, "tags": ["Unknown."]}},
            "No. (name: rule; tags: Unknown.)",
        ),
        ({"message": "No.", "errors": {"name": []}}, "No. (name)"),
        ({"errors": ["No.", "Never."]}, "No. Never."),
        (
            {"errors": {"prerun": [{"f1": ["Too long."]}, {"f2": ["Unknown."]}]}},
            "prerun: f1: Too long. f2: Unknown.",
        ),
        (
            {
                "error": {
                    "code": "SEAT_POOL_EXHAUSTED",
                    "message": "No seats are left.",
                    "details": {"users": ["Too many."]},
                }
            },
            "No seats are left. (users: Too many.)",
        ),
        ({"error": {"code": "GONE", "message": "No.", "details": None}}, "No."),
        ({"error": {"code": "GONE", "details": []}}, "GONE"),
        ({"error": True, "code": "GONE"}, "GONE"),
        ({"message": {"message": "No."}}, "No."),
        ({"message": {"name": ["Too long."]}}, "name: Too long."),
        ({"message": ["No."]}, "No."),
        ({"message": {}, "error": [], "errors": [{}]}, None),
        ({"message": "No.", "errors": []}, "No."),
        ({"message": "No.", "errors": {}}, "No."),
        ({"message": "", "error": "Not at all."}, "Not at all."),
        ({"message": ""}, None),
        ({"message": None, "error": True}, None),
        ({"message": 12}, None),
        ({}, None),
        ([], None),
        ("No.", "No."),
        (["No.", "Never."], "No. Never."),
        ([{"message": "No."}], "message: No."),
        ({"name": ["Too long."], "users": ["Unknown.", "Twice."]}, "name: Too long.; users: Unknown. Twice."),
        ({"data": {"id": "r1", "name": "Onboard Ada"}}, None),
        ({"detail": "Not authenticated."}, "Not authenticated."),
        ({"errors": "No."}, "No."),
        (
            {
                "errors": [
                    {"field": "name", "message": "Too long."},
                    {"field": "tags", "message": ["A.", "B."]},
                ]
            },
            "name: Too long. tags: A. B.",
        ),
        ({"error": {"code": "SEATS", "message": "Full.", "details": {"limit": 5}}}, "Full. (limit: 5)"),
        ({"error": {"message": {"prerun": [{"f1": ["Too long."]}]}}}, "prerun: f1: Too long."),
        ({"error": {"errors": {"name": ["Too long."]}}}, "name: Too long."),
        ({"error": ["No."]}, "No."),
        ({"error": True, "code": 404}, None),
        (None, None),
    ],
)
def test_message(body, message):
    assert said(body) == message


def test_too_deeply_nested_body_has_no_message():
    failure = read_error(422, {}, b'{"errors": ' + b"[" * 900 + b'"No."' + b"]" * 900 + b"}")
    assert (failure.status, failure.message) in [(422, "No."), (422, None)]


def test_long_message_is_not_cut():
    """It is cut only after secrets were taken out of it, or half of one would stay."""
    assert said({"message": "x" * 10_000}) == "x" * 10_000
    assert said({"errors": {"name": ["x" * 10_000]}}) == "name: " + "x" * 10_000


@pytest.mark.parametrize(
    "content",
    [
        b"<html><h1>502 Bad Gateway</h1></html>",
        b"\n<!doctype html>",
        b"\xff\xfe",
        b'{"message": "cu',
        b'["cu',
        b"",
    ],
)
def test_page_of_a_proxy_has_no_message_and_is_not_from_tallyfy(content):
    failure = read_error(502, {}, content)
    assert (failure.message, failure.is_from_tallyfy) == (None, False)


@pytest.mark.parametrize("content", [b"upstream timed out\n", b'"upstream timed out"'])
def test_plain_text_is_a_message_but_not_from_tallyfy(content):
    failure = read_error(502, {}, content)
    assert (failure.message, failure.is_from_tallyfy) == ("upstream timed out", False)


def test_json_error_is_from_tallyfy():
    for body in (b'{"message": "Not found."}', b'{"message": ""}', b'{"name": ["Too long."]}'):
        assert read_error(404, {}, body).is_from_tallyfy


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"  \n",
        b"[]",
        b"null",
        b"{}",
        b'{"Message": "User is not authorized to access this resource"}',
        b'{"fault": {"faultstring": "Invalid ApiKey"}}',
        b'{"data": {"id": "r1"}}',
    ],
)
def test_other_json_is_not_from_tallyfy(content):
    failure = read_error(404, {}, content)
    assert (failure.message, failure.is_from_tallyfy) == (None, False)


@pytest.mark.parametrize("words", ["Forbidden", "Unauthorized", "Missing Authentication Token"])
def test_gateway_message_is_from_tallyfy_only_with_its_version_header(words):
    body = json.dumps({"message": words}).encode()
    assert not read_error(403, {}, body).is_from_tallyfy
    assert read_error(403, CaseInsensitiveDict({"x-tallyfy-version": "1.2"}), body).is_from_tallyfy
    assert read_error(403, {}, json.dumps({"error": True, "message": words}).encode()).is_from_tallyfy


def test_request_id():
    assert read_error(500, {"X-Request-Id": "r-1"}, b"").request_id == "r-1"
    assert read_error(500, {}, b"").request_id is None
