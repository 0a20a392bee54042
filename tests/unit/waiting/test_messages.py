from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tallyfy.waiting.messages import describe_run, describe_run_with_status

TASK = {"id": "t1", "title": "Sign contract"}


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (
            {"progress": {"complete": 3, "total": 7}, "next_task": None},
            "3 of 7 tasks are done; no task is left",
        ),
        ({"progress": 40, "next_task": TASK}, "40 % is done; next is 'Sign contract'; task t1"),
        (
            {
                "progress": {"complete": 0, "total": 2},
                "next_task": TASK
                | {
                    "owners": {"users": [1002], "guests": ["ann@example.com"], "groups": []},
                    "deadline": "2026-11-26T15:00:00.000Z",
                },
            },
            "0 of 2 tasks are done; next is 'Sign contract'; with user 1002, guest ann@example.com; "
            "due 2026-11-26 15:00 UTC; task t1",
        ),
        (
            {"next_task": TASK | {"owners": {"users": [{"id": 5, "full_name": "Maria Lopez"}]}}},
            "next is 'Sign contract'; with user Maria Lopez; task t1",
        ),
        (
            {"next_task": TASK | {"owners": {"users": []}, "deadline": "2026-11-26T15:00:00+02:00"}},
            "next is 'Sign contract'; unassigned; due 2026-11-26 13:00 UTC; task t1",
        ),
        (
            {"progress": 10**400, "next_task": {"id": "t1", "deadline": "9999-12-31T23:59:59-05:00"}},
            "next is 'untitled'; due 9999-12-31T23:59:59-05:00; task t1",
        ),
        ({"next_task": {"id": "t1", "deadline": "soon"}}, "next is 'untitled'; due soon; task t1"),
    ],
)
def test_description_of_a_run(run, line):
    assert describe_run(run) == line


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {
            "progress": json_values,
            "next_task": st.none()
            | st.fixed_dictionaries(
                {"id": st.text(), "title": json_values, "owners": json_values, "deadline": json_values}
            ),
        }
    )
)
def test_a_description_is_one_line_for_every_response(run):
    assert "\n" not in describe_run(run)


def test_a_title_with_line_breaks_is_one_line():
    assert (
        describe_run({"next_task": {"id": "t", "title": "a\nERROR forged\r\nline"}})
        == "next is 'a ERROR forged line'; task t"
    )


@pytest.mark.parametrize(
    ("next_task", "line"),
    [
        (TASK, "active; 1 of 2 tasks are done; next is 'Sign contract'; task t1"),
        (None, "1 of 2 tasks are done; active"),
    ],
)
def test_description_of_a_run_with_its_status(next_task, line):
    run = {"status": "active", "progress": {"complete": 1, "total": 2}, "next_task": next_task}
    assert describe_run_with_status(run) == line
