"""Which branches a decision or the value of a form field names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import listed, quoted
from airflow_provider_tallyfy.protocol.lookup import normalized

DECISIONS = {True: "approved", False: "rejected"}


def read_branches(branches: Any, *, is_decision: bool) -> dict[str, tuple[str, ...]]:
    """
    Return the task ids or task group ids by the value that names them.

    :param branches: each one id, several, or ``None``.
    :param is_decision: whether the values are decisions.
    :raises ValueError: it is something else, or a decision is missing.
    """
    if not isinstance(branches, Mapping) or not branches:
        raise ValueError(f"branches must be a mapping from values to task ids, but is {branches!r}.")
    if is_decision and set(branches) != set(DECISIONS.values()):
        raise ValueError(
            f"Without field, branches must have a task id, or None, for 'approved' and for 'rejected', but has: "
            f"{listed(map(repr, branches))}."
        )
    read = {}
    for value, names in branches.items():
        ids = () if names is None else tuple(names) if isinstance(names, (list, tuple, set)) else (names,)
        if not all(isinstance(each, str) and each for each in ids):
            raise ValueError(f"branches[{value!r}] must be a task id, a list of them, or None.")
        read[str(value)] = ids
    if len(set(map(normalized, read))) < len(branches):
        raise ValueError(f"branches names a value more than once: {listed(map(repr, branches))}.")
    return read


def choose_branches(
    branches: Mapping[str, Sequence[str]], decision: Mapping[str, Any], field: str | None
) -> list[str]:
    """
    Return the ids that a decision, or the value of a field of its form, names.

    :raises LookupError: it names no branch.
    """
    known = listed(map(quoted, branches))
    if field is None:
        values: list[Any] = [DECISIONS[decision["is_approved"]]]
    else:
        form = decision["form_values"] or {}
        if field not in form:
            fields = listed(map(quoted, form)) or "none"
            raise LookupError(f"{quoted(field)} is not a field of the form; its fields are: {fields}.")
        value = form[field]
        values = value if isinstance(value, list) else [value]
    if not values or values == [None] or values == [""]:
        raise LookupError(f"Field {quoted(str(field))} has no value, so it names no branch of {known}.")
    followed: dict[str, None] = {}
    for value in values:
        name = value if isinstance(value, str) else str(value)
        same = [each for each in branches if each == name] or [
            each for each in branches if normalized(each) == normalized(name)
        ]
        if not same:
            raise LookupError(f"{quoted(name)} names no branch; the branches are for {known}.")
        followed.update(dict.fromkeys(branches[same[0]]))
    return list(followed)
