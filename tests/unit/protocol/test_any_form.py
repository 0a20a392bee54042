"""Any form: encoded values are accepted by the rules of the sandbox, and read back as they were given."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_tallyfy.protocol import forms
from airflow_provider_tallyfy.protocol.forms.field_types import is_blank
from airflow_provider_tallyfy.protocol.forms.fields import by_name, keys, read_form_fields
from airflow_provider_tallyfy.protocol.launch_request import encode_launch
from airflow_provider_tallyfy.protocol.lookup import normalized
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from airflow_provider_tallyfy.protocol.validation import FormValuesError
from airflow_provider_tallyfy.sandbox import fields as sandbox_fields
from airflow_provider_tallyfy.sandbox.model import Column, FieldType, FormField, Option
from tests.support.forms import DIRECTORY

pytestmark = pytest.mark.usefixtures("untraced")

MEMBERS = tuple(member.id for member in DIRECTORY.members)
# What can be sent at all; half of a surrogate pair cannot.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
# Few letters, so that names are often equal, or equal but for their case.
NAME = st.text(alphabet="aAbßSé \n", max_size=3) | TEXT
EMAIL = st.from_regex(r"[a-z]{1,8}@[a-z]{1,8}\.example", fullmatch=True)
MOMENT = st.datetimes(timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)


@st.composite
def described_fields(draw):
    """Draw one field, as the API gives it; its id comes later."""
    field_type = draw(st.sampled_from([str(each) for each in FieldType]))
    texts = draw(st.lists(NAME, min_size=1, max_size=5))
    return {
        "alias": draw(st.none() | NAME),
        "label": draw(st.none() | NAME),
        "field_type": field_type,
        "required": draw(st.booleans()),
        "options": [{"id": number, "text": text} for number, text in enumerate(texts, start=1)],
        "columns": [{"id": number, "label": text} for number, text in enumerate(texts, start=1)],
    }


@st.composite
def described_forms(draw):
    return [
        {**field, "id": f"{number:032x}"}
        for number, field in enumerate(draw(st.lists(described_fields(), max_size=6)), start=1)
    ]


def value_for(field):
    """Give values that fit a field, each with what it reads back as."""
    match field["field_type"]:
        case "text" | "textarea":
            texts = TEXT.map(lambda text: (text, text))
            return texts | st.integers(-(10**30), 10**30).map(lambda number: (number, str(number)))
        case "email":
            return EMAIL.map(lambda email: (email, email))
        case "date":
            moments = MOMENT.map(lambda moment: (moment, moment))
            return moments | st.dates().map(
                lambda day: (day, datetime(day.year, day.month, day.day, tzinfo=UTC))
            )
        case "radio" | "dropdown":
            return st.sampled_from(field["options"]).map(lambda option: (option, option["text"]))
        case "multiselect":
            chosen = st.lists(st.sampled_from(field["options"]), unique_by=lambda option: option["id"])
            return chosen.map(lambda options: (options, [option["text"] for option in options]))
        case "table":
            width = len(field["columns"])
            row = st.lists(TEXT, min_size=width, max_size=width)
            rows = st.lists(row, min_size=1, max_size=4).map(lambda rows: (rows, rows))
            return rows | row.map(lambda cells: (cells, [cells]))
        case "assignees_form":
            people = st.fixed_dictionaries(
                {
                    "users": st.lists(st.sampled_from(MEMBERS), unique=True),
                    "guests": st.lists(EMAIL, unique=True),
                    "groups": st.lists(st.sampled_from(["g1", "g2"]), unique=True),
                }
            )
            return people.map(lambda people: (people, people))
    file = st.fixed_dictionaries({"id": st.sampled_from(["a1", "a2"]), "filename": TEXT.filter(bool)})
    return st.lists(file).map(lambda files: (files, files))


def in_the_sandbox(described):
    return [
        FormField(
            id=field["id"],
            alias=field["alias"] or "",
            label=field["label"] or "",
            field_type=FieldType(field["field_type"]),
            required=field["required"],
            options=tuple(Option(option["id"], option["text"]) for option in field["options"]),
            columns=tuple(Column(column["id"], column["label"]) for column in field["columns"]),
        )
        for field in described
    ]


def attempt(encode, *arguments):
    """Return what is encoded, or the error."""
    try:
        return encode(*arguments), None
    except FormValuesError as error:
        return None, error


def same(field, read, wanted):
    if field["field_type"] == "date":
        return datetime.fromisoformat(read) == wanted
    # An option that has no text chooses nothing, and a table of empty cells holds nothing.
    nothing = {"radio": None, "dropdown": None, "table": []}.get(field["field_type"], wanted)
    return read == wanted or (read == nothing and is_blank(wanted))


@given(st.data(), described_forms())
@settings(max_examples=150)
def test_encoded_values_are_accepted_and_read_back_unchanged(data, described):
    fields = read_form_fields(described)
    drawn = {field["id"]: data.draw(value_for(field)) for field in described}
    names = {field.id: key for key, field in keys(fields).items()}
    values = {names[key]: value for key, (value, _) in drawn.items()}
    written = forms.encode_task_values(fields, values, DIRECTORY)
    json.dumps(written, allow_nan=False)
    accepted = sandbox_fields.accept(in_the_sandbox(described), written, surface="taskdata", members=MEMBERS)
    assert accepted == written
    read = forms.read_form(fields, accepted)
    assert json.loads(json.dumps(read)) == read
    for field in described:
        assert same(field, read[names[field["id"]]], drawn[field["id"]][1])


@given(st.data(), described_forms())
@settings(max_examples=100)
def test_launch_is_refused_only_if_a_required_field_is_empty(data, described):
    fields = read_form_fields(described)
    drawn = {field["id"]: data.draw(value_for(field)) for field in described if data.draw(st.booleans())}
    values = {key: value for key, (value, _) in drawn.items()}
    prerun, error = attempt(forms.encode_kickoff, fields, values, DIRECTORY)
    if error:
        # An option that is chosen has an id, even where it has no text.
        kinds = {field.id: field.field_type for field in fields}
        read = {
            key: "it" if kinds[key] == "dropdown" or (kinds[key] == "multiselect" and wanted) else wanted
            for key, (_, wanted) in drawn.items()
        }
        missing = [field for field in fields if field.required and is_blank(read.get(field.id))]
        assert len(error.problems) == len(missing)
        assert all("is required, but there is no value for it" in problem for problem in error.problems)
        return
    sandbox = in_the_sandbox(described)
    accepted = sandbox_fields.accept(sandbox, prerun, surface="prerun", members=MEMBERS)
    sandbox_fields.require(sandbox, accepted, surface="prerun")


@given(described_forms())
@settings(max_examples=150)
def test_every_field_has_a_unique_key(described):
    fields = read_form_fields(described)
    named = keys(fields)
    assert sorted(field.id for field in named.values()) == sorted(field["id"] for field in described)
    for key, field in named.items():
        assert by_name(fields).matches(key) == (field,)


@given(described_forms(), NAME)
@settings(max_examples=150)
def test_key_names_one_field_or_is_refused(described, key):
    fields = read_form_fields(described)
    exactly = [field.id for field in fields if key and key in (field.alias, field.label)]
    alike = [
        field.id
        for field in fields
        if normalized(key) and normalized(key) in (normalized(field.alias), normalized(field.label))
    ]
    found = exactly or alike
    written, error = attempt(forms.encode_task_values, fields, {key: None})
    if len(found) == 1:
        assert list(written) == found
    else:
        assert ("is not a field" in error.problems[0]) == (not found)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(max_size=5)
    | st.binary(max_size=3)
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.sampled_from([10**1000, Decimal("1E+999999"), date.max, datetime.max.replace(tzinfo=UTC), object()]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.frozensets(st.text(max_size=2), max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "text", "users", "guests", "data", "value"]) | NAME, inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(st.data(), described_forms())
@settings(max_examples=150)
def test_any_value_is_encoded_or_refused(data, described):
    fields = read_form_fields(described)
    values = {field["id"]: data.draw(ANYTHING) for field in described}
    for encode in (forms.encode_kickoff, forms.encode_task_values):
        written, error = attempt(encode, fields, values, DIRECTORY)
        if error:
            assert error.problems
            assert all(line.isprintable() and len(line) < 5000 for line in str(error).splitlines())
        json.dumps(written, allow_nan=False).encode()
    forms.needs_directory(fields, values)


@given(ANYTHING, ANYTHING, ANYTHING)
@settings(max_examples=100)
def test_any_response_is_read_or_refused(prerun, steps, values):
    with suppress(MalformedResponseError, FormValuesError):
        encode_launch({"prerun": prerun, "steps": steps}, values, values)
    with suppress(MalformedResponseError):
        json.dumps(forms.read_task_form({"form_fields": prerun, "taskdata": {}}))


def test_large_lists_are_encoded():
    texts = [f"Option {number}" for number in range(20_000)]
    fields = read_form_fields(
        [
            {
                "id": "f1",
                "label": "Many",
                "field_type": "multiselect",
                "options": [{"id": number, "text": text} for number, text in enumerate(texts)],
            }
        ]
    )
    written = forms.encode_kickoff(fields, {"many": [text.upper() for text in texts]})
    assert forms.read_form(fields, written) == {"Many": texts}
