"""
What a task does for a wait while it has a worker: look, hand over to the triggerer, conclude.

Sensors and operators do it alike. An operator that is no sensor waits for the end of a run as :class:`WaitsForRun`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_provider_tallyfy.exceptions import TallyfyNotFoundError
from airflow_provider_tallyfy.operators.links import push_run_url
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.version_compat import deferral_hold, is_deferral_timeout
from airflow_provider_tallyfy.waiting import report
from airflow_provider_tallyfy.waiting.events import from_event
from airflow_provider_tallyfy.waiting.looks import Blank, Sight
from airflow_provider_tallyfy.waiting.questions import AskRun
from airflow_provider_tallyfy.waiting.reader import Reader
from airflow_provider_tallyfy.waiting.run_status import RunStatusCondition
from airflow_provider_tallyfy.waiting.verdicts import (
    C,
    Final,
    Lost,
    Over,
    Refused,
    Skipped,
    Unseen,
    Waiting,
    judge,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.triggers.tallyfy import TallyfyRunTrigger
    from airflow_provider_tallyfy.waiting.wait import Log


MISSING_GRACE = 60.0
"""Seconds for which a run that is known to exist may be missing: reads may lag behind its launch."""
_MAX_SECONDS = 100 * 365 * 86400.0
_MISSING_PAUSE = 5.0


def check_pace(poke_interval: float, timeout: float) -> None:
    """
    Refuse a wait that would poll without pause, never, or without end.

    :raises ValueError: one of them is not a number of seconds above zero, and below a hundred years.
    """
    for name, seconds in (("poke_interval", poke_interval), ("timeout", timeout)):
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, (int, float))
            or not 0 < seconds < _MAX_SECONDS
        ):
            raise ValueError(f"{name} must be a number of seconds above 0, but is {seconds!r}.")


class Lookout:
    """
    Looks at one run for a task that has a worker, again and again.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: the run's id.
    :param log: the task's.
    :param is_known: the run was just launched, so it is gone only if it is missing for :data:`MISSING_GRACE` seconds.
    """

    def __init__(self, tallyfy_conn_id: str, run_id: str, log: Log, *, is_known: bool = False) -> None:
        self._reader = Reader(tallyfy_conn_id)
        self._run_id = run_id
        self._log = log
        self._has_link = False
        self.last_line: int | None = None
        """The checksum of the line that the last look wrote, for the trigger that goes on."""
        self._is_known = is_known
        self._missing_since: float | None = None

    @property
    def hook(self) -> TallyfyHook:
        """The hook that it looks through."""
        return self._reader.hook

    @property
    def may_reappear(self) -> bool:
        """Whether the last read found no such run, although it is known to exist."""
        since = self._missing_since
        return self._is_known and since is not None and time.monotonic() - since < MISSING_GRACE

    @property
    def target(self) -> dict[str, str]:
        """Which API and organization the run was seen in, as arguments for a trigger."""
        if not self._has_link or (connection := self._reader.connection) is None:
            return {}
        return {"api_url": connection.api_url, "organization": connection.organization}

    def look(self, context: Context, condition: C) -> Waiting[C] | Final | Unseen:
        """Look once, tell the log in one line what is new, and return what that means."""
        from airflow_provider_tallyfy import metrics  # DAG files are parsed all day, and tell nothing

        run = self._reader.ask(AskRun(self._run_id, condition.with_, condition.tasks))
        self._reader.rest()  # or what is between here and Tallyfy forgets the connection before the next look
        seen = run if isinstance(run, Blank) else Sight(run)
        is_seen = isinstance(seen, Sight)
        metrics.looks_made(self._reader.tallyfy_conn_id, seen=int(is_seen), failed=int(not is_seen))
        verdict: Waiting[C] | Final | Unseen = judge(condition, self._run_id, seen)
        self._missing_since = self._missing_since or time.monotonic() if _is_missing(seen) else None
        if self.may_reappear and isinstance(seen, Blank):
            verdict = Unseen(seen.error)
        if isinstance(verdict, Unseen):
            self._log.warning("This look failed; the wait goes on: %s", verdict.error)
        elif isinstance(seen, Sight):
            line = f"{condition.described(seen.run)}; run {self._run_id}"
            if report.checksum(line) != self.last_line:
                self._log.info("%s", line)
                self.last_line = report.checksum(line)
            if not self._has_link:
                push_run_url(context, self.hook.run_url(self._run_id))
                self._has_link = True
        return verdict


def _is_missing(seen: Blank | Sight) -> bool:
    return isinstance(seen, Blank) and isinstance(seen.error, TallyfyNotFoundError)


def conclude(verdict: Final, tell: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """
    End a wait as the verdict says: return the result, or raise what the task is to end with.

    :param tell: takes the result; what is raised tells the rest itself.
    :raises AirflowFailException: it can never be met; the task fails without retries.
    :raises AirflowSkipException: the task is to be skipped.
    :raises TallyfyError: Tallyfy does not let this connection look; retries apply.
    """
    match verdict:
        case Over(result):
            tell(result)
            sanitized: dict[str, Any] = sanitize_payload(result)
            return sanitized
        case Lost(reason):
            raise AirflowFailException(reason)
        case Skipped(reason):
            raise AirflowSkipException(reason)
        case Refused(error):
            raise error


def time_left(ends_at: float, now: float, at_most: float) -> timedelta:
    """Return the timeout of a trigger, never shorter than Airflow needs between a deferral and its end."""
    return timedelta(seconds=max(min(ends_at - now, at_most), deferral_hold()))


class WaitsForRun:
    """
    An operator, no sensor, that waits until a run is complete; to be named before its other base class.

    The operator sets ``tallyfy_conn_id``, ``deferrable``, ``poke_interval`` and ``timeout`` (both in seconds), and
    calls :meth:`wait_until_complete` at the end of its ``execute``. What that means for outages, refusals and lost runs
    is the same as for a :class:`~airflow_provider_tallyfy.sensors.tallyfy.TallyfyRunSensor`.
    """

    tallyfy_conn_id: str
    deferrable: bool
    poke_interval: float
    timeout: float

    def check_wait(self) -> None:
        """
        Refuse a wait that cannot be made, before anything is sent.

        :raises ValueError: its pace makes no sense, or the trigger's arguments cannot be sent to the triggerer.
        """
        check_pace(self.poke_interval, self.timeout)
        if self.deferrable:
            try:
                json.dumps(self._trigger("run", time.time() + self.timeout).serialize(), allow_nan=False)
            except TypeError as error:
                raise ValueError(f"The wait cannot be handed to the triggerer: {error}.") from None

    def wait_until_complete(self, context: Context, run_id: str) -> dict[str, Any]:
        """Return a run that was launched once it is complete; with ``deferrable``, :meth:`execute_complete` does."""
        ends_at = time.time() + self.timeout
        lookout = Lookout(self.tallyfy_conn_id, run_id, self.log, is_known=True)  # type: ignore[attr-defined]
        condition = RunStatusCondition(("complete",))
        self.log.info("%s", report.begun(condition.wish(), run_id))  # type: ignore[attr-defined]
        while True:
            looked_at = time.time()
            verdict = lookout.look(context, condition)
            if not isinstance(verdict, (Waiting, Unseen)):
                return conclude(verdict, self._tell)
            if self.deferrable and not lookout.may_reappear:
                self._defer_until_complete(
                    run_id, ends_at, looked_at if isinstance(verdict, Waiting) else None, lookout
                )
            if (left := ends_at - time.time()) <= 0:
                raise AirflowSensorTimeout(f"Run {run_id} was not complete after {self.timeout:g} seconds.")
            pause = min(self.poke_interval, _MISSING_PAUSE) if lookout.may_reappear else self.poke_interval
            time.sleep(min(pause, left))

    def _defer_until_complete(
        self, run_id: str, ends_at: float, looked_at: float | None, lookout: Lookout
    ) -> None:
        self.defer(  # type: ignore[attr-defined]
            trigger=self._trigger(run_id, ends_at, looked_at, lookout),
            method_name="execute_complete",
            timeout=time_left(ends_at, time.time(), self.timeout),
        )

    def _trigger(
        self, run_id: str, ends_at: float, looked_at: float | None = None, lookout: Lookout | None = None
    ) -> TallyfyRunTrigger:
        from airflow_provider_tallyfy.triggers.tallyfy import TallyfyRunTrigger

        return TallyfyRunTrigger(
            tallyfy_conn_id=self.tallyfy_conn_id,
            run_id=run_id,
            target_statuses=("complete",),
            poke_interval=self.poke_interval,
            looked_at=looked_at,
            **({"last_line": lookout.last_line, **lookout.target} if lookout else {}),
            deferred_at=time.time(),
            ends_at=ends_at,
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Take up what the trigger saw: return the run, or fail."""
        verdict = from_event(event)
        if isinstance(verdict, Waiting):
            raise AirflowFailException("The trigger came back without a verdict. Clear the task.")
        return conclude(verdict, self._tell)

    def _tell(self, run: dict[str, Any]) -> None:
        self.log.info("The wait is over: %s", RunStatusCondition.outcome(run))  # type: ignore[attr-defined]

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Let a timeout in the triggerer be a sensor's, which fails the task without retries."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]
        except AirflowException as error:
            if is_deferral_timeout(error):
                raise AirflowSensorTimeout(*error.args) from error
            raise
