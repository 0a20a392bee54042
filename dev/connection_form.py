"""Airflow's form for a connection of type Tallyfy, in a browser: that of Airflow 2.11 and that of Airflow 3."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from dev.airflow_api import IN_AIRFLOW_2

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


class ConnectionForm(ABC):
    """
    The form, as a person sees it and fills it in.

    :param page: the browser's tab
    :param url: where Airflow is
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url

    @property
    @abstractmethod
    def frame(self) -> Locator:
        """The form, without the rest of the page."""

    @abstractmethod
    def open_new(self, conn_id: str) -> None:
        """Begin a connection of type Tallyfy."""

    @abstractmethod
    def open_saved(self, conn_id: str) -> None:
        """Open a connection that was saved."""

    @abstractmethod
    def show_extras(self) -> None:
        """Open the part with the fields that are Tallyfy's own."""

    @abstractmethod
    def group(self, label: str) -> Locator:
        """Return a field with its label and its help."""

    @abstractmethod
    def labels(self) -> list[str]:
        """Return the labels of all fields that are to be seen."""

    @abstractmethod
    def tick(self, label: str) -> None:
        """Set a box."""

    @abstractmethod
    def save(self) -> None:
        """Save the form and wait until Airflow has."""

    @abstractmethod
    def test(self, conn_id: str) -> str:
        """Test a saved connection in the UI, and return the UI's message."""

    def field(self, label: str) -> Locator:
        """Return where a field is typed in."""
        return self.group(label).locator("input, textarea").first

    def fill(self, **values: str) -> None:
        """Fill in fields by their labels, with underscores for blanks."""
        for label, value in values.items():
            self.field(label.replace("_", " ")).fill(value)


class _ReactForm(ConnectionForm):
    @property
    def frame(self) -> Locator:
        return self.page.get_by_role("dialog")

    def open_new(self, conn_id: str) -> None:
        self.page.goto(f"{self.url}/connections")
        self.page.get_by_role("button", name="Add Connection").click()
        self.frame.get_by_label("Connection ID").fill(conn_id)
        self.frame.get_by_role("combobox", name="Connection Type").fill("Tallyfy")
        self.page.keyboard.press("Enter")
        self.group("Organization ID").wait_for()

    def open_saved(self, conn_id: str) -> None:
        self._row(conn_id).get_by_role("button", name="Edit Connection").click()
        self.group("Organization ID").wait_for()

    def show_extras(self) -> None:
        button = self.frame.get_by_role("button", name="Extra Fields", exact=True)
        fields = self.frame.locator("[data-part=item-content][data-state=open]")
        button.click()
        try:
            fields.filter(has_text="Client secret").wait_for(timeout=15_000)
        except PlaywrightTimeoutError:  # on a busy machine, the form is rendered again after the click
            button.click()
            fields.filter(has_text="Client secret").wait_for()

    def group(self, label: str) -> Locator:
        exact = re.compile(rf"^{re.escape(label)}\s*\*?\s*$")
        return self.frame.get_by_role("group").filter(has=self.page.locator("label", has_text=exact))

    def labels(self) -> list[str]:
        labels = self.frame.locator("label[data-scope=field]").all()
        return [label.inner_text().removesuffix("*").strip() for label in labels if label.is_visible()]

    def tick(self, label: str) -> None:
        self.group(label).locator("[data-scope=switch][data-part=control]").click()

    def save(self) -> None:
        self.frame.get_by_role("button", name="Save").click()
        self.frame.wait_for(state="detached")

    def test(self, conn_id: str) -> str:
        with self.page.expect_response("**/connections/test") as response:
            self._row(conn_id).get_by_role("button", name="Test Connection").click()
        if not response.value.ok:  # refused, so there is no result of a test to wait for
            return response.value.text()
        toast = self.page.locator("[data-scope=toast][data-part=root]").filter(has_text="Test Connection")
        toast.first.wait_for()
        return toast.first.inner_text()

    def _row(self, conn_id: str) -> Locator:
        self.page.goto(f"{self.url}/connections")
        cell = self.page.get_by_role("cell", name=conn_id, exact=True)
        return self.page.get_by_role("row").filter(has=cell)


class _PlainForm(ConnectionForm):
    @property
    def frame(self) -> Locator:
        return self.page.locator("#model_form")

    def open_new(self, conn_id: str) -> None:
        self.page.goto(f"{self.url}/connection/add")
        self.page.select_option("#conn_type", "tallyfy", force=True)
        self.page.locator("#conn_type").dispatch_event("change")
        self.group("Organization ID").wait_for()
        self.field("Connection Id").fill(conn_id)

    def open_saved(self, conn_id: str) -> None:
        self.page.goto(f"{self.url}/connection/list/")
        cell = self.page.get_by_role("cell", name=conn_id, exact=True)
        self.page.get_by_role("row").filter(has=cell).locator("a[href*='/connection/edit/']").click()
        self.group("Organization ID").wait_for()

    def show_extras(self) -> None:
        """Do nothing: they are to be seen."""

    def group(self, label: str) -> Locator:
        exact = re.compile(rf"^\s*{re.escape(label)}\s*\*?\s*$")
        return self.frame.get_by_role("row").filter(has=self.page.locator("label", has_text=exact))

    def labels(self) -> list[str]:
        labels = self.frame.locator("label").all()
        return [label.inner_text().removesuffix("*").strip() for label in labels if label.is_visible()]

    def tick(self, label: str) -> None:
        self.field(label).check()

    def save(self) -> None:
        self.frame.get_by_role("button", name="Save").click()
        self.page.locator(".alert", has_text=re.compile("Added Row|Changed Row")).wait_for()

    def test(self, conn_id: str) -> str:
        self.open_saved(conn_id)
        return self.test_what_is_typed()

    def test_what_is_typed(self) -> str:
        """Test the form in its present state, and return the UI's message."""
        with self.page.expect_response("**/connections/test"):
            self.frame.get_by_role("button", name="Test").click()
        self.page.locator(".alert").first.wait_for()
        return self.page.locator(".alert").first.inner_text()


def connection_form(page: Page, url: str) -> ConnectionForm:
    """Return the form of the Airflow that this Python has."""
    return _PlainForm(page, url) if IN_AIRFLOW_2 else _ReactForm(page, url)
