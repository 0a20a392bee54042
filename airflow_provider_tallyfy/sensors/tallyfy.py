"""Sensors that wait for people."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_tallyfy.operators.links import TallyfyProcessLink, push_run_url
from airflow_provider_tallyfy.sensors import baseline, start
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS, is_deferral_timeout
from airflow_provider_tallyfy.waiting.events import from_event
from airflow_provider_tallyfy.waiting.looks import Blank, Look, Sight
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition, from_task_id
from airflow_provider_tallyfy.waiting.questions import AskRun
from airflow_provider_tallyfy.waiting.reader import Reader
from airflow_provider_tallyfy.waiting.report import described
from airflow_provider_tallyfy.waiting.verdicts import Lost, Over, Refused, Unseen, Waiting, judge

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import StartTriggerArgs

    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger

_STARTS_IN_A_WORKER = "Task {!r}: start_from_trigger is not used, and the task starts in a worker: {}."
_ENDS_IN_A_WORKER = "Task {!r}: end_from_trigger is not used, and the task ends in a worker: {}."


class TallyfyNextTaskSensor(BaseSensorOperator):
    """
    Wait until another task of a run is next than the one to move on from, or none is left.

    Returns ``{"run_id", "from_task_id", "next_task": {…} | None, "run_status", "progress"}``, where ``next_task`` and
    ``progress`` are Tallyfy's own objects (API page "Get process"). On today's API the next task is the open one with
    the earliest deadline, so it also becomes another one when a deadline moves, or a task is added, hidden or reopened.

    A wait goes on through 429, 5xx, time-outs and broken connections, until its ``timeout``. ``timeout``,
    ``soft_fail``, ``never_fail``, ``silent_fail``, ``exponential_backoff`` and ``max_wait`` mean what they mean on
    every sensor, in every mode.

    :param run_id: id of the run. (templated)
    :param from_task: the task to move on from: its id, or the task object itself, so that
        ``from_task=get_run.output["next_task"]`` works as it stands. Not given, ``None`` or empty: the task that is
        next at the sensor's first look, which is kept until the sensor succeeds. (templated)
    :param tallyfy_conn_id: id of the Airflow connection. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param start_from_trigger: with ``deferrable``, begin the wait in the triggerer too, without a worker. It needs
        ``from_task``, and Airflow 3.3 or newer where an argument is templated; where it cannot be, a warning says why
        when the DAG is parsed, and the wait begins in a worker.
    :param end_from_trigger: with ``deferrable``, let the triggerer end the task as successful and push the result;
        every other end needs a worker. Not for a task with ``on_success_callback``, ``outlets`` or
        ``multiple_outputs``, which only a worker sees to; a warning says so.
    :raises AirflowFailException: the run is archived or gone; the task fails without retries.
    :raises TallyfyAuthError: 401, and again after the connection was read anew. Likewise
        :class:`~airflow_provider_tallyfy.exceptions.TallyfyPermissionError` (403).
    :raises ValueError: ``from_task`` names no task; or, on Airflow before 3.3, ``mode="reschedule"`` without
        ``from_task``, since there nothing keeps the first look's task from one poke to the next.
    """

    template_fields: Sequence[str] = ("run_id", "from_task", "tallyfy_conn_id")
    operator_extra_links = (TallyfyProcessLink(),)
    ui_color = "#d9efe3"

    def __init__(
        self,
        *,
        run_id: str,
        from_task: str | Mapping[str, Any] | None = None,
        tallyfy_conn_id: str = "tallyfy_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.from_task = from_task
        self.tallyfy_conn_id = tallyfy_conn_id
        self.deferrable = deferrable
        self._condition: NextTaskCondition | None = None
        self._has_link = False
        if from_task is None and self._forgets_between_pokes:
            raise ValueError(
                f"Task {self.task_id!r}: mode='reschedule' needs from_task on Airflow before 3.3, where nothing keeps "
                "the first look's task from one poke to the next, so that a change between them would be missed. "
                "Write from_task=get_run.output['next_task'] after a TallyfyGetRunOperator, or deferrable=True."
            )
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
            message = _STARTS_IN_A_WORKER.format(arguments.get("task_id"), "Airflow does not map that")
            # 1: the line of the DAG file; Airflow adds one for a wrapper that is only around __init__.
            warnings.warn(message, UserWarning, stacklevel=1)
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
            self._warn(_STARTS_IN_A_WORKER.format(self.task_id, reason))
            return False
        return True

    def _start_trigger_args(self) -> StartTriggerArgs:
        from airflow.triggers.base import StartTriggerArgs

        path, arguments = self._trigger(
            tallyfy_conn_id=start.as_text(self.tallyfy_conn_id, "tallyfy_conn_id", self),
            run_id=start.as_text(self.run_id, "run_id", self),
            from_task=start.task_id_as_text(self.from_task, self),
            end_from_trigger=self.end_from_trigger,
        ).serialize()
        return StartTriggerArgs(
            trigger_cls=path,
            trigger_kwargs=arguments,
            next_method="execute_complete",
            timeout=_at_least_a_second(self.timeout),
        )

    def _can_end_from_trigger(self) -> bool:
        """Tell whether no worker is needed after a success; where one is, warn."""
        reason = None if self.deferrable else "it needs deferrable=True"
        for name in ("on_success_callback", "outlets", "multiple_outputs"):
            if getattr(self, name, None):
                reason = f"Airflow sees to {name} only in a worker"
        if reason:
            self._warn(_ENDS_IN_A_WORKER.format(self.task_id, reason))
        return reason is None

    def _warn(self, message: str) -> None:
        # 4: the line of the DAG file that makes the sensor; Airflow does not count its own wrapper of __init__.
        warnings.warn(message, UserWarning, stacklevel=4)

    @property
    def _forgets_between_pokes(self) -> bool:
        return self.reschedule and not self.deferrable and not AIRFLOW_V_3_3_PLUS

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.tallyfy_conn_id)

    @property
    def hook(self) -> TallyfyHook:
        """The hook, made at the first use: DAG files are parsed all day, and need no ``requests`` for that."""
        return self._reader.hook

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; if the wait is not over and ``deferrable`` is set, go on in the triggerer."""
        started_at = time.time()
        condition = self._condition
        if condition is None:
            condition = NextTaskCondition(
                from_task_id(self.from_task) or baseline.recall(context, self.run_id)
            )
        seen = self._look(condition.with_)
        if isinstance(seen, Sight):
            self.log.info("Run %s: %s", self.run_id, described(seen.run))
            if not self._has_link:
                push_run_url(context, self.hook.run_url(self.run_id))
                self._has_link = True
        verdict = judge(condition, self.run_id, seen)
        match verdict:
            case Waiting(learned):
                if learned != condition:
                    self._keep(context, learned)
                condition = learned
            case Unseen(error):
                self.log.warning("This look failed; the wait goes on: %s", error)
            case Refused(error) if self.silent_fail and self.deferrable:
                self.log.error("This look was refused; the wait goes on because of silent_fail: %s", error)
            case Over() | Lost() | Refused():
                return PokeReturnValue(is_done=True, xcom_value=self._conclude(context, verdict))
        self._condition = condition
        if self.deferrable:
            looked_at = started_at if isinstance(seen, Sight) else None
            self._defer(context, condition, started_at + self.timeout, looked_at=looked_at)
        return PokeReturnValue(is_done=False)

    def _look(self, with_: tuple[str, ...]) -> Look:
        run = self._reader.ask(AskRun(self.run_id, with_))
        return run if isinstance(run, Blank) else Sight(run)

    def _keep(self, context: Context, condition: NextTaskCondition) -> None:
        """Keep the task that was next at the first sight, where Airflow can."""
        if condition.from_task_id is None:
            return
        self.log.info("Waiting to move on from task %s", condition.from_task_id)
        if not baseline.keep(context, self.run_id, condition.from_task_id) and self._forgets_between_pokes:
            raise AirflowFailException(
                "from_task came out empty, and on Airflow before 3.3 nothing keeps the first look's task from one "
                "reschedule to the next. Use deferrable=True or mode='poke', or pass a task in from_task."
            )

    def _defer(
        self, context: Context, condition: NextTaskCondition, ends_at: float, *, looked_at: float | None
    ) -> NoReturn:
        """Wait on in the triggerer; times are in seconds since the epoch."""
        self.defer(
            trigger=self._trigger(
                tallyfy_conn_id=self.tallyfy_conn_id,
                run_id=self.run_id,
                from_task=condition.from_task_id,
                looked_at=looked_at,
                ends_at=ends_at,
                # What was kept has to be taken away after the success, and only a worker can.
                end_from_trigger=self.end_from_trigger and baseline.recall(context, self.run_id) is None,
            ),
            method_name="execute_complete",
            kwargs={"ends_at": ends_at},
            timeout=_at_least_a_second(min(ends_at - time.time(), self.timeout)),
        )

    def _trigger(self, **arguments: Any) -> TallyfyNextTaskTrigger:
        """Return the trigger that waits as this sensor is told to."""
        from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger

        return TallyfyNextTaskTrigger(
            poke_interval=self.poke_interval,
            exponential_backoff=self.exponential_backoff,
            max_wait=self.max_wait.total_seconds() if self.max_wait else None,
            silent_fail=self.silent_fail,
            do_xcom_push=self.do_xcom_push,
            **arguments,
        )

    def execute_complete(
        self, context: Context, event: Mapping[str, Any] | None = None, ends_at: float | None = None
    ) -> dict[str, Any]:
        """Take up what the trigger saw; ``dag.test()`` passes on nothing else, nor does a start from the trigger."""
        verdict = from_event(event)
        ends_at = self._began_at(context) + self.timeout if ends_at is None else ends_at
        if self.start_from_trigger:
            self._link_without_a_look(context)
        knew_no_task = isinstance(verdict, Waiting) or (
            isinstance(verdict, Over) and verdict.result.get("from_task_id") is None
        )
        if knew_no_task and (kept := baseline.recall(context, self.run_id)):
            # An earlier try kept it, and the trigger that started this one could not know.
            self._defer(context, NextTaskCondition(kept), ends_at, looked_at=None)
        if isinstance(verdict, Waiting):
            self._keep(context, verdict.condition)
            self._defer(context, verdict.condition, ends_at, looked_at=time.time())
        return self._conclude(context, verdict)

    def _began_at(self, context: Context) -> float:
        """Return when this try began, in seconds since the epoch; a deferral does not change that."""
        began = getattr(context.get("ti"), "start_date", None)
        return began.timestamp() if began else time.time()

    def _link_without_a_look(self, context: Context) -> None:
        """Say where the process is, if the connection can be read; to end the wait, it is not needed any more."""
        try:
            push_run_url(context, self.hook.run_url(self.run_id))
        except Exception as error:  # noqa: BLE001 (a secrets backend may raise anything)
            self.log.warning("The link to the process is left out: no connection (%s)", type(error).__name__)

    def _conclude(self, context: Context, verdict: Over | Lost | Refused) -> dict[str, Any]:
        """End the wait as the verdict says, in whatever mode it was held."""
        if isinstance(verdict, Lost):
            raise AirflowFailException(verdict.reason)
        if isinstance(verdict, Refused):
            raise verdict.error
        baseline.forget(context)
        return verdict.result

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Give a timeout and ``never_fail`` in deferrable mode their meaning on Airflow versions that do not."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSkipException:
            raise
        except AirflowException as error:
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            if is_deferral_timeout(error):
                raise AirflowSensorTimeout(*error.args) from error
            raise


def _at_least_a_second(seconds: float) -> timedelta:
    """Return the timeout of a trigger; some versions take a zero for none at all."""
    return timedelta(seconds=max(seconds, 1))
