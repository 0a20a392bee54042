"""
Shapes of DAG around an approval, each with what becomes of its task instances.

In each DAG run, the approval of the first process is rejected, and that of the second is approved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, BaseOperator, TaskGroup, task, task_group

from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator, TallyfyBranchOperator

REJECTED = "{{ params.run_ids[0] }}"
OF_MAP_INDEX = "{{ params.run_ids[ti.map_index] }}"
TWICE = [0, 1]
REFUSED: dict[str, str] = {}


class Work(BaseOperator):
    """
    Does nothing, in a worker.

    :param number: for a mapped one.
    """

    def __init__(self, *, number: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number

    def execute(self, context: Any) -> int:
        return self.number


@dataclass(frozen=True)
class Shape:
    """
    A shape of DAG.

    :param title: for the table in the documentation.
    :param build: makes its tasks, within the DAG.
    :param states: of its task instances once the DAG run has ended; none if the DAG is refused.
    :param cleared: tasks that are cleared alone afterwards; then all states are as before.
    :param decide: whether the approvals are decided; otherwise they time out.
    :param deferred: whether the approval is decided only when it is deferred.
    :param hidden: whether a rule hides the approval.
    """

    title: str
    build: Callable[[], None]
    states: dict[str, str] = field(default_factory=lambda: REFUSED)
    cleared: tuple[str, ...] = ()
    decide: bool = True
    deferred: bool = False
    hidden: bool = False


def gate(run_id: str = REJECTED, **arguments: Any) -> TallyfyApprovalOperator:
    approval = "Approve release"
    return TallyfyApprovalOperator(
        **{"task_id": "gate", "run_id": run_id, "task": approval, "poke_interval": 1, **arguments}
    )


@task.short_circuit(ignore_downstream_trigger_rules=False)
def short_circuit(number: int) -> bool:
    return number == 1


def mapped_gate(**arguments: Any) -> Any:
    approval = "Approve release"
    return TallyfyApprovalOperator.partial(
        task_id="gate", task=approval, poke_interval=1, **arguments
    ).expand(run_id=["{{ params.run_ids[0] }}", "{{ params.run_ids[1] }}"])


def work(task_id: str = "publish", **arguments: Any) -> Work:
    return Work(task_id=task_id, **arguments)


def mapped_work(task_id: str = "publish", **arguments: Any) -> Any:
    return Work.partial(task_id=task_id, **arguments).expand(number=TWICE)


def plain() -> None:
    gate() >> work() >> work("at_the_end", trigger_rule="all_done")


def with_rules() -> None:
    approval = gate()
    approval >> work("none_failed", trigger_rule="none_failed")
    approval >> work("all_done", trigger_rule="all_done")
    approval >> work("one_success", trigger_rule="one_success")


def ignoring_rules() -> None:
    (
        gate(ignore_downstream_trigger_rules=True)
        >> work()
        >> work("announce", trigger_rule="none_failed")
        >> work("at_the_end", trigger_rule="all_done")
    )


def ignoring_rules_mapped() -> None:
    (
        gate(ignore_downstream_trigger_rules=True)
        >> work()
        >> mapped_work("announce", trigger_rule="none_failed")
    )


def mapped_behind() -> None:
    gate() >> mapped_work()


def mapped_behind_with_rule() -> None:
    gate() >> mapped_work(trigger_rule="none_failed")


def mapped_by_a_result() -> None:
    @task
    def numbers() -> list[int]:
        return TWICE

    gate() >> Work.partial(task_id="publish").expand(number=numbers())


def group_behind() -> None:
    @task_group
    def each(number: int) -> None:
        Work(task_id="publish", number=number) >> work("announce")

    gate() >> each.expand(number=TWICE)


def mapped_group() -> None:
    @task_group
    def each(number: int) -> None:
        gate(OF_MAP_INDEX) >> Work(task_id="publish", number=number)

    each.expand(number=TWICE) >> work("at_the_end", trigger_rule="all_done")


def mapped_group_deferred() -> None:
    @task_group
    def each(number: int) -> None:
        gate(OF_MAP_INDEX, deferrable=True) >> Work(task_id="publish", number=number)

    each.expand(number=TWICE)


def nested_group() -> None:
    @task_group
    def each(number: int) -> None:
        with TaskGroup("inner"):
            approval = gate(OF_MAP_INDEX)
        approval >> Work(task_id="publish", number=number) >> work("announce")

    each.expand(number=TWICE)


def mapped_group_ignoring_rules() -> None:
    @task_group
    def each(number: int) -> None:
        (
            gate(OF_MAP_INDEX, ignore_downstream_trigger_rules=True)
            >> Work(task_id="publish", number=number)
            >> work("announce", trigger_rule="all_done")
        )

    each.expand(number=TWICE)


def at_the_end_of_a_mapped_group() -> None:
    @task_group
    def each(number: int) -> None:
        Work(task_id="prepare", number=number) >> gate(OF_MAP_INDEX)

    each.expand(number=TWICE) >> work()


def mapped_itself() -> None:
    mapped_gate() >> work()


def mapped_itself_with_rule() -> None:
    mapped_gate() >> work(trigger_rule="none_failed")


def mapped_itself_before_mapped() -> None:
    mapped_gate() >> mapped_work()


def setup_and_teardown() -> None:
    create, use, delete = work("create"), work("publish"), work("delete")
    gate() >> create.as_setup() >> use >> delete.as_teardown(setups=create)


def within_setup_and_teardown() -> None:
    create, use, delete = work("create"), work("publish"), work("delete")
    approval = gate()
    create.as_setup() >> approval >> use >> delete.as_teardown(setups=create)
    approval >> delete


def teardown_in_a_mapped_group() -> None:
    @task_group
    def each(number: int) -> None:
        create, delete = work("create"), work("delete")
        (
            create.as_setup()
            >> gate(OF_MAP_INDEX)
            >> Work(task_id="publish", number=number)
            >> delete.as_teardown(setups=create)
        )

    each.expand(number=TWICE)


def behind_a_teardown() -> None:
    create, delete = work("create"), work("delete")
    create.as_setup() >> gate() >> delete.as_teardown(setups=create) >> work()


def after_its_teardown() -> None:
    create, use, delete = work("create"), work("use"), work("delete")
    create.as_setup() >> gate() >> use >> delete.as_teardown(setups=create) >> work()


def failing() -> None:
    approval = gate(fail_on_reject=True)
    approval >> work() >> work("at_the_end", trigger_rule="all_done")
    approval >> work("handle_rejection", trigger_rule="all_failed")


def failing_with_rule() -> None:
    gate(fail_on_reject=True) >> work(trigger_rule="all_done")


def soft_fail() -> None:
    gate(timeout=1, soft_fail=True) >> work(trigger_rule="none_failed")


def hidden() -> None:
    gate() >> work(trigger_rule="none_failed")


def deferred() -> None:
    gate(deferrable=True) >> work(trigger_rule="none_failed")


def rescheduled() -> None:
    gate(mode="reschedule") >> work(trigger_rule="none_failed")


def started_in_the_triggerer() -> None:
    gate(deferrable=True, start_from_trigger=True) >> work(trigger_rule="none_failed")


def with_outlets() -> None:
    gate(outlets=[Asset("approved")]) >> work()


def always() -> None:
    gate() >> work(trigger_rule="always")


def started_by_another_task() -> None:
    [gate(), work("other")] >> work(trigger_rule="one_success")


def branch(run_id: str = REJECTED, prefix: str = "", **arguments: Any) -> TallyfyBranchOperator:
    branches = {"approved": f"{prefix}publish", "rejected": f"{prefix}repair"}
    return TallyfyBranchOperator(
        task_id="gate",
        run_id=run_id,
        task="Approve release",
        branches=branches,
        poke_interval=1,
        **arguments,
    )


def branches() -> None:
    chosen = [work(), work("repair", trigger_rule="none_failed")]
    branch() >> chosen >> work("at_the_end", trigger_rule="none_failed_min_one_success")


def branches_deferred() -> None:
    branch(deferrable=True) >> [work(), work("repair")]


def branches_in_a_mapped_group() -> None:
    @task_group
    def each(number: int) -> None:
        branch(OF_MAP_INDEX, "each.") >> [
            Work(task_id="publish", number=number),
            Work(task_id="repair", number=number, trigger_rule="none_failed"),
        ]

    each.expand(number=TWICE)


def mapped_branch() -> None:
    (
        TallyfyBranchOperator.partial(
            task_id="gate", task="Approve release", branches={"approved": "publish", "rejected": None}
        ).expand(run_id=["{{ params.run_ids[0] }}", "{{ params.run_ids[1] }}"])
        >> work()
    )


def branch_that_is_not_downstream() -> None:
    branch() >> work() >> work("repair")


def of_an_approver() -> None:
    gate(approvers="ada@example.com", retries=1) >> [
        work(),
        work("none_failed", trigger_rule="none_failed"),
        work("handle_failure", trigger_rule="all_failed"),
    ]


def of_an_approver_with_rule() -> None:
    gate(approvers="ada@example.com") >> work(trigger_rule="all_done")


def of_an_approver_in_a_mapped_group() -> None:
    @task_group
    def each(number: int) -> None:
        gate(OF_MAP_INDEX, approvers="ada@example.com") >> Work(task_id="publish", number=number)

    each.expand(number=TWICE)


def rejected_at_the_timeout() -> None:
    gate(timeout=1, on_timeout="reject") >> work(trigger_rule="none_failed")


def skipped_at_the_timeout() -> None:
    gate(timeout=1, on_timeout="skip", deferrable=True) >> work(trigger_rule="none_failed")


OPEN_AND_CLOSED = {"each.gate[0]": "skipped", "each.gate[1]": "success"}

SHAPES = {
    "plain": Shape(
        "gate → task",
        plain,
        {"gate": "success", "publish": "skipped", "at_the_end": "success"},
        ("publish",),
    ),
    "with_rules": Shape(
        "gate → task with another trigger rule",
        with_rules,
        {"gate": "success", "none_failed": "skipped", "all_done": "skipped", "one_success": "skipped"},
        ("none_failed", "all_done"),
    ),
    "ignoring_rules": Shape(
        "gate with `ignore_downstream_trigger_rules` → tasks with other trigger rules",
        ignoring_rules,
        {"gate": "success", "publish": "skipped", "announce": "skipped", "at_the_end": "skipped"},
    ),
    "ignoring_rules_mapped": Shape(
        "gate with `ignore_downstream_trigger_rules` → task → mapped task with another one",
        ignoring_rules_mapped,
        {"gate": "success", "publish": "skipped", "announce[0]": "skipped", "announce[1]": "skipped"},
    ),
    "mapped_behind": Shape(
        "gate → mapped task",
        mapped_behind,
        {"gate": "*", "publish[0]": "skipped", "publish[1]": "skipped"},
        ("publish",),
    ),
    "mapped_behind_with_rule": Shape(
        "gate → mapped task with another trigger rule",
        mapped_behind_with_rule,
        {"gate": "success", "publish[0]": "skipped", "publish[1]": "skipped"},
        ("publish",),
    ),
    "mapped_by_a_result": Shape(
        "gate → task that is mapped over a result",
        mapped_by_a_result,
        {"gate": "*", "numbers": "success", "publish": "skipped"},
    ),
    "group_behind": Shape(
        "gate → mapped task group",
        group_behind,
        {
            "gate": "*",
            **{f"each.{name}[{index}]": "skipped" for name in ("publish", "announce") for index in TWICE},
        },
        ("each.publish",),
    ),
    "mapped_group": Shape(
        "gate → task, in a mapped task group",
        mapped_group,
        {
            **OPEN_AND_CLOSED,
            "each.publish[0]": "skipped",
            "each.publish[1]": "success",
            "at_the_end": "success",
        },
        ("each.publish",),
    ),
    "mapped_group_deferred": Shape(
        "deferred gate → task, in a mapped task group",
        mapped_group_deferred,
        {**OPEN_AND_CLOSED, "each.publish[0]": "skipped", "each.publish[1]": "success"},
        deferred=True,
    ),
    "nested_group": Shape(
        "gate in a task group → task, in a mapped task group",
        nested_group,
        {
            "each.inner.gate[0]": "skipped",
            "each.inner.gate[1]": "success",
            "each.publish[0]": "skipped",
            "each.publish[1]": "success",
            "each.announce[0]": "skipped",
            "each.announce[1]": "success",
        },
    ),
    "mapped_group_ignoring_rules": Shape(
        "gate with `ignore_downstream_trigger_rules` → tasks, in a mapped task group",
        mapped_group_ignoring_rules,
        {
            **OPEN_AND_CLOSED,
            "each.publish[0]": "skipped",
            "each.publish[1]": "success",
            "each.announce[0]": "skipped",
            "each.announce[1]": "success",
        },
    ),
    "at_the_end_of_a_mapped_group": Shape(
        "gate at the end of a mapped task group → task",
        at_the_end_of_a_mapped_group,
        {
            **OPEN_AND_CLOSED,
            "each.prepare[0]": "success",
            "each.prepare[1]": "success",
            "publish": "skipped",
        },
        ("publish",),
    ),
    "mapped_itself": Shape(
        "mapped gate → task",
        mapped_itself,
        {"gate[0]": "skipped", "gate[1]": "success", "publish": "skipped"},
        ("publish",),
    ),
    "mapped_itself_with_rule": Shape("mapped gate → task with another trigger rule", mapped_itself_with_rule),
    "mapped_itself_before_mapped": Shape("mapped gate → mapped task", mapped_itself_before_mapped),
    "setup_and_teardown": Shape(
        "gate → setup → task → teardown",
        setup_and_teardown,
        {"gate": "success", "create": "skipped", "publish": "skipped", "delete": "skipped"},
        ("publish",),
    ),
    "within_setup_and_teardown": Shape(
        "setup → gate → task → teardown",
        within_setup_and_teardown,
        {"gate": "success", "create": "success", "publish": "skipped", "delete": "success"},
        ("publish",),
    ),
    "teardown_in_a_mapped_group": Shape(
        "setup → gate → task → teardown, in a mapped task group",
        teardown_in_a_mapped_group,
        {
            **OPEN_AND_CLOSED,
            **{f"each.{name}[{index}]": "success" for name in ("create", "delete") for index in TWICE},
            "each.publish[0]": "skipped",
            "each.publish[1]": "success",
        },
    ),
    "behind_a_teardown": Shape("gate → teardown → task", behind_a_teardown),
    "after_its_teardown": Shape("setup → gate → task → teardown → task", after_its_teardown),
    "failing": Shape(
        "gate with `fail_on_reject` → task",
        failing,
        {
            "gate": "failed",
            "publish": "upstream_failed",
            "handle_rejection": "success",
            "at_the_end": "success",
        },
        ("publish",),
    ),
    "failing_with_rule": Shape("gate with `fail_on_reject` → task with `all_done`", failing_with_rule),
    "with_outlets": Shape(
        "gate with `outlets` → task", with_outlets, {"gate": "skipped", "publish": "skipped"}, ("publish",)
    ),
    "soft_fail": Shape(
        "gate that times out with `soft_fail` → task with another trigger rule",
        soft_fail,
        {"gate": "skipped", "publish": "skipped"},
        ("publish",),
        decide=False,
    ),
    "hidden": Shape(
        "gate whose task a rule hides → task with another trigger rule",
        hidden,
        {"gate": "skipped", "publish": "skipped"},
        ("publish",),
        hidden=True,
    ),
    "deferred": Shape(
        "deferred gate → task with another trigger rule",
        deferred,
        {"gate": "success", "publish": "skipped"},
        ("publish",),
        deferred=True,
    ),
    "rescheduled": Shape(
        "gate in mode `reschedule` → task with another trigger rule",
        rescheduled,
        {"gate": "success", "publish": "skipped"},
        ("publish",),
    ),
    "started_in_the_triggerer": Shape(
        "gate that starts in the triggerer → task with another trigger rule",
        started_in_the_triggerer,
        {"gate": "success", "publish": "skipped"},
        ("publish",),
        deferred=True,
    ),
    "of_an_approver": Shape(
        "gate that someone decides who is none of its `approvers` → tasks",
        of_an_approver,
        {
            "gate": "failed",
            "publish": "upstream_failed",
            "none_failed": "upstream_failed",
            "handle_failure": "success",
        },
        ("publish",),
    ),
    "of_an_approver_in_a_mapped_group": Shape(
        "the same, in a mapped task group",
        of_an_approver_in_a_mapped_group,
        {
            **{f"each.gate[{index}]": "failed" for index in TWICE},
            **{f"each.publish[{index}]": "upstream_failed" for index in TWICE},
        },
    ),
    "rejected_at_the_timeout": Shape(
        'gate that times out with `on_timeout="reject"` → task with another trigger rule',
        rejected_at_the_timeout,
        {"gate": "success", "publish": "skipped"},
        ("publish",),
        decide=False,
    ),
    "skipped_at_the_timeout": Shape(
        'deferred gate that times out with `on_timeout="skip"` → task with another trigger rule',
        skipped_at_the_timeout,
        {"gate": "skipped", "publish": "skipped"},
        ("publish",),
        decide=False,
    ),
    "branches": Shape(
        "branch operator → tasks, one with another trigger rule → task",
        branches,
        {"gate": "success", "publish": "skipped", "repair": "success", "at_the_end": "success"},
        ("publish",),
    ),
    "branches_deferred": Shape(
        "deferred branch operator → tasks",
        branches_deferred,
        {"gate": "success", "publish": "skipped", "repair": "success"},
        ("publish",),
        deferred=True,
    ),
    "branches_in_a_mapped_group": Shape(
        "branch operator → tasks, one with another trigger rule, in a mapped task group",
        branches_in_a_mapped_group,
        {
            **{f"each.gate[{index}]": "success" for index in TWICE},
            "each.publish[0]": "skipped",
            "each.publish[1]": "success",
            "each.repair[0]": "success",
            "each.repair[1]": "skipped",
        },
    ),
    "mapped_branch": Shape("mapped branch operator → task", mapped_branch),
    "branch_that_is_not_downstream": Shape(
        "branch operator → task → task that it names", branch_that_is_not_downstream
    ),
    "of_an_approver_with_rule": Shape(
        "gate with `approvers` → task with `all_done`", of_an_approver_with_rule
    ),
    "always": Shape("gate → task with the trigger rule `always`", always),
    "started_by_another_task": Shape(
        "gate and another task → task with the trigger rule `one_success`", started_by_another_task
    ),
}


def own_in_a_mapped_group() -> None:
    @task_group
    def each(number: int) -> None:
        short_circuit(number) >> Work(task_id="publish", number=number)

    each.expand(number=TWICE)


def own_mapped_itself() -> None:
    short_circuit.expand(number=TWICE) >> work()


#: How Airflow's own gate does in the shapes that its scheduler does not hold, with the instance that should be skipped.
SHAPES_OF_AIRFLOWS_OWN = {
    "own_in_a_mapped_group": (
        "Airflow's `ShortCircuitOperator` → task, in a mapped task group",
        own_in_a_mapped_group,
        "each.publish[0]",
    ),
    "own_mapped_itself": (
        "mapped `ShortCircuitOperator` of Airflow's → task",
        own_mapped_itself,
        "publish",
    ),
}


def build(name: str) -> DAG:
    """Return the DAG of a shape."""
    with DAG(name, schedule=None, params={"run_ids": []}) as dag:
        (SHAPES[name].build if name in SHAPES else SHAPES_OF_AIRFLOWS_OWN[name][1])()
    return dag
