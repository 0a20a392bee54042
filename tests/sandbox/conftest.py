"""A sandbox that is as at its start, and an HTTP client for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import requests

from airflow_provider_tallyfy.sandbox.seeds import RELEASE_CHECKLIST_ID
from airflow_provider_tallyfy.sandbox.server import SandboxServer


class Client:
    """The API of one sandbox; paths are relative to the organization."""

    def __init__(self, sandbox: SandboxServer, *, light: bool = False) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.headers.update(sandbox.headers)
        if light:
            self.session.headers["Authorization"] = "Bearer sandbox-light-token"

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        url = f"{self.sandbox.base_url}/organizations/sandbox{path}"
        if "params" in arguments:
            # requests writes a space as "+", which Tallyfy does not read as one.
            arguments["params"] = urlencode(arguments["params"], quote_via=quote)
        return self.session.request(method, url, **{"timeout": 10, **arguments})

    def get(self, path: str, **params: Any) -> Any:
        response = self.call("GET", path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def data(self, path: str, **params: Any) -> Any:
        return self.get(path, **params)["data"]

    def post(self, path: str, body: Any) -> requests.Response:
        return self.call("POST", path, json=body)

    def put(self, path: str, body: Any = None) -> requests.Response:
        return self.call("PUT", path, json=body)

    def delete(self, path: str) -> requests.Response:
        return self.call("DELETE", path)

    def launch(self, checklist_id: str = RELEASE_CHECKLIST_ID, **body: Any) -> dict[str, Any]:
        response = self.post("/runs", {"checklist_id": checklist_id, **body})
        assert response.status_code == 201, response.text
        run: dict[str, Any] = response.json()["data"]
        return run

    def tasks(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Return a run's tasks by alias, with their form fields."""
        found = self.data(f"/runs/{run_id}/tasks", **{"with": "form_fields", "without_pagination": "true"})
        return {task["alias"]: task for task in found}

    def complete(self, run_id: str, alias: str, **body: Any) -> requests.Response:
        task_id = self.tasks(run_id)[alias]["id"]
        return self.post(f"/runs/{run_id}/completed-tasks", {"task_id": task_id, **body})

    def decide(self, run_id: str, *, is_approved: bool) -> None:
        """Fill in the comment of a release's approval and decide it."""
        task = self.tasks(run_id)["approve_release"]
        comment = task["form_fields"]["data"][0]["id"]
        path = f"/runs/{run_id}/tasks/{task['id']}"
        assert self.put(path, {"taskdata": {comment: "Checked."}}).status_code == 200
        assert self.complete(run_id, "approve_release", is_approved=is_approved).status_code == 200

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Use a test control."""
        response = requests.request(method, f"{self.sandbox.url}/_sandbox{path}", json=body, timeout=10)
        assert response.status_code < 300, response.text
        return response.json() if response.content else None

    def advance(self, **units: float) -> None:
        """Move the sandbox's clock: ``advance(days=1)``."""
        seconds = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86_400}
        self.control(
            "POST", "/clock", {"advance": sum(value * seconds[unit] for unit, value in units.items())}
        )


@pytest.fixture(scope="session")
def _collection_server() -> Iterator[SandboxServer]:
    with SandboxServer() as server:
        yield server


@pytest.fixture(scope="session")
def _object_server() -> Iterator[SandboxServer]:
    with SandboxServer(next_task="object") as server:
        yield server


@pytest.fixture
def sandbox(_collection_server: SandboxServer) -> SandboxServer:
    _collection_server.reset()
    return _collection_server


@pytest.fixture
def client(sandbox: SandboxServer) -> Iterator[Client]:
    client = Client(sandbox)
    with client.session:
        yield client


@pytest.fixture
def light_client(sandbox: SandboxServer) -> Iterator[Client]:
    client = Client(sandbox, light=True)
    with client.session:
        yield client


@pytest.fixture
def object_client(_object_server: SandboxServer) -> Iterator[Client]:
    """A sandbox that answers ``with=next_task`` as the documentation of 2025-10 says."""
    _object_server.reset()
    client = Client(_object_server)
    with client.session:
        yield client
