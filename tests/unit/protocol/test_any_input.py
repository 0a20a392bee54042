"""Any input: responses are read or refused, and no path leads elsewhere."""

from __future__ import annotations

import json
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_tallyfy.protocol import requests as api_requests
from airflow_provider_tallyfy.protocol import urls
from airflow_provider_tallyfy.protocol.errors import read_error
from airflow_provider_tallyfy.protocol.responses import (
    MalformedResponseError,
    is_id,
    read_body,
    read_item,
    read_page,
    read_run,
)

pytestmark = pytest.mark.usefixtures("untraced")

ROOT = "https://tallyfy.test/api"
PLACE = "/api/organizations/acme/"

IDS = st.sampled_from(["", "t1", "..", "a/b", "\n", "\ud800", 0, -1, 10**400, 1.5, True, None])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([10**400, "9" * 5000, "1", "2"])
)
NAMES = st.sampled_from(
    [
        "id",
        "data",
        "next_task",
        "meta",
        "pagination",
        "current_page",
        "total_pages",
        "links",
        "next",
        "message",
        "errors",
        "error",
        "error_description",
    ]
)
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=4)
        | st.builds(lambda value: {"data": value}, inner)
        | st.builds(lambda id_, value: {"id": id_, "title": value}, IDS, inner)
        | st.builds(
            lambda items, meta: {"data": items, "meta": {"pagination": meta}},
            st.lists(inner, max_size=2),
            inner,
        )
    ),
    max_leaves=12,
)
# What gets as far as a parser: quoting and dots, in every form that a server or a library might undo.
PARTS = [
    ".",
    "..",
    "/",
    "//",
    "\\",
    "%2e",
    "%2E%2e",
    "%2f",
    "%5c",
    "%25",
    "%",
    ";",
    "?",
    "#",
    "@",
    ":",
    "a",
    "é",
]
BLANKS = [" ", "\t", "\r", "\n", "\x00", "\u2028", "\uff0e\uff0e", "\ud800"]
PATH_TEXT = st.text(max_size=12) | st.lists(
    st.sampled_from(PARTS + BLANKS),
    max_size=6,
).map("".join)


@given(ANY_JSON)
@settings(max_examples=300)
def test_any_json_is_read_or_refused(value):
    for read in (read_item, read_run, lambda body: read_page(body, 1), lambda body: read_page(body, 2)):
        with suppress(MalformedResponseError):
            read(value)


@given(ANY_JSON)
@settings(deadline=None, max_examples=300)
def test_run_has_one_next_task_or_none(value):
    run = {"id": "r1", "next_task": value}
    try:
        read = read_run({"data": run})
    except MalformedResponseError:
        return
    assert read["next_task"] is None or is_id(read["next_task"]["id"])
    assert {**read, "next_task": value} == run or value != value


@given(st.binary(max_size=60) | ANY_JSON.map(lambda value: _encoded(value)))
@settings(max_examples=300)
@example(b"[" * 100_000)
@example(b'{"message": ' * 900 + b"1" + b"}" * 900)
@example(b'{"errors": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}")
@example(b"9" * 5000)
@example(b"NaN")
def test_any_body_is_read_or_refused(content):
    with suppress(MalformedResponseError):
        read_body(content)
    failure = read_error(422, {}, content)
    assert failure.status == 422
    assert failure.message is None or (isinstance(failure.message, str) and failure.message)


def _encoded(value):
    try:
        return json.dumps(value).encode()
    except ValueError:  # a number too long to be written
        return b"0"


def _stays_in_place(made):
    """Follow a call to what requests really sends."""
    url = requests.Request(made.method, ROOT + made.target).prepare().url
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("https", "tallyfy.test", "", "")
    assert parts.path.startswith(PLACE)
    assert not {".", ".."} & {unquote(segment) for segment in parts.path.split("/")}
    return parts.path


@given(PATH_TEXT)
@settings(max_examples=400)
def test_endpoint_stays_below_the_organization(text):
    try:
        made = api_requests.build_request("GET", text.lstrip("/"), "acme")
    except ValueError:
        return
    path = _stays_in_place(made)
    assert unquote(path).removeprefix(PLACE) == text.strip("/")


@given(PATH_TEXT)
@settings(max_examples=400)
def test_id_stays_in_its_path(text):
    try:
        made = api_requests.build_request("GET", f"runs/{urls.identifier(text, 'run_id')}", "acme")
    except ValueError:
        return
    assert _stays_in_place(made).startswith(f"{PLACE}runs/")


@given(PATH_TEXT)
@settings(max_examples=200)
def test_user_email_stays_in_its_path(text):
    try:
        made = api_requests.user_token("acme", text)
    except ValueError:
        return
    path = urlsplit(requests.Request("POST", ROOT + made.target).prepare().url).path
    assert path.startswith("/api/applications/acme/users/")
    assert path.count("/") == 6
    assert path.endswith("/token")


@given(PATH_TEXT)
@settings(max_examples=200)
def test_absolute_endpoint_stays_below_the_api(text):
    try:
        made = api_requests.build_request("GET", f"/{text}", "acme")
    except ValueError:
        return
    parts = urlsplit(requests.Request("GET", ROOT + made.target).prepare().url)
    assert parts.netloc == "tallyfy.test"
    assert parts.path.startswith("/api/")


@given(st.text(max_size=20), st.none() | st.integers(-5, 70_000), st.none() | st.text(max_size=6))
@settings(max_examples=300)
@example("127.0.0.1\\@evil.test", None, "http")
@example("localhost#@evil.test", None, "http")
def test_no_host_sends_a_token_in_clear_text(host, port, schema):
    try:
        url = urls.api_url(host, port, schema)
    except ValueError:
        return
    try:
        sent = urlsplit(requests.Request("GET", url).prepare().url)
    except requests.RequestException:  # nothing is sent at all
        return
    assert sent.scheme == "https" or urls.is_loopback(sent.hostname)
