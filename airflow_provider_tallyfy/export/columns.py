"""
The columns of an export: their names, their types, and the values that fit them.

A form field is identified by its id, so a renamed field keeps its column under the new name. What fits no column, such
as the answer to a field that the template no longer has, is kept in the last column as an object, so nothing is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from enum import Enum
from math import isfinite
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import one_line
from airflow_provider_tallyfy.protocol.forms.field_types import decode, is_blank
from airflow_provider_tallyfy.protocol.forms.fields import FormField
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.protocol.responses import parse_datetime

MAX_NAME_LENGTH = 128
"""Characters of a column's name; warehouses allow 128 (Redshift) to 300 (BigQuery)."""
OTHER_VALUES = "other_values"
"""The last column of an export of one template."""


class ColumnType(Enum):
    """The type of a column's values."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    TEXTS = "texts"
    JSON = "json"


_JSON_SCHEMAS: Mapping[ColumnType, Mapping[str, Any]] = {
    ColumnType.TEXT: {"type": ["string", "null"]},
    ColumnType.INTEGER: {"type": ["integer", "null"]},
    ColumnType.NUMBER: {"type": ["number", "null"]},
    ColumnType.BOOLEAN: {"type": ["boolean", "null"]},
    ColumnType.DATETIME: {"type": ["string", "null"], "format": "date-time"},
    ColumnType.TEXTS: {"type": ["array", "null"], "items": {"type": "string"}},
    ColumnType.JSON: {"type": ["array", "object", "string", "number", "boolean", "null"]},
}


TYPES_OF_FIELDS: Mapping[str, ColumnType] = {
    "text": ColumnType.TEXT,
    "textarea": ColumnType.TEXT,
    "email": ColumnType.TEXT,
    "radio": ColumnType.TEXT,
    "dropdown": ColumnType.TEXT,
    "date": ColumnType.DATETIME,
    "multiselect": ColumnType.TEXTS,
    "table": ColumnType.JSON,
    "assignees_form": ColumnType.JSON,
    "file": ColumnType.JSON,
}
"""A field of any other type is JSON."""


@dataclass(frozen=True, slots=True)
class Column:
    """
    One column.

    :param name: unique in its export, regardless of case.
    :param type: of its values.
    :param description: of its values, for the schema file.
    :param field_id: id of the form field whose answers it holds; ``None`` for a field of the record.
    """

    name: str
    type: ColumnType
    description: str = ""
    field_id: str | None = None


class MisfitError(ValueError):
    """A value does not have the type of its column."""


def fit(value: Any, column_type: ColumnType) -> Any:
    """
    Return a value with the type of its column: plain JSON, a time as ISO 8601 text in UTC.

    :raises MisfitError: it has another type.
    """
    if value is None:
        return None
    fitted = _FITTERS[column_type](value)
    if fitted is None:
        raise MisfitError
    return fitted


def _fit_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(sanitize_payload(str(value)))
    return None


def _fit_integer(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    is_integer = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return value if is_integer else None


def _fit_number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None


def _fit_boolean(value: Any) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(str(value).casefold())


def _fit_datetime(value: Any) -> str | None:
    moment = parse_datetime(value)
    if moment is None:
        return None
    try:
        return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except OverflowError:
        return None


def _fit_texts(value: Any) -> list[str] | None:
    texts = list(map(_fit_text, value)) if isinstance(value, list) else [None]
    return None if None in texts else texts  # type: ignore[return-value]  # no None is left


_FITTERS = {
    ColumnType.TEXT: _fit_text,
    ColumnType.INTEGER: _fit_integer,
    ColumnType.NUMBER: _fit_number,
    ColumnType.BOOLEAN: _fit_boolean,
    ColumnType.DATETIME: _fit_datetime,
    ColumnType.TEXTS: _fit_texts,
    ColumnType.JSON: sanitize_payload,
}


class Layout:
    """
    The columns of one export, and how a record is laid out in them.

    :param record_columns: the fields that each record has.
    :param templates: the form fields of each template. Fields of different templates share a column if they have the
        same name.
    """

    def __init__(self, record_columns: Sequence[Column], templates: Iterable[Iterable[FormField]]) -> None:
        self._record_columns = tuple(record_columns)
        rest = (
            "What fits no column: answers to fields that the template no longer has, values of another type"
        )
        self._rest = Column(OTHER_VALUES, ColumnType.JSON, rest)
        taken = {column.name for column in (*self._record_columns, self._rest)}
        shared: dict[str, Column] = {}
        self._by_id: dict[str, Column] = {}
        self._by_alias: dict[str, Column] = {}
        for template in templates:
            fields = tuple({field.id: field for field in template}.values())
            aliases = Counter(field.alias for field in fields)
            for field, column in zip(fields, _answer_columns(fields, taken), strict=True):
                key = column.name.casefold()
                shared[key] = _share(shared[key], column) if key in shared else column
                self._by_id[field.id] = column
                if field.alias and aliases[field.alias] == 1:
                    self._by_alias[field.alias] = column
        for by_key in (self._by_id, self._by_alias):
            by_key.update({key: shared[column.name.casefold()] for key, column in by_key.items()})
        self.columns = (*self._record_columns, *shared.values(), self._rest)

    def lay_out(self, values: Mapping[str, Any], answers: Iterable[tuple[FormField, Any]]) -> dict[str, Any]:
        """
        Return a record with a value for each column.

        :param values: the record's own values, by column.
        :param answers: form fields with their stored values.
        """
        record: dict[str, Any] = dict.fromkeys(column.name for column in self.columns)
        rest: dict[str, Any] = {}
        for column in self._record_columns:
            value = values.get(column.name)
            if not _put(record, column, value):
                rest[column.name] = sanitize_payload(value)
        # A field that was deleted and created again has another id; an answer to the new one takes precedence.
        for field, stored in sorted(answers, key=lambda answer: answer[0].id not in self._by_id):
            value = decode(field, stored)
            column_of_field = self._by_id.get(field.id)
            if column_of_field is None:
                column_of_field = self._by_alias.get(field.alias)
                if column_of_field is not None and record[column_of_field.name] is not None:
                    column_of_field = None
            is_kept = column_of_field is not None and _put(record, column_of_field, value)
            if not is_kept and not is_blank(value):
                rest[_free_name(rest, field)] = sanitize_payload(value)
        record[self._rest.name] = rest or None
        return record

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a record."""
        properties = {}
        for column in self.columns:
            properties[column.name] = {**_JSON_SCHEMAS[column.type], "description": column.description}
            if column.field_id is not None:
                properties[column.name]["x-tallyfy-field-id"] = column.field_id
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


def _put(record: dict[str, Any], column: Column, value: Any) -> bool:
    """Put a value in its column, and return whether it fits."""
    if value == "" and column.type is not ColumnType.TEXT:
        return True
    try:
        record[column.name] = fit(value, column.type)
    except MisfitError:
        return False
    return True


def _free_name(rest: Mapping[str, Any], field: FormField) -> str:
    name = _clean(field.alias) or _clean(field.label) or field.id
    return f"{name}__{field.id}" if name in rest else name


def _answer_columns(fields: Sequence[FormField], taken: Iterable[str]) -> list[Column]:
    """Return a column for each field; if fields have the same name, each gets its id appended."""
    names = [_clean(field.alias) or _clean(field.label) or field.id for field in fields]
    with_ids = [
        f"{name[: MAX_NAME_LENGTH - len(field.id) - 2]}__{field.id}"
        for name, field in zip(names, fields, strict=True)
    ]
    counts = Counter(name.casefold() for name in (*names, *with_ids, *taken))
    return [
        Column(
            name if counts[name.casefold()] == 1 else with_id,
            TYPES_OF_FIELDS.get(field.field_type, ColumnType.JSON),
            f"{one_line(field.name)} ({one_line(field.field_type)})",
            field.id,
        )
        for name, with_id, field in zip(names, with_ids, fields, strict=True)
    ]


def _share(first: Column, second: Column) -> Column:
    """Return the column that two fields of different templates share: JSON, if their types differ."""
    column_type = first.type if first.type is second.type else ColumnType.JSON
    description = (
        first.description if first.description == second.description else f"{first.name} of several templates"
    )
    return Column(first.name, column_type, description)


def _clean(name: str) -> str:
    return str(sanitize_payload(one_line(name)))[:MAX_NAME_LENGTH]
