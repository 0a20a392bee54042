"""
Keep what is downstream of an approval closed unless it was approved, in every shape of DAG.

A rejected approval marks its downstream task instances as skipped. That lasts until one of them is cleared, so
Airflow's scheduler also looks into the XComs of upstream tasks for what they skipped (``NotPreviouslySkippedDep``). It
does not find every XCom: before Airflow 3.2.2 none of an unmapped task for a mapped one, and since then none of a task
in a mapped task group. In those shapes the approval is skipped itself, and the trigger rules of the tasks directly
downstream keep them closed. A trigger rule that would not do so is refused, as is one that starts a task before the
decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    XCOM_RETURN_KEY,
    AirflowFailException,
    AirflowSkipException,
    MappedOperator,
)

from airflow_provider_tallyfy.operators.approval import format_decision
from airflow_provider_tallyfy.version_compat import (
    FINDS_SKIPS_OF_UNMAPPED_TASKS,
    skip_task_instances,
    task_instance_states,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

SKIPPED_TASKS_KEY = "skipmixin_key"
"""Key of the XCom in which the scheduler looks for the tasks that a task skipped; it has no public name."""
_KEEP_CLOSED_AFTER_A_SKIP = frozenset({"all_success", "none_skipped", "all_failed", "one_failed"})
_START_BEFORE_ALL_ENDED = frozenset({"one_success", "one_done"})
_STARTED_OR_ENDED = ("running", "success", "failed", "skipped")


def find_problems(gate: Any) -> list[str]:
    """
    Return why the approval cannot keep all that is downstream of it closed, and what to write instead.

    :param gate: the operator, or the mapped operator, in its DAG.
    """
    return [problem for task in _gated(gate) if (problem := _find_problem(gate, task))]


def _find_problem(gate: Any, task: Any) -> str | None:
    name = f"Task {task.task_id!r} is downstream of the approval {gate.task_id!r}"
    rule = str(getattr(task.trigger_rule, "value", task.trigger_rule))
    if task.is_teardown:
        behind = sorted(each.task_id for each in task.downstream_list if not each.is_teardown)
        is_direct = task.task_id in gate.downstream_task_ids
        return (
            f"{name} as a teardown, which runs after a rejection too, and so would what is behind it: "
            f"{', '.join(behind)}. Set that downstream of another task."
            if behind and is_direct and not _ignores_trigger_rules(gate)
            else None
        )
    if rule in ("always", "dummy"):
        return f"{name}, but trigger_rule={rule!r} starts it before the decision. Use 'all_success'."
    if rule in _START_BEFORE_ALL_ENDED and task.upstream_task_ids - _behind(gate):
        return (
            f"{name}, but with its other upstream tasks, trigger_rule={rule!r} may start it before the decision. "
            "Use 'all_success' or 'none_failed_min_one_success'."
        )
    if task.task_id not in gate.downstream_task_ids or not _is_skipped_itself(gate):
        return None
    if rule not in _KEEP_CLOSED_AFTER_A_SKIP:
        return (
            f"{name}, and one of them is mapped or in a mapped task group. There, trigger_rule={rule!r} would let it "
            "run after a rejection. Use 'all_success'."
        )
    if _is_mapped(gate) and isinstance(task, MappedOperator) and not _in_same_mapped_group(gate, task):
        return (
            f"{name}, and both are mapped: one rejection would skip all of its instances. Put both in a @task_group "
            "and expand that one; or, if one rejection is to skip all, put an EmptyOperator between them."
        )
    return None


class Gate:
    """
    What one task instance of an approval does to the task instances downstream of it.

    :param operator: the approval, as it runs.
    :param context: of its task instance.
    """

    def __init__(self, operator: Any, context: Context) -> None:
        self._operator = operator
        self._context = context
        self._task: Any = context.get("task", operator)

    def check(self) -> None:
        """
        Check the shape of the DAG, in case it was not checked when it was parsed.

        :raises AirflowFailException: something downstream could run after a rejection.
        """
        if problems := find_problems(self._task):
            raise AirflowFailException(" ".join(problems))

    def reject(self, decision: dict[str, Any]) -> dict[str, Any]:
        """
        Skip what is downstream, and return the decision as the result of the task.

        :raises AirflowSkipException: the task is to be skipped itself; the decision is pushed.
        """
        self.close()
        if not self._is_skipped_itself:
            return decision
        if self._operator.do_xcom_push:
            outputs = decision if self._operator.multiple_outputs else {}
            for key, value in {**outputs, XCOM_RETURN_KEY: decision}.items():
                self._context["ti"].xcom_push(key=key, value=value)
        raise AirflowSkipException(format_decision(decision))

    def close(self) -> None:
        """Skip what is downstream, now and when it is cleared alone."""
        tasks = [task for task in _gated(self._task) if not task.is_teardown]
        if self._is_skipped_itself and not _ignores_trigger_rules(self._task):
            return  # the trigger rules of the tasks directly downstream keep them closed
        if tasks and not self._is_skipped_itself:
            self._push_skipped(task.task_id for task in tasks)
        if instances := list(self._waiting_instances(tasks)):
            skip_task_instances(self._context, instances)

    def open(self) -> None:
        """Take back what an earlier try skipped: a task that starts in the triggerer keeps the XComs of that try."""
        if self._operator.start_from_trigger and not self._is_skipped_itself:
            self._push_skipped(())

    def _push_skipped(self, task_ids: Iterable[str]) -> None:
        self._context["ti"].xcom_push(key=SKIPPED_TASKS_KEY, value={"skipped": list(task_ids)})

    @property
    def _map_index(self) -> int:
        map_index = getattr(self._context.get("ti"), "map_index", None)
        return -1 if map_index is None else map_index

    @property
    def _is_skipped_itself(self) -> bool:
        return self._map_index >= 0 or _is_skipped_itself(self._task)

    def _waiting_instances(self, tasks: Iterable[Any]) -> Iterator[tuple[str, int]]:
        for task in tasks:
            only = self._map_index if _in_same_mapped_group(self._task, task) else None
            for map_index, state in task_instance_states(self._context, task.task_id).items():
                if only in (None, map_index) and state not in _STARTED_OR_ENDED:
                    yield task.task_id, map_index


def _gated(gate: Any) -> list[Any]:
    """Return the tasks that a rejection skips, and the teardowns among them, which it does not."""
    if not gate.downstream_task_ids:  # it need not be in a DAG then
        return []
    if _ignores_trigger_rules(gate):
        return list(gate.get_flat_relatives(upstream=False))
    return list(gate.get_direct_relatives(upstream=False))


def _ignores_trigger_rules(gate: Any) -> bool:
    arguments = getattr(gate, "partial_kwargs", None) or vars(gate)
    return bool(arguments.get("ignore_downstream_trigger_rules"))


def _behind(gate: Any) -> set[str]:
    return {gate.task_id, *gate.get_flat_relative_ids(upstream=False)}


def _is_skipped_itself(gate: Any) -> bool:
    if _is_mapped(gate):
        return True
    return not FINDS_SKIPS_OF_UNMAPPED_TASKS and any(
        _is_mapped(task) and not task.is_teardown
        for task in _gated(gate)
        if task.task_id in gate.downstream_task_ids
    )


def _is_mapped(task: Any) -> bool:
    return isinstance(task, MappedOperator) or task.get_closest_mapped_task_group() is not None


def _in_same_mapped_group(gate: Any, task: Any) -> bool:
    group, other = gate.get_closest_mapped_task_group(), task.get_closest_mapped_task_group()
    return group is not None and other is not None and group.group_id == other.group_id
