"""A Tallyfy with one task that a gate waits for, and the task instances that a gate skips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.exceptions import AirflowClusterPolicyViolation
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_tallyfy import policies
from airflow_provider_tallyfy.operators import gate_downstream

if TYPE_CHECKING:
    from collections.abc import Callable

API = "https://tallyfy.test/api/organizations/acme"
OPEN = {
    "id": "t1",
    "alias": "approve",
    "title": "Approve",
    "status": "active",
    "task_type": "approval",
    "form_fields": {"data": []},
    "threads": {"data": []},
}
BEN = {"id": 1002, "email": "ben@example.com", "full_name": "Ben Larsen"}


def decided(is_approved: bool | None = True, **fields: Any) -> dict[str, Any]:
    """Return the task as Ben completed it."""
    marks = {"status": "completed", "completed_at": "2026-01-04T00:00:00Z", "completer_id": 1002}
    return OPEN | marks | {"is_approved": is_approved, **fields}


class TallyfyWithOneTask:
    """Answers with a run that has one task, with two members (Ada launched nothing, Ben the run) and one group."""

    def __init__(self, requests_mock: Any) -> None:
        self._mock = requests_mock
        ada = {"id": 1001, "email": "ada@example.com", "full_name": "Ada Okafor"}
        requests_mock.get(f"{API}/users", json=_page(ada, BEN))
        requests_mock.get(f"{API}/users/1002", json={"data": BEN})
        requests_mock.get(f"{API}/groups", json=_page({"id": "g1", "name": "Managers", "members": [1001]}))

    def polls(self, *answers: dict[str, Any]) -> None:
        """Answer polls with tasks, or with a whole response; the last one stays, also for the task by itself."""
        bodies = [each if "status_code" in each else self._run(each) for each in answers]
        self._mock.get(f"{API}/runs/r1", bodies)
        if "status_code" not in answers[-1]:
            self._mock.get(f"{API}/runs/r1/tasks", json=_page(answers[0]))
            self.reads(answers[-1])

    def reads(self, *tasks: dict[str, Any]) -> None:
        """Answer reads of the task by itself."""
        self._mock.get(f"{API}/runs/r1/tasks/t1", [{"json": {"data": each}} for each in tasks])

    @staticmethod
    def _run(task: dict[str, Any]) -> dict[str, Any]:
        run = {"id": "r1", "status": "active", "started_by": 1002, "tasks": {"data": [task]}}
        return {"json": {"data": run}}


def _page(*items: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(items), "meta": {"pagination": {"current_page": 1, "total_pages": 1}}}


def record_skipped(monkeypatch: Any, state: str | None = None) -> list[tuple[str, int]]:
    """
    Return the list in which task instances are kept that a gate skips.

    :param state: of all task instances downstream; a mapped task has two.
    """
    skipped: list[tuple[str, int]] = []

    def states(_context: Any, task_ids: Any, mapped_task_ids: Any) -> dict[tuple[str, int], str | None]:
        mapped = {(each, index): state for each in mapped_task_ids for index in (0, 1)}
        return {(each, -1): state for each in task_ids} | mapped

    monkeypatch.setattr(gate_downstream, "task_instance_states", states)
    monkeypatch.setattr(gate_downstream, "skip_task_instances", lambda _context, these: skipped.extend(these))
    return skipped


def refusal(build: Callable[[], Any]) -> str | None:
    """Return why a DAG is refused when it is parsed, or ``None``."""
    with DAG("release", schedule=None) as dag:
        build()
    try:
        policies.dag_policy(dag)
    except AirflowClusterPolicyViolation as violation:
        return str(violation)
    return None
