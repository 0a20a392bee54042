"""Sensors that start and end in the triggerer of a real Airflow, and what shows that no worker had them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from dev.processes import wait_until

if TYPE_CHECKING:
    from conftest import Site

pytestmark = pytest.mark.system

SOON = 60.0
RESULT = {"run_id", "from_task_id", "next_task", "run_status", "progress"}


def worker_of(instance: dict[str, Any]) -> tuple[Any, ...]:
    """Return the worker's traces in a task instance: queued for one, taken up by a process on a host."""
    return tuple(instance[trace] or None for trace in ("queued_when", "pid", "hostname"))


NO_WORKER = (None, None, None)


@pytest.mark.parametrize("way", ["output", "template"])
def test_sensor_occupies_no_worker_from_start_to_end(site: Site, way: str) -> None:
    wait = site.wait_in(f"zero_worker_{way}")
    assert worker_of(wait.until("deferred")) == NO_WORKER

    following = wait.moves_on()

    instance = wait.until("success")
    assert worker_of(instance) == NO_WORKER
    assert (instance["try_number"], instance["end_date"] is None) == (1, False)
    result = wait.result()
    assert set(result) == RESULT
    assert result["run_id"] == wait.run_id
    assert result["next_task"] == following
    assert wait.dag_run.extra_links("wait") == {"Tallyfy process": wait.sandbox.process_url(wait.run_id)}
    assert wait.dag_run.wait(SOON) == "success", wait.dag_run.failures()
    assert wait.dag_run.xcom("follow_up") == wait.first_id


def test_same_traces_show_the_worker_of_an_ordinary_deferred_sensor(site: Site) -> None:
    wait = site.wait_in("next_task_deferred")
    instance = wait.until("deferred")
    wait.complete_next()

    for traces in (worker_of(instance), worker_of(wait.until("success"))):
        assert None not in traces


def test_worker_only_starts_it(site: Site) -> None:
    wait = site.wait_in("zero_worker_not_at_the_start")
    started_in = worker_of(wait.until("deferred"))
    assert None not in started_in

    wait.moves_on()

    assert worker_of(wait.until("success")) == started_in
    assert wait.dag_run.wait(SOON) == "success", wait.dag_run.failures()


def test_worker_only_ends_it(site: Site) -> None:
    wait = site.wait_in("zero_worker_not_at_the_end")
    assert worker_of(wait.until("deferred")) == NO_WORKER

    wait.moves_on()

    assert None not in worker_of(wait.until("success"))
    assert wait.dag_run.extra_links("wait") == {"Tallyfy process": wait.sandbox.process_url(wait.run_id)}
    assert wait.dag_run.wait(SOON) == "success", wait.dag_run.failures()


def test_literal_arguments_need_no_rendering(site: Site) -> None:
    dag_run = site.airflow.trigger("zero_worker_literal")

    assert dag_run.wait(SOON) == "success", dag_run.failures()
    assert worker_of(dag_run.task("wait")) == NO_WORKER
    result = dag_run.xcom("wait")
    assert (result["run_id"], result["from_task_id"]) == (SEEDED_RUN_ID, "another-task")
    assert result["next_task"] == site.sandbox.next_task(SEEDED_RUN_ID)


def test_mapped_task_group_occupies_no_worker(site: Site) -> None:
    ids = [site.sandbox.launch(f"Grouped run {number}") for number in range(2)]
    dag_run = site.airflow.trigger("zero_worker_task_group", {"run_ids": ids})
    dag_run.wait_for_mapped_tasks("each_run.wait", "deferred", number=2, timeout=SOON)
    for run_id in ids:
        site.sandbox.complete_next(run_id)

    assert dag_run.wait(SOON) == "success", dag_run.failures()
    assert [worker_of(instance) for instance in dag_run.mapped_tasks("each_run.wait")] == [NO_WORKER] * 2


def test_mapped_sensor_starts_in_a_worker_and_waits_as_usual(site: Site) -> None:
    ids = [site.sandbox.launch(f"Mapped run {number}") for number in range(2)]
    dag_run = site.airflow.trigger("zero_worker_mapped", {"run_ids": ids})
    dag_run.wait_for_mapped_tasks("wait", "deferred", number=2, timeout=SOON)
    assert all(None not in worker_of(instance) for instance in dag_run.mapped_tasks("wait"))
    for run_id in ids:
        site.sandbox.complete_next(run_id)

    assert dag_run.wait(SOON) == "success", dag_run.failures()
    assert site.airflow.api.health()["triggerer"] == "healthy"


def test_param_without_a_default_does_not_end_the_triggerer(site: Site) -> None:
    wait = site.wait_in("zero_worker_required_param")
    assert None not in worker_of(wait.until("deferred"))

    wait.moves_on()

    assert site.airflow.api.health()["triggerer"] == "healthy"


def test_end_of_a_run_that_is_complete_already(site: Site) -> None:
    wait = site.wait_in("zero_worker_output", done=3)

    result = wait.result()

    assert (result["from_task_id"], result["next_task"], result["run_status"]) == (None, None, "complete")


def test_archived_run_fails_the_task_without_retries(site: Site) -> None:
    wait = site.wait_in("zero_worker_output")
    wait.until("deferred")

    wait.sandbox.archive(wait.run_id)

    instance = wait.until("failed")
    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert "archived" in wait.log()


def test_timeout_is_the_sensor_s_own(site: Site) -> None:
    wait = site.wait_in("zero_worker_timeout")
    assert worker_of(wait.until("deferred")) == NO_WORKER

    instance = wait.until("failed")

    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert "AirflowSensorTimeout" in wait.log()


def test_task_object_that_was_rendered_to_text_fails_the_task_with_a_reason(site: Site) -> None:
    wait = site.wait_in("zero_worker_no_task_object")

    wait.until("failed")

    assert "let the template end in ['next_task']['id']" in wait.log()


def test_wait_that_no_worker_started_outlives_its_triggerer(site: Site) -> None:
    wait = site.wait_in("zero_worker_output")
    wait.until("deferred")

    site.airflow.kill("triggerer")
    following = wait.complete_next()
    site.airflow.start("triggerer")

    assert following is not None
    result = wait.result()
    assert (result["from_task_id"], result["next_task"]["id"]) == (wait.first_id, following["id"])
    assert worker_of(wait.until("success")) == NO_WORKER


def test_wait_goes_on_for_what_it_began_with_although_the_xcoms_before_it_are_gone(site: Site) -> None:
    """As after a clear of the task before it; Airflow renders the arguments again when a triggerer is restarted."""
    wait = site.wait_in("zero_worker_output")
    wait.until("deferred")
    mine = (wait.dag_run.dag_id, wait.dag_run.dag_run_id)
    with closing(sqlite3.connect(site.airflow.home / "airflow.db", timeout=60)) as database:

        def keys() -> set[str]:
            query = "SELECT key FROM xcom WHERE dag_id = ? AND run_id = ?"
            return {key for (key,) in database.execute(query, mine)}

        wait_until(lambda: "tallyfy_rendered" in keys(), SOON, "the arguments to be kept")
        site.airflow.kill("triggerer")
        with database:
            database.execute(
                "DELETE FROM xcom WHERE dag_id = ? AND run_id = ? AND task_id = 'read_run'", mine
            )
    wait.complete_next()
    site.airflow.start("triggerer")
    assert wait.result()["from_task_id"] == wait.first_id
