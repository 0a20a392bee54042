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


def test_the_first_sight_gives_the_baseline():
    assert NextTaskCondition().evaluate(RunSnapshot(run("a"))) == Pending(NextTaskCondition("a"))


def test_it_waits_while_the_baseline_is_next():
    assert NextTaskCondition("a").evaluate(RunSnapshot(run("a"))) == Pending(NextTaskCondition("a"))


def test_the_run_itself_is_no_task_to_move_on_from():
    """Airflow makes ``output["next_task"]["id"]`` the XCom ``id``, which a run has too."""
    verdict = NextTaskCondition("run").evaluate(RunSnapshot(run("a")))
    assert isinstance(verdict, Unreachable)
    assert "Pass get_run.output['next_task']" in verdict.reason


@pytest.mark.parametrize("left", ["b", None])
def test_it_is_over_when_another_task_or_none_is_next(left):
    verdict = NextTaskCondition("a").evaluate(RunSnapshot(run(left)))
    assert verdict == Met(
        {
            "run_id": "run",
            "from_task_id": "a",
            "next_task": None if left is None else {"id": "b", "title": "Task b"},
            "run_status": "active",
            "progress": {"complete": 1, "total": 3},
        }
    )


def test_it_is_over_at_the_first_sight_when_nothing_is_left():
    verdict = NextTaskCondition().evaluate(RunSnapshot(run(None, status="complete")))
    assert isinstance(verdict, Met)
    assert verdict.result["from_task_id"] is None
    assert verdict.result["next_task"] is None
    assert verdict.result["run_status"] == "complete"


@pytest.mark.parametrize("end", [{"status": "complete"}, {"completed_at": "2026-01-01"}])
def test_a_complete_run_that_does_not_say_which_task_is_next_has_none_left(end):
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
def test_the_baseline_never_changes_and_no_change_is_passed_over(sights, named):
    """Whatever is seen, the wait ends exactly at the first sight that differs from the baseline."""
    condition = NextTaskCondition(named)
    baseline = named or sights[0]
    for sight in sights:
        verdict = condition.evaluate(RunSnapshot(run(sight)))
        if sight is None or sight != baseline:
            assert isinstance(verdict, Met)
            assert verdict.result["from_task_id"] == (baseline if condition.from_task_id else None)
            return
        assert isinstance(verdict, Pending)
        condition = verdict.condition
        assert condition == NextTaskCondition(baseline)


@pytest.mark.parametrize("nothing", [None, "", {}, "None"])
def test_nothing_named_is_no_baseline(nothing):
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
        (["abc"], "from_task must be a Tallyfy id.*type list"),
        (True, "type bool"),
        ("a b", "from_task must be a Tallyfy id"),
    ],
)
def test_what_names_no_task_is_refused_in_words(wrong, says):
    with pytest.raises(ValueError, match=says):
        from_task_id(wrong)


def test_the_log_says_what_is_waited_for_and_how_it_came_out():
    assert NextTaskCondition("t1").describe_goal() == "a task other than t1 is next, or none is left"
    assert (
        NextTaskCondition().describe_goal() == "a task other than the first one seen is next, or none is left"
    )
    assert (
        NextTaskCondition.describe_result({"next_task": {"id": "t2", "title": "Sign\nhere"}})
        == "'Sign here' is next"
    )
    assert NextTaskCondition.describe_result({"next_task": None}) == "no task is left"
