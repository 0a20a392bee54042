"""Templates: list, show, create, change, copy, archive and delete, with their steps, form fields, rules and tags.

A running process keeps the version that it was launched with, so a change makes a new version of its template.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter

from airflow_provider_tallyfy.sandbox import dependencies, listing, serializers
from airflow_provider_tallyfy.sandbox.dependencies import NO_CONTENT, Caller, Given, SandboxStore
from airflow_provider_tallyfy.sandbox.errors import invalid, not_found
from airflow_provider_tallyfy.sandbox.model import Checklist, FieldType, FormField, Owners, Rule, Run, Step
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import Store, associated
from airflow_provider_tallyfy.sandbox.writes import Writable

router = dependencies.organization_router("/checklists")

_Part = TypeVar("_Part", Step, FormField, Rule)
_CHECKLIST = Writable(
    Checklist,
    "title summary guidance type owner_id folder_id starred users groups",
    "webhook icon explanation_video kickoff_title kickoff_description is_public is_featured auto_naming"
    " folderize_process tag_process allow_launcher_change_name is_pinned default_folder can_add_oot"
    " folder_changeable_by_launcher default_process_name_format",
    required="title",
)
_STEP = Writable(
    Step,
    "title summary step_type can_complete_only_assignees owners start_after deadline_after",
    "webhook max_assignable allow_guest_owners skip_start_process everyone_must_complete prevent_guest_comment"
    " is_soft_start_date role_changes_every_time assign_run_starter top_secret send_chromeless deadline"
    " start_date roles tags",
    required="title",
)
_FORM_FIELD = Writable(
    FormField,
    "label field_type required guidance options columns",
    "default_value default_value_enabled collect_time use_wysiwyg_editor field_validation prefix suffix"
    " settings list",
    required="label field_type required",
)
_RULE = Writable(
    Rule, "automated_alias conditions then_actions", required="automated_alias conditions then_actions"
)
MAX_DURATION = 9999
_UNITS = {
    "minutes": timedelta(minutes=1),
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
    "weeks": timedelta(weeks=1),
    "months": timedelta(days=30),
}


async def _checklist(store: SandboxStore, checklist_id: str) -> Checklist:
    # A copy to change and save as a new version.
    return copy.deepcopy(store.checklist(checklist_id))


async def _stored(store: SandboxStore, checklist_id: str) -> Checklist:
    if checklist_id not in store.checklists:
        raise not_found()
    return store.checklists[checklist_id]


async def _step(checklist: ThisChecklist, step_id: str) -> Step:
    return _part(checklist.steps, step_id)


ThisChecklist = Annotated[Checklist, Depends(_checklist)]
# Archived or not.
StoredChecklist = Annotated[Checklist, Depends(_stored)]
ThisStep = Annotated[Step, Depends(_step)]


@router.get("")
async def list_checklists(store: SandboxStore, includes: dependencies.With, query: listing.Pages) -> Response:
    found = listing.checklists(store, query)
    return query.answer(found, lambda each: serializers.checklist(store, each, includes))


@router.post("", status_code=201)
async def create_checklist(store: SandboxStore, caller: Caller, given: Given) -> JSON:
    """Create a template, with the steps and kick-off fields that an export has."""
    now, alias = store.now(), _alias(store, given.get("title"))
    known = {"id": store.new_id(), "alias": alias, "created_at": now, "last_updated": now}
    checklist = _CHECKLIST.create({"owner_id": caller.id, **given}, **known)
    _check(store, checklist)
    _set_kickoff(store, checklist, _objects(given, "prerun"))
    for step in _objects(given, "steps"):
        checklist.steps.append(_new_step(store, checklist, step))
    return _save(store, checklist)


@router.post("/tags", status_code=201)
async def add_tag(store: SandboxStore, given: Given) -> JSON:
    """Tag a template or a process that is not archived."""
    tag_id, kind, subject_id = (str(given.get(name)) for name in ("tag_id", "subject_type", "subject_id"))
    subjects: dict[str, Mapping[str, Run | Checklist]] = {"Checklist": store.checklists, "Run": store.runs}
    if tag_id not in store.tags or given.get("tag_type") not in ("private", "public"):
        raise invalid({"tag_id": ["The selected tag id is invalid."]})
    subject = subjects.get(kind, {}).get(subject_id)
    if subject is None or subject.archived_at is not None:
        raise invalid({"subject_id": ["Subject not found"]})
    subject = _set_tags(store, subject, (*(each for each in subject.tags if each != tag_id), tag_id))
    return list(serializers.tagged(store, subject))[-1]


@router.delete("/tags/{number}", **NO_CONTENT)
async def remove_tag(store: SandboxStore, number: int) -> None:
    """Remove a tag from a template or a process, by the id of their association."""
    subjects: tuple[Run | Checklist, ...] = (*store.checklists.values(), *store.runs.values())
    subject, tag_id = associated(((each, tag) for each in subjects for tag in each.tags), number)
    _set_tags(store, subject, tuple(each for each in subject.tags if each != tag_id))


@router.get("/{checklist_id}")
async def get_checklist(store: SandboxStore, checklist: ThisChecklist, includes: dependencies.With) -> JSON:
    return serializers.checklist(store, checklist, includes)


@router.put("/{checklist_id}")
async def update_checklist(store: SandboxStore, checklist: ThisChecklist, given: Given) -> JSON:
    """Change a template; members and groups that are not sent are removed (tallyfy/mcp-public, from the source)."""
    changed = _CHECKLIST.update(checklist, {"users": (), "groups": (), **given})
    _check(store, changed)
    _set_kickoff(store, changed, _objects(given, "prerun"))
    return _save(store, changed)


@router.delete("/{checklist_id}")
async def archive_checklist(store: SandboxStore, checklist: ThisChecklist) -> Response:
    """Archive a template; its processes continue."""
    checklist.archived_at = store.now()
    _save(store, checklist)
    return _deleted()


@router.put("/{checklist_id}/activate")
@router.put("/{checklist_id}/restore")
async def restore_checklist(store: SandboxStore, checklist: StoredChecklist) -> JSON:
    return _save(store, replace(checklist, archived_at=None))


@router.delete("/{checklist_id}/delete")
async def delete_checklist(store: SandboxStore, caller: Caller, checklist: StoredChecklist) -> Response:
    """Delete an archived template for good; only an admin can."""
    dependencies.check_deletable(caller, "template", checklist.archived_at)
    del store.checklists[checklist.id]
    store.changed()
    return _deleted()


@router.put("/{checklist_id}/publish")
async def publish_checklist(store: SandboxStore, checklist: ThisChecklist) -> JSON:
    """Publish a template; here each change is published at once."""
    return serializers.checklist(store, checklist)


@router.post("/{checklist_id}/clone", status_code=201)
async def clone_checklist(request: Request, store: SandboxStore, checklist: ThisChecklist) -> JSON:
    """Copy a template with new ids for its parts; the body is JSON, or form-encoded as the official SDK sends it."""
    is_json = request.headers.get("Content-Type", "").startswith("application/json")
    given: Mapping[str, Any] = await request.form()
    if is_json:
        given = TypeAdapter(JSON).validate_json(await request.body() or b"{}")
    adapter = TypeAdapter(Checklist)
    text = adapter.dump_json(checklist).decode()
    fields = [*checklist.prerun, *(field for step in checklist.steps for field in step.captures)]
    parts: list[Step | FormField | Rule] = [*checklist.steps, *fields, *checklist.rules]
    for old_id in (checklist.id, *(each.id for each in parts)):
        text = text.replace(f'"{old_id}"', f'"{store.new_id()}"')
    cloned = adapter.validate_json(text)
    cloned.title = str(given.get("title") or f"{checklist.title} (copy)")
    cloned.alias = f"{checklist.alias}-{store.new_increment()}"
    cloned.created_at = store.now()
    return _save(store, cloned)


@router.get("/{checklist_id}/form-fields")
async def get_form_fields(store: SandboxStore, checklist: ThisChecklist) -> JSON:
    """Show the fields of a template's kick-off form, and those of its steps."""
    captures = [field for step in checklist.steps for field in step.captures]
    return {
        "id": checklist.id,
        "title": checklist.title,
        "ko_form_fields": [serializers.form_field(store, field) for field in checklist.prerun],
        "form_fields": [serializers.form_field(store, field) for field in captures],
    }


@router.delete("/{checklist_id}/preruns/{field_id}", **NO_CONTENT)
async def delete_kickoff_field(store: SandboxStore, checklist: ThisChecklist, field_id: str) -> None:
    checklist.prerun.remove(_part(checklist.prerun, field_id))
    _save(store, checklist)


@router.get("/{checklist_id}/steps")
async def list_steps(store: SandboxStore, checklist: ThisChecklist, query: listing.Pages) -> Response:
    return query.answer(checklist.steps, lambda step: serializers.step(store, checklist, step))


@router.post("/{checklist_id}/steps", status_code=201)
async def create_step(store: SandboxStore, checklist: ThisChecklist, given: Given) -> JSON:
    """Add a last step; a position is ignored, as at Tallyfy."""
    return _save_step(store, checklist, _new_step(store, checklist, given))


@router.get("/{checklist_id}/steps/{step_id}")
async def get_step(store: SandboxStore, checklist: ThisChecklist, step: ThisStep) -> JSON:
    return serializers.step(store, checklist, step)


@router.put("/{checklist_id}/steps/{step_id}")
async def update_step(store: SandboxStore, checklist: ThisChecklist, step: ThisStep, given: Given) -> JSON:
    """Change a step; assignees that are not sent are removed (the official SDK, from the source)."""
    changed = _STEP.update(step, _step_fields(given))
    store.check_owners(changed.owners, "", users="assignees")
    return _save_step(store, checklist, changed)


@router.delete("/{checklist_id}/steps/{step_id}", **NO_CONTENT)
async def delete_step(store: SandboxStore, checklist: ThisChecklist, step: ThisStep) -> None:
    checklist.steps.remove(step)
    _save(store, checklist)


@router.post("/{checklist_id}/steps/{step_id}/clone", status_code=201)
async def clone_step(store: SandboxStore, checklist: ThisChecklist, step: ThisStep) -> JSON:
    """Copy a step, as the last one."""
    cloned = copy.deepcopy(step)
    cloned.id, cloned.alias = store.new_id(), f"{step.alias}-{store.new_increment()}"
    for field in cloned.captures:
        field.id = store.new_id()
    return _save_step(store, checklist, cloned)


@router.put("/{checklist_id}/steps/{step_id}/reorder")
async def reorder_step(store: SandboxStore, checklist: ThisChecklist, step: ThisStep, given: Given) -> JSON:
    _place(checklist.steps, step, given)
    return _save_step(store, checklist, step)


@router.post("/{checklist_id}/steps/{step_id}/captures", status_code=201)
async def create_field(store: SandboxStore, checklist: ThisChecklist, step: ThisStep, given: Given) -> JSON:
    field = new_field(store, given)
    _place(step.captures, field, given)
    return _save_field(store, checklist, step, field)


@router.put("/{checklist_id}/steps/{step_id}/captures")
async def reorder_field(store: SandboxStore, checklist: ThisChecklist, step: ThisStep, given: Given) -> JSON:
    _place(step.captures, _part(step.captures, str(given.get("capture_id"))), given)
    return _save_step(store, checklist, step)


@router.put("/{checklist_id}/steps/{step_id}/captures/{field_id}")
async def update_field(
    store: SandboxStore, checklist: ThisChecklist, step: ThisStep, field_id: str, given: Given
) -> JSON:
    field = _changed_field(_part(step.captures, field_id), given)
    _put(step.captures, field)
    return _save_field(store, checklist, step, field)


@router.put("/{checklist_id}/steps/{step_id}/captures/{field_id}/move-out")
async def move_field(
    store: SandboxStore, checklist: ThisChecklist, step: ThisStep, field_id: str, given: Given
) -> JSON:
    field = _part(step.captures, field_id)
    target = _part(checklist.steps, str(given.get("target_step_id")))
    step.captures.remove(field)
    _place(target.captures, field, given)
    return _save_field(store, checklist, target, field)


@router.delete("/{checklist_id}/steps/{step_id}/captures/{field_id}", **NO_CONTENT)
async def delete_field(store: SandboxStore, checklist: ThisChecklist, step: ThisStep, field_id: str) -> None:
    step.captures.remove(_part(step.captures, field_id))
    _save(store, checklist)


@router.post("/{checklist_id}/automated-actions", status_code=201)
async def create_rule(store: SandboxStore, checklist: ThisChecklist, given: Given) -> JSON:
    return _save_rule(store, checklist, store.new_id(), given)


@router.put("/{checklist_id}/automated-actions/{rule_id}")
async def update_rule(store: SandboxStore, checklist: ThisChecklist, rule_id: str, given: Given) -> JSON:
    """Change a rule, all of which is in the body."""
    return _save_rule(store, checklist, _part(checklist.rules, rule_id).id, given)


@router.delete("/{checklist_id}/automated-actions/{rule_id}", **NO_CONTENT)
async def delete_rule(store: SandboxStore, checklist: ThisChecklist, rule_id: str) -> None:
    checklist.rules.remove(_part(checklist.rules, rule_id))
    _save(store, checklist)


def new_field(store: Store, given: Mapping[str, Any]) -> FormField:
    alias = _alias(store, given.get("label"))
    return _checked(_FORM_FIELD.create(given, id=store.new_id(), alias=alias))


def _changed_field(field: FormField, given: Mapping[str, Any]) -> FormField:
    return _checked(_FORM_FIELD.update(field, given))


def _new_step(store: Store, checklist: Checklist, given: Mapping[str, Any]) -> Step:
    alias, position = _alias(store, given.get("title")), len(checklist.steps) + 1
    step = _STEP.create(_step_fields(given), id=store.new_id(), alias=alias, position=position)
    store.check_owners(step.owners, "", users="assignees")
    step.captures = [new_field(store, each) for each in _objects(given, "captures")]
    return step


def _save(store: Store, checklist: Checklist) -> JSON:
    """Keep a new template, or a new version of one, and show it."""
    for position, step in enumerate(checklist.steps, start=1):
        step.position = position
    checklist.last_updated = store.now()
    store.checklists[checklist.id] = checklist
    store.changed()
    return serializers.checklist(store, checklist)


def _save_step(store: Store, checklist: Checklist, step: Step) -> JSON:
    _put(checklist.steps, step)
    _save(store, checklist)
    return serializers.step(store, checklist, step)


def _save_field(store: Store, checklist: Checklist, step: Step, field: FormField) -> JSON:
    _save(store, checklist)
    return serializers.capture(store, step, field)


def _save_rule(store: Store, checklist: Checklist, rule_id: str, given: Mapping[str, Any]) -> JSON:
    parts = {
        name: [
            {key: value for key, value in each.items() if value is not None} for each in _objects(given, name)
        ]
        for name in ("conditions", "then_actions")
        if given.get(name)
    }
    for action in parts.get("then_actions", ()):
        if deadline := action.pop("deadline", None):
            action["deadline"] = _duration("deadline", deadline)
    rule = _RULE.create({**given, **parts}, id=rule_id)
    for target in rule.then_actions:
        _part(checklist.steps, target.target_step_id)
        store.check_owners(target.assignees, "then_actions.assignees.")
    _put(checklist.rules, rule)
    _save(store, checklist)
    return serializers.rule(rule)


def _set_tags(store: Store, subject: Run | Checklist, tags: tuple[str, ...]) -> Run | Checklist:
    if isinstance(subject, Checklist):
        subject = replace(subject, tags=tags)
        _save(store, subject)
    else:
        subject.tags = tags
        store.changed(subject)
    return subject


def _deleted() -> Response:
    # No template of the sandbox is part of another one, so no reference is deleted with it.
    message = "The Template was deleted, and references were also deleted from:"
    return JSONResponse({"message": message, "deleted_references": []})


def _objects(given: Mapping[str, Any], name: str) -> list[JSON]:
    """Return a list of a body, which may be wrapped as ``with`` shows it, or raise 422 if it is none of objects."""
    found = given.get(name) or []
    if isinstance(found, dict):
        found = found.get("data")
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise invalid({name: [f"The {name} must be a list of objects."]})
    return found


def _part(parts: Iterable[_Part], part_id: str) -> _Part:
    """Return a step, form field or rule by its id, or raise 404."""
    for each in parts:
        if each.id == part_id:
            return each
    raise not_found()


def _put(parts: list[_Part], item: _Part) -> None:
    """Put a changed part in the place of the one with its id, or a new one at the end."""
    index = next((index for index, each in enumerate(parts) if each.id == item.id), len(parts))
    parts[index : index + 1] = [item]


def _place(parts: list[_Part], item: _Part, given: Mapping[str, Any]) -> None:
    """Put a part at the position that is given, counted from 1; the last place if it is none."""
    position = given.get("position")
    if item in parts:
        parts.remove(item)
    is_known = isinstance(position, int) and 0 < position <= len(parts)
    parts.insert(given["position"] - 1 if is_known else len(parts), item)


def _set_kickoff(store: Store, checklist: Checklist, given: Iterable[Mapping[str, Any]]) -> None:
    """Add and change kick-off fields; one that is not sent stays, since only a DELETE removes it."""
    fields = {field.id: field for field in checklist.prerun}
    order = {}
    for position, each in enumerate(given, start=1):
        known = fields.get(str(each.get("id")))
        field = _changed_field(known, each) if known else new_field(store, each)
        fields[field.id] = field
        order[field.id] = each["position"] if isinstance(each.get("position"), int) else position
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
    value, unit = (given.get("value"), str(given.get("unit"))) if isinstance(given, dict) else (None, "")
    if unit in _UNITS and isinstance(value, int) and abs(value) <= MAX_DURATION:
        return -value * _UNITS[unit] if given.get("option") == "before" else value * _UNITS[unit]
    units = ", ".join(_UNITS)
    raise invalid({name: [f"The {name} must have a value of at most {MAX_DURATION} and a unit: {units}."]})


def _check(store: Store, checklist: Checklist) -> None:
    store.check_owners(Owners(users=checklist.users, groups=checklist.groups), "")
    folder = store.folders.get(checklist.folder_id or "")
    if checklist.folder_id is not None and (folder is None or folder.folder_type != "checklist"):
        raise invalid({"folder_id": ["The selected folder id is invalid."]})


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
