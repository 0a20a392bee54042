"""
Starting a sensor in the triggerer, without a worker: its templated arguments, as the triggerer can take them.

The scheduler hands a trigger what stands in the serialized DAG, so that has to be text. Since Airflow 3.3 the triggerer
renders it; a reference to what another task returned is therefore written as a template here. Where the triggerer would
make something else of an argument than a worker does, the sensor has to start from a worker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import XCOM_RETURN_KEY, ParamValidationError, XComArg

from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS, can_start_from_trigger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator

# An XCom that is None is the next task of a run that has none, if that run was read; otherwise the output is missing,
# which is an error: the name that stands for it is not known.
_ID_OF_TASK = (
    "{{% set task = {pull} %}}{{% if task is none and {result} is none %}}{{{{ {{}}[{missing}] }}}}{{% endif %}}"
    "{{{{ task['id'] if task is mapping and task else task or '' }}}}"
)


class NeedsWorkerError(Exception):
    """The sensor cannot start in the triggerer; the message says why, and what to write."""


def check_airflow(sensor: BaseOperator) -> None:
    """
    Make sure that Airflow can start this sensor in its triggerer, and that the triggerer survives it.

    Airflow 3.3.2 makes the context to render with where nothing catches an error (``create_triggers`` in
    ``jobs/triggerer_job_runner.py``): a param without a default ends the whole triggerer there, with everybody's waits,
    and again after every restart. A value given to the DAG run comes too late to help.

    :raises NeedsWorkerError: it cannot, or a param has no default, or the DAG with its params is not known yet.
    """
    if not can_start_from_trigger():
        raise NeedsWorkerError("Airflow 3.0 to 3.2 start no task in the triggerer")
    if not AIRFLOW_V_3_3_PLUS:
        return
    if not sensor.has_dag():
        raise NeedsWorkerError(
            "the sensor is not in a DAG yet. Make it inside of `with DAG(...)`, or pass dag="
        )
    for name in sensor.params:  # the DAG's too
        try:
            sensor.params[name]
        except ParamValidationError:
            raise NeedsWorkerError(
                f"param {name!r} has no default, which ends Airflow's triggerer. Give it one, such as ''"
            ) from None


def comes_from_a_task(value: object) -> bool:
    """Tell whether an argument is what another task returns: its output, or a template that pulls an XCom."""
    if isinstance(value, str):
        return "xcom_pull" in value
    references = getattr(value, "iter_references", tuple)
    return any(True for _ in references())


def as_text(value: object, field: str, sensor: BaseOperator) -> str:
    """
    Return the text that the triggerer renders to what a worker would make of an argument.

    :param value: the argument: a text, a template, or another task's output.
    :param field: what it is called, for the error.
    :param sensor: the sensor that it was given to.
    :raises NeedsWorkerError: there is no such text.
    """
    if isinstance(value, XComArg):
        return f"{{{{ {_pull(value, field, sensor)} }}}}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise NeedsWorkerError(f"{field} is neither a text nor the output of a task")
    if _is_template(value):
        _check_that_the_triggerer_renders(field)
        # It asks for all map indexes at once then: a question that a triggerer never gets an answer to.
        if value.count("xcom_pull") > value.count("map_indexes"):
            raise NeedsWorkerError(
                f"{field} calls xcom_pull() without map_indexes, which Airflow's triggerer does not answer. "
                "Pass the other task's output (get_run.output['next_task']), or add map_indexes=None"
            )
    return value


def task_id_as_text(from_task: object, sensor: BaseOperator) -> str:
    """
    Return the same for the id of a task: a text that renders to nothing where there is no task.

    :param from_task: what the sensor was given, see :func:`~airflow_provider_tallyfy.waiting.next_task.from_task_id`.
    :param sensor: the sensor.
    :raises NeedsWorkerError: there is no such text, or no task is named.
    """
    if from_task is None or from_task in ("", {}):
        raise NeedsWorkerError(
            "without from_task, the task to move on from would be known to the triggerer alone, and be forgotten "
            "when that restarts. Write from_task=get_run.output['next_task'] after a TallyfyGetRunOperator"
        )
    if isinstance(from_task, XComArg):
        output: Any = from_task
        return _ID_OF_TASK.format(
            pull=_pull(output, "from_task", sensor),
            result=_pull(output, "from_task", sensor, XCOM_RETURN_KEY),
            missing=json.dumps(f"output {output.key} of task {output.operator.task_id}"),
        )
    if isinstance(from_task, Mapping):
        return as_text(from_task.get("id"), "from_task['id']", sensor)
    return as_text(from_task, "from_task", sensor)


def _is_template(text: str) -> bool:
    return any(mark in text for mark in ("{{", "{%", "{#"))


def _check_that_the_triggerer_renders(field: str) -> None:
    if not AIRFLOW_V_3_3_PLUS:
        raise NeedsWorkerError(
            f"{field} is templated, and before Airflow 3.3 a triggerer renders no templates"
        )


def _pull(output: Any, field: str, sensor: BaseOperator, other_key: str | None = None) -> str:
    """
    Return the call by which a template gets another task's output, or another XCom of that task.

    Airflow's own text of an output names no map index, so that it asks for all of them: see above.
    """
    _check_that_the_triggerer_renders(field)
    upstream, key = getattr(output, "operator", None), getattr(output, "key", None)
    if upstream is None or key is None:
        raise NeedsWorkerError(
            f"{field} is an output with map(), zip() or concat(), which only a worker applies"
        )
    group = upstream.get_closest_mapped_task_group()
    if upstream.is_mapped or (group is not None and group is not sensor.get_closest_mapped_task_group()):
        raise NeedsWorkerError(f"{field} is the output of mapped task {upstream.task_id!r}")
    index = "None" if group is None else "ti.map_index"
    return (
        f"ti.xcom_pull(task_ids={json.dumps(upstream.task_id)}, key={json.dumps(other_key or key)}, "
        f"map_indexes={index})"
    )
