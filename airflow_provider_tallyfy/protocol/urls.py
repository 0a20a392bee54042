"""
URLs of the API, and their parts.

Whatever a caller passes as an id or an endpoint, the request stays below the API's root and inside the path that it was
meant for. A token travels in clear text only to this machine itself.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import TypeGuard
from urllib.parse import quote, urlsplit

from airflow_provider_tallyfy.protocol.formatting import described

DEFAULT_API_URL = "https://go.tallyfy.com/api"
DEFAULT_WEB_URL = "https://go.tallyfy.com"
API_PATHS = {"go.tallyfy.com": "/api", "api.tallyfy.com": ""}
"""Where Tallyfy's hosts have the API: the first in its documentation, the second in its SDK and command line."""

# The official SDK accepts exactly these ids (tallyfy 3.1.0, validation.py).
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,255}", re.ASCII)
_HOSTNAME = re.compile(r"([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_PLAIN_PATH = re.compile(r"[\w./~-]+", re.ASCII)
_EXAMPLE = "Write it as in https://go.tallyfy.com/api."
_FORBIDDEN_IN_ENDPOINT = re.compile(r"[\\?#\x00-\x20\x7f]")


def is_identifier(value: object) -> TypeGuard[str]:
    """Return whether ``value`` can be a Tallyfy id."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def identifier(value: object, field: str) -> str:
    """
    Return ``value`` as a Tallyfy id, for a path.

    :param value: the id, a string of 1 to 255 letters, digits, ``_`` and ``-``, or a whole number.
    :param field: what the caller calls it, for the error.
    :raises ValueError: it is anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**255:
        value = str(value)
    if is_identifier(value) and value != "None":
        return value
    shown = "missing" if value is None else described(value)
    if value == "None":
        shown += ", which a template makes of a value that is missing"
    elif isinstance(value, Mapping) and "id" in value:
        shown += "; pass its 'id'"
    raise ValueError(
        f"{field} must be a Tallyfy id (1 to 255 letters, digits, '_' or '-'), but is {shown}. "
        f"Take it from a response of the API, or from the URL of the page in Tallyfy."
    )


def segment(value: object, field: str) -> str:
    """
    Return ``value`` quoted as one segment of a path, whatever characters it contains.

    :raises ValueError: it is not a string, is empty, or is ``.`` or ``..``, which would change the path.
    """
    if not isinstance(value, str) or value in ("", ".", ".."):
        raise ValueError(f"{field} must be a non-empty string, but is {described(value)}.")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise ValueError(f"{field} contains characters that a URL cannot have.") from None


def endpoint_path(endpoint: object, organization: str) -> str:
    """
    Return the path of an endpoint from the API's root.

    :param endpoint: written without quoting; relative to the organization (``runs/abc/tasks``), or absolute from
        the API's root when it begins with ``/`` (``/me``).
    :param organization: the id that a relative endpoint belongs to.
    :raises ValueError: it is empty, leaves its place (``..``), or carries a query.
    """
    if not isinstance(endpoint, str) or not endpoint.strip("/"):
        raise ValueError(f"endpoint must be a path such as 'runs' or '/me', but is {described(endpoint)}.")
    if _FORBIDDEN_IN_ENDPOINT.search(endpoint) or "://" in endpoint:
        raise ValueError(
            "endpoint must be a plain path without host, query, fragment, spaces or backslashes; "
            "put query parameters into 'query' of TallyfyApiOperator, or 'params' of the hook's request()."
        )
    path = "".join(f"/{segment(part, 'each part of endpoint')}" for part in endpoint.strip("/").split("/"))
    return (
        path if endpoint.startswith("/") else f"/organizations/{segment(organization, 'organization')}{path}"
    )


def api_url(host: str | None, port: int | str | None, schema: str | None, *, allow_http: bool = False) -> str:
    """
    Return the API's base URL, without a slash at its end.

    A host without a path means the ``/api`` of that host, but :data:`API_PATHS` says where Tallyfy's own hosts have the
    API. A URL of another host is taken as written.

    :param host: a URL or a host name, with or without a path; empty for Tallyfy's own cloud.
    :param port: goes into the URL if the host does not name one; some secrets backends have it as a text.
    :param schema: ``https`` or ``http``, if the host does not name it. Airflow also stores what follows the host in a
        connection's URI here, so it may be a path too: ``api``, ``https/api``.
    :param allow_http: allow plain http to another machine.
    :raises ValueError: it is no http(s) URL, carries credentials, or would send a token in clear text.
    """
    scheme, path = _scheme_and_path(schema or "")
    if port not in (None, "") and not (str(port).isdecimal() and 0 < int(port) < 65536):
        raise ValueError("port must be between 1 and 65535.")
    given = (host or "").strip().lstrip("/") or "go.tallyfy.com"
    is_url = "://" in given
    if given.count(":") > 1 and not is_url and "[" not in given:
        given = f"[{given}]"  # an IPv6 address, as Airflow gives it
    parts = urlsplit(checked_url(given if is_url else f"{scheme}://{given}", "host", allow_http=allow_http))
    netloc = parts.netloc if parts.port or not port else f"{parts.netloc}:{port}"
    # A wait compares URLs, and must not take the same API for another one.
    netloc = netloc.removesuffix(":443" if parts.scheme == "https" else ":80")
    root = API_PATHS.get((parts.hostname or "").rstrip("."))
    path = parts.path or path or (root if root is not None else "" if is_url else "/api")
    segments = path.split("/")[1:]
    if "organizations" in segments or (
        root is not None and (segments[:1] == ["api"]) is not (root == "/api")
    ):
        raise ValueError(
            f"host must end where the API begins: write {DEFAULT_API_URL}, or https://api.tallyfy.com without /api, "
            f"and nothing after it."
        )
    return f"{parts.scheme}://{netloc}{path}"


def _scheme_and_path(schema: str) -> tuple[str, str]:
    first, _, rest = schema.strip().strip(":/").partition("/")
    if first.lower() in ("", "https", "http"):
        return first.lower() or "https", _normalized_path(rest)
    # Part of a token that the URI of a connection did not quote must neither be sent nor be shown.
    if (first != "api" and not rest) or not _PLAIN_PATH.fullmatch(schema):
        raise ValueError("schema must be https or http. Write a path into host, and quote a token in a URI.")
    return "https", _normalized_path(schema)


def _normalized_path(path: str) -> str:
    return "".join(f"/{part}" for part in path.split("/") if part)


def checked_url(url: str, field: str, *, allow_http: bool = False) -> str:
    """
    Return ``url`` without a slash at its end, if a token may be sent there.

    :param field: name of the setting, for the error.
    :param allow_http: allow plain http to another machine.
    :raises ValueError: it is no http(s) URL, carries credentials, or is plain http to another machine.
    """
    if " " in url or not url.isprintable():
        raise ValueError(f"{field} contains spaces or control characters; write it without them.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{field} is not a URL: its host or port cannot be read. {_EXAMPLE}") from None
    if parts.scheme not in ("https", "http") or parts.hostname in (None, "", "https", "http") or port == 0:
        raise ValueError(f"{field} must be an https URL or a host name. {_EXAMPLE}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            f"{field} must not hold credentials, a query or a fragment. The organization id goes into login, the "
            f"token into password."
        )
    hostname = _ascii_hostname(parts.hostname or "", field)
    if parts.scheme == "http" and not allow_http and not is_loopback(hostname):
        raise ValueError(
            f"{field} is plain http to {hostname}, which would send the token in clear text. "
            f"Use https, or set the extra 'allow_http' to true if that network is trusted."
        )
    netloc = f"[{hostname}]" if ":" in hostname else hostname
    netloc = f"{netloc}:{port}" if port else netloc
    return f"{parts.scheme}://{netloc}{_normalized_path(parts.path)}"


def _ascii_hostname(hostname: str, field: str) -> str:
    """Return a host name as requests sends it: an international one in its ASCII form."""
    if not hostname.isascii():
        import idna  # as requests does, with the same tables; its import is slow

        try:
            hostname = idna.encode(hostname, uts46=True).decode()
        except idna.IDNAError as error:
            raise ValueError(
                f"{field} has no valid international host name ({error}). Write its ASCII form, xn--…, if it has one."
            ) from None
    if not _HOSTNAME.fullmatch(hostname) and _ip_address(hostname) is None:
        raise ValueError(f"{field} is not a URL: its host name cannot be read. {_EXAMPLE}")
    return hostname


def _ip_address(hostname: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(hostname)
    except ValueError:
        return None


def is_loopback(hostname: str) -> bool:
    """Return whether a host name means this machine itself, without a name server."""
    address = _ip_address(hostname)
    return hostname.lower() == "localhost" or (address is not None and address.is_loopback)


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port: what must be equal for a token to be sent along."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def run_url(web_url: str, organization: str, run_id: str) -> str:
    """Return the URL of a run's page in Tallyfy's web application."""
    return f"{web_url}/{segment(organization, 'organization')}/processes/{identifier(run_id, 'run_id')}"
