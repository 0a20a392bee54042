"""
The fields of a form: what Tallyfy says of the kick-off form of a template and of the forms of tasks.

A field's id is the *timeline id* by which its value is sent and kept. The rule held here: a list of fields is read in
each shape that Tallyfy documents (a bare list in a template's ``prerun``, page "Get template"; ``{"data": […]}`` in
what ``with`` adds, page "Get task"), or refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_tallyfy.protocol.names import Index, Rank, folded, index
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, is_id
from airflow_provider_tallyfy.protocol.text import described, quoted, shortened


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a radio, dropdown or multiselect field."""

    id: int | str
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table field."""

    id: int | str
    label: str


@dataclass(frozen=True, slots=True)
class FormField:
    """
    One field of a form.

    :param id: the timeline id that its value is keyed by.
    :param alias: Tallyfy's name for it, which stays when the label changes; empty where there is none.
    :param label: what people read.
    :param field_type: ``text``, ``textarea``, ``email``, ``date``, ``radio``, ``dropdown``, ``multiselect``, ``table``,
        ``assignees_form`` or ``file``.
    :param required: whether it must have a value.
    :param options: what there is to choose from.
    :param columns: the columns of a table, in their order.
    :param has_default: whether the template gives it a value of its own.
    """

    id: str
    alias: str
    label: str
    field_type: str
    required: bool = False
    options: tuple[Option, ...] = ()
    columns: tuple[Column, ...] = ()
    has_default: bool = False

    @property
    def name(self) -> str:
        """What to call it towards people."""
        return self.label or self.alias or self.id

    def __str__(self) -> str:
        needed = ", required" if self.required else ""
        alias = f"alias {shortened(self.alias)}, " if self.alias else ""
        return f"{quoted(self.name)} ({self.field_type}{needed}; {alias}id {self.id})"


def read_form_fields(value: Any) -> tuple[FormField, ...]:
    """
    Return the fields of a list of them, each once.

    :param value: a bare list, ``{"data": […]}``, or nothing at all.
    :raises MalformedResponseError: where it is anything else, or a field has no id or no type.
    """
    fields = (_field(item) for item in _items(value, "a list of form fields"))
    return tuple({field.id: field for field in fields}.values())


def read_kickoff_fields(checklist: Mapping[str, Any]) -> tuple[FormField, ...]:
    """Return the fields of a template's kick-off form (page "Get template")."""
    return read_form_fields(checklist.get("prerun"))


def read_task_fields(task: Mapping[str, Any]) -> tuple[FormField, ...]:
    """Return the fields of a task that was asked for ``with=form_fields``; webhooks and steps say ``captures``."""
    return read_form_fields(_form(task))


def stored_values(task: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the values that a task's form holds, by field id.

    They stand in ``taskdata``, and with each of the ``form_fields`` too; PHP writes an empty ``taskdata`` as a list.
    """
    form = _items(_form(task), "a list of form fields")
    with_fields = {str(item.get("id")): item["value"] for item in form if "value" in item}
    taskdata = task.get("taskdata")
    return with_fields | (taskdata if isinstance(taskdata, dict) else {})


def by_name(fields: Iterable[FormField]) -> Index[FormField]:
    """Return an index of fields by id, alias and label."""

    def called(field: FormField) -> tuple[str, ...]:
        return field.alias, field.label

    return index(fields, Rank(lambda field: (field.id,)), Rank(called), Rank(called, folded))


def keys(fields: Iterable[FormField]) -> dict[str, FormField]:
    """
    Return the fields by the key under which people find their values.

    That is the alias; where there is none, or another field is called so too, the label; and if need be the id. So
    each of these keys names its own field when values are written.
    """
    fields = tuple(fields)
    known = by_name(fields)

    def key(field: FormField) -> str:
        names = (field.alias, field.label)
        return next((name for name in names if name and known.matches(name) == (field,)), field.id)

    return {key(field): field for field in fields}


def _form(task: Mapping[str, Any]) -> Any:
    return task["form_fields"] if task.get("form_fields") is not None else task.get("captures")


def _field(item: Mapping[str, Any]) -> FormField:
    field_type = item.get("field_type")
    if not is_id(item.get("id")) or not isinstance(field_type, str):
        raise MalformedResponseError("a form field has no id or no type")
    default = item.get("default_value")
    return FormField(
        id=str(item["id"]),
        alias=_text(item.get("alias")),
        label=_text(item.get("label")),
        field_type=field_type,
        required=_is_on(item.get("required")),
        options=tuple(
            Option(_id(option), _text(option.get("text")))
            for option in _items(item.get("options"), "options")
        ),
        columns=tuple(
            Column(_id(column), _text(column.get("label")))
            for column in _items(item.get("columns"), "columns")
        ),
        # The official SDK's name for it (tallyfy 3.1.0, models.py).
        has_default=_is_on(item.get("default_value_enabled")) and default not in (None, "", []),
    )


def _items(value: Any, what: str) -> list[dict[str, Any]]:
    if isinstance(value, dict) and "data" in value:
        value = value["data"]
    if value is None or value in ({}, ""):
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise MalformedResponseError(f"{what} was expected, but there is {described(value)}")
    return value


def _id(item: Mapping[str, Any]) -> int | str:
    identifier = item.get("id")
    if not is_id(identifier):
        raise MalformedResponseError("an option or a column of a form field has no id")
    return identifier


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _is_on(value: Any) -> bool:
    return value in (True, 1, "1", "true")
