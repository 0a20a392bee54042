"""Access: personal tokens and application tokens, and when they expire."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_provider_tallyfy.sandbox.clock import Clock
from airflow_provider_tallyfy.sandbox.errors import RefusedError, not_found
from airflow_provider_tallyfy.sandbox.model import Member

TOKEN = "sandbox-token"  # noqa: S105 - public on purpose
LIGHT_TOKEN = "sandbox-light-token"  # noqa: S105
CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"  # noqa: S105
APPLICATION_TOKEN_SECONDS = 604_800
USER_TOKEN_SECONDS = 7_776_000


@dataclass(frozen=True, slots=True)
class _Grant:
    user_id: int | None
    expires_at: datetime | None


class Access:
    """The valid tokens.

    :param clock: the clock by which tokens expire.
    :param members: the organization's users by id.
    """

    def __init__(self, clock: Clock, members: Mapping[int, Member]) -> None:
        self._clock = clock
        self._members = members
        self._grants: dict[str, _Grant] = {}

    def grant(self, user_id: int | None, *, token: str | None = None, seconds: int | None = None) -> str:
        """Grant a token and return it.

        :param user_id: the user it belongs to, or ``None`` for an application.
        :param token: the token; random if not given.
        :param seconds: the lifetime; unlimited if not given.
        """
        token = token or secrets.token_urlsafe(32)
        expires_at = None if seconds is None else self._clock.now() + timedelta(seconds=seconds)
        self._grants[token] = _Grant(user_id, expires_at)
        return token

    def revoke(self, token: str) -> None:
        """Revoke a token, as a logout at Tallyfy does."""
        self._grants.pop(token, None)

    def member(self, authorization: str | None) -> Member:
        """Return the member whose token is in an ``Authorization`` header, or raise 401 or 403."""
        grant = self._valid_grant(authorization)
        if grant.user_id is None:
            raise RefusedError(403, "This endpoint needs a user's token, not an application's.")
        member = self._members[grant.user_id]
        if member.disabled_at is not None:
            raise RefusedError(401, "Unauthenticated.")
        return member

    def application_token(self, client_id: str | None, client_secret: str | None) -> str:
        """Return a token for an application, or raise 401 if its secret is wrong."""
        if client_id != CLIENT_ID or client_secret != CLIENT_SECRET:
            raise RefusedError(401, "Client authentication failed", code="invalid_client")
        return self.grant(None, seconds=APPLICATION_TOKEN_SECONDS)

    def user_token(self, authorization: str | None, email: str) -> str:
        """Return a token that lets an application act as a member, or raise 403 or 404."""
        if self._valid_grant(authorization).user_id is not None:
            raise RefusedError(403, "You don't have application's permissions for this organization!")
        for member in self._members.values():
            if member.email.casefold() == email.casefold():
                return self.grant(member.id, seconds=USER_TOKEN_SECONDS)
        raise not_found()

    def _valid_grant(self, authorization: str | None) -> _Grant:
        scheme, _, token = (authorization or "").partition(" ")
        grant = self._grants.get(token) if scheme == "Bearer" else None
        if grant is None or (grant.expires_at is not None and grant.expires_at <= self._clock.now()):
            raise RefusedError(401, "Unauthenticated.")
        return grant
