from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import certifi
import pytest
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_tallyfy import get_provider_info
from airflow_provider_tallyfy.exceptions import TallyfyConfigurationError
from airflow_provider_tallyfy.hooks import connection as connection_module
from airflow_provider_tallyfy.hooks.connection import TallyfyConnection
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from tests.support.secrets import SECRET, TOKEN


@pytest.fixture(autouse=True)
def _nothing_was_warned_about():
    connection_module._warn_about_extras.cache_clear()


@pytest.fixture
def from_uri(monkeypatch):
    def from_uri(uri):
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", uri)
        return TallyfyHook().connection

    return from_uri


class TestUri:
    def test_defaults(self, from_uri):
        connection = from_uri(f"tallyfy://acme:{TOKEN}@")
        assert connection.api_url == "https://go.tallyfy.com/api"
        assert connection.web_url == "https://go.tallyfy.com"
        assert connection.token_url == "https://go.tallyfy.com/oauth/token"
        assert (connection.organization, connection.access_token) == ("acme", TOKEN)
        assert (connection.timeout, connection.verify) == (30.0, True)
        assert (connection.client_id, connection.client_secret, connection.user_email) == (None, None, None)

    @pytest.mark.parametrize(
        ("place", "api_url"),
        [
            ("tallyfy.test", "https://tallyfy.test/api"),
            ("tallyfy.test:8443", "https://tallyfy.test:8443/api"),
            ("127.0.0.1:8090/http", "http://127.0.0.1:8090/api"),
            ("https%3A%2F%2Fapi.tallyfy.com", "https://api.tallyfy.com"),
            ("http%3A%2F%2F127.0.0.1%3A8090%2Fapi", "http://127.0.0.1:8090/api"),
            ("[::1]:8090/http", "http://[::1]:8090/api"),
            ("api.tallyfy.com", "https://api.tallyfy.com"),
            ("go.tallyfy.com/api", "https://go.tallyfy.com/api"),
            ("go.tallyfy.com/https/api", "https://go.tallyfy.com/api"),
            ("t%C3%A4llyfy.test", "https://xn--tllyfy-bua.test/api"),
        ],
    )
    def test_host_port_and_schema(self, from_uri, place, api_url):
        assert from_uri(f"tallyfy://acme:{TOKEN}@{place}").api_url == api_url

    def test_extras_as_text(self, from_uri):
        connection = from_uri(
            f"tallyfy://acme:{TOKEN}@tallyfy.test/http?allow_http=true&timeout=2.5&verify=false"
            "&web_url=https%3A%2F%2Fpeople.test%2F"
        )
        assert connection.api_url == "http://tallyfy.test/api"
        assert (connection.timeout, connection.verify) == (2.5, False)
        assert connection.web_url == "https://people.test"

    def test_checked_box_of_an_unsaved_form_of_airflow_2(self, from_uri):
        assert from_uri(f"tallyfy://acme:{TOKEN}@tallyfy.test/http?allow_http=y").api_url.startswith("http:")

    def test_quoted_token(self, from_uri):
        assert from_uri("tallyfy://acme:1%7Cab%2Fc%3D%3D@").access_token == "1|ab/c=="


class TestJson:
    def test_application_credentials(self, connect, tmp_path):
        own_ca = tmp_path / "own.pem"
        own_ca.write_text(Path(certifi.where()).read_text())
        extra = {
            "client_id": "the-client",
            "client_secret": f" {SECRET}\n",
            "user_email": "ada@example.com",
            "token_url": "https://account.tallyfy.com/oauth/token",
            "timeout": 5,
            "verify": str(own_ca),
        }
        connection = connect(extra, password=None).connection
        assert (connection.access_token, connection.client_id) == (None, "the-client")
        assert (connection.client_secret, connection.user_email) == (SECRET, "ada@example.com")
        assert connection.token_url == "https://account.tallyfy.com/oauth/token"
        assert (connection.timeout, connection.verify) == (5.0, str(own_ca))

    def test_empty_fields_are_ignored(self, connect):
        """The connection form stores what was left empty as an empty text or null."""
        names = (
            "timeout",
            "verify",
            "allow_http",
            "web_url",
            "client_id",
            "client_secret",
            "user_email",
            "token_url",
        )
        for empty in ("", None):
            connection = connect(dict.fromkeys(names, empty), host="", schema="").connection
            assert connection == connect(host=None).connection

    def test_token_is_stripped(self, connect):
        assert connect(password=f" {TOKEN}\n").connection.access_token == TOKEN

    @pytest.mark.parametrize(
        ("given", "verify"),
        [
            (True, True),
            (False, False),
            ("true", True),
            (" FALSE\n", False),
            ("", True),
            (None, True),
        ],
    )
    def test_verify(self, connect, given, verify):
        assert connect({"verify": given}).connection.verify is verify

    def test_verify_with_a_bundle_or_a_folder(self, connect, tmp_path):
        bundle = tmp_path / "ca.pem"
        bundle.write_text(Path(certifi.where()).read_text())
        for path in (bundle, tmp_path):
            assert connect({"verify": f" {path}\n"}).connection.verify == str(path)

    def test_connection_is_read_once(self, connect, monkeypatch):
        hook = connect()
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", f"tallyfy://other:{TOKEN}@")
        first = hook.connection
        assert first.organization == "other"
        monkeypatch.delenv("AIRFLOW_CONN_TALLYFY_DEFAULT")
        assert hook.connection is first

    def test_other_connection_id(self, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_SECOND", f"tallyfy://acme:{TOKEN}@")
        assert TallyfyHook("second").connection.conn_id == "second"

    def test_missing_connection_is_airflows_own_error(self, monkeypatch):
        monkeypatch.delenv("AIRFLOW_CONN_TALLYFY_DEFAULT", raising=False)
        hook = TallyfyHook("nobody_made_this")
        with pytest.raises(AirflowNotFoundException, match="nobody_made_this"):
            hook.get_run("r1")


class TestSecretsBackends:
    """A secrets backend may make a connection of whatever types it has."""

    def read(self, **fields):
        defaults = {"host": None, "port": None, "schema": None, "login": "acme", "password": TOKEN}
        return TallyfyConnection.read("own", SimpleNamespace(**{**defaults, "extra_dejson": {}, **fields}))

    @pytest.mark.parametrize(("port", "shown"), [("8443", ":8443"), (8443, ":8443"), ("", ""), (None, "")])
    def test_port(self, port, shown):
        assert self.read(host="tallyfy.test", port=port).api_url == f"https://tallyfy.test{shown}/api"

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            *[
                ({"port": bad}, "port must be")
                for bad in ("0", "-1", "https", " 443", "\u00b2", 1.5, True, [])
            ],
            ({"host": 7}, "host must be a text, but is of type int"),
            ({"host": b"tallyfy.test"}, "host must be a text, but is of type bytes"),
            ({"schema": ["https"]}, "schema must be a text, but is of type list"),
            ({"login": 7}, "login (the organization id) must be"),
            ({"password": 7}, "password (the access token) must be a text"),
            ({"extra_dejson": None}, "extra must be a JSON object"),
        ],
    )
    def test_other_types_are_refused(self, fields, named):
        with pytest.raises(TallyfyConfigurationError, match=r"^Connection 'own' cannot be used: ") as error:
            self.read(**fields)
        assert named in str(error.value)


class TestUnknownExtras:
    def test_a_warning_names_them_and_the_known_ones(self, connect, log):
        extra = {"time_out": 5, "web url": "x", "timeout": 6, "allow_HTTP\n": SECRET}
        hook = connect(extra)
        assert hook.connection.timeout == 6
        assert TallyfyHook().connection == hook.connection
        [line] = [each.getMessage() for each in log.records if "unknown extras" in each.getMessage()]
        assert line.startswith(
            "Connection 'tallyfy_default' has unknown extras, which are ignored: 'allow_HTTP', 'time_out', 'web url'."
        )
        known = get_provider_info()["connection-types"][0]["conn-fields"]
        assert line.endswith(f" Known are {', '.join(known)}.")
        assert SECRET not in line

    def test_known_extras_cause_no_warning(self, connect, log):
        assert connect(dict.fromkeys(get_provider_info()["connection-types"][0]["conn-fields"])).connection
        assert "unknown extras" not in log.text

    def test_the_warning_comes_before_an_error(self, connect, log):
        with pytest.raises(TallyfyConfigurationError, match="password"):
            _ = connect({"client-id": "x"}, password=None).connection
        assert "unknown extras, which are ignored: 'client-id'" in log.text


class TestInvalidSettings:
    @pytest.fixture
    def refused(self, everything_shown):
        def refused(hook):
            with pytest.raises(TallyfyConfigurationError) as error:
                _ = hook.connection
            assert str(error.value).startswith("Connection 'tallyfy_default' cannot be used: ")
            shown = everything_shown(error.value)
            assert TOKEN not in shown
            assert SECRET not in shown
            return str(error.value)

        return refused

    @pytest.mark.parametrize(
        ("fields", "named"),
        [
            ({"login": None}, "login (the organization id) is missing"),
            ({"login": ""}, "login (the organization id) is missing"),
            *[
                (
                    {"login": bad},
                    "login (the organization id) must be 1 to 255 letters, digits, '_' or '-'.",
                )
                for bad in ("acme/other", "acme\n", " acme", "..", "é", "x" * 256, f"{TOKEN}|")
            ],
            ({"password": None}, "password (the access token) is missing"),
            ({"password": ""}, "password (the access token) is missing"),
            ({"password": " \n"}, "password (the access token) "),
            ({"password": f"{TOKEN}\nX-Evil: 1"}, "password (the access token) "),
            ({"password": f"{TOKEN} {TOKEN}"}, "password (the access token) "),
            ({"password": f"{TOKEN}é"}, "password (the access token) "),
            ({"host": "http://tallyfy.test"}, "host is plain http to tallyfy.test"),
            ({"host": f"https://acme:{TOKEN}@tallyfy.test"}, "host "),
            ({"host": "tallyfy.test", "schema": "gopher"}, "schema"),
        ],
    )
    def test_fields(self, connect, refused, fields, named):
        assert named in refused(connect(**fields))

    @pytest.mark.parametrize(
        ("extra", "named"),
        [
            *[({"timeout": bad}, "extra 'timeout'") for bad in (0, -1, "soon", "nan", "inf", True, [], {})],
            ({"timeout": 10**400}, "extra 'timeout'"),
            ({"timeout": 1e300}, "extra 'timeout'"),
            *[({"verify": bad}, "extra 'verify'") for bad in (0, 1, [], {}, " ")],
            *[
                ({"verify": bad}, "extra 'verify' is neither true nor false, nor the path of a CA bundle")
                for bad in (
                    "/there/is/no/such.pem",
                    "yes",
                    "-----BEGIN CERTIFICATE-----\n" + 5000 * "x",
                    "/dev/null",
                )
            ],
            *[
                ({"requests_per_hour": bad}, "extra 'requests_per_hour'")
                for bad in (-1, 1.5, 10**7, True, "many", "-1", "9" * 5000, [])
            ],
            *[({"allow_http": bad}, "extra 'allow_http'") for bad in (1, "yes", [])],
            *[({"web_url": bad}, "extra 'web_url'") for bad in ("people.test", "javascript:alert(1)", 7)],
            *[
                ({"token_url": bad}, "extra 'token_url'")
                for bad in ("/oauth/token", "http://tallyfy.test/t", 7)
            ],
            ({"token_url": f"https://app:{SECRET}@tallyfy.test/oauth/token"}, "extra 'token_url'"),
            ({"client_id": 7}, "extra 'client_id'"),
            ({"client_id": "the-client"}, "extra 'client_secret' is missing"),
            ({"client_id": "the-client", "client_secret": 7}, "extra 'client_secret'"),
            ({"client_id": "the-client", "client_secret": f"{SECRET} {SECRET}"}, "extra 'client_secret'"),
            ({"user_email": ["ada@example.com"]}, "extra 'user_email'"),
        ],
    )
    def test_extras(self, connect, refused, extra, named):
        assert named in refused(connect(extra))

    @pytest.mark.skipif(
        airflow_version.startswith(("3.0.", "3.1.")), reason="this Airflow takes such a connection for none"
    )
    def test_extra_that_is_not_an_object(self, connect, refused):
        assert "extra" in refused(connect("[1, 2]"))

    def test_client_secret_without_client_id(self, connect, refused):
        assert "client_id" in refused(connect({"client_secret": SECRET}, password=None))

    def test_token_in_the_login_is_not_shown(self, connect, refused):
        """A token has dots or bars, and so is refused as the organization's id; it stays secret all the same."""
        for token in ("eyJ0eXAiOiJKV1Qi.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "17|b8f3c2a9d4e5"):
            refusal = refused(connect(login=token))
            assert "login (the organization id) must be" in refusal
            assert not [part for part in re.split(r"[.|]", token) if len(part) > 2 and part in refusal]

    def test_every_method_raises_the_error(self, connect):
        hook = connect(password=None)
        for use in (
            lambda: hook.get_run("r1"),
            hook.get_conn,
            lambda: hook.run_url("r1"),
            lambda: hook.list_runs(),
        ):
            with pytest.raises(TallyfyConfigurationError, match="password"):
                use()

    def test_repr_hides_secrets(self, connect):
        assert TOKEN not in repr(connect().connection)
        extra = {"client_id": "the-client", "client_secret": SECRET}
        assert SECRET not in repr(connect(extra, password=None).connection)
