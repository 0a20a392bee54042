"""``make screenshots``: the pictures of the README, taken of the real thing by a headless Chromium."""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from dev.chromium import running_chromium
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
            dag_run = airflow.trigger(DEFAULT_DAG, {"run_id": SEEDED_RUN_ID})
            dag_run.wait_for_task("wait_for_next_task", "deferred", 90)
            take_grid(context, dag_run, folder / "dag.png")
            take_graph(context, dag_run, folder / "graph.png")
            take_sandbox(context, sandbox.process_url(SEEDED_RUN_ID), folder / "sandbox.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
