"""Whole forms: keys, required fields, all problems in one error, and reading by alias."""

from __future__ import annotations

import pickle
from datetime import date

import pytest

from airflow_provider_tallyfy.protocol import forms
from airflow_provider_tallyfy.protocol.forms.fields import read_form_fields
from airflow_provider_tallyfy.protocol.validation import FormValuesError
from tests.support.forms import DIRECTORY, form

OPTIONS = [{"id": 1, "text": "Gold"}, {"id": 2, "text": "Silver"}]
DESCRIBED = [
    {"id": "f1", "alias": "customer_name", "label": "Customer name", "field_type": "text", "required": True},
    {
        "id": "f2",
        "alias": "plan",
        "label": "Plan",
        "field_type": "radio",
        "options": OPTIONS,
        "required": True,
    },
    {"id": "f3", "alias": "start", "label": "Start", "field_type": "date"},
    {"id": "f4", "alias": "modules", "label": "Modules", "field_type": "multiselect", "options": OPTIONS},
    {"id": "f5", "alias": "team", "label": "Team", "field_type": "assignees_form"},
    {
        "id": "f6",
        "alias": "licences",
        "label": "Licences",
        "field_type": "table",
        "columns": [{"id": 1, "label": "A"}, {"id": 2, "label": "B"}],
    },
    {"id": "f7", "alias": "notes", "label": "Notes", "field_type": "textarea"},
]
FIELDS = read_form_fields(DESCRIBED)
GOOD = {"Customer name": "Globex", "plan": "gold"}
ENCODED = {"f1": "Globex", "f2": "Gold"}


def problems(encode, values, fields=FIELDS):
    with pytest.raises(FormValuesError) as error:
        encode(fields, values, DIRECTORY)
    return error.value.problems


class TestEncodeKickoff:
    def test_encodes_by_id_alias_and_label(self):
        values = {
            "CUSTOMER NAME": "Globex",
            "f2": 1,
            "start": date(2026, 1, 5),
            "Modules": {"Silver", "Gold"},
            "Team": ["ada@example.com", "x@y.example"],
            "Licences": {"B": 2, "A": "x"},
        }
        assert forms.encode_kickoff(FIELDS, values, DIRECTORY) == {
            "f1": "Globex",
            "f2": "Gold",
            "f3": "2026-01-05T00:00:00.000Z",
            "f4": [
                {"id": 1, "text": "Gold", "value": None, "selected": True},
                {"id": 2, "text": "Silver", "value": None, "selected": True},
            ],
            "f5": {"users": [1001], "guests": ["x@y.example"], "groups": []},
            "f6": ["x", "2"],
        }

    @pytest.mark.parametrize("nothing", [None, "", "  ", [], {}])
    def test_blank_values_are_left_out(self, nothing):
        values = {**GOOD, "start": nothing, "modules": nothing, "team": nothing, "licences": nothing}
        assert forms.encode_kickoff(FIELDS, values) == ENCODED

    def test_empty_text_is_sent_but_none_is_not(self):
        assert forms.encode_kickoff(FIELDS, {**GOOD, "notes": ""}) == {**ENCODED, "f7": ""}
        assert forms.encode_kickoff(FIELDS, {**GOOD, "notes": None}) == ENCODED

    @pytest.mark.parametrize(
        "values", [{}, {"plan": None}, {"customer_name": "", "plan": ""}, {"customer_name": " "}]
    )
    def test_required_fields_need_a_value(self, values):
        assert problems(forms.encode_kickoff, values) == (
            "'Customer name' (text) is required, but there is no value for it",
            "'Plan' (radio) is required, but there is no value for it",
        )

    def test_required_field_with_a_default_may_be_left_out(self):
        fields = form({"id": "f1", "required": True, "default_value_enabled": True, "default_value": "x"})
        assert forms.encode_kickoff(fields, {}) == {}

    def test_one_error_lists_all_problems(self):
        values = {
            "Customer": "Globex",
            "customer_name": "x" * 201,
            "Plan": "Bronze",
            "start": 5,
            "START": date(2026, 1, 5),
            "modules": ["Gold", "Lead", 7],
            "licences": ["x"],
            "notes": ["x"],
            "team": True,
        }
        with pytest.raises(FormValuesError) as error:
            forms.encode_kickoff(FIELDS, values, DIRECTORY)
        assert str(error.value) == "\n".join(
            [
                "Nothing was sent, since 10 things are wrong with the values:",
                "- 'Customer' is not a field of the form",
                "- 'start' and 'START' are both the field 'Start' (date; alias start, id f3)",
                "- 'customer_name' (text): it has 201 characters, and 200 are allowed",
                "- 'Plan' (radio): 'Bronze' is not an option; choose from 'Gold', 'Silver'",
                "- 'start' (date): a date was expected, not a number",
                "- 'modules' (multiselect): 'Lead' is not an option; choose from 'Gold', 'Silver'",
                "- 'modules' (multiselect): '7' is not an option; choose from 'Gold', 'Silver'",
                "- 'licences' (table): an entry for each column ('A', 'B') was expected, but there is a row of 1",
                "- 'notes' (textarea): a text was expected, not a list of 1",
                "- 'team' (assignees_form): an assignee is an e-mail address, or the id or name of a member or a "
                "group, not true",
                "The fields are:",
                "  'Customer name' (text, required; alias customer_name, id f1)",
                "  'Plan' (radio, required; alias plan, id f2)",
                "  'Start' (date; alias start, id f3)",
                "  'Modules' (multiselect; alias modules, id f4)",
                "  'Team' (assignees_form; alias team, id f5)",
                "  'Licences' (table; alias licences, id f6)",
                "  'Notes' (textarea; alias notes, id f7)",
            ]
        )

    def test_error_lists_the_fields_only_if_a_key_is_unknown(self):
        with pytest.raises(FormValuesError) as error:
            forms.encode_kickoff(FIELDS, {**GOOD, "start": 5})
        assert "The fields are" not in str(error.value)
        assert str(error.value).startswith("Nothing was sent, since one thing is wrong with the values:\n")

    def test_similar_labels_are_shown_with_escapes(self):
        fields = form(
            {"id": "f1", "label": "Plan\xa0"},
            {"id": "f2", "label": "Notes"},
            {"id": "f3", "label": "Note\u200bs"},
        )
        with pytest.raises(FormValuesError) as error:
            forms.encode_kickoff(fields, {"Plan\u200b": "x"})
        assert str(error.value).splitlines()[1:] == [
            r"- 'Plan\u200b' is not a field of the form",
            "The fields are:",
            r"  'Plan\xa0' (text; id f1)",
            "  'Notes' (text; id f2)",
            r"  'Note\u200bs' (text; id f3)",
        ]

    def test_no_fields(self):
        assert forms.encode_kickoff((), {}) == {}
        with pytest.raises(FormValuesError, match="There are no fields"):
            forms.encode_kickoff((), {"a": 1})

    @pytest.mark.parametrize("values", [[("a", 1)], "a", 5])
    def test_values_that_are_not_a_mapping(self, values):
        assert (
            "values are given by field id, alias or label, not as"
            in problems(forms.encode_kickoff, values)[0]
        )

    @pytest.mark.parametrize("key", [1, None, ("a",), ""])
    def test_keys_of_other_types_are_unknown(self, key):
        assert "is not a field of the form" in problems(forms.encode_task_values, {key: "x"})[0]

    def test_key_may_be_a_number(self):
        numbered = form({"id": 5, "alias": "a"}, {"id": 6, "field_type": "date"})
        assert forms.encode_kickoff(numbered, {5: "x"}) == {"5": "x"}
        [problem] = problems(forms.encode_kickoff, {6: "x"}, numbered)
        assert problem.startswith("'6' (date): ")
        [problem] = problems(forms.encode_kickoff, {5: "x", "a": "y"}, numbered)
        assert problem.startswith("'5' and 'a' are both the field")

    def test_message_is_bounded(self):
        values = {f"Unknown {number}\n": "x" * 10_000 for number in range(5000)}
        with pytest.raises(FormValuesError) as error:
            forms.encode_kickoff(FIELDS, values)
        lines = str(error.value).splitlines()
        assert "- and 4952 more" in lines
        assert len(lines) < 120
        assert len(error.value.problems) == 5002

    def test_error_can_be_pickled(self):
        error = FormValuesError(["a"], ["b"])
        assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
        assert isinstance(error, ValueError)


class TestEncodeTaskValues:
    def test_encodes_only_given_values(self):
        assert forms.encode_task_values(FIELDS, {}) == {}
        assert forms.encode_task_values(FIELDS, {"Plan": "silver"}) == {"f2": "Silver"}

    @pytest.mark.parametrize("nothing", [None, [], {}])
    def test_blank_value_clears_the_field(self, nothing):
        values = {"plan": nothing, "start": nothing, "modules": nothing, "team": nothing, "licences": nothing}
        assert forms.encode_task_values(FIELDS, values) == {
            "f2": "",
            "f3": "",
            "f4": "",
            "f5": "",
            "f6": ["", ""],
        }

    def test_none_and_empty_text_clear_a_text(self):
        assert forms.encode_task_values(FIELDS, {"notes": None}) == {"f7": ""}
        assert forms.encode_task_values(FIELDS, {"notes": ""}) == {"f7": ""}

    def test_reports_all_problems(self):
        assert len(problems(forms.encode_task_values, {"Nothing": 1, "Plan": "x", "start": 5})) == 3

    def test_ambiguous_keys(self):
        twins = form({"id": "f1", "alias": "same"}, {"id": "f2", "alias": "same"})
        [problem] = problems(forms.encode_task_values, {"same": 1}, twins)
        same = ", ".join(f"'same' (text; alias same, id {key})" for key in ("f1", "f2"))
        assert problem == f"'same' matches 2 fields: {same}; use an id"


class TestRequiredFieldsOfATask:
    @pytest.mark.parametrize(
        ("stored", "values", "missing"),
        [
            ({}, {}, ["Customer name", "Plan"]),
            ({"f1": "Globex"}, {}, ["Plan"]),
            ({"f1": "Globex"}, {"Plan": "Gold"}, []),
            ({"f1": "Globex", "f2": "Gold"}, {"f1": ""}, ["Customer name"]),
            ({"f1": None, "f2": ""}, {"start": "2026-01-05"}, ["Customer name", "Plan"]),
        ],
    )
    def test_required_fields_that_would_be_empty(self, stored, values, missing):
        if not missing:
            assert forms.encode_task_values(FIELDS, values, stored=stored)
            return
        with pytest.raises(FormValuesError) as error:
            forms.encode_task_values(FIELDS, values, stored=stored)
        assert [problem.partition(" (")[0] for problem in error.value.problems] == [
            f"'{name}'" for name in missing
        ]
        assert all(problem.endswith("is required, but would be empty") for problem in error.value.problems)


class TestNeedsDirectory:
    @pytest.mark.parametrize(
        ("values", "needed"),
        [
            ({}, False),
            ({"Customer name": "ada@example.com"}, False),
            ({"Team": 1001}, False),
            ({"Team": None}, False),
            ({"TEAM": "ada@example.com"}, True),
            ({"f5": {"groups": ["Release managers"]}}, True),
            ({"Unknown": "ada@example.com"}, False),
            ("odd", False),
        ],
    )
    def test_only_for_names_and_addresses(self, values, needed):
        assert forms.needs_directory(FIELDS, values) is needed


class TestRead:
    def test_one_value_for_each_field(self):
        stored = {"f1": "Globex", "f2": "Gold", "f9": "of no field"}
        assert forms.read_form(FIELDS, stored) == {
            "customer_name": "Globex",
            "plan": "Gold",
            "start": None,
            "modules": [],
            "team": {"users": [], "guests": [], "groups": []},
            "licences": [],
            "notes": None,
        }

    def test_empty_list_of_php(self):
        assert forms.read_form(form({"id": "f1", "alias": "a"}), []) == {"a": None}

    def test_task_form(self):
        task = {"form_fields": {"data": [{**DESCRIBED[1], "value": "Gold"}, DESCRIBED[2]]}, "taskdata": []}
        assert forms.read_task_form(task) == {"plan": "Gold", "start": None}
        assert forms.read_task_form({**task, "taskdata": {"f3": "2026-01-05"}})["start"] == "2026-01-05"
        assert forms.read_task_form({"form_fields": [{**DESCRIBED[1], "field_value": "Gold"}]}) == {
            "plan": "Gold"
        }
        assert forms.read_task_form({"id": "t1"}) == {}
