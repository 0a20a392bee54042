"""The sandbox's organization and its users, none of whose requests are counted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_tallyfy.sandbox.access import TOKEN
from airflow_provider_tallyfy.sandbox.dependencies import PAGE_CLIENT
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION

if TYPE_CHECKING:
    from pathlib import Path

AGE = 3600.0
"""Seconds since the runs were launched. The first task is due a day after the launch: they are active, not delayed."""


@dataclass(frozen=True, slots=True)
class RunToWaitFor:
    """A run and its next task."""

    run_id: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Organization:
    """
    What users do in a sandbox.

    :param url: the sandbox's address
    :param authority: the CA bundle that its certificate is checked with, if it has one
    """

    url: str
    authority: Path | None = None

    def launch(self, count: int) -> list[RunToWaitFor]:
        """Launch runs and move the clock by :data:`AGE`."""
        ids = self._request("POST", "/_sandbox/runs", json={"count": count, "name": "Release"})["data"]
        self._request("POST", "/_sandbox/clock", json={"advance": AGE})
        tasks = self._next_tasks()
        return [RunToWaitFor(run_id, tasks[run_id]) for run_id in ids]

    def complete(self, run: RunToWaitFor) -> tuple[float, float]:
        """Complete the task; return when the request was sent, and when its response arrived."""
        path = f"/api/organizations/{ORGANIZATION}/runs/{run.run_id}/completed-tasks"
        sent_at = time.monotonic()
        self._request("POST", path, json={"task_id": run.task_id})
        return sent_at, time.monotonic()

    def forget_requests(self) -> None:
        self._request("DELETE", "/_sandbox/stats")

    def requests(self) -> int:
        """Return how many requests were counted."""
        return int(self._request("GET", "/_sandbox/stats")["total"])

    def _next_tasks(self) -> dict[str, str]:
        """Return the id of the next task of each active run."""
        tasks: dict[str, str] = {}
        path = f"/api/organizations/{ORGANIZATION}/runs"
        page = pages = 1
        while page <= pages:
            parameters = {"status": "active", "with": "next_task", "per_page": 100, "page": page}
            body = self._request("GET", path, params=parameters)
            tasks |= {run["id"]: run["next_task"]["data"][0]["id"] for run in body["data"]}
            pages = body["meta"]["pagination"]["total_pages"]
            page += 1
        return tasks

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        # A session for each request, since users complete tasks at the same time, in threads.
        with requests.Session() as session:
            session.trust_env = False
            session.verify = True if self.authority is None else str(self.authority)
            headers = {"Authorization": f"Bearer {TOKEN}", "X-Tallyfy-Client": PAGE_CLIENT}
            response = session.request(method, f"{self.url}{path}", headers=headers, timeout=120, **arguments)
            response.raise_for_status()
            return response.json() if response.content else None
