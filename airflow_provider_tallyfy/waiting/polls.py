"""What one poll of a run brought: a snapshot of the run, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_provider_tallyfy.exceptions import (
    TallyfyAuthError,
    TallyfyConfigurationError,
    TallyfyConnectionError,
    TallyfyError,
    TallyfyNotFoundError,
    TallyfyRateLimitError,
    TallyfyResponseError,
    TallyfyServerError,
)
from airflow_provider_tallyfy.protocol.lookup import Index
from airflow_provider_tallyfy.protocol.tasks import index_tasks, read_tasks

_TRANSIENT = (TallyfyRateLimitError, TallyfyServerError, TallyfyConnectionError, TallyfyResponseError)
_AFFECTS_ALL = (TallyfyRateLimitError, TallyfyConnectionError, TallyfyAuthError, TallyfyConfigurationError)


@dataclass(frozen=True)
class RunSnapshot:
    """
    A run, as one poll saw it.

    :param run: as :meth:`~airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook.get_run` returns it.
    :param is_from_list: whether it stood in a list of runs. A list is a hint: it never ends a wait.
    :param left_tasks: tasks that a wait may move on from and that were completed or hidden when they were read by
        themselves, by id. The value is the time of the completion as Tallyfy gives it, or ``None``.
    """

    run: dict[str, Any]
    is_from_list: bool = False
    left_tasks: Mapping[str, str | None] | None = None

    @cached_property
    def all_tasks(self) -> tuple[Mapping[str, Any], ...]:
        """
        The run's tasks.

        :raises MalformedResponseError: they cannot be read.
        """
        return read_tasks(self.run)

    @cached_property
    def tasks_by_name(self) -> Index[Mapping[str, Any]]:
        """An index of the run's tasks, made once for all the waits on the run."""
        return index_tasks(self.all_tasks)


@dataclass(frozen=True, slots=True)
class PollError:
    """
    A poll brought no snapshot.

    :param error: why.
    """

    error: TallyfyError

    @property
    def is_from_tallyfy(self) -> bool:
        """Whether these are Tallyfy's own words; a proxy or a firewall may answer in its place, with any status."""
        return self.error.is_from_tallyfy and (
            self.error.status is None or self.error.tallyfy_message is not None
        )

    @property
    def is_missing(self) -> bool:
        """Whether Tallyfy says that there is no such thing, or that it is not visible to this person."""
        return (
            isinstance(self.error, TallyfyNotFoundError)
            and self.is_from_tallyfy
            and not self.is_wrong_address
        )

    @property
    def is_wrong_address(self) -> bool:
        """Whether there is no API at this address, which says nothing about what was asked for."""
        said = (self.error.tallyfy_message or "").casefold()
        return isinstance(self.error, TallyfyNotFoundError) and "endpoint not found" in said

    @property
    def is_transient(self) -> bool:
        """Whether the reason says nothing about what was asked for: an outage, or an answer that is not Tallyfy's."""
        return isinstance(self.error, _TRANSIENT) or not self.is_from_tallyfy

    @property
    def is_denial(self) -> bool:
        """Whether Tallyfy does not let this connection poll."""
        return not self.is_transient and not self.is_missing

    @property
    def may_be_the_connection(self) -> bool:
        """Whether to read the connection again before the next poll; it is not to blame for too many requests."""
        return not isinstance(self.error, TallyfyRateLimitError)

    @property
    def affects_all(self) -> bool:
        """Whether every other request would have met the same: the cause is the way to Tallyfy, or the token."""
        return (isinstance(self.error, _AFFECTS_ALL) and (self.is_transient or self.is_denial)) and (
            not isinstance(self.error, TallyfyAuthError) or self.is_from_tallyfy
        )


PollResult = RunSnapshot | PollError
