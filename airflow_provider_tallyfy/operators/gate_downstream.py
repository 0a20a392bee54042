"""
The tasks downstream of a gate: which shapes of DAG keep them closed unless it was approved, and how they are skipped.

A rejection marks the task instances downstream as skipped. That lasts until one of them is cleared, so Airflow's
scheduler also reads in the XComs of upstream tasks what they skipped (``NotPreviouslySkippedDep``). It does not find
every XCom: before Airflow 3.2.2 none of an unmapped task for a mapped one, and since then none of a task in a mapped
task group. In those shapes the gate is skipped itself, and the trigger rules of the tasks directly downstream keep them
closed. A trigger rule that would not do so is refused, as is one that starts a task before the decision. A gate with
outlets is skipped itself too: its events would start the DAGs that are scheduled on them.

A branch operator cannot be skipped itself, since one of its branches runs. It marks the other task instances as
skipped, also in a mapped task group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, MappedOperator

from airflow_provider_tallyfy.version_compat import (
    FINDS_SKIPS_OF_UNMAPPED_TASKS,
    skip_task_instances,
    task_instance_states,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

SKIPPED_TASKS_KEY = "skipmixin_key"
"""Key of the XCom in which the scheduler finds the tasks that a task skipped; it has no public name."""
_NEVER_WAIT = ("always", "dummy")
_START_EARLY = ("one_success", "one_done", "one_failed")
_RUN_AFTER_ANY_END = (
    "all_done",
    "all_done_min_one_success",
    "all_done_setup_success",
    "none_skipped",
    "one_done",
)
_CLOSED_AFTER_A_SKIP = ("all_success", "none_skipped", "all_failed")
_STARTED_OR_ENDED = ("running", "success", "failed", "skipped")


class Downstream:
    """
    What is downstream of a gate in its DAG.

    :param gate: the operator, or the mapped operator.
    :param is_mapped: whether the operator is an instance of a mapped one.
    """

    def __init__(self, gate: Any, *, is_mapped: bool = False) -> None:
        self.gate = gate
        self.is_mapped = is_mapped or _is_mapped(gate)
        self.ignores_trigger_rules = bool(_argument(gate, "ignore_downstream_trigger_rules"))
        # An operator that is called by hand need not be in a DAG.
        is_alone = not gate.downstream_task_ids
        self.direct = [] if is_alone else list(gate.get_direct_relatives(upstream=False))
        self.all = [] if is_alone else list(gate.get_flat_relatives(upstream=False))
        self.is_branch = hasattr(getattr(gate, "operator_class", type(gate)), "is_tallyfy_branch")
        self.skips_gate = not self.is_branch and (
            self.is_mapped
            or bool(gate.outlets)  # the events of a task that succeeds start other DAGs
            or (
                not FINDS_SKIPS_OF_UNMAPPED_TASKS
                and any(_is_mapped(task) for task in self.direct if not task.is_teardown)
            )
        )

    @property
    def gated(self) -> list[Any]:
        """The tasks that a rejection skips."""
        tasks = self.all if self.ignores_trigger_rules else self.direct
        return [task for task in tasks if not task.is_teardown]

    def find_problems(self) -> list[str]:
        """Return why not all that is downstream can be kept closed, and what to write instead."""
        if len(list(self.gate.iter_mapped_task_groups())) > 1:
            return [f"Gate {self.gate.task_id!r} is in more than one mapped task group. Use one."]
        if self.is_branch and isinstance(self.gate, MappedOperator):
            return [
                f"Task {self.gate.task_id!r} is a mapped branch operator, whose instances would choose for the same "
                "tasks. Put it and its branches in one @task_group, and expand that."
            ]
        own = {self.gate.task_id}
        waited_for = own | {task.task_id for task in self.all} if self.ignores_trigger_rules else own
        problems = (self._find_problem(task, waited_for) for task in self.gated)
        return [
            *filter(None, problems),
            *self._find_problems_of_teardowns(),
            *self._find_problems_of_branches(),
        ]

    def _find_problem(self, task: Any, waited_for: set[str]) -> str | None:
        name = f"Task {task.task_id!r} is downstream of the gate {self.gate.task_id!r}"
        rule = str(getattr(task.trigger_rule, "value", task.trigger_rule))
        if rule in _NEVER_WAIT:
            return f"{name}, but trigger_rule={rule!r} starts it before the decision. Use 'all_success'."
        if rule in _START_EARLY and (task.upstream_task_ids - waited_for or self.is_mapped):
            return f"{name}, but trigger_rule={rule!r} may start it before the decision. Use 'all_success'."
        if rule in _RUN_AFTER_ANY_END and (reason := self._reason_to_fail()):
            return (
                f"{name}, and {reason} may fail the gate, after which trigger_rule={rule!r} lets it run. Use "
                "'all_success', or 'all_failed' for what handles a rejection."
            )
        if task.task_id not in self.gate.downstream_task_ids:
            return None
        if self.is_branch:
            return self._find_problem_of_mapped_branch(task, name)
        if self.skips_gate and rule not in _CLOSED_AFTER_A_SKIP:
            why = (
                "which has outlets"
                if self.gate.outlets
                else "and one of them is mapped or in a mapped task group"
            )
            return f"{name}, {why}. There, trigger_rule={rule!r} would let it run after a rejection. Use 'all_success'."
        if self.is_mapped and _is_mapped(task) and not _in_same_mapped_group(self.gate, task):
            return (
                f"{name}, and both are mapped: one rejection would skip all of its instances. Put both in one "
                "@task_group and expand that; or, if one rejection is to skip all, put an EmptyOperator between them."
            )
        return None

    def _reason_to_fail(self) -> str | None:
        """Return what makes the operator fail although a decision was made; ``None`` if nothing does."""
        if self.is_branch:
            return "a value that names no branch"
        for name in ("fail_on_reject", "require_comment", "approvers"):
            if _may_expand(self.gate, name, if_unknown=True) or _argument(self.gate, name) not in (
                None,
                False,
            ):
                return name
        return None

    def _find_problem_of_mapped_branch(self, task: Any, name: str) -> str | None:
        if self.is_mapped and not _in_same_mapped_group(self.gate, task):
            return (
                f"{name}, but not in its mapped task group, whose instances may choose different branches. Put the "
                "task into the group."
            )
        if not self.is_mapped and _is_mapped(task) and not FINDS_SKIPS_OF_UNMAPPED_TASKS:
            return (
                f"{name}, and is mapped or in a mapped task group: before Airflow 3.2.2, Airflow would run it when it "
                "is cleared. Put an EmptyOperator between them, and name that in the branches."
            )
        return None

    def _find_problems_of_teardowns(self) -> Iterator[str]:
        """Yield the tasks that would run after a rejection, as their only upstream task does: a teardown."""
        if self.ignores_trigger_rules:
            return
        behind = {self.gate.task_id, *(task.task_id for task in self.all if not task.is_teardown)}
        for teardown in self.all:
            if not teardown.is_teardown:
                continue
            for task in teardown.get_direct_relatives(upstream=False):
                if not task.is_teardown and not task.upstream_task_ids & behind:
                    yield (
                        f"Task {task.task_id!r} is downstream of the gate {self.gate.task_id!r} only behind "
                        f"the teardown {teardown.task_id!r}, which runs after a rejection too. Put it downstream of "
                        "another task, such as the gate."
                    )

    def _find_problems_of_branches(self) -> Iterator[str]:
        if not self.is_branch or not self.gate.has_dag():
            return
        direct = sorted(task.task_id for task in self.direct if not task.is_teardown)
        names = (name for names in _argument(self.gate, "branches").values() for name in names)
        for name in dict.fromkeys(names):
            followed = self._task_ids_of(name)
            if not followed or not followed <= set(direct):
                problem = "not directly downstream" if followed else "no task or task group of the DAG"
                yield (
                    f"Branch operator {self.gate.task_id!r}: {name!r} is {problem}. "
                    f"Directly downstream are: {', '.join(direct) or 'none'}."
                )

    def _task_ids_of(self, name: str) -> set[str]:
        """Return the ids of the tasks by which a branch begins: a task, or the first tasks of a task group."""
        dag = self.gate.dag
        if name in dag.task_group_dict:
            return {task.task_id for task in dag.task_group_dict[name].get_roots()}
        return {name} if name in dag.task_ids else set()

    def not_followed(self, names: Iterable[str]) -> list[Any]:
        """Return the tasks that a branch operator skips: directly downstream, and of no branch that it follows."""
        if not self.gated:
            return []
        followed = {task_id for name in names for task_id in self._task_ids_of(name)}
        for task_id in list(followed):
            followed |= self.gate.dag.get_task(task_id).get_flat_relative_ids(upstream=False)
        return [task for task in self.gated if task.task_id not in followed]


def find_problems(gate: Any) -> list[str]:
    """
    Return why a gate cannot keep all that is downstream of it closed, and what to write instead.

    :param gate: the operator, or the mapped operator, in its DAG.
    """
    if _may_expand(gate, "ignore_downstream_trigger_rules", if_unknown=False):
        return [
            f"Task {gate.task_id!r} is mapped over ignore_downstream_trigger_rules. Give all of its instances the same "
            "value, in partial()."
        ]
    return Downstream(gate).find_problems()


class DownstreamSkipper:
    """
    Skips the task instances downstream of one task instance of a gate.

    :param operator: the gate, as it runs.
    :param context: of its task instance.
    """

    def __init__(self, operator: Any, context: Context) -> None:
        self._operator = operator
        self._context = context
        map_index = getattr(context.get("ti"), "map_index", None)
        self._map_index = -1 if map_index is None else map_index
        self._downstream = Downstream(context.get("task", operator), is_mapped=self._map_index >= 0)

    @property
    def skips_gate(self) -> bool:
        """Whether the gate has to be skipped itself after a rejection."""
        return self._downstream.skips_gate

    def check(self) -> None:
        """
        Check the shape of the DAG, in case it was not checked when it was parsed.

        :raises AirflowFailException: something downstream could run after a rejection.
        """
        if problems := self._downstream.find_problems():
            self._skip_gated()  # now, since trigger rules may let it run after a failure
            raise AirflowFailException(" ".join(problems))

    def is_expanded_with(self, name: str) -> bool:
        """Return whether the operator is an instance of one that is mapped over an argument."""
        gate = self._downstream.gate
        mapped = gate.dag.task_dict.get(gate.task_id) if gate.has_dag() else None
        if not isinstance(mapped, MappedOperator) or name in mapped.partial_kwargs:
            return False
        # Only Airflow's own record distinguishes an argument that is None from one that is not given.
        return name in self._operator._BaseOperator__init_kwargs

    def close(self) -> None:
        """Skip what is downstream, now and when it is cleared alone."""
        if self.skips_gate and not self._downstream.ignores_trigger_rules:
            return  # the trigger rules of the tasks directly downstream keep them closed
        self._skip_gated()

    def follow(self, names: Sequence[str]) -> None:
        """Skip the tasks of branches that are not followed, now and when they are cleared alone."""
        skipped = self._downstream.not_followed(names)
        self._push_skipped(skipped)
        self._skip_waiting_instances(skipped)

    def open(self) -> None:
        """Take back what an earlier try skipped: a task that starts in the triggerer keeps the XComs of that try."""
        if self._operator.start_from_trigger and not self.skips_gate:
            self._push_skipped(())

    def _skip_gated(self) -> None:
        if not (gated := self._downstream.gated):
            return
        if not self.skips_gate:
            self._push_skipped(gated)
        self._skip_waiting_instances(gated)

    def _push_skipped(self, tasks: Iterable[Any]) -> None:
        skipped = [task.task_id for task in tasks]
        self._context["ti"].xcom_push(key=SKIPPED_TASKS_KEY, value={"skipped": skipped})

    def _skip_waiting_instances(self, tasks: Iterable[Any]) -> None:
        by_id = {task.task_id: task for task in tasks}
        mapped = {task_id for task_id, task in by_id.items() if _is_mapped(task)}
        states = task_instance_states(self._context, by_id.keys() - mapped, mapped)
        instances = [
            (task_id, map_index)
            for (task_id, map_index), state in states.items()
            if state not in _STARTED_OR_ENDED and not self._is_of_other_instance(by_id[task_id], map_index)
        ]
        if instances:
            skip_task_instances(self._context, instances)

    def _is_of_other_instance(self, task: Any, map_index: int) -> bool:
        """Return whether a task instance belongs to another instance of the mapped task group that the gate is in."""
        return map_index != self._map_index and _in_same_mapped_group(self._downstream.gate, task)


def _may_expand(gate: Any, name: str, *, if_unknown: bool) -> bool:
    """
    Return whether a mapped operator is mapped over an argument.

    :param if_unknown: what to return if ``expand_kwargs()`` gets the output of another task.
    """
    value = getattr(getattr(gate, "expand_input", None), "value", ())
    if isinstance(value, (list, tuple)):
        return any(name in each if isinstance(each, Mapping) else if_unknown for each in value)
    return name in value if isinstance(value, Mapping) else if_unknown


def _argument(gate: Any, name: str) -> Any:
    """Return an argument of an operator or of a mapped one."""
    if not isinstance(gate, MappedOperator):
        return getattr(gate, name)
    defaults = {
        **(getattr(gate.dag, "default_args", None) or {}),
        **gate.partial_kwargs.get("default_args", {}),
    }
    return {**defaults, **gate.partial_kwargs}.get(name)


def _is_mapped(task: Any) -> bool:
    return isinstance(task, MappedOperator) or task.get_closest_mapped_task_group() is not None


def _in_same_mapped_group(gate: Any, task: Any) -> bool:
    group, other = gate.get_closest_mapped_task_group(), task.get_closest_mapped_task_group()
    return group is not None and other is not None and group.group_id == other.group_id
