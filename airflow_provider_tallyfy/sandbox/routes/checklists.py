"""Templates: list, show, create, change, copy, archive and delete, with their steps, form fields, rules and tags."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import listing, serializers, templates
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid, not_found
from airflow_provider_tallyfy.sandbox.model import Checklist, Run, Step
from airflow_provider_tallyfy.sandbox.routes import dependencies
from airflow_provider_tallyfy.sandbox.routes.dependencies import (
    NO_CONTENT,
    Given,
    SandboxStore,
    ThisChecklist,
    ThisStep,
)
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import Store, associated

router = dependencies.organization_router("/checklists")


@router.get("")
async def list_checklists(store: SandboxStore, includes: dependencies.With, query: listing.Pages) -> Response:
    """List templates."""
    found = listing.checklists(store, query)
    return query.answer(found, lambda each: serializers.checklist(store, each, includes))


@router.post("", status_code=201)
async def create_checklist(store: SandboxStore, caller: dependencies.Member, given: Given) -> JSON:
    """Create a template."""
    return serializers.checklist(store, templates.create(store, caller, given))


@router.post("/tags", status_code=201)
async def add_tag(store: SandboxStore, given: Given) -> JSON:
    """Tag a template or a process that is not archived."""
    tag_id = given.get("tag_id")
    subjects: dict[Any, Mapping[Any, Run | Checklist]] = {"Checklist": store.checklists, "Run": store.runs}
    if tag_id not in store.tags or given.get("tag_type") not in ("private", "public"):
        raise invalid({"tag_id": ["The selected tag id is invalid."]})
    subject = subjects.get(given.get("subject_type"), {}).get(given.get("subject_id"))
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
    """Show a template with its kick-off fields."""
    return serializers.checklist(store, checklist, includes)


@router.put("/{checklist_id}")
async def update_checklist(store: SandboxStore, checklist: ThisChecklist, given: Given) -> JSON:
    """Change a template."""
    return serializers.checklist(store, templates.update(store, checklist, given))


@router.delete("/{checklist_id}")
async def archive_checklist(store: SandboxStore, checklist: ThisChecklist) -> Response:
    """Archive a template; its processes go on."""
    checklist.archived_at = store.now()
    templates.save(store, checklist)
    return _deleted()


@router.put("/{checklist_id}/activate")
@router.put("/{checklist_id}/restore")
async def restore_checklist(store: SandboxStore, checklist_id: str) -> JSON:
    """Restore an archived template."""
    checklist = replace(_stored(store, checklist_id), archived_at=None)
    return serializers.checklist(store, templates.save(store, checklist))


@router.delete("/{checklist_id}/delete")
async def delete_checklist(store: SandboxStore, caller: dependencies.Member, checklist_id: str) -> Response:
    """Delete an archived template for good; only an admin can."""
    checklist = _stored(store, checklist_id)
    if caller.role != "Admin":
        raise RefusedError(403, "You don't have permission to delete this template.")
    if checklist.archived_at is None:
        raise RefusedError(422, "The template must be archived before it can be deleted permanently.")
    del store.checklists[checklist_id]
    store.changed()
    return _deleted()


@router.put("/{checklist_id}/publish")
async def publish_checklist(store: SandboxStore, checklist: ThisChecklist) -> JSON:
    """Publish a template; here each change is published at once."""
    return serializers.checklist(store, checklist)


@router.post("/{checklist_id}/clone", status_code=201)
async def clone_checklist(request: Request, store: SandboxStore, checklist: ThisChecklist) -> JSON:
    """Copy a template; the body is JSON, or form-encoded as the official SDK sends it."""
    is_json = request.headers.get("Content-Type", "").startswith("application/json")
    given: Any = await request.json() if is_json and await request.body() else await request.form()
    return serializers.checklist(store, templates.clone(store, checklist, given.get("title")))


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
    """Delete a kick-off field."""
    checklist.prerun.remove(templates.part(checklist.prerun, field_id))
    templates.save(store, checklist)


@router.get("/{checklist_id}/steps")
async def list_steps(store: SandboxStore, checklist: ThisChecklist, query: listing.Pages) -> Response:
    """List a template's steps with their form fields."""
    return query.answer(checklist.steps, lambda step: serializers.step(store, checklist, step))


@router.post("/{checklist_id}/steps", status_code=201)
async def create_step(store: SandboxStore, checklist: ThisChecklist, given: Given) -> JSON:
    """Add a last step; a position is ignored, as at Tallyfy."""
    return _save_step(store, checklist, templates.new_step(store, checklist, given))


@router.get("/{checklist_id}/steps/{step_id}")
async def get_step(store: SandboxStore, checklist: ThisChecklist, step: ThisStep) -> JSON:
    """Show a step with its form fields."""
    return serializers.step(store, checklist, step)


@router.put("/{checklist_id}/steps/{step_id}")
async def update_step(store: SandboxStore, checklist: ThisChecklist, step: ThisStep, given: Given) -> JSON:
    """Change a step."""
    return _save_step(store, checklist, templates.changed_step(store, step, given))


@router.delete("/{checklist_id}/steps/{step_id}", **NO_CONTENT)
async def delete_step(store: SandboxStore, checklist: ThisChecklist, step: ThisStep) -> None:
    """Delete a step."""
    checklist.steps.remove(step)
    templates.save(store, checklist)


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
    """Move a step to a position."""
    templates.place(checklist.steps, step, given.get("position"))
    return _save_step(store, checklist, step)


@router.post("/{checklist_id}/steps/{step_id}/captures", status_code=201)
async def create_field(store: SandboxStore, checklist: ThisChecklist, step: ThisStep, given: Given) -> JSON:
    """Add a form field to a step."""
    field = templates.new_field(store, given)
    templates.place(step.captures, field, given.get("position"))
    templates.save(store, checklist)
    return serializers.capture(store, step, field)


@router.put("/{checklist_id}/steps/{step_id}/captures")
async def reorder_field(store: SandboxStore, checklist: ThisChecklist, step: ThisStep, given: Given) -> JSON:
    """Move a form field to a position in its step."""
    field = templates.part(step.captures, str(given.get("capture_id")))
    templates.place(step.captures, field, given.get("position"))
    return _save_step(store, checklist, step)


@router.put("/{checklist_id}/steps/{step_id}/captures/{field_id}")
async def update_field(
    store: SandboxStore, checklist: ThisChecklist, step: ThisStep, field_id: str, given: Given
) -> JSON:
    """Change a form field of a step."""
    field = templates.changed_field(templates.part(step.captures, field_id), given)
    templates.put(step.captures, field)
    templates.save(store, checklist)
    return serializers.capture(store, step, field)


@router.put("/{checklist_id}/steps/{step_id}/captures/{field_id}/move-out")
async def move_field(
    store: SandboxStore, checklist: ThisChecklist, step: ThisStep, field_id: str, given: Given
) -> JSON:
    """Move a form field to another step."""
    field = templates.part(step.captures, field_id)
    target = templates.part(checklist.steps, str(given.get("target_step_id")))
    step.captures.remove(field)
    templates.place(target.captures, field, given.get("position"))
    templates.save(store, checklist)
    return serializers.capture(store, target, field)


@router.delete("/{checklist_id}/steps/{step_id}/captures/{field_id}", **NO_CONTENT)
async def delete_field(store: SandboxStore, checklist: ThisChecklist, step: ThisStep, field_id: str) -> None:
    """Delete a form field of a step."""
    step.captures.remove(templates.part(step.captures, field_id))
    templates.save(store, checklist)


@router.post("/{checklist_id}/automated-actions", status_code=201)
async def create_rule(store: SandboxStore, checklist: ThisChecklist, given: Given) -> JSON:
    """Add a rule."""
    checklist.rules.append(templates.new_rule(store, checklist, given))
    return serializers.rule(templates.save(store, checklist).rules[-1])


@router.put("/{checklist_id}/automated-actions/{rule_id}")
async def update_rule(store: SandboxStore, checklist: ThisChecklist, rule_id: str, given: Given) -> JSON:
    """Change a rule, all of which is in the body."""
    templates.part(checklist.rules, rule_id)
    rule = templates.new_rule(store, checklist, given, rule_id)
    templates.put(checklist.rules, rule)
    templates.save(store, checklist)
    return serializers.rule(rule)


@router.delete("/{checklist_id}/automated-actions/{rule_id}", **NO_CONTENT)
async def delete_rule(store: SandboxStore, checklist: ThisChecklist, rule_id: str) -> None:
    """Delete a rule."""
    checklist.rules.remove(templates.part(checklist.rules, rule_id))
    templates.save(store, checklist)


def _save_step(store: Store, checklist: Checklist, step: Step) -> JSON:
    templates.put(checklist.steps, step)
    return serializers.step(store, templates.save(store, checklist), step)


def _stored(store: Store, checklist_id: str) -> Checklist:
    """Return a template, archived or not, or raise 404."""
    if checklist_id not in store.checklists:
        raise not_found()
    return store.checklists[checklist_id]


def _deleted() -> Response:
    # No template of the sandbox is part of another one, so no reference is deleted with it.
    message = "The Template was deleted, and references were also deleted from:"
    return JSONResponse({"message": message, "deleted_references": []})


def _set_tags(store: Store, subject: Run | Checklist, tags: tuple[str, ...]) -> Run | Checklist:
    if isinstance(subject, Checklist):
        return templates.save(store, replace(subject, tags=tags))
    subject.tags = tags
    store.changed(subject)
    return subject
