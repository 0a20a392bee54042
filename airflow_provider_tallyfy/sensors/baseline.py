"""
Where a sensor keeps the task it waits to move on from, until its success is certain.

Airflow clears a task's XComs at each start, and with them anything a poke pushed; only ``task_state_store`` (3.3)
outlives a reschedule and a retry. It outlives success too, and a sensor cannot tell whether its success will be
recorded: the worker may die, or fail to push the result. So the task is not deleted but marked as used. A retry uses it
again; a task instance that was cleared since, which Airflow gives more tries, does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.version_compat import never_expire, task_state_store

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_KEY = "tallyfy_from_task"
_USED = "used_with_max_tries"


def recall(context: Context, run_id: str) -> str | None:
    """Return the id of the task that was kept for this run, or ``None``."""
    kept = _kept(context)
    # A task that was cleared may wait for another run now.
    if kept.get("run_id") != run_id or kept.get(_USED, _max_tries(context)) != _max_tries(context):
        return None
    from_task_id = kept.get("from_task_id")
    return from_task_id if isinstance(from_task_id, str) else None


def keep(context: Context, run_id: str, from_task_id: str) -> bool:
    """Keep the id of the task; tell whether that was possible."""
    return _set(context, {"run_id": run_id, "from_task_id": from_task_id})


def mark_used(context: Context) -> None:
    """Let what was kept serve the retries of this success only, should it not be recorded."""
    if kept := _kept(context):
        _set(context, {**kept, _USED: _max_tries(context)})


def _kept(context: Context) -> dict[str, Any]:
    store = task_state_store(context)
    kept = store.get(_KEY) if store is not None else None
    return kept if isinstance(kept, dict) else {}


def _set(context: Context, kept: dict[str, Any]) -> bool:
    store = task_state_store(context)
    if store is None:
        return False
    store.set(_KEY, kept, retention=never_expire())
    return True


def _max_tries(context: Context) -> int | None:
    """Return how many tries the task instance has; clearing it adds some."""
    return getattr(context.get("ti"), "max_tries", None)
