"""A real Airflow in front of a sandbox, and a user in an installed Chromium."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dev.connection_form import connection_form
from dev.real_airflow import RealAirflow
from dev.sandbox import running_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from dev.connection_form import ConnectionForm
    from dev.sandbox import SandboxClient

DAGS = Path(__file__).parent / "dags"


@dataclass(frozen=True)
class Environment:
    """Where these tests take place."""

    airflow: RealAirflow
    sandbox: SandboxClient


@pytest.fixture(scope="session")
def environment() -> Iterator[Environment]:
    with running_sandbox() as sandbox:
        environment = {
            "AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection(),
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__CORE__FERNET_KEY": "",  # a test reads saved connections from the database
        }
        with RealAirflow(DAGS, environment=environment, parallelism=8) as airflow:
            yield Environment(airflow, sandbox)


@pytest.fixture(scope="session")
def profile(browser: Browser) -> Iterator[BrowserContext]:
    """One for all tests, so that Airflow's programs for its pages are loaded once."""
    with browser.new_context(
        locale="en-US", timezone_id="UTC", viewport={"width": 1280, "height": 1000}
    ) as context:
        context.set_default_timeout(30_000)
        yield context


@pytest.fixture
def page(profile: BrowserContext) -> Iterator[Page]:
    yield profile.new_page()
    for page in profile.pages:
        page.close()


@pytest.fixture
def form(page: Page, environment: Environment) -> ConnectionForm:
    return connection_form(page, environment.airflow.url)
