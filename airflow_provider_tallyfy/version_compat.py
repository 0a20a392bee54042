"""What differs between the Airflow versions served, told apart here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from packaging.version import Version

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

AIRFLOW_V_3_3_PLUS = Version(Version(airflow_version).base_version) >= Version("3.3")


def task_state_store(context: Context) -> Any | None:
    """Return the store that outlives a reschedule and a retry, which Airflow has since 3.3; otherwise ``None``."""
    return context.get("task_state_store") if AIRFLOW_V_3_3_PLUS else None


def never_expire() -> Any:
    """Return the retention of a value that lasts as long as its DAG run."""
    from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # the SDK's stub file lacks it

    return NEVER_EXPIRE


def is_deferral_timeout(error: BaseException) -> bool:
    """Tell whether a trigger ran out of time; Airflow 3 has an exception for that, Airflow 2 only a text."""
    return type(error).__name__ == "TaskDeferralTimeout" or str(error) == "Trigger/execution timeout"
