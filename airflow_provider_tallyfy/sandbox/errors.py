"""How the sandbox says no: one exception that carries the status and body Tallyfy documents for a refusal."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any


class RefusedError(Exception):
    """A request that Tallyfy declines; nothing was changed.

    :param status: the HTTP status.
    :param message: what went wrong, for people.
    :param code: Tallyfy's machine-readable code, where it documents one.
    :param errors: messages by field, for a validation error.
    :param retry_after: seconds after which trying again makes sense.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        errors: dict[str, list[str]] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.errors = errors
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body; ``error`` and ``code`` are there only where the documentation shows them."""
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
        """The JSON body as the newest documentation shows it: everything in ``error``."""
        code = self.code or HTTPStatus(self.status).name
        return {"error": {"code": code, "message": self.message, "details": self.errors or {}}}


def not_found() -> RefusedError:
    """Return the refusal for a thing that does not exist, or that the caller may not see."""
    return RefusedError(404, "Resource not found", code="RESOURCE_NOT_FOUND")


def invalid(errors: dict[str, list[str]]) -> RefusedError:
    """Return the refusal for input that breaks a rule; the first message stands for all of them."""
    message = next(iter(errors.values()))[0]
    return RefusedError(422, message, errors=errors)
