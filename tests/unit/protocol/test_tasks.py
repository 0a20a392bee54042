from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from airflow_provider_tallyfy.protocol.tasks import (
    AmbiguousTaskError,
    encode_overrides,
    find_task,
    get_task,
    needs_directory,
    read_steps,
    task_name,
)
from airflow_provider_tallyfy.protocol.validation import FormValuesError
from tests.support.forms import DIRECTORY

TASKS = [
    {"id": "t1", "alias": "approve_release", "title": "Approve release"},
    {"id": "t2", "alias": "announce", "title": "Announce"},
    {"id": "t3", "alias": "review-1", "title": "Review"},
    {"id": "t4", "alias": "review-2", "title": "Review"},
    {"id": "t5", "alias": "review-3", "title": "REVIEW"},
    {"id": "t6", "alias": None, "title": "t1"},
    {"id": "t7", "title": "approve_release"},
]


class TestFindTask:
    @pytest.mark.parametrize(
        ("name", "task_id"),
        [
            ("t1", "t1"),
            ("Approve release", "t1"),
            ("approve  RELEASE", "t1"),
            ("announce", "t2"),
            ("Announce", "t2"),
            ("ANNOUNCE", "t2"),
            ("review-2", "t4"),
            ("REVIEW", "t5"),
        ],
    )
    def test_finds_by_id_alias_or_title(self, name, task_id):
        assert find_task(iter(TASKS), name) == next(task for task in TASKS if task["id"] == task_id)

    @pytest.mark.parametrize("name", ["Publish", "", " ", "T2", "None"])
    def test_unknown_name_is_none(self, name):
        assert find_task(TASKS, name) is None
        assert find_task([], name) is None

    @pytest.mark.parametrize("name", [42, "42"])
    def test_name_may_be_a_number(self, name):
        task = {"id": 42, "title": "Sign"}
        assert find_task([task, {"id": 7, "title": "Review"}], task_name(name)) == task
        assert find_task([{"id": "t1", "title": "2024"}], task_name(2024)) == {"id": "t1", "title": "2024"}

    def test_similar_titles_are_shown_with_escapes(self):
        tasks = [{"id": "t1", "title": "Sign\xa0off"}, {"id": "t2", "title": "Sign off"}]
        with pytest.raises(LookupError) as error:
            get_task(tasks, "Sign\u200b off")
        assert str(error.value).splitlines() == [
            r"'Sign\u200b off' is not a task of the process, or not yet.",
            "The tasks are:",
            r"  'Sign\xa0off' (id t1)",
            "  'Sign off' (id t2)",
        ]

    def test_ambiguous_name_is_refused(self):
        with pytest.raises(AmbiguousTaskError) as error:
            find_task(TASKS, "Review")
        assert str(error.value) == (
            "'Review' matches 2 tasks: 'Review' (alias review-1, id t3), 'Review' (alias review-2, id t4). "
            "Use an alias or an id."
        )
        with pytest.raises(AmbiguousTaskError, match="matches 3 tasks"):
            find_task(TASKS, "review")

    def test_visible_task_takes_precedence_over_a_hidden_one(self):
        hidden, shown = (
            {"id": id_, "title": "Review", "status": status}
            for id_, status in (("t1", "auto-skipped"), ("t2", "not-started"))
        )
        assert find_task([hidden, shown], "Review") is shown
        assert find_task([hidden], "Review") is hidden
        for tasks in ([hidden, hidden], [hidden, shown, shown]):
            with pytest.raises(AmbiguousTaskError, match="matches 2 tasks"):
                find_task(tasks, "Review")

    def test_alias_of_one_task_may_be_the_title_of_another(self):
        with pytest.raises(AmbiguousTaskError, match=r"id t1\), 'approve_release' \(id t7\)"):
            find_task(TASKS, "approve_release")


class TestReadSteps:
    @pytest.mark.parametrize("steps", [[{"id": "s1"}], {"data": [{"id": "s1"}]}])
    def test_reads_each_shape(self, steps):
        assert read_steps({"steps": steps}) == ({"id": "s1"},)

    @pytest.mark.parametrize(
        "checklist", [{}, {"steps": None}, {"steps": []}, {"steps": {}}, {"steps": {"data": None}}]
    )
    def test_reads_no_steps(self, checklist):
        assert read_steps(checklist) == ()

    @pytest.mark.parametrize("steps", ["s1", [None], [{"title": "A"}], {"id": "s1"}, 5])
    def test_other_values_are_malformed(self, steps):
        with pytest.raises(MalformedResponseError, match="a list of steps was expected"):
            read_steps({"steps": steps})


class TestOverrides:
    STEPS = (
        {"id": "s1", "alias": "approve_release", "title": "Approve release"},
        {"id": "s2", "alias": "announce", "title": "Announce"},
        {"id": "s3", "alias": "a", "title": "Same"},
        {"id": "s4", "alias": "b", "title": "Same"},
    )

    @pytest.mark.parametrize("name", ["s1", "approve_release", "Approve release", "APPROVE RELEASE"])
    @pytest.mark.parametrize(
        ("override", "encoded"),
        [
            ({}, {}),
            ({"owners": None, "deadline": None}, {}),
            ({"owners": "ada@example.com"}, {"owners": {"users": [1001], "guests": [], "groups": []}}),
            ({"owners": {"users": [1001]}}, {"owners": {"users": [1001], "guests": [], "groups": []}}),
            ({"owners": []}, {"owners": {"users": [], "guests": [], "groups": []}}),
            ({"deadline": datetime(2026, 1, 5, 17, tzinfo=UTC)}, {"deadline": "2026-01-05T17:00:00.000Z"}),
            ({"deadline": date(2026, 1, 5)}, {"deadline": "2026-01-05T00:00:00.000Z"}),
            ({"deadline": "2026-01-05T17:00:00+01:00"}, {"deadline": "2026-01-05T16:00:00.000Z"}),
        ],
    )
    def test_encodes_owners_and_deadline(self, name, override, encoded):
        assert encode_overrides(self.STEPS, {name: override}, DIRECTORY) == {"s1": encoded}

    def test_one_error_lists_all_problems(self):
        overrides = {
            "Publish": {},
            "Same": {"deadline": None},
            "s2": {"owner": 1001, "owners": "Unknown", "deadline": "tomorrow"},
            "announce": {},
            "s1": "ada@example.com",
            "s3": {"deadline": 5},
            7: {},
        }
        with pytest.raises(FormValuesError) as error:
            encode_overrides(self.STEPS, overrides, DIRECTORY)
        assert error.value.problems == (
            "'Publish' is not a step of the template",
            "'Same' matches 2 steps: 'Same' (alias a, id s3), 'Same' (alias b, id s4); use an id",
            "step 's2': 'owner' cannot be changed at a launch, only 'owners' and 'deadline'",
            "step 's2': 'Unknown' is not an e-mail address, a member or a group; the groups are "
            "'Release managers', 'Customer success', 'customer Success'",
            "step 's2': a date is written 2026-01-31 or 2026-01-31T12:00:00Z (ISO 8601), not the text 'tomorrow'",
            "step 'Announce' (alias announce, id s2) is named twice",
            "step 's1': 'owners' and 'deadline' were expected, not the text 'ada@example.com'",
            "step 's3': a date was expected, not a number",
            "'7' is not a step of the template",
        )
        assert error.value.choices[:2] == (
            "The steps are:",
            "  'Approve release' (alias approve_release, id s1)",
        )

    def test_error_lists_the_steps_only_if_one_is_unknown(self):
        with pytest.raises(FormValuesError) as error:
            encode_overrides(self.STEPS, {"s1": {"deadline": 5}})
        assert error.value.choices == ()
        with pytest.raises(FormValuesError, match="There are no steps"):
            encode_overrides((), {"s1": {}})

    @pytest.mark.parametrize("overrides", [["s1"], "s1", 5])
    def test_overrides_that_are_not_a_mapping(self, overrides):
        with pytest.raises(FormValuesError, match="tasks are given by step id, alias or title, not as"):
            encode_overrides(self.STEPS, overrides)

    @pytest.mark.parametrize(
        ("overrides", "needed"),
        [
            ({}, False),
            ({"s1": {"owners": [1001]}}, False),
            ({"s1": {"owners": None}, "s2": {"deadline": "2026-01-05"}}, False),
            ({"s1": {}, "s2": {"owners": "ada@example.com"}}, True),
            ({"s1": "odd"}, False),
            ("odd", False),
        ],
    )
    def test_needs_directory(self, overrides, needed):
        assert needs_directory(overrides) is needed


def test_id_may_be_a_number():
    review = {"id": 7, "title": "Review"}
    assert find_task([review], "7") is review
    assert encode_overrides([review], {"7": {"deadline": "2026-01-01T00:00:00Z"}}).keys() == {"7"}
