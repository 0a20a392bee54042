"""Starting and ending a sensor in the triggerer, if Airflow allows it, and a warning if it does not."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow_provider_tallyfy.sensors import start
from airflow_provider_tallyfy.version_compat import has_listeners

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

T = TypeVar("T")

_STARTS_IN_A_WORKER = "Task {!r}: start_from_trigger is not used, and the task starts in a worker: {}."
_ENDS_IN_A_WORKER = "Task {!r}: end_from_trigger is not used, and the task ends in a worker: {}."
_NEEDS_A_SLOT = (
    "Task {!r}: start_from_trigger takes no slot of pool {!r}, but ending in a worker does. If the pool includes "
    "deferred tasks, those that wait take its slots, and one whose wait is over may have to wait for them."
)
_FROM_THE_DAG_FILE = 4  # frames up: the sensor's __init__, Airflow's wrapper of it, the DAG file


class _Computed(Generic[T]):
    """
    An attribute that a sensor computes whenever Airflow reads it, such as when it serializes the DAG.

    So it holds for what cluster policies, callbacks and outlets have made of the sensor by then. The class itself has
    the default: Airflow starts mapped tasks by what the class says.
    """

    def __init__(self, default: T, compute: Callable[[Any], T]) -> None:
        self._default = default
        self._compute = compute

    def __get__(self, sensor: Any, owner: type) -> T:
        return self._default if sensor is None else self._compute(sensor)


class InTriggerer(_Base):
    """A sensor whose wait may begin and end in the triggerer; each says by which trigger."""

    #: What only a worker does after a success of such a sensor.
    _ends_in_a_worker_since: str | None = None
    _asks_to_start = _asks_to_end = False

    @abstractmethod
    def _trigger_to_start(self, **arguments: Any) -> TallyfyTrigger:
        """
        Return the trigger to start with, its arguments as text for the triggerer to render.

        :raises NeedsWorkerError: there is no such text.
        """

    def _use_triggerer(self, start_from_trigger: bool, end_from_trigger: bool) -> None:
        """Begin and end there, as far as it is asked for and possible; called when all other arguments are set."""
        self._asks_to_start, self._asks_to_end = start_from_trigger, end_from_trigger
        if end_from_trigger and (reason := self._reason_to_end_in_a_worker()):
            message = _ENDS_IN_A_WORKER.format(self.task_id, reason)
            warnings.warn(message, UserWarning, stacklevel=_FROM_THE_DAG_FILE)
        if not start_from_trigger:
            return
        try:
            self._arguments_to_start()
        except start.NeedsWorkerError as reason:
            message = _STARTS_IN_A_WORKER.format(self.task_id, reason)
            warnings.warn(message, UserWarning, stacklevel=_FROM_THE_DAG_FILE)
        else:
            if self.pool != "default_pool":
                message = _NEEDS_A_SLOT.format(self.task_id, self.pool)
                warnings.warn(message, UserWarning, stacklevel=_FROM_THE_DAG_FILE)

    @classmethod
    def partial(cls, **arguments: Any) -> Any:
        """
        Begin a mapped sensor, as on every operator.

        Airflow does not start mapped tasks in the triggerer. But one that asks for it is rendered there when it defers,
        and so may end the triggerer: see :func:`~airflow_provider_tallyfy.sensors.start.check_airflow`.
        """
        if arguments.pop("start_from_trigger", False):
            message = _STARTS_IN_A_WORKER.format(arguments.get("task_id"), "Airflow does not map that")
            warnings.warn(message, UserWarning, stacklevel=2)
        return super().partial(**arguments)

    def _arguments_to_start(self) -> StartTriggerArgs:
        """
        Return how Airflow starts the trigger.

        :raises NeedsWorkerError: the sensor has to start in a worker.
        """
        from airflow.triggers.base import StartTriggerArgs

        if not self.deferrable:
            raise start.NeedsWorkerError("it needs deferrable=True")
        if self.on_execute_callback:
            raise start.NeedsWorkerError("on_execute_callback is called by a worker")
        if self.execution_timeout and self.execution_timeout.total_seconds() < self.timeout:
            raise start.NeedsWorkerError(
                "Airflow would end the wait after execution_timeout, which is shorter than timeout and else counts for "
                "the time in a worker only"
            )
        start.check_airflow(self)
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

    def _start_trigger_args(self) -> StartTriggerArgs | None:
        if not self._asks_to_start:
            return None
        try:
            return self._arguments_to_start()
        except start.NeedsWorkerError:
            return None

    start_trigger_args = _Computed(None, _start_trigger_args)
    start_from_trigger = _Computed(False, lambda sensor: sensor.start_trigger_args is not None)
    end_from_trigger = _Computed(
        False, lambda sensor: sensor._asks_to_end and sensor._reason_to_end_in_a_worker() is None
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

    def _reason_to_end_in_a_worker(self) -> str | None:
        """Return why a success needs a worker; ``None`` if it does not."""
        if not self.deferrable:
            return "it needs deferrable=True"
        for name in ("on_success_callback", "outlets", "multiple_outputs"):
            if getattr(self, name, None):
                return f"only a worker handles {name}"
        if has_listeners():
            return (
                "Airflow has listeners (such as OpenLineage), which hear of tasks that end in a worker only"
            )
        return self._ends_in_a_worker_since
