"""Values of form fields; one validator for ``prerun`` and ``taskdata``, as at Tallyfy.

An unknown timeline id is ignored, and a multiselect option without ``selected`` is stored but renders as empty text.
Tallyfy documents both.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from airflow_provider_tallyfy.sandbox.errors import invalid
from airflow_provider_tallyfy.sandbox.model import FieldType, FormField

TEXT_LIMIT = 200
TEXTAREA_LIMIT = 30_000
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_VARIABLE = re.compile(r"\{\{\s*([\w-]+)\s*\}\}")


def accept(
    form_fields: Iterable[FormField], values: Mapping[str, Any], *, surface: str, members: Collection[int]
) -> dict[str, Any]:
    """Return the values that belong to a field, or raise 422 if one of them has the wrong shape.

    :param form_fields: the fields there are.
    :param values: what was sent, by timeline id.
    :param surface: ``prerun`` or ``taskdata``, for the errors.
    :param members: the ids of the organization's users, for assignees.
    """
    accepted: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for form_field in form_fields:
        if form_field.id not in values:
            continue
        value = values[form_field.id]
        if is_empty(value) or (problem := _problem(form_field, value, members)) is None:
            accepted[form_field.id] = value
        else:
            errors[f"{surface}.{form_field.id}"] = [problem]
    if errors:
        raise invalid(errors)
    return accepted


def require(form_fields: Iterable[FormField], values: Mapping[str, Any], *, surface: str) -> None:
    """Raise 422 if a required field has no value, with the labels of those fields."""
    errors = {
        f"{surface}.{form_field.id}": [f"{form_field.label} is required"]
        for form_field in form_fields
        if form_field.required and is_empty(values.get(form_field.id))
    }
    if errors:
        raise invalid(errors)


def is_empty(value: Any) -> bool:
    """Return whether a value is blank."""
    if isinstance(value, dict):
        return not any(value.values())
    return value in (None, "", [])


def render(form_field: FormField, value: Any) -> str:
    """Return the text of a value, as a ``{{variable}}`` shows it."""
    if is_empty(value):
        return ""
    match form_field.field_type:
        case FieldType.DROPDOWN:
            return str(value["text"])
        case FieldType.MULTISELECT:
            return ", ".join(option["text"] for option in value if option.get("selected") is True)
        case FieldType.TABLE:
            columns = (column if isinstance(column, list) else [column] for column in value)
            return ", ".join(str(cell) for column in columns for cell in column)
        case FieldType.ASSIGNEES_FORM:
            return ", ".join(
                str(name) for kind in ("users", "guests", "groups") for name in value.get(kind, ())
            )
        case FieldType.FILE:
            return ", ".join(str(file.get("filename", "")) for file in value)
        case _:
            return str(value)


def fill_in(text: str, form_fields: Iterable[FormField], values: Mapping[str, Any]) -> str:
    """Replace each ``{{alias}}`` in a text by the value of its field; an unknown alias stays."""
    if "{{" not in text:
        return text
    rendered = {form_field.alias: render(form_field, values.get(form_field.id)) for form_field in form_fields}
    return _VARIABLE.sub(lambda match: rendered.get(match[1], match[0]), text)


def _problem(form_field: FormField, value: Any, members: Collection[int]) -> str | None:
    """Return the message for a value that has not the shape that the type of its field needs."""
    match form_field.field_type:
        case FieldType.TEXT:
            fits = isinstance(value, str | int | float) and len(str(value)) <= TEXT_LIMIT
            message = f"must be a text of at most {TEXT_LIMIT} characters"
        case FieldType.TEXTAREA:
            fits = isinstance(value, str) and len(value) <= TEXTAREA_LIMIT
            message = f"must be a text of at most {TEXTAREA_LIMIT} characters"
        case FieldType.EMAIL:
            fits = isinstance(value, str) and _EMAIL.fullmatch(value) is not None
            message = "must be a valid email address"
        case FieldType.DATE:
            fits, message = _is_date(value), "is not a valid date"
        case FieldType.RADIO:
            fits = any(value == option.text for option in form_field.options)
            message = "must be the text of one of its options"
        case FieldType.DROPDOWN:
            fits = _is_option(form_field, value)
            message = "must be an object with the id and the exact text of one of its options"
        case FieldType.MULTISELECT:
            fits = isinstance(value, list) and all(_is_option(form_field, each) for each in value)
            message = "must be a list of objects with the id and the exact text of its options"
        case FieldType.TABLE:
            fits = isinstance(value, list) and len(value) == len(form_field.columns)
            return None if fits else "Number of columns does not match required columns"
        case FieldType.ASSIGNEES_FORM:
            fits = (
                isinstance(value, dict)
                and value.keys() <= {"users", "guests", "groups"}
                and all(isinstance(each, list) for each in value.values())
                and {str(user) for user in value.get("users", ())} <= {str(member) for member in members}
            )
            message = (
                "must be an object with the lists users (members of the organization), guests and groups"
            )
        case FieldType.FILE:
            fits = isinstance(value, list) and all(
                isinstance(file, dict) and (file.get("id") or file.get("full_url") or file.get("url"))
                for file in value
            )
            message = "must be a list of file objects, each with an id, full_url or url"
    return None if fits else f"{form_field.label} {message}"


def _is_date(value: Any) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_option(form_field: FormField, value: Any) -> bool:
    return isinstance(value, dict) and any(
        value.get("id") == option.id and value.get("text") == option.text for option in form_field.options
    )
