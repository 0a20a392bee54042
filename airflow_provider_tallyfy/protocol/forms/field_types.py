"""
The types of fields: what is sent for a value of each, and what a stored value reads as.

``docs/form-values.md`` has the same table with examples; a test checks each of them. A stored value of an undocumented
shape is returned unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from itertools import zip_longest
from types import NoneType
from typing import Any

from airflow_provider_tallyfy.protocol.forms import encoding
from airflow_provider_tallyfy.protocol.forms.fields import FormField, is_on, option_text
from airflow_provider_tallyfy.protocol.people import KINDS, Directory, encode_assignees
from airflow_provider_tallyfy.protocol.scalars import format_datetime, plain_text
from airflow_provider_tallyfy.protocol.validation import InvalidValueError


def is_blank(value: Any) -> bool:
    """Return whether a value, given or stored, leaves its field empty."""
    if isinstance(value, Mapping):
        return all(map(is_blank, value.values()))
    if isinstance(value, (list, tuple, Set)):
        return all(map(is_blank, value))
    return value is None or (isinstance(value, str) and not value.strip())


def _decode_choice(value: Any) -> Any:
    """Return the text of an option."""
    return option_text(value) if isinstance(value, Mapping) else value


def _decode_multiselect(value: Any) -> Any:
    """Return the texts of the options that are selected; Tallyfy shows no other one (page "Launch process")."""
    if not isinstance(value, list):
        return value
    return [
        _decode_choice(item) for item in value if not isinstance(item, Mapping) or is_on(item.get("selected"))
    ]


def _decode_table(value: Any) -> Any:
    """Return the rows of a table, each a list with a text for each column."""
    if not isinstance(value, list) or any(isinstance(column, Mapping) for column in value):
        return value
    columns = (column if isinstance(column, list) else [column] for column in value)
    return [["" if cell is None else cell for cell in row] for row in zip_longest(*columns)]


def _decode_assignees(value: Any) -> Any:
    """Return all three lists of assignees."""
    return {kind: value.get(kind) or [] for kind in KINDS} if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True)
class FieldType:
    """
    One type of fields.

    :param encode: returns what is sent for a value that is not blank, or raises ``InvalidValueError``.
    :param decode: returns what a stored value that is not blank reads as.
    :param blank: returns what an empty field reads as.
    :param limit: how long a text may be (page "Update task"). Only free text has one, and only there an empty text is
        a value.
    """

    encode: Callable[[FormField, Any, Directory | None], Any]
    decode: Callable[[Any], Any] = lambda value: value
    blank: Callable[[], Any] = NoneType
    limit: int | None = None


FIELD_TYPES = {
    "text": FieldType(lambda field, value, directory: plain_text(value), limit=200),
    "textarea": FieldType(lambda field, value, directory: plain_text(value), limit=30_000),
    "email": FieldType(encoding.encode_email),
    "date": FieldType(lambda field, value, directory: format_datetime(value)),
    "radio": FieldType(encoding.encode_radio, _decode_choice),
    "dropdown": FieldType(encoding.encode_dropdown, _decode_choice),
    "multiselect": FieldType(encoding.encode_multiselect, _decode_multiselect, list),
    "table": FieldType(encoding.encode_table, _decode_table, list),
    "assignees_form": FieldType(
        lambda field, value, directory: encode_assignees(value, directory),
        _decode_assignees,
        lambda: _decode_assignees({}),
    ),
    "file": FieldType(encoding.encode_files, blank=list),
}
_NEWER = FieldType(lambda field, value, directory: encoding.encode_json(value))


def type_of(field: FormField) -> FieldType:
    """Return the type of a field; one that is newer than this module takes and gives any JSON."""
    return FIELD_TYPES.get(field.field_type, _NEWER)


def encode(field: FormField, value: Any, directory: Directory | None = None) -> Any:
    """
    Return a value as Tallyfy takes it for a field; ``None`` if it leaves the field empty.

    :param directory: where assignees are looked up.
    :raises InvalidValueError: it does not fit.
    """
    field_type = type_of(field)
    if value is None or (field_type.limit is None and is_blank(value)):
        return None
    encoded = field_type.encode(field, value, directory)
    if field_type.limit is not None and len(encoded) > field_type.limit:
        raise InvalidValueError(f"it has {len(encoded):,} characters, and {field_type.limit:,} are allowed")
    return encoded


def decode(field: FormField, stored: Any) -> Any:
    """Return a stored value as plain JSON; Tallyfy stores texts, so a number reads as the text that was sent."""
    field_type = type_of(field)
    if stored is None or (field_type.limit is None and is_blank(stored)):
        return field_type.blank()
    return field_type.decode(stored)


def cleared(field: FormField) -> Any:
    """
    Return what empties a field.

    An empty text does, but a table must have an entry for each column (Tallyfy's command line, kickoff.go).
    """
    return [""] * len(field.columns) if field.field_type == "table" else ""
