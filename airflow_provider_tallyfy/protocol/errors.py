"""
What it means when Tallyfy refuses.

An error is ``{"message": "…"}``, with or without ``"error": true`` and ``"code"``, or it is structured:
``{"error": {"code": …, "message": …, "details": …}}``. From a proxy in between it may be HTML or nothing at all. The
status decides what kind of failure it is, the body only explains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, read_body


class ErrorKind(Enum):
    """The kinds of failure that a caller can tell apart."""

    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    NOT_FOUND = "not found"
    VALIDATION = "validation"
    RATE_LIMIT = "rate limit"
    SERVER = "server"
    REDIRECT = "redirect"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """
    A refusal, as Tallyfy put it.

    :param kind: what the status means.
    :param status: the HTTP status.
    :param message: Tallyfy's own words, or ``None`` where the body has none.
    :param request_id: from ``X-Request-Id``, to quote to Tallyfy's support.
    :param is_from_tallyfy: whether the body is one of Tallyfy's; HTML or nothing comes from a proxy in between.
    """

    kind: ErrorKind
    status: int
    message: str | None = None
    request_id: str | None = None
    is_from_tallyfy: bool = True


def read_error(status: int, headers: Mapping[str, str], content: bytes) -> ErrorResponse:
    """
    Return what an answer with a status of 300 or more means.

    :param headers: the answer's, under any case if the mapping allows that.
    :param content: the body, whatever it is.
    """
    try:
        body = read_body(content)
        message = _message(body)
    except (MalformedResponseError, RecursionError):
        body = message = None
    is_from_tallyfy = isinstance(body, dict)
    return ErrorResponse(_kind_of(status), status, message, headers.get("X-Request-Id"), is_from_tallyfy)


def _kind_of(status: int) -> ErrorKind:
    match status:
        case 401:
            return ErrorKind.AUTHENTICATION
        case 403:
            return ErrorKind.PERMISSION
        case 404 | 410:
            return ErrorKind.NOT_FOUND
        case 400 | 409 | 422:
            return ErrorKind.VALIDATION
        case 429:
            return ErrorKind.RATE_LIMIT
    # 408, 421 and 425 say, like a 5xx, that this attempt failed, and nothing about what was asked for.
    if status >= 500 or status in (408, 421, 425):
        return ErrorKind.SERVER
    return ErrorKind.REDIRECT if status < 400 else ErrorKind.OTHER


def _message(body: Any) -> str | None:
    """
    Join what an error says: its reason, and in parentheses ``errors`` by field or ``details``.

    The reason is ``message``, OAuth's ``error_description``, ``error`` or ``code``, a text or again such an object.
    """
    if not isinstance(body, dict):
        return None
    candidates = (_reason(body.get(key)) for key in ("message", "error_description", "error", "code"))
    said = next(filter(None, candidates), "")
    details = "; ".join(filter(None, (_details(body.get(key)) for key in ("errors", "details"))))
    if said and details:
        return f"{said} ({details})"
    return said or details or None


def _reason(value: Any) -> str:
    if isinstance(value, str):
        return value if value.strip() else ""
    return _message(value) or _details(value)


def _details(value: Any) -> str:
    """Return all texts in a value, each with the fields that it is about: Laravel nests them in lists and objects."""
    if isinstance(value, dict):
        said = ((field, _details(inner)) for field, inner in value.items())
        return "; ".join(f"{field}: {text}" if text else field for field, text in said)
    if isinstance(value, list):
        return " ".join(filter(None, map(_details, value)))
    return value if isinstance(value, str) and value.strip() else ""
