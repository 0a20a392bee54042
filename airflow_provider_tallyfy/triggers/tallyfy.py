"""The triggers behind the sensors. How they are polled for is in :mod:`airflow_provider_tallyfy.waiting`."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_tallyfy.exceptions import TallyfyConfigurationError
from airflow_provider_tallyfy.protocol import urls
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.protocol.urls import identifier
from airflow_provider_tallyfy.triggers.events import TallyfyEventTrigger as TallyfyEventTrigger  # public here
from airflow_provider_tallyfy.version_compat import (
    PUSHES_XCOMS_OF_EVENTS,
    deferral_hold,
    times_out_at,
)
from airflow_provider_tallyfy.waiting.evidence import Evidence, PollEvaluator
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition, from_task_id
from airflow_provider_tallyfy.waiting.outcomes import (
    Condition,
    Denied,
    Evaluation,
    Met,
    Outcome,
    Pending,
    PollFailed,
    Unconfirmed,
    name_wait,
    outcome_name,
    to_event,
)
from airflow_provider_tallyfy.waiting.polls import RunSnapshot
from airflow_provider_tallyfy.waiting.run_status import RunStatusCondition, known_statuses
from airflow_provider_tallyfy.waiting.scheduler.waits import PollSchedule
from airflow_provider_tallyfy.waiting.task_done import TaskDoneCondition
from airflow_provider_tallyfy.waiting.threads import PUSHING, in_thread, log_in_thread, turn_to_push

if TYPE_CHECKING:
    import jinja2

    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection
    from airflow_provider_tallyfy.waiting.watcher import Subscription

T = TypeVar("T")

XCOM_TIMEOUT = 30.0
"""Seconds to wait for an XCom; a request that Airflow's triggerer does not support gets no response."""
XCOM_QUEUE_TIMEOUT = 300.0
"""Seconds to wait until it is this trigger's turn; each XCom takes some ten milliseconds."""
# An XCom of the waiting task's own, and what makes a template render to something else later.
_RENDERED_KEY = "tallyfy_rendered"
_MAY_CHANGE = ("xcom", "var.", "conn.")


class _WaitEnded(TriggerEvent):
    """An event that Airflow logs as one word, and not with all that the run and its forms hold."""

    def __repr__(self) -> str:
        return f"TriggerEvent<{self.payload['outcome']}>"

    __str__ = __repr__  # in Airflow 3, pydantic defines another one


class TallyfyTrigger(BaseTrigger):
    """
    Fires once, as soon as a condition is met, or it is certain that it never will be.

    All that it needs after a restart of the triggerer is in its arguments, and no secret is. With
    ``start_from_trigger``, the triggerer renders those that are templated (Airflow 3.3 and newer). Each kind adds what
    its condition is made of.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: id of the run.
    :param api_url: base URL of the API that the run was read from.
    :param organization: the organization, likewise. The triggerer polls no other. Both are ``None`` if no worker has
        read the run.
    :param poke_interval: seconds between two polls.
    :param exponential_backoff: let that time double from poll to poll; it starts over after a restart.
    :param max_wait: maximum of that time in seconds, or ``None``.
    :param worker_polled_at: when the sensor polled before it deferred, in seconds since the epoch. The next poll comes
        an interval later; at once if that has passed, as after a restart.
    :param last_line: the checksum of the line that the sensor logged then, so that it is not logged twice.
    :param last_updated: the run's ``last_updated`` at that time; an older answer does not end the wait.
    :param deferred_at: when the task deferred, in seconds since the epoch. The event is held until Airflow can resume
        the task safely. ``None`` for a wait that began in the triggerer.
    :param ends_at: when the sensor times out, in seconds since the epoch; the last poll comes shortly before. ``None``:
        when the triggerer ends this trigger.
    :param silent_fail: keep waiting even if Tallyfy refuses the connection's credentials.
    :param end_from_trigger: end the task as successful, without a worker. Any other outcome needs a worker.
    :param do_xcom_push: push the result then, and the URL of the process.
    """

    _own_arguments: tuple[str, ...] = ()
    _common_arguments = (
        "api_url",
        "organization",
        "poke_interval",
        "exponential_backoff",
        "max_wait",
        "worker_polled_at",
        "last_line",
        "last_updated",
        "deferred_at",
        "ends_at",
        "silent_fail",
        "end_from_trigger",
        "do_xcom_push",
    )

    def __init__(
        self,
        *,
        tallyfy_conn_id: str,
        run_id: str,
        poke_interval: float,
        api_url: str | None = None,
        organization: str | None = None,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        worker_polled_at: float | None = None,
        last_line: int | None = None,
        last_updated: str | None = None,
        deferred_at: float | None = None,
        ends_at: float | None = None,
        silent_fail: bool = False,
        end_from_trigger: bool = False,
        do_xcom_push: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tallyfy_conn_id = tallyfy_conn_id
        self.run_id = run_id
        self.api_url = api_url
        self.organization = organization
        self.poke_interval = poke_interval
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.worker_polled_at = worker_polled_at
        self.last_line = last_line
        self.last_updated = last_updated
        self.deferred_at = deferred_at
        self.ends_at = ends_at
        self.silent_fail = silent_fail
        self.end_from_trigger = end_from_trigger
        self.do_xcom_push = do_xcom_push
        self._link: dict[str, str] = {}
        self._pushing_link: asyncio.Task[None] | None = None
        self._is_link_pushed = False
        self._templates: dict[str, Any] = {}
        self._rendering_error: Exception | None = None

    @abstractmethod
    def condition(self) -> Condition:
        """
        Return what is waited for.

        :raises ValueError: if an argument was rendered to something that cannot be waited for.
        """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, as plain JSON."""
        names = ("tallyfy_conn_id", "run_id", *self._own_arguments, *self._common_arguments)
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {name: getattr(self, name) for name in names},
        )

    def get_template_env(self, dag: Any = None) -> jinja2.Environment:
        """Return the environment that the triggerer renders with; an unknown name is an error, as in a worker."""
        from jinja2 import StrictUndefined

        environment = super().get_template_env(dag)
        environment.undefined = StrictUndefined
        return environment

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render the arguments, at each start; :meth:`run` fires an event if that failed."""
        names = [name for name in self.template_fields if hasattr(self, name)]
        self._templates = {name: getattr(self, name) for name in names}
        try:
            super().render_template_fields(context, jinja_env)
        except Exception as error:  # noqa: BLE001 (whatever a template raises, the task fails with it)
            self._rendering_error = error

    async def _restore_first_rendering(self) -> None:
        """
        Set the arguments to what their templates rendered to at the first start in this try.

        An upstream task may have been cleared since, or its XComs deleted.

        :raises ValueError: a template could not be rendered at the first start.
        """
        may_change = any(mark in str(text) for text in self._templates.values() for mark in _MAY_CHANGE)
        kept = await self._first_rendering() if may_change else None
        if kept is not None:
            for name, value in kept.items():
                setattr(self, name, value)
        elif self._rendering_error is not None:
            kind = type(self._rendering_error).__name__
            raise ValueError(f"An argument could not be rendered ({kind}): {self._rendering_error}")

    async def _first_rendering(self) -> dict[str, Any] | None:
        """Return the arguments that an XCom keeps of the first start, or ``None`` after keeping those of now."""
        from airflow.providers.common.compat.sdk import XCom

        ti: Any = self.task_instance
        try:
            kept = await self._xcom(XCom.get_one, key=_RENDERED_KEY)
            if isinstance(kept, dict) and kept.get("try_number") == ti.try_number:
                arguments: dict[str, Any] = kept["arguments"]
                return arguments
            if self._rendering_error is None:
                rendered = {name: getattr(self, name) for name in self._templates}
                await self._push({_RENDERED_KEY: {"try_number": ti.try_number, "arguments": rendered}})
        except Exception as error:  # noqa: BLE001 (whatever an XCom backend raises)
            message = "The rendered arguments could not be kept (%s); a restart renders them again"
            await log_in_thread(self.log.warning, message, type(error).__name__)
        return None

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire one event."""
        event = await self._event()
        await asyncio.sleep(self._hold(time.time()))
        yield event

    async def _event(self) -> TriggerEvent:
        try:
            await self._restore_first_rendering()
            run_id = identifier(self.run_id, "run_id")
            condition = self.condition()
        except ValueError as error:  # of a rendered argument; raised here, it would not reach the task
            return self._event_of(Denied(TallyfyConfigurationError(str(error))))
        try:
            outcome = await self._wait(run_id, condition)
        finally:
            if self._pushing_link is not None:
                self._pushing_link.cancel()  # it is pushed with the result, too
        if isinstance(outcome, Met) and self._may_end_the_task(condition):
            end = await self._end(outcome)
            if end is not None:  # otherwise a worker logs it
                result = condition.describe_result(outcome.result)
                await log_in_thread(self.log.info, "The wait is over: %s", result)
                return end
        return self._event_of(outcome)

    def _event_of(self, outcome: Evaluation[Condition]) -> TriggerEvent:
        return _WaitEnded(payload=to_event(outcome, name_wait(self.task_instance)))

    def _hold(self, now: float) -> float:
        """Return for how many seconds the event is held, at most the whole hold if the worker's clock differs."""
        if self.deferred_at is None or self.trigger_id is None:  # ``dag.test()`` has no executor
            return 0.0
        hold = deferral_hold()
        return min(max(self.deferred_at + hold - now, 0.0), hold)

    async def _wait(self, run_id: str, condition: Condition) -> Evaluation[Condition]:
        """
        Wait until the condition is met, can never be met any more, or Tallyfy does not let this connection poll.

        A condition that took its baseline from a poll ends the wait too: a triggerer forgets everything when it
        restarts, so the task has to keep the baseline, and defer again.
        """
        from airflow_provider_tallyfy import metrics
        from airflow_provider_tallyfy.waiting.watcher import subscribe

        evidence = Evidence(run_id, condition, self.last_updated)
        evaluator = PollEvaluator(evidence, self.log, self.last_line, self.silent_fail)
        schedule = PollSchedule(self.poke_interval, self.exponential_backoff, self.max_wait, self._ends_at())
        target = (self.api_url, self.organization) if self.api_url and self.organization else None
        was_pending = (
            self.worker_polled_at is not None
        )  # so what meets the condition happened during the wait
        if not was_pending:
            evaluator.log_start()
            await _write_log(evaluator)
        with subscribe(
            self.tallyfy_conn_id, run_id, condition, schedule, self.worker_polled_at, target
        ) as subscription:
            while True:
                outcome, is_read = await _next_outcome(subscription, evaluator)
                if is_read and not self._link and self.do_xcom_push and subscription.connection is not None:
                    self._keep_link(subscription.connection)
                if isinstance(outcome, Unconfirmed):
                    subscription.request_fresh_read(outcome.recheck_after)
                elif outcome == Pending(condition):
                    was_pending = True
                elif not isinstance(outcome, PollFailed):
                    break
                await _write_log(evaluator)
        await _write_log(evaluator)
        latency = None
        if isinstance(outcome, Met) and outcome.happened_at is not None and was_pending:
            latency = datetime.now(UTC) - outcome.happened_at
        metrics.completed(self.tallyfy_conn_id, outcome_name(outcome), latency)  # type: ignore[arg-type]
        return outcome

    def _ends_at(self) -> float | None:
        if self.ends_at is not None or (moment := times_out_at(self)) is None:
            return self.ends_at
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    def _may_end_the_task(self, condition: Condition) -> bool:
        """
        Return whether this trigger ends the task after a success.

        Not in ``dag.test()``, which runs a trigger without a triggerer, and supports no event that ends a task.
        """
        return self.end_from_trigger and self.trigger_id is not None

    async def _end(self, outcome: Met) -> TriggerEvent | None:
        """Return the event that ends the task, its XComs pushed as a worker does; ``None`` if that fails."""
        from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY
        from airflow.triggers.base import TaskSuccessEvent

        xcoms: dict[str, Any] = {}
        if self.do_xcom_push:
            link = {} if self._is_link_pushed else self._link
            xcoms = sanitize_payload({XCOM_RETURN_KEY: outcome.result, **link})
        if PUSHES_XCOMS_OF_EVENTS:
            return TaskSuccessEvent(xcoms=xcoms)
        try:
            await self._push(xcoms)
        except Exception as error:  # noqa: BLE001 (whatever an XCom backend raises, a worker can still end the task)
            message = "The result could not be pushed from here (%s); a worker ends the task"
            await log_in_thread(self.log.warning, message, type(error).__name__)
            return None
        return TaskSuccessEvent()

    async def _push(self, xcoms: Mapping[str, Any]) -> None:
        from airflow.providers.common.compat.sdk import XCom

        for key, value in xcoms.items():
            await self._xcom(XCom.set, key=key, value=value)

    async def _xcom(self, call: Callable[..., T], **arguments: Any) -> T:
        """
        Get or set an XCom of the task, off the event loop, since a backend may block.

        When it is this trigger's turn: thousands may end at once, and a supervisor takes one by one.
        """
        ti: Any = self.task_instance
        task = {name: getattr(ti, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
        async with (
            asyncio.timeout(XCOM_QUEUE_TIMEOUT),
            turn_to_push(),
            asyncio.timeout(XCOM_TIMEOUT),
        ):
            return await in_thread(PUSHING, call, **arguments, **task)

    def _keep_link(self, connection: TallyfyConnection) -> None:
        """Keep the link to the process for the end of the wait, and push it now for a task that had no worker."""
        from airflow_provider_tallyfy.links.tallyfy import RUN_URL_KEY

        url = urls.run_url(connection.web_url, connection.organization, self.run_id)
        self._link = {RUN_URL_KEY: url}
        if self.worker_polled_at is None and self.trigger_id is not None:
            self._pushing_link = asyncio.create_task(self._push_link())

    async def _push_link(self) -> None:
        try:
            await self._push(self._link)
            self._is_link_pushed = True
        except Exception as error:  # noqa: BLE001 (whatever an XCom backend raises, the wait continues)
            message = "The link to the process could not be pushed from here (%s)"
            await log_in_thread(self.log.warning, message, type(error).__name__)


async def _next_outcome(
    subscription: Subscription, evaluator: PollEvaluator[Condition]
) -> tuple[Outcome[Condition], bool]:
    """
    Return what the next poll means, and whether the run was read.

    Its local variables end with it, so no result is held while the wait is idle: there may be thousands of waits.
    """
    result, polled_at = await subscription.next_result()
    outcome = evaluator.evaluate(result, polled_at)
    return outcome, isinstance(result, RunSnapshot) and not isinstance(outcome, PollFailed)


async def _write_log(evaluator: PollEvaluator[Condition]) -> None:
    """Write what there is to log, however long the log takes for it."""
    for write, message, arguments in evaluator.take_log_calls():
        await log_in_thread(write, message, *arguments)


class TallyfyNextTaskTrigger(TallyfyTrigger):
    """
    Fires once, as soon as the next task of a run changes, none is left, or it is certain that neither will happen.

    Without ``from_task`` it fires as soon as it sees a task. The sensor keeps that one, and defers again.

    :param from_task: the task to move on from, its id or the task object; ``None`` or empty while it is not known.
    :param waiting: as for :class:`TallyfyTrigger`.
    """

    _own_arguments = ("from_task",)

    def __init__(self, *, from_task: str | Mapping[str, Any] | None, **waiting: Any) -> None:
        super().__init__(**waiting)
        self.from_task = from_task

    def condition(self) -> NextTaskCondition:
        """Return the condition that another task is next."""
        return NextTaskCondition(from_task_id(self.from_task))

    def _may_end_the_task(self, condition: Condition) -> bool:
        # Without a task to move on from, a worker may have kept one in an earlier try.
        return condition.from_task_id is not None and super()._may_end_the_task(condition)


class TallyfyTaskTrigger(TallyfyTrigger):
    """
    Fires once, as soon as a task of a run is completed, or it is certain that it will not be.

    :param task_name: the task's id, alias or title; Airflow's triggers have a ``task`` of their own.
    :param on_skipped: what to do if a rule hides it: ``skip``, ``succeed`` or ``fail``.
    :param needs_decision: whether it has to be an approval.
    :param waiting: as for :class:`TallyfyTrigger`.
    """

    _own_arguments: tuple[str, ...] = ("task_name", "on_skipped", "needs_decision")

    def __init__(
        self, *, task_name: str, on_skipped: str = "skip", needs_decision: bool = False, **waiting: Any
    ) -> None:
        super().__init__(**waiting)
        self.task_name = task_name
        self.on_skipped = on_skipped
        self.needs_decision = needs_decision

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render the task's name too; the triggerer has only the sensor's fields, where it is called ``task``."""
        self.template_fields = tuple(dict.fromkeys((*self.template_fields, "task_name")))
        super().render_template_fields(context, jinja_env)

    def condition(self) -> TaskDoneCondition:
        """Return the condition that the task is completed."""
        return TaskDoneCondition(self.task_name, self.on_skipped, self.needs_decision)


class TallyfyRunTrigger(TallyfyTrigger):
    """
    Fires once, as soon as a run has one of some statuses, or it is certain that it never will.

    :param target_statuses: the statuses.
    :param waiting: as for :class:`TallyfyTrigger`.
    """

    _own_arguments = ("target_statuses",)

    def __init__(self, *, target_statuses: Sequence[str], **waiting: Any) -> None:
        super().__init__(**waiting)
        self.target_statuses = list(target_statuses)

    def condition(self) -> RunStatusCondition:
        """Return the condition that the run has one of the statuses."""
        return RunStatusCondition(known_statuses(self.target_statuses))
