"""Branches that a decision, or the value of a form field, chooses."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseOperator,
    TaskGroup,
    task_group,
)

from airflow_provider_tallyfy.operators import gate_downstream
from airflow_provider_tallyfy.operators.tallyfy import TallyfyBranchOperator
from tests.support.gates import OPEN, decided, refusal

APPROVAL = OPEN | {"alias": "review", "title": "Review"}
DECISION = {"approved": "ship", "rejected": "repair"}
FIELD = {"id": "f1", "alias": "way", "label": "Way", "field_type": "radio", "options": []}


def completed(is_approved=None, way=None, **fields):
    field = FIELD | {"value": way} | ({"field_type": "multiselect"} if isinstance(way, list) else {})
    named = {"alias": "review", "title": "Review", "form_fields": {"data": [field]}, **fields}
    return decided(is_approved, **named) | ({"task_type": "task"} if is_approved is None else {})


pytestmark = pytest.mark.usefixtures("skipped")


@pytest.fixture
def polls(tallyfy):
    return tallyfy.polls


def branch(**arguments):
    return TallyfyBranchOperator(
        **{"task_id": "branch", "run_id": "r1", "task": "review", "poke_interval": 1, "branches": DECISION}
        | arguments
    )


class Work(BaseOperator):
    def __init__(self, *, number=0, **kwargs):
        super().__init__(**kwargs)
        self.number = number


def work(task_id, **arguments):
    return BaseOperator(task_id=task_id, **arguments)


@pytest.fixture
def decide(context):
    """Run a branch operator with three branches, which meet again, and return its result."""

    def run(**arguments):
        with DAG("d", schedule=None):
            operator = branch(**arguments)
            join = work("join", trigger_rule="none_failed_min_one_success")
            for name in ("ship", "repair", "wait"):
                operator >> work(name) >> join
            with TaskGroup("sell"):
                work("offer") >> work("bill")
            operator >> operator.dag.get_task("sell.offer") >> join
            operator >> join
            operator >> work("cleanup").as_teardown()
        context["task"] = operator
        return operator.execute(context)

    return run


class TestDecision:
    @pytest.mark.parametrize(("is_approved", "followed"), [(True, "ship"), (False, "repair")])
    def test_decision_chooses_the_branch(self, polls, decide, context, skipped, is_approved, followed):
        polls(completed(is_approved))
        result = decide()
        assert (result["is_approved"], result["branches"]) == (is_approved, [followed])
        left = {"ship", "repair", "wait", "sell.offer"} - {followed}
        assert set(skipped) == {(each, -1) for each in left}
        assert set(context["ti"].xcoms[gate_downstream.SKIPPED_TASKS_KEY]["skipped"]) == left

    def test_none_follows_no_branch(self, polls, decide, skipped):
        polls(completed(False))
        assert decide(branches={"approved": "ship", "rejected": None})["branches"] == []
        assert {task_id for task_id, _ in skipped} == {"ship", "repair", "wait", "sell.offer", "join"}

    def test_decision_of_no_approver_fails(self, polls, decide):
        polls(completed(True))
        with pytest.raises(AirflowFailException, match="may not decide"):
            decide(approvers="ada@example.com")

    @pytest.mark.parametrize(("on_timeout", "followed"), [("approve", "ship"), ("reject", "repair")])
    def test_timeout_chooses_the_branch(self, polls, decide, on_timeout, followed):
        polls(APPROVAL)
        result = decide(timeout=0, on_timeout=on_timeout)
        assert (result["timed_out"], result["branches"]) == (True, [followed])

    def test_timeout_skips_all_branches(self, polls, decide, skipped):
        polls(APPROVAL)
        with pytest.raises(AirflowSkipException):
            decide(timeout=0, on_timeout="skip")
        assert ("join", -1) in skipped
        assert ("cleanup", -1) not in skipped
        with pytest.raises(AirflowSensorTimeout):
            decide(timeout=0)

    def test_hidden_task_skips_all_branches(self, polls, decide, skipped):
        polls(APPROVAL | {"status": "auto-skipped"})
        with pytest.raises(AirflowSkipException):
            decide()
        assert ("ship", -1) in skipped


class TestField:
    BRANCHES = {"Ship it": "ship", "Repair": ["repair", "wait"], "5": "sell"}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("way", "followed"),
        [
            ("Ship it", ["ship"]),
            ("ship it", ["ship"]),
            ("Repair", ["repair", "wait"]),
            (5, ["sell"]),
            ({"id": 1, "text": "Ship it", "value": None}, ["ship"]),
            (
                [
                    {"id": 1, "text": "Ship it", "selected": True},
                    {"id": 2, "text": "Repair", "selected": True},
                ],
                ["ship", "repair", "wait"],
            ),
        ],
    )
    def test_value_chooses_the_branches(self, polls, decide, skipped, way, followed):
        polls(completed(way=way))
        assert decide(branches=self.BRANCHES, field="way")["branches"] == followed
        names = {"sell.offer" if each == "sell" else each for each in followed}
        assert {task_id for task_id, _ in skipped} == {"ship", "repair", "wait", "sell.offer"} - names

    @pytest.mark.parametrize("way", [None, "", "Elsewhere", []])
    def test_value_without_branch_fails(self, polls, decide, context, skipped, way):
        polls(completed(way=way))
        with pytest.raises(AirflowFailException, match="no branch"):
            decide(branches=self.BRANCHES, field="way")
        assert context["ti"].xcoms["return_value"]["form_values"]["way"] in (way, None)

    def test_unknown_field_fails(self, polls, decide):
        polls(completed(way="Ship it"))
        with pytest.raises(
            AirflowFailException, match="'weg' is not a field of the form; its fields are: 'way'"
        ):
            decide(branches=self.BRANCHES, field="weg")

    def test_decision_of_no_approver_without_a_date_fails(self, polls, decide):
        polls(completed(way="Ship it", completed_at=None))
        with pytest.raises(AirflowFailException, match="may not decide"):
            decide(branches=self.BRANCHES, field="way", approvers="ada@example.com")

    def test_result_names_the_completer(self, polls, decide):
        polls(
            completed(
                way="Ship it", threads={"data": [{"author_id": 1002, "label": "comment", "content": "Go."}]}
            )
        )
        result = decide(branches=self.BRANCHES, field="way")
        assert (result["decided_by"]["id"], result["comment"]) == (1002, "Go.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"branches": {}}, "branches must be a mapping"),
        ({"branches": ["ship"]}, "branches must be a mapping"),
        ({"branches": {"approved": "ship"}}, "for 'approved' and for 'rejected'"),
        ({"branches": DECISION | {"perhaps": "wait"}}, "for 'approved' and for 'rejected'"),
        ({"branches": {"a": 5}, "field": "way"}, "must be a task id"),
        ({"branches": {"a": "x", "A": "y"}, "field": "way"}, "more than once"),
        ({"on_skipped": "succeed"}, "on_skipped must be"),
        ({"branches": {"a": "x"}, "field": "way", "on_timeout": "approve"}, "since field is given"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        branch(**arguments)


def in_a_mapped_group():
    @task_group
    def each(number):
        branch(branches={"approved": "each.ship", "rejected": "each.repair"}) >> [
            work("ship"),
            work("repair"),
        ]

    each.expand(number=[1, 2])


class TestShapes:
    @pytest.mark.parametrize(
        "build",
        [
            lambda: branch() >> [work("ship"), work("repair")],
            lambda: branch() >> [work("ship"), work("repair", trigger_rule="none_failed")],
            in_a_mapped_group,
        ],
    )
    def test_valid_shape(self, build):
        assert refusal(build) is None

    @pytest.mark.parametrize(
        ("build", "reason"),
        [
            (
                lambda: branch() >> work("ship"),
                "'repair' is no task or task group of the DAG. Directly downstream are: ship.",
            ),
            (
                lambda: branch() >> work("ship") >> work("repair"),
                "'repair' is not directly downstream. Directly downstream are: ship",
            ),
            (
                lambda: branch() >> [work("ship"), work("repair", trigger_rule="always")],
                "starts it before the decision",
            ),
            (
                lambda: branch() >> [work("ship"), work("repair", trigger_rule="all_done")],
                "a value that names no branch may fail the gate",
            ),
            (
                lambda: (
                    TallyfyBranchOperator.partial(task_id="branch", task="review", branches=DECISION).expand(
                        run_id=["r1", "r2"]
                    )
                    >> [work("ship"), work("repair")]
                ),
                "mapped branch operator",
            ),
        ],
    )
    def test_invalid_shape_is_refused_when_the_dag_is_parsed(self, build, reason):
        assert reason in refusal(build)

    def test_branch_outside_of_the_mapped_group_is_refused(self):
        def build():
            @task_group
            def each(number):
                branch(branches={"approved": "ship", "rejected": "repair"})

            each.expand(number=[1, 2]) >> [work("ship"), work("repair")]

        assert "Put the task into the group" in refusal(build)

    @pytest.mark.parametrize("finds", [True, False])
    def test_mapped_branch_is_refused_if_the_scheduler_would_not_find_the_skip(self, monkeypatch, finds):
        monkeypatch.setattr(gate_downstream, "FINDS_SKIPS_OF_UNMAPPED_TASKS", finds)

        def build():
            ship = Work.partial(task_id="ship").expand(number=[1, 2])
            branch() >> [ship, work("repair")]

        assert (refusal(build) is None) is finds

    def test_only_instances_of_the_same_group_instance_are_skipped(self, polls, context, skipped):
        with DAG("d", schedule=None) as dag:
            in_a_mapped_group()
        context["ti"].map_index = 1
        context["task"] = operator = dag.get_task("each.branch")
        polls(completed(True))
        operator.execute(context)
        assert set(skipped) == {("each.repair", 1)}
