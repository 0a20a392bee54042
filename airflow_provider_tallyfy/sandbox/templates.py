"""The operations on templates and their parts; a running process keeps the version that it was launched with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import TypeAdapter

from airflow_provider_tallyfy.sandbox.access import Caller
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid, not_found
from airflow_provider_tallyfy.sandbox.model import (
    Checklist,
    FieldType,
    FormField,
    Owners,
    Role,
    Rule,
    Step,
)
from airflow_provider_tallyfy.sandbox.store import Store
from airflow_provider_tallyfy.sandbox.writes import Writable, slug

_Part = TypeVar("_Part", Step, FormField, Rule)

CHECKLIST = Writable(
    Checklist,
    ("title", "summary", "guidance", "type", "owner_id", "folder_id", "starred", "users", "groups"),
    (
        *("webhook", "icon", "explanation_video", "kickoff_title", "kickoff_description", "is_public"),
        *("is_featured", "auto_naming", "folderize_process", "tag_process", "allow_launcher_change_name"),
        *("is_pinned", "default_folder", "folder_changeable_by_launcher", "default_process_name_format"),
        "can_add_oot",
    ),
    required=("title",),
    required_on_update=("title",),
)
STEP = Writable(
    Step,
    (
        "title",
        "summary",
        "step_type",
        "can_complete_only_assignees",
        "owners",
        "start_after",
        "deadline_after",
    ),
    (
        *("webhook", "max_assignable", "allow_guest_owners", "skip_start_process", "everyone_must_complete"),
        *("prevent_guest_comment", "is_soft_start_date", "role_changes_every_time", "assign_run_starter"),
        *("top_secret", "send_chromeless", "deadline", "start_date", "roles", "tags"),
    ),
    required=("title",),
    required_on_update=("title",),
)
FORM_FIELD = Writable(
    FormField,
    ("label", "field_type", "required", "guidance", "options", "columns"),
    (
        *("default_value", "default_value_enabled", "collect_time", "use_wysiwyg_editor", "field_validation"),
        *("prefix", "suffix", "settings", "list"),
    ),
    required=("label", "field_type", "required"),
    required_on_update=("label", "field_type", "required"),
)
_UNITS = {
    "minutes": timedelta(minutes=1),
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
    "weeks": timedelta(weeks=1),
    "months": timedelta(days=30),
}


def create(store: Store, caller: Caller, given: Mapping[str, Any]) -> Checklist:
    """Create a template, with the steps and kick-off fields that an export has."""
    now = store.now()
    checklist = CHECKLIST.create(
        {"owner_id": caller.member.id, **given},
        id=store.new_id(),
        alias=f"{slug(str(given.get('title')))}-{store.new_increment()}",
        created_at=now,
        last_updated=now,
    )
    _check(store, checklist)
    checklist = _with_kickoff(store, checklist, given.get("prerun") or ())
    steps = given.get("steps") or ()
    for step in steps.get("data", ()) if isinstance(steps, dict) else steps:
        checklist = replace(checklist, steps=(*checklist.steps, new_step(store, checklist, step)))
    return save(store, checklist)


def update(store: Store, checklist: Checklist, given: Mapping[str, Any]) -> Checklist:
    """Change a template; members and groups that are not sent are removed (tallyfy/mcp-public, from the source)."""
    changed = CHECKLIST.update(checklist, {"users": (), "groups": (), **given})
    _check(store, changed)
    return save(store, _with_kickoff(store, changed, given.get("prerun") or ()))


def save(store: Store, checklist: Checklist) -> Checklist:
    """Keep a new or changed template."""
    checklist = replace(checklist, last_updated=store.now())
    store.checklists[checklist.id] = checklist
    store.changed()
    return checklist


def clone(store: Store, checklist: Checklist, title: str | None) -> Checklist:
    """Copy a template, with ids of its own for all its parts."""
    adapter = TypeAdapter(Checklist)
    text = adapter.dump_json(checklist).decode()
    fields = [*checklist.prerun, *(field for step in checklist.steps for field in step.captures)]
    parts: list[Step | FormField | Rule] = [*checklist.steps, *fields, *checklist.rules]
    for old_id in (checklist.id, *(each.id for each in parts)):
        text = text.replace(f'"{old_id}"', f'"{store.new_id()}"')
    copy = adapter.validate_json(text)
    alias = f"{checklist.alias}-{store.new_increment()}"
    title = title or f"{checklist.title} (copy)"
    return save(store, replace(copy, title=title, alias=alias, created_at=store.now()))


def delete(store: Store, caller: Caller, checklist_id: str) -> None:
    """Delete an archived template for good; only an admin can."""
    checklist = store.checklists.get(checklist_id)
    if checklist is None:
        raise not_found()
    if caller.member.role is not Role.ADMIN:
        raise RefusedError(403, "You don't have permission to delete this template.")
    if checklist.archived_at is None:
        raise RefusedError(422, "The template must be archived before it can be deleted permanently.")
    del store.checklists[checklist_id]
    store.changed()


def new_step(store: Store, checklist: Checklist, given: Mapping[str, Any]) -> Step:
    """Return a new last step of a template."""
    step = STEP.create(
        _step_fields(given),
        id=store.new_id(),
        alias=f"{slug(str(given.get('title')))}-{store.new_increment()}",
        position=len(checklist.steps) + 1,
    )
    _check_owners(store, step)
    return replace(step, captures=tuple(new_field(store, each) for each in given.get("captures") or ()))


def changed_step(store: Store, step: Step, given: Mapping[str, Any]) -> Step:
    """Return a step with changes; assignees that are not sent are removed (the official SDK, from the source)."""
    changed = STEP.update(step, _step_fields(given))
    _check_owners(store, changed)
    return changed


def new_field(store: Store, given: Mapping[str, Any]) -> FormField:
    """Return a new form field."""
    alias = f"{slug(str(given.get('label')))}-{store.new_increment()}"
    return _checked(FORM_FIELD.create(given, id=store.new_id(), alias=alias))


def changed_field(field: FormField, given: Mapping[str, Any]) -> FormField:
    """Return a form field with changes."""
    return _checked(FORM_FIELD.update(field, given))


def new_rule(
    store: Store, checklist: Checklist, given: Mapping[str, Any], rule_id: str | None = None
) -> Rule:
    """Return a rule of a template; an update has all of a rule, with the id that it has."""
    try:
        values = {
            "id": rule_id or store.new_id(),
            "alias": given["automated_alias"],
            "conditions": [
                {
                    "subject": each["conditionable_type"],
                    "subject_id": each["conditionable_id"],
                    "operation": each["operation"],
                    "statement": each.get("statement") or "",
                    "logic": each.get("logic") or "and",
                }
                for each in given["conditions"]
            ],
            "actions": [
                {
                    "verb": each["action_verb"],
                    "target_step_id": part(checklist.steps, each["target_step_id"]).id,
                    "assignees": each.get("assignees") or {},
                    "deadline": _duration("deadline", each["deadline"]) if each.get("deadline") else None,
                }
                for each in given["then_actions"]
            ],
        }
    except KeyError as error:
        raise invalid({error.args[0]: [f"The {error.args[0]} field is required."]}) from None
    return Writable(Rule, tuple(values)).create(values)


def part(parts: Iterable[_Part], part_id: str) -> _Part:
    """Return a step, form field or rule by its id, or raise 404."""
    for each in parts:
        if each.id == part_id:
            return each
    raise not_found()


def without(parts: Iterable[_Part], part_id: str) -> tuple[_Part, ...]:
    """Return the parts without one."""
    return tuple(each for each in parts if each.id != part_id)


def replaced(parts: Iterable[_Part], changed: _Part) -> tuple[_Part, ...]:
    """Return the parts with the changed one in the place of the one with its id."""
    return tuple(changed if each.id == changed.id else each for each in parts)


def placed(parts: Iterable[_Part], moved: _Part, position: Any) -> tuple[_Part, ...]:
    """Return the parts with one at a position, counted from 1; the last place if it is none."""
    others: list[_Part] = list(without(parts, moved.id))
    others.insert(position - 1 if isinstance(position, int) and position > 0 else len(others), moved)
    return tuple(others)


def numbered(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return steps with their positions in this order."""
    return tuple(replace(step, position=number) for number, step in enumerate(steps, start=1))


def _with_kickoff(store: Store, checklist: Checklist, given: Iterable[Mapping[str, Any]]) -> Checklist:
    """Add and change kick-off fields; one that is not sent stays, since a DELETE of its own removes it."""
    fields = {field.id: field for field in checklist.prerun}
    order = {}
    for position, each in enumerate(given, start=1):
        known = fields.get(str(each.get("id")))
        field = changed_field(known, each) if known else new_field(store, each)
        fields[field.id] = field
        order[field.id] = each.get("position") or position
    ordered = sorted(fields.values(), key=lambda field: order.get(field.id, len(fields)))
    return replace(checklist, prerun=tuple(ordered))


def _step_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a step's JSON with the fields of the model: owners, and times after the launch."""
    owners = {"users": given.get("assignees"), "guests": given.get("guests"), "groups": given.get("groups")}
    fields = {**given, "owners": {name: value for name, value in owners.items() if value}}
    for name, ours in (("deadline", "deadline_after"), ("start_date", "start_after")):
        if given.get(name):
            fields[ours] = _duration(name, given[name])
    return fields


def _duration(name: str, given: Any) -> timedelta:
    """Return a time such as ``{"value": 2, "unit": "days", "option": "from"}``; one ``before`` is negative."""
    if isinstance(given, Mapping) and given.get("unit") in _UNITS and isinstance(given.get("value"), int):
        time: timedelta = given["value"] * _UNITS[given["unit"]]
        return -time if given.get("option") == "before" else time
    raise invalid({name: [f"The {name} must have a value and a unit: {', '.join(_UNITS)}."]})


def _check(store: Store, checklist: Checklist) -> None:
    errors = store.check_owners(Owners(users=checklist.users, groups=checklist.groups))
    folder = store.folders.get(checklist.folder_id or "")
    if checklist.folder_id is not None and (folder is None or folder.folder_type != "checklist"):
        errors["folder_id"] = ["The selected folder id is invalid."]
    if errors:
        raise invalid({name.removeprefix("owners."): messages for name, messages in errors.items()})


def _check_owners(store: Store, step: Step) -> None:
    if errors := store.check_owners(step.owners):
        raise invalid({name.removeprefix("owners."): messages for name, messages in errors.items()})


def _checked(field: FormField) -> FormField:
    least = {FieldType.RADIO: 2, FieldType.DROPDOWN: 1, FieldType.MULTISELECT: 1}.get(field.field_type, 0)
    if len(field.options) < least:
        raise invalid({"options": [f"The options must have at least {least} items."]})
    if field.field_type is FieldType.TABLE and not field.columns:
        raise invalid({"columns": ["The columns field is required."]})
    return field
