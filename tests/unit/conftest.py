from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.moved_time import MovedTime

# On a busy machine, any example may be slow.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

API = "https://tallyfy.test/api/organizations/acme"
TOKEN = "a-token-that-nobody-may-see"


class TaskStateStore:
    """Airflow's store, as far as a task sees it: what is set outlives the try, and ``None`` cannot be set."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self.kept.get(key, default)

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        assert value is not None
        self.kept[key] = value

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)


class TaskInstance:
    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}
        self.try_number, self.max_tries = 1, 2
        self.task_id, self.map_index = "task", -1

    def clear(self) -> None:
        """Let it run again, as a user who clears it in Airflow."""
        self.max_tries = self.try_number + 2
        self.try_number += 1

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        return self.xcoms.get(key)

    def get_first_reschedule_date(self, _context: Any) -> None:
        return None


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", f"tallyfy://acme:{TOKEN}@tallyfy.test")


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance(), "task_state_store": TaskStateStore()}


@pytest.fixture
def tasks_are_done(requests_mock: Any) -> None:
    """Each task that is read by itself is completed."""

    def done(request: Any, _context: Any) -> dict[str, Any]:
        return {"data": {"id": request.path.rpartition("/")[2], "status": "completed"}}

    requests_mock.get(re.compile(r"/runs/[^/]+/tasks/[^/]+$"), json=done)


@pytest.fixture(autouse=True)
def time_of_polls(monkeypatch: pytest.MonkeyPatch) -> MovedTime:
    """The clock by which a worker polls again to be certain."""
    from airflow_provider_tallyfy.waiting import worker

    moved = MovedTime()
    monkeypatch.setattr(worker, "time", moved)
    return moved
