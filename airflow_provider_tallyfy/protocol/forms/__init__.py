"""
Forms of templates and tasks: values by alias or label become what Tallyfy takes, and the other way round.

Every key must name exactly one field, and all errors are found before anything is sent: Tallyfy drops an unknown key
without an error (page "Update task").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_tallyfy.protocol import people
from airflow_provider_tallyfy.protocol.formatting import described, listed, quoted, quoter
from airflow_provider_tallyfy.protocol.forms import field_types
from airflow_provider_tallyfy.protocol.forms import fields as form_fields
from airflow_provider_tallyfy.protocol.forms.field_types import is_blank
from airflow_provider_tallyfy.protocol.forms.fields import FormField
from airflow_provider_tallyfy.protocol.people import Directory
from airflow_provider_tallyfy.protocol.validation import FormValuesError, InvalidValueError, choices


@dataclass(frozen=True, slots=True)
class _Encoded:
    """
    Encoded values, and what is wrong with them.

    :param named: the field that each key names.
    :param problems: what is wrong, a sentence each.
    :param choices: the fields of the form, in lines, if a key names none of them.
    :param values: encoded values by field id: ``None`` for a blank one, and no entry for one that is wrong.
    """

    named: dict[Any, FormField]
    problems: list[str]
    choices: list[str]
    values: dict[str, Any]

    def check(self, required: Iterable[FormField], values: Mapping[str, Any], problem: str) -> None:
        """Raise an error if anything is wrong, or a required field has no value."""
        invalid = {field.id for field in self.named.values()} - self.values.keys()
        missing = [
            f"{quoted(field.name)} ({field.field_type}) is required, but {problem}"
            for field in required
            if field.required and is_blank(values.get(field.id)) and field.id not in invalid
        ]
        if problems := self.problems + missing:
            raise FormValuesError(problems, self.choices)


def encode_kickoff(
    fields: Sequence[FormField], values: Mapping[str, Any], directory: Directory | None = None
) -> dict[str, Any]:
    """
    Return ``prerun`` for a launch: values by field id, as Tallyfy takes them.

    :param fields: the fields of the template's kick-off form.
    :param values: plain values by field id, alias or label. ``None`` leaves a field empty, as not naming it does.
    :param directory: where assignees are looked up; see :func:`needs_directory`.
    :raises FormValuesError: for all that is wrong, a missing required field among it. A required field to which the
        template gives a value of its own is left to Tallyfy.
    """
    encoded = _encode(fields, values, directory)
    given = {key: value for key, value in encoded.values.items() if value is not None}
    required = (field for field in fields if not field.has_default)
    encoded.check(required, given, "there is no value for it")
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
    :param stored: the values that the form holds, if the task is to be completed: then a required field that would be
        empty is wrong too. See :func:`~airflow_provider_tallyfy.protocol.forms.fields.stored_values`.
    :raises FormValuesError: for all that is wrong.
    """
    encoded = _encode(fields, values, directory)
    written = {
        field.id: field_types.cleared(field) if encoded.values[field.id] is None else encoded.values[field.id]
        for field in fields
        if field.id in encoded.values
    }
    encoded.check(() if stored is None else fields, {**(stored or {}), **written}, "would be empty")
    return written


def cut_to_fit(fields: Sequence[FormField], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with each text cut that is too long for its field."""
    limits = {key: field_types.type_of(field).limit for key, field in _named(fields, values).named.items()}
    return {
        key: f"{value[: limit - 1]}…"
        if (limit := limits.get(key)) and isinstance(value, str) and len(value) > limit
        else value
        for key, value in values.items()
    }


def text_keys(fields: Sequence[FormField], values: Mapping[str, Any]) -> set[str]:
    """Return the keys of values that name a field for free text."""
    named = _named(fields, values).named
    return {key for key, field in named.items() if field_types.type_of(field).limit is not None}


def needs_directory(fields: Sequence[FormField], values: Mapping[str, Any]) -> bool:
    """Return whether the values name people who must be looked up in a directory."""
    return any(
        field.field_type == "assignees_form" and people.needs_directory(values[key])
        for key, field in _named(fields, values).named.items()
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
        key: field_types.decode(field, stored.get(field.id))
        for key, field in form_fields.keys(fields).items()
    }


def read_task_form(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the form of a task that was read ``with=form_fields``; see :func:`read_form`."""
    return read_form(form_fields.read_task_fields(task), form_fields.stored_values(task))


def _named(fields: Sequence[FormField], values: Mapping[str, Any]) -> _Encoded:
    """Return the field that each key names, and what is wrong with the keys; no value is encoded yet."""
    named: dict[Any, FormField] = {}
    if not isinstance(values, Mapping):
        problem = f"values are given by field id, alias or label, not as {described(values)}"
        return _Encoded(named, [problem], choices("fields", form_fields.describe(fields)), {})
    known = form_fields.by_name(fields)
    keys: dict[str, str] = {}
    problems: list[str] = []
    quote = quoter([*map(str, values), *(field.name for field in fields)])
    is_unknown = False
    for key in values:
        found = known.matches(str(key)) if isinstance(key, (str, int)) else ()
        if len(found) > 1:
            same = listed(form_fields.describe(found))
            problems.append(f"{quote(str(key))} matches {len(found)} fields: {same}; use an id")
        elif not found:
            problems.append(f"{quote(str(key))} is not a field of the form")
            is_unknown = True
        elif (other := keys.get(found[0].id)) is not None:
            problems.append(f"{quote(other)} and {quote(str(key))} are both the field {found[0]}")
        else:
            named[key] = found[0]
            keys[found[0].id] = str(key)
    there_are = choices("fields", form_fields.describe(fields, values)) if is_unknown else []
    return _Encoded(named, problems, there_are, {})


def _encode(fields: Sequence[FormField], values: Mapping[str, Any], directory: Directory | None) -> _Encoded:
    encoded = _named(fields, values)
    for key, field in encoded.named.items():
        try:
            encoded.values[field.id] = field_types.encode(field, values[key], directory)
        except InvalidValueError as error:
            encoded.problems.extend(
                f"{quoted(str(key))} ({field.field_type}): {each}" for each in error.problems
            )
    return encoded
