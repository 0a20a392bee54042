"""Templates: list, show, create, change, copy, archive and delete, with their steps, form fields, rules and tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import listing, serializers, templates
from airflow_provider_tallyfy.sandbox.errors import invalid, not_found
from airflow_provider_tallyfy.sandbox.model import Checklist, Run, Step
from airflow_provider_tallyfy.sandbox.routes.dependencies import (
    Given,
    Member,
    SandboxStore,
    ThisChecklist,
    ThisStep,
    With,
    answer,
    authenticated,
)
from airflow_provider_tallyfy.sandbox.store import Store, associated

router = APIRouter(prefix="/organizations/{organization}/checklists", dependencies=authenticated)


@router.get("")
async def list_checklists(
    request: Request, store: SandboxStore, includes: With, query: listing.Pages
) -> JSONResponse:
    """List templates."""
    found = listing.checklists(store, query)
    return JSONResponse(
        listing.page(found, lambda each: serializers.checklist(store, each, includes), query, request.url)
    )


@router.post("")
async def create_checklist(store: SandboxStore, caller: Member, given: Given) -> JSONResponse:
    """Create a template."""
    return answer(serializers.checklist(store, templates.create(store, caller, given)), 201)


@router.post("/tags")
async def add_tag(store: SandboxStore, given: Given) -> JSONResponse:
    """Tag a template or a process that is not archived."""
    tag_id = given.get("tag_id")
    subjects: dict[Any, Mapping[Any, Run | Checklist]] = {"Checklist": store.checklists, "Run": store.runs}
    if tag_id not in store.tags or given.get("tag_type") not in ("private", "public"):
        raise invalid({"tag_id": ["The selected tag id is invalid."]})
    subject = subjects.get(given.get("subject_type"), {}).get(given.get("subject_id"))
    if subject is None or subject.archived_at is not None:
        raise invalid({"subject_id": ["Subject not found"]})
    subject = _set_tags(store, subject, (*(each for each in subject.tags if each != tag_id), tag_id))
    return answer(list(serializers.tagged(store, subject))[-1], 201)


@router.delete("/tags/{number}")
async def remove_tag(store: SandboxStore, number: int) -> Response:
    """Remove a tag from a template or a process, by the id of their association."""
    subjects: tuple[Run | Checklist, ...] = (*store.checklists.values(), *store.runs.values())
    subject, tag_id = associated(((each, tag) for each in subjects for tag in each.tags), number)
    _set_tags(store, subject, tuple(each for each in subject.tags if each != tag_id))
    return Response(status_code=204)


@router.get("/{checklist_id}")
async def get_checklist(store: SandboxStore, checklist: ThisChecklist, includes: With) -> JSONResponse:
    """Show a template with its kick-off fields."""
    return answer(serializers.checklist(store, checklist, includes))


@router.put("/{checklist_id}")
async def update_checklist(store: SandboxStore, checklist: ThisChecklist, given: Given) -> JSONResponse:
    """Change a template."""
    return answer(serializers.checklist(store, templates.update(store, checklist, given)))


@router.delete("/{checklist_id}")
async def archive_checklist(store: SandboxStore, checklist: ThisChecklist) -> JSONResponse:
    """Archive a template; its processes go on."""
    templates.save(store, replace(checklist, archived_at=store.now()))
    return _deleted()


@router.put("/{checklist_id}/activate")
@router.put("/{checklist_id}/restore")
async def restore_checklist(store: SandboxStore, checklist_id: str) -> JSONResponse:
    """Restore an archived template."""
    if checklist_id not in store.checklists:
        raise not_found()
    checklist = templates.save(store, replace(store.checklists[checklist_id], archived_at=None))
    return answer(serializers.checklist(store, checklist))


@router.delete("/{checklist_id}/delete")
async def delete_checklist(store: SandboxStore, caller: Member, checklist_id: str) -> JSONResponse:
    """Delete an archived template for good."""
    templates.delete(store, caller, checklist_id)
    return _deleted()


@router.put("/{checklist_id}/publish")
async def publish_checklist(store: SandboxStore, checklist: ThisChecklist) -> JSONResponse:
    """Publish a template; here each change is published at once."""
    return answer(serializers.checklist(store, checklist))


@router.post("/{checklist_id}/clone")
async def clone_checklist(request: Request, store: SandboxStore, checklist: ThisChecklist) -> JSONResponse:
    """Copy a template; the body is JSON, or form-encoded as the official SDK sends it."""
    is_json = request.headers.get("Content-Type", "").startswith("application/json")
    given: Any = await request.json() if is_json and await request.body() else await request.form()
    return answer(serializers.checklist(store, templates.clone(store, checklist, given.get("title"))), 201)


@router.get("/{checklist_id}/form-fields")
async def get_form_fields(store: SandboxStore, checklist: ThisChecklist) -> JSONResponse:
    """Show the fields of a template's kick-off form, and those of its steps."""
    return answer(
        {
            "id": checklist.id,
            "title": checklist.title,
            "ko_form_fields": [serializers.form_field(store, field) for field in checklist.prerun],
            "form_fields": [
                serializers.form_field(store, field) for step in checklist.steps for field in step.captures
            ],
        }
    )


@router.delete("/{checklist_id}/preruns/{field_id}")
async def delete_kickoff_field(store: SandboxStore, checklist: ThisChecklist, field_id: str) -> Response:
    """Delete a kick-off field."""
    templates.part(checklist.prerun, field_id)
    templates.save(store, replace(checklist, prerun=templates.without(checklist.prerun, field_id)))
    return Response(status_code=204)


@router.get("/{checklist_id}/steps")
async def list_steps(
    request: Request, store: SandboxStore, checklist: ThisChecklist, query: listing.Pages
) -> JSONResponse:
    """List a template's steps with their form fields."""
    return JSONResponse(
        listing.page(
            checklist.steps, lambda step: serializers.step(store, checklist, step), query, request.url
        )
    )


@router.post("/{checklist_id}/steps")
async def create_step(store: SandboxStore, checklist: ThisChecklist, given: Given) -> JSONResponse:
    """Add a last step; a position is ignored, as at Tallyfy."""
    return _save_step(store, checklist, templates.new_step(store, checklist, given), 201)


@router.get("/{checklist_id}/steps/{step_id}")
async def get_step(store: SandboxStore, checklist: ThisChecklist, step: ThisStep) -> JSONResponse:
    """Show a step with its form fields."""
    return answer(serializers.step(store, checklist, step))


@router.put("/{checklist_id}/steps/{step_id}")
async def update_step(
    store: SandboxStore, checklist: ThisChecklist, step: ThisStep, given: Given
) -> JSONResponse:
    """Change a step."""
    return _save_step(store, checklist, templates.changed_step(store, step, given))


@router.delete("/{checklist_id}/steps/{step_id}")
async def delete_step(store: SandboxStore, checklist: ThisChecklist, step: ThisStep) -> Response:
    """Delete a step."""
    left = templates.numbered(templates.without(checklist.steps, step.id))
    templates.save(store, replace(checklist, steps=left))
    return Response(status_code=204)


@router.post("/{checklist_id}/steps/{step_id}/clone")
async def clone_step(store: SandboxStore, checklist: ThisChecklist, step: ThisStep) -> JSONResponse:
    """Copy a step, as the last one."""
    copy = replace(
        step,
        id=store.new_id(),
        alias=f"{step.alias}-{store.new_increment()}",
        position=len(checklist.steps) + 1,
        captures=tuple(replace(field, id=store.new_id()) for field in step.captures),
    )
    return _save_step(store, checklist, copy, 201)


@router.put("/{checklist_id}/steps/{step_id}/reorder")
async def reorder_step(
    store: SandboxStore, checklist: ThisChecklist, step: ThisStep, given: Given
) -> JSONResponse:
    """Move a step to a position."""
    steps = templates.numbered(templates.placed(checklist.steps, step, given.get("position")))
    templates.save(store, replace(checklist, steps=steps))
    return answer(serializers.step(store, checklist, templates.part(steps, step.id)))


@router.post("/{checklist_id}/steps/{step_id}/captures")
async def create_field(
    store: SandboxStore, checklist: ThisChecklist, step: ThisStep, given: Given
) -> JSONResponse:
    """Add a form field to a step."""
    field = templates.new_field(store, given)
    step = replace(step, captures=templates.placed(step.captures, field, given.get("position")))
    _save_step(store, checklist, step)
    return answer(serializers.capture(store, step, field), 201)


@router.put("/{checklist_id}/steps/{step_id}/captures")
async def reorder_field(
    store: SandboxStore, checklist: ThisChecklist, step: ThisStep, given: Given
) -> JSONResponse:
    """Move a form field to a position in its step."""
    field = templates.part(step.captures, str(given.get("capture_id")))
    captures = templates.placed(step.captures, field, given.get("position"))
    return _save_step(store, checklist, replace(step, captures=captures))


@router.put("/{checklist_id}/steps/{step_id}/captures/{field_id}")
async def update_field(
    store: SandboxStore, checklist: ThisChecklist, step: ThisStep, field_id: str, given: Given
) -> JSONResponse:
    """Change a form field of a step."""
    field = templates.changed_field(templates.part(step.captures, field_id), given)
    step = replace(step, captures=templates.replaced(step.captures, field))
    _save_step(store, checklist, step)
    return answer(serializers.capture(store, step, field))


@router.put("/{checklist_id}/steps/{step_id}/captures/{field_id}/move-out")
async def move_field(
    store: SandboxStore, checklist: ThisChecklist, step: ThisStep, field_id: str, given: Given
) -> JSONResponse:
    """Move a form field to another step."""
    field = templates.part(step.captures, field_id)
    target = templates.part(checklist.steps, str(given.get("target_step_id")))
    steps = templates.replaced(
        checklist.steps, replace(step, captures=templates.without(step.captures, field_id))
    )
    target = templates.part(steps, target.id)
    target = replace(target, captures=templates.placed(target.captures, field, given.get("position")))
    templates.save(store, replace(checklist, steps=templates.replaced(steps, target)))
    return answer(serializers.capture(store, target, field))


@router.delete("/{checklist_id}/steps/{step_id}/captures/{field_id}")
async def delete_field(
    store: SandboxStore, checklist: ThisChecklist, step: ThisStep, field_id: str
) -> Response:
    """Delete a form field of a step."""
    templates.part(step.captures, field_id)
    _save_step(store, checklist, replace(step, captures=templates.without(step.captures, field_id)))
    return Response(status_code=204)


@router.post("/{checklist_id}/automated-actions")
async def create_rule(store: SandboxStore, checklist: ThisChecklist, given: Given) -> JSONResponse:
    """Add a rule."""
    rule = templates.new_rule(store, checklist, given)
    templates.save(store, replace(checklist, rules=(*checklist.rules, rule)))
    return answer(serializers.rule(rule), 201)


@router.put("/{checklist_id}/automated-actions/{rule_id}")
async def update_rule(
    store: SandboxStore, checklist: ThisChecklist, rule_id: str, given: Given
) -> JSONResponse:
    """Change a rule, all of which is in the body."""
    templates.part(checklist.rules, rule_id)
    rule = templates.new_rule(store, checklist, given, rule_id)
    templates.save(store, replace(checklist, rules=templates.replaced(checklist.rules, rule)))
    return answer(serializers.rule(rule))


@router.delete("/{checklist_id}/automated-actions/{rule_id}")
async def delete_rule(store: SandboxStore, checklist: ThisChecklist, rule_id: str) -> Response:
    """Delete a rule."""
    templates.part(checklist.rules, rule_id)
    templates.save(store, replace(checklist, rules=templates.without(checklist.rules, rule_id)))
    return Response(status_code=204)


def _save_step(store: Store, checklist: Checklist, step: Step, status: int = 200) -> JSONResponse:
    is_new = all(each.id != step.id for each in checklist.steps)
    steps = (*checklist.steps, step) if is_new else templates.replaced(checklist.steps, step)
    return answer(
        serializers.step(store, templates.save(store, replace(checklist, steps=steps)), step), status
    )


def _deleted() -> JSONResponse:
    # No template of the sandbox is part of another one, so no reference is deleted with it.
    message = "The Template was deleted, and references were also deleted from:"
    return JSONResponse({"message": message, "deleted_references": []})


def _set_tags(store: Store, subject: Run | Checklist, tags: tuple[str, ...]) -> Run | Checklist:
    if isinstance(subject, Checklist):
        return templates.save(store, replace(subject, tags=tags))
    subject.tags = tags
    store.changed(subject)
    return subject
