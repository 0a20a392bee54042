"""Errors: an exception with the status and body that Tallyfy answers."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from http import HTTPStatus
from typing import Any


@dataclass(eq=False)
class RefusedError(Exception):
    """A request that Tallyfy refuses; nothing was changed.

    :param status: the HTTP status.
    :param message: what went wrong, for users.
    :param code: Tallyfy's code, if the documentation has one.
    :param errors: messages by field, of a validation error.
    :param retry_after: seconds to wait before a retry.
    """

    status: int
    message: str
    _: KW_ONLY
    code: str | None = None
    errors: dict[str, list[str]] | None = None
    retry_after: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body; it has ``error`` and ``code`` only if the documentation shows them."""
        body: dict[str, Any] = {"message": self.message}
        if self.status in (404, 405, 409, 422):
            body["error"] = True
        if self.code is not None:
            body["code"] = self.code
        if self.errors is not None:
            body["errors"] = self.errors
        return body

    @property
    def structured_body(self) -> dict[str, Any]:
        """The JSON body of Tallyfy's newer errors, as tallyfy/mcp-public describes them: everything is in ``error``."""
        code = self.code or HTTPStatus(self.status).name
        return {"error": {"code": code, "message": self.message, "details": self.errors or {}}}


def not_found() -> RefusedError:
    """Return the error for something that does not exist, or that the caller may not see."""
    return RefusedError(404, "Resource not found", code="RESOURCE_NOT_FOUND")


def invalid(errors: dict[str, list[str]]) -> RefusedError:
    """Return the error for invalid input; the first message becomes the message of the whole."""
    message = next(iter(errors.values()))[0]
    return RefusedError(422, message, errors=errors)


def rate_limited(message: str, retry_after: int) -> RefusedError:
    """Return the error for too many requests or actions."""
    return RefusedError(429, message, code="RATE_LIMIT_EXCEEDED", retry_after=retry_after)
