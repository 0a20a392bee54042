"""
Start and end a sensor in the triggerer, if Airflow allows it, and warn if it does not.

The scheduler starts the trigger with arguments from the serialized DAG, so they have to be text. Since Airflow 3.3 the
triggerer renders it, so another task's output is written as a template here. If the triggerer would not render an
argument as a worker does, the sensor has to start in a worker.
"""

from __future__ import annotations

import json
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY, ParamValidationError, XComArg

from airflow_provider_tallyfy.version_compat import (
    AIRFLOW_V_3_3_PLUS,
    can_start_from_trigger,
    has_listeners,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator
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
# An XCom that is None means that the run has no next task, if the task returned a run. Otherwise the output is missing,
# which has to be an error: the template then uses a name that is not defined.
_ID_OF_TASK = (
    "{{% set task = {pull} %}}{{% if task is none and {result} is none %}}{{{{ {{}}[{missing}] }}}}{{% endif %}}"
    "{{{{ task['id'] if task is mapping and task else task or '' }}}}"
)


class NeedsWorkerError(Exception):
    """The sensor cannot start in the triggerer; the message gives the reason, and what to write."""


class _Computed(Generic[T]):
    """
    An attribute that a sensor computes whenever Airflow reads it, such as when it serializes the DAG.

    So it takes account of changes by cluster policies. The class itself has the default, which Airflow uses for mapped
    tasks.
    """

    def __init__(self, default: T, compute: Callable[[Any], T]) -> None:
        self._default = default
        self._compute = compute

    def __get__(self, sensor: Any, owner: type) -> T:
        return self._default if sensor is None else self._compute(sensor)


class StartInTriggererMixin(_Base):
    """A sensor whose wait may begin and end in the triggerer; subclasses make the trigger."""

    #: Why a success always needs a worker; ``None`` if it does not.
    _end_in_worker_reason: str | None = None
    _start_requested = _end_requested = False

    @abstractmethod
    def _trigger_to_start(self, **arguments: Any) -> TallyfyTrigger:
        """
        Return the trigger to start with, its arguments as text for the triggerer to render.

        :raises NeedsWorkerError: there is no such text.
        """

    def _use_triggerer(self, start_from_trigger: bool, end_from_trigger: bool) -> None:
        """
        Begin and end in the triggerer, if possible; to be called when all other arguments are set.

        :raises ValueError: an argument is neither ``True`` nor ``False``.
        """
        given = {
            "deferrable": self.deferrable,
            "start_from_trigger": start_from_trigger,
            "end_from_trigger": end_from_trigger,
        }
        for name, value in given.items():
            if not isinstance(value, bool):  # the text "false" would be true
                raise ValueError(f"Task {self.task_id!r}: {name} must be True or False, but is {value!r}.")
        self._start_requested, self._end_requested = start_from_trigger, end_from_trigger
        problems = []
        if end_from_trigger and (reason := self._reason_to_end_in_a_worker()):
            problems.append(_ENDS_IN_A_WORKER.format(self.task_id, reason))
        if start_from_trigger:
            try:
                self._arguments_to_start()
            except NeedsWorkerError as error:
                problems.append(_STARTS_IN_A_WORKER.format(self.task_id, error))
            else:
                if self.pool != "default_pool":
                    problems.append(_NEEDS_A_SLOT.format(self.task_id, self.pool))
        for problem in problems:
            warnings.warn(problem, UserWarning, stacklevel=_FROM_THE_DAG_FILE)

    @classmethod
    def partial(cls, **arguments: Any) -> Any:
        """
        Begin a mapped sensor, without ``start_from_trigger``.

        Airflow does not start mapped tasks in the triggerer, but would render their triggers there, which may end the
        triggerer: see :func:`_check_airflow`.
        """
        if arguments.pop("start_from_trigger", False):
            message = _STARTS_IN_A_WORKER.format(
                arguments.get("task_id"), "Airflow starts no mapped task in the triggerer"
            )
            warnings.warn(message, UserWarning, stacklevel=2)
        return super().partial(**arguments)

    def _arguments_to_start(self) -> StartTriggerArgs:
        """
        Return how Airflow starts the trigger.

        :raises NeedsWorkerError: the sensor has to start in a worker.
        """
        from airflow.triggers.base import StartTriggerArgs

        if not self.deferrable:
            raise NeedsWorkerError("it needs deferrable=True")
        if self.on_execute_callback:
            raise NeedsWorkerError("on_execute_callback is called by a worker")
        if self.execution_timeout and self.execution_timeout.total_seconds() < self.timeout:
            raise NeedsWorkerError(
                "Airflow would end the wait after execution_timeout, which is shorter than timeout, and otherwise "
                "limits only the time in a worker"
            )
        _check_airflow(self)
        path, arguments = self._trigger_to_start(
            tallyfy_conn_id=template_as_text(self.tallyfy_conn_id, "tallyfy_conn_id", self),
            run_id=template_as_text(self.run_id, "run_id", self),
            end_from_trigger=self.end_from_trigger,
            **self._schedule_of_trigger(),
        ).serialize()
        return StartTriggerArgs(
            trigger_cls=path,
            trigger_kwargs=arguments,
            next_method="execute_complete",
            # Some versions take a zero for no timeout at all.
            timeout=timedelta(seconds=max(self.timeout, 1)),
        )

    def _start_trigger_args(self) -> StartTriggerArgs | None:
        if not self._start_requested:
            return None
        try:
            return self._arguments_to_start()
        except NeedsWorkerError:
            return None

    start_trigger_args = _Computed(None, _start_trigger_args)
    start_from_trigger = _Computed(False, lambda sensor: sensor.start_trigger_args is not None)
    end_from_trigger = _Computed(
        False, lambda sensor: sensor._end_requested and sensor._reason_to_end_in_a_worker() is None
    )

    def _schedule_of_trigger(self) -> dict[str, Any]:
        """Return the arguments by which a trigger polls as this sensor does."""
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
            return "Airflow has listeners (such as OpenLineage), which are called for tasks that end in a worker only"
        return self._end_in_worker_reason


def _check_airflow(sensor: BaseOperator) -> None:
    """
    Check that Airflow can start this sensor in its triggerer, and that the triggerer survives it.

    Airflow 3.3.2 makes the context for rendering where no error is caught (``create_triggers`` in
    ``jobs/triggerer_job_runner.py``): a param without a default ends the whole triggerer with all its waits, and again
    after every restart, even if the DAG run has a value for it.

    :raises NeedsWorkerError: it cannot, or a param has no default, or the sensor is in no DAG yet.
    """
    if not can_start_from_trigger():
        raise NeedsWorkerError("Airflow 3.0 to 3.2 start no task in the triggerer")
    if not AIRFLOW_V_3_3_PLUS:
        return
    if not sensor.has_dag():
        raise NeedsWorkerError(
            "the sensor is not in a DAG yet. Make it inside of `with DAG(...)`, or pass dag="
        )
    for name in sensor.params:  # the DAG's too
        try:
            sensor.params[name]
        except ParamValidationError:
            raise NeedsWorkerError(
                f"param {name!r} has no default, which ends Airflow's triggerer. Give it one, such as ''"
            ) from None


def is_task_output(value: object) -> bool:
    """Return whether an argument is the output of another task, or a template that pulls an XCom."""
    if isinstance(value, str):
        return "xcom_pull" in value
    references = getattr(value, "iter_references", tuple)
    return any(True for _ in references())


def template_as_text(value: object, field: str, sensor: BaseOperator) -> str:
    """
    Return an argument as the text that the triggerer renders as a worker would.

    :param value: the argument: a text, a template, or another task's output.
    :param field: its name, for the error.
    :param sensor: the sensor that it was given to.
    :raises NeedsWorkerError: there is no such text.
    """
    if isinstance(value, XComArg):
        return f"{{{{ {_pull(value, field, sensor)} }}}}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise NeedsWorkerError(f"{field} is neither a text nor the output of a task")
    if _is_template(value):
        _check_that_the_triggerer_renders(field)
        # That would request all map indexes at once, which a triggerer gets no response to.
        if value.count("xcom_pull") > value.count("map_indexes"):
            raise NeedsWorkerError(
                f"{field} calls xcom_pull() without map_indexes, which Airflow's triggerer does not answer. "
                "Pass the other task's output (get_run.output['next_task']), or add map_indexes=None"
            )
    return value


def next_task_id_as_text(from_task: object, sensor: BaseOperator) -> str:
    """
    Return ``from_task`` as the text that renders to the task's id, or to nothing if there is no task.

    :param from_task: as for :func:`~airflow_provider_tallyfy.waiting.next_task.from_task_id`.
    :param sensor: the sensor.
    :raises NeedsWorkerError: there is no such text, or no task is named.
    """
    if from_task is None or from_task in ("", {}):
        raise NeedsWorkerError(
            "without from_task, only the triggerer would have the task to move on from, which would be forgotten "
            "when that restarts. Write from_task=get_run.output['next_task'] after a TallyfyGetRunOperator"
        )
    if isinstance(from_task, XComArg):
        output: Any = from_task
        return _ID_OF_TASK.format(
            pull=_pull(output, "from_task", sensor),
            result=_pull(output, "from_task", sensor, XCOM_RETURN_KEY),
            missing=json.dumps(f"output {output.key} of task {output.operator.task_id}"),
        )
    if isinstance(from_task, Mapping):
        return template_as_text(from_task.get("id"), "from_task['id']", sensor)
    return template_as_text(from_task, "from_task", sensor)


def _is_template(text: str) -> bool:
    return any(mark in text for mark in ("{{", "{%", "{#"))


def _check_that_the_triggerer_renders(field: str) -> None:
    if not AIRFLOW_V_3_3_PLUS:
        raise NeedsWorkerError(
            f"{field} is templated, and before Airflow 3.3 a triggerer renders no templates"
        )


def _pull(output: Any, field: str, sensor: BaseOperator, other_key: str | None = None) -> str:
    """
    Return the call in a template that pulls another task's output, or another XCom of that task.

    Airflow's own text of an output has no map index, so it would request all of them; see :func:`template_as_text`.
    """
    _check_that_the_triggerer_renders(field)
    upstream, key = getattr(output, "operator", None), getattr(output, "key", None)
    if upstream is None or key is None:
        raise NeedsWorkerError(
            f"{field} is an output with map(), zip() or concat(), which only a worker applies"
        )
    group = upstream.get_closest_mapped_task_group()
    if upstream.is_mapped or (group is not None and group is not sensor.get_closest_mapped_task_group()):
        raise NeedsWorkerError(f"{field} is the output of mapped task {upstream.task_id!r}")
    index = "None" if group is None else "ti.map_index"
    return (
        f"ti.xcom_pull(task_ids={json.dumps(upstream.task_id)}, key={json.dumps(other_key or key)}, "
        f"map_indexes={index})"
    )
