"""
Requests that waits send to Tallyfy, and their results: snapshots of runs, and errors.

A *fetch* is one request of a wait, or of the watcher for many waits. :class:`ReloadingHook` sends it, through an
Airflow connection that may change during a wait of days.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException

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
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from airflow_provider_tallyfy.protocol.tasks import (
    find_task,
    index_tasks,
    is_completed,
    is_hidden,
    read_tasks,
)
from airflow_provider_tallyfy.protocol.urls import is_identifier

if TYPE_CHECKING:
    import requests

    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.protocol.responses import Activity, Page
    from airflow_provider_tallyfy.waiting.outcomes import Condition

T = TypeVar("T")

LISTED_FIELDS = ("next_task",)
"""What a list of runs includes; for a wait that needs more, its run is read by itself."""
MAX_FROM_TASKS = 5
"""Tasks that one fetch of a run reads by themselves; others are confirmed by a second read of the run."""
CLOCK_TOLERANCE = timedelta(seconds=5)
"""A smaller difference between Tallyfy's clock and this machine's is ignored."""
MAX_RETRY_AFTER = 900.0
"""Seconds for which one ``Retry-After`` may delay a poll."""
_TRANSIENT = (TallyfyRateLimitError, TallyfyServerError, TallyfyConnectionError, TallyfyResponseError)
_AFFECTS_ALL = (TallyfyRateLimitError, TallyfyConnectionError, TallyfyAuthError, TallyfyConfigurationError)
_TALLYFY_ITSELF = ("https://go.tallyfy.com/api", "https://api.tallyfy.com")  # two URLs of one API

Target = tuple[str, str]
"""The URL of the API and the organization that a run is of."""


@dataclass(frozen=True)
class RunSnapshot:
    """
    A run, as one poll saw it.

    :param run: as :meth:`~airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook.get_run` returns it.
    :param is_from_list: whether it was in a list of runs. A list is a hint: it never ends a wait.
    :param done_tasks: tasks to move on from that are completed or hidden, by id. The value is the time of the
        completion as Tallyfy gives it, or ``None``.
    :param tasks_error: why the list of all tasks, hidden ones too, could not be read, if it was needed.
    """

    run: dict[str, Any]
    is_from_list: bool = False
    done_tasks: Mapping[str, str | None] | None = None
    tasks_error: TallyfyError | None = None

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
    A poll that failed.

    :param error: why.
    :param is_wrong_target: whether nothing was sent, since the connection leads to another API or organization.
    """

    error: TallyfyError
    is_wrong_target: bool = False

    @property
    def is_from_tallyfy(self) -> bool:
        """Whether Tallyfy itself answered; a proxy or a firewall may answer in its place, with any status."""
        return self.error.is_from_tallyfy and (
            self.error.status is None or self.error.tallyfy_message is not None
        )

    @property
    def is_missing(self) -> bool:
        """Whether Tallyfy says that there is no such object, or that this user may not see it."""
        return (
            isinstance(self.error, TallyfyNotFoundError)
            and self.is_from_tallyfy
            and not self.is_wrong_address
        )

    @property
    def is_wrong_address(self) -> bool:
        """Whether there is no API at this address, which says nothing about the object."""
        said = (self.error.tallyfy_message or "").casefold()
        return isinstance(self.error, TallyfyNotFoundError) and "endpoint not found" in said

    @property
    def is_transient(self) -> bool:
        """Whether the reason may pass: an outage, or an answer that is not Tallyfy's."""
        return isinstance(self.error, _TRANSIENT) or not self.is_from_tallyfy

    @property
    def is_denial(self) -> bool:
        """Whether Tallyfy does not let this connection poll."""
        return not self.is_transient and not self.is_missing

    @property
    def affects_all(self) -> bool:
        """Whether every other request would fail likewise: because of the network, the token or the connection."""
        return (
            isinstance(self.error, _AFFECTS_ALL)
            and (self.is_from_tallyfy or not isinstance(self.error, TallyfyAuthError))
            and not self.is_wrong_target
        )


PollResult = RunSnapshot | PollError


@dataclass(frozen=True, slots=True)
class FetchRun:
    """
    One run by itself.

    :param with_: what to include.
    :param required_tasks: the names of tasks that have to be there. If the run itself does not show one, all of its
        tasks are read: among them are those that a rule hides (page "List process tasks").
    :param from_task_ids: ids of tasks to move on from. If another task is next, the run has to show that they are
        completed; those that it does not show are read by themselves.
    :param tasks_error: why the list of all tasks is not read this time, if it is not.
    """

    run_id: str
    with_: tuple[str, ...]
    required_tasks: tuple[str, ...] = ()
    from_task_ids: tuple[str, ...] = ()
    tasks_error: TallyfyError | None = None

    @classmethod
    def for_conditions(
        cls,
        run_id: str,
        conditions: Iterable[Condition],
        *,
        with_tasks: bool = False,
        tasks_error: TallyfyError | None = None,
    ) -> FetchRun:
        """
        Return the request that shows all that some conditions need.

        :param with_tasks: whether the run most likely moved on. Its tasks are included then, which shows in the
            same response whether the tasks to move on from are completed.
        """
        conditions = tuple(conditions)
        from_task_ids = _unique(
            condition.from_task_id for condition in conditions if condition.from_task_id is not None
        )
        with_ = [name for condition in conditions for name in condition.with_]
        return cls(
            run_id,
            _unique([*with_, "tasks"] if with_tasks and from_task_ids else with_),
            _unique(name for condition in conditions for name in condition.required_tasks),
            from_task_ids,
            tasks_error,
        )

    def __call__(self, hook: TallyfyHook) -> RunSnapshot:
        """Send it, and return what the run shows."""
        snapshot = RunSnapshot(hook.get_run(self.run_id, with_=self.with_))
        # An archived run's tasks are gone with it.
        if not snapshot.run.get("archived_at") and any(map(partial(_lacks, snapshot), self.required_tasks)):
            snapshot = self._with_all_tasks(hook, snapshot)
        next_task = snapshot.run.get("next_task")
        if next_task is None:
            return snapshot
        others = [task_id for task_id in self.from_task_ids if task_id != str(next_task["id"])]
        done = dict(self._completions(hook, snapshot, others[:MAX_FROM_TASKS]))
        return replace(snapshot, done_tasks=done) if done else snapshot

    def _with_all_tasks(self, hook: TallyfyHook, snapshot: RunSnapshot) -> RunSnapshot:
        """Read the list of all tasks after the run: a task that is not in it was not in the run before either."""
        if self.tasks_error is not None:
            return replace(snapshot, tasks_error=self.tasks_error)
        with_ = [name.removeprefix("tasks.") for name in self.with_ if name.startswith("tasks.")]
        try:
            tasks = hook.get_tasks(self.run_id, with_=with_)
        except (TallyfyRateLimitError, TallyfyAuthError):
            raise  # every other request would fail likewise
        except TallyfyError as error:
            # This concerns the list only: the run itself was read just now.
            if not PollError(error).is_transient:
                for name in filter(is_identifier, self.required_tasks):
                    try:
                        task = hook.get_task(self.run_id, name, with_=with_)
                    except TallyfyError:
                        continue
                    if str(task.get("id")) == name:
                        snapshot = RunSnapshot(
                            {**snapshot.run, "tasks": {"data": [*snapshot.all_tasks, task]}}
                        )
            return replace(snapshot, tasks_error=error)
        return RunSnapshot({**snapshot.run, "tasks": {"data": tasks}})

    def _completions(
        self, hook: TallyfyHook, snapshot: RunSnapshot, task_ids: Iterable[str]
    ) -> Iterator[tuple[str, str | None]]:
        """
        Yield ids of tasks and when each was completed, ``None`` for a hidden one.

        A task that is open or missing is left out: a replica that lags may not have a task yet. After an outage or a
        429 no further task is read, since that would most likely fail likewise.
        """
        try:
            shown = {str(task["id"]): task for task in snapshot.all_tasks}
        except MalformedResponseError:
            shown = {}
        for task_id in task_ids:
            task = shown.get(task_id)
            if task is None:
                try:
                    task = hook.get_task(self.run_id, task_id)
                except TallyfyError as error:
                    if PollError(error).is_transient:
                        return
                    continue
            if str(task.get("id")) == task_id and (is_completed(task) or is_hidden(task)):
                completed_at = task.get("completed_at")
                yield task_id, completed_at if isinstance(completed_at, str) else None


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _lacks(snapshot: RunSnapshot, name: str) -> bool:
    """Return whether the name may be that of a hidden task: a match that ignores case is not enough."""
    try:
        found = find_task(snapshot.tasks_by_name, name)
        return found is None or name not in (str(found.get("id")), found.get("alias"), found.get("title"))
    except ValueError:  # unreadable or ambiguous, which the condition reports
        return False


@dataclass(frozen=True, slots=True)
class FetchRunPage:
    """One page of the list of runs of one status, the newest first."""

    status: str
    page: int

    def __call__(self, hook: TallyfyHook) -> Page[dict[str, Any]]:
        """Send it, and return the page."""
        return hook.get_runs_page(self.page, status=self.status, with_=LISTED_FIELDS, sort="-created_at")


@dataclass(frozen=True, slots=True)
class FetchFeedPage:
    """One page of the activity feed, the newest entries first."""

    page: int

    def __call__(self, hook: TallyfyHook) -> Page[Activity]:
        """Send it, and return the page."""
        return hook.get_activities_page(self.page)


Fetch = FetchRun | FetchRunPage | FetchFeedPage


class ReloadingHook:
    """
    Sends requests through an Airflow connection, and reads the connection again if that may help. Its methods block.

    After a refusal or a 404 in Tallyfy's own words, the connection is read again and the request is repeated at once;
    after any other failure but a 429 it is read again for the next request. If it has not changed, and was not refused,
    its session stays in use, with the token that was issued to an application.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param wall_clock: returns the seconds since the epoch.
    """

    def __init__(self, tallyfy_conn_id: str, wall_clock: Callable[[], float] = time.time) -> None:
        self.tallyfy_conn_id = tallyfy_conn_id
        self._wall_clock = wall_clock
        self._hook: TallyfyHook | None = None
        self._hook_before: TallyfyHook | None = None
        self.connection: TallyfyConnection | None = None
        """The settings that were last read, or ``None`` before."""
        self.requests = 0
        """HTTP requests of the last :meth:`fetch` that were answered."""
        self.rate_limit_remaining: int | None = None
        """Tallyfy's last ``X-RateLimit-Remaining``: how many more requests it takes in this minute."""
        self.clock_offset = timedelta()
        """How far Tallyfy's clock is ahead of this machine's, by the ``Date`` of its last response."""

    @property
    def hook(self) -> TallyfyHook:
        """The hook, made at the first use: DAG files are parsed all day, and need no ``requests`` for that."""
        if self._hook is None:
            from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

            # A poll that failed is repeated by its schedule.
            self._hook = TallyfyHook(self.tallyfy_conn_id, retries=0)
        return self._hook

    def fetch(self, fetch: Callable[[TallyfyHook], T], target: Target | None = None) -> T | PollError:
        """
        Return the response to a request, or why there is none.

        :param fetch: sends one request through the hook.
        :param target: the API and the organization that the connection has to lead to; ``None`` for any.
        :raises AirflowNotFoundException: there is no such connection.
        """
        self.requests = 0
        response = self._fetch_once(fetch, target)
        if isinstance(response, PollError) and (response.is_denial or response.is_missing):
            self.reset(is_denied=response.is_denial)
            response = self._fetch_once(fetch, target)
        if isinstance(response, PollError) and not isinstance(response.error, TallyfyRateLimitError):
            self.reset(is_denied=response.is_denial)
        return response

    def close_idle(self) -> None:
        """Close the sockets; the next request opens others."""
        if self._hook is not None and _has_connection(self._hook):
            self._hook.get_conn().close()

    def reset(self, *, is_denied: bool = False) -> None:
        """
        Close the sockets, and read the connection again for the next request.

        :param is_denied: use nothing of the session again, even if the connection has not changed.
        """
        self.close_idle()
        if is_denied:
            self._hook_before = None
        elif self._hook is not None and _has_connection(self._hook):
            self._hook_before = self._hook
        self._hook = None

    def _fetch_once(self, fetch: Callable[[TallyfyHook], T], target: Target | None) -> T | PollError:
        try:
            # Read now, to distinguish Airflow's errors from Tallyfy's.
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
        if target is not None and not _leads_to(self.connection, target):
            return PollError(
                TallyfyConfigurationError(
                    f"Connection {self.tallyfy_conn_id!r} leads to organization {self.connection.organization!r} at "
                    f"{self.connection.api_url}, but the run is of organization {target[1]!r} at {target[0]}. Give "
                    "triggerers and workers the same connection"
                ),
                is_wrong_target=True,
            )
        try:
            return fetch(self.hook)
        except TallyfyError as error:
            return PollError(error)

    def _note_response(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self.requests += 1
        # At most nine digits: Python refuses to read thousands.
        remaining = re.fullmatch("[0-9]{1,9}", response.headers.get("X-RateLimit-Remaining", ""))
        self.rate_limit_remaining = int(remaining[0]) if remaining else None
        with suppress(KeyError, TypeError, ValueError):
            date = parsedate_to_datetime(response.headers["Date"])
            offset = date - datetime.fromtimestamp(self._wall_clock(), UTC)
            self.clock_offset = offset if abs(offset) > CLOCK_TOLERANCE else timedelta()


def _has_connection(hook: TallyfyHook) -> bool:
    """Return whether the hook has read its connection, without reading it."""
    return "connection" in vars(hook)


def _leads_to(connection: TallyfyConnection, target: Target) -> bool:
    api_url, organization = target
    is_same_api = api_url == connection.api_url or {api_url, connection.api_url} <= set(_TALLYFY_ITSELF)
    return is_same_api and organization == connection.organization


def unread_connection(tallyfy_conn_id: str, error: Exception) -> TallyfyConnectionError:
    """Return the error for a connection that could not be read; only Airflow's own messages hold no secrets."""
    reason = f": {error}" if isinstance(error, AirflowException) else ""
    return TallyfyConnectionError(
        f"Connection {tallyfy_conn_id!r} could not be read from Airflow ({type(error).__name__}{reason})"
    )
