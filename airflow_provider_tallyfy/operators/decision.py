"""What the operators have in common that wait for a user to decide, and act on that decision."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    PokeReturnValue,
    SkipMixin,
    TaskDeferred,
)

from airflow_provider_tallyfy.exceptions import TallyfyConnectionError, TallyfyServerError
from airflow_provider_tallyfy.operators.approval import (
    DecisionReader,
    describe_decision,
    describe_timeout,
    format_audit_line,
    format_decision,
)
from airflow_provider_tallyfy.operators.base import fail_on_bad_input
from airflow_provider_tallyfy.operators.gate import Gate
from airflow_provider_tallyfy.operators.notices import Notices, pack_notifier
from airflow_provider_tallyfy.protocol.completion import check_approvers, without_comments
from airflow_provider_tallyfy.protocol.tasks import find_task, is_completed
from airflow_provider_tallyfy.sensors.start_in_triggerer import NeedsWorkerError
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyTaskSensor
from airflow_provider_tallyfy.version_compat import (
    AIRFLOW_V_3_3_PLUS,
    was_rescheduled,
    with_outputs_pushed,
)
from airflow_provider_tallyfy.waiting.evidence import CONFIRMATION_SECONDS
from airflow_provider_tallyfy.waiting.outcomes import Denied, Met, Pending, Skipped, Unreachable

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.triggers.tallyfy import TallyfyTaskTrigger
    from airflow_provider_tallyfy.waiting.task_done import TaskDoneCondition

Notifiers = Sequence[Callable[[Any], object]] | Callable[[Any], object] | None
"""A notifier, or another function of the context, or several of them."""
ON_TIMEOUT = ("fail", "skip", "approve", "reject")
"""What can be done without a decision in time."""
_PAUSES_AT_TIMEOUT = (5.0, 10.0)
"""Seconds between polls that failed when the time was up."""


class TallyfyDecisionOperator(TallyfyTaskSensor, SkipMixin):
    """
    Wait until a user decides on a task of a run, check that they may, and act on it.

    The parameters are described at
    :class:`~airflow_provider_tallyfy.operators.tallyfy.TallyfyApprovalOperator`.
    """

    template_fields: Sequence[str] = (*TallyfyTaskSensor.template_fields, "approvers")
    inherits_from_skipmixin = True
    is_tallyfy_gate = True  # for the policy that refuses DAGs
    ui_color = "#d9efe3"
    _needs_decision = True
    _ends_in_a_worker_since = "only a worker skips what is downstream"

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
        self.notifiers = [notifiers] if callable(notifiers) else list(notifiers or ())
        self.remind_every = (
            remind_every.total_seconds() if isinstance(remind_every, timedelta) else remind_every
        )
        self.max_reminders = max_reminders
        super().__init__(run_id=run_id, task=task, **kwargs)
        self._check_arguments()

    def _check_arguments(self) -> None:
        name = f"Task {self.task_id!r}"
        if self.on_timeout not in ON_TIMEOUT:
            raise ValueError(f"{name}: on_timeout must be one of {ON_TIMEOUT}, but is {self.on_timeout!r}.")
        if self.on_timeout != "fail" and (self.soft_fail or self.never_fail):
            raise ValueError(
                f"{name}: soft_fail and never_fail skip the task at a timeout, so on_timeout={self.on_timeout!r} would "
                "have no effect. Leave them out."
            )
        if isinstance(self.approvers, (list, tuple, set, dict)):  # a template or an output is not known yet
            try:
                check_approvers(self.approvers)
            except ValueError as error:
                raise ValueError(f"{name}: {error}.") from None
        if not all(map(callable, self.notifiers)):
            raise ValueError(f"{name}: notifiers must be notifiers, or other functions of the context.")
        if self.remind_every is None:
            return
        is_number = isinstance(self.remind_every, (int, float)) and not isinstance(self.remind_every, bool)
        if not is_number or not 0 < self.remind_every < math.inf:
            raise ValueError(f"{name}: remind_every must be seconds above 0, but is {self.remind_every!r}.")
        if not isinstance(self.max_reminders, int) or self.max_reminders < 1:
            raise ValueError(f"{name}: max_reminders must be 1 or more, but is {self.max_reminders!r}.")
        if not self.notifiers:
            raise ValueError(f"{name}: remind_every calls the notifiers again, but there are none.")
        if self.reschedule and not self.deferrable and not AIRFLOW_V_3_3_PLUS:
            raise ValueError(
                f"{name}: remind_every needs deferrable=True or mode='poke' on Airflow before 3.3, where nothing keeps "
                "from one poke to the next which reminders were sent."
            )
        if self.deferrable:
            for notifier in self.notifiers:
                try:
                    pack_notifier(notifier)
                except ValueError as error:
                    raise ValueError(
                        f"{name}: remind_every cannot be used here while the task is deferred: {error}. Leave it out, "
                        "or use deferrable=False."
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
        try:
            result = super().poke(context)
        except TaskDeferred as deferral:
            self._notify(context)
            if self.remind_every is not None:
                deferral.trigger.reminders = self._notices.as_reminders(context)
            raise
        if not result.is_done:
            self._notify(context)
        return result

    def _notify(self, context: Context) -> None:
        if self.notifiers:
            self._notices.notify(context)

    @cached_property
    def _notices(self) -> Notices:
        return Notices(
            self.notifiers,
            (self.run_id, self.task),
            self._describe_task,
            self.remind_every,
            self.max_reminders,
            self.log,
        )

    def _describe_task(self) -> dict[str, Any]:
        """Return what notifiers are to know of the task; without what cannot be read now."""
        known: dict[str, Any] = {
            "run_id": self.run_id,
            "task": self.task,
            "task_id": None,
            "title": self.task,
        }
        try:
            known["url"] = self.hook.run_url(self.run_id)
            if task := find_task(self.hook.get_tasks(self.run_id), self.task):
                known.update(_describe_found(task))
        except Exception as error:  # noqa: BLE001 (whatever Tallyfy or a secrets backend raises)
            self.log.warning("Notifiers do not know all of the task (%s)", type(error).__name__)
        return {"url": None, "deadline": None, **known}

    def _without_notices(self, context: Context, task: dict[str, Any]) -> dict[str, Any]:
        """Return a task without the comments that the notifiers wrote as the connection's user, who may decide too."""
        if not self.notifiers:
            return task
        url = self.hook.run_url(self.run_id)
        subject = {"run_id": self.run_id, "task": self.task, "url": url, **_describe_found(task)}
        return without_comments(task, self._notices.comments(context, subject))

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
        gate = Gate(self, context)
        gate.check()
        if self.approvers is None and (self._has_approvers or gate.is_expanded_with("approvers")):
            raise AirflowFailException(
                "approvers is None, as a template or another task gave it, so no one may decide. Leave it out if "
                "everyone may."
            )
        if begins:
            self._check_approvers(context)
        try:
            task = self._wait_until_timeout(context, wait)
        except AirflowSkipException:  # a rule hides the task, or soft_fail
            gate.close()
            raise
        return (
            self._act_on_timeout(context, gate)
            if task is None
            else self._act_on_decision(context, gate, task)
        )

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

    def _reader(self, context: Context) -> DecisionReader:
        return DecisionReader(
            self.run_id,
            self.hook,
            self.approvers,
            self.require_comment,
            lambda task: self._without_notices(context, task),
        )

    def _check_approvers(self, context: Context) -> None:
        """Refuse unknown approvers before the wait, and log who they are; an outage refuses nothing."""
        if self.approvers is None or (self.reschedule and not self.deferrable and was_rescheduled(context)):
            return
        try:
            with fail_on_bad_input():
                self.log.info("Who may decide: %s", self._reader(context).read_approvers())
        except (TallyfyConnectionError, TallyfyServerError) as error:
            self.log.warning("The approvers cannot be checked now, only after the decision: %s", error)

    def _act_on_decision(self, context: Context, gate: Gate, task: dict[str, Any]) -> dict[str, Any]:
        problem = None
        task = self._without_notices(context, task)
        is_decided = is_completed(task) or task["is_approved"] is not None  # no rule hides it
        if is_decided and (self.approvers is not None or self.require_comment or not self._needs_decision):
            with fail_on_bad_input():
                task, problem = self._reader(context).read(task)
        decision = describe_decision(
            task, self.run_id, self.hook, self.log, try_number=getattr(context.get("ti"), "try_number", None)
        )
        if problem is not None:
            self._end(context, gate, decision, "failed")
            raise AirflowFailException(
                f"The decision does not count: {problem}. Reopen the task in Tallyfy, let it be decided as it should "
                f"be, and clear this task. ({format_decision(decision)})"
            )
        return self._act(context, gate, decision)

    @abstractmethod
    def _act(self, context: Context, gate: Gate, decision: dict[str, Any]) -> dict[str, Any]:
        """Open, close or choose by a decision that counts, and return it as the result of the task."""

    def _end(self, context: Context, gate: Gate, decision: dict[str, Any], effect: str) -> None:
        """Log a decision and what it does; push it now if the task fails."""
        self.log.info("%s", format_decision(decision))
        self.log.info("%s", format_audit_line(decision, context, effect))
        if effect == "failed" and context.get("ti") is not None:
            gate.push_result(decision)

    def _result(self, context: Context, decision: dict[str, Any]) -> dict[str, Any]:
        return with_outputs_pushed(self, context, decision)

    # The timeout

    def _poll_at_timeout(self, context: Context) -> dict[str, Any] | None:
        """
        Return the task if it was decided in the last moment, ``None`` if it was not.

        :raises AirflowSensorTimeout: that is not certain, and ``on_timeout`` would approve.
        """
        condition = self._first_condition(context)
        is_open_since: float | None = None
        pauses = [*_PAUSES_AT_TIMEOUT, CONFIRMATION_SECONDS]
        while True:
            outcome = self._poller.poll(condition)
            if isinstance(outcome, (Met, Unreachable, Skipped)):
                return self._finish(context, outcome)
            if self.on_timeout != "approve":
                return None
            # A read may lag behind a rejection, so two of them have to agree.
            if isinstance(outcome, Pending):
                if is_open_since is not None:
                    return None
                is_open_since = time.time()
            if not pauses or isinstance(outcome, Denied):
                raise AirflowSensorTimeout(
                    f"Task {self.task!r} of run {self.run_id} was not decided in time, as far as Tallyfy could be "
                    "read, but it is not certain that it was not rejected, so on_timeout='approve' does not apply."
                )
            time.sleep(CONFIRMATION_SECONDS if is_open_since is not None else pauses[0])
            pauses.pop(0)

    def _act_on_timeout(self, context: Context, gate: Gate) -> dict[str, Any]:
        is_approved = {"approve": True, "reject": False}.get(self.on_timeout)
        decision = describe_timeout(
            self.task,
            self.run_id,
            is_approved=is_approved,
            try_number=getattr(context.get("ti"), "try_number", None),
        )
        if is_approved:
            self.log.warning(
                "NO ONE APPROVED task %r of run %s. on_timeout='approve' opens the gate all the same.",
                self.task,
                self.run_id,
            )
        if is_approved is not None:
            return self._act(context, gate, decision)
        self._end(context, gate, decision, "closed")
        gate.close()
        gate.push_result(decision)
        raise AirflowSkipException(format_decision(decision))


def _describe_found(task: Mapping[str, Any]) -> dict[str, Any]:
    return {"task_id": str(task["id"]), "title": task.get("title"), "deadline": task.get("deadline")}
