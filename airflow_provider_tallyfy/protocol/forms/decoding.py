"""
How a stored value is read, by the type of its field.

The rule held here: what was sent reads back as what was given, as plain JSON. Tallyfy keeps texts, so a number or a
boolean reads back as the text that it was sent as.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

from airflow_provider_tallyfy.protocol.forms.fields import FormField
from airflow_provider_tallyfy.protocol.people import KINDS


def read(field: FormField, value: Any) -> Any:
    """
    Return a stored value as plain JSON, as :func:`~airflow_provider_tallyfy.protocol.forms.encoding.encode` took it.

    A dropdown reads as its text, a multiselect as the list of the texts that are selected, a table as the list of its
    entries, assignees as ``{"users", "guests", "groups"}``, files as a list of objects, and all others as the text
    that Tallyfy has. Where there is nothing, lists are empty and all else but an empty text is ``None``. What has a
    shape that Tallyfy does not document is left as it is.
    """
    reader = _READERS.get(field.field_type)
    return value if reader is None else reader(value)


def is_blank(value: Any) -> bool:
    """Tell whether a value, given or stored, leaves its field empty."""
    if isinstance(value, Mapping):
        return all(map(is_blank, value.values()))
    if isinstance(value, (list, tuple, Set)):
        return all(map(is_blank, value))
    return value is None or (isinstance(value, str) and not value.strip())


def _read_text(value: Any) -> Any:
    return value


def _read_one(value: Any) -> Any:
    return None if is_blank(value) else value


def _read_choice(value: Any) -> Any:
    return _read_one(value.get("text", value) if isinstance(value, Mapping) else value)


def _read_multiselect(value: Any) -> Any:
    if is_blank(value):
        return []
    if not isinstance(value, list):
        return value
    # An option that is not said to be selected is not: Tallyfy shows it nowhere (page "Launch process").
    return [
        item.get("text") if isinstance(item, Mapping) else item
        for item in value
        if not isinstance(item, Mapping) or item.get("selected") in (True, 1, "1", "true")
    ]


def _read_list(value: Any) -> Any:
    return [] if is_blank(value) else value


def _read_assignees(value: Any) -> Any:
    if is_blank(value):
        value = {}
    return {kind: value.get(kind) or [] for kind in KINDS} if isinstance(value, Mapping) else value


_READERS: dict[str, Callable[[Any], Any]] = {
    "text": _read_text,
    "textarea": _read_text,
    "email": _read_one,
    "date": _read_one,
    "radio": _read_choice,
    "dropdown": _read_choice,
    "multiselect": _read_multiselect,
    "table": _read_list,
    "assignees_form": _read_assignees,
    "file": _read_list,
}
