from __future__ import annotations

import inspect
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.acting import launching
from airflow_provider_tallyfy.exceptions import (
    TallyfyIndeterminateError,
    TallyfyNotFoundError,
    TallyfyResponseError,
)
from airflow_provider_tallyfy.hooks import transport
from airflow_provider_tallyfy.operators import launch_record
from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator, TallyfyLaunchRunOperator

API = "https://tallyfy.test/api/organizations/acme"
RUN_AFTER = datetime(2026, 1, 5, 12, tzinfo=UTC)
CHECKLIST = {
    "id": "c1",
    "prerun": [
        {"id": "f1", "alias": "name", "label": "Name", "field_type": "text", "required": True},
        {"id": "f2", "alias": "team", "label": "Team", "field_type": "assignees_form"},
    ],
    "steps": [{"id": "s1", "alias": "sign", "title": "Sign"}],
}


class Clock:
    """Pauses move it, and take no time."""

    def __init__(self):
        self.now = RUN_AFTER.timestamp() + 3600
        self.pauses = []

    def time(self):
        return self.now

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(launching, "time", clock)
    monkeypatch.setattr(launch_record, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def _is_airflow_3_3(monkeypatch):
    """So that the rules of both are tried in each environment."""
    monkeypatch.setattr(version_compat, "AIRFLOW_V_3_3_PLUS", True)
    monkeypatch.setattr(launch_record, "never_expire", lambda: None)


@pytest.fixture
def tallyfy(connection, requests_mock):
    """A template, no runs, and a launch that succeeds."""
    requests_mock.get(f"{API}/checklists/c1", json={"data": CHECKLIST})
    requests_mock.get(f"{API}/runs", json={"data": []})
    requests_mock.post(f"{API}/runs", status_code=201, json={"data": {"id": "r1"}})
    requests_mock.get(f"{API}/runs/r1", json={"data": {"id": "r1", "next_task": {"data": [{"id": "t1"}]}}})
    requests_mock.get(f"{API}/users", json={"data": [{"id": 1001, "email": "ada@example.com"}]})
    requests_mock.get(f"{API}/groups", json={"data": [{"id": "g1", "name": "Managers"}]})
    return requests_mock


@pytest.fixture
def context(context):
    ti = context["ti"]
    ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.try_number = "onboarding", "manual__1", "launch", -1, 1
    context["dag_run"] = SimpleNamespace(run_after=RUN_AFTER)
    return context


def operator(**arguments):
    return TallyfyLaunchRunOperator(
        **{"task_id": "launch", "checklist_id": "c1", "kickoff": {"Name": "Globex"}, **arguments}
    )


def sent(tallyfy):
    return [request.json() for request in tallyfy.request_history if request.method == "POST"]


def looked(tallyfy):
    """The lists that were asked for."""
    asked = [request for request in tallyfy.request_history if request.path.endswith("/runs")]
    return [request.qs for request in asked if request.method == "GET"]


class TestWhatIsSent:
    def test_everything(self, tallyfy, context):
        given = {
            "name": "Onboarding of Globex",
            "kickoff": {"NAME": "Globex", "Team": ["ada@example.com"]},
            "summary": "Be kind.",
            "owner_id": "ada@example.com",
            "tasks": {"Sign": {"owners": "Managers"}},
            "tags": ["t1"],
            "users": ["1001"],
            "groups": ["managers"],
            "roles": {"role1": {"users": [1001]}},
            "folders": ["f1"],
            "parent_id": "r0",
        }
        assert operator(**given).execute(context) == {"id": "r1", "next_task": {"id": "t1"}}
        [body] = sent(tallyfy)
        summary = body.pop("summary")
        assert body == {
            "checklist_id": "c1",
            "name": "Onboarding of Globex",
            "prerun": {"f1": "Globex", "f2": {"users": [1001], "guests": [], "groups": []}},
            "owner_id": 1001,
            "tasks": {"s1": {"owners": {"users": [], "guests": [], "groups": ["g1"]}}},
            "tags": ["t1"],
            "users": [1001],
            "groups": ["g1"],
            "roles": {"role1": {"users": [1001]}},
            "folders": ["f1"],
            "parent_id": "r0",
        }
        assert summary.startswith(
            "Be kind.\n\nLaunched by Airflow: DAG onboarding, task launch, run manual__1 (airflow-"
        )

    def test_no_more_than_need_be(self, tallyfy, context):
        operator().execute(context)
        [body] = sent(tallyfy)
        assert set(body) == {"checklist_id", "prerun", "summary"}
        assert [request.path.rpartition("/acme/")[2] for request in tallyfy.request_history] == [
            "checklists/c1",
            "runs",
            "runs/r1",
        ]

    def test_all_that_is_wrong_is_told_before_and_no_retry_helps(self, tallyfy, context):
        with pytest.raises(AirflowFailException) as error:
            operator(
                kickoff={"Nome": 1}, tasks={"Sing": {}}, name="x" * 551, users=["ben@example.com"]
            ).execute(context)
        message = str(error.value)
        assert message.startswith("Nothing was sent, since 5 things are wrong with the values:")
        parts = ["'Nome' is no field", "'Name' (text) is required", "'Sing' is no step", "name: it has 551"]
        for part in [*parts, "users: 'ben@"]:
            assert part in message
        assert sent(tallyfy) == []
        assert context["task_state_store"].kept == {}

    def test_notes_may_be_any_plain_value(self, tallyfy, context):
        with pytest.raises(AirflowFailException, match="summary: "):
            operator(summary={"ticket": 4711}).execute(context)
        operator(summary=4711).execute(context)
        [body] = sent(tallyfy)
        assert body["summary"].startswith("4711\n\nLaunched by Airflow")

    def test_a_template_that_cannot_be_read(self, tallyfy, context):
        tallyfy.get(f"{API}/checklists/c1", json={"data": {"id": "c1", "prerun": "no fields"}})
        with pytest.raises(TallyfyResponseError, match="template c1 cannot be read"):
            operator().execute(context)
        assert sent(tallyfy) == []

    def test_a_template_that_is_not_there(self, tallyfy, context):
        tallyfy.get(f"{API}/checklists/c1", status_code=404, json={"message": "Not found"})
        with pytest.raises(TallyfyNotFoundError):
            operator().execute(context)


class TestRecord:
    def test_an_attempt_is_kept_before_it_is_sent_and_the_run_after(self, tallyfy, context, clock):
        store, seen = context["task_state_store"], []
        tallyfy.post(
            f"{API}/runs",
            json=lambda *_: seen.append(json.loads(json.dumps(store.kept))) or {"data": {"id": "r1"}},
        )
        operator().execute(context)
        before = seen[0]["tallyfy_launch"]
        assert (before["first_sent_at"], before["sent_at"], before.get("run_id")) == (
            clock.now,
            clock.now,
            None,
        )
        assert store.kept["tallyfy_launch"] == {**before, "run_id": "r1"}

    def test_nothing_is_sent_where_the_attempt_cannot_be_kept(self, tallyfy, context):
        def fail(*_args, **_kwargs):
            raise RuntimeError("The store is down.")

        context["task_state_store"].set = fail
        with pytest.raises(RuntimeError):
            operator().execute(context)
        assert sent(tallyfy) == []

    def test_a_run_that_cannot_be_kept_is_returned_all_the_same(self, tallyfy, context, monkeypatch):
        store = context["task_state_store"]
        keep = store.set

        def keep_but_the_run(key, value, **more):
            if "run_id" in value:
                raise RuntimeError("The store is down.")
            keep(key, value, **more)

        store.set = keep_but_the_run
        assert operator().execute(context)["id"] == "r1"

    def test_the_run_that_was_kept_is_not_looked_for(self, tallyfy, context):
        operator().execute(context)
        context["ti"].try_number = 2
        tallyfy.reset_mock()
        assert operator(kickoff={"no": "matter"}).execute(context)["id"] == "r1"
        assert [request.path.rpartition("/acme/")[2] for request in tallyfy.request_history] == ["runs/r1"]
        assert context["ti"].xcoms["tallyfy_run_url"].endswith("/processes/r1")

    def test_what_is_kept_is_plain_json(self, tallyfy, context):
        operator().execute(context)
        assert json.loads(json.dumps(context["task_state_store"].kept)) == context["task_state_store"].kept


class TestLooking:
    def found(self, context, created_at=RUN_AFTER):
        mark = launch_record.launch_mark(context, "launch", is_of_every_try=True)
        return {"id": "r1", "summary": str(mark), "created_at": created_at.isoformat()}

    def test_a_first_try_does_not_look(self, tallyfy, context):
        operator().execute(context)
        assert looked(tallyfy) == []

    def test_a_first_try_that_is_carried_out_twice_does(self, tallyfy, context, clock):
        tallyfy.post(f"{API}/runs", exc=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            operator().execute(context)
        tallyfy.get(f"{API}/runs", json={"data": [self.found(context)]})
        assert operator().execute(context)["id"] == "r1"
        assert len(sent(tallyfy)) == 1

    def test_a_later_try_looks_in_both_lists_before_it_sends(self, tallyfy, context):
        context["ti"].try_number = 2
        assert operator().execute(context)["id"] == "r1"
        filters = {"checklist_id": ["c1"], "sort": ["-created_at"], "per_page": ["100"], "page": ["1"]}
        assert looked(tallyfy) == [{**filters, "archived": ["true"]}, {**filters, "status": ["archived"]}]
        assert len(sent(tallyfy)) == 1

    def test_what_is_found_is_adopted_before_anything_is_checked(self, tallyfy, context):
        context["ti"].try_number = 2
        tallyfy.get(f"{API}/runs", json={"data": [{"id": "r0"}, self.found(context)]})
        assert operator(kickoff={}).execute(context)["id"] == "r1"
        assert sent(tallyfy) == []
        assert context["task_state_store"].kept["tallyfy_launch"]["run_id"] == "r1"

    @pytest.mark.parametrize(
        ("dag_run", "created_at", "is_found"),
        [
            (SimpleNamespace(run_after=RUN_AFTER), RUN_AFTER, True),
            (SimpleNamespace(run_after=RUN_AFTER), RUN_AFTER - timedelta(minutes=59), True),
            (SimpleNamespace(run_after=RUN_AFTER), RUN_AFTER - timedelta(minutes=61), False),
            (SimpleNamespace(run_after=datetime.now(UTC) + timedelta(days=1)), RUN_AFTER, True),
            (SimpleNamespace(logical_date=RUN_AFTER, data_interval_end=None), RUN_AFTER, True),
            (
                SimpleNamespace(logical_date=RUN_AFTER - timedelta(days=1), data_interval_end=RUN_AFTER),
                RUN_AFTER - timedelta(hours=24),
                True,
            ),
            (SimpleNamespace(logical_date=datetime.now(UTC) + timedelta(days=1)), RUN_AFTER, True),
            (None, RUN_AFTER, True),
        ],
    )
    def test_how_far_back(self, tallyfy, context, dag_run, created_at, is_found):
        """No further than what clearing does not move; and to the beginning where nothing is known."""
        context["ti"].try_number = 2
        context["dag_run"] = dag_run
        older = {"id": "r0", "created_at": created_at.isoformat()}
        page = {"meta": {"pagination": {"total_pages": 2}}}
        tallyfy.get(
            f"{API}/runs?archived=true",
            [
                {"json": {"data": [older], **page}},
                {"json": {"data": [self.found(context, created_at)], **page}},
            ],
        )
        operator().execute(context)
        assert (sent(tallyfy) == []) is is_found

    def test_a_launch_in_doubt_is_looked_for_until_a_minute_has_passed(self, tallyfy, context, clock):
        tallyfy.post(
            f"{API}/runs", [{"status_code": 502}, {"status_code": 201, "json": {"data": {"id": "r1"}}}]
        )
        began = clock.now
        assert operator().execute(context)["id"] == "r1"
        assert clock.now - began == launching.SETTLED_AFTER == sum(clock.pauses)
        assert len(looked(tallyfy)) == 2 * (len(clock.pauses) + 1) > 10
        assert len(sent(tallyfy)) == 2

    @pytest.mark.parametrize("is_killed", [False, True])
    def test_the_minute_begins_with_the_last_attempt_of_the_hook(
        self, tallyfy, context, clock, monkeypatch, is_killed
    ):
        """A 429 is waited out and tried again, so the one in doubt may have been sent much later than the first."""
        monkeypatch.setattr(transport, "time", SimpleNamespace(sleep=clock.sleep, monotonic=clock.time))
        sent_at = []

        def answer(status, **more):
            def answered(_request, response):
                sent_at.append(clock.now)
                response.status_code = status
                response.headers.update(more)
                return {"data": {"id": "r1"}}

            return {"json": answered}

        in_doubt = answer(502)
        if is_killed:
            in_doubt = {"exc": KeyboardInterrupt}
        declined = answer(429, **{"Retry-After": "90"})
        tallyfy.post(f"{API}/runs", [declined, in_doubt, answer(201)])
        if is_killed:
            with pytest.raises(KeyboardInterrupt):
                operator().execute(context)
            sent_at.append(clock.now)
            context["ti"].try_number = 2
        assert operator().execute(context)["id"] == "r1"
        first, doubtful, last = sent_at
        assert doubtful - first >= 90
        assert last - doubtful == launching.SETTLED_AFTER

    def test_twice_in_doubt_fails_and_the_next_try_looks_first(self, tallyfy, context, clock):
        tallyfy.post(f"{API}/runs", status_code=502)
        with pytest.raises(TallyfyIndeterminateError):
            operator().execute(context)
        assert len(sent(tallyfy)) == 2
        tallyfy.get(
            f"{API}/runs", json={"data": [self.found(context, datetime.fromtimestamp(clock.now, UTC))]}
        )
        context["ti"].try_number = 2
        assert operator().execute(context)["id"] == "r1"
        assert len(sent(tallyfy)) == 2

    def test_a_retry_soon_after_a_worker_was_killed_waits_for_the_rest_of_the_minute(
        self, tallyfy, context, clock
    ):
        tallyfy.post(f"{API}/runs", exc=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            operator().execute(context)
        clock.now += 20
        context["ti"].try_number = 2
        tallyfy.post(f"{API}/runs", status_code=201, json={"data": {"id": "r1"}})
        operator().execute(context)
        assert sum(clock.pauses) == launching.SETTLED_AFTER - 20

    def test_one_much_later_does_not_wait(self, tallyfy, context, clock):
        self.test_twice_in_doubt_fails_and_the_next_try_looks_first(tallyfy, context, clock)
        clock.pauses.clear()
        context["task_state_store"].kept["tallyfy_launch"].pop("run_id")
        clock.now += 3600
        operator().execute(context)
        assert clock.pauses == []


class TestMark:
    def test_it_is_of_the_task_instance(self, context):
        mark = launch_record.launch_mark(context, "launch", is_of_every_try=True)
        assert (mark.dag_id, mark.run_id, mark.task_id, mark.map_index) == (
            "onboarding",
            "manual__1",
            "launch",
            -1,
        )
        assert (mark.try_number, mark.deployment) == (None, "")

    def test_relaunch_makes_it_the_trys(self, tallyfy, context):
        operator(on_retry="relaunch").execute(context)
        context["ti"].try_number = 2
        operator(on_retry="relaunch").execute(context)
        first, second = sent(tallyfy)
        assert first["summary"] != second["summary"]
        assert looked(tallyfy) == []

    def test_every_call_by_hand_is_another(self, tallyfy):
        for _ in range(2):
            operator().execute({})
        assert len({body["summary"] for body in sent(tallyfy)}) == 2


class TestDefinition:
    def test_what_is_templated(self):
        parameters = set(inspect.signature(TallyfyLaunchRunOperator.__init__.__wrapped__).parameters)
        behaviour = {
            "on_retry",
            "wait_for_completion",
            "deferrable",
            "poke_interval",
            "timeout",
            "multiple_outputs",
        }
        assert set(TallyfyLaunchRunOperator.template_fields) == (
            parameters - behaviour - {"self", "kwargs"} | {"tallyfy_conn_id"}
        )

    def test_values_from_other_tasks_and_templates_within(self):
        with DAG("dag", schedule=None, start_date=RUN_AFTER):
            read = TallyfyGetRunOperator(task_id="read", run_id="r1")
            launch = operator(kickoff={"Name": read.output["name"], "Notes": ["{{ run_id }}"]})
        assert launch.upstream_task_ids == {"read"}

        launch.kickoff = {"Name": "{{ run_id }}", "Modules": ["{{ run_id }}", 5], "Start": RUN_AFTER}
        launch.render_template_fields({"run_id": "manual__1"})
        assert launch.kickoff == {"Name": "manual__1", "Modules": ["manual__1", 5], "Start": RUN_AFTER}

    def test_another_word_for_on_retry_is_refused_when_the_dag_is_parsed(self):
        with pytest.raises(ValueError, match="on_retry must be 'adopt' or 'relaunch', but is 'ignore'"):
            operator(on_retry="ignore")

    def test_each_field_is_an_output_of_its_own(self):
        assert operator().multiple_outputs is True
