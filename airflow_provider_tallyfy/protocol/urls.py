"""
Where Tallyfy is, and how the parts of an address are written.

The rule held here: whatever a caller passes as an id or an endpoint, the request stays below the API's root and
inside the path it was meant for, and a token travels in clear text only to this machine itself.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TypeGuard
from urllib.parse import SplitResult, quote, urlsplit

DEFAULT_API_URL = "https://go.tallyfy.com/api"
DEFAULT_WEB_URL = "https://go.tallyfy.com"

# The official SDK accepts exactly these ids (tallyfy 3.1.0, validation.py).
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,255}", re.ASCII)
_BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_FORBIDDEN_IN_ENDPOINT = re.compile(r"[\\?#\x00-\x20\x7f]")


def is_identifier(value: object) -> TypeGuard[str]:
    """Tell whether ``value`` can be a Tallyfy id."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def identifier(value: object, field: str) -> str:
    """
    Return ``value`` as a Tallyfy id that can stand in a path.

    :param value: the id, a string of 1 to 255 letters, digits, ``_`` and ``-``.
    :param field: what the caller calls it, for the error.
    :raises ValueError: where it is anything else.
    """
    if is_identifier(value):
        return value
    raise ValueError(
        f"{field} must be a Tallyfy id (1 to 255 letters, digits, '_' or '-'), but is {_described(value)}. "
        f"Take it from the API's answer or from the address of the page in Tallyfy."
    )


def segment(value: object, field: str) -> str:
    """
    Return ``value`` quoted as one segment of a path, whatever characters it holds.

    :raises ValueError: where it is not a string, is empty, or is ``.`` or ``..``, which would change the path.
    """
    if not isinstance(value, str) or value in ("", ".", ".."):
        raise ValueError(f"{field} must be a non-empty string, but is {_described(value)}.")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise ValueError(f"{field} holds characters that cannot stand in an address.") from None


def endpoint_path(endpoint: object, organization: str) -> str:
    """
    Return the path, from the API's root, that an endpoint stands for.

    :param endpoint: written without quoting; relative to the organization (``runs/abc/tasks``), or absolute from
        the API's root when it begins with ``/`` (``/me``).
    :param organization: the id that a relative endpoint belongs to.
    :raises ValueError: where it is empty, leaves its place (``..``), or carries a query, which belongs in ``params``.
    """
    if not isinstance(endpoint, str) or not endpoint.strip("/"):
        raise ValueError(f"endpoint must be a path such as 'runs' or '/me', but is {_described(endpoint)}.")
    if _FORBIDDEN_IN_ENDPOINT.search(endpoint) or "://" in endpoint:
        raise ValueError(
            "endpoint must be a plain path without host, query, fragment, blanks or backslashes; "
            "put query parameters into 'params'."
        )
    parts = endpoint.strip("/").split("/")
    path = "/".join(segment(part, "each part of endpoint") for part in parts)
    return f"/{path}" if endpoint.startswith("/") else f"{organization_path(organization)}/{path}"


def organization_path(organization: str) -> str:
    """Return the path that everything of an organization stands below."""
    return f"/organizations/{segment(organization, 'organization')}"


def api_url(host: str | None, port: int | None, schema: str | None, *, allow_http: bool = False) -> str:
    """
    Return the API's base URL, without a slash at its end.

    A full URL is taken as written. A bare host name means https (or ``schema``) and the ``/api`` path of that host,
    unless a path is given with it. Tallyfy's documentation names ``https://go.tallyfy.com/api``; its SDK and command
    line use ``https://api.tallyfy.com`` with the same paths and no prefix.

    :param host: a URL or a host name; empty for Tallyfy's own cloud.
    :param port: goes into the URL where the host does not name one.
    :param schema: ``https`` or ``http``, for a bare host name.
    :param allow_http: let plain http go to another machine.
    :raises ValueError: where it is no http(s) URL, carries credentials, or would send a token in clear text.
    """
    if not host and not port and not schema:
        return DEFAULT_API_URL
    schema = (schema or "https").lower()
    if schema not in ("https", "http"):
        raise ValueError("schema must be https or http; what comes after the host belongs into host.")
    if port is not None and not 0 < port < 65536:
        raise ValueError("port must be between 1 and 65535.")
    given = (host or urlsplit(DEFAULT_API_URL).netloc).strip()
    is_url = "://" in given
    if given.count(":") > 1 and not is_url and "[" not in given:
        given = f"[{given}]"  # an IPv6 address, as Airflow gives it
    parts = _checked(given if is_url else f"{schema}://{given}", "host", allow_http=allow_http)
    netloc = parts.netloc if parts.port or not port else f"{parts.netloc}:{port}"
    path = parts.path if is_url or parts.path else "/api"
    return f"{parts.scheme}://{netloc}{path}".rstrip("/")


def checked_url(url: str, field: str, *, allow_http: bool = False) -> str:
    """
    Return ``url`` without a slash at its end, if a token may be sent there.

    :raises ValueError: where it is no http(s) URL, carries credentials, or is plain http to another machine.
    """
    return _checked(url, field, allow_http=allow_http).geturl().rstrip("/")


def _checked(url: str, field: str, *, allow_http: bool) -> SplitResult:
    if _BLANK_OR_CONTROL.search(url):
        raise ValueError(f"{field} holds blanks or control characters.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{field} is no URL: its host or port cannot be read.") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        raise ValueError(f"{field} must be an https URL or a host name.")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{field} must not hold credentials, a query or a fragment.")
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname):
        raise ValueError(
            f"{field} is plain http to {parts.hostname}, which would send the token in clear text. "
            f"Use https, or set the extra 'allow_http' to true if that network is trusted."
        )
    return parts


def is_loopback(hostname: str) -> bool:
    """Tell whether ``hostname`` names this machine itself, without asking a name server."""
    if hostname.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port: what must be equal for a token to be sent along."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def token_url(api: str) -> str:
    """Return where an application gets its token unless told otherwise: ``/oauth/token`` of the API's host."""
    parts = urlsplit(api)
    return f"{parts.scheme}://{parts.netloc}/oauth/token"


def run_url(web_url: str, organization: str, run_id: str) -> str:
    """Return the page on which people see a run."""
    return f"{web_url}/{segment(organization, 'organization')}/processes/{identifier(run_id, 'run_id')}"


def _described(value: object) -> str:
    if value is None or value == "":
        return "missing" if value is None else "empty"
    if isinstance(value, str):
        shown = value if len(value) <= 60 else value[:60] + "…"
        return f"the text {shown!r}"
    return f"of type {type(value).__name__}"
