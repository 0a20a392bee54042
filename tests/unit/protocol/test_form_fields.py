from __future__ import annotations

import pytest

from airflow_provider_tallyfy.protocol.forms.fields import (
    Choice,
    FormField,
    by_name,
    keys,
    read_form_fields,
    read_kickoff_fields,
    read_task_fields,
    stored_values,
)
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from tests.support.forms import field, form

PLAN = {
    "id": "f1",
    "alias": "plan",
    "label": "Plan",
    "field_type": "radio",
    "required": True,
    "options": [{"id": 1, "text": "Gold", "value": None, "required": False}],
}
READ = FormField("f1", "plan", "Plan", "radio", required=True, options=(Choice(1, "Gold"),))


@pytest.mark.parametrize("value", [[PLAN], {"data": [PLAN]}, [PLAN, PLAN], {"data": [PLAN], "meta": {}}])
def test_list_of_fields_in_each_shape(value):
    assert read_form_fields(value) == (READ,)


@pytest.mark.parametrize("value", [None, [], {}, "", {"data": []}, {"data": None}])
def test_empty_lists_of_fields(value):
    assert read_form_fields(value) == ()


@pytest.mark.parametrize(
    "value",
    [
        "f1",
        5,
        [None],
        ["f1"],
        {"data": {"id": "f1"}},
        [{**PLAN, "id": None}],
        [{**PLAN, "id": ""}],
        [{**PLAN, "field_type": None}],
        [{**PLAN, "options": "Gold"}],
        [{**PLAN, "options": [None]}],
        [{**PLAN, "options": {"id": 1}}],
        [{**PLAN, "columns": "A"}],
    ],
)
def test_other_values_are_refused(value):
    with pytest.raises(MalformedResponseError):
        read_form_fields(value)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {}),
        ({"options": None, "columns": None, "alias": None, "required": None}, {"alias": ""}),
        ({"options": {"data": [{"id": "a", "text": 5}]}}, {"options": (Choice("a", "5"),)}),
        ({"options": [{"id": 1, "text": None}]}, {"options": (Choice(1, ""),)}),
        ({"options": [{"id": 1, "label": "Gold"}]}, {"options": (Choice(1, "Gold"),)}),
        ({"options": [{"id": 1, "text": None, "value": "Gold"}]}, {"options": (Choice(1, "Gold"),)}),
        ({"options": ["Gold", 5]}, {"options": (Choice(None, "Gold"), Choice(None, "5"))}),
        ({"options": [], "list": ["Gold"]}, {"options": (Choice(None, "Gold"),)}),
        ({"options": [{"id": 1, "text": "Gold"}], "list": "5eed"}, {"options": (Choice(1, "Gold"),)}),
        ({"list": "5eed"}, {"has_hidden_options": True}),
        ({"list": {"id": "5eed"}}, {"has_hidden_options": True}),
        ({"list": None}, {}),
        ({"columns": [{"id": 1, "label": "Item"}]}, {"columns": (Choice(1, "Item"),)}),
        ({"required": 1}, {"required": True}),
        ({"required": "1"}, {"required": True}),
        ({"required": "0"}, {}),
        ({"required": 0}, {}),
        ({"default_value_enabled": True, "default_value": "x"}, {"has_default": True}),
        ({"default_value_enabled": False, "default_value": "x"}, {}),
        ({"default_value_enabled": True, "default_value": ""}, {}),
        ({"default_value_enabled": True}, {}),
    ],
)
def test_attributes_of_a_field(more, expected):
    plain = {"id": "f1", "alias": "it", "label": "It", "field_type": "text"}
    assert field(**more) == FormField(**{**plain, **expected})


def test_fields_of_templates_and_tasks():
    assert read_kickoff_fields({"id": "c1", "prerun": [PLAN]}) == (READ,)
    assert read_kickoff_fields({"id": "c1"}) == ()
    assert read_task_fields({"id": "t1", "form_fields": {"data": [PLAN]}}) == (READ,)
    assert read_task_fields({"id": "t1", "captures": [PLAN]}) == (READ,)
    assert read_task_fields({"id": "t1"}) == ()


def test_stored_values_in_field_value():
    fields = [
        {**PLAN, "field_value": "Gold"},
        {**PLAN, "id": "f2", "field_value": None, "value": "Silver"},
        {**PLAN, "id": "f3", "field_value": "", "value": "Silver"},
        {**PLAN, "id": "f4", "field_value": None},
    ]
    stored = {"f1": "Gold", "f2": "Silver", "f3": "", "f4": None}
    assert stored_values({"form_fields": {"data": fields}, "taskdata": {}}) == stored
    assert stored_values({"form_fields": fields, "taskdata": {"f1": None, "f4": "x"}}) == {
        **stored,
        "f4": "x",
    }
    assert stored_values({"captures": fields, "taskdata": {"f1": ""}}) == {**stored, "f1": ""}


def test_stored_values_in_taskdata_take_precedence():
    task = {"form_fields": {"data": [{**PLAN, "value": "Gold"}, {**PLAN, "id": "f2", "value": None}]}}
    assert stored_values(task) == {"f1": "Gold", "f2": None}
    assert stored_values({**task, "taskdata": {"f1": "Silver"}}) == {"f1": "Silver", "f2": None}
    assert stored_values({**task, "taskdata": []}) == {"f1": "Gold", "f2": None}
    assert stored_values({"taskdata": {"f1": "Silver"}}) == {"f1": "Silver"}
    assert stored_values({}) == {}


class TestByName:
    FIELDS = form(
        {"id": "f1", "alias": "plan", "label": "Plan"},
        {"id": "f2", "alias": "notes", "label": "Remarks"},
        {"id": "f3", "alias": "notes-2", "label": "notes"},
        {"id": "f4", "alias": "same", "label": "Same"},
        {"id": "f5", "alias": "same", "label": "SAME"},
        {"id": "f6", "alias": "f1", "label": "Odd"},
        {"id": "f7", "alias": None, "label": None},
    )

    @pytest.mark.parametrize(
        ("name", "ids"),
        [
            ("f1", ["f1"]),  # an id takes precedence
            ("plan", ["f1"]),
            ("Plan", ["f1"]),
            ("PLAN ", ["f1"]),
            ("remarks", ["f2"]),
            ("notes", ["f2", "f3"]),  # one's alias, the other's label
            ("Notes", ["f2", "f3"]),
            ("same", ["f4", "f5"]),
            ("Same", ["f4"]),
            ("SAME", ["f5"]),
            ("sAME", ["f4", "f5"]),
            ("F1", ["f6"]),  # ids are not normalized, aliases are
            ("f7", ["f7"]),
            ("", []),
            ("else", []),
        ],
    )
    def test_finds_by_id_alias_or_label(self, name, ids):
        assert [found.id for found in by_name(self.FIELDS).matches(name)] == ids

    def test_keys_are_aliases_or_labels_or_ids(self):
        assert {key: each.id for key, each in keys(self.FIELDS).items()} == {
            "plan": "f1",
            "Remarks": "f2",
            "notes-2": "f3",
            "Same": "f4",
            "SAME": "f5",
            "Odd": "f6",
            "f7": "f7",
        }


def test_str_has_label_type_alias_and_id():
    assert str(READ) == "'Plan' (radio, required; alias plan, id f1)"
    assert str(form({"id": "f7", "alias": None, "label": None})[0]) == "'f7' (text; id f7)"
    assert len(str(form({"id": "f7", "alias": "x" * 10_000, "label": "y" * 10_000})[0])) < 200
