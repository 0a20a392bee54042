"""Access: personal tokens and application tokens, when they expire, and how many requests and actions are allowed."""

from __future__ import annotations

import math
import secrets
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from airflow_provider_tallyfy.sandbox.clock import Clock
from airflow_provider_tallyfy.sandbox.errors import RefusedError, not_found
from airflow_provider_tallyfy.sandbox.model import Member

TOKEN = "sandbox-token"  # noqa: S105 - public on purpose
LIGHT_TOKEN = "sandbox-light-token"  # noqa: S105
CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"  # noqa: S105
APPLICATION_TOKEN_SECONDS = 604_800
USER_TOKEN_SECONDS = 7_776_000


class Limit(NamedTuple):
    """How many requests are allowed in a number of seconds: of one method or any, for each user or for all together."""

    requests: int
    seconds: int
    method: str = "*"
    is_shared: bool = False


# :attr:`Behavior.rate_limit` chooses which of them applies.
LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "off": (),
    "user": (Limit(600, 60),),
    "burst": (Limit(140, 10), Limit(12, 5, "GET")),
    "organization": (Limit(100, 60, is_shared=True), Limit(1000, 3600, is_shared=True)),
}
# The actions that send mail, and how often the organization can do them in an hour.
HOURLY_LIMITS = {"Comment": 120, "Guest Invite": 30}


class Access:
    """The valid tokens.

    :param clock: the clock by which tokens expire.
    :param members: the organization's users by id.
    """

    def __init__(self, clock: Clock, members: Mapping[int, Member]) -> None:
        self._clock = clock
        self._members = members
        self._grants: dict[str, tuple[int | None, datetime | None]] = {}

    def grant(self, user_id: int | None, *, token: str | None = None, seconds: int | None = None) -> str:
        """Grant a token and return it.

        :param user_id: the user it belongs to, or ``None`` for an application.
        :param token: the token; random if not given.
        :param seconds: the lifetime; unlimited if not given.
        """
        token = token or secrets.token_urlsafe(32)
        expires_at = None if seconds is None else self._clock.now() + timedelta(seconds=seconds)
        self._grants[token] = user_id, expires_at
        return token

    def revoke(self, token: str) -> None:
        """Revoke a token, as a logout at Tallyfy does."""
        self._grants.pop(token, None)

    def member(self, authorization: str | None) -> Member:
        """Return the member whose token is in an ``Authorization`` header, or raise 401 or 403."""
        user_id = self._valid_user(authorization)
        if user_id is None:
            raise RefusedError(403, "This endpoint needs a user's token, not an application's.")
        member = self._members[user_id]
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
        if self._valid_user(authorization) is not None:
            raise RefusedError(403, "You don't have application's permissions for this organization!")
        for member in self._members.values():
            if member.email.casefold() == email.casefold():
                return self.grant(member.id, seconds=USER_TOKEN_SECONDS)
        raise not_found()

    def _valid_user(self, authorization: str | None) -> int | None:
        """Return whose token is in an ``Authorization`` header, ``None`` for an application, or raise 401."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme != "Bearer" or token not in self._grants:
            raise RefusedError(401, "Unauthenticated.")
        user_id, expires_at = self._grants[token]
        if expires_at is not None and expires_at <= self._clock.now():
            raise RefusedError(401, "Unauthenticated.")
        return user_id


class Limiter:
    """Counts requests and actions over rolling windows of time."""

    def __init__(self) -> None:
        self._uses: dict[tuple[Limit, str], deque[datetime]] = defaultdict(deque)

    def take(
        self, limits: Iterable[Limit], method: str, user: str, now: datetime
    ) -> tuple[int | None, int | None]:
        """Count a request, unless it is over a limit.

        :param limits: the limits that apply.
        :return: how many requests are left, and after how many seconds to retry if this one is refused.
        """
        left: int | None = None
        windows = []
        for limit in limits:
            if limit.method not in ("*", method):
                continue
            window, length = (
                self._uses[limit, "" if limit.is_shared else user],
                timedelta(seconds=limit.seconds),
            )
            while window and window[0] <= now - length:
                window.popleft()
            if len(window) >= limit.requests:
                return 0, math.ceil((window[0] + length - now).total_seconds())
            windows.append(window)
            left = min(limit.requests - len(window) - 1, limit.requests if left is None else left)
        for window in windows:
            window.append(now)
        return left, None
