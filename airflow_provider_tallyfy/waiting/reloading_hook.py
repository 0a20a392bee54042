"""
A hook that reads its Airflow connection again when that may help, for polls that go on for days.

After a refusal, or when Tallyfy says that there is no such run, the connection is read again and the same request is
sent once more at once; after any other failure but a 429 it is read again for the next request. If it is the same as
before, and was not refused, its session stays in use, with the token that an application was issued.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException

from airflow_provider_tallyfy.exceptions import (
    TallyfyConfigurationError,
    TallyfyConnectionError,
    TallyfyError,
)
from airflow_provider_tallyfy.waiting.polls import PollError

if TYPE_CHECKING:
    import requests

    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

T = TypeVar("T")


class ReloadingHook:
    """
    Sends requests through an Airflow connection that may change meanwhile. Its methods block.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param organization: the organization that the connection has to lead to; ``None`` for any. The URL of the API is
        not compared, since it may be corrected.
    """

    def __init__(self, tallyfy_conn_id: str, organization: str | None = None) -> None:
        self.tallyfy_conn_id = tallyfy_conn_id
        self._organization = organization
        self._hook: TallyfyHook | None = None
        self._hook_before: TallyfyHook | None = None
        self.connection: TallyfyConnection | None = None
        """The settings that were last read, or ``None`` before."""
        self.requests = 0
        """HTTP requests that the last :meth:`fetch` took, as far as they were answered."""
        self.rate_limit_remaining: int | None = None
        """What Tallyfy's ``X-RateLimit-Remaining`` said last: the requests that it will still take in this minute."""

    @property
    def hook(self) -> TallyfyHook:
        """The hook, made at the first use: DAG files are parsed all day, and need no ``requests`` for that."""
        if self._hook is None:
            from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

            # Polls are repeated at their own pace.
            self._hook = TallyfyHook(self.tallyfy_conn_id, retries=0)
        return self._hook

    def fetch(self, fetch: Callable[[TallyfyHook], T]) -> T | PollError:
        """
        Return the response to a request, or why there is none.

        :param fetch: sends one request through the hook.
        :raises AirflowNotFoundException: there is no such connection.
        """
        self.requests = 0
        response = self._fetch_once(fetch)
        if isinstance(response, PollError) and (response.is_denial or response.is_missing):
            self.reset(is_denied=response.is_denial)
            response = self._fetch_once(fetch)
        if isinstance(response, PollError) and response.may_be_the_connection:
            self.reset(is_denied=response.is_denial)
        return response

    def close_idle(self) -> None:
        """Close the sockets; the next request opens others."""
        if self._hook is not None and _has_connection(self._hook):
            self._hook.get_conn().close()

    def reset(self, *, is_denied: bool = False) -> None:
        """
        Close the sockets, and read the connection again for the next request.

        :param is_denied: go on with nothing that was in use, even if the connection is the same as before.
        """
        self.close_idle()
        if is_denied:
            self._hook_before = None
        elif self._hook is not None and _has_connection(self._hook):
            self._hook_before = self._hook
        self._hook = None

    def _fetch_once(self, fetch: Callable[[TallyfyHook], T]) -> T | PollError:
        try:
            # Read now, to tell Airflow's trouble from Tallyfy's.
            self.connection = self.hook.connection
            if self._hook_before is not None and self._hook_before.connection == self.connection:
                self._hook = self._hook_before
            self._hook_before = None
            responses = self.hook.get_conn().hooks["response"]
            if self._note_response not in responses:
                responses.append(self._note_response)
        except AirflowNotFoundException:
            raise
        except TallyfyError as error:
            return PollError(error)
        except Exception as error:  # noqa: BLE001 (a secrets backend may raise anything)
            return PollError(unread_connection(self.tallyfy_conn_id, error))
        if self._organization not in (None, self.connection.organization):
            return PollError(_other_organization(self.connection, self._organization))
        try:
            return fetch(self.hook)
        except TallyfyError as error:
            return PollError(error)

    def _note_response(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self.requests += 1
        # At most nine digits: Python refuses to read thousands.
        remaining = re.fullmatch("[0-9]{1,9}", response.headers.get("X-RateLimit-Remaining", ""))
        self.rate_limit_remaining = int(remaining[0]) if remaining else None


def _has_connection(hook: TallyfyHook) -> bool:
    """Tell whether the hook has read its connection, which it must not do only to be asked."""
    return "connection" in vars(hook)


def _other_organization(connection: TallyfyConnection, organization: str) -> TallyfyConfigurationError:
    """Return the error for a connection that is another one here than where the wait began."""
    return TallyfyConfigurationError(
        f"Connection {connection.conn_id!r} leads to organization {connection.organization!r} at {connection.api_url}, "
        f"but the run is of organization {organization!r}. Give triggerers and workers the same connection"
    )


def unread_connection(tallyfy_conn_id: str, error: Exception) -> TallyfyConnectionError:
    """Return the error for a connection that could not be read; only Airflow's own words are safe to show."""
    reason = f": {error}" if isinstance(error, AirflowException) else ""
    return TallyfyConnectionError(
        f"Connection {tallyfy_conn_id!r} could not be read from Airflow ({type(error).__name__}{reason})"
    )
