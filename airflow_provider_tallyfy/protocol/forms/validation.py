"""
Whole forms: plain Python values by the names that people know become what Tallyfy takes, and the other way round.

The rule held here: every key names exactly one field, and all that is wrong is found before anything is sent. Tallyfy
drops a key that it does not know without a word (page "Update task"), so nobody would find out afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_tallyfy.protocol import people
from airflow_provider_tallyfy.protocol.formatting import described, listed, quoted
from airflow_provider_tallyfy.protocol.forms import decoding, encoding
from airflow_provider_tallyfy.protocol.forms import fields as form_fields
from airflow_provider_tallyfy.protocol.forms.decoding import is_blank
from airflow_provider_tallyfy.protocol.forms.fields import FormField
from airflow_provider_tallyfy.protocol.people import Directory
from airflow_provider_tallyfy.protocol.validation import FormValuesError, InvalidValueError, choices

# An empty text is a text; in a field of any other type it is no value.
_TEXTS = ("text", "textarea")


@dataclass(frozen=True, slots=True)
class _Keys:
    """What the keys of some values turned out to name."""

    fields: Mapping[str, FormField]
    problems: tuple[str, ...]
    are_known: bool


def find_field(fields: Sequence[FormField], key: str) -> FormField:
    """
    Return the field with this id, alias or label, exact before case-folded.

    :raises FormValuesError: where there is none, or several match equally well.
    """
    named = _named(fields, {key: None})
    if named.problems:
        raise _error(fields, named, named.problems)
    return named.fields[key]


def encode_kickoff(
    fields: Sequence[FormField], values: Mapping[str, Any], directory: Directory | None = None
) -> dict[str, Any]:
    """
    Return ``prerun`` for a launch: values by field id, as Tallyfy takes them.

    :param fields: the fields of the template's kick-off form.
    :param values: plain values by field id, alias or label. ``None`` leaves a field empty, as not naming it does.
    :param directory: where assignees are looked up; see :func:`needs_directory`.
    :raises FormValuesError: for all that is wrong, a missing required field among it. A required field to which the
        template gives a value of its own is left to Tallyfy to judge.
    """
    named = _named(fields, values)
    encoded, problems = _encode(named, values, directory)
    given = {key: value for key, value in encoded.items() if value is not None}
    # A value that does not fit is told already.
    unfit = {field.id for field in named.fields.values()} - encoded.keys()
    problems += [
        f"{quoted(field.name)} ({field.field_type}) is required, but there is no value for it"
        for field in missing_required(fields, {}, given)
        if not field.has_default and field.id not in unfit
    ]
    if problems:
        raise _error(fields, named, problems)
    return given


def encode_task_values(
    fields: Sequence[FormField],
    values: Mapping[str, Any],
    directory: Directory | None = None,
    *,
    stored: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """
    Return ``taskdata`` for an update of a task: values by field id, as Tallyfy takes them.

    :param fields: the fields of the task's form.
    :param values: plain values by field id, alias or label. ``None`` empties a field; one that is not named stays.
    :param directory: where assignees are looked up; see :func:`needs_directory`.
    :param stored: the values that the form holds, where the task is to be completed: then a required field that would
        be empty is wrong too. See :func:`~airflow_provider_tallyfy.protocol.forms.fields.stored_values`.
    :raises FormValuesError: for all that is wrong.
    """
    named = _named(fields, values)
    encoded, problems = _encode(named, values, directory)
    known = {field.id: field for field in fields}
    written = {
        key: encoding.cleared(known[key]) if value is None else value for key, value in encoded.items()
    }
    if stored is not None:
        # A value that does not fit is told already.
        unfit = {field.id for field in named.fields.values()} - encoded.keys()
        problems += [
            f"{quoted(field.name)} ({field.field_type}) is required, but would be empty"
            for field in missing_required(fields, stored, written)
            if field.id not in unfit
        ]
    if problems:
        raise _error(fields, named, problems)
    return written


def cut_to_fit(fields: Sequence[FormField], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with each text cut that is too long for its field; all else is as it was given."""
    limits = {"text": encoding.TEXT_LIMIT, "textarea": encoding.TEXTAREA_LIMIT}
    named = _named(fields, values).fields
    longest = {key: limits[field.field_type] for key, field in named.items() if field.field_type in limits}
    return {
        key: f"{value[: longest[key] - 1]}…"
        if key in longest and isinstance(value, str) and len(value) > longest[key]
        else value
        for key, value in values.items()
    }


def text_keys(fields: Sequence[FormField], values: Mapping[str, Any]) -> set[str]:
    """Return the keys of values that name a field for text."""
    return {key for key, field in _named(fields, values).fields.items() if field.field_type in _TEXTS}


def missing_required(
    fields: Sequence[FormField], stored: Mapping[str, Any], written: Mapping[str, Any]
) -> tuple[FormField, ...]:
    """
    Return the required fields that are empty once values are written; Tallyfy would not complete such a task.

    :param stored: the values that the form holds, by field id; see
        :func:`~airflow_provider_tallyfy.protocol.forms.fields.stored_values`.
    :param written: the encoded values, by field id.
    """
    values = {**stored, **written}
    return tuple(field for field in fields if field.required and is_blank(values.get(field.id)))


def needs_directory(fields: Sequence[FormField], values: Mapping[str, Any]) -> bool:
    """Tell whether among the values there are people whom only a directory knows."""
    return any(
        field.field_type == "assignees_form" and people.needs_directory(values[key])
        for key, field in _named(fields, values).fields.items()
    )


def read_form(fields: Sequence[FormField], stored: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the values of a form as plain JSON, one for each field, by the key that people know it by.

    :param fields: the fields of the form.
    :param stored: the values that it holds, by field id; a run's ``prerun``, or a task's
        :func:`~airflow_provider_tallyfy.protocol.forms.fields.stored_values`.
    """
    # PHP writes an empty map as a list.
    stored = stored if isinstance(stored, Mapping) else {}
    return {
        key: decoding.read(field, stored.get(field.id)) for key, field in form_fields.keys(fields).items()
    }


def read_task_form(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the form of a task that was asked for ``with=form_fields``; see :func:`read_form`."""
    return read_form(form_fields.read_task_fields(task), form_fields.stored_values(task))


def _named(fields: Sequence[FormField], values: Mapping[str, Any]) -> _Keys:
    if not isinstance(values, Mapping):
        return _Keys(
            {}, (f"values are given by field id, alias or label, not as {described(values)}",), False
        )
    known = form_fields.by_name(fields)
    named: dict[str, FormField] = {}
    keys: dict[str, str] = {}
    problems = []
    are_known = True
    for key in values:
        found = known.matches(key) if isinstance(key, str) else ()
        if len(found) > 1:
            problems.append(
                f"{quoted(key)} names {len(found)} fields alike: {listed(map(str, found))}; say the id"
            )
        elif not found:
            problems.append(f"{quoted(str(key))} is no field of the form")
            are_known = False
        elif (other := keys.get(found[0].id)) is not None:
            problems.append(f"{quoted(other)} and {quoted(key)} are both the field {found[0]}")
        else:
            named[key] = found[0]
            keys[found[0].id] = key
    return _Keys(named, tuple(problems), are_known)


def _encode(
    named: _Keys, values: Mapping[str, Any], directory: Directory | None
) -> tuple[dict[str, Any], list[str]]:
    """Return encoded values by field id, ``None`` for those that say nothing; and all that is wrong."""
    encoded: dict[str, Any] = {}
    problems = list(named.problems)
    for key, field in named.fields.items():
        try:
            encoded[field.id] = _encoded(field, values[key], directory)
        except InvalidValueError as error:
            problems += [f"{quoted(key)} ({field.field_type}): {problem}" for problem in error.problems]
    return encoded, problems


def _encoded(field: FormField, value: Any, directory: Directory | None) -> Any:
    is_empty = value is None if field.field_type in _TEXTS else is_blank(value)
    return None if is_empty else encoding.encode(field, value, directory)


def _error(fields: Sequence[FormField], named: _Keys, problems: Sequence[str]) -> FormValuesError:
    if named.are_known:
        return FormValuesError(problems)
    return FormValuesError(
        problems, choices("The fields are:", list(map(str, fields))) or ["There are no fields."]
    )
