"""
TallyfyNextTaskSensor in a real Airflow, where scheduler, triggerer and workers are processes of their own.

What other tests tell apart by moving a clock happens here for real, so each test takes some seconds.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_tallyfy.sandbox.access import TOKEN
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION

if TYPE_CHECKING:
    from conftest import Site, Wait

    from dev.real_airflow import RealAirflow

pytestmark = pytest.mark.system

OUTAGE = 60.0
SOON = 60.0


@pytest.fixture(scope="module")
def outage(site: Site) -> tuple[Wait, float]:
    """A wait that lost Tallyfy, and the time when it did."""
    wait = site.wait_in("next_task_deferred_outage")
    wait.until("deferred")
    site.forwarder.close()
    return wait, time.monotonic()


@pytest.fixture(scope="module", autouse=True)
def _waits_are_begun(site: Site, outage: tuple[Wait, float]) -> None:
    """Begin the outage before the first test, for its minute to pass meanwhile, and the waits that hold no worker."""
    ways = (
        "deferred_timeout",
        "deferred_soft_fail",
        "reschedule",
        "reschedule_first_look",
        *["deferred"] * 6,
    )
    for way in ways:
        site.begin(f"next_task_{way}")
    site.begin("next_task_deferred", done=2)
    site.begin("next_task_deferred_object", sandbox=site.object_sandbox, done=2)


def test_completed_task_wakes_the_deferred_sensor(site: Site) -> None:
    wait = site.wait_in("next_task_deferred")
    wait.until("deferred")

    wait.moves_on()


@pytest.mark.parametrize("shape", ["collection", "object"])
def test_end_of_the_run_wakes_the_deferred_sensor(site: Site, shape: str) -> None:
    dag_id, sandbox = {
        "collection": ("next_task_deferred", site.sandbox),
        "object": ("next_task_deferred_object", site.object_sandbox),
    }[shape]
    wait = site.wait_in(dag_id, sandbox=sandbox, done=2)
    wait.until("deferred")

    assert wait.complete_next() is None

    result = wait.result()
    assert result["from_task_id"] == wait.first_id
    assert result["next_task"] is None
    assert result["run_status"] == "complete"


def test_result_has_the_documented_keys_and_no_others(site: Site) -> None:
    wait = site.wait_in("next_task_deferred")
    wait.until("deferred")
    following = wait.complete_next()
    run = wait.sandbox.run(wait.run_id)

    result = wait.result()

    assert set(result) == {"run_id", "from_task_id", "next_task", "run_status", "progress"}
    assert result["run_id"] == wait.run_id
    assert result["from_task_id"] == wait.first_id
    assert result["next_task"] == following
    assert result["run_status"] == run["status"]
    assert result["progress"] == run["progress"]


def test_reschedule_notices_a_change_between_two_pokes(site: Site) -> None:
    wait = site.wait_in("next_task_reschedule")
    wait.until("up_for_reschedule")

    wait.moves_on()


def test_first_look_is_kept_over_a_reschedule_and_forgotten_after_success(site: Site) -> None:
    wait = site.wait_in("next_task_reschedule_first_look")
    wait.until("up_for_reschedule")

    following = wait.moves_on()
    # Airflow may lose a clearing that meets the end of the DAG run.
    assert wait.dag_run.wait(SOON) == "success"

    wait.dag_run.clear("wait")  # waits anew now, to move on from the task that is next by now
    wait.until("up_for_reschedule")
    wait.complete_next()
    wait.until("success")
    assert wait.dag_run.xcom("wait")["from_task_id"] == following["id"]


def test_poke_mode_notices_a_change(site: Site) -> None:
    wait = site.wait_in("next_task_poke")
    wait.until("running")

    wait.moves_on()


def test_mapped_sensors_keep_a_baseline_each(site: Site) -> None:
    ids = [site.sandbox.launch(f"Mapped run {number}") for number in range(3)]
    first = {run_id: site.sandbox.next_task(run_id) for run_id in ids}
    dag_run = site.airflow.trigger("next_task_mapped", {"run_ids": ids})
    dag_run.wait_for_mapped_tasks("wait_each", "deferred", number=3, timeout=60)

    for run_id in reversed(ids):
        site.sandbox.complete_next(run_id)

    assert dag_run.wait(timeout=90) == "success", dag_run.failures()
    assert dag_run.xcom("collect") == {run_id: task and task["id"] for run_id, task in first.items()}


def test_run_that_is_complete_ends_the_wait_at_once(site: Site) -> None:
    wait = site.wait_in("next_task_deferred", done=3)

    result = wait.result()

    assert wait.dag_run.xcom("read_run")["next_task"] is None
    assert result["from_task_id"] is None
    assert result["next_task"] is None
    assert result["run_status"] == "complete"


def test_archived_run_fails_the_task_without_retries(site: Site) -> None:
    wait = site.wait_in("next_task_deferred")
    wait.until("deferred")

    wait.sandbox.archive(wait.run_id)

    instance = wait.until("failed")
    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert "archived" in wait.log()


def test_deleted_run_fails_the_task_without_retries(site: Site) -> None:
    wait = site.wait_in("next_task_deferred")
    wait.until("deferred")

    wait.sandbox.archive(wait.run_id)
    wait.sandbox.delete(wait.run_id)

    instance = wait.until("failed")
    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert wait.run_id in wait.log()


def test_timeout_fails_the_deferred_task_as_any_sensor_timeout_does(site: Site) -> None:
    wait = site.wait_in("next_task_deferred_timeout")

    instance = wait.until("failed")

    assert (instance["try_number"], instance["max_tries"]) == (1, 2)
    assert "AirflowSensorTimeout" in wait.log()


def test_timeout_with_soft_fail_skips_the_deferred_task(site: Site) -> None:
    site.wait_in("next_task_deferred_soft_fail").until("skipped")


def test_get_run_pushes_the_run_and_links_to_it(site: Site) -> None:
    wait = site.wait_in("next_task_poke")
    wait.dag_run.wait_for_task("read_run", "success", 60)

    run = wait.dag_run.xcom("read_run")
    link = wait.dag_run.extra_links("read_run")
    wait.complete_next()
    wait.until("success")

    assert run["id"] == wait.run_id
    assert run["next_task"]["id"] == wait.first_id
    assert link == {"Tallyfy process": f"{site.sandbox.url}/{ORGANIZATION}/processes/{wait.run_id}"}


def test_deferred_sensor_outlives_an_outage(site: Site, outage: tuple[Wait, float]) -> None:
    wait, began = outage
    time.sleep(max(0.0, began + OUTAGE - time.monotonic()))
    assert wait.dag_run.task("wait")["state"] == "deferred"

    site.forwarder.open()
    wait.moves_on()


def test_deferred_sensor_outlives_its_triggerer(site: Site) -> None:
    wait = site.wait_in("next_task_deferred")
    wait.until("deferred")

    site.airflow.kill("triggerer")
    following = wait.complete_next()
    site.airflow.start("triggerer")

    assert following is not None
    result = wait.result()
    assert result["from_task_id"] == wait.first_id
    assert result["next_task"]["id"] == following["id"]


def test_token_is_in_no_log_nor_in_the_database(site: Site) -> None:
    """Last, to see what all the tests before have left behind."""
    wait = site.wait_in("next_task_deferred")
    wait.until("deferred")
    triggers = _triggers(site.airflow)
    wait.complete_next()
    wait.until("success")

    assert wait.run_id in triggers
    assert TOKEN not in triggers
    files = [path for path in site.airflow.home.rglob("*") if path.is_file()]
    assert any(wait.run_id.encode() in path.read_bytes() for path in files if path.suffix == ".log")
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []


def _triggers(airflow: RealAirflow) -> str:
    """Return the arguments of all triggers in the metadata database, which keeps them as plain JSON."""
    return "\n".join(arguments for (arguments,) in airflow.rows("SELECT kwargs FROM trigger"))


def test_marking_or_clearing_a_wait_leaves_the_process_alone(site: Site) -> None:
    """As docs/waiting.md has it, under "Mark, clear or delete a task that waits"."""
    failed, succeeded, cleared = waits = [site.wait_in("next_task_deferred") for _ in range(3)]
    for wait in waits:
        wait.until("deferred")

    failed.dag_run.set_task_state("wait", "failed")
    succeeded.dag_run.set_task_state("wait", "success")
    cleared.dag_run.clear("wait")

    assert (failed.dag_run.wait(SOON), succeeded.dag_run.wait(SOON)) == ("failed", "success")
    cleared.until("deferred")
    for wait in waits:
        run = wait.sandbox.run(wait.run_id)
        assert (run["status"], run["archived_at"]) == ("active", None)
        assert wait.complete_next() is not None
    cleared.until("success")
    assert cleared.dag_run.xcom("wait")["from_task_id"] == cleared.first_id
    assert failed.dag_run.task("wait")["state"] == "failed"
    assert succeeded.dag_run.task("wait")["state"] == "success"
