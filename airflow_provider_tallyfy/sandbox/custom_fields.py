"""Custom fields: metadata that an organization keeps on runs and tasks, by keys that an admin defines."""

from __future__ import annotations

from typing import Annotated, Any

import fastapi
from fastapi import Depends, Response

from airflow_provider_tallyfy.sandbox import dependencies, listing
from airflow_provider_tallyfy.sandbox.dependencies import Body, Map, SandboxStore, Subject
from airflow_provider_tallyfy.sandbox.errors import invalid
from airflow_provider_tallyfy.sandbox.model import CustomFieldKey, Run, Task
from airflow_provider_tallyfy.sandbox.serializers import JSON, custom_field_key
from airflow_provider_tallyfy.sandbox.store import Store
from airflow_provider_tallyfy.sandbox.writes import Writable

router = dependencies.organization_router()
_OF_RUN, _OF_TASK = "/runs/{run_id}/custom-fields", "/runs/{run_id}/tasks/{task_id}/custom-fields"


def _keys(store: Store, subject: Run | Task) -> dict[str, CustomFieldKey]:
    kind = "task" if isinstance(subject, Task) else "process"
    return {
        key.key: key for key in store.custom_field_keys.values() if key.applies_to == kind and key.is_active
    }


async def _key(store: SandboxStore, subject: Subject, key: str) -> str:
    if key not in _keys(store, subject):
        raise invalid({"key": ["The key is unknown."]})
    return key


Key = Annotated[str, Depends(_key)]
Values = Annotated[Map[Any], fastapi.Body(embed=True)]
_KEY = Writable(
    CustomFieldKey, "key applies_to field_type is_required is_active", required="key applies_to field_type"
)


class SetValue(Body):
    """``PATCH …/custom-fields/{key}``."""

    value: Any


@router.get("/custom-field-keys")
async def list_keys(store: SandboxStore, query: listing.Pages) -> Response:
    applies_to = query.given("applies_to")
    found = [key for key in store.custom_field_keys.values() if applies_to in (None, key.applies_to)]
    return query.answer(found, custom_field_key)


@router.post("/custom-field-keys", status_code=201, dependencies=dependencies.ADMIN)
async def define_key(store: SandboxStore, given: dependencies.Given) -> JSON:
    """Define a key; only an admin can."""
    key = _KEY.create(given, id=store.new_id(), created_at=store.now())
    known = {(each.key, each.applies_to) for each in store.custom_field_keys.values()}
    if (key.key, key.applies_to) in known:
        raise invalid({"key": ["The key has already been taken."]})
    store.custom_field_keys[key.id] = key
    return custom_field_key(key)


@router.get(_OF_RUN)
@router.get(_OF_TASK)
async def show_values(subject: Subject) -> JSON:
    return {"custom_fields": subject.custom_fields}


@router.put(_OF_RUN)
@router.put(_OF_TASK)
async def replace_values(store: SandboxStore, subject: Subject, custom_fields: Values) -> JSON:
    """Replace all values of a run or task."""
    keys = _keys(store, subject)
    errors = {name: ["The key is unknown."] for name in custom_fields.keys() - keys.keys()}
    errors |= {
        name: [f"{name} is required"]
        for name, key in keys.items()
        if key.is_required and custom_fields.get(name) in (None, "")
    }
    if errors:
        raise invalid({f"custom_fields.{name}": messages for name, messages in errors.items()})
    return _change(store, subject, custom_fields)


@router.patch(f"{_OF_RUN}/{{key}}")
@router.patch(f"{_OF_TASK}/{{key}}")
async def set_value(store: SandboxStore, subject: Subject, key: Key, body: SetValue) -> JSON:
    return _change(store, subject, subject.custom_fields | {key: body.value})


@router.delete(f"{_OF_RUN}/{{key}}")
@router.delete(f"{_OF_TASK}/{{key}}")
async def remove_value(store: SandboxStore, subject: Subject, key: Key) -> JSON:
    left = {name: value for name, value in subject.custom_fields.items() if name != key}
    return _change(store, subject, left)


def _change(store: Store, subject: Run | Task, values: JSON) -> JSON:
    subject.custom_fields, subject.last_updated = values, store.now()
    store.changed(subject)
    return {"custom_fields": values}
