"""The base class of the gates: operators that wait for a person to decide, and act on that decision."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    XCOM_RETURN_KEY,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    PokeReturnValue,
    SkipMixin,
    TaskDeferred,
)

from airflow_provider_tallyfy.exceptions import TallyfyError, fail_on_bad_input
from airflow_provider_tallyfy.operators.base import check_argument, check_bools, is_number, to_seconds
from airflow_provider_tallyfy.operators.gate_decision import (
    DecisionReader,
    describe_decision,
    describe_timeout,
    format_audit_line,
    format_decision,
)
from airflow_provider_tallyfy.operators.gate_downstream import DownstreamSkipper
from airflow_provider_tallyfy.operators.gate_notifiers import GateNotifiers, pack_notifier
from airflow_provider_tallyfy.protocol.completion import check_approvers
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.protocol.tasks import find_task, is_completed
from airflow_provider_tallyfy.protocol.urls import identifier
from airflow_provider_tallyfy.sensors.start_in_triggerer import NeedsWorkerError
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyTaskSensor
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS, was_rescheduled
from airflow_provider_tallyfy.waiting.evidence import CONFIRMATION_SECONDS
from airflow_provider_tallyfy.waiting.outcomes import (
    Denied,
    Evaluation,
    Final,
    Met,
    Pending,
    Skipped,
    Unreachable,
)
from airflow_provider_tallyfy.waiting.polls import PollError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.triggers.tallyfy import TallyfyTaskTrigger
    from airflow_provider_tallyfy.waiting.task_done import TaskDoneCondition

Notifiers = Sequence[Callable[[Any], object]] | Callable[[Any], object] | None
"""A notifier, or another function of the context, or several of them."""
ON_TIMEOUT = ("fail", "skip", "approve", "reject")
"""What can be done without a decision in time."""
MAX_REMINDERS = 1000
"""How many reminders can be sent; each one's text is rendered again to tell it from the comment of who decided."""
_PAUSES_AT_TIMEOUT = (5.0, 10.0)
"""Seconds between polls after the timeout, if they fail."""


class GateOperator(TallyfyTaskSensor, SkipMixin):
    """
    Wait until a user decides on a task of a run, check that the decision counts, and act on it.

    The parameters are described at
    :class:`~airflow_provider_tallyfy.operators.tallyfy.TallyfyApprovalOperator`.
    """

    template_fields: Sequence[str] = (*TallyfyTaskSensor.template_fields, "approvers")
    inherits_from_skipmixin = True
    is_tallyfy_gate = True  # for the policy that refuses DAGs
    _needs_decision = True
    _end_in_worker_reason = "only a worker skips what is downstream"

    def __init__(
        self,
        *,
        run_id: str,
        task: str,
        approvers: Any = None,
        require_comment: bool = False,
        on_timeout: str = "fail",
        notifiers: Notifiers = None,
        remind_every: float | timedelta | None = None,
        max_reminders: int = 10,
        **kwargs: Any,
    ) -> None:
        # Before the sensor decides by them whether the wait can begin in the triggerer.
        self.approvers = approvers
        self._has_approvers = approvers is not None
        self.require_comment = require_comment
        self.on_timeout = on_timeout
        self.notifiers: Any = [notifiers] if callable(notifiers) else notifiers or []
        self.remind_every = to_seconds(remind_every)
        self.max_reminders = max_reminders
        super().__init__(run_id=run_id, task=task, **kwargs)
        self._check_arguments()

    def _check_arguments(self) -> None:
        check_bools(self, "require_comment")
        check_argument(self, "on_timeout", self.on_timeout in ON_TIMEOUT, f"one of {', '.join(ON_TIMEOUT)}")
        if self.on_timeout != "fail":
            for name in ("soft_fail", "never_fail"):
                expected = (
                    f"False, since it skips the task at a timeout and on_timeout={self.on_timeout!r} does not"
                )
                check_argument(self, name, not getattr(self, name), expected)
        if isinstance(self.approvers, (list, tuple, set, dict)):  # a template or an output is not known yet
            try:
                check_approvers(self.approvers)
            except ValueError as error:
                raise ValueError(f"Task {self.task_id!r}: {error}.") from None
        are_valid = isinstance(self.notifiers, (list, tuple)) and all(
            callable(each) and not isinstance(each, type) for each in self.notifiers
        )
        check_argument(self, "notifiers", are_valid, "notifiers, or other functions of the context")
        if self.remind_every is None:
            return
        is_valid = is_number(self.remind_every) and 0 < self.remind_every < math.inf
        check_argument(self, "remind_every", is_valid, "seconds above 0")
        is_valid = type(self.max_reminders) is int and 1 <= self.max_reminders <= MAX_REMINDERS
        check_argument(self, "max_reminders", is_valid, f"a number from 1 to {MAX_REMINDERS}")
        check_argument(
            self, "notifiers", bool(self.notifiers), "given for remind_every, which calls them again"
        )
        forgets = self.reschedule and not self.deferrable and not AIRFLOW_V_3_3_PLUS
        check_argument(
            self,
            "mode",
            not forgets,
            "'poke', or deferrable be True, for remind_every on Airflow before 3.3, where nothing keeps from one "
            "reschedule to the next which reminders were sent",
        )
        if self.deferrable:
            for notifier in self.notifiers:
                try:
                    pack_notifier(notifier)
                except ValueError as error:
                    raise ValueError(
                        f"Task {self.task_id!r}: remind_every cannot be used here while the task is deferred: {error}. "
                        "Leave it out, or use deferrable=False."
                    ) from None

    # The wait

    def _log_result(self, result: dict[str, Any]) -> None:
        """Leave that to the decision, which says more."""

    def _trigger_for(self, condition: TaskDoneCondition, **arguments: Any) -> TallyfyTaskTrigger:
        if self.remind_every is None:
            return super()._trigger_for(condition, **arguments)
        from airflow_provider_tallyfy.triggers.reminding import TallyfyRemindingTaskTrigger

        return TallyfyRemindingTaskTrigger(**condition.as_json(), **arguments)

    def _trigger_to_start(self, **arguments: Any) -> TallyfyTaskTrigger:
        if self.notifiers:
            raise NeedsWorkerError("notifiers are called by a worker when the wait begins")
        return super()._trigger_to_start(**arguments)

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once; until there is a decision, call the notifiers when it is time."""
        result = super().poke(context)
        if not result.is_done:
            self._gate_notifiers.notify(context)
        return result

    def _defer(
        self,
        context: Context,
        condition: TaskDoneCondition,
        ends_at: float,
        *,
        worker_polled_at: float | None,
    ) -> NoReturn:
        if self._condition is not None:  # a poke defers, so the wait begins
            self._gate_notifiers.notify(context)
        try:
            super()._defer(context, condition, ends_at, worker_polled_at=worker_polled_at)
        except TaskDeferred as deferral:
            if self.remind_every is not None:
                deferral.trigger.reminders = self._gate_notifiers.as_reminders(context)
            raise

    def _resume(self, context: Context, outcome: Evaluation[Any], ends_at: float) -> Final:
        """
        Poll before the decision counts: it may have been taken back since the trigger saw it.

        Airflow may also resume a task with another wait's event: SQLite gives a new trigger the id of a deleted one.
        """
        if not isinstance(outcome, Met):
            return super()._resume(context, outcome, ends_at)
        condition = self._first_condition(context)
        polled = self._poller.poll(condition)
        if not isinstance(polled, (Met, Unreachable, Skipped, Denied)):
            self.log.warning("Another poll did not confirm the decision, still waiting for it")
            self._defer(context, condition, ends_at, worker_polled_at=None)
        return polled

    @cached_property
    def _gate_notifiers(self) -> GateNotifiers:
        return GateNotifiers(
            self.notifiers, self._describe_task, self.remind_every, self.max_reminders, self.log
        )

    def _describe_task(self, task: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what notifiers find under ``tallyfy``, without what cannot be read now."""
        known = {"task_id": None, "title": self.task, "deadline": None, "url": None}
        try:
            known["url"] = self.hook.run_url(self.run_id)
            task = task or find_task(self.hook.get_tasks(self.run_id), self.task)
            if task is not None:
                known |= {
                    "task_id": str(task["id"]),
                    "title": task.get("title"),
                    "deadline": task.get("deadline"),
                }
        except Exception as error:  # noqa: BLE001 (whatever Tallyfy or a secrets backend raises)
            reason = type(error).__name__
            self.log.warning(
                "Notifiers get no id, title and deadline: the task cannot be read now (%s)", reason
            )
        described: dict[str, Any] = sanitize_payload({"run_id": self.run_id, "task": self.task, **known})
        return described

    # The decision. Around a whole try and not within a poke, which would take what is raised for a failed poll.

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait, and act on the decision."""
        wait = super().execute
        return self._decide(context, lambda: wait(context), begins=True)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral, and act on the decision."""
        resume = super().resume_execution
        return self._decide(context, lambda: resume(next_method, next_kwargs, context))

    def _decide(
        self, context: Context, wait: Callable[[], dict[str, Any]], *, begins: bool = False
    ) -> dict[str, Any]:
        with fail_on_bad_input():
            self.run_id = identifier(self.run_id, "run_id")
        downstream = DownstreamSkipper(self, context)
        downstream.check()
        if self.approvers is None and (self._has_approvers or downstream.is_expanded_with("approvers")):
            raise AirflowFailException(
                "approvers is None, as a template or another task gave it, so no one may decide. Leave it out if "
                "everyone may."
            )
        if begins:
            self._check_approvers(context)
        try:
            task = self._wait_until_timeout(context, wait)
        except AirflowSkipException:  # a rule hides the task, or soft_fail
            downstream.close()
            raise
        if task is None:
            return self._act_on_timeout(context, downstream)
        return self._act_on_decision(context, downstream, task)

    def _reader(self, context: Context) -> DecisionReader:
        return DecisionReader(
            self.run_id,
            self.hook,
            self.approvers,
            self.require_comment,
            lambda task: self._gate_notifiers.without_comments(task, context),
            self.log,
        )

    def _check_approvers(self, context: Context) -> None:
        """Refuse unknown approvers before the wait, and log who they are; an outage refuses nothing."""
        if self.approvers is None or (self.reschedule and not self.deferrable and was_rescheduled(context)):
            return
        try:
            with fail_on_bad_input():
                self.log.info("Who may decide: %s", self._reader(context).read_approvers())
        except TallyfyError as error:
            if not PollError(error).is_transient:
                raise
            self.log.warning(
                "The approvers cannot be checked now; they are checked after the decision: %s", error
            )

    def _act_on_decision(
        self, context: Context, downstream: DownstreamSkipper, task: dict[str, Any]
    ) -> dict[str, Any]:
        problem = None
        is_decided = is_completed(task) or task["is_approved"] is not None  # no rule hides it
        if is_decided and (self.approvers is not None or self.require_comment or not self._needs_decision):
            with fail_on_bad_input():
                task, problem = self._reader(context).read(task)
        else:
            task = self._gate_notifiers.without_comments(task, context)
        decision = describe_decision(task, self.run_id, self.hook, self.log, _try_number(context))
        if problem is not None:
            raise self._fail(
                context,
                decision,
                f"The decision does not count: {problem}. Reopen the task in Tallyfy, let it be decided as it should "
                f"be, and clear this task. ({format_decision(decision)})",
            )
        return self._act(context, downstream, decision)

    @abstractmethod
    def _act(
        self, context: Context, downstream: DownstreamSkipper, decision: dict[str, Any]
    ) -> dict[str, Any]:
        """Open, close or choose by a decision that counts, and return it as the result of the task."""

    def _log_decision(self, context: Context, decision: dict[str, Any], effect: str) -> None:
        self.log.info("%s", format_decision(decision))
        self.log.info("%s", format_audit_line(decision, context, effect))

    def _fail(self, context: Context, decision: dict[str, Any], reason: str) -> AirflowFailException:
        """Log the decision, push the result, and return what fails the task without retries."""
        self._log_decision(context, decision, "failed")
        self._push_result(context, decision)
        return AirflowFailException(reason)

    def _skip(self, context: Context, decision: dict[str, Any]) -> AirflowSkipException:
        """Push the result, and return what skips the task."""
        self._push_result(context, decision)
        return AirflowSkipException(format_decision(decision))

    def _push_result(self, context: Context, decision: dict[str, Any]) -> None:
        """Push what the task would return, since it ends by an exception."""
        ti: Any = context.get("ti")
        if ti is None or not self.do_xcom_push:
            return
        outputs = decision if self.multiple_outputs else {}
        for key, value in {**outputs, XCOM_RETURN_KEY: decision}.items():
            if value is not None:
                ti.xcom_push(key=key, value=value)

    # The timeout

    def _wait_until_timeout(
        self, context: Context, wait: Callable[[], dict[str, Any]]
    ) -> dict[str, Any] | None:
        """Return the decided task; ``None`` without a decision in time, unless that fails the task."""
        try:
            return wait()
        except AirflowSensorTimeout:
            if self.on_timeout == "fail":
                raise
        return self._poll_at_timeout(context)

    def _poll_at_timeout(self, context: Context) -> dict[str, Any] | None:
        """
        Return the task if it was decided in the last moment, ``None`` if it was not.

        :raises AirflowSensorTimeout: that is not certain, and ``on_timeout`` would approve.
        """
        condition = self._first_condition(context)
        was_open = False
        pauses = [*_PAUSES_AT_TIMEOUT, CONFIRMATION_SECONDS]
        while True:
            outcome = self._poller.poll(condition)
            if isinstance(outcome, (Met, Unreachable, Skipped)):
                return self._finish(context, outcome)
            if self.on_timeout != "approve":
                return None
            # A read may lag behind a rejection, so two of them have to agree.
            if isinstance(outcome, Pending):
                if was_open:
                    return None
                was_open = True
            if not pauses or isinstance(outcome, Denied):
                raise AirflowSensorTimeout(
                    f"Task {self.task!r} of run {self.run_id} was not decided in time, as far as Tallyfy could be "
                    "read, but a rejection could not be ruled out, so on_timeout='approve' does not apply."
                )
            time.sleep(CONFIRMATION_SECONDS if was_open else pauses[0])
            pauses.pop(0)

    def _act_on_timeout(self, context: Context, downstream: DownstreamSkipper) -> dict[str, Any]:
        is_approved = {"approve": True, "reject": False}.get(self.on_timeout)
        decision = describe_timeout(self.task, self.run_id, is_approved, _try_number(context))
        if is_approved:
            message = "NO ONE APPROVED task %r of run %s. on_timeout='approve' opens the gate all the same."
            self.log.warning(message, self.task, self.run_id)
        if is_approved is not None:
            return self._act(context, downstream, decision)
        self._log_decision(context, decision, "closed")
        downstream.close()
        raise self._skip(context, decision)


def _try_number(context: Context) -> int | None:
    return getattr(context.get("ti"), "try_number", None)
