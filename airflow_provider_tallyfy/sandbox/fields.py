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
_Check = Callable[[FormField, Any, Collection[int]], bool]
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
        check, message = _CHECKS[form_field.field_type]
        if is_empty(value) or check(form_field, value, members):
            accepted[form_field.id] = value
        else:
            subject = "" if form_field.field_type is FieldType.TABLE else f"{form_field.label} "
            errors[f"{surface}.{form_field.id}"] = [subject + message]
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


def _is_text(limit: int, *types: type) -> _Check:
    return lambda form_field, value, members: isinstance(value, types) and len(str(value)) <= limit


def _is_email(form_field: FormField, value: Any, members: Collection[int]) -> bool:
    return isinstance(value, str) and _EMAIL.fullmatch(value) is not None


def _is_date(form_field: FormField, value: Any, members: Collection[int]) -> bool:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_choice(form_field: FormField, value: Any, members: Collection[int]) -> bool:
    return any(value == option.text for option in form_field.options)


def _is_option(form_field: FormField, value: Any, members: Collection[int]) -> bool:
    return isinstance(value, dict) and any(
        value.get("id") == option.id and value.get("text") == option.text for option in form_field.options
    )


def _are_options(form_field: FormField, value: Any, members: Collection[int]) -> bool:
    return isinstance(value, list) and all(_is_option(form_field, each, members) for each in value)


def _is_row(form_field: FormField, value: Any, members: Collection[int]) -> bool:
    return isinstance(value, list) and len(value) == len(form_field.columns)


def _are_assignees(form_field: FormField, value: Any, members: Collection[int]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= {"users", "guests", "groups"}
        and all(isinstance(each, list) for each in value.values())
        and {str(user) for user in value.get("users", ())} <= {str(member) for member in members}
    )


def _are_files(form_field: FormField, value: Any, members: Collection[int]) -> bool:
    return isinstance(value, list) and all(
        isinstance(file, dict) and (file.get("id") or file.get("full_url") or file.get("url"))
        for file in value
    )


# The check of a value of each type, and what is wrong with one that does not pass it.
_CHECKS: dict[FieldType, tuple[_Check, str]] = {
    FieldType.TEXT: (
        _is_text(TEXT_LIMIT, str, int, float),
        f"must be a text of at most {TEXT_LIMIT} characters",
    ),
    FieldType.TEXTAREA: (
        _is_text(TEXTAREA_LIMIT, str),
        f"must be a text of at most {TEXTAREA_LIMIT} characters",
    ),
    FieldType.EMAIL: (_is_email, "must be a valid email address"),
    FieldType.DATE: (_is_date, "is not a valid date"),
    FieldType.RADIO: (_is_choice, "must be the text of one of its options"),
    FieldType.DROPDOWN: (
        _is_option,
        "must be an object with the id and the exact text of one of its options",
    ),
    FieldType.MULTISELECT: (
        _are_options,
        "must be a list of objects with the id and the exact text of its options",
    ),
    FieldType.TABLE: (_is_row, "Number of columns does not match required columns"),
    FieldType.ASSIGNEES_FORM: (
        _are_assignees,
        "must be an object with the lists users (members of the organization), guests and groups",
    ),
    FieldType.FILE: (
        _are_files,
        "must be a list of file objects, each with an id, full_url or url",
    ),
}
