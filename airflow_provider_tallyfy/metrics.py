"""
What Airflow's metrics are told: every name in one place, and a function for everything that is told.

Airflow sends them to StatsD, OpenTelemetry or Datadog, as ``[metrics]`` in its configuration says, or drops them. A
backend that takes no tags is told the most important of them in names too, as Airflow does with its own metrics, while
``[metrics] legacy_names_on`` allows that.

The rules held here: nothing that a backend does is felt by whoever tells it something. The values of a tag are few.
"""

from __future__ import annotations

import atexit
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from queue import Full, Queue
from threading import Thread
from typing import Any, Literal, ParamSpec

from airflow_provider_tallyfy.protocol.errors import ErrorKind

P = ParamSpec("P")

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
    Something that is told.

    :param name: its name, after Airflow's own prefix.
    :param kind: ``counter``, ``timer`` (in milliseconds) or ``gauge``.
    :param tags: the names of its tags.
    :param in_words: its name with tags in it, for backends that take none; ``None`` for no such name.
    """

    name: str
    kind: Literal["counter", "timer", "gauge"]
    tags: tuple[str, ...]
    in_words: str | None = None


REQUESTS = Metric("tallyfy.requests", "counter", ("conn_id", "outcome"), "tallyfy.requests.{outcome}")
POLLS = Metric("tallyfy.polls", "counter", ("conn_id", "outcome"), "tallyfy.polls.{outcome}")
COMPLETIONS = Metric(
    "tallyfy.completions", "counter", ("conn_id", "outcome"), "tallyfy.completions.{outcome}"
)
DETECTION_LATENCY = Metric("tallyfy.detection_latency", "timer", ("conn_id",))
ACTIVE_WAITS = Metric(
    "tallyfy.active_waits", "gauge", ("conn_id", "hostname"), "tallyfy.active_waits.{hostname}.{conn_id}"
)
DELAYED_POLLS = Metric("tallyfy.delayed_polls", "counter", ("conn_id",))
METRICS = (REQUESTS, POLLS, COMPLETIONS, DETECTION_LATENCY, ACTIVE_WAITS, DELAYED_POLLS)

logger = logging.getLogger(__name__)

_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")  # Airflow drops a name with others, and says so at length every time
_LONGEST_QUEUE = 1000
_LONGEST_FAREWELL = 2.0
"""Seconds for which a process that ends waits until all is told."""
_from_event_loop: ContextVar[bool] = ContextVar("tallyfy_from_event_loop", default=False)


class _Teller:
    """
    Tells the backend in a thread, one thing after the other, so that a gauge's last value is told last.

    A backend that hangs holds up nobody: what comes then is dropped, and at the end of the process it is not waited for
    beyond a moment.
    """

    def __init__(self) -> None:
        self._calls: Queue[Callable[[], None]] = Queue(_LONGEST_QUEUE)
        self._thread: Thread | None = None

    def tell(self, call: Callable[[], None]) -> None:
        """Have something told, soon."""
        with suppress(Full):
            self._calls.put_nowait(call)
        if self._thread is None or not self._thread.is_alive():  # as after a fork
            self._thread = Thread(target=self._run, name="tallyfy-metrics", daemon=True)
            with suppress(RuntimeError):  # the interpreter is ending
                self._thread.start()

    def wait(self) -> None:
        """Wait until all is told."""
        self._calls.join()

    def finish(self) -> None:
        """Wait until all is told, but not for long."""
        if self._thread is not None and self._thread.is_alive():  # not so in a fork
            with self._calls.all_tasks_done:
                self._calls.all_tasks_done.wait_for(
                    lambda: not self._calls.unfinished_tasks, _LONGEST_FAREWELL
                )

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            with unharmed():
                call()
            self._calls.task_done()


_teller = _Teller()
atexit.register(_teller.finish)


def tell_from_event_loop() -> None:
    """
    Have everything that is told in the current context, and in its threads, told from a thread.

    An event loop may not be blocked, nor may those who look for many: a backend asks the name service at its first
    use, and what it does then is up to it.
    """
    _from_event_loop.set(True)


def from_event_loop(tell: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    """Call one of the functions below from an event loop, which none of them may block."""
    _teller.tell(partial(tell, *args, **kwargs))


def request_ended(conn_id: str, outcome: RequestOutcome) -> None:
    """Tell that a request to Tallyfy was answered, or will not be."""
    tell = partial(_count, REQUESTS, 1, conn_id=conn_id, outcome=outcome)
    if _from_event_loop.get():
        _teller.tell(tell)
    else:  # a worker may be gone before a thread comes to it
        tell()


def polled(conn_id: str, *, succeeded: int = 0, failed: int = 0) -> None:
    """Tell how many waits were shown their run, and how many why it could not be seen."""
    _count(POLLS, succeeded, conn_id=conn_id, outcome="succeeded")
    _count(POLLS, failed, conn_id=conn_id, outcome="failed")


def polls_delayed(conn_id: str, number: int) -> None:
    """Tell how many requests had to wait for the connection's request budget."""
    _count(DELAYED_POLLS, number, conn_id=conn_id)


def completed(conn_id: str, outcome: CompletionOutcome, delay: timedelta | None) -> None:
    """
    Tell that the triggerer woke up a task.

    :param delay: how long ago happened what it waited for; ``None`` where nobody knows.
    """
    _count(COMPLETIONS, 1, conn_id=conn_id, outcome=outcome)
    if delay is not None:
        # Two clocks may differ. A number is in milliseconds everywhere; what a timedelta becomes varies in Airflow 2.
        milliseconds = max(delay.total_seconds(), 0.0) * 1000
        with unharmed():
            for name, tags in _names(DETECTION_LATENCY, conn_id=conn_id):
                _stats().timing(name, milliseconds, tags=tags)


def active_waits(conn_id: str, number: int) -> None:
    """Tell how many waits this triggerer holds for a connection."""
    with unharmed():
        for name, tags in _names(ACTIVE_WAITS, conn_id=conn_id, hostname=_hostname()):
            _stats().gauge(name, number, tags=tags)


def _count(metric: Metric, count: int, **values: str) -> None:
    if not count:
        return
    with unharmed():
        for name, tags in _names(metric, **values):
            _stats().incr(name, count, tags=tags)


def _names(metric: Metric, **values: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Give the names by which to tell something, each with the tags that are not in it."""
    tags = {tag: _UNFIT.sub("_", values[tag]) for tag in metric.tags}
    yield metric.name, tags
    if metric.in_words is not None and _tells_names_in_words():
        name = metric.in_words.format_map({tag: value.replace(".", "__") for tag, value in tags.items()})
        yield name, {tag: value for tag, value in tags.items() if f"{{{tag}}}" not in metric.in_words}


def _stats() -> Any:
    """Return what Airflow lets providers tell metrics to; loaded late, as DAG files need none."""
    from airflow.providers.common.compat.sdk import Stats

    return Stats


def _tells_names_in_words() -> bool:
    from airflow.providers.common.compat.sdk import conf

    # Airflow has the setting since 3.2.
    return bool(conf.getboolean("metrics", "legacy_names_on", fallback=True))


@cache
def _hostname() -> str:
    """Return this machine's name as Airflow's ``triggers.running`` has it."""
    from airflow.utils.net import get_hostname

    return str(get_hostname())


@contextmanager
def unharmed() -> Iterator[None]:
    """Let nothing that goes wrong with metrics go any further."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (a backend may be anybody's, and raise anything)
        _complain(type(error).__name__)


@cache
def _complain(kind: str) -> None:
    """Say once of every kind what went wrong, or the log would be full of it."""
    logger.warning("Airflow's metrics could not be told something (%s); all else goes on", kind)
