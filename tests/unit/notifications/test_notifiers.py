"""Over requests-mock, and called as Airflow calls them: with a context, of which templates make texts."""

from __future__ import annotations

import inspect
import logging
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseNotifier

from airflow_provider_tallyfy.actions import launching
from airflow_provider_tallyfy.hooks import transport
from airflow_provider_tallyfy.notifications.tallyfy import TallyfyCommentNotifier, TallyfyLaunchRunNotifier
from airflow_provider_tallyfy.operators.tallyfy import TallyfyLaunchRunOperator

API = "https://tallyfy.test/api/organizations/acme"
CHECKLIST = {
    "id": "c1",
    "prerun": [
        {"id": "f1", "alias": "what", "label": "What happened", "field_type": "text", "required": True},
        {"id": "f2", "alias": "log", "label": "Log", "field_type": "textarea"},
    ],
}


class Clock:
    """Pauses move it, and take no time."""

    def __init__(self):
        self.now, self.pauses = 1_767_614_400.0, []

    def time(self):
        return self.now

    monotonic = time

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    for module in (launching, transport):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(transport.random, "uniform", lambda *_: 0)
    return clock


@pytest.fixture(autouse=True)
def log(monkeypatch, caplog):
    for notifier in (TallyfyLaunchRunNotifier, TallyfyCommentNotifier):
        monkeypatch.setattr(notifier, "log", logging.getLogger("notifier-under-test"))
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def tallyfy(connection, requests_mock):
    requests_mock.get(f"{API}/checklists/c1", json={"data": CHECKLIST})
    requests_mock.get(f"{API}/runs", json={"data": []})
    requests_mock.post(f"{API}/runs", status_code=201, json={"data": {"id": "r1"}})
    requests_mock.post(f"{API}/tasks/t1/comment", status_code=201, json={"data": {"id": "5"}})
    return requests_mock


@pytest.fixture
def context():
    ti = SimpleNamespace(dag_id="ingest", run_id="manual__1", task_id="load", map_index=-1, try_number=1)
    return {
        "dag": DAG("ingest", schedule=None, start_date=datetime(2026, 1, 5, tzinfo=UTC)),
        "run_id": "manual__1",
        "ti": ti,
        "exception": ValueError("The file is empty."),
    }


def launch_notifier(**arguments):
    given = {
        "checklist_id": "c1",
        "name": "{{ ti.dag_id }} failed",
        "kickoff": {"What happened": "{{ ti.task_id }}: {{ exception }}"},
    }
    return TallyfyLaunchRunNotifier(**{**given, **arguments})


def sent(tallyfy):
    return [request.json() for request in tallyfy.request_history if request.method == "POST"]


def errors(log):
    ours = [record for record in log.records if record.name == "notifier-under-test"]
    return [record.getMessage() for record in ours if record.levelno >= logging.ERROR]


class TestLaunch:
    def test_a_run_with_what_went_wrong(self, tallyfy, context, log):
        launch_notifier(summary="See the runbook.")(context)
        [body] = sent(tallyfy)
        assert (body["name"], body["prerun"]) == ("ingest failed", {"f1": "load: The file is empty."})
        assert body["summary"].startswith(
            "See the runbook.\n\nLaunched by Airflow: DAG ingest, task load, run manual__1 (airflow-"
        )
        assert "Launched a process in Tallyfy: https://go.tallyfy.com/acme/processes/r1" in log.text
        assert errors(log) == []

    def test_what_airflow_gives_to_the_callback_of_a_dag(self, tallyfy, context):
        """Airflow 3 gives no more than this where no task failed."""
        given = {"dag": context["dag"], "run_id": "manual__1", "reason": "timed_out"}
        launch_notifier(name="{{ dag.dag_id }}", kickoff={"what": "{{ reason }}"})(given)
        [body] = sent(tallyfy)
        assert (body["name"], body["prerun"]) == ("ingest", {"f1": "timed_out"})
        assert body["summary"].startswith("Launched by Airflow: DAG ingest, run manual__1 (airflow-")

    def test_a_text_that_is_too_long_is_cut(self, tallyfy, context):
        context["exception"] = ValueError("x" * 40_000)
        launch_notifier(name="n" * 600, kickoff={"what": "{{ exception }}", "LOG": "{{ exception }}"})(
            context
        )
        [body] = sent(tallyfy)
        assert body["prerun"] == {"f1": "x" * 199 + "…", "f2": "x" * 29_999 + "…"}
        assert body["name"] == "n" * 550

    def test_each_call_launches_a_run_of_its_own(self, tallyfy, context):
        notifier = launch_notifier()
        notifier(context)
        notifier(context)
        assert len({body["summary"] for body in sent(tallyfy)}) == 2

    def test_in_doubt_it_is_looked_for_and_not_sent_again(self, tallyfy, context, clock, log):
        tallyfy.post(f"{API}/runs", status_code=502)
        launch_notifier()(context)
        assert len(sent(tallyfy)) == 1
        assert sum(clock.pauses) < 10
        [error] = errors(log)
        assert error.startswith("TallyfyLaunchRunNotifier told Tallyfy nothing: POST ")
        assert "It may have been applied: look in Tallyfy" in error

    def test_in_doubt_it_may_be_found(self, tallyfy, context, log):
        tallyfy.post(f"{API}/runs", status_code=502)

        def list_of_what_was_sent(*_):
            return {"data": [{"id": "r1", "summary": sent(tallyfy)[0]["summary"]}]}

        tallyfy.get(f"{API}/runs", json=list_of_what_was_sent)
        launch_notifier()(context)
        assert "Launched a process in Tallyfy: https://go.tallyfy.com/acme/processes/r1" in log.text
        assert errors(log) == []

    def test_what_cannot_be_sent_is_told_in_the_log(self, tallyfy, context, log):
        launch_notifier(kickoff={"Cause": "{{ exception }}"})(context)
        [error] = errors(log)
        assert "'Cause' is no field of the form" in error
        assert "'What happened' (text) is required" in error
        assert sent(tallyfy) == []

    def test_its_parameters_are_those_of_the_operator(self):
        ours = set(inspect.signature(TallyfyLaunchRunNotifier).parameters)
        assert (
            ours
            == set(TallyfyLaunchRunOperator.template_fields)
            == set(TallyfyLaunchRunNotifier.template_fields)
        )


class TestComment:
    def test_a_comment_from_a_template(self, tallyfy, context, log):
        TallyfyCommentNotifier(task_id="t1", content="{{ ti.task_id }} failed: {{ exception }}")(context)
        assert sent(tallyfy) == [{"content": "load failed: The file is empty."}]
        assert errors(log) == []

    def test_in_doubt_it_is_not_written_again(self, tallyfy, context, log, clock):
        tallyfy.post(f"{API}/tasks/t1/comment", status_code=500)
        TallyfyCommentNotifier(task_id="t1", content="Look.")(context)
        assert (len(sent(tallyfy)), clock.pauses) == (1, [])
        assert len(errors(log)) == 1

    def test_nothing_to_say(self, tallyfy, context, log):
        TallyfyCommentNotifier(task_id="t1", content=" ")(context)
        assert "content must be a text that says something" in errors(log)[0]


class TestLimits:
    @pytest.fixture(params=["runs", "tasks/t1/comment"])
    def limited(self, request, tallyfy):
        def limited(seconds, *then):
            refusal = {
                "status_code": 429,
                "headers": {"Retry-After": str(seconds)},
                "json": {"message": "Too many.", "code": "RATE_LIMIT_EXCEEDED"},
            }
            tallyfy.post(f"{API}/{request.param}", [refusal, *then])
            if request.param == "runs":
                return launch_notifier()
            return TallyfyCommentNotifier(task_id="t1", content="Look.")

        return limited

    def test_a_cap_that_lasts_an_hour_is_not_waited_for(self, tallyfy, context, clock, log, limited):
        limited(3600)(context)
        assert clock.pauses == []
        assert len(sent(tallyfy)) == 1
        assert "was answered with 429, saying: Too many." in errors(log)[0]

    def test_a_burst_is(self, tallyfy, context, clock, log, limited):
        limited(3, {"status_code": 201, "json": {"data": {"id": "r1"}}})(context)
        assert clock.pauses == [3]
        assert errors(log) == []


@pytest.mark.parametrize(
    "notifier", [launch_notifier(), TallyfyCommentNotifier(task_id="t1", content="Look.")]
)
class TestNothingIsRaised:
    def test_where_the_connection_is_missing(self, context, log, notifier):
        assert isinstance(notifier, BaseNotifier)
        notifier(context)
        assert "tallyfy_default" in errors(log)[0]

    def test_where_tallyfy_is_down(self, connection, requests_mock, context, log, clock, notifier):
        requests_mock.get(f"{API}/checklists/c1", status_code=503)
        requests_mock.post(f"{API}/tasks/t1/comment", status_code=503)
        notifier(context)
        assert len(errors(log)) == 1
        assert sum(clock.pauses) < 10
