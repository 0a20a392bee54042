"""
Error responses: the kind of error, and the reason in the body.

An error is ``{"message": "…"}``, with or without ``"error": true`` and ``"code"``, or it is structured:
``{"error": {"code": …, "message": …, "details": …}}``. From a proxy in between it may be text, HTML or nothing at all.
The status decides which kind of error it is; the body only explains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, read_body

_REASONS = ("message", "error_description", "detail", "error", "code")
_DETAILS = ("errors", "details")
_ENVELOPE = {*_REASONS, *_DETAILS}
_GATEWAY_BODIES = (
    {"message": "Forbidden"},
    {"message": "Unauthorized"},
    {"message": "Not Found"},
    {"message": "Missing Authentication Token"},
)
"""Bodies of gateways and firewalls in front of an API, as those of AWS (seen with 401, 403, 404)."""
VERSION_HEADER = "X-Tallyfy-Version"
"""Tallyfy's own responses have it (``tallyfy/mcp-public`` logs it), so a body that comes with it is Tallyfy's."""


class ErrorKind(Enum):
    """The kinds of error responses."""

    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    NOT_FOUND = "not found"
    VALIDATION = "validation"
    RATE_LIMIT = "rate limit"
    SERVER = "server"
    REDIRECT = "redirect"
    OTHER = "other"


_KINDS = {
    401: ErrorKind.AUTHENTICATION,
    403: ErrorKind.PERMISSION,
    429: ErrorKind.RATE_LIMIT,
    **dict.fromkeys((404, 410), ErrorKind.NOT_FOUND),
    **dict.fromkeys((400, 409, 422), ErrorKind.VALIDATION),
}


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """
    A response with a status of 300 or more.

    :param kind: what the status means.
    :param status: the HTTP status.
    :param message: the reason in the body, or ``None`` if there is none.
    :param request_id: from ``X-Request-Id``, to quote to Tallyfy's support.
    :param is_from_tallyfy: whether the body is an error as Tallyfy sends it, and not one that gateways are known for.
        Text, HTML, other JSON or nothing is a proxy's.
    """

    kind: ErrorKind
    status: int
    message: str | None = None
    request_id: str | None = None
    is_from_tallyfy: bool = True

    @property
    def is_unknown_endpoint(self) -> bool:
        """Whether there is no such endpoint; a wrong base URL has the same status as a run that does not exist."""
        return self.kind is ErrorKind.NOT_FOUND and "endpoint not found" in (self.message or "").casefold()


def read_error(status: int, headers: Mapping[str, str], content: bytes) -> ErrorResponse:
    """
    Return what a response with a status of 300 or more means.

    :param headers: of the response, under any case if the mapping allows that.
    :param content: the body, whatever it is.
    """
    body = message = None
    is_an_error = False
    try:
        body = read_body(content)
        is_an_error = _is_an_error(body)
        message = _reason(body) if is_an_error else None
    except MalformedResponseError:
        message = _plain_text(content)
    except RecursionError:
        pass
    is_from_tallyfy = isinstance(body, dict) and (
        VERSION_HEADER in headers or (is_an_error and body not in _GATEWAY_BODIES)
    )
    return ErrorResponse(
        _kind_of(status), status, message or None, headers.get("X-Request-Id"), is_from_tallyfy
    )


def _kind_of(status: int) -> ErrorKind:
    # 408, 421 and 425 mean, like a 5xx, that this attempt failed.
    if status >= 500 or status in (408, 421, 425):
        return ErrorKind.SERVER
    return _KINDS.get(status, ErrorKind.REDIRECT if status < 400 else ErrorKind.OTHER)


def _plain_text(content: bytes) -> str | None:
    """Return a body that is text for people: no HTML, and no JSON that was cut off."""
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        return None
    return None if text.startswith(("<", "{", "[", '"')) else text or None


def _is_an_error(body: Any) -> bool:
    """Return whether a body is an error; it may also be an object of texts by field, without an envelope."""
    if not isinstance(body, dict) or _ENVELOPE & body.keys():
        return True
    return body != {} and all(
        isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in body.values()
    )


def _reason(value: Any) -> str:
    """
    Return the reason in a body or a part of it, and in parentheses ``errors`` by field or ``details``.

    In an object it is ``message``, OAuth's ``error_description``, ``detail``, ``error`` or ``code``: a text, or again
    such an object.
    """
    if isinstance(value, int | float):
        return ""
    if not isinstance(value, dict):
        return _details(value)
    candidates = (_reason(value.get(key)) for key in _REASONS)
    message = next(filter(None, candidates), "")
    details = "; ".join(filter(None, (_details(value.get(key)) for key in _DETAILS)))
    if message and details:
        return f"{message} ({details})"
    return (
        message or details or _details({key: inner for key, inner in value.items() if key not in _ENVELOPE})
    )


def _details(value: Any) -> str:
    """Return all texts in a value with their fields; Laravel nests them in lists and objects."""
    match value:
        case {"field": str(field), "message": message}:
            return f"{field}: {_details(message)}"
        case dict():
            texts = ((field, _details(inner)) for field, inner in value.items())
            return "; ".join(f"{field}: {text}" if text else field for field, text in texts)
        case list():
            return " ".join(filter(None, map(_details, value)))
        case str():
            return value if value.strip() else ""
        case int() | float() if not isinstance(value, bool):
            return str(value)
    return ""
