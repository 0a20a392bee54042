"""
Send requests and read responses: the one place that retries, and that bounds time and size.

A read is retried after 429, 5xx and broken connections. Tallyfy has no idempotency key, so a write is retried only if
it is certain that it was not applied (429, or nothing was sent); after any other failure it may have been
(:class:`~airflow_provider_tallyfy.exceptions.TallyfyIndeterminateError`).
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import requests
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util.retry import Retry

from airflow_provider_tallyfy import exceptions, metrics
from airflow_provider_tallyfy.hooks import failures
from airflow_provider_tallyfy.metrics import OUTCOME_OF_ERROR, RequestOutcome
from airflow_provider_tallyfy.protocol.errors import read_error
from airflow_provider_tallyfy.protocol.formatting import one_line
from airflow_provider_tallyfy.protocol.requests import Request
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
"""Seconds in which a body must have arrived, however slowly."""
_CHUNK = 64 * 1024
_SECONDS = re.compile(r"\s*[0-9]+(\.[0-9]+)?\s*(,\s*[0-9]+(\.[0-9]+)?\s*)*", re.ASCII)
_MAX_MESSAGE = 500
_MAX_REQUEST_ID = 100


@dataclass(frozen=True, slots=True)
class _Failure:
    """
    An attempt that failed.

    :param description: what was sent, and what came back.
    :param error: to raise if the request is not retried.
    :param outcome: for the metrics.
    :param may_retry: whether a retry is safe, and may help.
    """

    description: str
    error: exceptions.TallyfyError
    outcome: RequestOutcome
    may_retry: bool = False


class ResponseTooLargeError(Exception):
    """A body went over its bounds in size or time."""


class Transport:
    """
    Send requests through a session.

    :param session: sends them.
    :param connection: whose requests they are.
    :param secrets: returns the secrets that no message may hold.
    :param retries: how often a request may be retried.
    :param max_retry_after: the longest ``Retry-After`` in seconds that a request waits for; if Tallyfy asks for more,
        it fails at once. ``None`` for no such limit.
    :param warn: a logger's ``warning``, called for each retry.
    """

    def __init__(
        self,
        session: requests.Session,
        connection: TallyfyConnection,
        *,
        secrets: Callable[[], Iterable[str]],
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
        :param receive: takes the response of a successful attempt; then there is no body to read and parse.
        :raises TallyfyError: one of its kinds, for anything but a response that can be read.
        """
        retry = Retry(total=self._retries, backoff_factor=1)  # counts, and computes the back-off
        while True:
            before_sending()
            result = self._attempt(request, read, receive, auth, url, body)
            outcome: RequestOutcome = result.outcome if isinstance(result, _Failure) else "ok"
            metrics.request_ended(self._connection.conn_id, outcome)
            if not isinstance(result, _Failure):
                return result
            retry_after = result.error.retry_after
            if not result.may_retry or not retry.total or (retry_after or 0) > self._max_retry_after:
                raise result.error
            retry = retry.increment()
            pause = retry.get_backoff_time() if retry_after is None else retry_after
            pause = min(pause + random.uniform(0, 1), MAX_RETRY_DELAY)  # noqa: S311 (spreads load, hides nothing)
            self._warn("%s; retrying in %.1f s", result.description, pause)
            time.sleep(pause)

    def _attempt(
        self,
        request: Request,
        read: Callable[[Any], T],
        receive: Callable[[requests.Response], None] | None,
        auth: Any,
        url: str | None,
        body: Callable[[], tuple[Any, str]] | None,
    ) -> T | _Failure:
        try:
            data, content_type = (request.form, None) if body is None else body()
            response = self._session.request(
                request.method,
                url or self._connection.api_url + request.target,
                json=request.json,
                data=data,
                headers=None if content_type is None else {"Content-Type": content_type},
                auth=auth,
                stream=True,
            )
            is_received = receive is not None and response.status_code < 300
            content = b"" if is_received else _read_content(response)
        except ResponseTooLargeError as error:
            return self._malformed(request, response, str(error))
        # Credentials of a proxy that no header can hold raise a bare UnicodeError.
        except (requests.RequestException, HTTPError, OSError, UnicodeError) as error:
            return self._no_response(request, error)
        if response.status_code >= 300:
            return self._error_response(request, response, content)
        try:
            if receive is not None:
                receive(response)
            return read(read_body(content))
        except requests.RequestException as error:  # any other OSError is of the disk, and not retried
            return self._no_response(request, error)
        except MalformedResponseError as error:
            # Not chained to it: the traceback would show what could not be read.
            return self._malformed(request, response, str(error))

    def _error_response(self, request: Request, response: requests.Response, content: bytes) -> _Failure:
        error = read_error(response.status_code, response.headers, content)
        message = self._redact(error.message, _MAX_MESSAGE) or None
        request_id = self._redact(error.request_id, _MAX_REQUEST_ID) or None
        description = f"{self._describe(request)} returned {error.status}"
        description += (f": {message}" if message else "") + (
            f" (request id {request_id})" if request_id else ""
        )
        error_class, advice = failures.error_of_response(request, error)
        return _Failure(
            description,
            error_class(
                f"{description}. {advice.format(conn_id=self._connection.conn_id)}",
                status=error.status,
                tallyfy_message=message if error.is_from_tallyfy else None,
                request_id=request_id,
                retry_after=retry_after_seconds(response.headers),
                is_from_tallyfy=error.is_from_tallyfy,
            ),
            OUTCOME_OF_ERROR[error.kind],
            # A 429 was declined, so any method can be retried.
            may_retry=error.status == 429 or (error.status >= 500 and request.is_retryable),
        )

    def _no_response(self, request: Request, error: Exception) -> _Failure:
        reason = self._redact(failures.describe(error), _MAX_MESSAGE)
        description = f"{self._describe(request)} got no response: {reason}"
        error_class, advice = failures.error_of_exception(request, error)
        return _Failure(
            description,
            error_class(f"{description}. {advice.format(conn_id=self._connection.conn_id)}"),
            "unreachable",
            may_retry=error_class is exceptions.TallyfyConnectionError and not failures.is_permanent(error),
        )

    def _malformed(self, request: Request, response: requests.Response, reason: str) -> _Failure:
        request_id = self._redact(response.headers.get("X-Request-Id"), _MAX_REQUEST_ID) or None
        shown_id = f" (request id {request_id})" if request_id else ""
        description = (
            f"{self._describe(request)} returned {response.status_code}{shown_id}, but the response cannot be read: "
            f"{reason}"
        )
        error_class: type[exceptions.TallyfyError] = exceptions.TallyfyIndeterminateError
        advice = failures.CHECK_FIRST
        if request.is_retryable:
            error_class = exceptions.TallyfyResponseError
            advice = (
                f"Check that the host of connection {self._connection.conn_id!r} is Tallyfy's API, and that no proxy "
                f"answers in its place."
            )
        error = error_class(f"{description}. {advice}", status=response.status_code, request_id=request_id)
        return _Failure(description, error, "unreadable")

    def _describe(self, request: Request) -> str:
        return f"{request.method} {request.path or self._connection.token_url}"

    def _redact(self, text: str | None, longest: int) -> str:
        """Return a text from elsewhere as one short line; cut last, or half of a secret would stay."""
        text = text or ""
        for secret in self._secrets():
            text = text.replace(secret, "***")
        return one_line(text)[:longest]


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


def _read_content(response: requests.Response) -> bytes:
    """
    Read a body within its bounds, and release its connection.

    The status says what an error means, so its body may be cut off, or unreadable.
    """
    read_some = getattr(response.raw, "read1", None) or response.raw.read  # urllib3 1.26 has no read1
    ends_at = time.monotonic() + MAX_RESPONSE_TIME
    is_error = response.status_code >= 300
    max_size = _CHUNK if is_error else MAX_RESPONSE_SIZE
    content = bytearray()
    with response, suppress(HTTPError, OSError) if is_error else nullcontext():
        while chunk := read_some(_CHUNK, decode_content=True):
            content += chunk
            is_large, is_late = len(content) > max_size, time.monotonic() > ends_at
            if is_error and (is_large or is_late):
                break
            if is_large:
                raise ResponseTooLargeError(f"it is larger than {max_size // 1024 // 1024} MiB")
            if is_late:
                raise ResponseTooLargeError(f"it had not arrived whole after {MAX_RESPONSE_TIME:.0f} s")
    return bytes(content)
