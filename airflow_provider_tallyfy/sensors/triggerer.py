"""Starting and ending a sensor in the triggerer, where Airflow lets it, and a warning where it does not."""

from __future__ import annotations

import sys
import warnings
from abc import abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.sensors import start

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseSensorOperator
    from airflow.triggers.base import StartTriggerArgs

    from airflow_provider_tallyfy.triggers.tallyfy import TallyfyTrigger

    class _Base(BaseSensorOperator):
        run_id: str
        tallyfy_conn_id: str
        deferrable: bool

else:
    _Base = object

_STARTS_IN_A_WORKER = "Task {!r}: start_from_trigger is not used, and the task starts in a worker: {}."
_ENDS_IN_A_WORKER = "Task {!r}: end_from_trigger is not used, and the task ends in a worker: {}."


class InTriggerer(_Base):
    """A sensor whose wait may begin and end in the triggerer; each says by which trigger."""

    #: What only a worker does after a success of such a sensor.
    _ends_in_a_worker_since: str | None = None

    @abstractmethod
    def _trigger_to_start(self, **arguments: Any) -> TallyfyTrigger:
        """
        Return the trigger to start with, its arguments as text for the triggerer to render.

        :raises NeedsWorkerError: there is no such text.
        """

    def _use_triggerer(self, start_from_trigger: bool, end_from_trigger: bool) -> None:
        """Begin and end there, as far as that is asked for and can be; called when all other arguments are known."""
        self.end_from_trigger = end_from_trigger and self._can_end_from_trigger()
        self.start_from_trigger = start_from_trigger and self._can_start_from_trigger()

    @classmethod
    def partial(cls, **arguments: Any) -> Any:
        """
        Begin a mapped sensor, as on every operator.

        Airflow does not start mapped tasks in the triggerer. But one that asks for it is rendered there when it defers,
        and so may end the triggerer: see :func:`~airflow_provider_tallyfy.sensors.start.check_airflow`.
        """
        if arguments.pop("start_from_trigger", False):
            _warn(_STARTS_IN_A_WORKER.format(arguments.get("task_id"), "Airflow does not map that"))
        return super().partial(**arguments)

    def _can_start_from_trigger(self) -> bool:
        """Say to Airflow how to start the trigger; where that cannot be, warn."""
        # Not in the class: Airflow would start its mapped tasks with them, whatever these wait for.
        try:
            if not self.deferrable:
                raise start.NeedsWorkerError("it needs deferrable=True")
            if self.on_execute_callback:
                raise start.NeedsWorkerError("on_execute_callback is called by a worker")
            start.check_airflow(self)
            self.start_trigger_args = self._start_trigger_args()
        except start.NeedsWorkerError as reason:
            _warn(_STARTS_IN_A_WORKER.format(self.task_id, reason))
            return False
        return True

    def _start_trigger_args(self) -> StartTriggerArgs:
        from airflow.triggers.base import StartTriggerArgs

        path, arguments = self._trigger_to_start(
            tallyfy_conn_id=start.as_text(self.tallyfy_conn_id, "tallyfy_conn_id", self),
            run_id=start.as_text(self.run_id, "run_id", self),
            end_from_trigger=self.end_from_trigger,
            **self._pace_of_trigger(),
        ).serialize()
        return StartTriggerArgs(
            trigger_cls=path,
            trigger_kwargs=arguments,
            next_method="execute_complete",
            # Some versions take a zero for no timeout at all.
            timeout=timedelta(seconds=max(self.timeout, 1)),
        )

    def _pace_of_trigger(self) -> dict[str, Any]:
        """Return the arguments by which a trigger waits as this sensor is told to."""
        return {
            "poke_interval": self.poke_interval,
            "exponential_backoff": self.exponential_backoff,
            "max_wait": self.max_wait.total_seconds() if self.max_wait else None,
            "silent_fail": self.silent_fail,
            "do_xcom_push": self.do_xcom_push,
        }

    def _can_end_from_trigger(self) -> bool:
        """Tell whether no worker is needed after a success; where one is, warn."""
        reason = self._ends_in_a_worker_since
        if not self.deferrable:
            reason = "it needs deferrable=True"
        for name in ("on_success_callback", "outlets", "multiple_outputs"):
            if getattr(self, name, None):
                reason = f"Airflow sees to {name} only in a worker"
        if reason:
            _warn(_ENDS_IN_A_WORKER.format(self.task_id, reason))
        return reason is None


def _warn(message: str) -> None:
    """Warn at the line of the DAG file that makes the sensor, however many calls of Airflow's lie between."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    module = frame.f_globals.get("__name__")
    warnings.warn_explicit(message, UserWarning, frame.f_code.co_filename, frame.f_lineno, module)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("airflow", "airflow_provider_tallyfy")
