"""Values of form fields; one validator for ``prerun`` and ``taskdata``, as at Tallyfy.

An unknown timeline id is ignored, and a multiselect option without ``selected`` is stored but renders as empty text.
Tallyfy documents both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
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
        complaint = None if is_empty(value) else _CHECKS[form_field.field_type](form_field, value, members)
        if complaint is None:
            accepted[form_field.id] = value
        else:
            errors[f"{surface}.{form_field.id}"] = [complaint]
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
            return ", ".join(str(cell) for cell in value)
        case FieldType.ASSIGNEES_FORM:
            return ", ".join(
                str(name) for kind in ("users", "guests", "groups") for name in value.get(kind, ())
            )
        case FieldType.FILE:
            return ", ".join(str(file["filename"]) for file in value)
        case _:
            return str(value)


def fill_in(text: str, form_fields: Iterable[FormField], values: Mapping[str, Any]) -> str:
    """Replace each ``{{alias}}`` in a text by the value of its field; an unknown alias stays."""
    if "{{" not in text:
        return text
    rendered = {form_field.alias: render(form_field, values.get(form_field.id)) for form_field in form_fields}
    return _VARIABLE.sub(lambda match: rendered.get(match[1], match[0]), text)


def _check_text(form_field: FormField, value: Any, members: Collection[int]) -> str | None:
    limit = TEXTAREA_LIMIT if form_field.field_type is FieldType.TEXTAREA else TEXT_LIMIT
    if not isinstance(value, str):
        return f"{form_field.label} must be a string"
    if len(value) > limit:
        return f"{form_field.label} may not be greater than {limit} characters"
    return None


def _check_email(form_field: FormField, value: Any, members: Collection[int]) -> str | None:
    if not isinstance(value, str) or not _EMAIL.fullmatch(value):
        return f"{form_field.label} must be a valid email address"
    return None


def _check_date(form_field: FormField, value: Any, members: Collection[int]) -> str | None:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return f"{form_field.label} is not a valid date"
    return None


def _check_radio(form_field: FormField, value: Any, members: Collection[int]) -> str | None:
    if not isinstance(value, str) or value not in {option.text for option in form_field.options}:
        return f"{form_field.label} must be the text of one of its options"
    return None


def _check_dropdown(form_field: FormField, value: Any, members: Collection[int]) -> str | None:
    if not _is_option(form_field, value):
        return f"{form_field.label} must be an object with the id and the exact text of one of its options"
    return None


def _check_multiselect(form_field: FormField, value: Any, members: Collection[int]) -> str | None:
    if not isinstance(value, list) or not all(_is_option(form_field, chosen) for chosen in value):
        return f"{form_field.label} must be a list of objects with the id and the exact text of its options"
    return None


def _check_table(form_field: FormField, value: Any, members: Collection[int]) -> str | None:
    if not isinstance(value, list) or len(value) != len(form_field.columns):
        return "Number of columns does not match required columns"
    return None


def _check_assignees(form_field: FormField, value: Any, members: Collection[int]) -> str | None:
    kinds = {"users", "guests", "groups"}
    if (
        not isinstance(value, dict)
        or not value.keys() <= kinds
        or not all(isinstance(v, list) for v in value.values())
    ):
        return f"{form_field.label} must be an object with the lists users, guests and groups"
    if any(str(user) not in {str(member) for member in members} for user in value.get("users", ())):
        return f"{form_field.label} names a user who is not a member of the organization"
    return None


def _check_file(form_field: FormField, value: Any, members: Collection[int]) -> str | None:
    if not isinstance(value, list) or not all(
        isinstance(f, dict) and f.get("id") and f.get("filename") for f in value
    ):
        return f"{form_field.label} must be a list of uploaded file objects, each with its id and filename"
    return None


def _is_option(form_field: FormField, value: Any) -> bool:
    return isinstance(value, dict) and any(
        value.get("id") == option.id and value.get("text") == option.text for option in form_field.options
    )


_CHECKS: dict[FieldType, Callable[[FormField, Any, Collection[int]], str | None]] = {
    FieldType.TEXT: _check_text,
    FieldType.TEXTAREA: _check_text,
    FieldType.EMAIL: _check_email,
    FieldType.DATE: _check_date,
    FieldType.RADIO: _check_radio,
    FieldType.DROPDOWN: _check_dropdown,
    FieldType.MULTISELECT: _check_multiselect,
    FieldType.TABLE: _check_table,
    FieldType.ASSIGNEES_FORM: _check_assignees,
    FieldType.FILE: _check_file,
}
