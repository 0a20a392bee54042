"""A sandbox that is as at its start, and its page in an installed Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Locator, Page

from airflow_provider_tallyfy.sandbox.server import SandboxServer
from dev.chromium import running_chromium
from dev.sandbox import SandboxClient


@dataclass
class Screen:
    """The page as a user sees it.

    :param page: the browser's tab.
    :param url: where the sandbox is.
    """

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)
    expected_errors: list[str] = field(default_factory=list)

    def open_list(self) -> None:
        self.page.goto(self.url)
        self.page.get_by_role("heading", name="Processes").wait_for()

    def open_process(self, run_id: str) -> None:
        self.page.goto(f"{self.url}/#/processes/{run_id}")
        self.page.locator(".process-header code", has_text=run_id).wait_for()

    def process(self, name: str) -> Locator:
        """Return a process's row in the list."""
        return self.page.locator(".process").filter(has=self.page.get_by_role("link", name=name, exact=True))

    def task(self, title: str) -> Locator:
        """Return a task's card."""
        return self.page.locator(".task").filter(has=self.page.get_by_role("heading", name=title, exact=True))

    def button(self, title: str, name: str) -> Locator:
        """Return a button of a task's card."""
        return self.task(title).get_by_role("button", name=f"{name} “{title}”", exact=True)

    def status(self, title: str) -> Locator:
        return self.task(title).locator(".badge[data-status]").first

    def expect_refusals(self) -> None:
        """Allow the browser to report requests that the server refused."""
        self.expected_errors.append("the server responded with a status of 422")

    def expect_outage(self) -> None:
        """Allow the browser to report that the server is down."""
        self.expected_errors.append("net::ERR_")

    @property
    def unexpected_errors(self) -> list[str]:
        return [
            error for error in self.errors if not any(expected in error for expected in self.expected_errors)
        ]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def _server() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        yield server


@pytest.fixture
def sandbox(_server: SandboxServer) -> SandboxServer:
    _server.reset()
    return _server


@pytest.fixture
def client(sandbox: SandboxServer) -> SandboxClient:
    """Another user, who works in the same sandbox through its API."""
    return SandboxClient(sandbox.url)


@pytest.fixture
def context_options() -> dict[str, object]:
    """How the browser is set up; a test can be parametrized with other options."""
    return {}


@pytest.fixture
def screen(browser: Browser, sandbox: SandboxServer, context_options: dict[str, object]) -> Iterator[Screen]:
    """The page, which must not report an error that the test does not expect."""
    options = {"locale": "en-US", "timezone_id": "UTC", "viewport": {"width": 1200, "height": 800}}
    context = browser.new_context(**{**options, **context_options})
    context.set_default_timeout(10_000)
    screen = Screen(context.new_page(), sandbox.url)
    screen.page.on("console", lambda message: message.type == "error" and screen.errors.append(message.text))
    screen.page.on("pageerror", lambda error: screen.errors.append(str(error)))
    yield screen
    context.close()
    assert screen.unexpected_errors == []
