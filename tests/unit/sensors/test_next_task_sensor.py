from __future__ import annotations

import copy
import logging
import warnings
from datetime import timedelta
from types import SimpleNamespace
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
from airflow_provider_tallyfy.sensors import baseline
from airflow_provider_tallyfy.sensors import tallyfy as sensors_module
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor
from airflow_provider_tallyfy.waiting.messages import checksum

# What Airflow resumes a task with when its trigger ran out of time.
TRIGGER_TIMEOUT = "Trigger/execution timeout" if airflow_version.startswith("2.") else "Trigger timeout"
RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"


def answer(next_task_id, **fields):
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
    """Let Tallyfy give these answers, one for each request; the last one stays."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)

    def answers(*these):
        return requests_mock.get(RUN, list(these))

    return answers


UNAVAILABLE = {"status_code": 503}
MOVED = {
    "run_id": "r1",
    "from_task_id": "a",
    "next_task": {"id": "b", "title": "Sign"},
    "run_status": "active",
    "progress": {"complete": 1, "total": 2, "percent": 50},
}


@pytest.fixture
def state_store(monkeypatch):
    """Airflow has a task state store, as since 3.3."""
    monkeypatch.setattr(sensors_module, "AIRFLOW_V_3_3_PLUS", True)
    monkeypatch.setattr(version_compat, "AIRFLOW_V_3_3_PLUS", True)
    monkeypatch.setattr(baseline, "never_expire", lambda: None)


LOST = {"outcome": "lost", "reason": "archived"}
REFUSED = {"outcome": "refused", "error": "TallyfyAuthError", "message": "401"}


class TestPoke:
    def test_it_returns_what_changed(self, tallyfy, context):
        tallyfy(answer("a"), answer("a"), answer("b"))
        assert sensor().execute(context) == MOVED

    def test_the_end_of_the_run_is_a_change(self, tallyfy, context):
        tallyfy(answer("a"), answer(None, status="complete"))
        result = sensor().execute(context)
        assert (result["next_task"], result["run_status"]) == (None, "complete")

    @pytest.mark.parametrize("from_task", ["a", {"id": "a", "title": "Sign"}])
    def test_a_change_before_the_first_look_is_seen(self, tallyfy, context, from_task):
        tallyfy(answer("b"))
        assert sensor(from_task=from_task).execute(context) == MOVED

    @pytest.mark.parametrize("from_task", [None, "", "None", {}])
    def test_an_empty_from_task_takes_the_task_of_the_first_look(self, tallyfy, context, from_task):
        tallyfy(answer("a"), answer("b"))
        assert sensor(from_task=from_task).execute(context)["from_task_id"] == "a"

    def test_each_change_is_one_line(self, tallyfy, context, caplog, monkeypatch):
        tallyfy(answer("a"), answer("a"), answer("b"))
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(TallyfyNextTaskSensor, "log", logging.getLogger("looks"))
        sensor().execute(context)
        ours = [record for record in caplog.records if "airflow_provider_tallyfy" in record.pathname]
        assert [record.getMessage() for record in ours] == [
            "Waiting until a task other than the first one seen is next, or none is left; run r1",
            "1 of 2 tasks are done; next is 'Sign'; task a; run r1",
            "Waiting to move on from task a",
            "1 of 2 tasks are done; next is 'Sign'; task b; run r1",
            "The wait is over: 'Sign' is next",
        ]

    def test_a_run_id_writes_no_line_of_its_own(
        self, connection, requests_mock, context, caplog, monkeypatch
    ):
        requests_mock.get(ANY, **answer(None))
        caplog.set_level(logging.INFO)
        monkeypatch.setattr(TallyfyNextTaskSensor, "log", logging.getLogger("looks"))
        with pytest.raises(AirflowFailException, match="run_id must be a Tallyfy id"):
            sensor(run_id="r1\nThe wait is over", from_task="a").execute(context)
        assert not any("\n" in message for message in caplog.messages)

    @pytest.mark.parametrize(
        "trouble", [UNAVAILABLE, {"status_code": 429}, {"exc": ConnectionResetError}, {"text": "<html>"}]
    )
    def test_trouble_that_passes_ends_nothing(self, tallyfy, context, trouble):
        tallyfy(answer("a"), *[trouble] * 12, answer("b"))
        assert sensor().execute(context) == MOVED

    def test_trouble_at_the_first_look_takes_no_baseline(self, tallyfy, context):
        tallyfy(*[UNAVAILABLE] * 12, answer("a"), answer("b"))
        assert sensor().execute(context) == MOVED

    def test_an_archived_run_fails_without_retries(self, tallyfy, context):
        tallyfy(answer("a"), answer("a", archived_at="2026-01-01T00:00:00Z"))
        with pytest.raises(AirflowFailException, match="Run r1 was archived"):
            sensor().execute(context)

    def test_a_run_that_is_gone_fails_without_retries(self, tallyfy, context):
        proxys = {"status_code": 404}
        tallyfy(answer("a"), proxys, {"status_code": 404, "json": {"message": "No query results"}})
        with pytest.raises(AirflowFailException, match=r"Run r1 is gone .* No query results"):
            sensor().execute(context)

    @pytest.mark.parametrize(
        ("status", "kind"), [(401, exceptions.TallyfyAuthError), (403, exceptions.TallyfyPermissionError)]
    )
    def test_a_refusal_fails_only_after_the_connection_was_read_again(
        self, tallyfy, context, monkeypatch, status, kind
    ):
        looks = tallyfy(answer("a"), {"status_code": status, "json": {"message": "No"}})
        waiting = sensor()
        with pytest.raises(kind) as refusal:
            waiting.execute(context)
        assert not isinstance(refusal.value, AirflowFailException)
        assert looks.call_count == 3

    def test_a_rotated_token_is_taken_up(self, tallyfy, context, monkeypatch, requests_mock):
        requests_mock.get(RUN, [answer("a"), {"status_code": 401, "json": {"message": "No"}}])
        requests_mock.get(RUN, request_headers={"Authorization": "Bearer new"}, **answer("b"))
        waiting = sensor()
        assert not waiting.poke(context)
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", "tallyfy://acme:new@tallyfy.test")
        assert waiting.poke(context).xcom_value == MOVED

    def test_a_connection_that_was_mended_meanwhile_is_taken_up(
        self, tallyfy, context, monkeypatch, requests_mock
    ):
        requests_mock.get(RUN, **UNAVAILABLE)
        requests_mock.get(RUN.replace("tallyfy.test", "mended.test"), **answer("b"))
        waiting = sensor(from_task="a")
        assert not waiting.poke(context)
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", "tallyfy://acme:token@mended.test")
        assert waiting.poke(context).xcom_value == MOVED

    def test_a_secrets_backend_that_is_down_ends_nothing(self, tallyfy, context, monkeypatch):
        tallyfy(answer("b"))
        waiting = sensor(from_task="a")
        with monkeypatch.context() as down:
            down.setattr(TallyfyHook, "get_connection", Mock(side_effect=OSError("vault: s3cret")))
            assert not waiting.poke(context)
        assert waiting.poke(context).xcom_value == MOVED

    def test_a_connection_that_is_not_there_is_told_at_once(self, context):
        with pytest.raises(AirflowNotFoundException, match="nowhere"):
            sensor(tallyfy_conn_id="nowhere").execute(context)

    def test_it_times_out_in_an_outage(self, tallyfy, context):
        tallyfy(UNAVAILABLE)
        with pytest.raises(AirflowSensorTimeout):
            sensor(timeout=0).execute(context)

    def test_soft_fail_skips_on_timeout_and_on_a_lost_run(self, tallyfy, context):
        tallyfy(answer("a"), answer("a", status="archived"))
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

    def test_silent_fail_outlives_a_refusal(self, tallyfy, context):
        refusal = {"status_code": 401, "json": {"message": "No"}}
        tallyfy(answer("a"), refusal, refusal, answer("b"))
        assert sensor(silent_fail=True).execute(context) == MOVED

    def test_it_links_to_the_process(self, tallyfy, context):
        tallyfy(answer("a"), answer("b"))
        sensor().execute(context)
        assert context["ti"].xcoms == {"tallyfy_run_url": "https://go.tallyfy.com/acme/processes/r1"}


@pytest.mark.usefixtures("state_store")
class TestBaseline:
    """What the first look found outlives whatever happens to the task, until it succeeds."""

    def test_it_outlives_a_reschedule_and_a_retry(self, tallyfy, context):
        tallyfy(answer("a"), answer("b"))
        assert not sensor(mode="reschedule").poke(context)
        assert sensor(mode="reschedule").poke(context).xcom_value == MOVED

    def test_a_store_that_is_down_takes_no_result_away_where_nothing_was_kept(
        self, tallyfy, context, monkeypatch
    ):
        monkeypatch.setattr(context["task_state_store"], "set", Mock(side_effect=OSError("down")))
        tallyfy(answer("b"))
        assert sensor(from_task="a").execute(context) == MOVED

    def test_it_serves_a_retry_of_a_success_that_was_not_recorded(self, tallyfy, context):
        """The worker died, or could not push the result; by then another task is next."""
        tallyfy(answer("a"), answer("b"))
        assert sensor().execute(context) == MOVED
        context["ti"].try_number += 1
        assert sensor().execute(context) == MOVED

    def test_a_task_that_is_cleared_after_its_success_begins_again(self, tallyfy, context):
        tallyfy(answer("a"), answer("b"))
        sensor().execute(context)
        context["ti"].clear()
        tallyfy(answer("b"), answer("c"))
        assert sensor().execute(context)["from_task_id"] == "b"

    def test_a_task_that_is_cleared_while_it_waits_goes_on(self, tallyfy, context):
        tallyfy(answer("a"), answer("b"))
        assert not sensor().poke(context)
        context["ti"].clear()
        assert sensor().execute(context) == MOVED

    def test_it_is_the_run_s_own(self, tallyfy, context, requests_mock):
        tallyfy(answer("a"))
        assert not sensor().poke(context)
        requests_mock.get(RUN.replace("r1", "r2"), **answer("b"))
        assert not sensor(run_id="r2").poke(context)

    def test_a_task_that_is_named_goes_before_it(self, tallyfy, context):
        tallyfy(answer("a"))
        assert not sensor().poke(context)
        assert sensor(from_task="x").poke(context).xcom_value["from_task_id"] == "x"

    def test_it_outlives_a_retry_of_a_deferred_task(self, tallyfy, context):
        tallyfy(answer("a"), answer("b"))
        with pytest.raises(TaskDeferred):
            sensor(deferrable=True).execute(context)
        assert sensor(deferrable=True).execute(context) == MOVED

    def test_a_failed_task_keeps_it(self, tallyfy, context):
        tallyfy(answer("a"), {"status_code": 401, "json": {"message": "No"}})
        with pytest.raises(exceptions.TallyfyAuthError):
            sensor().execute(context)
        tallyfy(answer("b"))
        assert sensor().execute(context) == MOVED


class TestDeferrable:
    def deferred(self, context, **arguments):
        with pytest.raises(TaskDeferred) as deferral:
            sensor(deferrable=True, **arguments).execute(context)
        return deferral.value

    def test_it_does_not_defer_when_it_is_over_already(self, tallyfy, context):
        tallyfy(answer("b"))
        assert sensor(deferrable=True, from_task="a").execute(context) == MOVED

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch):
        """A wall clock that stands still until it is moved."""
        clock = SimpleNamespace(now=1_800_000_000.0, time=lambda: clock.now)
        monkeypatch.setattr(sensors_module, "time", clock)
        return clock

    def test_the_baseline_travels_with_the_trigger(self, tallyfy, context, clock):
        tallyfy(answer("a"))
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
                "looked_at": clock.now,
                "last_line": checksum("1 of 2 tasks are done; next is 'Sign'; task a; run r1"),
                "deferred_at": clock.now,
                "ends_at": clock.now + 3 * 86400,
                "silent_fail": False,
                "end_from_trigger": False,
                "do_xcom_push": True,
            },
        )

    def test_it_defers_through_an_outage_at_the_first_look(self, tallyfy, context):
        tallyfy(UNAVAILABLE)
        trigger = self.deferred(context).trigger
        assert (trigger.from_task, trigger.looked_at) == (None, None)

    @pytest.mark.usefixtures("state_store")
    def test_what_the_trigger_saw_first_is_kept_and_waited_on(self, tallyfy, context, clock):
        """A triggerer forgets what it learned; only what travels in the arguments outlives it."""
        tallyfy(UNAVAILABLE)
        first = self.deferred(context, timeout=100)
        clock.now += 70
        event = {"outcome": "waiting", "condition": {"from_task_id": "a"}}
        with pytest.raises(TaskDeferred) as deferral:
            sensor(deferrable=True, timeout=100).resume_execution(
                first.method_name, {**first.kwargs, "event": event}, context
            )
        assert deferral.value.trigger.from_task == "a"
        assert deferral.value.trigger.looked_at == clock.now
        assert deferral.value.timeout == timedelta(seconds=30)
        assert baseline.recall(context, "r1") == "a"

    def test_a_run_that_was_not_seen_yet_may_be_anywhere(self, tallyfy, context):
        """The connection may be corrected before it is seen."""
        tallyfy(UNAVAILABLE)
        trigger = self.deferred(context).trigger
        assert (trigger.api_url, trigger.organization) == (None, None)

    def test_it_defers_through_a_refusal_only_with_silent_fail(self, tallyfy, context):
        tallyfy({"status_code": 403, "json": {"message": "No"}})
        assert self.deferred(context, silent_fail=True).trigger.silent_fail is True
        with pytest.raises(exceptions.TallyfyPermissionError):
            sensor(deferrable=True).execute(context)

    def resumed(self, context, event, **arguments):
        return sensor(deferrable=True, **arguments).resume_execution(
            "execute_complete", {"event": event, "ends_at": 1_900_000_000.0}, context
        )

    def test_it_returns_what_the_trigger_saw(self, tallyfy, context):
        tallyfy(answer("a"))
        self.deferred(context)
        assert self.resumed(context, {"outcome": "over", "result": MOVED}) == MOVED

    @pytest.mark.skipif(
        not version_compat.AIRFLOW_V_3_3_PLUS, reason="Airflow keeps state for a task since 3.3"
    )
    def test_the_baseline_goes_only_when_the_success_is_certain(self, tallyfy, context):
        tallyfy(answer("a"), answer("b"))
        self.deferred(context)
        self.resumed(context, {"outcome": "over", "result": MOVED})
        context["ti"].try_number += 1
        assert sensor(deferrable=True).execute(context) == MOVED
        context["ti"].clear()
        assert self.deferred(context).trigger.from_task == "b"

    def test_a_lost_run_fails_without_retries(self, context):
        with pytest.raises(AirflowFailException, match="archived"):
            self.resumed(context, LOST)

    def test_a_refusal_fails_with_its_own_kind(self, context):
        with pytest.raises(exceptions.TallyfyAuthError, match="401"):
            self.resumed(context, REFUSED)

    @pytest.mark.parametrize(
        ("event", "meaning"), [(LOST, "soft_fail"), (LOST, "never_fail"), (REFUSED, "never_fail")]
    )
    def test_soft_fail_and_never_fail_skip(self, context, event, meaning):
        with pytest.raises(AirflowSkipException):
            self.resumed(context, event, **{meaning: True})

    def test_soft_fail_does_not_hide_a_refusal(self, context):
        with pytest.raises(exceptions.TallyfyAuthError, match="401"):
            self.resumed(context, REFUSED, soft_fail=True)

    @pytest.mark.parametrize(
        ("arguments", "ends_as"),
        [
            ({}, AirflowSensorTimeout),
            ({"soft_fail": True}, AirflowSkipException),
            ({"never_fail": True}, AirflowSkipException),
        ],
    )
    def test_a_timeout_in_the_triggerer_is_the_sensor_s_own(self, context, arguments, ends_as):
        # So Airflow resumes a task whose trigger ran out of time.
        with pytest.raises(ends_as):
            sensor(deferrable=True, **arguments).resume_execution(
                "__fail__", {"error": TRIGGER_TIMEOUT}, context
            )


class TestAfterATimeout:
    """What happened in the last seconds of a deferral is seen by one more poll."""

    def timed_out(self, context, **arguments):
        """Resume as Airflow does when the trigger ran out of time."""
        return sensor(deferrable=True, **arguments).resume_execution(
            "__fail__", {"error": TRIGGER_TIMEOUT}, context
        )

    def test_a_change_is_a_success(self, tallyfy, context):
        tallyfy(answer("b"))
        assert self.timed_out(context, from_task="a") == MOVED

    @pytest.mark.parametrize("shown", [answer("a"), UNAVAILABLE])
    def test_nothing_new_is_a_timeout(self, tallyfy, context, shown):
        tallyfy(shown)
        with pytest.raises(AirflowSensorTimeout):
            self.timed_out(context, from_task="a")

    @pytest.mark.parametrize(
        ("arguments", "ends_as"),
        [
            ({}, exceptions.TallyfyAuthError),
            ({"soft_fail": True}, exceptions.TallyfyAuthError),
            ({"never_fail": True}, AirflowSkipException),
            ({"silent_fail": True}, AirflowSensorTimeout),
        ],
    )
    def test_a_refusal_is_a_refusal(self, tallyfy, context, arguments, ends_as):
        tallyfy({"status_code": 401, "json": {"message": "No"}})
        with pytest.raises(ends_as):
            self.timed_out(context, from_task="a", **arguments)

    def test_a_run_that_is_gone_fails(self, tallyfy, context):
        tallyfy({"status_code": 404, "json": {"message": "No query results"}})
        with pytest.raises(AirflowFailException, match="gone"):
            self.timed_out(context, from_task="a")

    def test_a_run_that_is_archived_skips_with_soft_fail(self, tallyfy, context):
        tallyfy(answer("a", archived_at="2026-01-01"))
        with pytest.raises(AirflowSkipException):
            self.timed_out(context, from_task="a", soft_fail=True)


class TestArguments:
    def test_what_is_templated(self):
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
        tallyfy(answer("a"))
        rescheduled = sensor(mode="reschedule", from_task="{{ empty }}")
        rescheduled.from_task = ""
        del context["task_state_store"]
        with pytest.raises(AirflowFailException, match="from_task came out empty"):
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
            ):
                sensor(run_id=run_id(launch))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                sensor(task_id="named", run_id=run_id(launch), from_task=launch.output["next_task"])
                sensor(task_id="given", run_id="{{ params.run_id }}")
                sensor(task_id="fixed")

    def test_poke_without_a_state_store_keeps_the_baseline_for_the_try(self, tallyfy, context):
        tallyfy(answer("a"), answer("b"))
        del context["task_state_store"]
        assert sensor().execute(context) == MOVED

    def test_a_template_that_made_text_of_a_task_is_refused(self, tallyfy, context):
        tallyfy(answer("a"))
        with pytest.raises(AirflowFailException, match="turned into text"):
            sensor(from_task="{'id': 'a'}").execute(context)

    def test_it_can_be_copied_as_airflow_does(self):
        assert copy.copy(sensor(from_task="a")).from_task == "a"

    def test_errors_of_tallyfy_are_airflow_s(self):
        assert issubclass(exceptions.TallyfyError, AirflowException)
