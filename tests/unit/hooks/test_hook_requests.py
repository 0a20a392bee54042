from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
import threading
from pathlib import Path

import certifi
import pytest
import requests
from requests_mock import ANY

from airflow_provider_tallyfy.exceptions import (
    TallyfyIndeterminateError,
    TallyfyPermissionError,
    TallyfyResponseError,
)
from airflow_provider_tallyfy.hooks import transport
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from tests.support.secrets import TOKEN

ORGANIZATION = "https://tallyfy.test/api/organizations/acme"
RUN = f"{ORGANIZATION}/runs/r1"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
LOCATIONS = [
    "https://other.test/",
    "http://tallyfy.test/api/me",
    "//other.test/",
    "https://tallyfy.test:8443/",
    "https://tallyfy.test@other.test/",
    # to the same origin, and to itself
    "https://tallyfy.test/api/v2/runs",
    "/api/v2/runs",
    f"{ORGANIZATION}/runs",
    # that cannot be read, and none
    "https://tallyfy.test:99999/",
    "https://[::1",
    "https://\xff.test/",
    None,
]
RUN_BODY = {"data": {"id": "r1", "name": "Release", "next_task": {"data": [{"id": "t1"}]}}}


class TestSession:
    def test_headers(self, hook, requests_mock):
        requests_mock.get(RUN, json=RUN_BODY)
        hook.get_run("r1")
        headers = requests_mock.last_request.headers
        assert headers["Authorization"] == f"Bearer {TOKEN}"
        assert headers["Accept"] == "application/json"
        assert headers["X-Tallyfy-Client"] == "APIClient"

    def test_timeout_and_verify(self, connect, requests_mock, monkeypatch):
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
        requests_mock.get(RUN, json=RUN_BODY)
        connect({"timeout": 2.5, "verify": False}).get_run("r1")
        assert (requests_mock.last_request.timeout, requests_mock.last_request.verify) == (2.5, False)

    def test_verify_takes_precedence_over_the_environment(
        self, connect, requests_mock, monkeypatch, tmp_path
    ):
        own_ca = tmp_path / "own-ca.pem"
        own_ca.write_text(Path(certifi.where()).read_text())
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/everybodys-ca.pem")
        requests_mock.get(RUN, json=RUN_BODY)
        for verify in (False, str(own_ca)):
            connect({"verify": verify}).get_run("r1")
            assert requests_mock.last_request.verify == verify

    def test_get_conn(self, hook, requests_mock):
        requests_mock.get("https://tallyfy.test/api/me", json={})
        requests_mock.get("https://other.test/", json={})
        session = hook.get_conn()
        assert isinstance(session, requests.Session)
        assert hook.get_conn() is session
        session.get("https://tallyfy.test/api/me")
        assert requests_mock.last_request.headers["Authorization"] == f"Bearer {TOKEN}"
        assert requests_mock.last_request.timeout == 30.0
        session.get("https://tallyfy.test/api/me", timeout=1)
        assert requests_mock.last_request.timeout == 1

    @pytest.mark.parametrize(
        "url",
        [
            "https://other.test/",
            "http://tallyfy.test/api/me",
            "https://tallyfy.test:8443/api/me",
            "https://tallyfy.test.other.test/",
            "https://sub.tallyfy.test/",
        ],
    )
    def test_token_is_sent_to_no_other_origin(self, hook, requests_mock, url):
        requests_mock.get(url, json={})
        hook.get_conn().get(url)
        assert "Authorization" not in requests_mock.last_request.headers

    def test_token_is_sent_to_an_international_host(self, connect, requests_mock):
        requests_mock.get(
            "https://xn--tllyfy-bua.test/api/organizations/acme/runs/r1", json={"data": {"id": "r1"}}
        )
        connect(host="t\u00e4llyfy.test").get_run("r1")
        assert requests_mock.last_request.headers["Authorization"] == f"Bearer {TOKEN}"

    def test_netrc_is_ignored(self, hook, requests_mock, monkeypatch, tmp_path):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine tallyfy.test login ada password other-secret\ndefault login a password b\n")
        monkeypatch.setenv("NETRC", str(netrc))
        requests_mock.get(ANY, json=RUN_BODY)
        requests_mock.get(f"{RUN}x", status_code=302, headers={"Location": "https://other.test/target"})
        hook.get_run("r1")
        hook.get_conn().get(f"{RUN}x")
        hook.get_conn().get("https://other.test/")
        sent = [
            (request.url, request.headers.get("Authorization")) for request in requests_mock.request_history
        ]
        assert sent == [
            (f"{RUN}?with=next_task", f"Bearer {TOKEN}"),
            (f"{RUN}x", f"Bearer {TOKEN}"),
            ("https://other.test/", None),
        ]


def test_documented_async_task_leaves_the_event_loop_free(hook, requests_mock):
    """The example in docs/hook.md."""
    page = (Path(__file__).parents[3] / "docs" / "hook.md").read_text()
    [example] = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "async def" in code]
    names = {"task": lambda function: function, "TallyfyHook": TallyfyHook}
    exec(example, names)  # noqa: S102
    loop_ran = threading.Event()

    def respond(request, context):
        assert loop_ran.wait(10), "the event loop is blocked"
        return {"data": {"id": "r1", "status": "active"}}

    async def read_beside_other_work():
        reading = asyncio.create_task(names["read_status"]("r1"))
        await asyncio.sleep(0)
        loop_ran.set()
        return await reading

    requests_mock.get(RUN, json=respond)
    assert asyncio.run(read_beside_other_work()) == "active"


class TestRedirects:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("location", LOCATIONS)
    def test_no_redirect_is_followed(self, hook, requests_mock, method, location, pauses):
        requests_mock.request(ANY, ANY, json=RUN_BODY)
        headers = {} if location is None else {"Location": location}
        requests_mock.request(method, f"{ORGANIZATION}/runs", status_code=307, headers=headers)
        with pytest.raises(
            TallyfyResponseError, match=r"returned 307\. A redirect .* set the host of connection"
        ):
            hook.request(method, "runs")
        assert [request.url for request in requests_mock.request_history] == [f"{ORGANIZATION}/runs"]
        assert pauses == []

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 308, 399])
    def test_no_status_is_followed(self, hook, requests_mock, status):
        requests_mock.request(ANY, ANY, json=RUN_BODY)
        requests_mock.post(f"{ORGANIZATION}/runs", status_code=status, headers={"Location": "/api/x"})
        with pytest.raises(
            TallyfyResponseError, match=f"returned {status}.* A redirect is not followed here"
        ):
            hook.request("POST", "runs", json={})
        assert requests_mock.call_count == 1

    @pytest.mark.parametrize("location", LOCATIONS)
    @pytest.mark.parametrize("redirects", [{}, {"allow_redirects": True}])
    def test_session_returns_the_redirect(self, hook, requests_mock, location, redirects):
        requests_mock.request(ANY, ANY, json=RUN_BODY)
        headers = {} if location is None else {"Location": location}
        requests_mock.get(f"{ORGANIZATION}/runs", status_code=302, headers=headers, text="Moved.")
        response = hook.get_conn().get(f"{ORGANIZATION}/runs", **redirects)
        assert (response.status_code, response.headers.get("Location"), response.text) == (
            302,
            location,
            "Moved.",
        )
        assert (response.history, response.next) == ([], None)
        assert [request.url for request in requests_mock.request_history] == [f"{ORGANIZATION}/runs"]


class TestBounds:
    @pytest.mark.parametrize("compressed", [False, True])
    def test_too_large_response(self, hook, requests_mock, monkeypatch, pauses, compressed):
        monkeypatch.setattr(transport, "MAX_RESPONSE_SIZE", 1024 * 1024)
        content = b'{"data": {"name": "' + b"x" * 2 * 1024 * 1024 + b'"}}'
        if compressed:
            content = gzip.compress(content)
            assert len(content) < 10_000
        headers = {"Content-Encoding": "gzip"} if compressed else {}
        requests_mock.register_uri(ANY, RUN, content=content, headers=headers)
        with pytest.raises(
            TallyfyResponseError, match=r"GET /organizations/acme/runs/r1 .* larger than 1 MiB"
        ):
            hook.get_run("r1")
        with pytest.raises(TallyfyIndeterminateError, match=r"larger than 1 MiB\. It may have been applied"):
            hook.request("PUT", "runs/r1", json={})
        assert pauses == []

    def test_too_slow_response(self, hook, requests_mock, clock):
        class Trickle(io.BytesIO):
            def read1(self, size=-1):
                clock.now += 20
                return super().read1(min(size, 1))

        requests_mock.get(RUN, body=Trickle(b'{"data": {"id": "r1"}}' + b" " * 1000))
        before = clock.now
        with pytest.raises(TallyfyResponseError, match="had not arrived whole after 300 s"):
            hook.get_run("r1")
        assert 300 < clock.now - before < 350

    def test_compressed_response(self, hook, requests_mock):
        content = gzip.compress(json.dumps(RUN_BODY).encode())
        requests_mock.get(RUN, content=content, headers={"Content-Encoding": "gzip"})
        assert hook.get_run("r1")["name"] == "Release"

    def test_large_error_page_is_cut(self, hook, requests_mock, monkeypatch):
        monkeypatch.setattr(transport, "MAX_RESPONSE_SIZE", 1024)
        requests_mock.post(f"{ORGANIZATION}/runs", status_code=403, text="<html>" + "x" * 5000)
        with pytest.raises(TallyfyPermissionError):
            hook.launch_run("c1")
