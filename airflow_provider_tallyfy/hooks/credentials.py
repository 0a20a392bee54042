"""Access tokens: the one in the connection, or those of an application, which are renewed before they expire."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_tallyfy.exceptions import (
    TallyfyAuthError,
    TallyfyNotFoundError,
    TallyfyPermissionError,
    TallyfyValidationError,
)
from airflow_provider_tallyfy.hooks.connection import TallyfyConnection, is_token
from airflow_provider_tallyfy.hooks.transport import BearerAuth, Transport, no_auth
from airflow_provider_tallyfy.protocol import requests as api_requests
from airflow_provider_tallyfy.protocol.requests import Request
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from airflow_provider_tallyfy.version_compat import mask_secret

_RENEW_BEFORE_END = 300.0
_MAX_LIFETIME = 100 * 365 * 86400


class Credentials(Protocol):
    """What a hook needs to know of its credentials."""

    def token(self) -> str:
        """Return a token that is good now, fetching one if need be."""

    def renew(self) -> bool:
        """Give up the token after a 401; tell whether another one can be had."""

    def secrets(self) -> Iterator[str]:
        """Give everything that must not be shown."""


class AccessToken:
    """
    A person's token, as it stands in the connection.

    :param access_token: the token.
    """

    def __init__(self, access_token: str) -> None:
        self._access_token = access_token
        mask_secret(access_token)

    def token(self) -> str:
        """Return the token."""
        return self._access_token

    def renew(self) -> bool:
        """Tell that there is no other: a new one comes only with the connection."""
        return False

    def secrets(self) -> Iterator[str]:
        """Give the token."""
        yield self._access_token


@dataclass(frozen=True, slots=True)
class _IssuedToken:
    access_token: str
    renew_at: float  # on the monotonic clock, which no change of the wall clock moves


class ApplicationToken:
    """
    A token requested with an application's id and secret, and exchanged for a user's if ``user_email`` is given.

    Facts from Tallyfy's page "Third-party application API access": an application's token lasts 7 days, a person's 90,
    and neither can be refreshed, so it is asked for again.

    :param connection: holds ``client_id``, ``client_secret``, ``token_url`` and ``user_email``.
    :param transport: sends the requests.
    """

    def __init__(self, connection: TallyfyConnection, transport: Transport) -> None:
        self._connection = connection
        self._transport = transport
        self._issued: _IssuedToken | None = None
        self._secrets = {connection.client_secret or ""}
        mask_secret(connection.client_secret)

    def token(self) -> str:
        """Return the token; request one if there is none, or it expires soon."""
        if self._issued is None or time.monotonic() >= self._issued.renew_at:
            self._issued = self._fetch()
        return self._issued.access_token

    def renew(self) -> bool:
        """Forget the token, so that another one is fetched."""
        self._issued = None
        return True

    def secrets(self) -> Iterator[str]:
        """Give the client's secret, and every token that was issued."""
        yield from self._secrets

    def _fetch(self) -> _IssuedToken:
        connection = self._connection
        request = api_requests.application_token(connection.client_id or "", connection.client_secret or "")
        issued = self._issue(request, auth=no_auth, url=connection.token_url)
        if connection.user_email:
            auth = BearerAuth(connection.api_url, _always(issued.access_token))
            request = api_requests.person_token(connection.organization, connection.user_email)
            issued = self._issue(request, auth=auth)
        return issued

    def _issue(self, request: Request, *, auth: Any, url: str | None = None) -> _IssuedToken:
        try:
            issued = self._transport.send(request, _read_token, auth=auth, url=url)
        except (TallyfyNotFoundError, TallyfyPermissionError, TallyfyValidationError) as error:
            if not error.is_from_tallyfy:
                raise
            # The connection is wrong. The caller must not take it for a response about a run.
            raise TallyfyAuthError(
                str(error),
                status=error.status,
                tallyfy_message=error.tallyfy_message,
                request_id=error.request_id,
            ) from None
        mask_secret(issued.access_token)
        self._secrets.add(issued.access_token)
        return issued


def _always(token: str) -> Callable[[], str]:
    return lambda: token


def _read_token(body: Any) -> _IssuedToken:
    """Read ``{"access_token": "…", "expires_in": seconds}``, in an envelope or not."""
    data = body.get("data", body) if isinstance(body, dict) else None
    token = data.get("access_token") if isinstance(data, dict) else None
    lasts = data.get("expires_in") if isinstance(data, dict) else None
    if not isinstance(token, str) or not is_token(token):
        raise MalformedResponseError("it has no 'access_token' that can be one")
    if isinstance(lasts, bool) or not isinstance(lasts, (int, float)) or not 0 < lasts < _MAX_LIFETIME:
        raise MalformedResponseError("its 'expires_in' is not a number of seconds above 0")
    return _IssuedToken(token, time.monotonic() + max(lasts - _RENEW_BEFORE_END, lasts / 2))
