"""Notifiers, called as Airflow calls them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from datetime import UTC, datetime
from threading import Barrier, get_ident
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseNotifier

from airflow_provider_tallyfy.actions import launching
from airflow_provider_tallyfy.hooks import transport
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.notifications import tallyfy as notifications
from airflow_provider_tallyfy.notifications.tallyfy import (
    TallyfyCommentNotifier,
    TallyfyIssueNotifier,
    TallyfyLaunchRunNotifier,
)
from airflow_provider_tallyfy.operators.tallyfy import TallyfyLaunchRunOperator
from tests.support.moved_time import MovedTime

API = "https://tallyfy.test/api/organizations/acme"
CHECKLIST = {
    "id": "c1",
    "prerun": [
        {"id": "f1", "alias": "what", "label": "What happened", "field_type": "text", "required": True},
        {"id": "f2", "alias": "log", "label": "Log", "field_type": "textarea"},
    ],
}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = MovedTime(1_767_614_400.0)
    for module in (launching, transport, notifications):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(transport.random, "uniform", lambda *_: 0)
    return clock


@pytest.fixture(autouse=True)
def log(monkeypatch, caplog):
    for notifier in (TallyfyLaunchRunNotifier, TallyfyCommentNotifier, TallyfyIssueNotifier):
        monkeypatch.setattr(notifier, "log", logging.getLogger("notifier-under-test"))
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def tallyfy(connection, requests_mock):
    requests_mock.get(f"{API}/checklists/c1", json={"data": CHECKLIST})
    requests_mock.get(f"{API}/runs", json=lambda *_: {"data": launched(requests_mock)})
    requests_mock.post(f"{API}/runs", status_code=201, json={"data": {"id": "r1"}})
    for thread in ("tasks/t1/comment", "tasks/t1/problem", "runs/r1/problem"):
        requests_mock.post(f"{API}/{thread}", status_code=201, json={"data": {"id": "5"}})
    requests_mock.get(
        f"{API}/tasks/t1", json=lambda *_: {"data": {"id": "t1", "threads": threads(requests_mock)}}
    )
    return requests_mock


def launched(tallyfy):
    """Return the runs that were launched, the newest first."""
    now = datetime.now(UTC).isoformat()
    runs = [request for request in posted(tallyfy) if request.path.endswith("/runs")]
    return [
        {"id": "r1", "created_at": now, "summary": request.json()["summary"]} for request in reversed(runs)
    ]


def threads(tallyfy):
    """Return the issues that were reported on the task."""
    issues = [request for request in posted(tallyfy) if request.path.endswith("/tasks/t1/problem")]
    return {"data": [{**request.json(), "label": "problem", "resolve_id": None} for request in issues]}


def posted(tallyfy):
    return [request for request in tallyfy.request_history if request.method == "POST"]


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


def comment_notifier(**arguments):
    return TallyfyCommentNotifier(**{"task_id": "t1", "content": "Look.", **arguments})


def issue_notifier(**arguments):
    subject = {} if "run_id" in arguments else {"task_id": "t1"}
    return TallyfyIssueNotifier(**{"content": "It is empty.", **subject, **arguments})


def sent(tallyfy):
    return [request.json() for request in posted(tallyfy)]


def errors(log):
    ours = [record for record in log.records if record.name == "notifier-under-test"]
    return [record.getMessage() for record in ours if record.levelno >= logging.ERROR]


class TestLaunch:
    def test_run_with_the_rendered_error(self, tallyfy, context, log):
        launch_notifier(summary="See the runbook.")(context)
        [body] = sent(tallyfy)
        assert (body["name"], body["prerun"]) == ("ingest failed", {"f1": "load: The file is empty."})
        assert body["summary"].startswith(
            "See the runbook.\n\nLaunched by Airflow: DAG ingest, task load, run manual__1, try 1 (airflow-"
        )
        assert "Launched a process in Tallyfy: https://go.tallyfy.com/acme/processes/r1" in log.text
        assert errors(log) == []

    def test_callback_of_a_dag(self, tallyfy, context):
        """Airflow 3 gives no more than this where no task failed."""
        given = {"dag": context["dag"], "run_id": "manual__1", "reason": "timed_out"}
        launch_notifier(name="{{ dag.dag_id }}", kickoff={"what": "{{ reason }}"})(given)
        [body] = sent(tallyfy)
        assert (body["name"], body["prerun"]) == ("ingest", {"f1": "timed_out"})
        assert body["summary"].startswith("Launched by Airflow: DAG ingest, run manual__1 (airflow-")

    def test_long_text_is_cut(self, tallyfy, context):
        context["exception"] = ValueError("x" * 40_000)
        launch_notifier(name="n" * 600, kickoff={"what": "{{ exception }}", "LOG": "{{ exception }}"})(
            context
        )
        [body] = sent(tallyfy)
        assert body["prerun"] == {"f1": "x" * 199 + "…", "f2": "x" * 29_999 + "…"}
        assert body["name"] == "n" * 550

    def test_launch_without_answer_is_searched_for_and_not_sent_again(self, tallyfy, context, clock, log):
        tallyfy.post(f"{API}/runs", status_code=502)
        tallyfy.get(f"{API}/runs", json={"data": []})
        launch_notifier()(context)
        assert len(sent(tallyfy)) == 1
        assert sum(clock.pauses) < 10
        [error] = errors(log)
        assert error.startswith(
            "A process may or may not have been launched; check in Tallyfy before you launch another "
            "(TallyfyLaunchRunNotifier): POST "
        )

    def test_failed_search_leaves_the_launch_in_doubt(self, tallyfy, context, log):
        tallyfy.post(f"{API}/runs", status_code=502)
        tallyfy.get(f"{API}/runs", [{"json": {"data": []}}, {"status_code": 403}])
        launch_notifier()(context)
        assert len(sent(tallyfy)) == 1
        [error] = errors(log)
        assert error.startswith("A process may or may not have been launched;")

    def test_launch_without_answer_may_be_found(self, tallyfy, context, log):
        tallyfy.post(f"{API}/runs", status_code=502)
        launch_notifier()(context)
        assert "Launched a process in Tallyfy: https://go.tallyfy.com/acme/processes/r1" in log.text
        assert errors(log) == []

    def test_invalid_values_are_logged(self, tallyfy, context, log):
        launch_notifier(kickoff={"Cause": "{{ exception }}"})(context)
        [error] = errors(log)
        assert error.startswith("No process was launched (TallyfyLaunchRunNotifier): ")
        assert "'Cause' is not a field of the form" in error
        assert "'What happened' (text) is required" in error
        assert sent(tallyfy) == []

    def test_parameters_are_those_of_the_operator(self):
        ours = set(inspect.signature(TallyfyLaunchRunNotifier).parameters) - {"context"}
        assert (
            ours
            == set(TallyfyLaunchRunOperator.template_fields)
            == set(TallyfyLaunchRunNotifier.template_fields)
        )


class TestOneFailureOneProcess:
    def test_second_callback_launches_nothing(self, tallyfy, context, log):
        launch_notifier()(context)
        launch_notifier()({**context, "exception": None})  # the DAG processor does not know it
        assert len(sent(tallyfy)) == 1
        again = "A process was launched for this already: https://go.tallyfy.com/acme/processes/r1"
        assert again in log.text
        assert errors(log) == []

    def test_archived_processes_are_searched_too(self, tallyfy, context):
        launch_notifier()(context)
        searched = [request.qs for request in tallyfy.request_history if request.path.endswith("/runs")]
        assert searched[0]["archived"] == ["true"]

    def test_second_failure_launches_another_process(self, tallyfy, context):
        notifier = launch_notifier()
        notifier(context)
        context["ti"].try_number = 2
        notifier(context)
        assert len({body["summary"] for body in sent(tallyfy)}) == 2

    def test_each_notifier_launches_a_process(self, tallyfy, context):
        for name in ("For us", "For the customer"):
            launch_notifier(name=name)(context)
        assert [body["name"] for body in sent(tallyfy)] == ["For us", "For the customer"]

    def test_old_processes_are_not_read(self, tallyfy, context):
        old = [
            {"id": str(number), "summary": "", "created_at": "2026-01-01T00:00:00Z"} for number in range(2)
        ]
        more = {"pagination": {"current_page": 1, "total_pages": 50, "links": []}}
        tallyfy.get(f"{API}/runs", json={"data": old, "meta": more})
        launch_notifier()(context)
        assert len([request for request in tallyfy.request_history if request.path.endswith("/runs")]) == 2

    def test_failed_search_does_not_prevent_the_launch(self, tallyfy, context, log):
        tallyfy.get(f"{API}/runs", status_code=403, json={"message": "No."})
        launch_notifier()(context)
        assert len(sent(tallyfy)) == 1
        assert "Launching without knowing whether an earlier callback did: GET " in log.text


class TestRendering:
    def test_one_notifier_serves_many_callbacks(self, tallyfy, context):
        notifier = launch_notifier()
        for dag_id in ("ingest", "export"):
            context["ti"].dag_id = dag_id
            notifier(context)
        assert [body["name"] for body in sent(tallyfy)] == ["ingest failed", "export failed"]
        assert notifier.name == "{{ ti.dag_id }} failed"
        assert notifier.kickoff == {"What happened": "{{ ti.task_id }}: {{ exception }}"}

    def test_concurrent_callbacks(self, tallyfy, context):
        notifier, together = launch_notifier(), Barrier(8)
        contexts = [
            {**context, "ti": SimpleNamespace(**{**vars(context["ti"]), "dag_id": f"dag{number}"})}
            for number in range(8)
        ]

        def call(context):
            together.wait(10)
            notifier(context)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(call, contexts))
        assert {body["name"] for body in sent(tallyfy)} == {f"dag{number} failed" for number in range(8)}

    def test_context_is_not_changed(self, tallyfy, context):
        """Airflow gives the same one to the next callback; its run_id is not that of an issue."""
        before = dict(context)
        issue_notifier(run_id="r1", content="{{ run_id }}")(context)
        assert context == before
        assert sent(tallyfy) == [{"content": "manual__1"}]

    @pytest.mark.parametrize("broken", ["{{ nothing }}", "{{ ti.nothing.more }}", "{{ 1 / 0 }}", "{{ oops"])
    def test_template_error_in_free_text_sends_the_template(self, tallyfy, context, log, broken):
        launch_notifier(
            name=broken, summary=broken, kickoff={"what": broken, "log": "{{ ti.task_id }} {{ exception }}"}
        )(context)
        [body] = sent(tallyfy)
        assert (body["name"], body["prerun"]) == (broken, {"f1": broken, "f2": "load The file is empty."})
        assert body["summary"].startswith(broken)
        assert len(errors(log)) == 3
        assert f"Cannot render '{broken}' (" in errors(log)[0]

    @pytest.mark.parametrize(
        ("broken", "kept"),
        [
            ({"owner_id": "{{ nothing }}"}, {}),
            ({"users": ["{{ nothing }}", 7]}, {"users": [7]}),
            ({"users": ["{{ nothing }}"]}, {}),
            ({"parent_id": "{{ nothing }}"}, {}),
            ({"tags": ["{{ nothing }}", "t7"], "folders": ("f7",)}, {"tags": ["t7"], "folders": ["f7"]}),
            (
                {"roles": {"a": {"users": ["{{ nothing }}"]}, "b": {"users": [7]}}},
                {"roles": {"b": {"users": [7], "guests": [], "groups": []}}},
            ),
        ],
    )
    def test_template_error_elsewhere_leaves_the_value_out(self, tallyfy, context, log, broken, kept):
        tallyfy.get(f"{API}/users", json={"data": [{"id": 7, "email": "ada@example.com"}]})
        tallyfy.get(f"{API}/groups", json={"data": []})
        steps = [{"id": "s1", "title": "Fix", "roles": ["a", "b"]}]
        tallyfy.get(f"{API}/checklists/c1", json={"data": {**CHECKLIST, "steps": steps}})
        launch_notifier(**broken)(context)
        [body] = sent(tallyfy)
        common = ("checklist_id", "name", "prerun", "summary")
        assert {name: value for name, value in body.items() if name not in common} == kept
        assert len(errors(log)) == 1

    def test_template_error_in_a_date_leaves_the_field_out(self, tallyfy, context, log):
        checklist = deepcopy(CHECKLIST)
        checklist["prerun"].append({"id": "f3", "alias": "since", "label": "Since", "field_type": "date"})
        tallyfy.get(f"{API}/checklists/c1", json={"data": checklist})
        launch_notifier(kickoff={"what": "{{ ti.task_id }}", "since": "{{ nothing }}"})(context)
        [body] = sent(tallyfy)
        assert body["prerun"] == {"f1": "load"}
        assert "left out" in errors(log)[0]

    def test_template_error_in_a_required_text_sends_the_template(self, tallyfy, context):
        checklist = deepcopy(CHECKLIST)
        checklist["prerun"].append({"id": "f3", "alias": "since", "label": "Since", "field_type": "date"})
        tallyfy.get(f"{API}/checklists/c1", json={"data": checklist})
        launch_notifier(
            kickoff={"What happened": "{{ nothing }}", "since": "{{ nothing }}", "x": "{{ nothing }}"}
        )(context)
        [body] = sent(tallyfy)
        assert body["prerun"] == {"f1": "{{ nothing }}"}

    def test_dag_that_renders_to_native_objects(self, tallyfy, context):
        context["dag"] = DAG("native", schedule=None, render_template_as_native_obj=True)
        comment_notifier(content="{{ 5 }}")(context)
        assert sent(tallyfy)[0]["content"] == "5"

    def test_serialized_dag(self, tallyfy, context):
        """`airflow dags test` gives one to the callbacks of a DAG; it renders nothing itself."""
        given = {"dag": SimpleNamespace(dag_id="ingest"), "run_id": "manual__1", "reason": "task_failure"}
        launch_notifier(name="{{ dag.dag_id }}", kickoff={"what": "{{ reason }}"})(given)
        [body] = sent(tallyfy)
        assert (body["name"], body["prerun"]) == ("ingest", {"f1": "task_failure"})

    def test_sla_miss_of_airflow_2(self, tallyfy, context):
        given = (context["dag"], "load on 2026-01-05", "", [], [])
        notifier = launch_notifier(name="{{ dag.dag_id }} is late", kickoff={"what": "{{ task_list }}"})
        notifier(*given)
        notifier(*given)
        [body] = sent(tallyfy)
        assert (body["name"], body["prerun"]) == ("ingest is late", {"f1": "load on 2026-01-05"})


class TestDeadline:
    CONTEXT = {  # noqa: RUF012
        "dag_run": {"dag_id": "ingest", "dag_run_id": "manual__1", "start_date": "2026-01-05T12:00:00Z"},
        "deadline": {"id": "d1", "deadline_time": "2026-01-05T13:00:00Z"},
    }

    def notifier(self, **arguments):
        """Return what Airflow makes of an AsyncCallback, or of a SyncCallback."""
        name = "{{ dag_run.dag_id }} is late since {{ deadline.deadline_time }}"
        return launch_notifier(name=name, kickoff={"what": "{{ dag_run.dag_run_id }}"}, **arguments)

    @pytest.mark.parametrize("call", ["awaited", "called", "called with nothing", "notified"])
    def test_awaited_and_called(self, tallyfy, log, call):
        notifier = self.notifier(context=self.CONTEXT)

        async def wait():
            if call == "notified":
                return await notifier._rendered(self.CONTEXT).async_notify(self.CONTEXT)
            return await notifier

        match call:
            case "called":
                notifier(self.CONTEXT)
            case "called with nothing":
                notifier(None)
            case _:
                assert asyncio.run(wait()) is None
        [body] = sent(tallyfy)
        assert body["name"] == "ingest is late since 2026-01-05T13:00:00Z"
        assert body["prerun"] == {"f1": "manual__1"}
        assert body["summary"].startswith("Launched by Airflow: DAG ingest, run manual__1 (airflow-")
        assert errors(log) == []

    def test_event_loop_is_not_blocked(self, tallyfy):
        threads = []
        tallyfy.post(
            f"{API}/runs",
            status_code=201,
            json=lambda *_: threads.append(get_ident()) or {"data": {"id": "r1"}},
        )

        async def wait():
            return await self.notifier(context=self.CONTEXT)

        asyncio.run(wait())
        assert threads
        assert get_ident() not in threads

    def test_trigger_that_runs_twice_launches_once(self, tallyfy):
        async def twice():
            for _ in range(2):
                await self.notifier(context=deepcopy(self.CONTEXT))

        asyncio.run(twice())
        assert len(sent(tallyfy)) == 1

    def test_unknown_variables_stay_as_they_are(self, tallyfy, log):
        launch_notifier(name="{{ dag.dag_id }}", kickoff={"what": "{{ exception }}"})(self.CONTEXT)
        [body] = sent(tallyfy)
        assert (body["name"], body["prerun"]) == ("{{ dag.dag_id }}", {"f1": "{{ exception }}"})
        assert len(errors(log)) == 2

    def test_airflow_accepts_the_classes(self):
        callbacks = pytest.importorskip(
            "airflow.sdk.definitions.deadline", reason="Airflow 3.1 has deadlines"
        )
        for kind in (TallyfyLaunchRunNotifier, TallyfyCommentNotifier, TallyfyIssueNotifier):
            assert "context" in inspect.signature(kind).parameters
            callback = callbacks.AsyncCallback(kind, {"tallyfy_conn_id": "other"})
            assert callback.path == f"{kind.__module__}.{kind.__qualname__}"


class TestComment:
    def test_comment_from_a_template(self, tallyfy, context, log):
        TallyfyCommentNotifier(task_id="t1", content="{{ ti.task_id }} failed: {{ exception }}")(context)
        assert sent(tallyfy) == [{"content": "load failed: The file is empty.", "state": "open"}]
        assert errors(log) == []

    @pytest.mark.parametrize("state", ["open", "hide-for-guests", "collapsed"])
    def test_state_is_always_sent(self, tallyfy, context, state):
        comment_notifier(state=state)(context)
        context["wanted"] = state
        comment_notifier(state="{{ wanted }}")(context)
        assert [body["state"] for body in sent(tallyfy)] == [state] * 2

    @pytest.mark.parametrize("state", ["closed", "", None, "hidden"])
    def test_unknown_state_is_refused(self, state):
        with pytest.raises(ValueError, match="state must be one of open, hide-for-guests, collapsed, but is"):
            comment_notifier(state=state)

    @pytest.mark.parametrize("state", ["{{ nothing }}", "{{ ti.task_id }}"])
    def test_unknown_rendered_state_hides_the_comment_from_guests(self, tallyfy, context, log, state):
        comment_notifier(state=state)(context)
        assert sent(tallyfy) == [{"content": "Look.", "state": "hide-for-guests"}]
        assert "so the comment is hidden from guests" in errors(log)[-1]

    def test_comment_without_answer_is_not_written_again(self, tallyfy, context, log, clock):
        tallyfy.post(f"{API}/tasks/t1/comment", status_code=500)
        comment_notifier()(context)
        assert (len(sent(tallyfy)), clock.pauses) == (1, [])
        [error] = errors(log)
        assert error.startswith(
            "The comment may or may not have been written; check the task in Tallyfy (TallyfyCommentNotifier): "
            "POST "
        )

    def test_blank_comment_is_not_sent(self, tallyfy, context, log):
        comment_notifier(content="{{ ' ' }}")(context)
        [error] = errors(log)
        assert error.startswith("No comment was written (TallyfyCommentNotifier): content must be a text")


class TestIssue:
    @pytest.mark.parametrize(
        ("subject", "path"), [({"run_id": "{{ wanted }}1"}, "/runs/r1"), ({"task_id": "t1"}, "/tasks/t1")]
    )
    def test_issue_from_a_template(self, tallyfy, context, log, subject, path):
        context["wanted"] = "r"
        issue_notifier(content="{{ ti.task_id }}: {{ exception }}", **subject)(context)
        [request] = posted(tallyfy)
        assert request.path.endswith(f"{path}/problem")
        assert request.json() == {"content": "load: The file is empty."}
        assert "Reported an issue on " in log.text
        assert errors(log) == []

    @pytest.mark.parametrize("content", [None, ""])
    def test_missing_content_is_refused_when_the_dag_is_parsed(self, content):
        with pytest.raises(ValueError, match="TallyfyIssueNotifier needs content"):
            issue_notifier(content=content)

    @pytest.mark.parametrize("subject", [{}, {"run_id": "r1", "task_id": "t1"}])
    def test_needs_either_run_or_task(self, subject):
        with pytest.raises(ValueError, match="Give either run_id"):
            TallyfyIssueNotifier(content="It is empty.", **subject)

    def test_open_issue_is_not_reported_again(self, tallyfy, context, log):
        for _ in range(2):
            issue_notifier()(context)
        assert len(sent(tallyfy)) == 1
        assert "The same issue is open on task t1 in Tallyfy already" in log.text

    def test_open_issue_that_is_returned_as_html_is_not_reported_again(self, tallyfy, context):
        thread = {
            "label": "problem",
            "content": "<p>No</p>\n<p>&lt;class&nbsp;&#39;int&#39;&gt;</p>",
            "resolve_id": None,
        }
        tallyfy.get(f"{API}/tasks/t1", json={"data": {"id": "t1", "threads": {"data": [thread]}}})
        issue_notifier(content="No <class 'int'>")(context)
        assert sent(tallyfy) == []
        issue_notifier(content="No <class 'str'>")(context)
        assert len(sent(tallyfy)) == 1

    @pytest.mark.parametrize(
        "thread",
        [
            {"label": "problem", "content": "Another one.", "resolve_id": None},
            {"label": "problem", "content": "It is <b>not</b> empty.", "resolve_id": None},
            {"label": "problem", "content": "<p>It is emp ty.</p>", "resolve_id": None},
            {"label": "problem", "content": "Itis empty.", "resolve_id": None},
            {"label": "problem", "content": "It is empty.", "resolve_id": "x1"},  # it was resolved
            {"label": "comment", "content": "It is empty."},
        ],
    )
    def test_issue_that_is_not_open_is_reported(self, tallyfy, context, thread):
        tallyfy.get(f"{API}/tasks/t1", json={"data": {"id": "t1", "threads": {"data": [thread]}}})
        issue_notifier()(context)
        assert len(sent(tallyfy)) == 1

    @pytest.mark.parametrize("answer", [{"status_code": 403}, {"json": {"data": {"id": "t1"}}}])
    def test_unreadable_threads_do_not_prevent_the_report(self, tallyfy, context, answer, log):
        tallyfy.get(f"{API}/tasks/t1", **answer)
        issue_notifier()(context)
        assert len(sent(tallyfy)) == 1
        assert "Cannot read the issues that are open on task t1: " in log.text

    def test_issue_without_answer_may_be_found(self, tallyfy, context, log):
        tallyfy.post(f"{API}/tasks/t1/problem", status_code=502)
        issue_notifier()(context)
        assert (len(sent(tallyfy)), errors(log)) == (1, [])

    @pytest.mark.parametrize("subject", [{"run_id": "r1"}, {"task_id": "t1"}])
    def test_issue_without_answer_is_not_reported_again(self, tallyfy, context, log, clock, subject):
        tallyfy.post(f"{API}/runs/r1/problem", status_code=502)
        tallyfy.post(f"{API}/tasks/t1/problem", status_code=502)
        tallyfy.get(f"{API}/tasks/t1", json={"data": {"id": "t1", "threads": {"data": []}}})
        issue_notifier(**subject)(context)
        assert len(sent(tallyfy)) == 1
        assert sum(clock.pauses) < 10
        assert errors(log)[0].startswith("The issue may or may not have been reported; check ")


class TestLimits:
    @pytest.fixture(params=["runs", "tasks/t1/comment", "runs/r1/problem"])
    def limited(self, request, tallyfy):
        def limited(seconds, *then):
            refusal = {
                "status_code": 429,
                "headers": {"Retry-After": str(seconds)},
                "json": {"message": "Too many.", "code": "RATE_LIMIT_EXCEEDED"},
            }
            tallyfy.post(f"{API}/{request.param}", [refusal, *then])
            makers = {"runs": launch_notifier, "tasks/t1/comment": comment_notifier}
            return makers.get(request.param, lambda: issue_notifier(run_id="r1"))()

        return limited

    def test_long_retry_after_is_not_waited_for(self, tallyfy, context, clock, log, limited):
        limited(3600)(context)
        assert clock.pauses == []
        assert len(sent(tallyfy)) == 1
        assert "returned 429: Too many." in errors(log)[0]

    def test_short_retry_after_is_waited_for(self, tallyfy, context, clock, log, limited):
        limited(3, {"status_code": 201, "json": {"data": {"id": "r1"}}})(context)
        assert clock.pauses == [3]
        assert errors(log) == []


@pytest.mark.parametrize("notifier", [launch_notifier(), comment_notifier(), issue_notifier()])
class TestErrorsAreLogged:
    def test_missing_connection(self, context, log, notifier):
        assert isinstance(notifier, BaseNotifier)
        notifier(context)
        assert "tallyfy_default" in errors(log)[0]

    def test_message_of_a_secrets_backend_is_not_logged(self, context, log, notifier, monkeypatch):
        def fail(*_):
            raise RuntimeError("Cannot connect to postgresql://airflow:a-secret@db")

        monkeypatch.setattr(TallyfyHook, "get_connection", fail)
        notifier(context)
        assert "'tallyfy_default' could not be read from Airflow (RuntimeError)" in errors(log)[0]
        assert "a-secret" not in log.text

    def test_tallyfy_is_down(self, connection, requests_mock, context, log, clock, notifier):
        requests_mock.get(re.compile(API), status_code=503)
        requests_mock.post(re.compile(API), status_code=503)
        notifier(context)
        assert len(errors(log)) == 1
        assert sum(clock.pauses) < 20

    def test_unexpected_error(self, connection, context, log, notifier, monkeypatch):
        def fail(*_):
            raise KeyError("surprise")

        monkeypatch.setattr(type(notifier), "send", fail)
        notifier(context)
        assert errors(log)[0].endswith(": KeyError: 'surprise'")
