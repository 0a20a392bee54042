"""What Airflow's metrics and traces are told of the requests that a hook makes."""

from __future__ import annotations

import pytest
import requests
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.hooks import exchange, transport

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"
GOOD = {"json": {"data": {"id": "r1"}}}


@pytest.fixture
def tracer(monkeypatch):
    """Record spans in this test, as a process does whose Airflow traces."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    tracer.finished = lambda: list(exporter.get_finished_spans())
    monkeypatch.setattr(exchange, "_tracer", tracer)
    return tracer


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (GOOD, "ok"),
        ({"status_code": 400}, "invalid"),
        ({"status_code": 401}, "unauthorized"),
        ({"status_code": 403}, "forbidden"),
        ({"status_code": 404}, "not_found"),
        ({"status_code": 410}, "not_found"),
        ({"status_code": 415}, "invalid"),
        ({"status_code": 422}, "invalid"),
        ({"status_code": 302, "headers": {"Location": "https://elsewhere.test"}}, "unreadable"),
        ({"status_code": 429}, "rate_limited"),
        ({"status_code": 408}, "server_error"),
        ({"status_code": 503}, "server_error"),
        ({"text": "<html>"}, "unreadable"),
        ({"json": {"data": []}}, "unreadable"),
        ({"exc": requests.ReadTimeout("timed out")}, "unreachable"),
        ({"exc": requests.exceptions.InvalidHeader("half of a token")}, "unreachable"),
    ],
)
def test_a_request_is_told_by_what_came_of_it(connect, requests_mock, told_metrics, answer, outcome):
    requests_mock.get(RUN, **answer)
    hook = connect(retries=0)
    if outcome == "ok":
        hook.get_run("r1")
    else:
        with pytest.raises(exceptions.TallyfyError):
            hook.get_run("r1")
    assert told_metrics.counts("tallyfy.requests") == {outcome: 1}
    assert told_metrics.of(f"tallyfy.requests.{outcome}") == [(1, {"conn_id": "tallyfy_default"})]


def test_an_answer_without_end_is_told(connect, requests_mock, told_metrics, monkeypatch):
    monkeypatch.setattr(transport, "MAX_RESPONSE_SIZE", 10)
    requests_mock.get(RUN, **GOOD)
    with pytest.raises(exceptions.TallyfyResponseError):
        connect(retries=0).get_run("r1")
    assert told_metrics.counts("tallyfy.requests") == {"unreadable": 1}


def test_each_repetition_is_told(hook, requests_mock, told_metrics):
    requests_mock.get(
        RUN, [{"status_code": 503}, {"exc": requests.ConnectionError}, {"status_code": 429}, GOOD]
    )
    hook.get_run("r1")
    assert told_metrics.counts("tallyfy.requests") == {
        "server_error": 1,
        "unreachable": 1,
        "rate_limited": 1,
        "ok": 1,
    }


def test_a_write_of_which_nobody_knows_is_told(hook, requests_mock, told_metrics):
    requests_mock.post(RUN, status_code=502)
    with pytest.raises(exceptions.TallyfyIndeterminateError):
        hook.request("POST", "runs/r1")
    assert told_metrics.counts("tallyfy.requests") == {"server_error": 1}


def test_a_request_succeeds_though_metrics_fail(hook, requests_mock, told_metrics, monkeypatch):
    monkeypatch.setattr(told_metrics, "incr", None)
    requests_mock.get(RUN, **GOOD)
    assert hook.get_run("r1")["id"] == "r1"


class TestSpans:
    def test_each_request_is_a_span_within_the_one_around_it(self, hook, requests_mock, tracer):
        requests_mock.get(RUN, [{"status_code": 503}, GOOD])
        with tracer.start_as_current_span("the task"):
            hook.request("GET", "runs/r1", params={"q": "what somebody wrote"})
        failed, good, around = tracer.finished()
        assert (failed.name, failed.kind) == ("GET", SpanKind.CLIENT)
        assert failed.parent == good.parent == around.context
        asked = {
            "http.request.method": "GET",
            "url.full": RUN,
            "server.address": "tallyfy.test",
            "server.port": 443,
            "tallyfy.conn_id": "tallyfy_default",
        }
        assert failed.attributes == {
            **asked,
            "http.response.status_code": 503,
            "error.type": "server_error",
        }
        assert failed.status.status_code is StatusCode.ERROR
        assert good.attributes == {
            **asked,
            "http.response.status_code": 200,
            "http.request.resend_count": 1,
        }
        assert good.status.status_code is StatusCode.UNSET

    def test_a_pause_before_a_repetition_is_in_no_span(self, hook, requests_mock, tracer, monkeypatch):
        open_at_a_pause = []
        sleep = transport.time.sleep

        def watched_sleep(seconds):
            open_at_a_pause.append(len(tracer.finished()))
            sleep(seconds)

        monkeypatch.setattr(transport.time, "sleep", watched_sleep)
        requests_mock.get(RUN, [{"status_code": 503}, GOOD])
        hook.get_run("r1")
        assert open_at_a_pause == [1]

    def test_no_secret_is_in_a_span(self, application, requests_mock, tracer):
        secret, token = "client-secret-that-nobody-may-see", "issued-token-that-nobody-may-see"
        requests_mock.post(
            "https://tallyfy.test/oauth/token", json={"access_token": token, "expires_in": 604800}
        )
        requests_mock.get(RUN, exc=requests.exceptions.InvalidHeader(f"a header of {token} and {secret}"))
        with pytest.raises(exceptions.TallyfyError):
            application().get_run("r1")
        of_token, of_run = tracer.finished()
        assert of_token.attributes["url.full"] == "https://tallyfy.test/oauth/token"
        assert of_run.attributes["error.type"] == "unreachable"
        for span in (of_token, of_run):
            assert token not in span.to_json()
            assert secret not in span.to_json()
            assert span.events == ()

    @pytest.mark.parametrize("answer", [{"text": "<html>"}, {"exc": RuntimeError("a text of anybody's")}])
    def test_no_text_of_an_exception_is_in_a_span(self, connect, requests_mock, tracer, answer):
        requests_mock.get(RUN, **answer)
        with pytest.raises((exceptions.TallyfyResponseError, RuntimeError)):
            connect(retries=0).get_run("r1")
        (span,) = tracer.finished()
        assert span.events == ()
        assert span.status.description is None

    def test_where_nobody_traces_nothing_is_recorded(self, hook, requests_mock, monkeypatch):
        described = []
        monkeypatch.setattr(exchange, "_describe", lambda *arguments: described.append(arguments))
        requests_mock.get(RUN, **GOOD)
        hook.get_run("r1")
        assert described == []

    def test_tallyfy_is_sent_no_trace_id(self, hook, requests_mock, tracer):
        requests_mock.get(RUN, **GOOD)
        with tracer.start_as_current_span("the task"):
            hook.get_run("r1")
        assert "traceparent" not in requests_mock.last_request.headers

    @pytest.mark.parametrize("at", ["on_start", "on_end"])
    def test_a_processor_that_raises_stands_in_for_no_answer(self, connect, requests_mock, monkeypatch, at):
        def stumble(*arguments, **options):
            raise RuntimeError("no room for spans")

        processor = SpanProcessor()
        monkeypatch.setattr(processor, at, stumble)
        provider = TracerProvider()
        provider.add_span_processor(processor)
        monkeypatch.setattr(exchange, "_tracer", provider.get_tracer("test"))
        requests_mock.post(
            "https://tallyfy.test/api/organizations/acme/runs", status_code=201, json={"data": {"id": "r1"}}
        )
        assert connect().request("POST", "runs", json={}) == {"data": {"id": "r1"}}
