"""
``python -m benchmarks.defer``: put deferred tasks into Airflow's database, as scheduler and workers do.

Its standard input is JSON: lists of ``[run id, task id]`` for ``in_triggerer`` and ``by_workers``, and ``probe``, the
file for the lateness of the event loop, or ``null``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger
from benchmarks.loop_probe import LoopProbeTrigger

SENSORS = int(os.environ["CROWD_SENSORS"])  # as in crowd_dags/crowd.py
_TIMEOUT = 86_400.0


def main() -> None:
    given = json.load(sys.stdin)
    _defer("begun_in_triggerer", given["in_triggerer"])
    _defer("begun_by_workers", given["by_workers"])
    if given.get("probe"):
        with create_session() as session:
            (task, *_) = _dag_run("begun_by_workers", [], session)
            _hand_over(task, LoopProbeTrigger(given["probe"]), session)


def _defer(dag_id: str, waits: list[list[str]]) -> None:
    for start in range(0, len(waits), SENSORS):
        part = waits[start : start + SENSORS]
        with create_session() as session:
            for task in _dag_run(dag_id, part, session)[: len(part)]:
                if dag_id == "begun_in_triggerer":
                    task.defer_task(session=session)
                    continue
                run_id, task_id = part[int(task.task_id.removeprefix("wait_"))]
                trigger = TallyfyNextTaskTrigger(
                    tallyfy_conn_id="tallyfy_default",
                    run_id=run_id,
                    from_task=task_id,
                    poke_interval=10,
                    worker_polled_at=time.time(),
                    ends_at=time.time() + _TIMEOUT,
                )
                _hand_over(task, trigger, session)


def _dag_run(dag_id: str, waits: list[list[str]], session: Any) -> list[Any]:
    """Create a DAG run and return its task instances, in the order of their numbers."""
    dag: Any = SerializedDagModel.get_dag(dag_id, session=session)
    now = datetime.now(UTC)
    dag_run = dag.create_dagrun(
        run_id=f"manual__{now.isoformat()}",
        logical_date=now,
        data_interval=(now, now),
        run_after=now,
        conf={"waits": waits},
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state=DagRunState.RUNNING,
        start_date=now,
        session=session,
    )
    tasks = dag_run.get_task_instances(session=session)
    for task in tasks:
        task.task = dag.get_task(task.task_id)
    return sorted(tasks, key=lambda task: int(task.task_id.removeprefix("wait_")))


def _hand_over(task: Any, trigger: Any, session: Any) -> None:
    path, arguments = trigger.serialize()
    row = Trigger(classpath=path, kwargs=arguments)
    session.add(row)
    session.flush()
    task.state = TaskInstanceState.DEFERRED
    task.trigger_id = row.id
    task.trigger_timeout = datetime.now(UTC) + timedelta(seconds=_TIMEOUT)
    task.next_method, task.next_kwargs = "execute_complete", {}
    task.start_date, task.try_number = datetime.now(UTC), 1


if __name__ == "__main__":
    main()
