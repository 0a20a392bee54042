"""Failed requests: whether to retry them, and which error to raise, with advice."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    MaxRetryError,
    NewConnectionError,
)

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.protocol.errors import ErrorKind, ErrorResponse
from airflow_provider_tallyfy.protocol.requests import Request

CHECK_FIRST = "It may have been applied: check in Tallyfy before you send it again."


def error_of_response(request: Request, error: ErrorResponse) -> tuple[type[exceptions.TallyfyError], str]:
    """Return which error to raise for an error response, and advice with ``{conn_id}`` in it."""
    if error.kind is ErrorKind.SERVER and not request.is_retryable:
        return exceptions.TallyfyIndeterminateError, CHECK_FIRST
    error_class, advice = _ERRORS[error.kind]
    if error.is_unknown_endpoint:
        return error_class, _UNKNOWN_ENDPOINT if request.path else _UNKNOWN_TOKEN_URL
    if not error.is_from_tallyfy and error.kind not in (ErrorKind.SERVER, ErrorKind.REDIRECT):
        return error_class, f"{_NOT_FROM_TALLYFY} {advice}"
    return error_class, advice


def error_of_exception(request: Request, error: BaseException) -> tuple[type[exceptions.TallyfyError], str]:
    """Return which error to raise if no response came, and advice with ``{conn_id}`` in it."""
    if request.is_retryable or was_not_sent(error):
        return exceptions.TallyfyConnectionError, _advice(error)
    return exceptions.TallyfyIndeterminateError, CHECK_FIRST


def was_not_sent(error: BaseException) -> bool:
    """Return whether it is certain that nothing of the request reached Tallyfy."""
    if _is_malformed(error) or isinstance(error, requests.ConnectTimeout):
        return True
    return any(
        isinstance(cause, NewConnectionError | ConnectTimeoutError | ssl.SSLCertVerificationError)
        or _is_refused_tunnel(cause)
        for cause in _causes(error)
    )


def is_permanent(error: BaseException) -> bool:
    """Return whether another attempt can only fail in the same way."""
    return _is_malformed(error) or _is_untrusted(error)


def describe(error: BaseException) -> str:
    """Return the innermost cause; a malformed header's own text would show its value."""
    if _is_malformed(error):
        return f"the request could not be made ({type(error).__name__})"
    *_, innermost = (cause for cause in _causes(error) if not isinstance(cause, MaxRetryError))
    return f"{type(innermost).__name__}: {innermost}".rstrip(": ")


def _advice(error: BaseException) -> str:
    if _is_untrusted(error):
        return (
            "If a CA of your own signed that certificate, set extra 'verify' of connection {conn_id!r}, or "
            "REQUESTS_CA_BUNDLE in the environment, to the path of a bundle that holds it."
        )
    # The API's URL is valid, so an invalid URL or schema is the proxy's.
    of_proxies = (
        requests.exceptions.ProxyError,
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        LocationParseError,
        UnicodeError,
    )
    if any(isinstance(cause, of_proxies) for cause in _causes(error)):
        return "Check the proxy that HTTPS_PROXY or HTTP_PROXY names in the environment, and what NO_PROXY excepts."
    return "Check the host and the extra 'verify' of connection {conn_id!r}, the network, and any proxy."


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what ``requests`` and urllib3 wrapped in it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        inner = getattr(cause, "reason", None) or getattr(cause, "original_error", None)
        if not isinstance(inner, BaseException):
            inner = next((part for part in cause.args if isinstance(part, BaseException)), None)
        cause = inner if inner is not cause else None


def _is_malformed(error: BaseException) -> bool:
    """Return whether the request could not even be made: such errors of requests and urllib3 are ``ValueError``."""
    return isinstance(error, requests.RequestException | HTTPError | UnicodeError) and isinstance(
        error, ValueError
    )


def _is_untrusted(error: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def _is_refused_tunnel(error: BaseException) -> bool:
    """
    Return whether a proxy did not let the request through, because it may not or does not know the host.

    The standard library raises a bare ``OSError`` then. urllib3's ``ProxyError`` proves nothing: it also comes from a
    proxy that took a request and then broke off.
    """
    return type(error) is OSError and str(error).startswith("Tunnel connection failed")


_NOT_FROM_TALLYFY = (
    "The body is not Tallyfy's, so a proxy or a firewall may have answered; check the network, and the host of "
    "connection {conn_id!r}."
)
_UNKNOWN_ENDPOINT = (
    "Check the endpoint, which is relative to the organization unless it begins with '/', and the path in the host of "
    "connection {conn_id!r}: the API is at https://go.tallyfy.com/api, and at https://api.tallyfy.com without /api."
)
_UNKNOWN_TOKEN_URL = "Check the extra 'token_url' of connection {conn_id!r}."  # noqa: S105 (no token)
_ERRORS: Mapping[ErrorKind, tuple[type[exceptions.TallyfyError], str]] = {
    ErrorKind.AUTHENTICATION: (
        exceptions.TallyfyAuthError,
        "Check the credentials of connection {conn_id!r}. A user's token lasts six months, and ends at once when "
        "that user logs out of Tallyfy.",
    ),
    ErrorKind.PERMISSION: (
        exceptions.TallyfyPermissionError,
        "The user behind the token of connection {conn_id!r} may not do this, or is not a member of the organization "
        "that its login names; ask an administrator of the organization.",
    ),
    ErrorKind.NOT_FOUND: (
        exceptions.TallyfyNotFoundError,
        "It does not exist, or the user behind the token of connection {conn_id!r} does not see it; check the id, and "
        "the connection's organization and host.",
    ),
    ErrorKind.VALIDATION: (
        exceptions.TallyfyValidationError,
        "Nothing was changed; correct what was sent.",
    ),
    ErrorKind.RATE_LIMIT: (
        exceptions.TallyfyRateLimitError,
        "Nothing was changed; send fewer requests, or let Airflow retry the task later.",
    ),
    ErrorKind.SERVER: (exceptions.TallyfyServerError, "Nothing was changed; try again later."),
    ErrorKind.REDIRECT: (
        exceptions.TallyfyResponseError,
        "A redirect is not followed here: set the host of connection {conn_id!r} to the API's final address.",
    ),
    ErrorKind.OTHER: (exceptions.TallyfyError, "Nothing was changed; check what was sent."),
}
