"""Differences between the supported Airflow versions; no other module compares versions."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

_version = Version(Version(airflow_version).base_version)
AIRFLOW_V_3_0_PLUS = _version >= Version("3.0")
AIRFLOW_V_3_3_PLUS = _version >= Version("3.3")
FINDS_SKIPS_OF_UNMAPPED_TASKS = _version >= Version("3.2.2")
"""Whether the scheduler finds what an unmapped task skipped of a mapped one; see ``operators/gate_downstream.py``."""
GIVES_EACH_EVENT_TO_A_DAG_RUN = _version >= Version("3.4")
"""Whether each of several asset events in quick succession gets a DAG run at once (apache/airflow#70972)."""
PUSHES_XCOMS_OF_EVENTS = not AIRFLOW_V_3_0_PLUS
"""
Whether a ``TaskSuccessEvent`` of a trigger takes XComs along.

Airflow 3 encodes them twice, so that a downstream task gets text (seen in 3.3.2, where ``models/trigger.py`` pushes
them through ``XComModel.serialize_value``). There, the trigger has to push them itself, as a worker does.
"""
IS_AIRFLOW_3_0 = AIRFLOW_V_3_0_PLUS and _version < Version("3.1")

if AIRFLOW_V_3_0_PLUS:
    from airflow.triggers.base import BaseEventTrigger as BaseEventTrigger
else:
    from airflow.triggers.base import BaseTrigger

    BaseEventTrigger = BaseTrigger  # type: ignore[misc,assignment]

if AIRFLOW_V_3_3_PLUS:
    from airflow.triggers.shared_stream import SharedStreamProducer as SharedStreamProducer
else:

    class SharedStreamProducer:  # type: ignore[no-redef]
        """In place of what Airflow has since 3.3; nothing makes one before."""


# Seconds: users saw reports that were read 7 s after the deferral, with a heartbeat interval of 5 s.
_REPORTED_WITHIN = 5.0


def mask_secret(secret: str | None) -> None:
    """Have Airflow hide the secret in logs; ``common.compat`` has this only since 1.22, newer than many Airflows."""
    home = "airflow.sdk.log" if AIRFLOW_V_3_0_PLUS else "airflow.utils.log.secrets_masker"
    import_module(home).mask_secret(secret)


def task_state_store(context: Context) -> Any | None:
    """Return the store that outlives a reschedule and a retry, which Airflow has since 3.3; otherwise ``None``."""
    return context.get("task_state_store") if AIRFLOW_V_3_3_PLUS else None


def asset_state_store(context: Context, asset: Any) -> Any | None:
    """Return the store that an asset among the task's outlets has since Airflow 3.3; otherwise ``None``."""
    stores = context.get("asset_state_store") if AIRFLOW_V_3_3_PLUS else None
    return None if stores is None else stores[asset]


def never_expire() -> Any:
    """Return the retention of a value that lasts as long as its DAG run."""
    from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # the SDK's stub file lacks it

    return NEVER_EXPIRE


def not_begun_before(context: Context) -> datetime | None:
    """
    Return an instant before which no try of the task instance began; ``None`` if none is known.

    A clear moves a DAG run's ``start_date`` and ``queued_at``, and the task instance's too. It does not change
    ``run_after`` (Airflow 3), and in Airflow 2 the dates that the run is about; a run triggered there may be about the
    future.
    """
    dag_run: Any = context.get("dag_run")
    if not was_cleared(context):
        started: datetime = dag_run.start_date
        return started
    names = ("run_after",) if hasattr(dag_run, "run_after") else ("logical_date", "data_interval_end")
    moments = [moment for name in names if (moment := getattr(dag_run, name, None)) is not None]
    earliest: datetime | None = min(moments, default=None)
    return None if earliest is None or earliest > datetime.now(UTC) else earliest


def is_trigger_timeout(next_method: str, next_kwargs: Mapping[str, Any] | None) -> bool:
    """Return whether a task is resumed because its trigger timed out."""
    error = (next_kwargs or {}).get("error")
    return next_method == "__fail__" and getattr(error, "value", error) in (
        "Trigger timeout",
        "Trigger/execution timeout",
    )


def dag_run_identity(context: Context) -> str:
    """
    Return what distinguishes a DAG run from a deleted one with the same id, and does not change when it is cleared.

    In Airflow 3 a worker knows no more than ``run_after``: it differs for a run that was triggered again, by a user
    or an asset, but not for a scheduled one. In Airflow 2 it is the number of the database row.
    """
    dag_run = context.get("dag_run")
    run_after = getattr(dag_run, "run_after", None)
    return str(getattr(dag_run, "id", "")) if run_after is None else str(run_after.timestamp())


def started_at(context: Context) -> str:
    """Return when the DAG run started: different for each run with the same id, but a clear moves it."""
    start_date = getattr(context.get("dag_run"), "start_date", None)
    return "" if start_date is None else str(start_date.timestamp())


def was_cleared(context: Context) -> bool:
    """Return whether the DAG run was, or may have been, cleared, so that its start may have moved."""
    dag_run = context.get("dag_run")
    return getattr(dag_run, "clear_number", None) != 0 or getattr(dag_run, "start_date", None) is None


def deferral_hold() -> float:
    """
    Return for how many seconds a task that was deferred or rescheduled may not run again.

    The executor reports that the worker's process has ended. If the scheduler reads that report late, it takes it for
    the end of the *resumed* task, and fails the task as killed (apache/airflow#66374, #71580, #72716; with each
    executor). Airflow 3 may notice the end of the process a whole ``[workers] min_heartbeat_interval`` late, Airflow 2
    at once; then the report has to reach the scheduler.
    """
    from airflow.providers.common.compat.sdk import conf

    return float(conf.getint("workers", "min_heartbeat_interval", fallback=0)) + _REPORTED_WITHIN


def can_start_from_trigger() -> bool:
    """Return whether this Airflow starts tasks in its triggerer; 3.0 to 3.2 do not, or were never seen to."""
    return AIRFLOW_V_3_3_PLUS or not AIRFLOW_V_3_0_PLUS


def has_listeners() -> bool:
    """Return whether plugins listen to task states; Airflow then refuses a DAG with ``end_from_trigger``."""
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


def was_rescheduled(context: Context) -> bool:
    """Return whether this try of a sensor polled before, in ``mode="reschedule"``."""
    ti: Any = context["ti"]
    if AIRFLOW_V_3_0_PLUS:
        return ti.get_first_reschedule_date(context) is not None
    from airflow.sensors.base import _orig_start_date  # type: ignore[import-not-found]  # not in Airflow 3

    first = _orig_start_date(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, ti.try_number)
    return first is not None


def task_instance_states(
    context: Context, task_ids: Collection[str], mapped_task_ids: Collection[str]
) -> dict[tuple[str, int], str | None]:
    """
    Return the states of task instances in the same DAG run by task id and map index; -1 is not mapped, or not yet.

    :param task_ids: tasks that are not mapped.
    :param mapped_task_ids: tasks that are.
    """
    if not AIRFLOW_V_3_0_PLUS:
        dag_run: Any = context["dag_run"]
        wanted = {*task_ids, *mapped_task_ids}
        instances = dag_run.get_task_instances()
        return {(each.task_id, each.map_index): each.state for each in instances if each.task_id in wanted}

    def states_of(*ids: str) -> dict[str, str | None]:
        ti: Any = context["ti"]
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=list(ids), run_ids=[ti.run_id])
        found: dict[str, str | None] = states.get(ti.run_id, {})
        return found

    states = {(task_id, -1): state for task_id, state in states_of(*task_ids).items()} if task_ids else {}
    # Mapped tasks one by one, since the key of instance 0 of "a" is that of a task "a_0", too.
    for task_id in mapped_task_ids:
        for key, state in states_of(task_id).items():
            map_index = -1 if key == task_id else int(key.removeprefix(f"{task_id}_"))
            states[task_id, map_index] = state
    return states


def skip_task_instances(context: Context, instances: list[tuple[str, int]]) -> None:
    """
    Mark task instances of the same DAG run as skipped.

    Airflow 3 does that for a task that raises ``DownstreamTasksSkipped``, too, but ends that one as successful then.

    :param instances: each a task id with a map index.
    """
    if not AIRFLOW_V_3_0_PLUS:
        from airflow.models.skipmixin import SkipMixin  # type: ignore[import-not-found]  # not in Airflow 3
        from airflow.utils.session import create_session

        with create_session() as session:
            SkipMixin._set_state_to_skipped(context["dag_run"], instances, session)
        return
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import SkipDownstreamTasks

    task_runner.SUPERVISOR_COMMS.send(SkipDownstreamTasks(tasks=[*instances]))


def times_out_at(trigger: BaseTrigger) -> datetime | None:
    """Return when the triggerer ends the trigger; in Airflow 3 the trigger has that, in Airflow 2 its task instance."""
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


def asset_state_stores(trigger: Any) -> list[Any]:
    """Return the state store of each asset that an event trigger watches for; Airflow has none before 3.3."""
    stores = getattr(trigger, "asset_state_store", None)
    # All of them: Airflow runs one trigger for all assets whose watchers are alike, and offers no way to list them.
    return [] if stores is None else [*stores._by_name.values(), *stores._by_uri.values()]
