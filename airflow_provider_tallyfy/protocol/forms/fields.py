"""
The fields of a form, as Tallyfy describes them: the kick-off form of a template, and the forms of tasks.

A field's id is the *timeline id* by which its value is sent and stored. A list of fields is bare (page "Get template"),
or under ``data`` in what ``with`` adds (page "Get task").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import described, quoter, shortened
from airflow_provider_tallyfy.protocol.lookup import Index, Rank, normalized
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, is_id


@dataclass(frozen=True, slots=True)
class Choice:
    """An option of a radio, dropdown or multiselect field, or a column of a table; an option may have no id."""

    id: int | str | None
    text: str


@dataclass(frozen=True, slots=True)
class FormField:
    """
    One field of a form.

    :param id: the timeline id of its value.
    :param alias: Tallyfy's name for it, which stays when the label changes; empty if there is none.
    :param label: what people read.
    :param field_type: one of ``forms.field_types.FIELD_TYPES``, or a newer one.
    :param required: whether it must have a value.
    :param options: what there is to choose from.
    :param has_hidden_options: whether the choices are in a list that Tallyfy does not show.
    :param columns: the columns of a table, in their order.
    :param has_default: whether the template gives it a value of its own.
    """

    id: str
    alias: str
    label: str
    field_type: str
    required: bool = False
    options: tuple[Choice, ...] = ()
    has_hidden_options: bool = False
    columns: tuple[Choice, ...] = ()
    has_default: bool = False

    @property
    def name(self) -> str:
        """What people call it."""
        return self.label or self.alias or self.id

    def __str__(self) -> str:
        return describe([self])[0]


def describe(fields: Iterable[FormField], beside: Iterable[object] = ()) -> list[str]:
    """Return the names of fields, each in one line; similar ones, also to a name ``beside`` them, have escapes."""
    fields = tuple(fields)
    quote = quoter([*map(str, beside), *(field.name for field in fields)])
    return [
        f"{quote(field.name)} ({field.field_type}{', required' if field.required else ''}; "
        f"{f'alias {shortened(field.alias)}, ' if field.alias else ''}id {field.id})"
        for field in fields
    ]


def read_form_fields(value: Any) -> tuple[FormField, ...]:
    """
    Return the fields of a list of them, each once.

    :param value: a bare list, ``{"data": […]}``, or nothing at all.
    :raises MalformedResponseError: it is anything else, or a field has no id or no type.
    """
    fields = (_field(item) for item in _items(value, "a list of form fields"))
    return tuple({field.id: field for field in fields}.values())


def read_kickoff_fields(checklist: Mapping[str, Any]) -> tuple[FormField, ...]:
    """Return the fields of a template's kick-off form."""
    return read_form_fields(checklist.get("prerun"))


def read_task_fields(task: Mapping[str, Any]) -> tuple[FormField, ...]:
    """Return the fields of a task that was read ``with=form_fields``; in webhooks and steps they are ``captures``."""
    return read_form_fields(_form(task))


def stored_values(task: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the values that a task's form holds, by field id.

    They are in ``taskdata``, which PHP writes as a list if it is empty, and with each of the form fields as
    ``field_value`` (Tallyfy's MCP server) or ``value`` (page "Get task").
    """
    stored: dict[str, Any] = {}
    for item in _items(_form(task), "a list of form fields"):
        given = [item[name] for name in ("field_value", "value") if name in item]
        if given:
            stored[str(item.get("id"))] = next((value for value in given if value is not None), None)
    taskdata = task.get("taskdata")
    if isinstance(taskdata, dict):
        stored |= {key: value for key, value in taskdata.items() if value is not None or key not in stored}
    return stored


def by_name(fields: Iterable[FormField]) -> Index[FormField]:
    """Return an index of fields by id, alias and label."""

    def called(field: FormField) -> tuple[str, ...]:
        return field.alias, field.label

    return Index(fields, Rank(lambda field: (field.id,)), Rank(called), Rank(called, normalized))


def keys(fields: Iterable[FormField]) -> dict[str, FormField]:
    """
    Return the fields by the key under which their values are read.

    That is the alias; if there is none, or another field has the same name, the label; otherwise the id. So each of
    these keys names its own field when values are written.
    """
    fields = tuple(fields)
    known = by_name(fields)

    def key(field: FormField) -> str:
        names = (field.alias, field.label)
        return next((name for name in names if name and known.matches(name) == (field,)), field.id)

    return {key(field): field for field in fields}


def is_on(value: Any) -> bool:
    """Return whether a flag is set, as PHP writes it."""
    return value in (True, 1, "1", "true")


def option_text(item: Mapping[Any, Any]) -> Any:
    """Return the text of an option: ``text``, or in some responses ``label`` or ``value`` (MCP server)."""
    return next((item[name] for name in ("text", "label", "value") if item.get(name) is not None), None)


def _form(task: Mapping[str, Any]) -> Any:
    return task["form_fields"] if task.get("form_fields") is not None else task.get("captures")


def _field(item: Mapping[str, Any]) -> FormField:
    field_type = item.get("field_type")
    if not is_id(item.get("id")) or not isinstance(field_type, str):
        raise MalformedResponseError("a form field has no id or no type")
    default, choices = item.get("default_value"), item.get("list")
    if isinstance(choices, dict):  # under a key that no source names
        choices = next((value for value in choices.values() if isinstance(value, list)), choices)
    options = _choices(item.get("options")) or _choices(choices if isinstance(choices, list) else None)
    return FormField(
        id=str(item["id"]),
        alias=_text(item.get("alias")),
        label=_text(item.get("label")),
        field_type=field_type,
        required=is_on(item.get("required")),
        options=options,
        has_hidden_options=not options and bool(choices),
        columns=_choices(item.get("columns")),
        # The official SDK's name for it (tallyfy 3.1.0, models.py).
        has_default=is_on(item.get("default_value_enabled")) and default not in (None, "", []),
    )


def _choices(value: Any) -> tuple[Choice, ...]:
    items = _items(value, "options or columns", of=(dict, str, int, float))
    given = (item if isinstance(item, dict) else {"text": item} for item in items)
    return tuple(Choice(item.get("id"), _text(option_text(item))) for item in given)


def _items(value: Any, what: str, of: tuple[type, ...] = (dict,)) -> list[Any]:
    if isinstance(value, dict) and "data" in value:
        value = value["data"]
    if value is None or value in ({}, ""):
        return []
    if not isinstance(value, list) or not all(isinstance(item, of) for item in value):
        raise MalformedResponseError(f"{what} was expected, but there is {described(value)}")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
