"""
Where a sensor keeps the task it waits to move on from, until it succeeds.

Airflow clears a task's XComs at each start, and with them anything a poke pushed; only ``task_state_store`` (3.3)
outlives a reschedule and a retry. It outlives success too, so what is kept there is taken away by the sensor itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_tallyfy.version_compat import never_expire, task_state_store

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_KEY = "tallyfy_from_task"


def recall(context: Context, run_id: str) -> str | None:
    """Return the id of the task that was kept for this run, or ``None``."""
    store = task_state_store(context)
    kept = store.get(_KEY) if store is not None else None
    # A task that was cleared may wait for another run now.
    if isinstance(kept, dict) and kept.get("run_id") == run_id:
        from_task_id = kept.get("from_task_id")
        return from_task_id if isinstance(from_task_id, str) else None
    return None


def keep(context: Context, run_id: str, from_task_id: str) -> bool:
    """Keep the id of the task; tell whether that was possible."""
    store = task_state_store(context)
    if store is None:
        return False
    store.set(_KEY, {"run_id": run_id, "from_task_id": from_task_id}, retention=never_expire())
    return True


def forget(context: Context) -> None:
    """Take away what was kept."""
    store = task_state_store(context)
    if store is not None:
        store.delete(_KEY)
