"""Looking at a run once: what was seen, or why nothing was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException

from airflow_provider_tallyfy.exceptions import (
    TallyfyConnectionError,
    TallyfyError,
    TallyfyNotFoundError,
    TallyfyRateLimitError,
    TallyfyResponseError,
    TallyfyServerError,
)

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

_PASSING = (TallyfyRateLimitError, TallyfyServerError, TallyfyConnectionError, TallyfyResponseError)


@dataclass(frozen=True, slots=True)
class Sight:
    """
    A run was read.

    :param run: as :meth:`~airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook.get_run` gives it.
    """

    run: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Blank:
    """
    No run was read.

    :param error: why.
    """

    error: TallyfyError

    @property
    def is_passing(self) -> bool:
        """Whether the reason says nothing about the run: an outage, or a 404 that is not in Tallyfy's own words."""
        is_elses = isinstance(self.error, TallyfyNotFoundError) and not self.error.is_from_tallyfy
        return is_elses or isinstance(self.error, _PASSING)

    @property
    def is_refusal(self) -> bool:
        """Whether Tallyfy does not let this connection look, so that a look with it read anew is due."""
        return not self.is_passing and not isinstance(self.error, TallyfyNotFoundError)

    @property
    def may_be_the_connections_fault(self) -> bool:
        """Whether the next look is to read the connection anew; too many requests are no fault of its."""
        return not isinstance(self.error, TallyfyRateLimitError)


Look = Sight | Blank


def look(hook: TallyfyHook, run_id: str, with_: Sequence[str]) -> Look:
    """
    Read a run; blocks until it is read or given up.

    :param hook: reads it.
    :param run_id: the run's id.
    :param with_: what to include.
    :raises AirflowNotFoundException: there is no such connection.
    """
    try:
        hook.connection  # noqa: B018 (read now, to tell Airflow's trouble from Tallyfy's)
    except AirflowNotFoundException:
        raise
    except TallyfyError as error:
        return Blank(error)
    except Exception as error:  # noqa: BLE001 (a secrets backend may raise anything)
        return Blank(unread_connection(hook.tallyfy_conn_id, error))
    try:
        return Sight(hook.get_run(run_id, with_=with_))
    except TallyfyError as error:
        return Blank(error)


def unread_connection(tallyfy_conn_id: str, error: Exception) -> TallyfyConnectionError:
    """Return the error for a connection that could not be read; only Airflow's own words are safe to show."""
    reason = f": {error}" if isinstance(error, AirflowException) else ""
    return TallyfyConnectionError(
        f"Connection {tallyfy_conn_id!r} could not be read from Airflow ({type(error).__name__}{reason})"
    )
