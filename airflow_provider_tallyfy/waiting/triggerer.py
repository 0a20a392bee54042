"""A wait in the triggerer: it evaluates what the watcher of its connection delivers, and writes its own log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_provider_tallyfy import metrics
from airflow_provider_tallyfy.waiting.evaluator import PollEvaluator
from airflow_provider_tallyfy.waiting.outcomes import (
    C,
    Denied,
    Evaluation,
    Met,
    Outcome,
    Pending,
    PollFailed,
    Skipped,
    Unconfirmed,
    Unreachable,
)
from airflow_provider_tallyfy.waiting.polls import RunSnapshot
from airflow_provider_tallyfy.waiting.threads import log_in_thread
from airflow_provider_tallyfy.waiting.watcher import Subscription, subscribe

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection
    from airflow_provider_tallyfy.waiting.polls import Target
    from airflow_provider_tallyfy.waiting.scheduler.waits import PollSchedule

_COMPLETIONS: Mapping[type, metrics.CompletionOutcome] = {
    Met: "met",
    Unreachable: "unreachable",
    Skipped: "skipped",
    Denied: "denied",
    Pending: "pending",
}


async def wait(
    tallyfy_conn_id: str,
    evaluator: PollEvaluator[C],
    schedule: PollSchedule,
    *,
    worker_polled_at: float | None = None,
    target: Target | None = None,
    at_first_read: Callable[[TallyfyConnection], object] | None = None,
) -> Evaluation[C]:
    """
    Wait until a condition is met, can never be met any more, or Tallyfy does not let this connection poll.

    A condition that took its baseline from a poll ends the wait too: a triggerer forgets everything when it restarts,
    so the task has to keep the baseline, and defer again.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param evaluator: evaluates the polls, and collects what to log.
    :param schedule: how often to poll.
    :param worker_polled_at: when a worker polled the run, in seconds since the epoch; ``None`` for never.
    :param target: the URL of the API and the organization that the run is of, if they are known.
    :param at_first_read: called once, as soon as the run was read, with the settings of the connection.
    """
    was_pending = worker_polled_at is not None  # so what meets the condition happened while it was waited for
    if not was_pending:
        evaluator.log_start()
        await _write_log(evaluator)
    run_id, condition = evaluator.evidence.run_id, evaluator.evidence.condition
    with subscribe(tallyfy_conn_id, run_id, condition, schedule, worker_polled_at, target) as subscription:
        while True:
            outcome, is_read = await _next_outcome(subscription, evaluator)
            if at_first_read is not None and is_read and subscription.connection is not None:
                at_first_read(subscription.connection)
                at_first_read = None
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
    metrics.completed(tallyfy_conn_id, _COMPLETIONS[type(outcome)], latency)
    return outcome


async def _next_outcome(subscription: Subscription, evaluator: PollEvaluator[C]) -> tuple[Outcome[C], bool]:
    """
    Return what the next poll means, and whether the run was read.

    Its local variables end with it, so no result is held while the wait is idle: there may be thousands of waits.
    """
    result, polled_at = await subscription.next_result()
    outcome = evaluator.evaluate(result, polled_at)
    return outcome, isinstance(result, RunSnapshot) and not isinstance(outcome, PollFailed)


async def _write_log(evaluator: PollEvaluator[C]) -> None:
    """Write what there is to log, however long the log takes for it."""
    for write, message, arguments in evaluator.take_log_calls():
        await log_in_thread(write, message, *arguments)
