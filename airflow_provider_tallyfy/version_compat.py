"""What differs between the Airflow versions served, told apart here and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger, TaskSuccessEvent

_version = Version(Version(airflow_version).base_version)
AIRFLOW_V_3_0_PLUS = _version >= Version("3.0")
AIRFLOW_V_3_3_PLUS = _version >= Version("3.3")
IS_AIRFLOW_3_0 = AIRFLOW_V_3_0_PLUS and _version < Version("3.1")

# Seconds: users saw reports that were read 7 s after the deferral, with a heartbeat interval of 5 s.
_REPORTED_WITHIN = 5.0


def mask_secret(secret: str | None) -> None:
    """Have Airflow hide the secret in logs; ``common.compat`` has this only since 1.22, newer than many Airflows."""
    home = "airflow.sdk.log" if AIRFLOW_V_3_0_PLUS else "airflow.utils.log.secrets_masker"
    import_module(home).mask_secret(secret)


def task_state_store(context: Context) -> Any | None:
    """Return the store that outlives a reschedule and a retry, which Airflow has since 3.3; otherwise ``None``."""
    return context.get("task_state_store") if AIRFLOW_V_3_3_PLUS else None


def never_expire() -> Any:
    """Return the retention of a value that lasts as long as its DAG run."""
    from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # the SDK's stub file lacks it

    return NEVER_EXPIRE


def not_begun_before(context: Context) -> datetime | None:
    """
    Return an instant before which no try of the task instance began; ``None`` where there is none that is known.

    Clearing moves a DAG run's ``start_date`` and ``queued_at``, and the task instance's too. What it leaves alone is
    ``run_after`` (Airflow 3), and in Airflow 2 the dates that the run is about; a run triggered there may be about the
    future.
    """
    dag_run = context.get("dag_run")
    names = ("run_after",) if hasattr(dag_run, "run_after") else ("logical_date", "data_interval_end")
    moments = [moment for name in names if (moment := getattr(dag_run, name, None)) is not None]
    earliest: datetime | None = min(moments, default=None)
    return None if earliest is None or earliest > datetime.now(UTC) else earliest


def is_trigger_timeout(next_method: str, next_kwargs: Mapping[str, Any] | None) -> bool:
    """Tell whether a task is resumed since its trigger ran out of time."""
    error = (next_kwargs or {}).get("error")
    return next_method == "__fail__" and getattr(error, "value", error) in (
        "Trigger timeout",
        "Trigger/execution timeout",
    )


def is_deferral_timeout(error: BaseException) -> bool:
    """Tell whether a trigger ran out of time; Airflow 3 has an exception for that, Airflow 2 only a text."""
    return type(error).__name__ == "TaskDeferralTimeout" or str(error) == "Trigger/execution timeout"


def deferral_hold() -> float:
    """
    Return for how many seconds after a deferral no event may resume the task.

    The executor reports that the worker's process has ended. If the scheduler reads that report late, it takes it for
    the end of the *resumed* task, and fails the task as killed (apache/airflow#66374, #71580, #72716; with each
    executor). Airflow 3 may notice the end of the process a whole ``[workers] min_heartbeat_interval`` late, Airflow 2
    at once; then the report has to reach the scheduler.
    """
    from airflow.providers.common.compat.sdk import conf

    return float(conf.getint("workers", "min_heartbeat_interval", fallback=0)) + _REPORTED_WITHIN


def can_start_from_trigger() -> bool:
    """Tell whether this Airflow starts tasks in its triggerer; 3.0 to 3.2 do not, or were never seen to."""
    return AIRFLOW_V_3_3_PLUS or not AIRFLOW_V_3_0_PLUS


def has_listeners() -> bool:
    """Tell whether plugins listen to task states; Airflow then refuses a DAG with ``end_from_trigger``."""
    from airflow.listeners.listener import get_listener_manager

    return bool(get_listener_manager().has_listeners)


def with_outputs_pushed(operator: Any, context: Context, outputs: dict[str, Any]) -> dict[str, Any]:
    """
    Return what an operator with ``multiple_outputs`` returns, after pushing what Airflow would fail to push.

    Airflow 3.0 sends no body for an XCom that is ``None``, and fails the task for it (seen in 3.0.6). The outputs that
    are not ``None`` are pushed here then; of an output that is not there, a downstream task gets ``None`` all the same.
    """
    if IS_AIRFLOW_3_0 and operator.multiple_outputs and (task_instance := context.get("ti")):
        for key, value in outputs.items():
            if value is not None:
                task_instance.xcom_push(key, value)
        operator.multiple_outputs = False
    return outputs


async def success_event(trigger: BaseTrigger, xcoms: Mapping[str, Any]) -> TaskSuccessEvent:
    """
    Return the event that ends a trigger's task as successful, with its XComs.

    Airflow 3 encodes the XComs of an event twice, so that a downstream task gets them as text (seen in 3.3.2, where
    ``models/trigger.py`` pushes them through ``XComModel.serialize_value``). There they are pushed beforehand, in the
    way that a worker does.
    """
    from airflow.triggers.base import TaskSuccessEvent

    if not AIRFLOW_V_3_0_PLUS:
        return TaskSuccessEvent(xcoms=dict(xcoms))
    await push_from_trigger(trigger, xcoms)
    return TaskSuccessEvent()


async def push_from_trigger(trigger: BaseTrigger, xcoms: Mapping[str, Any]) -> None:
    """Push XComs of a trigger's task; off the event loop, since an XCom backend may block."""
    from airflow.providers.common.compat.sdk import XCom

    from airflow_provider_tallyfy.waiting.threads import PUSHING, in_thread

    task: Any = trigger.task_instance
    place = {name: getattr(task, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
    for key, value in xcoms.items():
        await in_thread(PUSHING, XCom.set, key=key, value=value, **place)


def skip(operator: Any, context: Context, tasks: Iterable[Any]) -> None:
    """Skip tasks of the same DAG run, as a ``SkipMixin`` does; in Airflow 3 that ends the operator's own task."""
    task_instance = context["ti"]
    if AIRFLOW_V_3_0_PLUS:
        operator.skip(ti=task_instance, tasks=tasks)
        return
    dag_run = context["dag_run"]
    operator.skip(dag_run, dag_run.logical_date, tasks, map_index=task_instance.map_index)


def times_out_at(trigger: BaseTrigger) -> datetime | None:
    """Return when the triggerer ends the trigger; Airflow 3 tells the trigger itself, Airflow 2 its task instance."""
    in_airflow_2 = getattr(trigger.task_instance, "trigger_timeout", None)
    moment: datetime | None = getattr(trigger, "timeout_after", in_airflow_2)
    return moment


def secret_widget(field: Any, **attributes: Any) -> Any:
    """
    Render the field of a secret in Airflow 2's connection form, without the secret.

    Airflow 2 shows the field of a saved secret empty, and takes an empty one for an order to delete: whoever changes
    anything in the form would lose the secret. It knows a text that stands for a saved secret, but writes it into the
    JSON of all extras only.
    """
    from airflow.www.views import SENSITIVE_FIELD_PLACEHOLDER  # type: ignore[import-not-found]  # not in Airflow 3
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget

    # What was typed and refused with the rest of the form is not a saved one: it has to be typed again.
    is_saved = field.data and (not field.raw_data or field.data == SENSITIVE_FIELD_PLACEHOLDER)
    shown = SENSITIVE_FIELD_PLACEHOLDER if is_saved else ""
    return BS3PasswordFieldWidget(hide_value=False)(field, value=shown, **attributes)
