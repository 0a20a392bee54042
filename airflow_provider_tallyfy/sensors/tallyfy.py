"""Sensors that wait for people."""

from __future__ import annotations

import time
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_tallyfy.assets.lineage import report_lineage
from airflow_provider_tallyfy.exceptions import TallyfyError, fail_on_bad_input
from airflow_provider_tallyfy.links.tallyfy import TallyfyProcessLink, push_run_url
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.protocol.urls import identifier
from airflow_provider_tallyfy.rendering import TextPreservingTemplates
from airflow_provider_tallyfy.sensors.start_in_triggerer import (
    StartInTriggererMixin,
    is_task_output,
    next_task_id_as_text,
    template_as_text,
)
from airflow_provider_tallyfy.version_compat import (
    AIRFLOW_V_3_3_PLUS,
    deferral_hold,
    is_trigger_timeout,
    never_expire,
    task_state_store,
)
from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition, from_task_id
from airflow_provider_tallyfy.waiting.outcomes import (
    C,
    Evaluation,
    Final,
    Met,
    Pending,
    PollFailed,
    Unconfirmed,
    from_event,
    name_wait,
)
from airflow_provider_tallyfy.waiting.run_status import RunStatusCondition, known_statuses
from airflow_provider_tallyfy.waiting.task_done import TaskDoneCondition, check_on_skipped
from airflow_provider_tallyfy.waiting.worker import RunPoller, finish, time_left

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.triggers.tallyfy import (
        TallyfyNextTaskTrigger,
        TallyfyRunTrigger,
        TallyfyTaskTrigger,
        TallyfyTrigger,
    )


class TallyfySensor(StartInTriggererMixin, TextPreservingTemplates, BaseSensorOperator, Generic[C]):
    """
    Wait for a condition of a run, in every mode. Each sensor adds the condition and its arguments.

    :param run_id: id of the run. (templated)
    :param tallyfy_conn_id: id of the Airflow connection. Default: ``tallyfy_default``. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    """

    template_fields: Sequence[str] = ("run_id", "tallyfy_conn_id")
    operator_extra_links = (TallyfyProcessLink(),)
    ui_color = "#d9efe3"
    _condition_class: type[C]

    def __init__(
        self,
        *,
        run_id: str,
        tallyfy_conn_id: str = "tallyfy_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.tallyfy_conn_id = tallyfy_conn_id
        self.deferrable = deferrable
        self._condition: C | None = None
        self._ends_at: float | None = None

    @abstractmethod
    def _first_condition(self, context: Context) -> C:
        """Return the condition for the first poll of this try."""

    @abstractmethod
    def _trigger_for(self, condition: C, **arguments: Any) -> TallyfyTrigger:
        """Return the trigger that waits for a condition."""

    def _save_baseline(self, context: Context, condition: C) -> None:
        """Keep what the condition took from the first poll."""

    def _may_end_in_triggerer(self, context: Context) -> bool:
        """Return whether a success leaves nothing for a worker to do."""
        return self.end_from_trigger

    @cached_property
    def _poller(self) -> RunPoller[C]:
        # In the other modes, Airflow itself implements silent_fail.
        ignore_denials = self.silent_fail and self.deferrable
        return RunPoller(self.tallyfy_conn_id, self.run_id, self.log, ignore_denials=ignore_denials)

    @property
    def hook(self) -> TallyfyHook:
        """The hook, made at the first use: DAG files are parsed all day, and need no ``requests`` for that."""
        return self._poller.hook

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once; if that does not end the wait, and ``deferrable`` is set, defer."""
        started_at = time.time()
        polled_at: float | None = started_at
        with fail_on_bad_input():
            self.run_id = identifier(self.run_id, "run_id")
            condition = self._condition or self._first_condition(context)
        is_rescheduled = self.reschedule and not self.deferrable
        if self._condition is None and not is_rescheduled:  # or it would be logged at each poke
            self.log.info("%s", messages.describe_start(condition.describe_goal(), self.run_id))
        last_updated = _load(context, _LAST_UPDATED_KEY, self.run_id) if is_rescheduled else {}
        outcome = self._poller.poll(
            condition,
            confirm=not self.deferrable,
            last_updated=last_updated.get("last_updated"),
            at_first_read=lambda url: push_run_url(context, url),
        )
        match outcome:
            case Pending(pending):
                if pending != condition:
                    self._save_baseline(context, pending)
                condition = pending
            case PollFailed() | Unconfirmed():
                polled_at = None
            case _:
                return PokeReturnValue(is_done=True, xcom_value=self._finish(context, outcome))
        self._condition = condition
        if self.deferrable:
            self._defer(
                context, condition, self._ends_at or started_at + self.timeout, worker_polled_at=polled_at
            )
        if is_rescheduled and self._poller.last_updated != last_updated.get("last_updated"):
            _save(context, _LAST_UPDATED_KEY, self.run_id, last_updated=self._poller.last_updated)
        return PokeReturnValue(is_done=False)

    def _get_next_poke_interval(self, *args: Any, **kwargs: Any) -> float:
        """Return the seconds until the next poke, which a reschedule or ``Retry-After`` may prolong."""
        interval: float = super()._get_next_poke_interval(*args, **kwargs)
        return max(interval, deferral_hold(), self._poller.paused_for) if self.reschedule else interval

    def _defer(
        self, context: Context, condition: C, ends_at: float, *, worker_polled_at: float | None
    ) -> NoReturn:
        """Continue the wait in the triggerer; times are in seconds since the epoch."""
        self.defer(
            trigger=self._trigger_for(
                condition,
                tallyfy_conn_id=self.tallyfy_conn_id,
                run_id=self.run_id,
                worker_polled_at=worker_polled_at,
                deferred_at=time.time(),
                ends_at=ends_at,
                end_from_trigger=self._may_end_in_triggerer(context),
                **self._poller.trigger_arguments,
                **self._schedule_of_trigger(),
            ),
            method_name="execute_complete",
            kwargs={"ends_at": ends_at, "condition": sanitize_payload(condition.as_json())},
            timeout=time_left(ends_at, time.time(), self.timeout),
        )

    def execute_complete(
        self,
        context: Context,
        event: object = None,
        ends_at: float | None = None,
        condition: Mapping[str, Any] | None = None,
    ) -> Any:
        """Resume after the deferral; ``dag.test()`` and a start from the trigger pass only the event."""
        if ends_at is None:
            # When this try began, which a deferral does not change.
            began_at = getattr(context.get("ti"), "start_date", None)
            ends_at = (began_at.timestamp() if began_at else time.time()) + self.timeout
        if self._start_requested:
            self._push_link_without_poll(context)
        outcome = from_event(event, self._condition_class, name_wait(context.get("ti")))
        if outcome is None:
            self.log.warning("The trigger's event is not about this wait, polling again")
            self.deferrable, self._ends_at = True, ends_at
            self._condition = self._condition_class(**condition) if condition else None
            return self.poke(context).xcom_value
        return self._finish(context, self._resume(context, outcome, ends_at))

    def _resume(self, context: Context, outcome: Evaluation[Any], ends_at: float) -> Final:
        """Return the outcome of the trigger if it ends the wait; otherwise defer again."""
        if isinstance(outcome, Pending):
            self._save_baseline(context, outcome.condition)
            self._defer(context, outcome.condition, ends_at, worker_polled_at=time.time())
        final: Final = outcome
        return final

    def _push_link_without_poll(self, context: Context) -> None:
        """Push the link to the process, if the connection can be read; the end of the wait does not need it."""
        try:
            push_run_url(context, self.hook.run_url(self.run_id))
        except Exception as error:  # noqa: BLE001 (a secrets backend may raise anything)
            self.log.warning("The link to the process is left out: no connection (%s)", type(error).__name__)

    def _finish(self, context: Context, outcome: Final) -> dict[str, Any]:
        """End the task by the outcome of its wait, in every mode."""
        result = finish(outcome, self._log_result)
        report_lineage(self.hook, read_runs=[self.run_id])
        return result

    def _log_result(self, result: dict[str, Any]) -> None:
        self.log.info("The wait is over: %s", self._condition_class.describe_result(result))

    def poll_after_timeout(self, context: Context) -> dict[str, Any]:
        """
        Poll once more when the deferral timed out, since what is waited for may have happened in its last seconds.

        :raises AirflowSensorTimeout: it has not.
        """
        with fail_on_bad_input():
            self.run_id = identifier(self.run_id, "run_id")
            condition = self._first_condition(context)
        return self._poller.finish_after_timeout(condition, lambda outcome: self._finish(context, outcome))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """
        Give a timeout, ``soft_fail`` and ``never_fail`` the meaning that they have in every other mode.

        In Airflow, ``soft_fail`` skips whatever fails a deferred sensor, but only a timeout and
        ``AirflowFailException`` while it pokes. So a refusal fails here too.
        """
        if is_trigger_timeout(next_method, next_kwargs):
            next_method, next_kwargs = "poll_after_timeout", {}
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSkipException as skip:
            if isinstance(skip.__cause__, TallyfyError) and not self.never_fail:
                raise skip.__cause__ from None
            raise
        except AirflowException as error:
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            if isinstance(error, AirflowSensorTimeout) and self.soft_fail:  # on Airflow 3.0
                raise AirflowSkipException("Skipping due to soft_fail is set to True.") from error
            raise


class TallyfyNextTaskSensor(TallyfySensor[NextTaskCondition]):
    """
    Wait until the next task of a run changes, or the run has no open tasks left.

    Returns ``{"run_id", "from_task_id", "next_task": {…} | None, "run_status", "progress"}``, where ``next_task`` and
    ``progress`` are Tallyfy's own objects (API page "Get process"). On today's API the next task is the open one with
    the earliest deadline, so it also changes when a deadline moves, or a task is added, hidden or reopened.

    Outages do not end the wait before its ``timeout``. The arguments of every Airflow sensor work in every mode.

    :param run_id: id of the run. (templated)
    :param from_task: the task to move on from: its id, or the task object itself, so that
        ``from_task=get_run.output["next_task"]`` works as it stands. Not given, ``None`` or empty: the task that is
        next at the sensor's first poll, which is kept until the sensor succeeds, through a retry on Airflow 3.3 and
        newer only. (templated)
    :param tallyfy_conn_id: id of the Airflow connection. Default: ``tallyfy_default``. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param start_from_trigger: with ``deferrable``, begin the wait in the triggerer too, without a worker. If that is
        not possible, as without ``from_task``, a warning says why when the DAG is parsed.
    :param end_from_trigger: with ``deferrable``, let the triggerer end the task as successful and push the result. If
        that is not possible, as for a task with ``outlets``, a warning says why when the DAG is parsed.
    :raises AirflowFailException: the run is archived or gone, or ``run_id`` or ``from_task`` is no id; the task fails
        without retries.
    :raises TallyfyAuthError: 401, even after the connection was read again. Likewise
        :class:`~airflow_provider_tallyfy.exceptions.TallyfyPermissionError` (403).
    :raises ValueError: on Airflow before 3.3, ``mode="reschedule"`` without ``from_task``, since there nothing keeps
        the task of the first poll from one poke to the next.
    """

    template_fields: Sequence[str] = ("run_id", "from_task", "tallyfy_conn_id")
    _condition_class = NextTaskCondition

    def __init__(
        self,
        *,
        run_id: str,
        from_task: str | Mapping[str, Any] | None = None,
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(run_id=run_id, **kwargs)
        self.from_task = from_task
        if from_task is None and self._forgets_between_pokes:
            raise ValueError(
                f"Task {self.task_id!r}: mode='reschedule' needs from_task on Airflow before 3.3, where nothing keeps "
                "the task of the first poll from one poke to the next, so that a change between them would be missed. "
                "Write from_task=get_run.output['next_task'] after a TallyfyGetRunOperator, or deferrable=True."
            )
        if from_task is None and is_task_output(run_id):
            warnings.warn(
                f"Task {self.task_id!r}: without from_task, a change before this sensor starts is missed. Write "
                "from_task=launch.output['next_task']: a TallyfyLaunchRunOperator or TallyfyGetRunOperator returns it.",
                UserWarning,
                stacklevel=3,
            )
        self._use_triggerer(start_from_trigger, end_from_trigger)

    @property
    def _forgets_between_pokes(self) -> bool:
        return self.reschedule and not self.deferrable and not AIRFLOW_V_3_3_PLUS

    def _first_condition(self, context: Context) -> NextTaskCondition:
        return NextTaskCondition(from_task_id(self.from_task) or _kept_baseline(context, self.run_id))

    def _trigger_for(self, condition: NextTaskCondition, **arguments: Any) -> TallyfyNextTaskTrigger:
        from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger

        return TallyfyNextTaskTrigger(from_task=condition.from_task_id, **arguments)

    def _trigger_to_start(self, **arguments: Any) -> TallyfyNextTaskTrigger:
        from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger

        return TallyfyNextTaskTrigger(from_task=next_task_id_as_text(self.from_task, self), **arguments)

    def _may_end_in_triggerer(self, context: Context) -> bool:
        # What was kept has to be marked as used, and only a worker can.
        return self.end_from_trigger and _kept_baseline(context, self.run_id) is None

    def _save_baseline(self, context: Context, condition: NextTaskCondition) -> None:
        """Keep the task that was next at the first poll, if Airflow can."""
        if condition.from_task_id is None:
            return
        self.log.info("Waiting to move on from task %s", condition.from_task_id)
        if getattr(context.get("ti"), "try_number", 1) > 1:
            self.log.warning("No earlier try kept a task to move on from; a change before this try is missed")
        is_saved = _save(context, _BASELINE_KEY, self.run_id, from_task_id=condition.from_task_id)
        if not is_saved and self._forgets_between_pokes:
            raise AirflowFailException(
                "from_task is empty, and on Airflow before 3.3 nothing keeps the task of the first poll from one "
                "reschedule to the next. Use deferrable=True or mode='poke', or pass a task in from_task."
            )

    def _resume(self, context: Context, outcome: Evaluation[Any], ends_at: float) -> Final:
        had_no_baseline = isinstance(outcome, Pending) or (
            isinstance(outcome, Met) and outcome.result.get("from_task_id") is None
        )
        if had_no_baseline and (kept := _kept_baseline(context, self.run_id)):
            # Of an earlier try; the trigger that started this one does not read it.
            self._defer(context, NextTaskCondition(kept), ends_at, worker_polled_at=None)
        return super()._resume(context, outcome, ends_at)

    def _finish(self, context: Context, outcome: Final) -> dict[str, Any]:
        result = super()._finish(context, outcome)
        if from_task_id(self.from_task) is None:  # or nothing was kept
            _mark_baseline_used(context, self.run_id)
        return result


# Airflow clears a task's XComs at each start, and with them anything a poke pushed; only the task state store (3.3)
# outlives a reschedule and a retry. It outlives success too, and a sensor cannot find out whether its success will be
# recorded: the worker may die, or fail to push the result. So the baseline is not deleted but marked as used. A retry
# uses it again; a task instance that was cleared since, which Airflow gives more tries, does not.
_BASELINE_KEY = "tallyfy_from_task"
_LAST_UPDATED_KEY = "tallyfy_last_updated"
_USED = "used_with_max_tries"


def _load(context: Context, key: str, run_id: str) -> dict[str, Any]:
    """Return what the task state store keeps of a run; a task that was cleared may wait for another run now."""
    store = task_state_store(context)
    kept = store.get(key) if store is not None else None
    return kept if isinstance(kept, dict) and kept.get("run_id") == run_id else {}


def _save(context: Context, key: str, run_id: str, **values: Any) -> bool:
    """Keep something of a run in the task state store; return whether there is one."""
    if (store := task_state_store(context)) is None:
        return False
    store.set(key, {"run_id": run_id, **values}, retention=never_expire())
    return True


def _kept_baseline(context: Context, run_id: str) -> str | None:
    """Return the id of the task that was kept for this run, or ``None``."""
    kept = _load(context, _BASELINE_KEY, run_id)
    if kept.get(_USED, _max_tries(context)) != _max_tries(context):
        return None
    task_id = kept.get("from_task_id")
    return task_id if isinstance(task_id, str) else None


def _mark_baseline_used(context: Context, run_id: str) -> None:
    """Keep the baseline only for retries of this success, in case it is not recorded."""
    if kept := _load(context, _BASELINE_KEY, run_id):
        _save(context, _BASELINE_KEY, **{**kept, _USED: _max_tries(context)})


def _max_tries(context: Context) -> int | None:
    """Return how many tries the task instance has; clearing it adds some."""
    return getattr(context.get("ti"), "max_tries", None)


class TallyfyTaskSensor(TallyfySensor[TaskDoneCondition]):
    """
    Wait until a task of a run is completed.

    Returns the task as Tallyfy has it (API page "Get task"), with ``is_approved`` (``True``, ``False``, or ``None``
    if it is no approval) and ``form_values``, the values of its form by alias (by label, if a field has none).

    The task may be added to the run later. The sensor fails without retries if the run is complete without it, or if
    several tasks have that name and rules do not hide all but one of them.

    Outages do not end the wait before its ``timeout``. The arguments of every Airflow sensor work in every mode.

    :param run_id: id of the run. (templated)
    :param task: the task's id, alias or title. An exact match comes before one that differs in case only. (templated)
    :param on_skipped: what to do as soon as a rule hides the task: ``skip`` this one, ``succeed`` or ``fail``. A step
        that its template hides until a rule shows it is hidden from the start: wait for what decides that first.
    :param tallyfy_conn_id: id of the Airflow connection. Default: ``tallyfy_default``. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param start_from_trigger: with ``deferrable``, begin the wait in the triggerer too, without a worker. If that is
        not possible, a warning says why when the DAG is parsed.
    :param end_from_trigger: with ``deferrable``, let the triggerer end the task as successful and push the result. If
        that is not possible, as for a task with ``outlets``, a warning says why when the DAG is parsed.
    :raises AirflowFailException: the task will never be completed, the run is archived or gone, or ``run_id`` is
        no id or ``task`` is empty.
    :raises AirflowSkipException: a rule hides the task.
    :raises TallyfyAuthError: 401, even after the connection was read again. Likewise
        :class:`~airflow_provider_tallyfy.exceptions.TallyfyPermissionError` (403).
    :raises ValueError: ``on_skipped`` is none of these.
    """

    template_fields: Sequence[str] = ("run_id", "task", "tallyfy_conn_id")
    _condition_class = TaskDoneCondition
    _needs_decision = False

    def __init__(
        self,
        *,
        run_id: str,
        task: str,
        on_skipped: str = "skip",
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(run_id=run_id, **kwargs)
        check_on_skipped(on_skipped)
        self.task = task
        self.on_skipped = on_skipped
        self._use_triggerer(start_from_trigger, end_from_trigger)

    def _first_condition(self, context: Context) -> TaskDoneCondition:
        return TaskDoneCondition(self.task, self.on_skipped, self._needs_decision)

    def _trigger_for(self, condition: TaskDoneCondition, **arguments: Any) -> TallyfyTaskTrigger:
        from airflow_provider_tallyfy.triggers.tallyfy import TallyfyTaskTrigger

        return TallyfyTaskTrigger(**condition.as_json(), **arguments)

    def _trigger_to_start(self, **arguments: Any) -> TallyfyTaskTrigger:
        task = template_as_text(self.task, "task", self)
        return self._trigger_for(TaskDoneCondition(task, self.on_skipped, self._needs_decision), **arguments)


class TallyfyRunSensor(TallyfySensor[RunStatusCondition]):
    """
    Wait until a run has one of some statuses.

    Returns the run as Tallyfy has it (API page "Get process"), with ``next_task`` as ``None`` or one task.

    The task fails without retries if the run can never get there: if it is archived or complete, and that is none of
    the statuses. A status that changes with time alone, as ``delayed`` does, is seen within five minutes, or the
    ``poke_interval`` if that is longer.

    Outages do not end the wait before its ``timeout``. The arguments of every Airflow sensor work in every mode.

    :param run_id: id of the run. (templated)
    :param target_statuses: the statuses, or one: ``active``, ``complete``, ``problem``, ``issue``, ``improvement``,
        ``delayed``, ``archived``; also ``in-progress`` and ``completed``, as webhooks say.
    :param tallyfy_conn_id: id of the Airflow connection. Default: ``tallyfy_default``. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param start_from_trigger: with ``deferrable``, begin the wait in the triggerer too, without a worker. If that is
        not possible, a warning says why when the DAG is parsed.
    :param end_from_trigger: with ``deferrable``, let the triggerer end the task as successful and push the result. If
        that is not possible, as for a task with ``outlets``, a warning says why when the DAG is parsed.
    :raises AirflowFailException: the run will never have one of the statuses, or is gone.
    :raises TallyfyAuthError: 401, even after the connection was read again. Likewise
        :class:`~airflow_provider_tallyfy.exceptions.TallyfyPermissionError` (403).
    :raises ValueError: a status is none of Tallyfy's; the message lists them.
    """

    _condition_class = RunStatusCondition

    def __init__(
        self,
        *,
        run_id: str,
        target_statuses: Iterable[str] | str = ("complete",),
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(run_id=run_id, **kwargs)
        self.target_statuses = known_statuses(target_statuses)
        self._use_triggerer(start_from_trigger, end_from_trigger)

    def _first_condition(self, context: Context) -> RunStatusCondition:
        return RunStatusCondition(self.target_statuses)

    def _trigger_for(self, condition: RunStatusCondition, **arguments: Any) -> TallyfyRunTrigger:
        from airflow_provider_tallyfy.triggers.tallyfy import TallyfyRunTrigger

        return TallyfyRunTrigger(**condition.as_json(), **arguments)

    def _trigger_to_start(self, **arguments: Any) -> TallyfyRunTrigger:
        return self._trigger_for(RunStatusCondition(self.target_statuses), **arguments)
