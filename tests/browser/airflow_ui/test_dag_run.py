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
LOOK = (
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
    for task_id in ("read_run", "launch", "complete", "who"):
        dag_run.wait_for_task(task_id, "success", SOON)
    dag_run.wait_for_task("reschedule", "up_for_reschedule", SOON)
    return WaitingRun(run_id, dag_run)


@pytest.fixture
def look_at(page, waiting_run):
    """Open a task's page, at one of its tabs."""

    def look(task_id: str, tab: str = "", *, dag_run: DagRun = waiting_run.dag_run) -> Any:
        page.goto(f"{dag_run.url}/tasks/{task_id}{tab}")
        page.get_by_role("link", name="Rendered Templates").wait_for()
        return page

    return look


@pytest.mark.parametrize("task_id", [*DEFERRED, "reschedule", "read_run"])
def test_the_link_leads_to_the_process_also_while_it_is_waited_for(
    look_at, waiting_run, environment, task_id
):
    page = look_at(task_id, "/details")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Tallyfy process").click()
    expect(opened.value.get_by_role("heading", name="Release 2.5.0")).to_be_visible()
    expect(opened.value.locator(".process-header code")).to_contain_text(waiting_run.run_id)
    assert opened.value.url.startswith(environment.sandbox.url)


@pytest.mark.parametrize("task_id", ["launch", "complete"])
def test_the_link_leads_to_the_process_that_was_launched(look_at, waiting_run, task_id):
    launched = waiting_run.dag_run.xcom("launch")["id"]
    page = look_at(task_id, "/details")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Tallyfy process").click()
    expect(opened.value.locator(".process-header code")).to_contain_text(launched)


def test_a_call_of_any_endpoint_has_no_link(look_at):
    page = look_at("who", "/details")
    expect(page.get_by_text("Task ID", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Tallyfy process")).to_have_count(0)


def test_each_mapped_task_has_its_own_link(look_at, environment):
    names = ["Release 3.1.0", "Release 3.2.0"]
    run_ids = [environment.sandbox.launch(name) for name in names]
    dag_run = environment.airflow.trigger("mapped", {"run_ids": run_ids})
    dag_run.wait_for_mapped_tasks("task_done", "deferred", number=2, timeout=SOON)
    for index, name in enumerate(names):
        page = look_at(f"task_done/mapped/{index}", "/details", dag_run=dag_run)
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Tallyfy process").click()
        expect(opened.value.get_by_role("heading", name=name)).to_be_visible()


@pytest.mark.parametrize("task_id", ["task_done", "approval", "zero_worker", "reschedule"])
def test_the_log_tells_of_a_wait_in_plain_lines(look_at, task_id):
    page = look_at(task_id)
    log = page.locator("[data-testid=virtualized-list]")
    expect(log).to_contain_text(LOOK)


@pytest.mark.parametrize(
    ("task_id", "tab", "text"),
    [
        ("next_task", "", "INFO"),
        ("next_task", "/rendered_templates", "tallyfy_conn_id"),
        ("next_task", "/details", "Task ID"),
        ("zero_worker", "", "INFO"),  # Airflow shows nowhere what its triggerer rendered
        ("zero_worker", "/details", "Task ID"),
        ("who", "", "INFO"),
        ("who", "/rendered_templates", "tallyfy_conn_id"),
    ],
)
def test_no_secret_is_on_a_page(look_at, task_id, tab, text):
    page = look_at(task_id, tab)
    page.get_by_text(text, exact=True).first.wait_for()
    assert TOKEN not in page.content()


def test_rendered_templates_show_what_was_asked_for(look_at, waiting_run):
    page = look_at("launch", "/rendered_templates")
    for text in ("kickoff", '"Version": "3.0.0"', f"Release {waiting_run.run_id[:4]}", "tallyfy_default"):
        expect(page.locator("table").filter(has_text="checklist_id")).to_contain_text(
            re.compile(re.escape(text))
        )
