"""Waiting for the end of a run in an operator that is no sensor."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_tallyfy.links.tallyfy import RUN_URL_KEY, push_run_url
from airflow_provider_tallyfy.version_compat import is_trigger_timeout
from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.outcomes import Pending, PollFailed, Unconfirmed, from_event
from airflow_provider_tallyfy.waiting.run_status import RunStatusCondition
from airflow_provider_tallyfy.waiting.worker import RunPoller, finish, time_left

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.triggers.tallyfy import TallyfyRunTrigger


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


class WaitForCompletionMixin:
    """
    An operator, no sensor, that waits until a run is complete; to be named before its other base class.

    The operator sets ``tallyfy_conn_id``, ``deferrable``, ``poke_interval`` and ``timeout`` (both in seconds), and
    calls :meth:`wait_until_complete` at the end of its ``execute``. What that means for outages, refusals and runs that
    are gone is the same as for a :class:`~airflow_provider_tallyfy.sensors.tallyfy.TallyfyRunSensor`.
    """

    tallyfy_conn_id: str
    deferrable: bool
    poke_interval: float
    timeout: float
    log: Any
    defer: Any
    _condition = RunStatusCondition(("complete",))

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
        poller: RunPoller[RunStatusCondition] = RunPoller(self.tallyfy_conn_id, run_id, self.log)
        self.log.info("%s", messages.describe_start(self._condition.describe_goal(), run_id))
        while True:
            polled_at = time.time()
            outcome = poller.poll(
                self._condition,
                confirm=not self.deferrable,
                at_first_read=lambda url: push_run_url(context, url),
            )
            if not isinstance(outcome, (Pending, PollFailed, Unconfirmed)):
                return finish(outcome, self._log_result)
            if self.deferrable:
                self.defer(
                    trigger=self._trigger(
                        run_id,
                        ends_at,
                        worker_polled_at=polled_at if isinstance(outcome, Pending) else None,
                        **poller.trigger_arguments,
                    ),
                    method_name="execute_complete",
                    timeout=time_left(ends_at, time.time(), self.timeout),
                )
            if (left := ends_at - time.time()) <= 0:
                raise AirflowSensorTimeout(f"Run {run_id} was not complete after {self.timeout:g} seconds.")
            time.sleep(min(self.poke_interval, left))

    def _trigger(self, run_id: str, ends_at: float, **arguments: Any) -> TallyfyRunTrigger:
        from airflow_provider_tallyfy.triggers.tallyfy import TallyfyRunTrigger

        return TallyfyRunTrigger(
            tallyfy_conn_id=self.tallyfy_conn_id,
            run_id=run_id,
            **self._condition.as_json(),
            poke_interval=self.poke_interval,
            deferred_at=time.time(),
            ends_at=ends_at,
            **arguments,
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Resume after the deferral: return the run, or fail."""
        outcome = from_event(event, RunStatusCondition)
        if isinstance(outcome, Pending):
            raise AirflowFailException("The trigger came back without an outcome. Clear the task.")
        return finish(outcome, self._log_result)

    def poll_after_timeout(self, context: Context) -> dict[str, Any]:
        """
        Poll once more when the deferral timed out, since the run may have been completed in its last seconds.

        :raises AirflowSensorTimeout: it was not.
        """
        ti: Any = context["ti"]
        # Airflow hands over nothing else after a timeout.
        url = ti.xcom_pull(task_ids=ti.task_id, key=RUN_URL_KEY, map_indexes=ti.map_index)
        if not isinstance(url, str):
            raise AirflowSensorTimeout(f"The run was not complete after {self.timeout:g} seconds.")
        run_id = url.rpartition("/")[2]
        poller: RunPoller[RunStatusCondition] = RunPoller(self.tallyfy_conn_id, run_id, self.log)
        return poller.finish_after_timeout(self._condition, lambda outcome: finish(outcome, self._log_result))

    def _log_result(self, run: dict[str, Any]) -> None:
        self.log.info("The wait is over: %s", RunStatusCondition.describe_result(run))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Poll once more after a timeout in the triggerer; then it is a sensor's, which fails without retries."""
        if is_trigger_timeout(next_method, next_kwargs):
            next_method, next_kwargs = "poll_after_timeout", {}
        return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]
