"""
One request and its answer, as Airflow's metrics and traces are told of it.

The span is OpenTelemetry's own, and follows its conventions for HTTP clients. Airflow sets that up since 3.2, where
``[traces] otel_on`` is true; where nobody did, a span is recorded nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from airflow_provider_tallyfy import __version__, metrics
from airflow_provider_tallyfy.protocol import urls

_tracer = trace.get_tracer("airflow_provider_tallyfy", __version__)


class Exchange:
    """
    What came of a request.

    :ivar outcome: in one word; ``None`` while nothing has come of it.
    :ivar status: the HTTP status of the answer; ``None`` while there is none.
    """

    __slots__ = ("outcome", "status")

    def __init__(self) -> None:
        self.outcome: metrics.RequestOutcome | None = None
        self.status: int | None = None


@contextmanager
def exchange(conn_id: str, method: str, address: str, repetition: int) -> Iterator[Exchange]:
    """
    Tell of the request that is made in a ``with`` block; the block notes what came of it.

    What is raised in it is not told: it may hold a secret.

    :param conn_id: id of the Airflow connection.
    :param address: the URL without its query, which may hold what people wrote.
    :param repetition: how often the same was sent before.
    """
    made = Exchange()
    span = _begin(method)
    with trace.use_span(span, record_exception=False, set_status_on_exception=False):
        try:
            yield made
        finally:
            # What somebody's span processor raises must not stand in for the answer, least of all to a write.
            with metrics.unharmed():
                if span.is_recording():
                    _describe(span, made, conn_id, method, address, repetition)
            with metrics.unharmed():
                span.end()
            if made.outcome is not None:
                metrics.request_ended(conn_id, made.outcome)


def _begin(method: str) -> Span:
    with metrics.unharmed():
        return _tracer.start_span(method, kind=SpanKind.CLIENT)
    return trace.INVALID_SPAN


def _describe(span: Span, made: Exchange, conn_id: str, method: str, address: str, repetition: int) -> None:
    _, server, port = urls.origin(address)
    span.set_attributes(
        {
            "http.request.method": method,
            "url.full": address,
            "server.address": server,
            "server.port": port,
            "tallyfy.conn_id": conn_id,
        }
    )
    if repetition:
        span.set_attribute("http.request.resend_count", repetition)
    if made.status is not None:
        span.set_attribute("http.response.status_code", made.status)
    if made.outcome not in (None, "ok"):
        span.set_attribute("error.type", str(made.outcome))
        span.set_status(StatusCode.ERROR)
