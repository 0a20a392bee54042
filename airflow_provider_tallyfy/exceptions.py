"""The errors that the provider raises. Every one is a :class:`TallyfyError`, and none ever holds a token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException


class TallyfyError(AirflowException):
    """
    The base of all errors of the provider.

    :param message: the request, the response, and what to do.
    :param status: the HTTP status of the response, or ``None`` if there was none.
    :param tallyfy_message: Tallyfy's own message, or ``None`` if it sent none that can be read.
    :param request_id: Tallyfy's id of the request, to quote to its support.
    :param retry_after: the seconds that Tallyfy requested to wait, or ``None``.
    :param is_from_tallyfy: ``False`` if the body of the response is not one of Tallyfy's: a proxy's page, or nothing.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        tallyfy_message: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        is_from_tallyfy: bool = True,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.tallyfy_message = tallyfy_message
        self.request_id = request_id
        self.retry_after = retry_after
        self.is_from_tallyfy = is_from_tallyfy


class TallyfyConfigurationError(TallyfyError, ValueError):
    """The Airflow connection, or an argument that the triggerer rendered, cannot be used as it is; nothing was sent."""


class TallyfyAuthError(TallyfyError):
    """
    401: the token is missing, wrong, expired, or ended when its owner logged out of Tallyfy.

    Also if Tallyfy issues none to an application, whatever the status: ``user_email`` may belong to no user.
    """


class TallyfyPermissionError(TallyfyError):
    """403: the token's user may not do this."""


class TallyfyNotFoundError(TallyfyError):
    """404 or 410: it does not exist, or the token's user does not see it."""


class TallyfyValidationError(TallyfyError):
    """400, 409 or 422: Tallyfy understood and declined; nothing was changed."""


class TallyfyRateLimitError(TallyfyError):
    """429, and still so after the retries: too many requests. Declined, so nothing was changed."""


class TallyfyServerError(TallyfyError):
    """5xx on a read, and still so after the retries; or 408, 421 or 425, which are not retried."""


class TallyfyConnectionError(TallyfyError):
    """No response, and it is certain that nothing was changed: a read, or a request that was never sent."""


class TallyfyResponseError(TallyfyError):
    """A response that cannot be read, or a list that changed each time it was read."""


class TallyfyIndeterminateError(TallyfyError):
    """A write may or may not have been applied: check in Tallyfy before you send it again."""


@contextmanager
def fail_on_bad_input() -> Iterator[None]:
    """Fail the task without retries if an argument cannot be sent; no retry corrects it."""
    try:
        yield
    except TallyfyError:  # one of them is a ValueError: a connection, which may be corrected before the retry
        raise
    except ValueError as error:
        raise AirflowFailException(str(error)) from None
