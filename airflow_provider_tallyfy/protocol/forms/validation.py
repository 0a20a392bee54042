"""
Whole forms: values by the names that people know become what Tallyfy takes, and the other way round.

Every key names exactly one field, and all that is wrong is found before anything is sent: Tallyfy drops a key that it
does not know without an error (page "Update task").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_tallyfy.protocol import people
from airflow_provider_tallyfy.protocol.formatting import described, listed, quoted, quoter
from airflow_provider_tallyfy.protocol.forms import field_types
from airflow_provider_tallyfy.protocol.forms import fields as form_fields
from airflow_provider_tallyfy.protocol.forms.decoding import is_blank
from airflow_provider_tallyfy.protocol.forms.fields import FormField
from airflow_provider_tallyfy.protocol.people import Directory
from airflow_provider_tallyfy.protocol.validation import FormValuesError, InvalidValueError, choices


@dataclass(frozen=True, slots=True)
class _Keys:
    """
    What the keys of some values name.

    :param fields: the fields, by key.
    :param problems: what is wrong.
    :param there_are: which fields there are, in lines, if a key names none.
    :param encoded: encoded values by field id, ``None`` for those that are blank; see :func:`_encode`.
    """

    fields: dict[str, FormField]
    problems: list[str]
    there_are: list[str]
    encoded: dict[str, Any]

    def check(self, required: Iterable[FormField], values: Mapping[str, Any], problem: str) -> None:
        """Raise an error if anything is wrong, or a required field has no value; a wrong value is told already."""
        invalid = {field.id for field in self.fields.values()} - self.encoded.keys()
        problems = self.problems + [
            f"{quoted(field.name)} ({field.field_type}) is required, but {problem}"
            for field in required
            if field.required and is_blank(values.get(field.id)) and field.id not in invalid
        ]
        if problems:
            raise FormValuesError(problems, self.there_are)


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
    keys = _encode(fields, values, directory)
    given = {key: value for key, value in keys.encoded.items() if value is not None}
    required = (each for each in fields if not each.has_default)
    keys.check(required, given, "there is no value for it")
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
    keys = _encode(fields, values, directory)
    known = {each.id: each for each in fields}
    written = {
        key: field_types.cleared(known[key]) if value is None else value
        for key, value in keys.encoded.items()
    }
    required = () if stored is None else fields
    keys.check(required, {**(stored or {}), **written}, "would be empty")
    return written


def cut_to_fit(fields: Sequence[FormField], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with each text cut that is too long for its field."""
    named = _keys(fields, values).fields
    limits = {key: field_types.type_of(field).limit for key, field in named.items()}
    return {
        key: f"{value[: limit - 1]}…"
        if (limit := limits.get(key)) and isinstance(value, str) and len(value) > limit
        else value
        for key, value in values.items()
    }


def text_keys(fields: Sequence[FormField], values: Mapping[str, Any]) -> set[str]:
    """Return the keys of values that name a field for free text."""
    named = _keys(fields, values).fields
    return {key for key, field in named.items() if field_types.type_of(field).limit is not None}


def needs_directory(fields: Sequence[FormField], values: Mapping[str, Any]) -> bool:
    """Tell whether the values name people whom only a directory knows."""
    return any(
        field.field_type == "assignees_form" and people.needs_directory(values[key])
        for key, field in _keys(fields, values).fields.items()
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


def _keys(fields: Sequence[FormField], values: Mapping[str, Any]) -> _Keys:
    named: dict[str, FormField] = {}
    if not isinstance(values, Mapping):
        problem = f"values are given by field id, alias or label, not as {described(values)}"
        return _Keys(named, [problem], _there_are(fields, ()), {})
    known = form_fields.by_name(fields)
    names: dict[str, str] = {}
    problems: list[str] = []
    there_are: list[str] = []
    quote = quoter([*map(str, values), *(field.name for field in fields)])
    for key in values:
        found = known.matches(str(key)) if isinstance(key, (str, int)) else ()
        if len(found) > 1:
            same = listed(form_fields.describe(found))
            problems.append(f"{quote(str(key))} names {len(found)} fields alike: {same}; write the id")
        elif not found:
            problems.append(f"{quote(str(key))} is no field of the form")
            there_are = there_are or _there_are(fields, values)
        elif (other := names.get(found[0].id)) is not None:
            problems.append(f"{quote(other)} and {quote(str(key))} are both the field {found[0]}")
        else:
            named[key] = found[0]
            names[found[0].id] = str(key)
    return _Keys(named, problems, there_are, {})


def _there_are(fields: Sequence[FormField], beside: Iterable[object]) -> list[str]:
    return choices("The fields are:", form_fields.describe(fields, beside)) or ["There are no fields."]


def _encode(fields: Sequence[FormField], values: Mapping[str, Any], directory: Directory | None) -> _Keys:
    """Return the keys with the encoded values and all that is wrong with them."""
    keys = _keys(fields, values)
    for key, named in keys.fields.items():
        try:
            keys.encoded[named.id] = field_types.encode(named, values[key], directory)
        except InvalidValueError as error:
            keys.problems.extend(
                f"{quoted(str(key))} ({named.field_type}): {each}" for each in error.problems
            )
    return keys
