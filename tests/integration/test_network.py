"""Proxies and private certificate authorities between here and Tallyfy, all of them real, on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import socket
import traceback
from types import SimpleNamespace

import certifi
import pytest
import requests

from airflow_provider_tallyfy.exceptions import TallyfyConnectionError
from airflow_provider_tallyfy.hooks import transport
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID, SEEDED_RUN_ID
from airflow_provider_tallyfy.sandbox.server import SandboxServer
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger
from airflow_provider_tallyfy.waiting import watcher
from dev.certificate import make_certificate
from dev.proxy import Proxy
from dev.sandbox import SandboxClient
from tests.integration.moved_clock import MovedClock

# No name server knows it; proxies and tests lead it to this machine.
HOST = "tallyfy.test"
PASSWORD = "proxy-password-that-must-stay-secret"
CREDENTIALS = f"proxy-user:{PASSWORD}"
LONGEST = 30.0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("certificate"), HOST)


@pytest.fixture(scope="module")
def own_authority(certificate):
    return str(certificate.authority)


@pytest.fixture(scope="module")
def another_authority(tmp_path_factory):
    return str(make_certificate(tmp_path_factory.mktemp("another")).authority)


@pytest.fixture(scope="module")
def secure_server(certificate):
    with SandboxServer(certificate=(certificate.certificate, certificate.key)) as server:
        yield server


@pytest.fixture
def secure(secure_server):
    secure_server.reset()
    return secure_server


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """An environment without proxies and authorities, to which a test adds its own."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)

    def environment(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return environment


@pytest.fixture(autouse=True)
def log(caplog, monkeypatch):
    """All that is logged, by requests and urllib3 too."""
    caplog.set_level(logging.DEBUG)
    for kind in (TallyfyHook, TallyfyNextTaskTrigger):
        monkeypatch.setattr(kind, "log", logging.getLogger("under-test"))
    return caplog


@pytest.fixture
def connect(monkeypatch):
    """Give a hook that repeats nothing; the extra's fields are named by keyword."""
    hooks = []

    def connect(host, **extra):
        described = {
            "conn_type": "tallyfy",
            "host": host,
            "login": "sandbox",
            "password": "sandbox-token",
            "extra": {"timeout": 10, **extra},
        }
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(described))
        hooks.append(TallyfyHook(retries=0))
        return hooks[-1]

    yield connect
    for hook in hooks:
        if "connection" in vars(hook):
            hook.get_conn().close()


@pytest.fixture
def proxy(secure):
    with Proxy({HOST: secure.port}) as proxy:
        yield proxy


@pytest.fixture
def strict_proxy(secure):
    with Proxy({HOST: secure.port}, credentials=CREDENTIALS) as proxy:
        yield proxy


@pytest.fixture
def local_names(monkeypatch):
    """Resolve every host name to this machine."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest, **more: resolve("127.0.0.1", *rest, **more))


def can_read(hook):
    return hook.get_run(SEEDED_RUN_ID)["id"] == SEEDED_RUN_ID


def shown(error, log):
    """Return all that a user may see of an error."""
    parts = [str(error), repr(vars(error)), *traceback.format_exception(error)]
    return "\n".join([*parts, *(record.getMessage() for record in log.records)])


class TestAuthorities:
    """Which certificates the connection's ``verify`` and the environment trust."""

    @pytest.fixture(params=["127.0.0.1", HOST])
    def host(self, request, secure, local_names):
        """This machine itself, and another one as it seems."""
        return f"https://{request.param}:{secure.port}/api"

    @pytest.fixture
    def bundles(self, own_authority, another_authority):
        return {"own": own_authority, "another": another_authority, "": "", None: None}

    @pytest.mark.parametrize(
        ("verify", "in_environment", "is_trusted"),
        [
            (None, None, False),
            (None, "own", True),
            (None, "another", False),
            (None, "", False),
            (True, None, False),
            (True, "own", True),
            (True, "another", False),
            ("own", None, True),
            ("own", "own", True),
            ("own", "another", True),
            ("another", None, False),
            ("another", "own", False),
            (False, None, True),
            (False, "own", True),
            (False, "another", True),
        ],
    )
    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    @pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
    def test_verify_and_environment(
        self, connect, host, bundles, environment, variable, verify, in_environment, is_trusted
    ):
        if in_environment is not None:
            environment(**{variable: bundles[in_environment]})
        extra = {} if verify is None else {"verify": bundles.get(verify, verify)}
        hook = connect(host, **extra)
        if is_trusted:
            assert can_read(hook)
        else:
            with pytest.raises(TallyfyConnectionError, match="certificate verify failed"):
                hook.get_run(SEEDED_RUN_ID)

    @pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
    def test_variables_of_openssl_are_ignored(
        self, connect, host, own_authority, environment, variable, tmp_path
    ):
        shutil.copy(own_authority, tmp_path)
        environment(**{variable: own_authority if variable == "SSL_CERT_FILE" else str(tmp_path)})
        with pytest.raises(TallyfyConnectionError, match="certificate verify failed"):
            connect(host).get_run(SEEDED_RUN_ID)

    def test_bundle_with_public_authorities(self, connect, host, own_authority, tmp_path):
        bundle = tmp_path / "all.pem"
        with bundle.open("w") as file:
            for part in (certifi.where(), own_authority):
                with open(part) as source:  # noqa: PTH123
                    file.write(source.read())
        assert can_read(connect(host, verify=str(bundle)))

    @pytest.mark.parametrize("verify", [None, "own"])
    def test_prepared_request(self, connect, host, own_authority, another_authority, environment, verify):
        environment(REQUESTS_CA_BUNDLE=another_authority if verify else own_authority)
        session = connect(host, **({"verify": own_authority} if verify else {})).get_conn()
        prepared = session.prepare_request(requests.Request("GET", f"{host}/me"))
        assert session.send(prepared).ok

    def test_error_names_setting_and_variable(self, connect, host):
        with pytest.raises(TallyfyConnectionError) as error:
            connect(host).launch_run(RELEASE_CHECKLIST_ID)
        assert "certificate verify failed" in str(error.value)
        assert "set extra 'verify' of connection 'tallyfy_default'" in str(error.value)
        assert "REQUESTS_CA_BUNDLE" in str(error.value)

    def test_certificate_of_another_host(self, connect, secure, own_authority, local_names):
        hook = connect(f"https://other.test:{secure.port}/api", verify=own_authority)
        with pytest.raises(TallyfyConnectionError, match=r"certificate is not valid for 'other\.test'"):
            hook.get_run(SEEDED_RUN_ID)


class TestProxies:
    def test_tls_is_tunneled(self, connect, proxy, own_authority, environment):
        environment(HTTPS_PROXY=proxy.url)
        hook = connect(f"https://{HOST}/api", verify=own_authority)
        assert can_read(hook)
        assert can_read(hook)
        assert proxy.passed == [f"CONNECT {HOST}:443"]  # once, for both

    def test_plain_http(self, connect, server, environment):
        with Proxy({HOST: server.port}) as proxy:
            environment(HTTP_PROXY=proxy.url)
            hook = connect(f"http://{HOST}/api", allow_http=True)
            run = hook.launch_run(RELEASE_CHECKLIST_ID, name="Through a proxy")
            assert hook.get_run(run["id"])["name"] == "Through a proxy"
        prefix = f"http://{HOST}/api/organizations/sandbox/runs"
        assert proxy.passed == [f"POST {prefix}", f"GET {prefix}/{run['id']}?with=next_task"]

    @pytest.mark.parametrize("name", ["https_proxy", "ALL_PROXY", "all_proxy"])
    def test_other_variables(self, connect, proxy, own_authority, environment, name):
        environment(**{name: proxy.url})
        assert can_read(connect(f"https://{HOST}/api", verify=own_authority))
        assert proxy.passed == [f"CONNECT {HOST}:443"]

    @pytest.mark.parametrize("no_proxy", [HOST, ".test", "other.example,test"])
    def test_no_proxy(self, connect, secure, proxy, own_authority, environment, local_names, no_proxy):
        environment(HTTPS_PROXY=proxy.url, NO_PROXY=no_proxy)
        assert can_read(connect(f"https://{HOST}:{secure.port}/api", verify=own_authority))
        assert proxy.passed == proxy.refused == []

    def test_loopback_uses_no_proxy(self, connect, secure, proxy, own_authority, environment):
        environment(HTTPS_PROXY=proxy.url, ALL_PROXY=proxy.url)
        hook = connect(secure.base_url, verify=own_authority)
        assert can_read(hook)
        prepared = hook.get_conn().prepare_request(requests.Request("GET", f"{secure.base_url}/me"))
        assert hook.get_conn().send(prepared).ok
        assert proxy.passed == proxy.refused == []

    def test_prepared_request(self, connect, proxy, own_authority, environment):
        environment(HTTPS_PROXY=proxy.url)
        hook = connect(f"https://{HOST}/api", verify=own_authority)
        prepared = hook.get_conn().prepare_request(requests.Request("GET", f"https://{HOST}/api/me"))
        assert hook.get_conn().send(prepared).ok
        assert proxy.passed == [f"CONNECT {HOST}:443"]

    def test_credentials(self, connect, strict_proxy, own_authority, environment, log):
        environment(HTTPS_PROXY=strict_proxy.url)
        assert can_read(connect(f"https://{HOST}/api", verify=own_authority))
        assert strict_proxy.passed == [f"CONNECT {HOST}:443"]
        assert PASSWORD not in log.text

    def test_quoted_credentials(self, connect, secure, strict_proxy, own_authority, environment):
        strict_proxy.credentials = "user@example.com:p@ss/word#1"
        environment(HTTPS_PROXY=strict_proxy.url)
        assert "p%40ss%2Fword%231" in strict_proxy.url
        assert can_read(connect(f"https://{HOST}/api", verify=own_authority))

    def test_application_token(self, connect, proxy, own_authority, environment):
        environment(HTTPS_PROXY=proxy.url)
        application = {
            "client_id": "sandbox-client",
            "client_secret": "sandbox-secret",
            "user_email": "ben@example.com",
        }
        hook = connect(f"https://{HOST}/api", verify=own_authority, **application)
        assert hook.request("GET", "/me")["data"]["email"] == "ben@example.com"
        assert proxy.passed == [f"CONNECT {HOST}:443"]

    def test_wrong_credentials(self, connect, strict_proxy, own_authority, environment, log):
        wrong = "another-password-that-must-stay-secret"
        environment(HTTPS_PROXY=f"http://proxy-user:{wrong}@{strict_proxy.address}")
        with pytest.raises(TallyfyConnectionError, match=r"407.*Check the proxy that HTTPS_PROXY") as error:
            connect(f"https://{HOST}/api", verify=own_authority).get_run(SEEDED_RUN_ID)
        assert strict_proxy.refused == [f"CONNECT {HOST}:443"]
        assert wrong not in shown(error.value, log)

    def test_refused_write_was_not_applied(
        self, connect, strict_proxy, own_authority, environment, monkeypatch
    ):
        """So it may be repeated, and is no :class:`TallyfyIndeterminateError`."""
        pauses = []
        clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=pauses.append)
        monkeypatch.setattr(transport, "time", clock)
        environment(HTTPS_PROXY=f"http://{strict_proxy.address}")
        hook = connect(f"https://{HOST}/api", verify=own_authority)
        hook.retries = 2
        with pytest.raises(TallyfyConnectionError, match="407"):
            hook.launch_run(RELEASE_CHECKLIST_ID)
        assert len(pauses) == 2
        assert strict_proxy.refused == [f"CONNECT {HOST}:443"] * 3

    def test_host_that_the_proxy_does_not_know(self, connect, proxy, environment):
        environment(HTTPS_PROXY=proxy.url)
        with pytest.raises(TallyfyConnectionError, match=r"Tunnel connection failed: 502.*Check the proxy"):
            connect("https://other.test/api").get_run(SEEDED_RUN_ID)

    @pytest.mark.parametrize(
        "url",
        [
            "http://{credentials}@127.0.0.1:{closed}",
            "http://{credentials}@127.0.0.1:not-a-port",
            "http://{credentials}%C5%82@127.0.0.1:{closed}",
            "http://{credentials}#-was-not-quoted@127.0.0.1:{closed}",
            "ftp://{credentials}@127.0.0.1:{closed}",
            "{credentials}@127.0.0.1:{closed}",
            "socks5://{credentials}@127.0.0.1:{closed}",
            "http://",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_unusable_proxy_is_an_error_without_its_credentials(self, connect, environment, log, url, method):
        with socket.create_server(("127.0.0.1", 0)) as unused:
            closed = unused.getsockname()[1]
        environment(HTTPS_PROXY=url.format(credentials=CREDENTIALS, closed=closed))
        with pytest.raises(TallyfyConnectionError, match="Check the proxy that HTTPS_PROXY") as error:
            connect(f"https://{HOST}/api").request(method, "runs")
        assert PASSWORD not in shown(error.value, log)


@pytest.fixture
def fired(monkeypatch):
    """Run the trigger of the seeded run until it fires; in each pause, the next action is done."""
    monkeypatch.setattr(watcher, "STARTUP_PAUSE", 0.0)

    def fired(from_task, *actions):
        monkeypatch.setattr(watcher, "Clock", lambda: MovedClock(actions))
        trigger = TallyfyNextTaskTrigger(
            tallyfy_conn_id="tallyfy_default", run_id=SEEDED_RUN_ID, from_task=from_task, poke_interval=60.0
        )

        async def first():
            return (await anext(trigger.run())).payload

        async def in_time():
            return await asyncio.wait_for(first(), LONGEST)

        return asyncio.run(in_time())

    return fired


@pytest.fixture
def people(secure, own_authority):
    client = SandboxClient(secure.url)
    client._session.verify = own_authority
    return client


class TestDeferredWaits:
    @pytest.mark.parametrize("authority_in", ["connection", "environment"])
    def test_wait_through_a_proxy_to_a_private_authority(
        self, connect, people, strict_proxy, own_authority, environment, fired, log, authority_in
    ):
        environment(HTTPS_PROXY=strict_proxy.url)
        if authority_in == "environment":
            environment(REQUESTS_CA_BUNDLE=own_authority)
        connect(f"https://{HOST}/api", **({"verify": own_authority} if authority_in == "connection" else {}))
        first = people.next_task(SEEDED_RUN_ID)["id"]

        event = fired(first, lambda: people.complete_next(SEEDED_RUN_ID))

        assert event["outcome"] == "met"
        assert event["result"]["from_task_id"] == first
        assert set(strict_proxy.passed) == {f"CONNECT {HOST}:443"}
        assert strict_proxy.refused == []
        assert PASSWORD not in log.text
        assert PASSWORD not in json.dumps(event)

    def test_wait_outlives_a_refusing_proxy(
        self, connect, people, strict_proxy, own_authority, environment, fired, log
    ):
        environment(HTTPS_PROXY=strict_proxy.url)
        strict_proxy.credentials = "another:user"
        connect(f"https://{HOST}/api", verify=own_authority)

        def let_through():
            assert strict_proxy.refused
            strict_proxy.credentials = CREDENTIALS

        assert fired("an-earlier-task", None, None, let_through)["outcome"] == "met"
        assert "will poll again" in log.text
        assert PASSWORD not in log.text

    def test_wait_outlives_a_bundle_without_the_authority(
        self, connect, people, proxy, own_authority, another_authority, environment, fired, log, tmp_path
    ):
        bundle = tmp_path / "bundle.pem"
        shutil.copy(another_authority, bundle)
        environment(HTTPS_PROXY=proxy.url)
        connect(f"https://{HOST}/api", verify=str(bundle))

        event = fired("an-earlier-task", None, None, lambda: shutil.copy(own_authority, bundle))

        assert event["outcome"] == "met"
        assert "set extra 'verify'" in log.text
