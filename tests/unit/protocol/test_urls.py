from __future__ import annotations

import pytest

from airflow_provider_tallyfy.protocol import urls

IDS = ["5eed5eed5eed5eed5eed5eed5eed5eed", "a", "A-b_9", "1001", "x" * 255]
NOT_IDS = [
    "",
    ".",
    "..",
    "../other",
    "a/b",
    "a\\b",
    "%2e%2e",
    "a%2Fb",
    "a?b=c",
    "a#b",
    "a b",
    " a",
    "a\n",
    "\na",
    "a\x00",
    "é",
    "１２",  # noqa: RUF001 - digits, but not ASCII ones
    "x" * 256,
    None,
    0,
    -12,
    pytest.param(10**5000, id="a huge number"),
    True,
    b"a",
    ["a"],
    {"id": "a"},
]


class TestIdentifier:
    @pytest.mark.parametrize("value", IDS)
    def test_valid_id_is_returned(self, value):
        assert urls.identifier(value, "run_id") == value

    @pytest.mark.parametrize("value", NOT_IDS)
    def test_other_values_are_refused_by_name(self, value):
        with pytest.raises(ValueError, match=r"^run_id must be a Tallyfy id"):
            urls.identifier(value, "run_id")

    @pytest.mark.parametrize(
        ("value", "described"),
        [
            (None, "but is missing"),
            ("", "but is the text ''"),
            ("None", "but is the text 'None', which a template makes of a value that is missing"),
            ("a b", "but is the text 'a b'"),
            (-12, "but is a number"),
            ({"id": "a"}, "but is a mapping of 1; pass its 'id'. Take it"),
            ("/" * 300, "but is 300 characters"),
        ],
    )
    def test_error_describes_the_value(self, value, described):
        with pytest.raises(ValueError, match="run_id") as error:
            urls.identifier(value, "run_id")
        assert described in str(error.value)


class TestSegment:
    @pytest.mark.parametrize(
        ("value", "quoted"),
        [
            ("abc", "abc"),
            ("ada@example.com", "ada%40example.com"),
            ("a b", "a%20b"),
            ("a/b", "a%2Fb"),
            ("../x", "..%2Fx"),
            ("%2e%2e", "%252e%252e"),
            ("...", "..."),
            ("a?b#c", "a%3Fb%23c"),
            ("é", "%C3%A9"),
            ("a\n", "a%0A"),
        ],
    )
    def test_segment_is_quoted(self, value, quoted):
        assert urls.segment(value, "name") == quoted

    @pytest.mark.parametrize("value", ["", ".", "..", None, 1, b"a"])
    def test_value_that_would_change_the_path_is_refused(self, value):
        with pytest.raises(ValueError, match=r"^name must be a non-empty string"):
            urls.segment(value, "name")

    def test_half_of_a_surrogate_pair_is_refused(self):
        with pytest.raises(ValueError, match=r"^name "):
            urls.segment("a\ud800", "name")


class TestEndpointPath:
    @pytest.mark.parametrize(
        ("endpoint", "path"),
        [
            ("runs", "/organizations/acme/runs"),
            ("runs/abc/tasks", "/organizations/acme/runs/abc/tasks"),
            ("runs/", "/organizations/acme/runs"),
            ("/me", "/me"),
            ("/me/", "/me"),
            ("//evil.test/me", "/evil.test/me"),
            ("/organizations/other/runs", "/organizations/other/runs"),
            ("users/ada@example.com", "/organizations/acme/users/ada%40example.com"),
            ("tags/a,b", "/organizations/acme/tags/a%2Cb"),
            ("tags/é", "/organizations/acme/tags/%C3%A9"),
            ("runs/%2e%2e/%2e%2e/me", "/organizations/acme/runs/%252e%252e/%252e%252e/me"),
            ("runs/..;/me", "/organizations/acme/runs/..%3B/me"),
        ],
    )
    def test_relative_and_absolute_endpoints(self, endpoint, path):
        assert urls.endpoint_path(endpoint, "acme") == path

    @pytest.mark.parametrize(
        "endpoint",
        [
            "",
            "/",
            "///",
            "..",
            "../other",
            "runs/..",
            "runs/../../me",
            "/../me",
            "/organizations/acme/../other",
            "runs/./abc",
            "runs//abc",
            "runs?q=a",
            "runs#top",
            "runs\\abc",
            "runs abc",
            "runs\n",
            "runs\x00",
            "runs\x7f",
            "https://evil.test/runs",
            "://evil.test",
            None,
            1,
            b"runs",
            ["runs"],
        ],
    )
    def test_invalid_endpoints_are_refused(self, endpoint):
        with pytest.raises(ValueError, match="endpoint"):
            urls.endpoint_path(endpoint, "acme")

    def test_error_says_where_a_query_belongs(self):
        # 'params' of an operator are Airflow's own, and would be lost in silence
        with pytest.raises(ValueError, match="put query parameters into 'query' of TallyfyApiOperator"):
            urls.endpoint_path("runs?q=a", "acme")

    @pytest.mark.parametrize("organization", ["", ".", "..", None])
    def test_organization_is_quoted(self, organization):
        with pytest.raises(ValueError, match=r"^organization must be"):
            urls.endpoint_path("runs", organization)


class TestApiUrl:
    @pytest.mark.parametrize(
        ("host", "port", "schema", "url"),
        [
            # Tallyfy's own cloud
            (None, None, None, "https://go.tallyfy.com/api"),
            ("", None, "", "https://go.tallyfy.com/api"),
            (None, 8443, None, "https://go.tallyfy.com:8443/api"),
            (None, None, "https", "https://go.tallyfy.com/api"),
            # a bare host name
            ("tallyfy.test", None, None, "https://tallyfy.test/api"),
            ("tallyfy.test", None, "https", "https://tallyfy.test/api"),
            ("tallyfy.test", 8443, None, "https://tallyfy.test:8443/api"),
            ("tallyfy.test:8443", None, None, "https://tallyfy.test:8443/api"),
            ("tallyfy.test:8443", 9443, None, "https://tallyfy.test:8443/api"),
            ("tallyfy.test/v2", None, None, "https://tallyfy.test/v2"),
            ("tallyfy.test/v2/", 8443, None, "https://tallyfy.test:8443/v2"),
            ("127.0.0.1", 8090, "http", "http://127.0.0.1:8090/api"),
            ("localhost:8090", None, "http", "http://localhost:8090/api"),
            ("[::1]", 8090, "http", "http://[::1]:8090/api"),
            ("[::1]:8090", None, "http", "http://[::1]:8090/api"),
            ("tallyfy.test", None, "HTTPS", "https://tallyfy.test/api"),
            ("tallyfy.test/", None, None, "https://tallyfy.test/api"),
            ("//tallyfy.test", None, None, "https://tallyfy.test/api"),
            ("tallyfy.test//v2//", None, None, "https://tallyfy.test/v2"),
            ("Tallyfy.TEST", None, None, "https://tallyfy.test/api"),
            # Tallyfy's own hosts, in every spelling
            ("api.tallyfy.com", None, None, "https://api.tallyfy.com"),
            ("API.Tallyfy.com", None, "https", "https://api.tallyfy.com"),
            ("api.tallyfy.com/", None, "", "https://api.tallyfy.com"),
            ("api.tallyfy.com:443", None, None, "https://api.tallyfy.com"),
            ("api.tallyfy.com", 443, None, "https://api.tallyfy.com"),
            ("api.tallyfy.com.", None, None, "https://api.tallyfy.com."),
            ("HTTPS://API.TALLYFY.COM/", None, None, "https://api.tallyfy.com"),
            ("go.tallyfy.com", None, None, "https://go.tallyfy.com/api"),
            ("go.tallyfy.com/api/", None, None, "https://go.tallyfy.com/api"),
            ("https://go.tallyfy.com", None, None, "https://go.tallyfy.com/api"),
            ("https://go.tallyfy.com/", None, None, "https://go.tallyfy.com/api"),
            ("https://go.tallyfy.com:443", None, None, "https://go.tallyfy.com/api"),
            ("https://go.tallyfy.com//api", None, None, "https://go.tallyfy.com/api"),
            # Airflow takes what follows the host in a connection's URI for the schema
            ("go.tallyfy.com", None, "api", "https://go.tallyfy.com/api"),
            ("go.tallyfy.com", None, "api/", "https://go.tallyfy.com/api"),
            ("go.tallyfy.com", None, "https/api", "https://go.tallyfy.com/api"),
            ("127.0.0.1", 8090, "http/api", "http://127.0.0.1:8090/api"),
            ("tallyfy.test", None, "tools/tallyfy", "https://tallyfy.test/tools/tallyfy"),
            ("tallyfy.test", None, "api/v2", "https://tallyfy.test/api/v2"),
            ("https://tallyfy.test/v2", None, "api", "https://tallyfy.test/v2"),
            ("tallyfy.test", None, "https://", "https://tallyfy.test/api"),
            (None, None, "/api", "https://go.tallyfy.com/api"),
            # international names, as requests sends them
            ("tällyfy.test", None, None, "https://xn--tllyfy-bua.test/api"),
            ("https://TÄLLYFY.test:8443/api", None, None, "https://xn--tllyfy-bua.test:8443/api"),
            ("プロセス.example", None, None, "https://xn--zckd7fzd.example/api"),
            ("faß.de", None, None, "https://xn--fa-hia.de/api"),
            ("xn--tllyfy-bua.test", None, None, "https://xn--tllyfy-bua.test/api"),
            ("\uff41\uff50\uff49.tallyfy.com", None, None, "https://api.tallyfy.com"),
            # a wait compares URLs, so one API has one, with or without its default port
            ("tallyfy.test:443", 9443, None, "https://tallyfy.test/api"),
            ("http://[::1]:80/api", None, None, "http://[::1]/api"),
            ("localhost", 443, "http", "http://localhost:443/api"),
            # a URL is taken as written
            ("https://go.tallyfy.com/api", None, None, "https://go.tallyfy.com/api"),
            ("https://go.tallyfy.com/api/", None, None, "https://go.tallyfy.com/api"),
            ("https://api.tallyfy.com", None, None, "https://api.tallyfy.com"),
            ("https://api.tallyfy.com/", None, None, "https://api.tallyfy.com"),
            ("https://api.tallyfy.com", 8443, None, "https://api.tallyfy.com:8443"),
            ("https://tallyfy.test:8443/api", 9443, "http", "https://tallyfy.test:8443/api"),
            ("http://127.0.0.1:8090/api", None, None, "http://127.0.0.1:8090/api"),
            ("http://127.0.0.1:8090/api", None, "https", "http://127.0.0.1:8090/api"),
            ("http://[::1]:8090/api", None, None, "http://[::1]:8090/api"),
            # spaces that come along when an address is copied
            (" tallyfy.test ", None, None, "https://tallyfy.test/api"),
            ("https://tallyfy.test/api\n", None, None, "https://tallyfy.test/api"),
            # Airflow takes the brackets off the address of a connection's URI
            ("::1", 8090, "http", "http://[::1]:8090/api"),
        ],
    )
    def test_host_port_and_schema(self, host, port, schema, url):
        assert urls.api_url(host, port, schema) == url

    @pytest.mark.parametrize(
        "host",
        [
            "https://ada:secret@tallyfy.test/api",
            "ada@tallyfy.test",
            "https://tallyfy.test/api?a=b",
            "tallyfy.test/#a",
        ],
    )
    def test_credentials_queries_and_fragments_are_refused_and_not_shown(self, host):
        with pytest.raises(ValueError, match=r"^host must not hold credentials") as error:
            urls.api_url(host, None, None)
        assert "secret" not in str(error.value)

    @pytest.mark.parametrize(
        ("host", "port", "schema"),
        [
            ("ftp://tallyfy.test", None, None),
            ("file:///etc/passwd", None, None),
            ("https://", None, None),
            ("https:///api", None, None),
            ("tallyfy.test:port", None, None),
            ("tallyfy.test:99999", None, None),
            ("https://[::1", None, None),
            ("https://tally fy.test", None, None),
            ("https:/go.tallyfy.com/api", None, None),
            ("https//go.tallyfy.com/api", None, None),
            ("https:go.tallyfy.com", None, None),
            ("tallyfy://go.tallyfy.com/api", None, None),
            ("<https://go.tallyfy.com/api>", None, None),
            ("https://<host>/api", None, None),
            ("go.tallyfy.com\\api", None, None),
            ("https://go.tallyfy.com/organizations/acme", None, None),
            ("https://tallyfy.test/api/organizations/acme", None, None),
            ("https://go.tallyfy.com/acme/processes/r1", None, None),
            ("go.tallyfy.com", None, "api/organizations/acme"),
            ("api.tallyfy.com/api", None, None),
            ("https://api.tallyfy.com/api/", None, None),
            ("api.tallyfy.com", None, "api"),
            ("https://tallyfy.test/api\u200b", None, None),
            ("-\u00e4.test", None, None),
            ("\u2488com.test", None, None),
            (f"{'x' * 64}.secret", None, None),
        ],
    )
    def test_invalid_hosts_are_refused(self, host, port, schema):
        with pytest.raises(ValueError, match=r"^host "):
            urls.api_url(host, port, schema)

    @pytest.mark.parametrize("schema", ["ftp", "secret@host", "secret@host/api", "api/secret=="])
    def test_invalid_schema_is_refused_and_not_shown(self, schema):
        """What a URI holds after an unquoted slash of its token ends up here."""
        with pytest.raises(
            ValueError, match=r"^schema must be https or http\. Write a path into host"
        ) as error:
            urls.api_url("tallyfy.test", None, schema)
        assert "secret" not in str(error.value)

    def test_error_says_what_to_write(self):
        for host in (
            "https://",
            "tallyfy://go.tallyfy.com",
            "a:b",
            "https://go.tallyfy.com/acme/processes/r1",
        ):
            with pytest.raises(ValueError, match=r"^host .*[Ww]rite .*https://go\.tallyfy\.com/api"):
                urls.api_url(host, None, None)
        with pytest.raises(ValueError, match=r"^host has no valid international host name .*xn--"):
            urls.api_url("-\u00e4.test", None, None)
        with pytest.raises(ValueError, match=r"organization id goes into login, the token into password"):
            urls.api_url("https://acme:secret@go.tallyfy.com/api", None, None)

    def test_international_name_is_not_taken_for_loopback(self):
        assert (
            urls.api_url("http://\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54:8090", None, None)
            == "http://localhost:8090"
        )
        with pytest.raises(ValueError, match=r"^host is plain http to xn--"):
            urls.api_url("http://löcalhost:8090", None, None)

    @pytest.mark.parametrize("port", [-1, 65536, 99999])
    def test_invalid_port_is_refused(self, port):
        with pytest.raises(ValueError, match="port"):
            urls.api_url("tallyfy.test", port, None)


class TestPlainHttp:
    @pytest.mark.parametrize(
        "hostname", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "127.255.255.254", "::1"]
    )
    def test_loopback_addresses(self, hostname):
        assert urls.is_loopback(hostname)
        shown = f"[{hostname}]" if ":" in hostname else hostname
        assert urls.checked_url(f"http://{shown}:8090/api/", "host") == f"http://{shown.lower()}:8090/api"

    @pytest.mark.parametrize(
        "hostname",
        [
            "tallyfy.test",
            "localhost.tallyfy.test",
            "127.0.0.1.tallyfy.test",
            "128.0.0.1",
            "10.0.0.1",
            "192.168.0.1",
            "0.0.0.0",  # noqa: S104 - a name that must not pass, not an address to listen on
            "127.1",
            "2130706433",
            "::",
            "fe80::1",
            "",
        ],
    )
    def test_other_addresses(self, hostname):
        assert not urls.is_loopback(hostname)

    @pytest.mark.parametrize(
        "url",
        [
            "http://tallyfy.test/api",
            "HTTP://tallyfy.test/api",
            "http://[fe80::1]/api",
            "http://127.0.0.1.tallyfy.test/api",
            "http://localhost.tallyfy.test/api",
        ],
    )
    def test_plain_http_to_another_machine_is_refused(self, url):
        with pytest.raises(
            ValueError, match=r"^host is plain http to .* clear text\. Use https.*'allow_http'"
        ):
            urls.checked_url(url, "host")

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("http://localhost@tallyfy.test/api", "must not hold credentials, a query or a fragment"),
            ("http://ada:secret@tallyfy.test/api", "must not hold credentials, a query or a fragment"),
            ("http://127.0.0.1\\@tallyfy.test/api", "must not hold credentials, a query or a fragment"),
            ("http://localhost\t.tallyfy.test/api", "contains spaces or control characters"),
            ("http://localhost .tallyfy.test/api", "contains spaces or control characters"),
            ("http://localhost\x7f.tallyfy.test/api", "contains spaces or control characters"),
        ],
    )
    @pytest.mark.parametrize("allow_http", [False, True])
    def test_url_that_only_looks_like_loopback_is_refused(self, url, reason, allow_http):
        for check in (
            lambda: urls.checked_url(url, "host", allow_http=allow_http),
            lambda: urls.api_url(url, None, None, allow_http=allow_http),
        ):
            with pytest.raises(ValueError, match=f"^host {reason}") as error:
                check()
            assert "secret" not in str(error.value)

    def test_allow_http(self):
        assert (
            urls.checked_url("http://tallyfy.test/api", "host", allow_http=True) == "http://tallyfy.test/api"
        )
        assert urls.api_url("tallyfy.test", None, "http", allow_http=True) == "http://tallyfy.test/api"

    def test_bare_host_with_schema_http_is_refused(self):
        with pytest.raises(ValueError, match=r"^host is plain http to tallyfy\.test"):
            urls.api_url("tallyfy.test", None, "http")
        with pytest.raises(ValueError, match=r"^host is plain http to go\.tallyfy\.com"):
            urls.api_url(None, None, "http")


class TestCheckedUrl:
    @pytest.mark.parametrize(
        "url",
        [
            "",
            "/oauth/token",
            "tallyfy.test/oauth/token",
            "ftp://tallyfy.test",
            "https://",
            "javascript:alert(1)",
            "https://[::1",
            "https://tallyfy.test:99999/oauth/token",
            "https://ada:secret@tallyfy.test/oauth/token",
            "https://tallyfy.test/\noauth",
        ],
    )
    def test_invalid_urls_are_refused_by_field(self, url):
        with pytest.raises(ValueError, match=r"^extra 'token_url' ") as error:
            urls.checked_url(url, "extra 'token_url'")
        assert "secret" not in str(error.value)

    def test_trailing_slash_is_removed(self):
        assert urls.checked_url("https://tallyfy.test/", "host") == "https://tallyfy.test"


class TestOrigin:
    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            ("https://tallyfy.test/api", ("https", "tallyfy.test", 443)),
            ("https://tallyfy.test:443/", ("https", "tallyfy.test", 443)),
            ("HTTPS://Tallyfy.Test/", ("https", "tallyfy.test", 443)),
            ("http://tallyfy.test", ("http", "tallyfy.test", 80)),
            ("http://[::1]:8090/api", ("http", "::1", 8090)),
        ],
    )
    def test_scheme_host_and_port(self, url, origin):
        assert urls.origin(url) == origin


def test_run_url():
    url = urls.run_url("https://go.tallyfy.com", "acme", "r1")
    assert url == "https://go.tallyfy.com/acme/processes/r1"
    with pytest.raises(ValueError, match=r"^run_id must be"):
        urls.run_url("https://go.tallyfy.com", "acme", "../r1")
