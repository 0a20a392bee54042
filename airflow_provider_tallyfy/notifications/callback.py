"""
What a callback reports, read from the context that Airflow calls it with.

Airflow may call back twice for one failure: a worker that dies with its supervisor may have called back already when
the scheduler finds out and asks the DAG processor to do so. The two contexts differ (that of the DAG processor has
neither the exception nor the state of the task instance), so a key is made only of what both of them hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from functools import partial
from hashlib import sha256
from inspect import getclosurevars
from json import dumps
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from airflow_provider_tallyfy.protocol.idempotency_key import IdempotencyKey, in_utc

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

LOOKBACK = timedelta(days=7)
"""How far back a process of an earlier call for the same failure is searched for at most."""

_PATH_OF_DAG_FILE = re.compile("^unusual_prefix_[0-9a-f]{40}_")


class CallbackKind(StrEnum):
    """
    What happened.

    There is one kind for ``on_failure_callback`` and ``on_retry_callback``: a try fails once, whether or not Airflow
    retries it, and the DAG processor's context does not say which.
    """

    EXECUTE = "execute"
    SUCCESS = "success"
    SKIPPED = "skipped"
    FAILURE = "failure"
    DAG_SUCCESS = "dag success"
    DAG_FAILURE = "dag failure"
    DEADLINE = "deadline"
    SLA = "sla"


_OF_DAG_RUNS = (CallbackKind.DAG_SUCCESS, CallbackKind.DAG_FAILURE)


@dataclass(frozen=True, slots=True)
class Callback:
    """
    The event that a callback reports, however often Airflow calls back for it.

    :param kind: what happened.
    :param dag_id: the DAG, or an empty text if the context does not say.
    :param run_id: the DAG run.
    :param task_id: the task, or an empty text if it happened to the DAG run.
    :param map_index: the index of a mapped task instance, otherwise -1.
    :param try_number: the try of the task.
    :param instance: what distinguishes it from the same event after a clear, or in another DAG run with the same id.
    :param since: the earliest time at which something may have been sent for it.
    """

    kind: CallbackKind
    dag_id: str
    run_id: str
    task_id: str = ""
    map_index: int = -1
    try_number: int | None = None
    instance: str = ""
    since: datetime | None = None

    @classmethod
    def from_context(cls, context: Context) -> Callback:
        """Return the event that a context describes."""
        kind = _kind(context)
        ti, dag_run = context.get("ti"), context.get("dag_run")
        dag_id = _first(_value(ti, "dag_id"), _value(dag_run, "dag_id"), _value(context.get("dag"), "dag_id"))
        # A deadline's context has the DAG run as the REST API shows it.
        run_id = _first(
            _value(ti, "run_id"),
            _value(dag_run, "run_id"),
            _value(dag_run, "dag_run_id"),
            context.get("run_id"),
        )
        # Clearing a DAG run that has ended changes it, and nothing does while it runs.
        started_at = _value(dag_run, "start_date")
        if isinstance(started_at, datetime):
            started_at = in_utc(started_at).astimezone(UTC)
        instance = str(started_at)
        if kind is CallbackKind.DEADLINE:
            deadline = context.get("deadline")
            instance = f"{_value(deadline, 'id')} {_value(deadline, 'deadline_time')}"
        elif kind is CallbackKind.SLA:
            instance = str(context.get("task_list"))
        elif not dag_id or (started_at is None and kind in _OF_DAG_RUNS):
            # Nothing distinguishes two calls; to launch a second process is better than to lose a failure.
            instance = uuid4().hex
        earliest = datetime.now(UTC) - LOOKBACK
        since = max(started_at, earliest) if isinstance(started_at, datetime) else earliest
        event = cls(kind, dag_id, run_id, instance=instance, since=since)
        if kind in (CallbackKind.DEADLINE, CallbackKind.SLA, *_OF_DAG_RUNS):
            return event
        task_id, map_index = _first(_value(ti, "task_id")), _value(ti, "map_index")
        map_index = -1 if map_index is None else map_index
        return replace(event, task_id=task_id, map_index=map_index, try_number=_value(ti, "try_number"))

    def idempotency_key(self, fields: Mapping[str, Any]) -> IdempotencyKey:
        """
        Return the idempotency key of the process that a notifier launches for it.

        :param fields: what the notifier was given, before rendering, so that two notifiers with the same template
            launch a process each.
        """
        given = dumps(fields, default=_stable, skipkeys=True)
        parts = [self.kind.value, self.instance, sha256(given.encode()).hexdigest()]
        return IdempotencyKey(
            self.dag_id,
            self.run_id,
            self.task_id,
            self.map_index,
            callback=" ".join(parts),
            try_number=self.try_number,
        )


def _kind(context: Context) -> CallbackKind:
    if "deadline" in context:
        return CallbackKind.DEADLINE
    if "blocking_tis" in context:
        return CallbackKind.SLA
    if "reason" in context:
        return CallbackKind.DAG_SUCCESS if context["reason"] == "success" else CallbackKind.DAG_FAILURE
    ti = context.get("ti")
    state = _value(ti, "state")
    state = getattr(state, "value", state)
    if state in (CallbackKind.SUCCESS, CallbackKind.SKIPPED):
        return CallbackKind(state)
    # In Airflow 3, a task instance has no state while it runs, nor in the DAG processor, where it has no start either.
    is_running = state == "running" or (state is None and hasattr(ti, "start_date"))
    if is_running and context.get("exception") is None:
        return CallbackKind.EXECUTE
    return CallbackKind.FAILURE


def _stable(value: Any) -> Any:
    """Return JSON for a value, the same in every process: without addresses, paths or the order of a set."""
    kind = type(value).__qualname__
    match value:
        case Mapping():
            return dict(value)
        case Set():
            return [kind, *sorted(dumps(item, default=_stable, skipkeys=True) for item in value)]
        case Enum():
            return [kind, value.name]
        case date() | time() | timedelta() | Decimal() | UUID() | bytes():
            return [kind, str(value)]
        case FunctionType():
            # Airflow puts a digest of the DAG file's path before the module's name. All lambdas have one name.
            module = _PATH_OF_DAG_FILE.sub("", str(value.__module__))
            defaults = [value.__defaults__, value.__kwdefaults__]
            captured = {
                name: kept.__qualname__ if isinstance(kept, FunctionType) else kept  # which may be itself
                for name, kept in getclosurevars(value).nonlocals.items()
            }
            return [module, value.__qualname__, value.__code__, defaults, captured]
        case CodeType():
            return [value.co_code.hex(), value.co_names, value.co_consts]
        case partial():
            return [value.func, value.args, value.keywords]
    return kind


def _value(of: Any, name: str) -> Any:
    return of.get(name) if isinstance(of, Mapping) else getattr(of, name, None)


def _first(*names: Any) -> str:
    return next((str(name) for name in names if name), "")
