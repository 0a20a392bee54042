"""A DAG run in Airflow 3's UI: the links to the process, the logs, the rendered templates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from airflow_provider_tallyfy.sandbox.access import TOKEN
from dev.airflow_api import IN_AIRFLOW_2

if TYPE_CHECKING:
    from conftest import Environment

    from dev.airflow_api import DagRun

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(IN_AIRFLOW_2, reason="these follow the pages of Airflow 3, and Airflow 2 has others"),
]

SOON = 90.0
DEFERRED = ("next_task", "task_done", "run_complete", "approval", "zero_worker")
LAUNCHED = ("launch", "complete")
POLL = (
    "1 of 3 tasks are done; 'Approve release' is open; with user 1002, group 5eed0007000000000000000000000001; "
    "due "
)


@dataclass(frozen=True)
class WaitingRun:
    """A process in the sandbox, and a DAG run with a task of every kind that is about it."""

    run_id: str
    dag_run: DagRun


@pytest.fixture(scope="module")
def waiting_run(environment: Environment) -> WaitingRun:
    run_id = environment.sandbox.launch("Release 2.5.0")
    environment.sandbox.complete_next(run_id)
    dag_run = environment.airflow.trigger("everything", {"run_id": run_id})
    for task_id in DEFERRED:
        dag_run.wait_for_task(task_id, "deferred", SOON)
    for task_id in ("read_run", "who", *LAUNCHED):
        dag_run.wait_for_task(task_id, "success", SOON)
    dag_run.wait_for_task("reschedule", "up_for_reschedule", SOON)
    return WaitingRun(run_id, dag_run)


@pytest.fixture
def open_task(page, waiting_run):
    """Open a task's page, at its log."""

    def open_at(task_id: str, *, dag_run: DagRun = waiting_run.dag_run) -> Any:
        page.goto(f"{dag_run.url}/tasks/{task_id}")
        page.get_by_role("link", name="Rendered Templates").wait_for()
        return page

    return open_at


def show(page, tab: str, text: str) -> None:
    """Open a tab of a task's page, and wait for a text in it."""
    page.get_by_role("link", name=tab, exact=True).click()
    page.get_by_text(text, exact=True).first.wait_for()


def follow_link(page) -> Any:
    """Click on the link to the process, and return the page that it opens."""
    show(page, "Details", "Task ID")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Tallyfy process").click()
    return opened.value


@pytest.mark.parametrize("task_id", [*DEFERRED, "reschedule", "read_run", *LAUNCHED])
def test_link_to_the_process(open_task, waiting_run, environment, task_id):
    run_id = waiting_run.run_id
    if task_id in LAUNCHED:
        run_id = waiting_run.dag_run.xcom("launch")["id"]
    process = follow_link(open_task(task_id))
    expect(process.locator(".process-header code")).to_contain_text(run_id)
    expect(process.get_by_role("heading", name=environment.sandbox.run(run_id)["name"])).to_be_visible()
    assert process.url.startswith(environment.sandbox.url)


def test_a_call_of_any_endpoint_has_no_link(open_task):
    page = open_task("who")
    show(page, "Details", "Task ID")
    expect(page.get_by_role("link", name="Tallyfy process")).to_have_count(0)


def test_each_mapped_task_has_its_own_link(open_task, environment):
    names = ["Release 3.1.0", "Release 3.2.0"]
    run_ids = [environment.sandbox.launch(name) for name in names]
    dag_run = environment.airflow.trigger("mapped", {"run_ids": run_ids})
    dag_run.wait_for_mapped_tasks("task_done", "deferred", number=2, timeout=SOON)
    for index, name in enumerate(names):
        process = follow_link(open_task(f"task_done/mapped/{index}", dag_run=dag_run))
        expect(process.get_by_role("heading", name=name)).to_be_visible()


@pytest.mark.parametrize("task_id", ["task_done", "approval", "zero_worker", "reschedule"])
def test_the_log_shows_the_state_of_the_process(open_task, task_id):
    expect(open_task(task_id).locator("[data-testid=virtualized-list]")).to_contain_text(POLL)


@pytest.mark.parametrize("task_id", ["next_task", "zero_worker", "who"])
def test_no_secret_is_on_a_page(open_task, task_id):
    page = open_task(task_id)
    tabs = {"Logs": "INFO", "Rendered Templates": "tallyfy_conn_id", "Details": "Task ID"}
    if task_id == "zero_worker":
        del tabs["Rendered Templates"]  # Airflow shows nowhere what its triggerer rendered
    for tab, text in tabs.items():
        show(page, tab, text)
        assert TOKEN not in page.content()


def test_rendered_templates_show_what_was_asked_for(open_task, waiting_run):
    page = open_task("launch")
    show(page, "Rendered Templates", "checklist_id")
    for text in ("kickoff", '"Version": "3.0.0"', f"Release {waiting_run.run_id[:4]}", "tallyfy_default"):
        expect(page.locator("table").filter(has_text="checklist_id")).to_contain_text(
            re.compile(re.escape(text))
        )
