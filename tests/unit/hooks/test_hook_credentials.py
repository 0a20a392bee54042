from __future__ import annotations

from urllib.parse import parse_qs

import pytest
import requests

from airflow_provider_tallyfy.exceptions import (
    TallyfyAuthError,
    TallyfyConnectionError,
    TallyfyError,
    TallyfyNotFoundError,
    TallyfyPermissionError,
    TallyfyRateLimitError,
    TallyfyResponseError,
    TallyfyServerError,
)
from tests.support.secrets import SECRET

ROOT = "https://tallyfy.test/api"
RUN = f"{ROOT}/organizations/acme/runs/r1"
OAUTH = "https://tallyfy.test/oauth/token"
EXCHANGE = f"{ROOT}/applications/acme/users/ada%40example.com/token"
GOOD = {"json": {"data": {"id": "r1"}}}
WEEK = 604_800


def issued(token, lasts=WEEK):
    return {"json": {"token_type": "Bearer", "expires_in": lasts, "access_token": token}}


def tokens_sent(mocked):
    return [request.headers.get("Authorization") for request in mocked.request_history]


class TestApplicationToken:
    def test_requests_a_token(self, application, requests_mock):
        oauth = requests_mock.post(OAUTH, **issued("first"))
        requests_mock.get(RUN, **GOOD)
        application().get_run("r1")
        request = oauth.last_request
        assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert request.headers["X-Tallyfy-Client"] == "APIClient"
        assert parse_qs(request.text) == {
            "grant_type": ["client_credentials"],
            "client_id": ["the-client"],
            "client_secret": [SECRET],
            "scope": ["*"],
        }
        assert SECRET not in request.url
        assert tokens_sent(requests_mock) == [None, "Bearer first"]

    def test_other_token_url(self, application, requests_mock):
        place = "https://account.tallyfy.test/oauth/token"
        requests_mock.post(place, **issued("first"))
        requests_mock.get(RUN, **GOOD)
        application(token_url=place).get_run("r1")
        assert [request.url for request in requests_mock.request_history] == [place, f"{RUN}?with=next_task"]
        assert tokens_sent(requests_mock) == [None, "Bearer first"]

    def test_token_in_an_envelope(self, application, requests_mock):
        requests_mock.post(OAUTH, json={"data": {"access_token": "first", "expires_in": WEEK}})
        requests_mock.get(RUN, **GOOD)
        application().get_run("r1")
        assert tokens_sent(requests_mock)[-1] == "Bearer first"

    def test_token_is_reused(self, application, requests_mock):
        oauth = requests_mock.post(OAUTH, **issued("first"))
        requests_mock.get(RUN, **GOOD)
        hook = application()
        assert not oauth.called
        for _ in range(3):
            hook.get_run("r1")
        assert oauth.call_count == 1

    @pytest.mark.parametrize(
        ("lasts", "good_for"), [(WEEK, WEEK - 300), (3600, 3300), (100, 50), (0.5, 0.25)]
    )
    def test_token_is_renewed_before_it_expires(self, application, requests_mock, clock, lasts, good_for):
        oauth = requests_mock.post(OAUTH, [issued("first", lasts), issued("second", lasts)])
        requests_mock.get(RUN, **GOOD)
        hook = application()
        hook.get_run("r1")
        clock.now += good_for * 0.99
        hook.get_run("r1")
        assert (oauth.call_count, tokens_sent(requests_mock)[-1]) == (1, "Bearer first")
        clock.now += good_for * 0.02
        hook.get_run("r1")
        assert (oauth.call_count, tokens_sent(requests_mock)[-1]) == (2, "Bearer second")

    def test_netrc_is_ignored(self, application, requests_mock, monkeypatch, tmp_path):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine tallyfy.test login ada password other-secret\n")
        monkeypatch.setenv("NETRC", str(netrc))
        requests_mock.post(OAUTH, **issued("first"))
        requests_mock.get(RUN, **GOOD)
        application().get_run("r1")
        assert tokens_sent(requests_mock) == [None, "Bearer first"]


class TestPersonToken:
    def test_application_token_is_exchanged(self, application, requests_mock):
        oauth = requests_mock.post(OAUTH, **issued("first"))
        exchange = requests_mock.post(EXCHANGE, **issued("persons", 7_776_000))
        requests_mock.get(RUN, **GOOD)
        hook = application(user_email="ada@example.com")
        for _ in range(2):
            hook.get_run("r1")
        assert (oauth.call_count, exchange.call_count) == (1, 1)
        assert tokens_sent(requests_mock) == [None, "Bearer first", "Bearer persons", "Bearer persons"]
        assert not exchange.last_request.text

    def test_user_token_is_renewed_by_its_own_lifetime(self, application, requests_mock, clock):
        requests_mock.post(OAUTH, **issued("first"))
        exchange = requests_mock.post(EXCHANGE, [issued("one", 7_776_000), issued("two")])
        requests_mock.get(RUN, **GOOD)
        hook = application(user_email="ada@example.com")
        hook.get_run("r1")
        clock.now += WEEK + 1
        hook.get_run("r1")
        assert exchange.call_count == 1
        clock.now += 7_776_000
        hook.get_run("r1")
        assert tokens_sent(requests_mock)[-3:] == [None, "Bearer first", "Bearer two"]

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
    def test_refused_exchange_is_an_auth_error(self, application, requests_mock, status):
        requests_mock.post(OAUTH, **issued("first"))
        requests_mock.post(EXCHANGE, status_code=status, json={"message": "No."})
        with pytest.raises(
            TallyfyAuthError,
            match=r"POST /applications/acme/users/ada%40example\.com/token returned",
        ) as error:
            application(user_email="ada@example.com").get_run("r1")
        assert (error.value.status, error.value.tallyfy_message) == (status, "No.")

    def test_page_of_a_proxy_is_no_auth_error(self, application, requests_mock):
        requests_mock.post(OAUTH, **issued("first"))
        requests_mock.post(EXCHANGE, status_code=404, text="<html>")
        with pytest.raises(TallyfyNotFoundError):
            application(user_email="ada@example.com").get_run("r1")


class Test401:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_token_is_renewed_and_the_request_repeated(self, application, requests_mock, method):
        oauth = requests_mock.post(OAUTH, [issued("first"), issued("second")])
        call = requests_mock.request(method, RUN, [{"status_code": 401}, GOOD])
        assert application().request(method, "runs/r1", json={"a": 1}) == GOOD["json"]
        assert (oauth.call_count, call.call_count) == (2, 2)
        assert [request.headers["Authorization"] for request in call.request_history] == [
            "Bearer first",
            "Bearer second",
        ]
        assert call.last_request.json() == {"a": 1}

    def test_request_is_repeated_once(self, application, requests_mock):
        oauth = requests_mock.post(OAUTH, [issued("first"), issued("second"), issued("third")])
        call = requests_mock.get(RUN, status_code=401)
        with pytest.raises(TallyfyAuthError):
            application().get_run("r1")
        assert (oauth.call_count, call.call_count) == (2, 2)

    def test_access_token_cannot_be_renewed(self, hook, requests_mock):
        requests_mock.get(RUN, status_code=401)
        with pytest.raises(
            TallyfyAuthError,
            match=r"Check the credentials of connection 'tallyfy_default'\. A user's token lasts six months",
        ):
            hook.get_run("r1")
        assert requests_mock.call_count == 1

    def test_refused_credentials_are_not_sent_again(self, application, requests_mock):
        requests_mock.post(OAUTH, status_code=401, json={"error": "invalid_client"})
        with pytest.raises(TallyfyAuthError, match="invalid_client"):
            application().get_run("r1")
        assert requests_mock.call_count == 1


class TestTokenUrlErrors:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize(
        ("response", "kind", "times"),
        [
            ({"status_code": 400, "json": {"error": "unsupported_grant_type"}}, TallyfyError, 1),
            ({"status_code": 403}, TallyfyPermissionError, 1),
            ({"status_code": 404}, TallyfyNotFoundError, 1),
            ({"status_code": 429}, TallyfyRateLimitError, 5),
            ({"status_code": 503}, TallyfyServerError, 5),
            ({"exc": requests.ReadTimeout("timed out")}, TallyfyConnectionError, 5),
            ({"status_code": 302, "headers": {"Location": "/login"}}, TallyfyResponseError, 1),
            ({"status_code": 302, "headers": {"Location": "https://other.test/"}}, TallyfyResponseError, 1),
            ({"text": "<html>"}, TallyfyResponseError, 1),
            ({"json": {}}, TallyfyResponseError, 1),
            ({"json": []}, TallyfyResponseError, 1),
            ({"json": {"access_token": ""}}, TallyfyResponseError, 1),
            ({"json": {"access_token": 7, "expires_in": 60}}, TallyfyResponseError, 1),
            ({"json": {"access_token": "t"}}, TallyfyResponseError, 1),
            ({"json": {"access_token": "t", "expires_in": 0}}, TallyfyResponseError, 1),
            ({"json": {"access_token": "t", "expires_in": -1}}, TallyfyResponseError, 1),
            ({"json": {"access_token": "t", "expires_in": True}}, TallyfyResponseError, 1),
            ({"json": {"access_token": "t", "expires_in": "soon"}}, TallyfyResponseError, 1),
            ({"text": '{"access_token": "t", "expires_in": NaN}'}, TallyfyResponseError, 1),
            ({"text": '{"access_token": "t", "expires_in": Infinity}'}, TallyfyResponseError, 1),
            ({"text": '{"access_token": "t", "expires_in": 1' + "0" * 400 + "}"}, TallyfyResponseError, 1),
        ],
    )
    def test_error_names_the_token_url_and_the_request_is_not_sent(
        self, application, requests_mock, method, response, kind, times
    ):
        call = requests_mock.request(method, RUN, **GOOD)
        oauth = requests_mock.post(OAUTH, [response])
        with pytest.raises(kind, match=f"^POST {OAUTH} "):
            application().request(method, "runs/r1")
        assert (oauth.call_count, call.call_count) == (times, 0)

    def test_token_request_is_repeated(self, application, requests_mock):
        requests_mock.post(OAUTH, [{"status_code": 503}, issued("first")])
        requests_mock.get(RUN, **GOOD)
        assert application().get_run("r1")["id"] == "r1"
