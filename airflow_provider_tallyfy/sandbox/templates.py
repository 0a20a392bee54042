"""The operations on templates and their parts; a running process keeps the version that it was launched with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from pydantic import TypeAdapter

from airflow_provider_tallyfy.sandbox.errors import invalid, not_found
from airflow_provider_tallyfy.sandbox.model import Checklist, FieldType, FormField, Member, Owners, Rule, Step
from airflow_provider_tallyfy.sandbox.store import Store
from airflow_provider_tallyfy.sandbox.writes import Writable

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
_RULE_FIELDS = ("automated_alias", "conditions", "then_actions")
RULE = Writable(Rule, _RULE_FIELDS, required=_RULE_FIELDS)
_UNITS = {
    "minutes": timedelta(minutes=1),
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
    "weeks": timedelta(weeks=1),
    "months": timedelta(days=30),
}


def create(store: Store, caller: Member, given: Mapping[str, Any]) -> Checklist:
    """Create a template, with the steps and kick-off fields that an export has."""
    now = store.now()
    checklist = CHECKLIST.create(
        {"owner_id": caller.id, **given},
        id=store.new_id(),
        alias=_alias(store, given.get("title")),
        created_at=now,
        last_updated=now,
    )
    _check(store, checklist)
    _set_kickoff(store, checklist, given.get("prerun") or ())
    steps = given.get("steps") or ()
    for step in steps.get("data", ()) if isinstance(steps, dict) else steps:
        checklist.steps.append(new_step(store, checklist, step))
    return save(store, checklist)


def update(store: Store, checklist: Checklist, given: Mapping[str, Any]) -> Checklist:
    """Change a template; members and groups that are not sent are removed (tallyfy/mcp-public, from the source)."""
    changed = CHECKLIST.update(checklist, {"users": (), "groups": (), **given})
    _check(store, changed)
    _set_kickoff(store, changed, given.get("prerun") or ())
    return save(store, changed)


def save(store: Store, checklist: Checklist) -> Checklist:
    """Keep a new template, or a changed copy of one."""
    for position, step in enumerate(checklist.steps, start=1):
        step.position = position
    checklist.last_updated = store.now()
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
    copy.title = title or f"{checklist.title} (copy)"
    copy.alias = f"{checklist.alias}-{store.new_increment()}"
    copy.created_at = store.now()
    return save(store, copy)


def new_step(store: Store, checklist: Checklist, given: Mapping[str, Any]) -> Step:
    """Return a new last step of a template."""
    step = STEP.create(
        _step_fields(given),
        id=store.new_id(),
        alias=_alias(store, given.get("title")),
        position=len(checklist.steps) + 1,
    )
    _check_owners(store, step.owners)
    step.captures = [new_field(store, each) for each in given.get("captures") or ()]
    return step


def changed_step(store: Store, step: Step, given: Mapping[str, Any]) -> Step:
    """Return a step with changes; assignees that are not sent are removed (the official SDK, from the source)."""
    changed = STEP.update(step, _step_fields(given))
    _check_owners(store, changed.owners)
    return changed


def new_field(store: Store, given: Mapping[str, Any]) -> FormField:
    """Return a new form field."""
    alias = _alias(store, given.get("label"))
    return _checked(FORM_FIELD.create(given, id=store.new_id(), alias=alias))


def changed_field(field: FormField, given: Mapping[str, Any]) -> FormField:
    """Return a form field with changes."""
    return _checked(FORM_FIELD.update(field, given))


def new_rule(
    store: Store, checklist: Checklist, given: Mapping[str, Any], rule_id: str | None = None
) -> Rule:
    """Return a rule of a template; an update has all of a rule, with the id that it has."""
    parts = {
        name: [{key: value for key, value in each.items() if value is not None} for each in given[name]]
        for name in ("conditions", "then_actions")
        if given.get(name)
    }
    for action in parts.get("then_actions", ()):
        if deadline := action.pop("deadline", None):
            action["deadline"] = _duration("deadline", deadline)
    rule = RULE.create({**given, **parts}, id=rule_id or store.new_id())
    for target in rule.then_actions:
        part(checklist.steps, target.target_step_id)
    return rule


def part(parts: Iterable[_Part], part_id: str) -> _Part:
    """Return a step, form field or rule by its id, or raise 404."""
    for each in parts:
        if each.id == part_id:
            return each
    raise not_found()


def put(parts: list[_Part], item: _Part) -> None:
    """Put a changed part in the place of the one with its id, or a new one at the end."""
    index = next((index for index, each in enumerate(parts) if each.id == item.id), len(parts))
    parts[index : index + 1] = [item]


def place(parts: list[_Part], item: _Part, position: Any) -> None:
    """Put a part at a position, counted from 1; the last place if it is none."""
    if item in parts:
        parts.remove(item)
    parts.insert(position - 1 if isinstance(position, int) and position > 0 else len(parts), item)


def _set_kickoff(store: Store, checklist: Checklist, given: Iterable[Mapping[str, Any]]) -> None:
    """Add and change kick-off fields; one that is not sent stays, since a DELETE of its own removes it."""
    fields = {field.id: field for field in checklist.prerun}
    order = {}
    for position, each in enumerate(given, start=1):
        known = fields.get(str(each.get("id")))
        field = changed_field(known, each) if known else new_field(store, each)
        fields[field.id] = field
        order[field.id] = each.get("position") or position
    checklist.prerun = sorted(fields.values(), key=lambda field: order.get(field.id, len(fields)))


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
    _check_owners(store, Owners(users=checklist.users, groups=checklist.groups))
    folder = store.folders.get(checklist.folder_id or "")
    if checklist.folder_id is not None and (folder is None or folder.folder_type != "checklist"):
        raise invalid({"folder_id": ["The selected folder id is invalid."]})


def _check_owners(store: Store, owners: Owners) -> None:
    if errors := store.check_owners(owners):
        raise invalid({name.removeprefix("owners."): messages for name, messages in errors.items()})


def _checked(field: FormField) -> FormField:
    least = {FieldType.RADIO: 2, FieldType.DROPDOWN: 1, FieldType.MULTISELECT: 1}.get(field.field_type, 0)
    if len(field.options) < least:
        raise invalid({"options": [f"The options must have at least {least} items."]})
    if field.field_type is FieldType.TABLE and not field.columns:
        raise invalid({"columns": ["The columns field is required."]})
    return field


def _alias(store: Store, title: Any) -> str:
    """Return an alias for a title: ``legal-review-1001`` for *Legal review*."""
    name = re.sub(r"[^a-z0-9]+", "-", str(title).casefold()).strip("-")
    return f"{name}-{store.new_increment()}"
