"""
The types of fields: what is sent for a value of each, and what a stored value reads as.

``docs/form-values.md`` has the same table with examples; a test checks each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType
from typing import Any

from airflow_provider_tallyfy.protocol.forms import decoding, encoding
from airflow_provider_tallyfy.protocol.forms.fields import FormField
from airflow_provider_tallyfy.protocol.people import Directory, encode_assignees
from airflow_provider_tallyfy.protocol.scalars import format_datetime, plain_text
from airflow_provider_tallyfy.protocol.validation import InvalidValueError


@dataclass(frozen=True, slots=True)
class FieldType:
    """
    One type of fields.

    :param encode: returns what is sent for a value that is not blank, or raises ``InvalidValueError``.
    :param decode: returns what a stored value that is not blank reads as.
    :param blank: returns what an empty field reads as.
    :param limit: how long a text may be (page "Update task"). Only free text has one, and may be an empty text.
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
    "radio": FieldType(encoding.encode_radio, decoding.decode_choice),
    "dropdown": FieldType(encoding.encode_dropdown, decoding.decode_choice),
    "multiselect": FieldType(encoding.encode_multiselect, decoding.decode_multiselect, list),
    "table": FieldType(encoding.encode_table, decoding.decode_table, list),
    "assignees_form": FieldType(
        lambda field, value, directory: encode_assignees(value, directory),
        decoding.decode_assignees,
        lambda: decoding.decode_assignees({}),
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
    if value is None or (field_type.limit is None and decoding.is_blank(value)):
        return None
    encoded = field_type.encode(field, value, directory)
    if field_type.limit is not None and len(encoded) > field_type.limit:
        raise InvalidValueError(f"it has {len(encoded):,} characters, and {field_type.limit:,} are allowed")
    return encoded


def decode(field: FormField, stored: Any) -> Any:
    """Return a stored value as plain JSON; Tallyfy stores texts, so a number reads as the text that was sent."""
    field_type = type_of(field)
    if stored is None or (field_type.limit is None and decoding.is_blank(stored)):
        return field_type.blank()
    return field_type.decode(stored)


def cleared(field: FormField) -> Any:
    """
    Return what empties a field.

    An empty text does, but a table must have an entry for each column (Tallyfy's command line, kickoff.go).
    """
    return [""] * len(field.columns) if field.field_type == "table" else ""
