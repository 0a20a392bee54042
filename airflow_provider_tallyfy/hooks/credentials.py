"""Access tokens: the one in the connection, or those of an application, which are renewed before they expire."""

from __future__ import annotations

import math
import time
from functools import partial
from operator import itemgetter
from typing import Any

from airflow_provider_tallyfy.exceptions import (
    TallyfyAuthError,
    TallyfyNotFoundError,
    TallyfyPermissionError,
    TallyfyValidationError,
)
from airflow_provider_tallyfy.hooks.connection import TallyfyConnection, is_token
from airflow_provider_tallyfy.hooks.session import BearerAuth, no_auth
from airflow_provider_tallyfy.hooks.transport import Transport
from airflow_provider_tallyfy.protocol.requests import Request, application_token, user_token
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from airflow_provider_tallyfy.version_compat import mask_secret

_RENEW_BEFORE_END = 300.0
_MAX_LIFETIME = 100 * 365 * 86400


class Credentials:
    """
    The credentials of a connection: an access token, or an application's id and secret.

    A token is requested with id and secret, and exchanged for a user's if ``user_email`` is given. Facts from Tallyfy's
    page "Third-party application API access": an application's token lasts 7 days, a user's 90, and neither can be
    refreshed, so another one is requested.

    :param connection: holds ``access_token``, or ``client_id``, ``client_secret``, ``token_url`` and ``user_email``.
    :param transport: sends the requests.
    """

    def __init__(self, connection: TallyfyConnection, transport: Transport) -> None:
        self._connection = connection
        self._transport = transport
        self._token = connection.access_token
        self._renew_at = math.inf  # on the monotonic clock, which no change of the wall clock moves
        self._secrets: set[str] = set()
        self._keep_secret(connection.access_token or connection.client_secret or "")

    def token(self) -> str:
        """Return a valid token; request one if there is none, or it expires soon."""
        if self._token is None or time.monotonic() >= self._renew_at:
            self._token, self._renew_at = self._request_token()
        return self._token

    def renew(self) -> bool:
        """Drop the token after a 401; return whether another one can be requested."""
        if self._connection.access_token is not None:
            return False
        self._token = None
        return True

    def secrets(self) -> tuple[str, ...]:
        """Return everything that must not be shown: token or client secret, and every token that was issued."""
        return tuple(self._secrets)

    def _keep_secret(self, secret: str) -> None:
        self._secrets.add(secret)
        mask_secret(secret)

    def _request_token(self) -> tuple[str, float]:
        """Return a token and when to renew it. No variable holds one meanwhile, since error trackers show variables."""
        connection = self._connection
        if not connection.user_email:
            return self._request_application_token()
        auth = BearerAuth(connection.api_url, partial(itemgetter(0), self._request_application_token()))
        return self._send(user_token(connection.organization, connection.user_email), auth=auth)

    def _request_application_token(self) -> tuple[str, float]:
        connection = self._connection
        request = application_token(connection.client_id or "", connection.client_secret or "")
        return self._send(request, auth=no_auth, url=connection.token_url)

    def _send(self, request: Request, *, auth: Any, url: str | None = None) -> tuple[str, float]:
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
        self._keep_secret(issued[0])
        return issued


def _read_token(body: Any) -> tuple[str, float]:
    """Return token and time of renewal of ``{"access_token": "…", "expires_in": seconds}``, in an envelope or not."""
    data = body.get("data", body) if isinstance(body, dict) else None
    token = data.get("access_token") if isinstance(data, dict) else None
    lasts = data.get("expires_in") if isinstance(data, dict) else None
    if not isinstance(token, str) or not is_token(token):
        raise MalformedResponseError("it has no 'access_token' that can be one")
    if isinstance(lasts, bool) or not isinstance(lasts, (int, float)) or not 0 < lasts < _MAX_LIFETIME:
        raise MalformedResponseError("its 'expires_in' is not a number of seconds above 0")
    return token, time.monotonic() + max(lasts - _RENEW_BEFORE_END, lasts / 2)
