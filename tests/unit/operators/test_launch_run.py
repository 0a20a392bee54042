from __future__ import annotations

import inspect
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.actions import attempts, launching
from airflow_provider_tallyfy.exceptions import (
    TallyfyIndeterminateError,
    TallyfyNotFoundError,
    TallyfyResponseError,
)
from airflow_provider_tallyfy.hooks import transport
from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator, TallyfyLaunchRunOperator
from tests.support.moved_time import MovedTime

API = "https://tallyfy.test/api/organizations/acme"
RUN_AFTER = datetime(2026, 1, 5, 12, tzinfo=UTC)
CHECKLIST = {
    "id": "c1",
    "prerun": [
        {"id": "f1", "alias": "name", "label": "Name", "field_type": "text", "required": True},
        {"id": "f2", "alias": "team", "label": "Team", "field_type": "assignees_form"},
    ],
    "steps": [{"id": "s1", "alias": "sign", "title": "Sign", "roles": [{"id": "role1"}]}],
}


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = MovedTime(RUN_AFTER.timestamp() + 3600)
    for module in (attempts, launching):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def _is_airflow_3_3(monkeypatch):
    """So that the rules of both are tried in each environment."""
    monkeypatch.setattr(version_compat, "AIRFLOW_V_3_3_PLUS", True)
    monkeypatch.setattr(attempts, "never_expire", lambda: None)


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


def list_queries(tallyfy):
    """The queries of the requests for lists of runs."""
    requests = [request for request in tallyfy.request_history if request.path.endswith("/runs")]
    return [request.qs for request in requests if request.method == "GET"]


class TestRequest:
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
            "roles": {"role1": {"users": [1001], "guests": [], "groups": []}},
            "folders": ["f1"],
            "parent_id": "r0",
        }
        assert summary.startswith(
            "Be kind.\n\nLaunched by Airflow: DAG onboarding, task launch, run manual__1 (airflow-"
        )

    def test_empty_arguments_are_not_sent(self, tallyfy, context):
        operator().execute(context)
        [body] = sent(tallyfy)
        assert set(body) == {"checklist_id", "prerun", "summary"}
        assert [request.path.rpartition("/acme/")[2] for request in tallyfy.request_history] == [
            "checklists/c1",
            "runs",
            "runs/r1",
        ]

    def test_one_error_names_all_mistakes_before_anything_is_sent(self, tallyfy, context):
        with pytest.raises(AirflowFailException) as error:
            operator(
                kickoff={"Nome": 1}, tasks={"Sing": {}}, name="x" * 551, users=["ben@example.com"]
            ).execute(context)
        message = str(error.value)
        assert message.startswith("Nothing was sent, since 5 things are wrong with the values:")
        parts = [
            "'Nome' is not a field",
            "'Name' (text) is required",
            "'Sing' is not a step",
            "name: it has 551",
        ]
        for part in [*parts, "users: 'ben@"]:
            assert part in message
        assert sent(tallyfy) == []
        assert context["task_state_store"].kept["tallyfy_launch"]["sent_at"] is None

    def test_summary_may_be_a_number(self, tallyfy, context):
        with pytest.raises(AirflowFailException, match="summary: "):
            operator(summary={"ticket": 4711}).execute(context)
        operator(summary=4711).execute(context)
        [body] = sent(tallyfy)
        assert body["summary"].startswith("4711\n\nLaunched by Airflow")

    def test_unreadable_template(self, tallyfy, context):
        tallyfy.get(f"{API}/checklists/c1", json={"data": {"id": "c1", "prerun": "no fields"}})
        with pytest.raises(TallyfyResponseError, match="template c1 cannot be read"):
            operator().execute(context)
        assert sent(tallyfy) == []

    def test_missing_template(self, tallyfy, context):
        tallyfy.get(f"{API}/checklists/c1", status_code=404, json={"message": "Not found"})
        with pytest.raises(TallyfyNotFoundError):
            operator().execute(context)


class TestStateStore:
    def test_attempt_is_stored_before_sending_and_the_run_after(self, tallyfy, context, clock):
        store, seen = context["task_state_store"], []
        tallyfy.post(
            f"{API}/runs",
            json=lambda *_: seen.append(json.loads(json.dumps(store.kept))) or {"data": {"id": "r1"}},
        )
        operator().execute(context)
        before = seen[0]["tallyfy_launch"]
        assert (before["began_at"], before["sent_at"], before.get("launched")) == (clock.now, clock.now, None)
        assert store.kept["tallyfy_launch"] == {**before, "launched": "r1"}

    def test_nothing_is_sent_if_the_attempt_cannot_be_stored(self, tallyfy, context):
        def fail(*_args, **_kwargs):
            raise RuntimeError("The store is down.")

        context["task_state_store"].set = fail
        with pytest.raises(RuntimeError):
            operator().execute(context)
        assert sent(tallyfy) == []

    def test_run_is_returned_if_it_cannot_be_stored(self, tallyfy, context, monkeypatch):
        store = context["task_state_store"]
        keep = store.set

        def keep_but_the_run(key, value, **more):
            if "launched" in value:
                raise RuntimeError("The store is down.")
            keep(key, value, **more)

        store.set = keep_but_the_run
        assert operator().execute(context)["id"] == "r1"

    def test_stored_run_is_returned_without_a_search(self, tallyfy, context):
        operator().execute(context)
        context["ti"].try_number = 2
        tallyfy.reset_mock()
        assert operator(kickoff={"no": "matter"}).execute(context)["id"] == "r1"
        assert [request.path.rpartition("/acme/")[2] for request in tallyfy.request_history] == ["runs/r1"]
        assert context["ti"].xcoms["tallyfy_run_url"].endswith("/processes/r1")

    def test_stored_value_is_plain_json(self, tallyfy, context):
        operator().execute(context)
        assert json.loads(json.dumps(context["task_state_store"].kept)) == context["task_state_store"].kept


class TestSearch:
    def found(self, context, created_at=RUN_AFTER):
        key = launching.idempotency_key(context, "launch", per_try=False)
        return {"id": "r1", "summary": key.note, "created_at": created_at.isoformat()}

    def test_first_try_does_not_search(self, tallyfy, context):
        operator().execute(context)
        assert list_queries(tallyfy) == []

    def test_first_try_that_runs_twice_searches(self, tallyfy, context, clock):
        tallyfy.post(f"{API}/runs", exc=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            operator().execute(context)
        tallyfy.get(f"{API}/runs", json={"data": [self.found(context)]})
        assert operator().execute(context)["id"] == "r1"
        assert len(sent(tallyfy)) == 1

    def test_later_try_searches_both_lists_before_it_sends(self, tallyfy, context):
        context["ti"].try_number = 2
        assert operator().execute(context)["id"] == "r1"
        filters = {
            "checklist_id": ["c1"],
            "sort": ["-created_at"],
            "with": ["next_task"],
            "per_page": ["100"],
            "page": ["1"],
        }
        queries = list_queries(tallyfy)
        assert queries[:2] == [{**filters, "archived": ["true"]}, {**filters, "status": ["archived"]}]
        assert queries == queries[:2] * 7
        assert len(sent(tallyfy)) == 1

    def test_found_run_is_returned_before_values_are_checked(self, tallyfy, context):
        context["ti"].try_number = 2
        tallyfy.get(f"{API}/runs", json={"data": [{"id": "r0"}, self.found(context)]})
        assert operator(kickoff={}).execute(context)["id"] == "r1"
        assert sent(tallyfy) == []
        assert context["task_state_store"].kept["tallyfy_launch"]["launched"] == "r1"

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
    def test_how_far_back_it_searches(self, tallyfy, context, dag_run, created_at, is_found):
        """No further than what clearing does not move; and to the beginning where nothing is known."""
        context["ti"].try_number = 2
        context["dag_run"] = dag_run
        older = {"id": "r0", "created_at": created_at.isoformat()}
        page = {"meta": {"pagination": {"total_pages": 2, "links": []}}}
        tallyfy.get(f"{API}/runs?archived=true&page=1", json={"data": [older], **page})
        tallyfy.get(
            f"{API}/runs?archived=true&page=2", json={"data": [self.found(context, created_at)], **page}
        )
        operator().execute(context)
        assert (sent(tallyfy) == []) is is_found

    def test_only_the_first_poll_reads_a_long_list(self, tallyfy, context, clock):
        context["ti"].try_number = 2
        context["dag_run"] = None
        clock.now += 2 * 3600
        page = {"meta": {"pagination": {"total_pages": 5, "links": []}}}
        old = {"id": "r0", "created_at": RUN_AFTER.isoformat()}
        tallyfy.get(f"{API}/runs", json={"data": [old], **page})
        # It was created just before the first poll, and is shown late, behind others that are newer.
        now = datetime.fromtimestamp(clock.now, UTC)
        newer = {"id": "r2", "created_at": (now + timedelta(seconds=1)).isoformat()}
        found = self.found(context, now - attempts.CLOCK_SKEW - timedelta(seconds=20))
        answers = [{"json": {"data": runs, **page}} for runs in ([old], [old], [old], [newer])]
        tallyfy.get(f"{API}/runs?archived=true&page=1", answers)
        tallyfy.get(
            f"{API}/runs?archived=true&page=2",
            [{"json": {"data": [old], **page}}, {"json": {"data": [found], **page}}],
        )
        assert operator().execute(context)["id"] == "r1"
        assert sent(tallyfy) == []
        read = [int(query["page"][0]) for query in list_queries(tallyfy) if "archived" in query]
        assert read == [1, 2, 3, 4, 5, 1, 1, 1, 2]

    def test_launch_without_answer_is_searched_for_a_minute(self, tallyfy, context, clock):
        tallyfy.post(
            f"{API}/runs", [{"status_code": 502}, {"status_code": 201, "json": {"data": {"id": "r1"}}}]
        )
        began = clock.now
        assert operator().execute(context)["id"] == "r1"
        assert clock.now - began == attempts.INDETERMINATE_WINDOW == sum(clock.pauses)
        assert len(list_queries(tallyfy)) == 2 * (len(clock.pauses) + 1) == 14
        assert len(sent(tallyfy)) == 2

    @pytest.mark.parametrize("is_killed", [False, True])
    def test_minute_begins_with_the_last_request_of_the_hook(
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
        assert last - doubtful == attempts.INDETERMINATE_WINDOW

    def test_second_launch_without_answer_fails_and_the_next_try_searches(self, tallyfy, context, clock):
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

    def test_retry_soon_after_a_kill_searches_for_a_minute(self, tallyfy, context, clock):
        tallyfy.post(f"{API}/runs", exc=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            operator().execute(context)
        clock.now += 20
        context["ti"].try_number = 2
        tallyfy.post(f"{API}/runs", status_code=201, json={"data": {"id": "r1"}})
        operator().execute(context)
        assert sum(clock.pauses) == attempts.INDETERMINATE_WINDOW

    def test_retry_hours_later_does_not_wait(self, tallyfy, context, clock):
        self.test_second_launch_without_answer_fails_and_the_next_try_searches(tallyfy, context, clock)
        clock.pauses.clear()
        context["task_state_store"].kept["tallyfy_launch"].pop("launched")
        clock.now += 2 * 3600
        operator().execute(context)
        assert clock.pauses == []


def dag_run(started=RUN_AFTER, run_after=RUN_AFTER, cleared=0):
    """A scheduled DAG run, which has the same run_after however often it is deleted and created again."""
    return SimpleNamespace(run_after=run_after, start_date=started, clear_number=cleared)


class TestDagRunCreatedAgain:
    """A DAG run that was deleted and created again with the same id launches a run of its own."""

    @pytest.fixture(params=[True, False], ids=["store", "no store"])
    def has_store(self, request, monkeypatch):
        monkeypatch.setattr(version_compat, "AIRFLOW_V_3_3_PLUS", request.param)
        return request.param

    @pytest.fixture
    def tallyfy(self, tallyfy):
        """A Tallyfy that keeps what it launches."""
        self.runs = []

        def launch(request, _response):
            created_at = datetime.now(UTC).isoformat()
            run = {**request.json(), "id": f"r{len(self.runs) + 1}", "created_at": created_at}
            self.runs.insert(0, run)
            tallyfy.get(f"{API}/runs/{run['id']}", json={"data": run})
            return {"data": run}

        tallyfy.post(f"{API}/runs", json=launch)
        tallyfy.get(f"{API}/runs", json=lambda *_: {"data": self.runs})
        return tallyfy

    def again(self, context, **more):
        """The DAG run was deleted, its state with it, and created again."""
        context["task_state_store"].kept.clear()
        context["dag_run"] = dag_run(**more)

    @pytest.mark.parametrize("first_try", [1, 2], ids=["first try", "a try before it sent nothing"])
    @pytest.mark.parametrize(
        "more",
        [
            {"started": RUN_AFTER + timedelta(seconds=1)},
            {"started": RUN_AFTER + timedelta(days=1)},
            {
                "started": RUN_AFTER + timedelta(days=1),
                "run_after": RUN_AFTER + timedelta(days=1),
                "cleared": 1,
            },
        ],
        ids=["a second later", "a day later", "triggered again and cleared"],
    )
    def test_run_of_a_deleted_dag_run_is_not_returned(self, tallyfy, context, has_store, first_try, more):
        context["dag_run"] = dag_run()
        assert operator().execute(context)["id"] == "r1"
        self.again(context, **more)
        context["ti"].try_number = first_try
        assert operator().execute(context)["id"] == "r2"
        context["ti"].try_number += 1
        assert operator().execute(context)["id"] == "r2"
        assert len(self.runs) == 2

    def test_launch_without_answer_does_not_return_it(self, tallyfy, context, has_store):
        context["dag_run"] = dag_run()
        operator().execute(context)
        self.again(context, started=RUN_AFTER + timedelta(seconds=5))
        tallyfy.post(f"{API}/runs", status_code=502)
        with pytest.raises(TallyfyIndeterminateError):
            operator().execute(context)

    @pytest.mark.parametrize("is_emptied", [False, True])
    def test_cleared_dag_run_finds_its_newest_run(self, tallyfy, context, has_store, is_emptied):
        context["dag_run"] = dag_run()
        operator().execute(context)
        self.again(context, started=RUN_AFTER + timedelta(hours=1))
        assert operator().execute(context)["id"] == "r2"
        context["dag_run"] = dag_run(RUN_AFTER + timedelta(hours=2), cleared=1)
        context["ti"].try_number = 2
        if is_emptied:
            context["task_state_store"].kept.clear()
        assert operator().execute(context)["id"] == "r2"
        assert len(self.runs) == 2

    def test_cleared_dag_run_that_sent_nothing_launches(self, tallyfy, context):
        context["dag_run"] = dag_run()
        operator().execute(context)
        self.again(context, started=RUN_AFTER + timedelta(hours=1))
        with pytest.raises(AirflowFailException):
            operator(kickoff={}).execute(context)
        context["dag_run"] = dag_run(RUN_AFTER + timedelta(hours=2), cleared=1)
        context["ti"].try_number = 2
        assert operator().execute(context)["id"] == "r2"

    def test_airflow_2_uses_the_database_row(self, tallyfy, context, monkeypatch):
        monkeypatch.setattr(version_compat, "AIRFLOW_V_3_3_PLUS", False)
        row = {"logical_date": RUN_AFTER, "data_interval_end": RUN_AFTER, "start_date": RUN_AFTER}
        context["dag_run"] = SimpleNamespace(id=7, clear_number=0, **row)
        operator().execute(context)
        context["ti"].try_number = 2
        context["dag_run"] = SimpleNamespace(id=8, clear_number=1, **row)
        assert operator().execute(context)["id"] == "r2"
        context["dag_run"] = SimpleNamespace(id=7, clear_number=1, **row)
        assert operator().execute(context)["id"] == "r1"

    def test_store_emptied_during_a_launch(self, tallyfy, context, clock):
        """What Tallyfy was still doing when the worker died shows up in the list some seconds later."""
        context["dag_run"] = dag_run()
        context["ti"].try_number = 2
        key = launching.idempotency_key(context, "launch", per_try=False)

        def runs(*_):
            return {"data": [{"id": "r9", "summary": key.note}] if sum(clock.pauses) > 20 else []}

        tallyfy.get(f"{API}/runs", json=runs)
        tallyfy.get(f"{API}/runs/r9", json={"data": {"id": "r9"}})
        assert operator().execute(context)["id"] == "r9"
        assert sent(tallyfy) == []


class TestClocks:
    @pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=300), timedelta(minutes=-59)])
    def test_clock_of_another_worker_does_not_matter(self, tallyfy, context, clock, ahead):
        """A worker whose clock is ahead, or behind, is killed; the next one waits for a minute, and polls seldom."""
        clock.now += ahead.total_seconds()
        tallyfy.post(f"{API}/runs", exc=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            operator().execute(context)
        clock.now -= ahead.total_seconds()
        context["ti"].try_number = 2
        tallyfy.post(f"{API}/runs", status_code=201, json={"data": {"id": "r1"}})
        operator().execute(context)
        assert sum(clock.pauses) == attempts.INDETERMINATE_WINDOW
        assert len(list_queries(tallyfy)) == 14

    def test_run_older_than_a_clock_that_was_ahead(self, tallyfy, context, clock):
        true_now = clock.now
        clock.now += 3 * 3600
        tallyfy.post(f"{API}/runs", exc=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            operator().execute(context)
        clock.now = true_now + 30
        key = launching.idempotency_key(context, "launch", per_try=False)
        created = datetime.fromtimestamp(true_now, UTC)
        pages = {"meta": {"pagination": {"total_pages": 2, "links": []}}}
        newer = {"id": "r2", "created_at": (created + timedelta(seconds=10)).isoformat()}
        own = {"id": "r1", "created_at": created.isoformat(), "summary": key.note}
        tallyfy.get(f"{API}/runs?page=1", json={"data": [newer], **pages})
        tallyfy.get(f"{API}/runs?page=2", json={"data": [own], **pages})
        context["ti"].try_number = 2
        assert operator().execute(context)["id"] == "r1"
        assert len(sent(tallyfy)) == 1


class TestReadBack:
    NOT_FOUND = {"status_code": 404, "json": {"message": "Not found"}}  # noqa: RUF012

    def test_lagging_read_is_repeated(self, tallyfy, context, clock):
        shown = {"json": {"data": {"id": "r1", "next_task": {"id": "t1"}}}}
        tallyfy.get(f"{API}/runs/r1", [self.NOT_FOUND, self.NOT_FOUND, shown])
        assert operator().execute(context) == {"id": "r1", "next_task": {"id": "t1"}}
        assert clock.pauses == [1, 2]

    @pytest.mark.parametrize(
        "answer",
        [
            NOT_FOUND,
            {"status_code": 403, "json": {"message": "Forbidden"}},
            {"json": {"data": {"next_task": "none"}}},
        ],
        ids=["404", "403", "unreadable"],
    )
    def test_unreadable_run_is_returned_as_the_launch_showed_it(self, tallyfy, context, answer):
        answered = {"id": "r1", "name": "Release", "next_task": {"data": [{"id": "t1"}]}}
        tallyfy.post(f"{API}/runs", status_code=201, json={"data": answered})
        tallyfy.get(f"{API}/runs/r1", **answer)
        assert operator().execute(context) == {**answered, "next_task": {"id": "t1"}}
        assert len(sent(tallyfy)) == 1

    def test_unreadable_run_is_returned_as_the_list_showed_it(self, tallyfy, context):
        context["ti"].try_number = 2
        key = launching.idempotency_key(context, "launch", per_try=False)
        listed = {"id": "r1", "summary": key.note, "next_task": [{"id": "t1"}]}
        tallyfy.get(f"{API}/runs", json={"data": [listed]})
        tallyfy.get(f"{API}/runs/r1", **self.NOT_FOUND)
        assert operator().execute(context) == {**listed, "next_task": {"id": "t1"}}

    def test_stored_run_that_is_gone(self, tallyfy, context, clock, monkeypatch):
        operator().execute(context)
        context["ti"].try_number = 2
        tallyfy.get(f"{API}/runs/r1", **self.NOT_FOUND)
        tallyfy.reset_mock()
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", "tallyfy://acme:another-token@tallyfy.test")
        launch = operator()
        assert launch.hook.connection.access_token == "another-token"
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", "tallyfy://acme:a-third-token@tallyfy.test")
        with pytest.raises(TallyfyNotFoundError):
            launch.execute(context)
        tokens = [request.headers["Authorization"] for request in tallyfy.request_history]
        assert tokens[0] == "Bearer another-token"
        assert set(tokens[1:]) == {"Bearer a-third-token"}
        assert len(tokens) >= 4
        assert sum(clock.pauses) >= 30

    def test_invalid_id_in_the_answer(self, tallyfy, context):
        tallyfy.post(f"{API}/runs", status_code=201, json={"data": {"id": "../me"}})
        with pytest.raises(TallyfyIndeterminateError):
            operator().execute(context)


ODD = {"id": "r1", "name": "a\0b \ud83d", "number": 2**70, "digits": 10**18 + 1, "next_task": None}
SANITIZED = {"id": "r1", "name": "a?b ?", "number": str(2**70), "digits": 10**18 + 1, "next_task": None}


@pytest.mark.parametrize("waits", [False, True])
def test_result_is_sanitized(tallyfy, context, waits):
    tallyfy.get(f"{API}/runs/r1", json={"data": {**ODD, "status": "complete"}})
    assert operator(wait_for_completion=waits).execute(context) == {**SANITIZED, "status": "complete"}


class TestRefused:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"tags": "one-id"}, r"tags: a list of ids was expected, such as \['one-id'\], not the text"),
            ({"folders": "a b"}, "folders: a list of ids was expected"),
            ({"tags": {"id": "t1"}}, "tags: a list of ids was expected"),
            ({"tags": [True]}, "tags: an id was expected, not true"),
            ({"tags": ["a/b"]}, "tags: an id was expected, not the text 'a/b'"),
            ({"parent_id": ["r0"]}, "parent_id: an id was expected"),
            ({"roles": ["role1"]}, "roles: a mapping such as"),
            (
                {"roles": {"role1": {"user": [1001]}}},
                "'role1': 'user' is none of the lists users, guests, groups",
            ),
            ({"roles": {"role1": {"users": ["unknown@x.example"]}}}, "'unknown@x.example' is not a member"),
            ({"owner_id": True}, "owner_id: "),
            ({"users": [True]}, "users: "),
            ({"checklist_id": "a/b"}, "checklist_id must be a Tallyfy id"),
        ],
    )
    def test_invalid_values_fail_without_retries(self, tallyfy, context, given, message):
        with pytest.raises(AirflowFailException, match=message):
            operator(**given).execute(context)
        assert sent(tallyfy) == []

    def test_unknown_role(self, tallyfy, context):
        steps = [{"id": "s1", "title": "Sign", "roles": [{"id": "role1"}]}, {"id": "s2", "title": "Pay"}]
        tallyfy.get(f"{API}/checklists/c1", json={"data": {**CHECKLIST, "steps": steps}})
        with pytest.raises(
            AirflowFailException,
            match="roles: 'role2' is not a role of the template\nThe roles are:\n  role1",
        ):
            operator(roles={"role2": {"users": [1001]}}).execute(context)
        operator(roles={"role1": {"users": [1001]}}).execute(context)
        [body] = sent(tallyfy)
        assert body["roles"] == {"role1": {"users": [1001], "guests": [], "groups": []}}

    @pytest.mark.parametrize("value", [None, "", ["c1"], {"id": "c1"}, RUN_AFTER, True, object()])
    def test_checklist_id_of_another_type(self, tallyfy, context, value):
        launch = operator()
        launch.checklist_id = value  # as a template may render it
        with pytest.raises(AirflowFailException, match="checklist_id must be a Tallyfy id"):
            launch.execute(context)
        assert tallyfy.request_history == []
        assert context["task_state_store"].kept == {}

    @pytest.mark.parametrize(
        "arguments",
        [{"wait_for_completion": "yes"}, {"deferrable": None}, {"on_retry": None}, {"on_retry": "ignore"}],
        ids=str,
    )
    def test_invalid_arguments_are_refused(self, arguments):
        [name] = arguments
        with pytest.raises(ValueError, match=f"Task 'launch': {name} must be "):
            operator(**arguments)

    @pytest.mark.parametrize("name", ["poke_interval", "timeout"])
    @pytest.mark.parametrize("value", [0, -1, True, "60", float("inf"), float("nan"), 1e300, timedelta(-1)])
    def test_invalid_poke_interval_and_timeout(self, tallyfy, context, name, value):
        with pytest.raises(ValueError, match=f"{name} must be a number of seconds above 0"):
            operator(wait_for_completion=True, **{name: value})
        launch = operator(wait_for_completion=True)
        setattr(launch, name, value)  # as a cluster policy may
        with pytest.raises(AirflowFailException, match=f"{name} must be a number of seconds above 0"):
            launch.execute(context)
        assert tallyfy.request_history == []


class TestIdempotencyKey:
    def test_key_of_the_task_instance(self, context):
        key = launching.idempotency_key(context, "launch", per_try=False)
        assert (key.dag_id, key.run_id, key.task_id, key.map_index) == (
            "onboarding",
            "manual__1",
            "launch",
            -1,
        )
        assert (key.try_number, key.callback) == (None, "")

    def test_relaunch_has_a_key_for_each_try(self, tallyfy, context):
        operator(on_retry="relaunch").execute(context)
        context["ti"].try_number = 2
        operator(on_retry="relaunch").execute(context)
        first, second = sent(tallyfy)
        assert first["summary"] != second["summary"]
        assert list_queries(tallyfy) == []

    def test_each_call_without_airflow_has_a_key_of_its_own(self, tallyfy):
        for _ in range(2):
            operator().execute({})
        assert len({body["summary"] for body in sent(tallyfy)}) == 2


class TestDefinition:
    def test_template_fields(self):
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

    def test_outputs_and_nested_templates(self):
        with DAG("dag", schedule=None, start_date=RUN_AFTER):
            read = TallyfyGetRunOperator(task_id="read", run_id="r1")
            launch = operator(kickoff={"Name": read.output["name"], "Notes": ["{{ run_id }}"]})
        assert launch.upstream_task_ids == {"read"}

        launch.kickoff = {"Name": "{{ run_id }}", "Modules": ["{{ run_id }}", 5], "Start": RUN_AFTER}
        launch.render_template_fields({"run_id": "manual__1"})
        assert launch.kickoff == {"Name": "manual__1", "Modules": ["manual__1", 5], "Start": RUN_AFTER}

    def test_multiple_outputs_by_default(self):
        assert operator().multiple_outputs is True
