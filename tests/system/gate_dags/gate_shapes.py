"""
Shapes of DAG around a gate, each with what becomes of its task instances.

In each DAG run, the approval of the first process is rejected, and that of the second is approved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, BaseOperator, TaskGroup, task, task_group

from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator, TallyfyBranchOperator

RUN_IDS = ["{{ params.run_ids[0] }}", "{{ params.run_ids[1] }}"]
REJECTED = RUN_IDS[0]
OF_MAP_INDEX = "{{ params.run_ids[ti.map_index] }}"
TWICE = [0, 1]
Build = Callable[[], object]


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
    build: Build
    states: dict[str, str]
    cleared: tuple[str, ...] = ()
    decide: bool = True
    deferred: bool = False
    hidden: bool = False


SHAPES: dict[str, Shape] = {}


def shape(title: str, states: str = "", *cleared: str, **more: bool) -> Callable[[Build], Build]:
    """
    Add a shape, by the name of the function that builds it.

    :param states: such as ``gate success, publish skipped success``; two states are those of mapped instances 0 and 1,
        and a ``*`` stands for one that differs between Airflow versions. Without any, the DAG is refused.
    """
    by_instance: dict[str, str] = {}
    for each in filter(None, states.split(", ")):
        task_id, *found = each.split()
        by_instance |= (
            {f"{task_id}[{index}]": state for index, state in enumerate(found)}
            if found[1:]
            else {task_id: found[0]}
        )

    def add(build: Build) -> Build:
        SHAPES[build.__name__] = Shape(title, build, by_instance, cleared, **more)
        return build

    return add


def gate(run_id: str = REJECTED, **arguments: Any) -> TallyfyApprovalOperator:
    return TallyfyApprovalOperator(
        **{"task_id": "gate", "run_id": run_id, "task": "Approve release", "poke_interval": 1, **arguments}
    )


def mapped_gate() -> Any:
    gate = TallyfyApprovalOperator.partial(task_id="gate", task="Approve release", poke_interval=1)
    return gate.expand(run_id=RUN_IDS)


def branch(run_id: str = REJECTED, prefix: str = "", **arguments: Any) -> TallyfyBranchOperator:
    return TallyfyBranchOperator(
        task_id="gate",
        run_id=run_id,
        task="Approve release",
        branches={"approved": f"{prefix}publish", "rejected": f"{prefix}repair"},
        poke_interval=1,
        **arguments,
    )


def work(task_id: str = "publish", **arguments: Any) -> Work:
    return Work(task_id=task_id, **arguments)


def mapped_work(task_id: str = "publish", **arguments: Any) -> Any:
    return Work.partial(task_id=task_id, **arguments).expand(number=TWICE)


def for_each(build: Callable[[int], object]) -> Any:
    """Make a mapped task group with two instances."""

    @task_group
    def each(number: int) -> None:
        build(number)

    return each.expand(number=TWICE)


@shape("gate → task", "gate success, publish skipped, at_the_end success", "publish")
def plain() -> None:
    gate() >> work() >> work("at_the_end", trigger_rule="all_done")


@shape(
    "gate → task with another trigger rule",
    "gate success, none_failed skipped, all_done skipped, one_success skipped",
    "none_failed",
    "all_done",
)
def with_rules() -> None:
    gate() >> [work(rule, trigger_rule=rule) for rule in ("none_failed", "all_done", "one_success")]


@shape(
    "gate with `ignore_downstream_trigger_rules` → tasks with other trigger rules",
    "gate success, publish skipped, announce skipped, at_the_end skipped",
)
def ignoring_rules() -> None:
    announce, at_the_end = (
        work("announce", trigger_rule="none_failed"),
        work("at_the_end", trigger_rule="all_done"),
    )
    gate(ignore_downstream_trigger_rules=True) >> work() >> announce >> at_the_end


@shape(
    "gate with `ignore_downstream_trigger_rules` → task → mapped task with another one",
    "gate success, publish skipped, announce skipped skipped",
)
def ignoring_rules_mapped() -> None:
    announce = mapped_work("announce", trigger_rule="none_failed")
    gate(ignore_downstream_trigger_rules=True) >> work() >> announce


@shape("gate → mapped task", "gate *, publish skipped skipped", "publish")
def mapped_behind() -> None:
    gate() >> mapped_work()


@shape("gate → mapped task with another trigger rule", "gate success, publish skipped skipped", "publish")
def mapped_behind_with_rule() -> None:
    gate() >> mapped_work(trigger_rule="none_failed")


@shape("gate → task that is mapped over a result", "gate *, numbers success, publish skipped")
def mapped_by_a_result() -> None:
    @task
    def numbers() -> list[int]:
        return TWICE

    gate() >> Work.partial(task_id="publish").expand(number=numbers())


@shape(
    "gate → mapped task group",
    "gate *, each.publish skipped skipped, each.announce skipped skipped",
    "each.publish",
)
def group_behind() -> None:
    gate() >> for_each(lambda number: work(number=number) >> work("announce"))


@shape(
    "gate → task, in a mapped task group",
    "each.gate skipped success, each.publish skipped success, at_the_end success",
    "each.publish",
)
def mapped_group() -> None:
    group = for_each(lambda number: gate(OF_MAP_INDEX) >> work(number=number))
    group >> work("at_the_end", trigger_rule="all_done")


@shape(
    "deferred gate → task, in a mapped task group",
    "each.gate skipped success, each.publish skipped success",
    deferred=True,
)
def mapped_group_deferred() -> None:
    for_each(lambda number: gate(OF_MAP_INDEX, deferrable=True) >> work(number=number))


@shape(
    "gate in a task group → task, in a mapped task group",
    "each.inner.gate skipped success, each.publish skipped success, each.announce skipped success",
)
def nested_group() -> None:
    def build(number: int) -> None:
        with TaskGroup("inner"):
            approval = gate(OF_MAP_INDEX)
        approval >> work(number=number) >> work("announce")

    for_each(build)


@shape(
    "gate with `ignore_downstream_trigger_rules` → tasks, in a mapped task group",
    "each.gate skipped success, each.publish skipped success, each.announce skipped success",
)
def mapped_group_ignoring_rules() -> None:
    for_each(
        lambda number: (
            gate(OF_MAP_INDEX, ignore_downstream_trigger_rules=True)
            >> work(number=number)
            >> work("announce", trigger_rule="all_done")
        )
    )


@shape(
    "gate at the end of a mapped task group → task",
    "each.gate skipped success, each.prepare success success, publish skipped",
    "publish",
)
def at_the_end_of_a_mapped_group() -> None:
    for_each(lambda number: work("prepare", number=number) >> gate(OF_MAP_INDEX)) >> work()


@shape("mapped gate → task", "gate skipped success, publish skipped", "publish")
def mapped_itself() -> None:
    mapped_gate() >> work()


@shape("mapped gate → task with another trigger rule")
def mapped_itself_with_rule() -> None:
    mapped_gate() >> work(trigger_rule="none_failed")


@shape("mapped gate → mapped task")
def mapped_itself_before_mapped() -> None:
    mapped_gate() >> mapped_work()


@shape(
    "gate → setup → task → teardown",
    "gate success, create skipped, publish skipped, delete skipped",
    "publish",
)
def setup_and_teardown() -> None:
    create = work("create").as_setup()
    gate() >> create >> work() >> work("delete").as_teardown(setups=create)


@shape(
    "setup → gate → task → teardown",
    "gate success, create success, publish skipped, delete success",
    "publish",
)
def within_setup_and_teardown() -> None:
    create, approval = work("create").as_setup(), gate()
    delete = work("delete").as_teardown(setups=create)
    create >> approval >> work() >> delete
    approval >> delete


@shape(
    "setup → gate → task → teardown, in a mapped task group",
    "each.gate skipped success, each.create success success, each.delete success success, "
    "each.publish skipped success",
)
def teardown_in_a_mapped_group() -> None:
    def build(number: int) -> None:
        create = work("create").as_setup()
        create >> gate(OF_MAP_INDEX) >> work(number=number) >> work("delete").as_teardown(setups=create)

    for_each(build)


@shape("gate → teardown → task")
def behind_a_teardown() -> None:
    create = work("create").as_setup()
    create >> gate() >> work("delete").as_teardown(setups=create) >> work()


@shape("setup → gate → task → teardown → task")
def after_its_teardown() -> None:
    create = work("create").as_setup()
    create >> gate() >> work("use") >> work("delete").as_teardown(setups=create) >> work()


@shape(
    "gate with `fail_on_reject` → task",
    "gate failed, publish upstream_failed, handle_rejection success, at_the_end success",
    "publish",
)
def failing() -> None:
    approval = gate(fail_on_reject=True)
    approval >> work() >> work("at_the_end", trigger_rule="all_done")
    approval >> work("handle_rejection", trigger_rule="all_failed")


@shape("gate with `fail_on_reject` → task with `all_done`")
def failing_with_rule() -> None:
    gate(fail_on_reject=True) >> work(trigger_rule="all_done")


@shape("gate with `outlets` → task", "gate skipped, publish skipped", "publish")
def with_outlets() -> None:
    gate(outlets=[Asset("approved")]) >> work()


@shape(
    "gate that times out with `soft_fail` → task with another trigger rule",
    "gate skipped, publish skipped",
    "publish",
    decide=False,
)
def soft_fail() -> None:
    gate(timeout=1, soft_fail=True) >> work(trigger_rule="none_failed")


@shape(
    "gate whose task a rule hides → task with another trigger rule",
    "gate skipped, publish skipped",
    "publish",
    hidden=True,
)
def hidden() -> None:
    gate() >> work(trigger_rule="none_failed")


@shape(
    "deferred gate → task with another trigger rule",
    "gate success, publish skipped",
    "publish",
    deferred=True,
)
def deferred() -> None:
    gate(deferrable=True) >> work(trigger_rule="none_failed")


@shape(
    "gate in mode `reschedule` → task with another trigger rule", "gate success, publish skipped", "publish"
)
def rescheduled() -> None:
    gate(mode="reschedule") >> work(trigger_rule="none_failed")


@shape(
    "gate that starts in the triggerer → task with another trigger rule",
    "gate success, publish skipped",
    "publish",
    deferred=True,
)
def started_in_the_triggerer() -> None:
    gate(deferrable=True, start_from_trigger=True) >> work(trigger_rule="none_failed")


@shape(
    "gate that someone decides who is none of its `approvers` → tasks",
    "gate failed, publish upstream_failed, none_failed upstream_failed, handle_failure success",
    "publish",
)
def of_an_approver() -> None:
    others = [
        work(name, trigger_rule=rule)
        for name, rule in [("none_failed",) * 2, ("handle_failure", "all_failed")]
    ]
    gate(approvers="ada@example.com", retries=1) >> [work(), *others]


@shape(
    "the same, in a mapped task group",
    "each.gate failed failed, each.publish upstream_failed upstream_failed",
)
def of_an_approver_in_a_mapped_group() -> None:
    for_each(lambda number: gate(OF_MAP_INDEX, approvers="ada@example.com") >> work(number=number))


@shape(
    'gate that times out with `on_timeout="reject"` → task with another trigger rule',
    "gate success, publish skipped",
    "publish",
    decide=False,
)
def rejected_at_the_timeout() -> None:
    gate(timeout=1, on_timeout="reject") >> work(trigger_rule="none_failed")


@shape(
    'deferred gate that times out with `on_timeout="skip"` → task with another trigger rule',
    "gate skipped, publish skipped",
    "publish",
    decide=False,
)
def skipped_at_the_timeout() -> None:
    gate(timeout=1, on_timeout="skip", deferrable=True) >> work(trigger_rule="none_failed")


@shape(
    "branch operator → tasks, one with another trigger rule → task",
    "gate success, publish skipped, repair success, at_the_end success",
    "publish",
)
def branches() -> None:
    chosen = [work(), work("repair", trigger_rule="none_failed")]
    branch() >> chosen >> work("at_the_end", trigger_rule="none_failed_min_one_success")


@shape(
    "deferred branch operator → tasks",
    "gate success, publish skipped, repair success",
    "publish",
    deferred=True,
)
def branches_deferred() -> None:
    branch(deferrable=True) >> [work(), work("repair")]


@shape(
    "branch operator → tasks, one with another trigger rule, in a mapped task group",
    "each.gate success success, each.publish skipped success, each.repair success skipped",
)
def branches_in_a_mapped_group() -> None:
    for_each(
        lambda number: (
            branch(OF_MAP_INDEX, "each.")
            >> [work(number=number), work("repair", number=number, trigger_rule="none_failed")]
        )
    )


@shape("mapped branch operator → task")
def mapped_branch() -> None:
    branches = {"approved": "publish", "rejected": None}
    gate = TallyfyBranchOperator.partial(task_id="gate", task="Approve release", branches=branches)
    gate.expand(run_id=RUN_IDS) >> work()


@shape("branch operator → task → task that it names")
def branch_that_is_not_downstream() -> None:
    branch() >> work() >> work("repair")


@shape("gate with `approvers` → task with `all_done`")
def of_an_approver_with_rule() -> None:
    gate(approvers="ada@example.com") >> work(trigger_rule="all_done")


@shape("gate → task with the trigger rule `always`")
def always() -> None:
    gate() >> work(trigger_rule="always")


@shape("gate and another task → task with the trigger rule `one_success`")
def started_by_another_task() -> None:
    [gate(), work("other")] >> work(trigger_rule="one_success")


@task.short_circuit(ignore_downstream_trigger_rules=False)
def short_circuit(number: int) -> bool:
    return number == 1


#: How Airflow's own gate does in the shapes that its scheduler does not hold, with the instance that should be skipped.
SHAPES_OF_AIRFLOWS_OWN: dict[str, tuple[str, Build, str]] = {
    "own_in_a_mapped_group": (
        "Airflow's `ShortCircuitOperator` → task, in a mapped task group",
        lambda: for_each(lambda number: short_circuit(number) >> work(number=number)),
        "each.publish[0]",
    ),
    "own_mapped_itself": (
        "mapped `ShortCircuitOperator` of Airflow's → task",
        lambda: short_circuit.expand(number=TWICE) >> work(),
        "publish",
    ),
}


def build(name: str) -> DAG:
    """Return the DAG of a shape."""
    with DAG(name, schedule=None, params={"run_ids": []}) as dag:
        (SHAPES[name].build if name in SHAPES else SHAPES_OF_AIRFLOWS_OWN[name][1])()
    return dag
