"""
How one value is sent, by the type of its field.

Kick-off values and values of tasks go through the same validator at Tallyfy (page "Update task"), so they are encoded
by the same functions. The rule held here: what is sent is Tallyfy's own spelling (the option's own text, not the
caller's), and what does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from datetime import date
from decimal import Decimal
from json import dumps
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import described, listed, quoted
from airflow_provider_tallyfy.protocol.forms.choices import find_option, options_by_name
from airflow_provider_tallyfy.protocol.forms.fields import Column, FormField, Option
from airflow_provider_tallyfy.protocol.lookup import Index, Rank, index, normalized
from airflow_provider_tallyfy.protocol.people import Directory, encode_assignees, is_email
from airflow_provider_tallyfy.protocol.scalars import format_datetime, plain_text
from airflow_provider_tallyfy.protocol.validation import InvalidValueError

# Page "Update task".
TEXT_LIMIT = 200
TEXTAREA_LIMIT = 30_000


def encode(field: FormField, value: Any, directory: Directory | None = None) -> Any:
    """
    Return a value as Tallyfy takes it for this field.

    :param field: the field.
    :param value: a plain Python value that says something; :func:`cleared` is what says nothing.
    :param directory: where assignees are looked up.
    :raises InvalidValueError: where it does not fit.
    """
    if field.field_type == "assignees_form":
        return encode_assignees(value, directory)
    encoder = _ENCODERS.get(field.field_type, _encode_unknown)
    return encoder(field, value)


def cleared(field: FormField) -> Any:
    """
    Return what empties a field.

    An empty text does for each type but a table (official command line, kickoff.go: the validator looks whether a
    value is empty before it looks at its shape). A table must have an entry for each column, so each is empty.
    """
    return [""] * len(field.columns) if field.field_type == "table" else ""


def _encode_text(field: FormField, value: Any) -> str:
    text = plain_text(value)
    limit = TEXTAREA_LIMIT if field.field_type == "textarea" else TEXT_LIMIT
    if len(text) > limit:
        raise InvalidValueError(f"it has {len(text):,} characters, and {limit:,} are allowed")
    return text


def _encode_email(field: FormField, value: Any) -> str:
    if not is_email(value):
        raise InvalidValueError(f"an e-mail address was expected, not {described(value)}")
    return plain_text(value).strip()


def _encode_date(field: FormField, value: Any) -> str:
    if not isinstance(value, (str, date)):
        raise InvalidValueError(f"a date was expected, not {described(value)}")
    return format_datetime(value)


def _encode_radio(field: FormField, value: Any) -> str:
    return find_option(field, options_by_name(field), value).text


def _encode_dropdown(field: FormField, value: Any) -> dict[str, Any]:
    return _chosen(find_option(field, options_by_name(field), value))


def _encode_multiselect(field: FormField, value: Any) -> list[dict[str, Any]]:
    options = options_by_name(field)
    chosen: dict[Option, None] = {}
    problems: list[str] = []
    for item in _each(value):
        if isinstance(item, Mapping) and item.get("selected", True) in (False, 0, None):
            continue
        try:
            chosen[find_option(field, options, item)] = None
        except InvalidValueError as error:
            problems.extend(error.problems)
    if problems:
        raise InvalidValueError(*dict.fromkeys(problems))
    # A set has no order of its own.
    order = field.options if isinstance(value, Set) else chosen
    return [{**_chosen(option), "selected": True} for option in order if option in chosen]


def _encode_table(field: FormField, value: Any) -> list[Any]:
    """
    Return one entry for each column, in their order.

    That is all that Tallyfy documents ("one entry per column, not per row"; page "Update task"): how several rows are
    sent is said nowhere, and Tallyfy would not refuse them, so they are refused here.
    """
    if isinstance(value, Mapping):
        return _row(field, value)
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
        raise InvalidValueError(
            f"a list with an entry for each column, or a mapping by column, was expected, not {described(value)}"
        )
    if value and all(isinstance(item, Mapping) for item in value):
        if len(value) == 1:
            return _row(field, value[0])
        raise InvalidValueError(
            f"Tallyfy's API takes one entry for each column, not several rows, but there are {len(value)} rows"
        )
    if len(value) != len(field.columns):
        raise InvalidValueError(
            f"an entry for each column ({_columns(field)}) was expected, not {described(value)}"
        )
    return [_cell(item) for item in value]


def _row(field: FormField, row: Mapping[Any, Any]) -> list[Any]:
    columns = _by_label(field.columns)
    entries: dict[int | str, Any] = {}
    problems = []
    for name, cell in row.items():
        found = columns.matches(str(name))
        if len(found) == 1 and found[0].id not in entries:
            entries[found[0].id] = _cell(cell)
        elif len(found) == 1:
            problems.append(f"the column {quoted(found[0].label)} is given twice")
        else:
            fault = "no column" if not found else f"the name of {len(found)} columns"
            problems.append(f"{quoted(str(name))} is {fault}; there are {_columns(field)}")
    if problems:
        raise InvalidValueError(*problems)
    return [entries.get(column.id, "") for column in field.columns]


def _cell(value: Any) -> Any:
    """Return an entry of a table: a text, or a list of texts where the caller gives all of a column."""
    if value is None:
        return ""
    return [_cell(item) for item in value] if isinstance(value, (list, tuple)) else plain_text(value)


def _encode_file(field: FormField, value: Any) -> list[dict[str, Any]]:
    """Return the objects that Tallyfy gave for uploaded files, as they are (page "Attach files using the API")."""
    files = list(_each(value))
    for file in files:
        if (
            not isinstance(file, Mapping)
            or not file.get("filename")
            or not (file.get("id") or file.get("url"))
        ):
            raise InvalidValueError(
                "a file is given as the object that Tallyfy returned for its upload, with 'id' and 'filename', "
                f"not as {described(file)}"
            )
    return [_json(dict(file)) for file in files]


def _encode_unknown(field: FormField, value: Any) -> Any:
    """Return a value of a type that came after this was written; the official clients pass it on as it is."""
    return plain_text(value) if isinstance(value, (str, date, Decimal)) else _json(value)


def _json(value: Any) -> Any:
    try:
        dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValueError(f"it cannot be sent as JSON ({type(error).__name__})") from None
    return value


def _each(value: Any) -> Sequence[Any] | Set[Any]:
    """Return the items of a list or a set; any other value is one item."""
    several = isinstance(value, (Sequence, Set)) and not isinstance(value, (str, bytes, bytearray))
    return value if several else (value,)


def _chosen(option: Option) -> dict[str, Any]:
    # Tallyfy wants the three keys, and the text to the letter (page "Launch process").
    return {"id": option.id, "text": option.text, "value": None}


def _by_label(columns: Sequence[Column]) -> Index[Column]:
    def label(column: Column) -> tuple[str, ...]:
        return (column.label,)

    return index(columns, Rank(label), Rank(label, normalized), Rank(lambda column: (str(column.id),)))


def _columns(field: FormField) -> str:
    return listed(quoted(column.label) for column in field.columns) or "none"


_ENCODERS: dict[str, Callable[[FormField, Any], Any]] = {
    "text": _encode_text,
    "textarea": _encode_text,
    "email": _encode_email,
    "date": _encode_date,
    "radio": _encode_radio,
    "dropdown": _encode_dropdown,
    "multiselect": _encode_multiselect,
    "table": _encode_table,
    "file": _encode_file,
}
