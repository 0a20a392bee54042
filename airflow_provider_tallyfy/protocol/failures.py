"""
What it means when Tallyfy refuses.

An error is ``{"message": "…"}``, with or without ``"error": true`` and ``"code"``; from a proxy in between it may be
HTML or nothing at all. The status decides what kind of failure it is, the body only explains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_provider_tallyfy.protocol.answers import UnreadableAnswerError, read_body


class FailureKind(Enum):
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
class Failure:
    """
    A refusal, as Tallyfy put it.

    :param kind: what the status means.
    :param status: the HTTP status.
    :param message: Tallyfy's own words, or ``None`` where the body has none.
    :param request_id: from ``X-Request-Id``, to quote to Tallyfy's support.
    :param is_from_tallyfy: whether the body is one of Tallyfy's; HTML or nothing comes from a proxy in between.
    """

    kind: FailureKind
    status: int
    message: str | None = None
    request_id: str | None = None
    is_from_tallyfy: bool = True


def read_failure(status: int, headers: Mapping[str, str], content: bytes) -> Failure:
    """
    Return what an answer with a status of 300 or more means.

    :param headers: the answer's, under any case if the mapping allows that.
    :param content: the body, whatever it is.
    """
    try:
        body = read_body(content)
    except UnreadableAnswerError:
        body = None
    is_from_tallyfy = isinstance(body, dict)
    return Failure(_kind_of(status), status, _message(body), headers.get("X-Request-Id"), is_from_tallyfy)


def _kind_of(status: int) -> FailureKind:
    match status:
        case 401:
            return FailureKind.AUTHENTICATION
        case 403:
            return FailureKind.PERMISSION
        case 404 | 410:
            return FailureKind.NOT_FOUND
        case 400 | 409 | 422:
            return FailureKind.VALIDATION
        case 429:
            return FailureKind.RATE_LIMIT
    # 408, 421 and 425 say, like a 5xx, that this attempt failed, and nothing about what was asked for.
    if status >= 500 or status in (408, 421, 425):
        return FailureKind.SERVER
    return FailureKind.REDIRECT if status < 400 else FailureKind.OTHER


def _message(body: Any) -> str | None:
    """Join what the known error bodies say: ``message``, ``errors`` by field, and OAuth's ``error_description``."""
    if not isinstance(body, dict):
        return None
    candidates = (body.get(key) for key in ("message", "error_description", "error"))
    said = next((text for text in candidates if isinstance(text, str) and text.strip()), "")
    errors = body.get("errors")
    if isinstance(errors, dict) and errors:
        details = "; ".join(f"{field}: {_joined(texts)}" for field, texts in errors.items())
        said = f"{said} ({details})" if said else details
    return said or None


def _joined(texts: Any) -> str:
    return " ".join(text for text in (texts if isinstance(texts, list) else [texts]) if isinstance(text, str))
