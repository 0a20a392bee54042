"""
Sends requests and reads responses: the one place that retries, and that bounds time and size.

A read is repeated after 429, 5xx and broken connections; a write only if it is certain that
it was not applied (429, or nothing was sent). Any other doubt about a write is a
:class:`~airflow_provider_tallyfy.exceptions.TallyfyIndeterminateError`, since Tallyfy knows no idempotency key.
"""

from __future__ import annotations

import math
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    MaxRetryError,
    NewConnectionError,
)
from urllib3.util.retry import Retry

from airflow_provider_tallyfy import exceptions, metrics
from airflow_provider_tallyfy.metrics import OUTCOME_OF_ERROR
from airflow_provider_tallyfy.protocol import urls
from airflow_provider_tallyfy.protocol.errors import ErrorKind, ErrorResponse, read_error
from airflow_provider_tallyfy.protocol.formatting import one_line
from airflow_provider_tallyfy.protocol.requests import HEADERS, Request
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, read_body

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection

T = TypeVar("T")


DEFAULT_RETRIES = 4
MAX_RETRY_DELAY = 120.0
"""Seconds that one ``Retry-After`` or back-off may hold a caller."""
MAX_RESPONSE_SIZE = 64 * 1024 * 1024
"""Bytes of a body, uncompressed."""
MAX_RESPONSE_TIME = 300.0
"""Seconds in which a body must have arrived, however steadily it trickles."""
_CHUNK = 64 * 1024
_SECONDS = re.compile(r"\s*[0-9]+(\.[0-9]+)?\s*(,\s*[0-9]+(\.[0-9]+)?\s*)*", re.ASCII)
_MAX_MESSAGE = 500
_MAX_REQUEST_ID = 100


class TallyfySession(requests.Session):
    """
    A session that sends the required headers, and follows no redirect.

    The API has none, so one would lead the token and the data to another server.
    """

    def __init__(self, connection: TallyfyConnection) -> None:
        super().__init__()
        self.headers.update(HEADERS)
        self.verify = connection.verify
        self._timeout = connection.timeout

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request, within the connection's timeout unless another one is given."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self._timeout
        if "proxies" not in kwargs:  # the request was prepared by hand, so the environment was not read
            settings = self.merge_environment_settings(request.url, {}, None, None, None)
            kwargs = {"proxies": settings["proxies"], "verify": settings["verify"], **kwargs}
        return super().send(request, **kwargs)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """
        Take what the environment says of proxies and certificates, with two exceptions.

        The connection's own ``verify`` goes before ``REQUESTS_CA_BUNDLE``, and what goes to this machine itself does
        not leave it for a proxy.
        """
        if verify is None and self.verify is not True:
            verify = self.verify
        hostname = urlsplit(url).hostname or ""
        if urls.is_loopback(hostname):
            proxies = {"no_proxy": hostname, **(proxies or {})}
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Lead nowhere."""
        return


class BearerAuth(requests.auth.AuthBase):
    """
    Put the token on requests to the API, and on no other.

    As an ``auth`` it also keeps ``requests`` from taking a password out of a ``.netrc`` file.
    """

    def __init__(self, api_url: str, token: Callable[[], str]) -> None:
        self._origin = urls.origin(api_url)
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header if the request goes to the API."""
        if urls.origin(request.url or "") == self._origin:
            request.headers["Authorization"] = f"Bearer {self._token()}"
        return request


def no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave a request without a token."""
    return request


class RetryPolicy(Retry):
    """urllib3's policy, with this API's rule for writes, jitter, and a ceiling on ``Retry-After``."""

    @classmethod
    def of(cls, request: Request, retries: int) -> RetryPolicy:
        """Return the policy for one request."""
        return cls(
            total=retries,
            allowed_methods=None if request.is_repeatable else {"GET"},
            status_forcelist=range(500, 600),
            backoff_factor=1,
        )

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        """Tell whether a status allows another attempt; 429 was declined, so it does for every method."""
        return status_code == 429 or super().is_retry(method, status_code, has_retry_after)

    def pause(self, retry_after: float | None) -> float:
        """Return the seconds to wait before the next attempt."""
        wanted = self.get_backoff_time() if retry_after is None else retry_after
        return min(min(wanted, MAX_RETRY_DELAY) + random.uniform(0, 1), MAX_RETRY_DELAY)  # noqa: S311 (spreads load, hides nothing)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """
    Return the seconds that ``Retry-After`` asks to wait; ``None`` if it is absent or malformed.

    :param headers: of a response. Gateways also send fractions of seconds; of a list, the longest time counts.
    """
    value = headers.get("Retry-After", "")
    if _SECONDS.fullmatch(value):
        return max(map(float, value.split(",")))
    try:
        return Retry().parse_retry_after(value)  # a date
    except (InvalidHeader, OverflowError, ValueError):
        return None


class Transport:
    """
    Sends requests through a session.

    :param session: sends them.
    :param connection: whose requests they are.
    :param secrets: gives the secrets that no message may hold.
    :param retries: how often a request may be repeated.
    :param max_retry_after: the longest ``Retry-After`` in seconds that a request waits for; if Tallyfy asks for more,
        it fails at once. ``None`` for no such limit.
    :param warn: takes a line for every repetition, as a logger's ``warning`` does.
    """

    def __init__(
        self,
        session: requests.Session,
        connection: TallyfyConnection,
        *,
        secrets: Callable[[], Iterator[str]],
        retries: int,
        max_retry_after: float | None = None,
        warn: Callable[..., object],
    ) -> None:
        self._session = session
        self._connection = connection
        self._secrets = secrets
        self._retries = retries
        self._max_retry_after = math.inf if max_retry_after is None else max_retry_after
        self._warn = warn

    def send(
        self,
        request: Request,
        read: Callable[[Any], T],
        *,
        auth: Any = None,
        url: str | None = None,
        before_sending: Callable[[], object] = lambda: None,
        body: Callable[[], tuple[Any, str]] | None = None,
        receive: Callable[[requests.Response], None] | None = None,
    ) -> T:
        """
        Send a request and return what ``read`` makes of the parsed body.

        :param auth: in place of the session's own.
        :param url: in place of the API's URL and the request's path.
        :param before_sending: called before each attempt; if it raises, nothing is sent any more.
        :param body: returns what to send in place of the request's own body, with its content type, for each attempt.
        :param receive: takes the response of a successful attempt in place of reading and parsing it.
        :raises TallyfyError: one of its kinds, for anything but a response that can be read.
        """
        policy = RetryPolicy.of(request, self._retries)
        while True:
            retry_after = None
            outcome: metrics.RequestOutcome | None = None
            before_sending()
            try:
                response = self._attempt(request, auth, url, body)
                if receive is None or response.status_code >= 300:
                    content = _body(response)
                else:
                    receive(response)
                    content = b""
                if response.status_code < 300:
                    outcome = "unreadable"  # until it is read
                    result = self._read(request, read, content, response)
                    outcome = "ok"
                    return result
                error = self._redacted(read_error(response.status_code, response.headers, content))
                failure: ErrorResponse | Exception = error
                outcome = OUTCOME_OF_ERROR[error.kind]
                retry_after = retry_after_seconds(response.headers)
                may_repeat = policy.is_retry(request.method, error.status)
            except ResponseTooLargeError as too_large:
                outcome = "unreadable"
                self._raise_malformed(request, str(too_large), response)
            except (requests.RequestException, HTTPError, OSError) as broken:
                outcome = "unreachable"
                failure = broken
                may_repeat = not _is_permanent(broken) and (request.is_repeatable or _was_not_sent(broken))
            finally:
                if outcome is not None:
                    metrics.request_ended(self._connection.conn_id, outcome)
            if not may_repeat or not policy.total or (retry_after or 0) > self._max_retry_after:
                self._raise_failure(request, failure, retry_after)
            policy = policy.increment(request.method, request.path)
            pause = policy.pause(retry_after)
            self._warn("%s; retrying in %.1f s", self._describe_failure(request, failure), pause)
            time.sleep(pause)

    def _attempt(
        self, request: Request, auth: Any, url: str | None, body: Callable[[], tuple[Any, str]] | None
    ) -> requests.Response:
        data, content_type = (request.form, None) if body is None else body()
        return self._session.request(
            request.method,
            url or self._connection.api_url + request.target,
            json=request.json,
            data=data,
            headers=None if content_type is None else {"Content-Type": content_type},
            auth=auth,
            stream=True,
        )

    def _read(
        self, request: Request, read: Callable[[Any], T], content: bytes, response: requests.Response
    ) -> T:
        try:
            return read(read_body(content))
        except MalformedResponseError as error:
            reason = str(error)
        # Not within the except: what could not be read would stand in the traceback.
        return self._raise_malformed(request, reason, response)

    def _raise_malformed(self, request: Request, reason: str, response: requests.Response) -> NoReturn:
        request_id = self._redact(response.headers.get("X-Request-Id"), _MAX_REQUEST_ID) or None
        named = f" (request id {request_id})" if request_id else ""
        asked = self._describe_request(request)
        what = f"{asked} returned {response.status_code}{named}, but the response cannot be read: {reason}"
        told: dict[str, Any] = {"status": response.status_code, "request_id": request_id}
        if not request.is_repeatable:
            raise exceptions.TallyfyIndeterminateError(f"{what}. {_CHECK_FIRST}", **told) from None
        raise exceptions.TallyfyResponseError(
            f"{what}. Check that the host of connection {self._connection.conn_id!r} is Tallyfy's API, and that no "
            f"proxy answers in its place.",
            **told,
        ) from None

    def _raise_failure(
        self, request: Request, failure: ErrorResponse | Exception, retry_after: float | None
    ) -> NoReturn:
        what = self._describe_failure(request, failure)
        if not isinstance(failure, ErrorResponse):
            if request.is_repeatable or _was_not_sent(failure):
                advice = _advice(failure).format(conn_id=self._connection.conn_id)
                raise exceptions.TallyfyConnectionError(f"{what}. {advice}")
            raise exceptions.TallyfyIndeterminateError(f"{what}. {_CHECK_FIRST}")
        error_class, advice = _KINDS[failure.kind]
        if failure.kind is ErrorKind.SERVER and not request.is_repeatable:
            error_class, advice = exceptions.TallyfyIndeterminateError, _CHECK_FIRST
        elif failure.is_unknown_endpoint:
            advice = (
                _UNKNOWN_ENDPOINT
                if request.path
                else "Check the extra 'token_url' of connection {conn_id!r}."
            )
        elif not failure.is_from_tallyfy and failure.kind not in (ErrorKind.SERVER, ErrorKind.REDIRECT):
            advice = f"{_NOT_TALLYFYS} {advice}"
        raise error_class(
            f"{what}. {advice.format(conn_id=self._connection.conn_id)}",
            status=failure.status,
            tallyfy_message=failure.message if failure.is_from_tallyfy else None,
            request_id=failure.request_id,
            retry_after=retry_after,
            is_from_tallyfy=failure.is_from_tallyfy,
        )

    def _describe_request(self, request: Request) -> str:
        return f"{request.method} {request.path or self._connection.token_url}"

    def _describe_failure(self, request: Request, failure: ErrorResponse | Exception) -> str:
        if not isinstance(failure, ErrorResponse):
            return f"{self._describe_request(request)} got no response: {self._redact(_reason(failure), _MAX_MESSAGE)}"
        said = f": {failure.message}" if failure.message else ""
        request_id = f" (request id {failure.request_id})" if failure.request_id else ""
        return f"{self._describe_request(request)} returned {failure.status}{said}{request_id}"

    def _redacted(self, failure: ErrorResponse) -> ErrorResponse:
        return replace(
            failure,
            message=self._redact(failure.message, _MAX_MESSAGE) or None,
            request_id=self._redact(failure.request_id, _MAX_REQUEST_ID) or None,
        )

    def _redact(self, text: str | None, longest: int) -> str:
        """Make one short line of a text that came from elsewhere; cut last, or half of a secret would stay."""
        cleaned = text or ""
        for secret in self._secrets():
            if secret:
                cleaned = cleaned.replace(secret, "***")
        return one_line(cleaned)[:longest]


class ResponseTooLargeError(Exception):
    """A body went over its bounds in size or time."""


def _body(response: requests.Response) -> bytes:
    """Read a body within its bounds, and give its connection back; of a refusal, the beginning is enough."""
    read_some = getattr(response.raw, "read1", None) or response.raw.read  # urllib3 1.26 has no read1
    ends_at = time.monotonic() + MAX_RESPONSE_TIME
    is_refusal = response.status_code >= 300
    largest = _CHUNK if is_refusal else MAX_RESPONSE_SIZE
    content = bytearray()
    with response:
        while chunk := read_some(_CHUNK, decode_content=True):
            content += chunk
            is_large, is_late = len(content) > largest, time.monotonic() > ends_at
            if is_refusal and (is_large or is_late):
                break
            if is_large:
                raise ResponseTooLargeError(f"it is larger than {largest // 1024 // 1024} MiB")
            if is_late:
                raise ResponseTooLargeError(f"it had not arrived whole after {MAX_RESPONSE_TIME:.0f} s")
    return bytes(content)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give an error and what ``requests`` and urllib3 wrapped in it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        inner = getattr(seen, "reason", None) or getattr(seen, "original_error", None)
        if not isinstance(inner, BaseException):
            inner = next((part for part in seen.args if isinstance(part, BaseException)), None)
        seen = inner if inner is not seen else None


def _was_not_sent(error: BaseException) -> bool:
    """Tell whether it is certain that nothing of the request reached Tallyfy."""
    if _is_malformed(error) or isinstance(error, requests.ConnectTimeout):
        return True
    return any(
        isinstance(cause, NewConnectionError | ConnectTimeoutError | ssl.SSLCertVerificationError)
        or _is_refused_tunnel(cause)
        for cause in _causes(error)
    )


def _is_refused_tunnel(error: BaseException) -> bool:
    """
    Tell whether a proxy did not let the request through: it may not, or it does not know the host.

    The standard library raises a bare ``OSError`` there. urllib3's ``ProxyError`` is no sign: it is also what comes of
    a proxy that took a request and then broke off.
    """
    return type(error) is OSError and str(error).startswith("Tunnel connection failed")


def _is_malformed(error: BaseException) -> bool:
    """Tell whether the request could not even be made: such errors of requests and urllib3 are ``ValueError``."""
    return isinstance(error, requests.RequestException | HTTPError) and isinstance(error, ValueError)


def _is_permanent(error: BaseException) -> bool:
    """Tell whether another attempt can only fail in the same way."""
    return _is_malformed(error) or any(isinstance(c, ssl.SSLCertVerificationError) for c in _causes(error))


def _reason(error: BaseException) -> str:
    """Say in a few words what went wrong on the way; a malformed header's own text would show its value."""
    if _is_malformed(error):
        return f"the request could not be made ({type(error).__name__})"
    *_, innermost = (cause for cause in _causes(error) if not isinstance(cause, MaxRetryError))
    return f"{type(innermost).__name__}: {innermost}".rstrip(": ")


def _advice(error: BaseException) -> str:
    """Say what to do about a request that got no response."""
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return (
            "If a CA of your own signed that certificate, set extra 'verify' of connection {conn_id!r}, or "
            "REQUESTS_CA_BUNDLE in the environment, to the path of a bundle that holds it."
        )
    if any(isinstance(cause, requests.exceptions.ProxyError) for cause in causes):
        return "Check the proxy that HTTPS_PROXY or HTTP_PROXY names in the environment, and what NO_PROXY excepts."
    return (
        "Check the host of connection {conn_id!r}, its extra 'verify', and the network and proxies between."
    )


_CHECK_FIRST = "It may have been applied: check in Tallyfy before you send it again."

_NOT_TALLYFYS = (
    "The body is not Tallyfy's, so a proxy or a firewall may have answered; check the network, and the host of "
    "connection {conn_id!r}."
)

_UNKNOWN_ENDPOINT = (
    "Check the endpoint, and the path in the host of connection {conn_id!r}: the API is at https://go.tallyfy.com/api, "
    "and at https://api.tallyfy.com without /api."
)

_KINDS: Mapping[ErrorKind, tuple[type[exceptions.TallyfyError], str]] = {
    ErrorKind.AUTHENTICATION: (
        exceptions.TallyfyAuthError,
        "Check the credentials of connection {conn_id!r}. A person's token lasts six months, and ends at once when "
        "that person logs out of Tallyfy.",
    ),
    ErrorKind.PERMISSION: (
        exceptions.TallyfyPermissionError,
        "The person behind the token of connection {conn_id!r} may not do this; ask an administrator of the "
        "organization.",
    ),
    ErrorKind.NOT_FOUND: (
        exceptions.TallyfyNotFoundError,
        "There is no such thing, or the person behind the token of connection {conn_id!r} does not see it; check "
        "the id, and the connection's organization and host.",
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
