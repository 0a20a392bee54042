from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition, from_task_id
from airflow_provider_tallyfy.waiting.outcomes import Met, Pending, Unreachable
from airflow_provider_tallyfy.waiting.polls import RunSnapshot


def run(next_task_id: str | None, **fields: object) -> dict[str, object]:
    next_task = None if next_task_id is None else {"id": next_task_id, "title": f"Task {next_task_id}"}
    return {
        "id": "run",
        "status": "active",
        "progress": {"complete": 1, "total": 3},
        "next_task": next_task,
        **fields,
    }


def test_the_first_poll_gives_the_baseline():
    assert NextTaskCondition().evaluate(RunSnapshot(run("a"))) == Pending(NextTaskCondition("a"))


def test_it_is_pending_while_the_baseline_is_next():
    assert NextTaskCondition("a").evaluate(RunSnapshot(run("a"))) == Pending(NextTaskCondition("a"))


def test_the_run_s_own_id_is_unreachable():
    """Airflow makes ``output["next_task"]["id"]`` the XCom ``id``, which a run has too."""
    outcome = NextTaskCondition("run").evaluate(RunSnapshot(run("a")))
    assert isinstance(outcome, Unreachable)
    assert "Pass get_run.output['next_task']" in outcome.reason


@pytest.mark.parametrize("name", ["sign_contract", "Sign"])
def test_the_name_of_a_task_is_not_taken_for_the_id_of_another_one(name):
    shown = run("a") | {"next_task": {"id": "a", "alias": "sign_contract", "title": "Sign"}}
    outcome = NextTaskCondition(name).evaluate(RunSnapshot(shown))
    assert isinstance(outcome, Unreachable)
    assert f"from_task is {name}, the alias or title of a task, and not its id (a)" in outcome.reason


@pytest.mark.parametrize("left", ["b", None])
def test_it_is_met_if_another_task_or_none_is_next(left):
    outcome = NextTaskCondition("a").evaluate(RunSnapshot(run(left)))
    assert outcome == Met(
        {
            "run_id": "run",
            "from_task_id": "a",
            "next_task": None if left is None else {"id": "b", "title": "Task b"},
            "run_status": "active",
            "progress": {"complete": 1, "total": 3},
        }
    )


def test_it_is_met_at_the_first_poll_of_a_complete_run():
    outcome = NextTaskCondition().evaluate(RunSnapshot(run(None, status="complete")))
    assert isinstance(outcome, Met)
    assert outcome.result["from_task_id"] is None
    assert outcome.result["next_task"] is None
    assert outcome.result["run_status"] == "complete"


@pytest.mark.parametrize("end", [{"status": "complete"}, {"completed_at": "2026-01-01"}])
def test_a_complete_run_without_next_task_is_met(end):
    shown = run("a", **end)
    del shown["next_task"]
    outcome = NextTaskCondition("a").evaluate(RunSnapshot(shown))
    assert isinstance(outcome, Met)
    assert outcome.is_certain
    assert outcome.result["next_task"] is None


def test_a_numeric_id_is_the_same_task_as_its_text():
    seen = run("a") | {"next_task": {"id": 7}}
    assert NextTaskCondition("7").evaluate(RunSnapshot(seen)) == Pending(NextTaskCondition("7"))
    assert NextTaskCondition().evaluate(RunSnapshot(seen)) == Pending(NextTaskCondition("7"))


@given(
    st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=20), st.sampled_from(["a", "b", None])
)
def test_it_is_met_at_the_first_change_of_any_sequence(polls, named):
    """Whatever is seen, the wait ends exactly at the first next_id that differs from the baseline."""
    condition = NextTaskCondition(named)
    baseline = named or polls[0]
    for next_id in polls:
        outcome = condition.evaluate(RunSnapshot(run(next_id)))
        if next_id is None or next_id != baseline:
            assert isinstance(outcome, Met)
            assert outcome.result["from_task_id"] == (baseline if condition.from_task_id else None)
            return
        assert isinstance(outcome, Pending)
        condition = outcome.condition
        assert condition == NextTaskCondition(baseline)


@pytest.mark.parametrize("nothing", [None, "", {}, "None"])
def test_an_empty_from_task_is_no_baseline(nothing):
    assert from_task_id(nothing) is None


@pytest.mark.parametrize("named", ["abc", {"id": "abc", "title": "Sign"}, {"id": "abc"}])
def test_a_task_is_named_by_its_id_or_by_itself(named):
    assert from_task_id(named) == "abc"


def test_a_task_is_named_by_a_number():
    assert from_task_id({"id": 12}) == "12"
    assert from_task_id(12) == "12"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("{'id': 'abc', 'title': 'Sign'}", r"turned into text.*output\['next_task'\]"),
        ({"title": "Sign"}, "without 'id'"),
        ({"id": None}, r"from_task\['id'\] must be a Tallyfy id"),
        (["abc"], "from_task must be a Tallyfy id.* but is a list"),
        (True, "but is true"),
        ("a b", "from_task must be a Tallyfy id"),
    ],
)
def test_a_from_task_that_names_no_task_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        from_task_id(wrong)


def test_descriptions_of_goal_and_result():
    assert NextTaskCondition("t1").describe_goal() == "the run moves on from task t1"
    assert NextTaskCondition().describe_goal() == "the run moves on from its next task"
    assert (
        NextTaskCondition.describe_result({"next_task": {"id": "t2", "title": "Sign\nhere"}})
        == "'Sign here' is next"
    )
    assert NextTaskCondition.describe_result({"next_task": None}) == "no task is left"
