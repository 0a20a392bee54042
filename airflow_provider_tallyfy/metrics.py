"""
The provider's metrics: every name in one place, and a function for everything that is recorded.

Airflow sends them to StatsD, OpenTelemetry or Datadog, as configured in ``[metrics]``, or drops them. They
are recorded where they arise, also on the triggerer's event loop, as Airflow's own are. Tags have few values. An error
of a backend never fails a request or a wait.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Literal

from airflow_provider_tallyfy.protocol.errors import ErrorKind

RequestOutcome = Literal[
    "ok",
    "unauthorized",
    "forbidden",
    "not_found",
    "invalid",
    "rate_limited",
    "server_error",
    "unreadable",
    "unreachable",
]
CompletionOutcome = Literal["met", "unreachable", "skipped", "denied", "pending"]

OUTCOME_OF_ERROR: Mapping[ErrorKind, RequestOutcome] = {
    ErrorKind.AUTHENTICATION: "unauthorized",
    ErrorKind.PERMISSION: "forbidden",
    ErrorKind.NOT_FOUND: "not_found",
    ErrorKind.VALIDATION: "invalid",
    ErrorKind.RATE_LIMIT: "rate_limited",
    ErrorKind.SERVER: "server_error",
    ErrorKind.REDIRECT: "unreadable",
    ErrorKind.OTHER: "invalid",
}


@dataclass(frozen=True, slots=True)
class Metric:
    """
    A metric.

    :param name: its name, after Airflow's own prefix.
    :param kind: ``counter``, ``timer`` (in milliseconds) or ``gauge``.
    :param tags: the names of its tags.
    """

    name: str
    kind: Literal["counter", "timer", "gauge"]
    tags: tuple[str, ...]


REQUESTS = Metric("tallyfy.requests", "counter", ("conn_id", "outcome"))
POLLS = Metric("tallyfy.polls", "counter", ("conn_id", "outcome"))
COMPLETIONS = Metric("tallyfy.completions", "counter", ("conn_id", "outcome"))
DETECTION_LATENCY = Metric("tallyfy.detection_latency", "timer", ("conn_id",))
ACTIVE_WAITS = Metric("tallyfy.active_waits", "gauge", ("conn_id", "hostname"))
DELAYED_POLLS = Metric("tallyfy.delayed_polls", "counter", ("conn_id",))
METRICS = (REQUESTS, POLLS, COMPLETIONS, DETECTION_LATENCY, ACTIVE_WAITS, DELAYED_POLLS)

logger = logging.getLogger(__name__)

_INVALID = re.compile(r"[^A-Za-z0-9_.-]")  # Airflow drops a tag with any of these, and warns every time


def request_ended(conn_id: str, outcome: RequestOutcome) -> None:
    """Record that a request to Tallyfy ended."""
    _count(REQUESTS, 1, conn_id=conn_id, outcome=outcome)


def polled(conn_id: str, *, succeeded: int = 0, failed: int = 0) -> None:
    """Record how many waits got their run, and how many got an error."""
    _count(POLLS, succeeded, conn_id=conn_id, outcome="succeeded")
    _count(POLLS, failed, conn_id=conn_id, outcome="failed")


def polls_delayed(conn_id: str, number: int) -> None:
    """Record how many requests had to wait for the connection's request budget."""
    _count(DELAYED_POLLS, number, conn_id=conn_id)


def completed(conn_id: str, outcome: CompletionOutcome, latency: timedelta | None) -> None:
    """
    Record that a wait ended in the triggerer.

    :param latency: the time since what it waited for happened; ``None`` if Tallyfy has no date of it.
    """
    _count(COMPLETIONS, 1, conn_id=conn_id, outcome=outcome)
    if latency is not None:
        # Two clocks may differ. A number is in milliseconds everywhere; what a timedelta becomes varies in Airflow 2.
        milliseconds = max(latency.total_seconds(), 0.0) * 1000
        with suppress_errors():
            _stats().timing(DETECTION_LATENCY.name, milliseconds, tags=_tags(conn_id=conn_id))


def active_waits(conn_id: str, number: int) -> None:
    """Record how many waits this triggerer holds for a connection."""
    with suppress_errors():
        _stats().gauge(ACTIVE_WAITS.name, number, tags=_tags(conn_id=conn_id, hostname=_hostname()))


def _count(metric: Metric, count: int, **tags: str) -> None:
    if count:
        with suppress_errors():
            _stats().incr(metric.name, count, tags=_tags(**tags))


def _tags(**values: str) -> dict[str, str]:
    return {tag: _INVALID.sub("_", value) for tag, value in values.items()}


def _stats() -> Any:
    """Return Airflow's client for metrics; loaded late, since DAG files need none."""
    from airflow.providers.common.compat.sdk import Stats

    return Stats


@cache
def _hostname() -> str:
    """Return this machine's name as Airflow's ``triggers.running`` has it."""
    from airflow.utils.net import get_hostname

    return str(get_hostname())


@contextmanager
def suppress_errors() -> Iterator[None]:
    """Log errors of the metrics backend instead of raising them."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (a plugin's backend may raise anything)
        _warn_once(type(error).__name__)


@cache
def _warn_once(kind: str) -> None:
    """Warn once of each kind of error."""
    logger.warning("Airflow's metrics client failed (%s); this metric is not recorded", kind)
