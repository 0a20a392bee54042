"""The event that a callback reports: it has one idempotency key, whoever calls back, and no other event has it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import partial
from types import MappingProxyType, SimpleNamespace
from uuid import UUID, uuid4

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator

from airflow_provider_tallyfy.notifications.callback import LOOKBACK, Callback, CallbackKind
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_0_PLUS

STARTED = datetime(2026, 1, 5, 12, 0, 0, 123456, tzinfo=UTC)
FIELDS = {"checklist_id": "c1", "name": "{{ dag.dag_id }} failed"}
IDS = {"dag_id": "ingest", "run_id": "manual__1", "task_id": "load", "map_index": -1, "try_number": 1}


def capturing(value):
    def again(count):
        return again(count - 1) if count else value

    return again


def context_of(state="failed", *, started=STARTED, more=None, **ids):
    """Return a context as a worker has it."""
    ti = SimpleNamespace(**{**IDS, **ids}, state=state, start_date=STARTED)
    dag_run = SimpleNamespace(dag_id=ti.dag_id, run_id=ti.run_id, start_date=started)
    context = {"ti": ti, "dag_run": dag_run, "run_id": ti.run_id, "dag": SimpleNamespace(dag_id=ti.dag_id)}
    if state in ("failed", "up_for_retry"):
        context["exception"] = ValueError("The file is empty.")
    return {**context, **(more or {})}


def processor_context(**ids):
    """Return the context of the same failure in Airflow 3's DAG processor."""
    ti = SimpleNamespace(**{**IDS, **ids})
    dag_run = SimpleNamespace(dag_id=ti.dag_id, run_id=ti.run_id, start_date=STARTED)
    return {"ti": ti, "dag_run": dag_run, "run_id": ti.run_id, "dag": SimpleNamespace(dag_id=ti.dag_id)}


def dag_context(reason="task_failure", **given):
    return context_of(more={"reason": reason}, **given)


def deadline_context(deadline_id="d1", run_id="manual__1"):
    return {
        "dag_run": {"dag_id": "ingest", "dag_run_id": run_id, "start_date": "2026-01-05T12:00:00Z"},
        "deadline": {"id": deadline_id, "deadline_time": "2026-01-05T13:00:00Z"},
    }


class Color(Enum):
    RED = 1
    BLUE = 2


def key(context, fields=FIELDS):
    return Callback.from_context(context).idempotency_key(fields).value


@pytest.mark.parametrize(
    ("context", "kind"),
    [
        (context_of("running"), CallbackKind.EXECUTE),
        (context_of(None), CallbackKind.EXECUTE),  # of Airflow 3, where it has no state while it runs
        (context_of("success", more={"exception": None}), CallbackKind.SUCCESS),
        (context_of("skipped"), CallbackKind.SKIPPED),
        (context_of("failed"), CallbackKind.FAILURE),
        (context_of("up_for_retry"), CallbackKind.FAILURE),
        (context_of("queued"), CallbackKind.FAILURE),  # stuck in the queue
        (processor_context(), CallbackKind.FAILURE),
        (dag_context("success"), CallbackKind.DAG_SUCCESS),
        (dag_context("task_failure"), CallbackKind.DAG_FAILURE),
        (dag_context("timed_out"), CallbackKind.DAG_FAILURE),
        (deadline_context(), CallbackKind.DEADLINE),
        ({"dag": None, "task_list": "", "blocking_tis": []}, CallbackKind.SLA),
    ],
)
def test_kind(context, kind):
    assert Callback.from_context(context).kind is kind


class TestOneEvent:
    @pytest.mark.parametrize("state", ["failed", "up_for_retry"])
    def test_worker_and_dag_processor_report_one_failure(self, state):
        assert key(context_of(state)) == key(processor_context())

    def test_time_zone_does_not_matter(self):
        moved = STARTED.astimezone(timezone(timedelta(hours=5)))
        assert key(context_of(started=moved)) == key(context_of())

    def test_no_map_index_is_not_mapped(self):
        assert key(context_of(map_index=None)) == key(context_of())

    def test_dag_run_fails_once_whichever_task_failed_last(self):
        assert key(dag_context(task_id="load")) == key(dag_context(task_id="extract", try_number=3))

    def test_deadline_is_missed_once(self):
        assert key(deadline_context()) == key(deadline_context())

    def test_memory_addresses_and_order_of_sets_do_not_matter(self):
        assert key(context_of(), {"a": object()}) == key(context_of(), {"a": object()})
        assert key(context_of(), {"a": {"x", "y"}}) == key(context_of(), {"a": {"y", "x"}})

    def test_path_of_the_dag_file_and_lines_before_do_not_matter(self):
        def keys(path, before):
            module = {"__name__": f"unusual_prefix_{path * 40}_dag"}
            code = f"{before}def first(**_): pass\nsecond, third = lambda **_: 2, lambda **_: 3"
            exec(code, module)  # noqa: S102 - as Airflow loads it
            return {key(context_of(), {"a": module[name]}) for name in ("first", "second", "third")}

        assert len(keys("a", "")) == 3
        assert keys("a", "") == keys("b", "import os\n")

    def test_start_without_time_zone_is_in_utc(self):
        recent = datetime.now(UTC) - timedelta(hours=1)
        naive = context_of(started=recent.replace(tzinfo=None))
        assert Callback.from_context(naive).since == recent
        assert key(naive) == key(context_of(started=recent))

    @pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has one kind of task instance")
    def test_airflows_own_contexts(self):
        from airflow.sdk.api.datamodels._generated import TIRunContext
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        with DAG("ingest", schedule=None):
            task = BaseOperator(task_id="load")
        dag_run = SimpleNamespace(
            **dict.fromkeys(("conf", "logical_date", "partition_key", "partition_date")),
            dag_id="ingest",
            run_id="manual__1",
            run_type="manual",
            run_after=STARTED,
            start_date=STARTED,
            consumed_asset_events=[],
        )
        from_server = TIRunContext.model_construct(dag_run=dag_run, max_tries=0, task_reschedule_count=0)

        def context(**more):
            ti = RuntimeTaskInstance.model_construct(
                **IDS, id=uuid4(), task=task, _ti_context_from_server=from_server, **more
            )
            return dict(ti.get_template_context())

        in_processor = context()
        running = context(start_date=STARTED)
        in_worker = context(start_date=STARTED, state="failed") | {"exception": ValueError("Empty.")}
        kinds = [Callback.from_context(each).kind for each in (in_processor, running, in_worker)]
        assert kinds == [CallbackKind.FAILURE, CallbackKind.EXECUTE, CallbackKind.FAILURE]
        assert key(in_processor) == key(in_worker) == key(context_of())


@pytest.mark.parametrize(
    "others",
    [
        [context_of(), context_of(dag_id="other"), context_of(run_id="manual__2"), context_of(task_id="x")],
        [context_of(), context_of(map_index=0), context_of(map_index=1)],
        [context_of(try_number=1), context_of(try_number=2)],
        [context_of("failed"), context_of("success"), context_of("skipped"), context_of("running")],
        [context_of(), dag_context(), dag_context("success")],
        [dag_context(), dag_context(started=STARTED + timedelta(hours=1))],  # cleared, and failed again
        [context_of(), context_of(started=STARTED + timedelta(days=1))],  # deleted, and another of this id
        [deadline_context(), deadline_context("d2"), deadline_context(run_id="manual__2")],
        [{}, {}],  # by hand, where nothing distinguishes two calls
        # Nor does it here, where Airflow 3 gives no DAG run.
        [{"dag": SimpleNamespace(dag_id="ingest"), "run_id": "manual__1", "reason": "task_failure"}] * 2,
    ],
)
def test_each_event_has_a_key_of_its_own(others):
    assert len({key(context) for context in others}) == len(others)


def test_each_notifier_has_a_key_of_its_own():
    assert key(context_of()) != key(context_of(), {**FIELDS, "name": "For the customer"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (date(2026, 1, 5), date(2026, 1, 6)),
        (STARTED, STARTED + timedelta(seconds=1)),
        (time(12), time(13)),
        (timedelta(1), timedelta(2)),
        (Decimal("1.5"), Decimal("1.6")),
        (UUID(int=1), UUID(int=2)),
        (Color.RED, Color.BLUE),
        ({"a", "b"}, {"a", "c"}),
        ({date(2026, 1, 5)}, {date(2026, 1, 6)}),
        (MappingProxyType({"a": 1}), MappingProxyType({"a": 2})),
        (lambda **_: "a", lambda **_: "b"),
        (lambda **_: {"a", "b"} & {1}, lambda **_: {"a", "c"} & {1}),
        (lambda context: context["ti"].start, lambda context: context["ti"].end),
        (lambda **_: [1 for _ in "a"], lambda **_: [2 for _ in "a"]),
        (lambda a="a": a, lambda a="b": a),
        (lambda *, a="a": a, lambda *, a="b": a),
        (capturing("a"), capturing("b")),
        (capturing(key), capturing(context_of)),
        (partial(key, 1), partial(key, 2)),
        (key, context_of),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_value_has_a_key_of_its_own(one, other):
    assert key(context_of(), {"a": [one]}) != key(context_of(), {"a": [other]})
    assert key(context_of(), {"a": [one]}) == key(context_of(), {"a": [one]})


def test_note():
    shown = [
        Callback.from_context(context).idempotency_key(FIELDS).note.partition(" (")[0]
        for context in (context_of(map_index=3, try_number=2), dag_context(), deadline_context())
    ]
    assert shown == [
        "Launched by Airflow: DAG ingest, task load [3], run manual__1, try 2",
        "Launched by Airflow: DAG ingest, run manual__1",
        "Launched by Airflow: DAG ingest, run manual__1",
    ]


def test_how_far_back_an_earlier_process_is_searched_for():
    now = datetime.now(UTC)
    recent = now - timedelta(hours=1)
    assert Callback.from_context(context_of(started=recent)).since == recent
    for context in (context_of(started=now - timedelta(days=60)), context_of(started=None), {}):
        since = Callback.from_context(context).since
        assert abs(now - LOOKBACK - since) < timedelta(minutes=1)
