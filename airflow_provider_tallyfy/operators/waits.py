"""Waiting for the end of a run in an operator that is no sensor."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
)

from airflow_provider_tallyfy.operators.links import push_run_url
from airflow_provider_tallyfy.version_compat import deferral_hold, is_deferral_timeout
from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.events import from_event
from airflow_provider_tallyfy.waiting.outcomes import Pending, PollFailed, Unconfirmed
from airflow_provider_tallyfy.waiting.run_status import RunStatusCondition
from airflow_provider_tallyfy.waiting.worker import RunPoller, finish

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.triggers.tallyfy import TallyfyRunTrigger


LAUNCH_LAG = 60.0
"""Seconds for which a run that was just launched may be missing: reads may lag."""
_MAX_SECONDS = 100 * 365 * 86400.0


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
        condition = RunStatusCondition(("complete",))
        poller: RunPoller[RunStatusCondition] = RunPoller(
            self.tallyfy_conn_id,
            run_id,
            self.log,  # type: ignore[attr-defined]
            LAUNCH_LAG,
        )
        self.log.info("%s", messages.describe_start(condition.describe_goal(), run_id))  # type: ignore[attr-defined]
        while True:
            polled_at = time.time()
            outcome = poller.poll(
                condition,
                confirm=not self.deferrable,
                at_first_read=lambda url: push_run_url(context, url),
            )
            if not isinstance(outcome, (Pending, PollFailed, Unconfirmed)):
                return finish(outcome, self._log_result)
            if self.deferrable:
                self._defer_until_complete(
                    run_id, ends_at, polled_at if isinstance(outcome, Pending) else None, poller
                )
            if (left := ends_at - time.time()) <= 0:
                raise AirflowSensorTimeout(f"Run {run_id} was not complete after {self.timeout:g} seconds.")
            time.sleep(min(self.poke_interval, left))

    def _defer_until_complete(
        self, run_id: str, ends_at: float, looked_at: float | None, poller: RunPoller[RunStatusCondition]
    ) -> None:
        self.defer(  # type: ignore[attr-defined]
            trigger=self._trigger(run_id, ends_at, looked_at, poller),
            method_name="execute_complete",
            timeout=time_left(ends_at, time.time(), self.timeout),
        )

    def _trigger(
        self,
        run_id: str,
        ends_at: float,
        looked_at: float | None = None,
        poller: RunPoller[RunStatusCondition] | None = None,
    ) -> TallyfyRunTrigger:
        from airflow_provider_tallyfy.triggers.tallyfy import TallyfyRunTrigger

        return TallyfyRunTrigger(
            tallyfy_conn_id=self.tallyfy_conn_id,
            run_id=run_id,
            target_statuses=("complete",),
            poke_interval=self.poke_interval,
            looked_at=looked_at,
            **({"last_line": poller.last_line, **poller.target} if poller else {}),
            deferred_at=time.time(),
            ends_at=ends_at,
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Resume after the deferral: return the run, or fail."""
        outcome = from_event(event)
        if isinstance(outcome, Pending):
            raise AirflowFailException("The trigger came back without an outcome. Clear the task.")
        return finish(outcome, self._log_result)

    def _log_result(self, run: dict[str, Any]) -> None:
        self.log.info("The wait is over: %s", RunStatusCondition.describe_result(run))  # type: ignore[attr-defined]

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Let a timeout in the triggerer be a sensor's, which fails the task without retries."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]
        except AirflowException as error:
            if is_deferral_timeout(error):
                raise AirflowSensorTimeout(*error.args) from error
            raise
