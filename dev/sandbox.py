"""Run a sandbox in a child process, and act as its users over HTTP."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_tallyfy.sandbox.access import TOKEN
from airflow_provider_tallyfy.sandbox.dependencies import PAGE_CLIENT
from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION
from dev.processes import TIMEOUT, ChildProcess, end, exit_on_termination, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def running_sandbox(next_task: str = "collection") -> Iterator[SandboxClient]:
    """
    Run a sandbox with its demo data for the duration of the ``with`` block.

    :param next_task: the format of a run's next task, ``collection`` or ``object``
    """
    with exit_on_termination(), TemporaryDirectory(prefix="tallyfy-sandbox-") as folder:
        process = ChildProcess(
            "The sandbox",
            [
                *(sys.executable, "-m", "airflow_provider_tallyfy.sandbox", "--port", "0", "--seed", "demo"),
                *("--next-task", next_task, "--test-controls"),
            ],
            log=Path(folder, "sandbox.log"),
            environment={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

        def address() -> str | None:
            process.check()
            found = re.search(r"http://127\.0\.0\.1:\d+", process.log.read_text())
            return found and found[0]

        try:
            process.start()
            yield SandboxClient(wait_until(address, TIMEOUT, "the sandbox to print its address"))
        finally:
            end([process])


class SandboxClient:
    """
    Does what users do in Tallyfy, and uses the sandbox's test controls.

    Its requests have the headers of the sandbox's web page, so no fault and no lag applies to them, and the statistics
    do not count them.

    :param url: the sandbox's address
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between this machine and itself
        self._session.headers.update({"Accept": "application/json", "X-Tallyfy-Client": PAGE_CLIENT})
        self.use(TOKEN)

    def use(self, token: str) -> None:
        """Use another token from now on."""
        self._session.headers["Authorization"] = f"Bearer {token}"

    def connection(self, url: str | None = None) -> str:
        """
        Return the Airflow connection to the sandbox, as the value of an ``AIRFLOW_CONN_…`` variable.

        :param url: the address for Airflow, if it is not the sandbox's own
        """
        return json.dumps(
            {
                "conn_type": "tallyfy",
                "host": f"{url or self.url}/api",
                "login": ORGANIZATION,
                "password": TOKEN,
                # What a test does in a minute, users do in a day.
                "extra": {"web_url": self.url, "requests_per_hour": 0},
            }
        )

    def process_url(self, run_id: str) -> str:
        """Return the address of the web page of a run."""
        return f"{self.url}/{ORGANIZATION}/processes/{run_id}"

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request to a path of the organization, and return the ``data`` of the response."""
        response = self._session.request(
            method, f"{self.url}/api/organizations/{ORGANIZATION}{path}", timeout=30, **arguments
        )
        if not response.ok:
            message = f"{method} {path} returned {response.status_code}: {response.text[:500]}"
            raise requests.HTTPError(message, response=response)
        return response.json().get("data") if response.content else None

    def control(self, method: str, path: str, json: Any = None) -> Any:
        """
        Use a test control and return its response.

        :param path: below ``/_sandbox``, such as ``/clock``
        """
        response = self._session.request(method, f"{self.url}/_sandbox{path}", json=json, timeout=30)
        response.raise_for_status()
        return response.json() if response.content else None

    def behave(self, **behavior: Any) -> None:
        """Change what the sandbox does if the sources on Tallyfy disagree; fields that are not given stay."""
        self.control("POST", "/behavior", behavior)

    def completions(self, task_id: str) -> int:
        """Return how often a task was completed."""
        counts: dict[str, int] = self.control("GET", "/completions")
        return counts.get(task_id, 0)

    def advance_clock(self, seconds: float) -> None:
        """Move the sandbox's clock, by which reads lag, tasks fall due and tokens expire."""
        self.control("POST", "/clock", {"advance": seconds})

    def launch(self, name: str) -> str:
        """Launch a process of the release template, which has three tasks, and return its id."""
        body = {"checklist_id": RELEASE_CHECKLIST_ID, "name": name}
        return str(self.request("POST", "/runs", json=body)["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        run: dict[str, Any] = self.request("GET", f"/runs/{run_id}", params={"with": "next_task"})
        return run

    def runs(self) -> list[dict[str, Any]]:
        """Return the newest hundred runs."""
        runs: list[dict[str, Any]] = self.request("GET", "/runs", params={"per_page": "100"})
        return runs

    def tasks(self, run_id: str, with_: str = "") -> list[dict[str, Any]]:
        """Return the run's tasks in the order of their positions, with the given inclusions."""
        params = {"per_page": "100", "sort": "position", **({"with": with_} if with_ else {})}
        tasks: list[dict[str, Any]] = self.request("GET", f"/runs/{run_id}/tasks", params=params)
        return tasks

    def task(self, run_id: str, task_id: str) -> dict[str, Any]:
        params = {"with": "form_fields"}
        task: dict[str, Any] = self.request("GET", f"/runs/{run_id}/tasks/{task_id}", params=params)
        return task

    def next_task(self, run_id: str) -> dict[str, Any] | None:
        """Return the run's next task, in either format of the sandbox."""
        next_task = self.run(run_id)["next_task"]
        if next_task and "data" in next_task:
            return next_task["data"][0] if next_task["data"] else None
        return next_task or None

    def comments(self, task_id: str) -> list[str]:
        """Return the comments on a task, the oldest first."""
        task = self.request("GET", f"/tasks/{task_id}", params={"with": "threads"})
        return [thread["content"] for thread in task["threads"]["data"]]

    def complete(
        self, task: dict[str, Any], *, is_approved: bool = True, member_id: int | None = None
    ) -> None:
        """
        Complete a task: fill in the required fields that are empty, and decide an approval.

        :param task: with its form, as :meth:`task` returns it
        :param is_approved: the decision on an approval
        :param member_id: who does it; an assignee by default
        """
        path = f"/runs/{task['run_id']}"
        form = task["form_fields"]["data"]
        values = {
            field["id"]: _answer(field)
            for field in form
            if field["required"] and not field.get("field_value") and not field.get("value")
        }
        self.request("PUT", f"{path}/tasks/{task['id']}", json={"taskdata": values})
        body = {"task_id": task["id"], "is_approved": is_approved}
        if users := [member_id] if member_id else task["owners"]["users"]:
            body["override_user"] = users[0]
        self.request("POST", f"{path}/completed-tasks", json=body)

    def complete_next(self, run_id: str) -> dict[str, Any] | None:
        """Complete the run's next task, and return the task that is next afterwards."""
        task = self.next_task(run_id)
        if task is None:
            raise ValueError(f"Run {run_id} has no task to complete.")
        self.complete(self.task(run_id, task["id"]))
        return self.next_task(run_id)

    def archive(self, run_id: str) -> None:
        self.request("DELETE", f"/runs/{run_id}")

    def delete(self, run_id: str) -> None:
        """Delete an archived process for good."""
        self.request("DELETE", f"/runs/{run_id}/delete")


def _answer(field: dict[str, Any]) -> str:
    """Return a value for a field of type ``text``, ``textarea`` or ``radio``."""
    return str(field["options"][0]["text"]) if field["options"] else "Looks good to me."
