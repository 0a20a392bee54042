"""Forms of running processes: their fields and answers."""

from __future__ import annotations

from airflow_provider_tallyfy.sandbox import serializers, tasks
from airflow_provider_tallyfy.sandbox.errors import RefusedError, not_found
from airflow_provider_tallyfy.sandbox.model import Task
from airflow_provider_tallyfy.sandbox.routes import dependencies
from airflow_provider_tallyfy.sandbox.routes.dependencies import Given, Member, SandboxStore, ThisRun
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import associated, association_id

router = dependencies.organization_router()


@router.get("/runs/{run_id}/form-fields")
async def get_form_fields(store: SandboxStore, run: ThisRun) -> JSON:
    """Show the fields of a process with their answers; ``value_id`` is the id of an answer that there is."""
    return {
        "id": run.id,
        "name": run.name,
        "ko_form_fields": [
            serializers.form_field(store, field, run.prerun) for field in run.checklist.prerun
        ],
        "form_fields": [
            {
                "task_id": task.id,
                **serializers.form_field(store, field, task.taskdata),
                "value_id": association_id(task.id, field.id) if field.id in task.taskdata else None,
            }
            for task in run.visible_tasks
            for field in task.captures
        ],
    }


@router.put("/form-field/value")
async def set_value(store: SandboxStore, caller: Member, given: Given) -> JSON:
    """Change an answer by its id; a field without an answer has none, and Tallyfy then fails.

    tallyfy/n8n describes that failure, and has a test that fails once Tallyfy repairs it.
    """
    try:
        pairs = ((task, field_id) for task in store.tasks.values() for field_id in task.taskdata)
        task, field_id = associated(pairs, given.get("id"))
        task = store.task(task.id, caller)
    except RefusedError:
        raise RefusedError(500, 'Attempt to read property "capture" on null') from None
    tasks.update(store, caller, task, taskdata={field_id: given.get("form_value")})
    return _value(task, field_id)


@router.post("/guests/{email}/form-field/value")
async def set_value_of_guest(store: SandboxStore, caller: Member, email: str, given: Given) -> JSON:
    """Answer a field, by its id, of an open task that is assigned to a guest."""
    for task in store.tasks.values():
        has_field = any(field.id == given.get("id") for field in task.captures)
        if has_field and task.is_pending and email in task.owners.guests:
            tasks.update(store, caller, task, taskdata={given["id"]: given.get("form_value")})
            return _value(task, given["id"])
    raise not_found()


def _value(task: Task, field_id: str) -> JSON:
    value = task.taskdata.get(field_id)
    return {"id": association_id(task.id, field_id), "capture_id": field_id, "value": value}
