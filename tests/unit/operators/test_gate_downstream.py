"""Which shapes of DAG an approval cannot keep closed, and how task instances are skipped on each Airflow."""

from __future__ import annotations

from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Asset, BaseOperator, task_group

from airflow_provider_tallyfy import policies, version_compat
from airflow_provider_tallyfy.operators import gate_downstream
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_0_PLUS
from tests.support.gates import record_skipped, refusal


class Work(BaseOperator):
    def __init__(self, *, number=0, **kwargs):
        super().__init__(**kwargs)
        self.number = number


def gate(**arguments):
    return TallyfyApprovalOperator(**{"task_id": "gate", "run_id": "r1", "task": "approve", **arguments})


def mapped_gate(**arguments):
    return TallyfyApprovalOperator.partial(task_id="gate", task="approve", **arguments).expand(
        run_id=["r1", "r2"]
    )


def work(task_id="publish", **arguments):
    return Work(task_id=task_id, **arguments)


def mapped(task_id="publish", **arguments):
    return Work.partial(task_id=task_id, **arguments).expand(number=[1, 2])


def group(*, inside, outside=None):
    """Make a mapped task group with an approval and what comes after it, there and outside of it."""

    @task_group
    def each(number):
        gate() >> inside() if inside else gate()

    made = each.expand(number=[1, 2])
    if outside:
        made >> outside()
    return made


def within_teardown(*, also_behind=None):
    """Make an approval between a setup and its teardown, and a task behind that one."""
    create, approval, use, delete, publish = work("create"), gate(), work("use"), work("delete"), work()
    create.as_setup() >> approval >> use >> delete.as_teardown(setups=create) >> publish
    if also_behind:
        {"gate": approval, "use": use}[also_behind] >> publish


def through_a_task_that_does_not_wait():
    approval, publish = gate(), work(trigger_rule="one_success")
    approval >> work("a") >> work("b", trigger_rule="always") >> publish
    approval >> publish


def gate_in_two_groups():
    @task_group
    def inner(number):
        gate()

    @task_group
    def outer(number):
        inner.expand(number=[1, 2])

    outer.expand(number=[1, 2])


HELD = {
    "plain": lambda: gate() >> work(),
    "outlets": lambda: gate(outlets=[Asset("approved")]) >> [work(), mapped("each")],
    **{
        f"rule {rule}": lambda rule=rule: gate() >> work(trigger_rule=rule)
        for rule in ("all_done", "none_failed", "none_failed_min_one_success", "one_success", "all_skipped")
    },
    "a handler of failures": lambda: gate(fail_on_reject=True) >> work(trigger_rule="one_failed"),
    "early, but only after what waits": lambda: (
        gate(ignore_downstream_trigger_rules=True)
        >> [work("a"), work("b")]
        >> work(trigger_rule="one_success")
    ),
    "approvers, a handler of failures": lambda: (
        gate(approvers=["ada@example.com"]) >> [work(), work("handle", trigger_rule="all_failed")]
    ),
    "fail_on_reject, far downstream": lambda: (
        gate(fail_on_reject=True) >> work() >> work("end", trigger_rule="all_done")
    ),
    "behind a teardown and the gate": lambda: within_teardown(also_behind="gate"),
    "behind a teardown and a task": lambda: within_teardown(also_behind="use"),
    "always, far downstream": lambda: gate() >> work() >> work("end", trigger_rule="always"),
    "mapped": lambda: gate() >> mapped(),
    "group": lambda: group(inside=work, outside=lambda: work("end", trigger_rule="all_done")),
    "gate is the end of a group": lambda: group(inside=None, outside=work),
    "mapped gate": lambda: mapped_gate() >> work(),
    "gate mapped by a list of mappings": lambda: (
        TallyfyApprovalOperator.partial(task_id="gate", task="approve").expand_kwargs([{"run_id": "r1"}])
        >> work(trigger_rule="none_skipped")
    ),
    "gate mapped by the output of a task, all_done far downstream": lambda: (
        TallyfyApprovalOperator.partial(task_id="gate", task="approve").expand_kwargs(work("other").output)
        >> work()
        >> work("end", trigger_rule="all_done")
    ),
    "mapped gate ignoring rules": lambda: (
        mapped_gate(ignore_downstream_trigger_rules=True) >> work() >> work("end", trigger_rule="all_done")
    ),
    "teardown": lambda: gate() >> work("delete").as_teardown(),
    "no approval at all": lambda: mapped() >> work("end", trigger_rule="always"),
}

REFUSED = {
    "always": (lambda: gate() >> work(trigger_rule="always"), "starts it before the decision"),
    "always, far downstream, ignoring rules": (
        lambda: (
            gate(ignore_downstream_trigger_rules=True) >> work("a") >> work("publish", trigger_rule="always")
        ),
        "starts it before the decision",
    ),
    "one_success": (
        lambda: [gate(), work("other")] >> work(trigger_rule="one_success"),
        "may start it before the decision",
    ),
    "one_done": (
        lambda: [gate(), work("other")] >> work(trigger_rule="one_done"),
        "may start it before the decision",
    ),
    "one_failed": (
        lambda: [gate(), work("other")] >> work(trigger_rule="one_failed"),
        "may start it before the decision",
    ),
    "early, through a task that does not wait": (
        through_a_task_that_does_not_wait,
        "may start it before the decision",
    ),
    "in a group, one_failed": (
        lambda: group(inside=lambda: work(trigger_rule="one_failed")),
        "may start it before the decision",
    ),
    **{
        f"fail_on_reject, {rule}": (
            lambda rule=rule: gate(fail_on_reject=True) >> work(trigger_rule=rule),
            "fail_on_reject may fail the gate",
        )
        for rule in ("all_done", "all_done_setup_success", "none_skipped", "one_done")
    },
    **{
        f"{name}, all_done": (
            lambda name=name, value=value: gate(**{name: value}) >> work(trigger_rule="all_done"),
            f"{name} may fail the gate",
        )
        for name, value in {"approvers": "ada@example.com", "require_comment": True}.items()
    },
    "approvers, all_done far downstream, ignoring rules": (
        lambda: (
            gate(approvers="ada@example.com", ignore_downstream_trigger_rules=True)
            >> work("a")
            >> work("publish", trigger_rule="all_done")
        ),
        "approvers may fail the gate",
    ),
    "outlets, other rule": (
        lambda: gate(outlets=[Asset("approved")]) >> work(trigger_rule="none_failed"),
        "would let it run after a rejection",
    ),
    "mapped gate, approvers": (
        lambda: (
            TallyfyApprovalOperator.partial(task_id="gate", task="approve", run_id="r1").expand(
                approvers=[["ada@example.com"], ["ben@example.com"]]
            )
            >> work(trigger_rule="none_skipped")
        ),
        "approvers may fail the gate",
    ),
    **{
        f"gate mapped by {name}, fail_on_reject": (
            lambda value=value: (
                TallyfyApprovalOperator.partial(task_id="gate", task="approve").expand_kwargs(value())
                >> work(trigger_rule="none_skipped")
            ),
            "fail_on_reject may fail the gate",
        )
        for name, value in {
            "a list of mappings": lambda: [{"run_id": "r1", "fail_on_reject": True}],
            "the output of a task": lambda: work("other").output,
        }.items()
    },
    "mapped gate, fail_on_reject": (
        lambda: mapped_gate(fail_on_reject=True) >> work(trigger_rule="none_skipped"),
        "fail_on_reject may fail the gate",
    ),
    "mapped over ignore_downstream_trigger_rules": (
        lambda: TallyfyApprovalOperator.partial(task_id="gate", task="approve", run_id="r1").expand(
            ignore_downstream_trigger_rules=[True, False]
        ),
        "Give all of its instances the same value",
    ),
    "mapped gate before a mapped group": (
        lambda: mapped_gate() >> group(inside=work),
        "Put both in one @task_group",
    ),
    "mapped gate, other rule": (
        lambda: mapped_gate() >> work(trigger_rule="none_failed"),
        "would let it run after a rejection",
    ),
    "mapped gate, rule for skipped": (
        lambda: mapped_gate() >> work(trigger_rule="all_skipped"),
        "would let it run after a rejection",
    ),
    "in a group, other rule": (
        lambda: group(inside=lambda: work(trigger_rule="all_done")),
        "would let it run after a rejection",
    ),
    "end of a group, other rule": (
        lambda: group(inside=None, outside=lambda: work(trigger_rule="all_done")),
        "would let it run after a rejection",
    ),
    "mapped gate before mapped": (lambda: mapped_gate() >> mapped(), "Put both in one @task_group"),
    "end of a group before mapped": (
        lambda: group(inside=None, outside=mapped),
        "Put both in one @task_group",
    ),
    "behind a teardown": (
        lambda: gate() >> work("delete").as_teardown() >> work(),
        "which runs after a rejection too",
    ),
    "behind a teardown, after a task": (within_teardown, "which runs after a rejection too"),
}


@pytest.mark.parametrize("name", HELD)
def test_valid_shape(name):
    assert refusal(HELD[name]) is None


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_shape_is_refused_with_what_to_write(name):
    build, reason = REFUSED[name]
    message = refusal(build)
    assert message is not None
    assert message.startswith("DAG 'release' is refused. Task ")
    assert reason in message


def test_gate_in_two_mapped_groups_is_refused():
    try:
        message = refusal(gate_in_two_groups)
    except NotImplementedError:
        return
    assert "more than one mapped task group" in message


@pytest.mark.parametrize("rule", ["none_failed", "all_done"])
def test_mapped_gate_is_checked_when_it_runs(context, monkeypatch, rule):
    """Airflow gives it the operator without what it is mapped over."""
    skipped = record_skipped(monkeypatch)
    context["ti"].map_index = 0
    with DAG("d", schedule=None):
        context["task"] = approval = gate()
        approval >> work(trigger_rule=rule)
    with pytest.raises(AirflowFailException, match="would let it run after a rejection"):
        approval.execute(context)
    assert skipped == [("publish", -1)]  # it would run after a failure too


def test_large_dag_is_checked_in_linear_time(monkeypatch):
    counted = Mock(side_effect=BaseOperator.get_flat_relatives, autospec=True)
    monkeypatch.setattr(BaseOperator, "get_flat_relatives", lambda *given, **named: counted(*given, **named))
    with DAG("d", schedule=None) as dag:
        gate(ignore_downstream_trigger_rules=True) >> [
            work(f"task_{number}", trigger_rule="one_success") for number in range(50)
        ]
    policies.dag_policy(dag)
    assert counted.call_count == 1


@pytest.mark.parametrize("finds", [False, True])
def test_trigger_rule_of_a_mapped_task_is_refused_if_the_scheduler_would_not_find_the_skip(
    monkeypatch, finds
):
    monkeypatch.setattr(gate_downstream, "FINDS_SKIPS_OF_UNMAPPED_TASKS", finds)
    assert (refusal(lambda: gate() >> mapped(trigger_rule="none_failed")) is None) is finds


def test_airflow_finds_the_policy():
    from importlib.metadata import entry_points

    [found] = [each for each in entry_points(group="airflow.policy") if each.name == "tallyfy"]
    assert found.load() is policies


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="needs Airflow 3")
class TestTaskInstances:
    """As the task instance and Airflow's supervisor see it, or in Airflow 2 the database."""

    def test_states_by_map_index(self):
        received = []

        def get_task_states(**arguments):
            received.append(arguments)
            return {"run": {"load_1_0": None, "load_1_12": "running"}}

        task_instance = SimpleNamespace(dag_id="d", run_id="run", get_task_states=get_task_states)
        states = version_compat.task_instance_states({"ti": task_instance}, [], ["load_1"])
        assert states == {("load_1", 0): None, ("load_1", 12): "running"}
        assert received == [{"dag_id": "d", "task_ids": ["load_1"], "run_ids": ["run"]}]

    def test_state_of_a_task_that_is_not_mapped(self):
        task_instance = SimpleNamespace(
            dag_id="d", run_id="run", get_task_states=lambda **_: {"run": {"load": "success"}}
        )
        states = version_compat.task_instance_states({"ti": task_instance}, ["load"], [])
        assert states == {("load", -1): "success"}

    def test_supervisor_skips_them(self, monkeypatch):
        from airflow.sdk.execution_time import task_runner

        sent = []
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=sent.append), raising=False)
        version_compat.skip_task_instances({}, [("load", 1)])
        assert [message.tasks for message in sent] == [[("load", 1)]]
