"""One DAG with its waits deferred in a real Airflow, of whichever version this Python has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Site

pytestmark = pytest.mark.system

WAITS = ("wait_to_end_in_a_worker", "wait_to_end_in_the_triggerer", "wait_until_complete")
SOON = 90.0


def test_deferred_waits_end_and_what_follows_gets_their_results(site: Site) -> None:
    sandbox = site.sandbox
    run_id = sandbox.launch("Run for every Airflow")
    first = sandbox.next_task(run_id)
    dag_run = site.airflow.trigger("every_airflow", {"run_id": run_id})
    for wait in WAITS:
        dag_run.wait_for_task(wait, "deferred", SOON)
        assert dag_run.extra_links(wait) == {"Tallyfy process": sandbox.process_url(run_id)}

    second = sandbox.complete_next(run_id)
    for wait in WAITS[:2]:
        dag_run.wait_for_task(f"gist_of_{wait}", "success", SOON)
        assert first is not None
        assert second is not None
        assert dag_run.xcom(f"gist_of_{wait}") == [first["id"], second["id"]]
    assert dag_run.task("wait_until_complete")["state"] == "deferred"

    while sandbox.complete_next(run_id):
        pass
    assert dag_run.wait(SOON) == "success"
    assert dag_run.xcom("wait_until_complete")["status"] == "complete"
    assert dag_run.xcom("read_again")["next_task"] is None
    assert dag_run.xcom("wait_at_the_end")["next_task"] is None
