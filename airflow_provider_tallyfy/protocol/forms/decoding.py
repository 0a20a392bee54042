"""
What a stored value that is not blank reads as, by the type of its field: what was given, as plain JSON.

A value of a shape that Tallyfy does not document is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from itertools import zip_longest
from typing import Any

from airflow_provider_tallyfy.protocol.forms.fields import is_on, option_text
from airflow_provider_tallyfy.protocol.people import KINDS


def is_blank(value: Any) -> bool:
    """Tell whether a value, given or stored, leaves its field empty."""
    if isinstance(value, Mapping):
        return all(map(is_blank, value.values()))
    if isinstance(value, (list, tuple, Set)):
        return all(map(is_blank, value))
    return value is None or (isinstance(value, str) and not value.strip())


def decode_choice(value: Any) -> Any:
    """Return the text of an option."""
    return option_text(value) if isinstance(value, Mapping) else value


def decode_multiselect(value: Any) -> Any:
    """Return the texts of the options that are selected; Tallyfy shows no other one (page "Launch process")."""
    if not isinstance(value, list):
        return value
    return [
        decode_choice(item) for item in value if not isinstance(item, Mapping) or is_on(item.get("selected"))
    ]


def decode_table(value: Any) -> Any:
    """Return the rows of a table, each a list with a text for each column."""
    if not isinstance(value, list) or any(isinstance(column, Mapping) for column in value):
        return value
    columns = (column if isinstance(column, list) else [column] for column in value)
    return [["" if cell is None else cell for cell in row] for row in zip_longest(*columns)]


def decode_assignees(value: Any) -> Any:
    """Return all three lists of assignees."""
    return {kind: value.get(kind) or [] for kind in KINDS} if isinstance(value, Mapping) else value
