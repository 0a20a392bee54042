"""The columns of an export and their values, for any template and any answers."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tallyfy.export.columns import Column, ColumnType, Layout, MisfitError, fit
from airflow_provider_tallyfy.export.records import map_files
from airflow_provider_tallyfy.export.writers import json_line
from airflow_provider_tallyfy.protocol.forms.fields import FormField

RECORD = (
    Column("id", ColumnType.TEXT),
    Column("status", ColumnType.TEXT),
    Column("late_tasks", ColumnType.INTEGER),
)


def field(field_id, alias="", label="", field_type="text"):
    return FormField(field_id, alias, label, field_type)


def names(*fields):
    return [column.name for column in Layout(RECORD, [fields]).columns[len(RECORD) : -1]]


def test_column_name_is_alias_or_label_or_id():
    assert names(field("1", "amount", "Amount"), field("2", "", "Due\ndate"), field("3")) == [
        "amount",
        "Due date",
        "3",
    ]


def test_equal_names_get_ids():
    assert names(field("1", "comment"), field("2", "Comment"), field("3", "amount")) == [
        "comment__1",
        "Comment__2",
        "amount",
    ]


def test_alias_that_looks_like_a_name_with_an_id_is_not_shared():
    fields = (field("1", "comment"), field("2", "comment"), field("3", "comment__1"))
    assert names(*fields) == ["comment__1", "comment__2", "comment__1__3"]


def test_name_of_a_record_field_gets_an_id():
    assert names(field("1", "status"), field("2", "ID"), field("3", "other_values")) == [
        "status__1",
        "ID__2",
        "other_values__3",
    ]


def test_renamed_field_keeps_its_column():
    layout = Layout(RECORD, [[field("1", "new_name")]])
    assert layout.lay_out({"id": "r"}, [(field("1", "old_name"), "x")])["new_name"] == "x"


def test_answer_of_a_removed_field_is_kept():
    layout = Layout(RECORD, [[field("1", "amount")]])
    record = layout.lay_out(
        {"id": "r"}, [(field("1", "amount"), "5"), (field("9", "gone"), "x"), (field("8", "gone"), "y")]
    )
    assert (record["amount"], record["other_values"]) == ("5", {"gone": "x", "gone__8": "y"})


def test_field_that_was_created_again_keeps_its_column():
    layout = Layout(RECORD, [[field("2", "amount")]])
    assert layout.lay_out({"id": "r"}, [(field("1", "amount"), "5")])["amount"] == "5"
    answers = [(field("2", "amount"), "6"), (field("1", "amount"), "5")]
    for order in (answers, answers[::-1]):
        both = layout.lay_out({"id": "r"}, order)
        assert (both["amount"], both["other_values"]) == ("6", {"amount": "5"})
    unanswered = layout.lay_out({"id": "r"}, [(field("1", "amount"), "5"), (field("2", "amount"), None)])
    assert unanswered["amount"] == "5"


@pytest.mark.parametrize(
    ("field_type", "stored", "written"),
    [
        ("text", "x", "x"),
        ("text", 5, "5"),
        ("textarea", "", ""),
        ("date", "2026-01-31T17:00:00+01:00", "2026-01-31T16:00:00.000Z"),
        ("date", "2026-01-31", "2026-01-31T00:00:00.000Z"),
        ("date", "", None),
        ("date", "0999-01-31", "0999-01-31T00:00:00.000Z"),
        ("dropdown", {"id": 2, "text": "Blue", "value": None}, "Blue"),
        ("radio", "Yes", "Yes"),
        ("multiselect", [{"id": 1, "text": "a", "selected": True}, {"id": 2, "text": "b"}], ["a"]),
        ("file", [{"id": "f1", "filename": "a.pdf"}], [{"id": "f1", "filename": "a.pdf"}]),
    ],
)
def test_each_type_of_field_has_one_type_of_column(field_type, stored, written):
    layout = Layout(RECORD, [[field("1", "answer", field_type=field_type)]])
    assert (
        layout.lay_out({"id": "r"}, [(field("1", "answer", field_type=field_type), stored)])["answer"]
        == written
    )


def test_value_of_another_type_is_kept_in_other_values():
    layout = Layout(RECORD, [[field("1", "due", field_type="date")]])
    record = layout.lay_out(
        {"id": "r", "late_tasks": "many"}, [(field("1", "due", field_type="date"), "soon")]
    )
    assert (record["due"], record["late_tasks"]) == (None, None)
    assert record["other_values"] == {"due": "soon", "late_tasks": "many"}


def test_values_of_another_type_do_not_replace_each_other():
    layout = Layout(RECORD, [[field("2", "due", field_type="date")]])
    old, new = field("1", "due", field_type="date"), field("2", "due", field_type="date")
    record = layout.lay_out({"id": "r"}, [(old, "soon"), (new, "later")])
    assert record["other_values"] == {"due": "later", "due__1": "soon"}


@pytest.mark.parametrize(
    "entry", [{"id": "../../x"}, {"id": True}, {"id": None}, {"id": "f1", "source": "url"}]
)
def test_only_files_that_tallyfy_has_are_copied(entry):
    layout = Layout(RECORD, [[field("1", "scan", field_type="file")]])
    answers = [
        (field("1", "scan", field_type="file"), [{"filename": "a.pdf", **entry}, {"id": 5, "filename": "b"}])
    ]
    record = layout.lay_out({"id": "r"}, answers)
    map_files(record, layout, answers, lambda file: f"copy of {file['id']}")
    assert [file.get("path") for file in record["scan"]] == [None, "copy of 5"]


def test_templates_share_columns_by_name():
    layout = Layout(
        RECORD,
        [
            [
                field("1", "amount"),
                field("2", "due", field_type="date"),
                field("3", "note"),
                field("4", "note"),
            ],
            [field("5", "Amount"), field("6", "due"), field("7", "note")],
        ],
    )
    columns = {column.name: column.type for column in layout.columns[len(RECORD) : -1]}
    assert columns == {
        "amount": ColumnType.TEXT,
        "due": ColumnType.JSON,
        "note__3": ColumnType.TEXT,
        "note__4": ColumnType.TEXT,
        "note": ColumnType.TEXT,
    }
    of_first = layout.lay_out(
        {}, [(field("1", "amount"), "5"), (field("2", "due", field_type="date"), "2026-01-31")]
    )
    of_second = layout.lay_out(
        {}, [(field("5", "Amount"), "6"), (field("6", "due"), "soon"), (field("7"), "x")]
    )
    assert (of_first["amount"], of_first["due"]) == ("5", "2026-01-31")
    assert (of_second["amount"], of_second["due"], of_second["note"]) == ("6", "soon", "x")


def test_answer_of_an_unknown_template_is_kept():
    record = Layout(RECORD, []).lay_out({"id": "r"}, [(field("1", "a"), "x"), (field("2", "", "B"), "y")])
    assert record == {"id": "r", "status": None, "late_tasks": None, "other_values": {"a": "x", "B": "y"}}


@pytest.mark.parametrize(
    ("column_type", "value"),
    [
        (ColumnType.INTEGER, True),
        (ColumnType.INTEGER, 2**70),
        (ColumnType.NUMBER, "x"),
        (ColumnType.TEXT, {}),
    ],
)
def test_fit_raises_for_another_type(column_type, value):
    with pytest.raises(MisfitError):
        fit(value, column_type)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
fields = st.lists(
    st.builds(
        FormField,
        st.text("abc123", min_size=1, max_size=3),
        st.text(max_size=20),
        st.text(max_size=40),
        st.sampled_from(
            ["text", "textarea", "date", "radio", "multiselect", "table", "assignees_form", "file", "new"]
        ),
    ),
    max_size=6,
)


@given(fields, fields, st.lists(anything, min_size=12, max_size=12), anything, anything)
def test_any_answer_makes_a_record_that_is_valid_by_its_schema(
    of_template, of_run, values, status, late_tasks
):
    layout = Layout(RECORD, [of_template, of_run[:2]])
    answers = list(zip([*of_template, *of_run], values, strict=False))
    record = layout.lay_out({"id": "r", "status": status, "late_tasks": late_tasks}, answers)
    line = json_line(record)
    assert json.loads(line) == record
    assert line.count(b"\n") == 1
    assert len(line.decode().splitlines()) == 1
    jsonschema.validate(record, layout.json_schema())
    columns = [column.name.casefold() for column in layout.columns]
    assert len(set(columns)) == len(columns)
