"""
One line to Tallyfy for somebody who looks again and again: a sensor in its worker, or the watcher in the triggerer.

The rule held here: a connection is not trusted for ever. After a refusal it is read anew from Airflow and the same is
asked once more at once; after any other failure but a 429 it is read anew for what is asked next. What is the same
then, and was not refused, stays in use, with the token that an application was issued.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException

from airflow_provider_tallyfy.exceptions import (
    TallyfyConfigurationError,
    TallyfyConnectionError,
    TallyfyError,
)
from airflow_provider_tallyfy.waiting.looks import Blank

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

T = TypeVar("T")


class Reader:
    """
    Asks Tallyfy through a connection of Airflow's. Its methods block.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param target: the API's URL and the organization that the connection has to lead to; ``None`` for any.
    """

    def __init__(self, tallyfy_conn_id: str, target: tuple[str, str] | None = None) -> None:
        self.tallyfy_conn_id = tallyfy_conn_id
        self._target = target
        self._hook: TallyfyHook | None = None
        self._hook_before: TallyfyHook | None = None
        self.connection: TallyfyConnection | None = None
        """The settings that were last read, or ``None`` before."""

    @property
    def hook(self) -> TallyfyHook:
        """The hook, made at the first use: DAG files are parsed all day, and need no ``requests`` for that."""
        if self._hook is None:
            from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

            # Whoever looks again and again repeats at its own pace.
            self._hook = TallyfyHook(self.tallyfy_conn_id, retries=0)
        return self._hook

    def ask(self, question: Callable[[TallyfyHook], T]) -> T | Blank:
        """
        Return the answer to a question, or why there is none.

        :param question: asks one thing of the hook.
        :raises AirflowNotFoundException: there is no such connection.
        """
        answer = self._ask_once(question)
        if isinstance(answer, Blank) and answer.is_refusal:
            self.hang_up(is_refused=True)
            answer = self._ask_once(question)
        if isinstance(answer, Blank) and answer.may_be_the_connections_fault:
            self.hang_up(is_refused=answer.is_refusal)
        return answer

    def rest(self) -> None:
        """Close the sockets; what is asked next opens others."""
        if self._hook is not None and _has_connection(self._hook):
            self._hook.get_conn().close()

    def hang_up(self, *, is_refused: bool = False) -> None:
        """
        Close the sockets, and read the connection anew when something is asked next.

        :param is_refused: go on with nothing that was in use, even if the connection is the same as before.
        """
        self.rest()
        if is_refused:
            self._hook_before = None
        elif self._hook is not None and _has_connection(self._hook):
            self._hook_before = self._hook
        self._hook = None

    def _ask_once(self, question: Callable[[TallyfyHook], T]) -> T | Blank:
        try:
            # Read now, to tell Airflow's trouble from Tallyfy's.
            self.connection = self.hook.connection
            if self._hook_before is not None and self._hook_before.connection == self.connection:
                self._hook = self._hook_before
            self._hook_before = None
        except AirflowNotFoundException:
            raise
        except TallyfyError as error:
            return Blank(error)
        except Exception as error:  # noqa: BLE001 (a secrets backend may raise anything)
            return Blank(unread_connection(self.tallyfy_conn_id, error))
        if self._target not in (None, (self.connection.api_url, self.connection.organization)):
            return Blank(_other_target(self.connection, *self._target))
        try:
            return question(self.hook)
        except TallyfyError as error:
            return Blank(error)


def _has_connection(hook: TallyfyHook) -> bool:
    """Tell whether the hook has read its connection, which it must not do only to be asked."""
    return "connection" in vars(hook)


def _other_target(
    connection: TallyfyConnection, api_url: str, organization: str
) -> TallyfyConfigurationError:
    """Return the error for a connection that is another one here than where the wait began."""
    return TallyfyConfigurationError(
        f"Connection {connection.conn_id!r} leads to organization {connection.organization!r} at {connection.api_url}, "
        f"but the run is of organization {organization!r} at {api_url}. Give triggerers and workers the same connection"
    )


def unread_connection(tallyfy_conn_id: str, error: Exception) -> TallyfyConnectionError:
    """Return the error for a connection that could not be read; only Airflow's own words are safe to show."""
    reason = f": {error}" if isinstance(error, AirflowException) else ""
    return TallyfyConnectionError(
        f"Connection {tallyfy_conn_id!r} could not be read from Airflow ({type(error).__name__}{reason})"
    )
