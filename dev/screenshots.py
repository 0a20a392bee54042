"""
``make screenshots``: the pictures of the README and the documentation, taken of the real thing by a headless Chromium.

In Airflow 2.11 it takes the one picture that is of Airflow 2, the connection form.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from dev.airflow_api import IN_AIRFLOW_2
from dev.chromium import running_chromium
from dev.connection_form import connection_form
from dev.demo import DEFAULT_DAG, EXAMPLES
from dev.real_airflow import RealAirflow
from dev.sandbox import running_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Page

    from dev.airflow_api import DagRun

IMAGES = Path(__file__).parents[1] / "docs" / "images"


@contextmanager
def browser() -> Iterator[BrowserContext]:
    """Give a window of the installed Chromium, in the size of the pictures."""
    with (
        running_chromium() as chromium,
        chromium.new_context(viewport={"width": 1280, "height": 720}) as context,
    ):
        yield context


def take_grid(context: BrowserContext, dag_run: DagRun, path: Path) -> None:
    """Take the DAG run in Airflow's UI: the grid beside the list of task instances."""
    page = context.new_page()
    page.goto(dag_run.url)
    page.get_by_text("Deferred", exact=True).first.wait_for()
    _take(page, path)


def take_graph(context: BrowserContext, dag_run: DagRun, path: Path) -> None:
    """Take the DAG run in Airflow's UI: its graph."""
    page = context.new_page()
    page.add_init_script("localStorage.setItem('default_dag_view', JSON.stringify('graph'))")
    page.goto(dag_run.url)
    page.locator(".react-flow__node", has_text="Deferred").first.wait_for()
    _take(page, path)


def take_sandbox(context: BrowserContext, url: str, path: Path) -> None:
    """Take the sandbox's page with the process open that the DAG waits for."""
    page = context.new_page()
    page.set_viewport_size({"width": 1280, "height": 900})  # room for the approval's buttons
    page.goto(url)
    page.get_by_role("heading", name="Approve release").wait_for()
    _take(page, path)


def take_form(context: BrowserContext, url: str, path: Path) -> None:
    """Take the form for a connection, as it is before anything is filled in."""
    page = context.new_page()
    page.set_viewport_size({"width": 1000, "height": 1600})  # room for all of it
    form = connection_form(page, url)
    form.open_new("tallyfy_default")
    if IN_AIRFLOW_2:
        # The box with the same as JSON takes a third of the picture and adds nothing.
        page.locator(".CodeMirror").evaluate("box => box.CodeMirror.setSize(null, 60)")
    page.wait_for_timeout(1000)
    form.frame.screenshot(path=path)
    page.close()


def take_log(context: BrowserContext, dag_run: DagRun, path: Path) -> None:
    """Take the log of the sensor that has come to its end."""
    page = _at_sensor(context, dag_run, "", width=1720, height=900)
    page.get_by_text("The wait is over").wait_for()
    page.wait_for_timeout(1000)
    page.get_by_test_id("virtualized-list").screenshot(path=path)
    page.close()


def take_link(context: BrowserContext, dag_run: DagRun, path: Path) -> None:
    """Take the sensor's page with the link to the process."""
    page = _at_sensor(context, dag_run, "/details", width=1280, height=460)
    page.get_by_role("link", name="Tallyfy process").wait_for()
    _take(page, path)


def _at_sensor(context: BrowserContext, dag_run: DagRun, tab: str, *, width: int, height: int) -> Page:
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": height})
    page.add_init_script("localStorage.setItem('default_dag_view', JSON.stringify('grid'))")
    page.goto(f"{dag_run.url}/tasks/wait_for_next_task{tab}")
    return page


def _take(page: Page, path: Path) -> None:
    page.wait_for_timeout(1000)  # for fonts and transitions
    page.screenshot(path=path)
    page.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.screenshots", description=__doc__)
    parser.add_argument("--to", type=Path, default=IMAGES, help="the folder (default: %(default)s)")
    folder = parser.parse_args().to
    folder.mkdir(parents=True, exist_ok=True)
    with running_sandbox() as sandbox, browser() as context:
        environment = {"AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection()}
        with RealAirflow(EXAMPLES, environment=environment) as airflow:
            if IN_AIRFLOW_2:
                take_form(context, airflow.url, folder / "connection-2.png")
                return 0
            dag_run = airflow.trigger(DEFAULT_DAG, {"run_id": SEEDED_RUN_ID})
            dag_run.wait_for_task("wait_for_next_task", "deferred", 90)
            take_grid(context, dag_run, folder / "dag.png")
            take_graph(context, dag_run, folder / "graph.png")
            take_link(context, dag_run, folder / "link.png")
            take_sandbox(context, sandbox.process_url(SEEDED_RUN_ID), folder / "sandbox.png")
            sandbox.complete_next(SEEDED_RUN_ID)
            dag_run.wait_for_task("wait_for_next_task", "success", 90)
            take_log(context, dag_run, folder / "log.png")
            take_form(context, airflow.url, folder / "connection-3.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
