"""A DAG run in Airflow 3's UI: the links to the process, the logs, the rendered templates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from airflow_provider_tallyfy.sandbox.access import TOKEN
from dev.airflow_api import IN_AIRFLOW_2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Environment
    from playwright.sync_api import BrowserContext, Page

    from dev.airflow_api import DagRun

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(IN_AIRFLOW_2, reason="these follow the pages of Airflow 3, and Airflow 2 has others"),
]

SOON = 90.0
DEFERRED = ("next_task", "task_done", "run_complete", "approval", "zero_worker")
LAUNCHED = ("launch", "complete")
SUCCESSFUL = ("read_run", "who", *LAUNCHED)
WAIT_FOR_A_TASK = ("task_done", "approval", "zero_worker", "reschedule")
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
    for task_id in SUCCESSFUL:
        dag_run.wait_for_task(task_id, "success", SOON)
    dag_run.wait_for_task("reschedule", "up_for_reschedule", SOON)
    return WaitingRun(run_id, dag_run)


@dataclass(frozen=True)
class TaskPage:
    """A task's page, on which each test opens the tab that it needs."""

    page: Page
    task_id: str

    def show(self, tab: str, text: str) -> None:
        """Open a tab, and wait for a text in it."""
        self.page.get_by_role("link", name=tab, exact=True).click()
        self.page.get_by_text(text, exact=True).first.wait_for()

    def follow_link(self) -> Page:
        """Click on the link to the process, and return the page that it opens."""
        self.show("Details", "Task ID")
        with self.page.context.expect_page() as opened:
            self.page.get_by_role("link", name="Tallyfy process").click()
        return opened.value


@pytest.fixture(scope="module", params=[*DEFERRED, "reschedule", *SUCCESSFUL])
def task_page(
    profile: BrowserContext, waiting_run: WaitingRun, request: pytest.FixtureRequest
) -> Iterator[TaskPage]:
    """Load a task's page once for all tests."""
    with profile.new_page() as page:
        page.goto(f"{waiting_run.dag_run.url}/tasks/{request.param}")
        yield TaskPage(page, request.param)


def test_log(task_page):
    task_page.show("Logs", "INFO")
    if task_page.task_id in WAIT_FOR_A_TASK:
        expect(task_page.page.locator("[data-testid=virtualized-list]")).to_contain_text(POLL)
    assert TOKEN not in task_page.page.content()


def test_rendered_templates(task_page, waiting_run):
    if task_page.task_id == "zero_worker":
        pytest.skip("Airflow shows nowhere what its triggerer rendered")
    task_page.show("Rendered Templates", "tallyfy_conn_id")
    if task_page.task_id == "launch":
        table = task_page.page.locator("table").filter(has_text="checklist_id")
        for text in ("kickoff", '"Version": "3.0.0"', f"Release {waiting_run.run_id[:4]}", "tallyfy_default"):
            expect(table).to_contain_text(text)
    assert TOKEN not in task_page.page.content()


def test_details_and_link_to_the_process(task_page, waiting_run, environment):
    task_page.show("Details", "Task ID")
    assert TOKEN not in task_page.page.content()
    if task_page.task_id == "who":  # a call of any endpoint
        expect(task_page.page.get_by_role("link", name="Tallyfy process")).to_have_count(0)
        return
    is_launched = task_page.task_id in LAUNCHED
    run_id = waiting_run.dag_run.xcom("launch")["id"] if is_launched else waiting_run.run_id
    with task_page.follow_link() as process:
        expect(process.locator(".process-header code")).to_contain_text(run_id)
        expect(process.get_by_role("heading", name=environment.sandbox.run(run_id)["name"])).to_be_visible()
        assert process.url.startswith(environment.sandbox.url)


def test_each_mapped_task_has_its_own_link(page, environment):
    names = ["Release 3.1.0", "Release 3.2.0"]
    run_ids = [environment.sandbox.launch(name) for name in names]
    dag_run = environment.airflow.trigger("mapped", {"run_ids": run_ids})
    dag_run.wait_for_mapped_tasks("task_done", "deferred", number=2, timeout=SOON)
    for index, name in enumerate(names):
        page.goto(f"{dag_run.url}/tasks/task_done/mapped/{index}")
        process = TaskPage(page, "task_done").follow_link()
        expect(process.get_by_role("heading", name=name)).to_be_visible()
