from __future__ import annotations

import copy
import json
import logging
import warnings
from datetime import timedelta
from unittest.mock import Mock

import pytest
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from requests_mock import ANY

from airflow_provider_tallyfy import exceptions, version_compat
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.operators.tallyfy import TallyfyLaunchRunOperator
from airflow_provider_tallyfy.sensors import tallyfy as sensors_module
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor
from airflow_provider_tallyfy.waiting.messages import checksum
from airflow_provider_tallyfy.waiting.outcomes import Met, name_wait, to_event

# What Airflow resumes a task with when its trigger ran out of time.
TRIGGER_TIMEOUT = "Trigger/execution timeout" if airflow_version.startswith("2.") else "Trigger timeout"
RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"


def response(next_task_id, **fields):
    tasks = [] if next_task_id is None else [{"id": next_task_id, "title": "Sign"}]
    progress = {"complete": 1, "total": 2, "percent": 50}
    return {
        "json": {
            "data": {"id": "r1", "status": "active", "progress": progress, "next_task": {"data": tasks}}
            | fields
        }
    }


def sensor(**arguments):
    return TallyfyNextTaskSensor(**{"task_id": "wait", "run_id": "r1", "poke_interval": 0.01, **arguments})


@pytest.fixture
def tallyfy(connection, tasks_are_done, requests_mock, monkeypatch):
    """Return these responses, one for each request; the last one stays."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)

    def responses(*these):
        return requests_mock.get(RUN, list(these))

    return responses


UNAVAILABLE = {"status_code": 503}
MOVED = {
    "run_id": "r1",
    "from_task_id": "a",
    "next_task": {"id": "b", "title": "Sign"},
    "run_status": "active",
    "progress": {"complete": 1, "total": 2, "percent": 50},
}


ARCHIVED = {"outcome": "unreachable", "reason": "archived"}
DENIED = {"outcome": "denied", "error": "TallyfyAuthError", "message": "401"}


class TestPoke:
    def test_it_returns_the_new_next_task(self, tallyfy, context):
        tallyfy(response("a"), response("a"), response("b"))
        assert sensor().execute(context) == MOVED

    def test_the_end_of_the_run_is_a_change(self, tallyfy, context):
        tallyfy(response("a"), response(None, status="complete"))
        result = sensor().execute(context)
        assert (result["next_task"], result["run_status"]) == (None, "complete")

    @pytest.mark.parametrize("from_task", ["a", {"id": "a", "title": "Sign"}])
    def test_a_change_before_the_first_poll_is_seen(self, tallyfy, context, from_task):
        tallyfy(response("b"))
        assert sensor(from_task=from_task).execute(context) == MOVED

    @pytest.mark.parametrize("from_task", [None, "", "None", {}])
    def test_an_empty_from_task_takes_the_task_of_the_first_poll(self, tallyfy, context, from_task):
        tallyfy(response("a"), response("b"))
        assert sensor(from_task=from_task).execute(context)["from_task_id"] == "a"

    def test_each_change_is_one_line(self, tallyfy, context, caplog, monkeypatch):
        tallyfy(response("a"), response("a"), response("b"))
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(TallyfyNextTaskSensor, "log", logging.getLogger("sensor"))
        sensor().execute(context)
        ours = [record for record in caplog.records if "airflow_provider_tallyfy" in record.pathname]
        assert [record.getMessage() for record in ours] == [
            "Waiting until the run moves on from its next task; run r1",
            "1 of 2 tasks are done; next is 'Sign'; task a; run r1",
            "Waiting to move on from task a",
            "1 of 2 tasks are done; next is 'Sign'; task b; run r1",
            "The wait is over: 'Sign' is next",
        ]

    def test_a_run_id_cannot_forge_a_log_line(self, connection, requests_mock, context, caplog, monkeypatch):
        requests_mock.get(ANY, **response(None))
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(TallyfyNextTaskSensor, "log", logging.getLogger("sensor"))
        with pytest.raises(AirflowFailException, match="run_id must be a Tallyfy id"):
            sensor(run_id="r1\nThe wait is over", from_task="a").execute(context)
        assert not any("\n" in message for message in caplog.messages)

    @pytest.mark.parametrize(
        "failure", [UNAVAILABLE, {"status_code": 429}, {"exc": ConnectionResetError}, {"text": "<html>"}]
    )
    def test_a_failure_that_passes_does_not_end_it(self, tallyfy, context, failure):
        tallyfy(response("a"), *[failure] * 12, response("b"))
        assert sensor().execute(context) == MOVED

    def test_a_failed_first_poll_takes_no_baseline(self, tallyfy, context):
        tallyfy(*[UNAVAILABLE] * 12, response("a"), response("b"))
        assert sensor().execute(context) == MOVED

    def test_an_archived_run_fails_without_retries(self, tallyfy, context):
        tallyfy(response("a"), response("a", archived_at="2026-01-01T00:00:00Z"))
        with pytest.raises(AirflowFailException, match="Run r1 was archived"):
            sensor().execute(context)

    def test_a_run_that_is_gone_fails_without_retries(self, tallyfy, context):
        from_a_proxy = {"status_code": 404}
        tallyfy(response("a"), from_a_proxy, {"status_code": 404, "json": {"message": "No query results"}})
        with pytest.raises(AirflowFailException, match=r"Run r1 is gone .* No query results"):
            sensor().execute(context)

    @pytest.mark.parametrize(
        ("status", "kind"), [(401, exceptions.TallyfyAuthError), (403, exceptions.TallyfyPermissionError)]
    )
    def test_a_refusal_fails_after_the_connection_was_read_again(
        self, tallyfy, context, monkeypatch, status, kind
    ):
        polls = tallyfy(response("a"), {"status_code": status, "json": {"message": "No"}})
        waiting = sensor()
        with pytest.raises(kind) as refusal:
            waiting.execute(context)
        assert not isinstance(refusal.value, AirflowFailException)
        # Polls over ten seconds, and in each the connection is read again for a second request.
        assert polls.call_count == 1 + 4 * 2

    def test_a_rotated_token_is_used(self, tallyfy, context, monkeypatch, requests_mock):
        requests_mock.get(RUN, [response("a"), {"status_code": 401, "json": {"message": "No"}}])
        requests_mock.get(RUN, request_headers={"Authorization": "Bearer new"}, **response("b"))
        waiting = sensor()
        assert not waiting.poke(context)
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", "tallyfy://acme:new@tallyfy.test")
        assert waiting.poke(context).xcom_value == MOVED

    def test_a_connection_that_was_corrected_meanwhile_is_used(
        self, tallyfy, context, monkeypatch, requests_mock
    ):
        requests_mock.get(RUN, **UNAVAILABLE)
        requests_mock.get(RUN.replace("tallyfy.test", "corrected.test"), **response("b"))
        waiting = sensor(from_task="a")
        assert not waiting.poke(context)
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", "tallyfy://acme:token@corrected.test")
        assert waiting.poke(context).xcom_value == MOVED

    def test_a_secrets_backend_that_is_down_does_not_end_it(self, tallyfy, context, monkeypatch):
        tallyfy(response("b"))
        waiting = sensor(from_task="a")
        with monkeypatch.context() as down:
            down.setattr(TallyfyHook, "get_connection", Mock(side_effect=OSError("vault: s3cret")))
            assert not waiting.poke(context)
        assert waiting.poke(context).xcom_value == MOVED

    def test_a_missing_connection_fails_at_once(self, context):
        with pytest.raises(AirflowNotFoundException, match="nowhere"):
            sensor(tallyfy_conn_id="nowhere").execute(context)

    def test_it_times_out_in_an_outage(self, tallyfy, context):
        tallyfy(UNAVAILABLE)
        with pytest.raises(AirflowSensorTimeout):
            sensor(timeout=0).execute(context)

    def test_soft_fail_skips_on_timeout_and_on_an_archived_run(self, tallyfy, context):
        tallyfy(response("a"), response("a", status="archived"))
        with pytest.raises(AirflowSkipException):
            sensor(soft_fail=True).execute(context)
        with pytest.raises(AirflowSkipException):
            sensor(soft_fail=True, timeout=0).execute(context)

    def test_soft_fail_does_not_hide_a_refusal(self, tallyfy, context):
        tallyfy({"status_code": 401, "json": {"message": "No"}})
        with pytest.raises(exceptions.TallyfyAuthError):
            sensor(soft_fail=True).execute(context)

    def test_never_fail_skips_on_a_refusal(self, tallyfy, context):
        tallyfy({"status_code": 401, "json": {"message": "No"}})
        with pytest.raises(AirflowSkipException):
            sensor(never_fail=True).execute(context)

    def test_silent_fail_polls_again_after_a_refusal(self, tallyfy, context):
        refusal = {"status_code": 401, "json": {"message": "No"}}
        tallyfy(response("a"), refusal, refusal, response("b"))
        assert sensor(silent_fail=True).execute(context) == MOVED

    def test_the_result_is_sanitized(self, tallyfy, context):
        tallyfy(response("b", status="act\0ive", progress={"complete": 2**70}))
        result = sensor(from_task="a").execute(context)
        assert (result["run_status"], result["progress"]) == ("act?ive", {"complete": str(2**70)})

    def test_it_links_to_the_process(self, tallyfy, context):
        tallyfy(response("a"), response("b"))
        sensor().execute(context)
        assert context["ti"].xcoms == {"tallyfy_run_url": "https://go.tallyfy.com/acme/processes/r1"}


@pytest.mark.usefixtures("state_store")
class TestBaseline:
    """The baseline of the first poll is kept until the task succeeds."""

    def test_it_outlives_a_reschedule_and_a_retry(self, tallyfy, context):
        tallyfy(response("a"), response("b"))
        assert not sensor(mode="reschedule").poke(context)
        assert sensor(mode="reschedule").poke(context).xcom_value == MOVED

    def test_an_answer_older_than_at_the_last_poke_does_not_end_it(self, tallyfy, context):
        early, late = "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"
        tallyfy(response("a", last_updated=late), response("b", last_updated=early), response("a"))
        for _ in range(2):
            assert not sensor(mode="reschedule", from_task="a").poke(context)
        tallyfy(response("b", last_updated=late))
        assert sensor(mode="reschedule", from_task="a").poke(context).xcom_value == MOVED

    def test_a_retry_without_it_is_a_warning(self, tallyfy, context, caplog, monkeypatch):
        """Airflow may have emptied the store."""
        monkeypatch.setattr(TallyfyNextTaskSensor, "log", logging.getLogger("sensor"))
        tallyfy(response("a"))
        assert not sensor().poke(context)
        assert "No earlier try kept" not in caplog.text
        context["task_state_store"].delete("tallyfy_from_task")
        context["ti"].try_number += 1
        assert not sensor().poke(context)
        assert "No earlier try kept" in caplog.text

    def test_a_store_that_is_down_does_not_fail_a_sensor_with_from_task(self, tallyfy, context, monkeypatch):
        monkeypatch.setattr(context["task_state_store"], "set", Mock(side_effect=OSError("down")))
        tallyfy(response("b"))
        assert sensor(from_task="a").execute(context) == MOVED

    def test_it_serves_a_retry_of_a_success_that_was_not_recorded(self, tallyfy, context):
        """The worker died, or could not push the result; by then another task is next."""
        tallyfy(response("a"), response("b"))
        assert sensor().execute(context) == MOVED
        context["ti"].try_number += 1
        assert sensor().execute(context) == MOVED

    def test_a_task_that_is_cleared_after_its_success_starts_over(self, tallyfy, context):
        tallyfy(response("a"), response("b"))
        sensor().execute(context)
        context["ti"].clear()
        tallyfy(response("b"), response("c"))
        assert sensor().execute(context)["from_task_id"] == "b"

    def test_a_task_that_is_cleared_while_it_waits_keeps_it(self, tallyfy, context):
        tallyfy(response("a"), response("b"))
        assert not sensor().poke(context)
        context["ti"].clear()
        assert sensor().execute(context) == MOVED

    def test_another_run_has_its_own(self, tallyfy, context, requests_mock):
        tallyfy(response("a"))
        assert not sensor().poke(context)
        requests_mock.get(RUN.replace("r1", "r2"), **response("b"))
        assert not sensor(run_id="r2").poke(context)

    def test_from_task_takes_precedence(self, tallyfy, context):
        tallyfy(response("a"))
        assert not sensor().poke(context)
        assert sensor(from_task="x").poke(context).xcom_value["from_task_id"] == "x"

    def test_it_outlives_a_retry_of_a_deferred_task(self, tallyfy, context):
        tallyfy(response("a"), response("b"))
        with pytest.raises(TaskDeferred):
            sensor(deferrable=True).execute(context)
        assert sensor(deferrable=True).execute(context) == MOVED

    def test_a_failed_task_keeps_it(self, tallyfy, context):
        tallyfy(response("a"), {"status_code": 401, "json": {"message": "No"}})
        with pytest.raises(exceptions.TallyfyAuthError):
            sensor().execute(context)
        tallyfy(response("b"))
        assert sensor().execute(context) == MOVED


@pytest.mark.usefixtures("clock")
class TestDeferrable:
    def deferred(self, context, **arguments):
        with pytest.raises(TaskDeferred) as deferral:
            sensor(deferrable=True, **arguments).execute(context)
        return deferral.value

    def test_it_does_not_defer_if_the_first_poll_ends_it(self, tallyfy, context):
        tallyfy(response("b"))
        assert sensor(deferrable=True, from_task="a").execute(context) == MOVED

    def test_the_arguments_of_the_trigger(self, tallyfy, context, clock):
        tallyfy(response("a"))
        deferral = self.deferred(
            context,
            poke_interval=timedelta(minutes=2),
            timeout=timedelta(days=3),
            exponential_backoff=True,
            max_wait=timedelta(hours=1),
        )
        assert deferral.timeout == timedelta(days=3)
        assert deferral.method_name == "execute_complete"
        assert deferral.trigger.serialize() == (
            "airflow_provider_tallyfy.triggers.tallyfy.TallyfyNextTaskTrigger",
            {
                "tallyfy_conn_id": "tallyfy_default",
                "run_id": "r1",
                "from_task": "a",
                "api_url": "https://tallyfy.test/api",
                "organization": "acme",
                "poke_interval": 120.0,
                "exponential_backoff": True,
                "max_wait": 3600.0,
                "worker_polled_at": clock.now,
                "last_updated": None,
                "last_line": checksum("1 of 2 tasks are done; next is 'Sign'; task a; run r1"),
                "deferred_at": clock.now,
                "ends_at": clock.now + 3 * 86400,
                "silent_fail": False,
                "end_from_trigger": False,
                "do_xcom_push": True,
            },
        )

    def test_it_defers_if_the_first_poll_fails(self, tallyfy, context):
        tallyfy(UNAVAILABLE)
        trigger = self.deferred(context).trigger
        assert (trigger.from_task, trigger.worker_polled_at) == (None, None)

    @pytest.mark.usefixtures("state_store")
    def test_the_baseline_that_the_trigger_saw_is_kept_and_deferred_with(self, tallyfy, context, clock):
        """Only the arguments of a trigger outlive a triggerer."""
        tallyfy(UNAVAILABLE)
        first = self.deferred(context, timeout=100)
        clock.now += 70
        event = {"outcome": "pending", "condition": {"from_task_id": "a"}}
        with pytest.raises(TaskDeferred) as deferral:
            sensor(deferrable=True, timeout=100).resume_execution(
                first.method_name, {**first.kwargs, "event": event}, context
            )
        assert deferral.value.trigger.from_task == "a"
        assert deferral.value.trigger.worker_polled_at == clock.now
        assert deferral.value.timeout == timedelta(seconds=30)
        assert sensors_module._kept_baseline(context, "r1") == "a"

    def test_a_trigger_for_a_run_that_was_not_read_has_no_target(self, tallyfy, context):
        """The connection may be corrected before it is seen."""
        tallyfy(UNAVAILABLE)
        trigger = self.deferred(context).trigger
        assert (trigger.api_url, trigger.organization) == (None, None)

    def test_it_defers_if_the_first_poll_is_refused(self, tallyfy, context):
        tallyfy({"status_code": 403, "json": {"message": "No"}})
        assert self.deferred(context, silent_fail=True).trigger.silent_fail is True
        assert self.deferred(context).trigger.silent_fail is False

    def resumed(self, context, event, **arguments):
        return sensor(deferrable=True, **arguments).resume_execution(
            "execute_complete", {"event": event, "ends_at": 1_900_000_000.0}, context
        )

    def test_it_returns_the_result_of_the_trigger(self, tallyfy, context):
        tallyfy(response("a"))
        self.deferred(context)
        assert self.resumed(context, {"outcome": "met", "result": MOVED}) == MOVED

    def test_an_event_of_this_wait_is_its_result(self, context):
        assert self.resumed(context, to_event(Met(MOVED), name_wait(context["ti"]))) == MOVED

    def test_an_event_of_another_wait_is_a_poll_and_another_deferral(self, tallyfy, context, clock):
        """SQLite gives a new trigger the id of a deleted one, and Airflow the event of that one to this task."""
        del context["task_state_store"]
        tallyfy(response("a"), response("a"), response("b"))
        first = self.deferred(context, timeout=100)
        clock.now += 70
        other = to_event(Met({**MOVED, "run_id": "r2"}), "task_id other")
        kwargs = {**json.loads(json.dumps(first.kwargs)), "event": other}
        with pytest.raises(TaskDeferred) as deferral:
            sensor(timeout=100).resume_execution(first.method_name, kwargs, context)
        arguments = deferral.value.trigger.serialize()[1]
        assert (arguments["run_id"], arguments["from_task"]) == ("r1", "a")
        assert (arguments["organization"], arguments["ends_at"]) == ("acme", first.trigger.ends_at)
        assert deferral.value.timeout == timedelta(seconds=30)
        assert sensor().resume_execution(first.method_name, kwargs, context) == MOVED  # it has changed by now

    @pytest.mark.parametrize(
        "event", [to_event(Met(MOVED), "task_id other"), None, {}, {"status": "success"}, True]
    )
    def test_so_is_one_that_is_not_understood(self, tallyfy, context, event):
        """``dag.test()`` and a start from the trigger hand over only the event."""
        tallyfy(response("a"))
        with pytest.raises(TaskDeferred) as deferral:
            self.resumed(context, event, from_task="a")
        assert deferral.value.trigger.from_task == "a"

    @pytest.mark.skipif(
        not version_compat.AIRFLOW_V_3_3_PLUS, reason="Airflow keeps state for a task since 3.3"
    )
    def test_the_baseline_is_kept_for_a_retry_of_the_success(self, tallyfy, context):
        tallyfy(response("a"), response("b"))
        self.deferred(context)
        self.resumed(context, {"outcome": "met", "result": MOVED})
        context["ti"].try_number += 1
        assert sensor(deferrable=True).execute(context) == MOVED
        context["ti"].clear()
        assert self.deferred(context).trigger.from_task == "b"

    def test_an_archived_run_fails_without_retries(self, context):
        with pytest.raises(AirflowFailException, match="archived"):
            self.resumed(context, ARCHIVED)

    def test_a_refusal_fails_with_its_class(self, context):
        with pytest.raises(exceptions.TallyfyAuthError, match="401"):
            self.resumed(context, DENIED)

    @pytest.mark.parametrize(
        ("event", "meaning"), [(ARCHIVED, "soft_fail"), (ARCHIVED, "never_fail"), (DENIED, "never_fail")]
    )
    def test_soft_fail_and_never_fail_skip(self, context, event, meaning):
        with pytest.raises(AirflowSkipException):
            self.resumed(context, event, **{meaning: True})

    def test_soft_fail_does_not_hide_a_refusal(self, context):
        with pytest.raises(exceptions.TallyfyAuthError, match="401"):
            self.resumed(context, DENIED, soft_fail=True)

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({}, AirflowSensorTimeout),
            ({"soft_fail": True}, AirflowSkipException),
            ({"never_fail": True}, AirflowSkipException),
        ],
    )
    def test_a_timeout_in_the_triggerer_is_the_sensor_s_own(self, context, arguments, error):
        # So Airflow resumes a task whose trigger ran out of time.
        with pytest.raises(error):
            sensor(deferrable=True, **arguments).resume_execution(
                "__fail__", {"error": TRIGGER_TIMEOUT}, context
            )


class TestAfterATimeout:
    """One more poll sees what happened in the last seconds of a deferral."""

    def timed_out(self, context, **arguments):
        """Resume as Airflow does when the trigger ran out of time."""
        return sensor(deferrable=True, **arguments).resume_execution(
            "__fail__", {"error": TRIGGER_TIMEOUT}, context
        )

    def test_a_change_is_a_success(self, tallyfy, context):
        tallyfy(response("b"))
        assert self.timed_out(context, from_task="a") == MOVED

    @pytest.mark.parametrize("shown", [response("a"), UNAVAILABLE])
    def test_no_change_is_a_timeout(self, tallyfy, context, shown):
        tallyfy(shown)
        with pytest.raises(AirflowSensorTimeout):
            self.timed_out(context, from_task="a")

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({}, exceptions.TallyfyAuthError),
            ({"soft_fail": True}, exceptions.TallyfyAuthError),
            ({"never_fail": True}, AirflowSkipException),
            ({"silent_fail": True}, AirflowSensorTimeout),
        ],
    )
    def test_a_refusal(self, tallyfy, context, arguments, error):
        tallyfy({"status_code": 401, "json": {"message": "No"}})
        with pytest.raises(error):
            self.timed_out(context, from_task="a", **arguments)

    def test_a_run_that_is_gone_fails(self, tallyfy, context):
        tallyfy({"status_code": 404, "json": {"message": "No query results"}})
        with pytest.raises(AirflowFailException, match="gone"):
            self.timed_out(context, from_task="a")

    def test_a_run_that_is_archived_skips_with_soft_fail(self, tallyfy, context):
        tallyfy(response("a", archived_at="2026-01-01"))
        with pytest.raises(AirflowSkipException):
            self.timed_out(context, from_task="a", soft_fail=True)


class TestArguments:
    def test_template_fields(self):
        assert TallyfyNextTaskSensor.template_fields == ("run_id", "from_task", "tallyfy_conn_id")

    def test_reschedule_without_from_task_is_refused_before_airflow_3_3(self, monkeypatch):
        monkeypatch.setattr(sensors_module, "AIRFLOW_V_3_3_PLUS", False)
        with pytest.raises(
            ValueError, match=r"'wait': mode='reschedule' needs from_task .* Write from_task="
        ):
            sensor(mode="reschedule")
        sensor(mode="reschedule", from_task="a")
        sensor(mode="reschedule", deferrable=True)
        sensor()

    def test_reschedule_with_an_empty_from_task_fails_before_airflow_3_3(self, monkeypatch, tallyfy, context):
        monkeypatch.setattr(sensors_module, "AIRFLOW_V_3_3_PLUS", False)
        tallyfy(response("a"))
        rescheduled = sensor(mode="reschedule", from_task="{{ empty }}")
        rescheduled.from_task = ""
        del context["task_state_store"]
        with pytest.raises(AirflowFailException, match="from_task is empty"):
            rescheduled.poke(context)

    @pytest.mark.parametrize(
        "run_id",
        [
            lambda launch: launch.output["id"],
            lambda launch: launch.output.map(str),
            lambda launch: "{{ ti.xcom_pull('launch', key='id') }}",
            lambda launch: "{{ task_instance.xcom_pull(task_ids='launch')['id'] }}",
        ],
    )
    def test_a_run_of_another_task_without_from_task_is_warned_about(self, run_id):
        with DAG("pipeline", schedule=None):
            launch = TallyfyLaunchRunOperator(task_id="launch", checklist_id="c1")
            with pytest.warns(
                UserWarning, match=r"Task 'wait': without from_task, .* missed\. Write from_task="
            ) as warned:
                sensor(run_id=run_id(launch))
            assert warned[0].filename == __file__
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                sensor(task_id="named", run_id=run_id(launch), from_task=launch.output["next_task"])
                sensor(task_id="given", run_id="{{ params.run_id }}")
                sensor(task_id="fixed")

    def test_poke_without_a_state_store_keeps_the_baseline_for_the_try(self, tallyfy, context):
        tallyfy(response("a"), response("b"))
        del context["task_state_store"]
        assert sensor().execute(context) == MOVED

    def test_a_task_object_that_became_text_is_refused(self, tallyfy, context):
        tallyfy(response("a"))
        with pytest.raises(AirflowFailException, match="turned into text"):
            sensor(from_task="{'id': 'a'}").execute(context)

    def test_it_can_be_copied_as_airflow_does(self):
        assert copy.copy(sensor(from_task="a")).from_task == "a"

    def test_errors_are_airflow_exceptions(self):
        assert issubclass(exceptions.TallyfyError, AirflowException)
