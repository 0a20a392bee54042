"""The payload of an event, for the DAG that it starts: small, plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from airflow_provider_tallyfy.events.kinds import Event
from airflow_provider_tallyfy.protocol.completion import completer
from airflow_provider_tallyfy.protocol.formatting import shortened
from airflow_provider_tallyfy.protocol.forms import read_form, read_task_form
from airflow_provider_tallyfy.protocol.forms.fields import read_form_fields
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from airflow_provider_tallyfy.protocol.tasks import decision, is_approval, read_tasks

MAX_NAME = 500
"""Characters of a name or a title."""
MAX_FORM_VALUES = 48_000
"""Characters of the form values, as JSON. Longer ones are left out, and the payload says so."""
WITH_FORM_VALUES = ("tasks", "tasks.form_fields", "ko_form_fields")
"""What a run has to include for the values of its forms."""
_RUN_FIELDS = (
    "id",
    "increment_id",
    "checklist_id",
    "status",
    "created_at",
    "completed_at",
    "archived_at",
    "last_updated",
    "owner_id",
    "started_by",
)
_TASK_FIELDS = ("id", "alias", "status", "task_type", "completed_at", "deadline")


def to_payload(
    event: Event, run: Mapping[str, Any], organization: str, *, form_values: bool
) -> dict[str, Any]:
    """
    Return the payload of an event.

    :param event: what happened.
    :param run: the run that it happened in, with what the event's filter and ``form_values`` need.
    :param organization: the organization.
    :param form_values: include the values of forms: of the task for an event of a task, of all for a process.
    """
    payload = {
        "event": event.name,
        "event_id": event.id,
        "occurred_at": event.occurred_at.astimezone(UTC).isoformat(),
        "organization": organization,
        "run": {
            **{key: _plain(run.get(key)) for key in _RUN_FIELDS},
            "name": _name(run.get("name")),
            "checklist_title": _name(run.get("checklist_title")),
        },
        "task": None if event.task is None else _describe_task(event),
    }
    if form_values:
        _add_form_values(payload, event, run)
    return dict(sanitize_payload(payload))


def _describe_task(event: Event) -> dict[str, Any]:
    task = event.task or {}
    person = completer(task) if task.get("completed_at") else None
    described = {
        **{key: _plain(task.get(key)) for key in _TASK_FIELDS},
        "title": _name(task.get("title")),
        "is_approved": decision(task) if is_approval(task) and task.get("completed_at") else None,
        "completed_by": None
        if person is None
        else {"id": _plain(person.id), "name": _name(person.name), "email": _name(person.email)},
    }
    if event.thread is not None:
        # Its content may be confidential; a DAG that needs it reads the task's comments.
        described["thread"] = {key: _plain(event.thread.get(key)) for key in ("id", "label", "author_id")}
    return described


def _add_form_values(payload: dict[str, Any], event: Event, run: Mapping[str, Any]) -> None:
    subject = payload["run"] if event.task is None else payload["task"]
    try:
        values = _values_of_run(run) if event.task is None else read_task_form(event.task)
    except MalformedResponseError as error:
        subject.update(form_values=None, form_values_left_out=str(error))
        return
    length = len(json.dumps(sanitize_payload(values), default=str))
    if length > MAX_FORM_VALUES:
        reason = f"{length:,} characters, more than {MAX_FORM_VALUES:,}"
        subject.update(form_values=None, form_values_left_out=reason)
    else:
        subject["form_values"] = values


def _values_of_run(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the kick-off form, and those of each task by its alias, or its id if it has none."""
    kickoff = read_form(read_form_fields(run.get("ko_form_fields")), run.get("prerun") or {})
    tasks = {str(task.get("alias") or task["id"]): read_task_form(task) for task in read_tasks(run)}
    return {"kickoff": kickoff, "tasks": {name: values for name, values in tasks.items() if values}}


def _name(value: Any) -> str | None:
    return shortened(value, MAX_NAME) if isinstance(value, str) else None


def _plain(value: Any) -> Any:
    """Return an id, a time or a status as a short plain value."""
    return value if value is None or isinstance(value, (bool, int)) else shortened(str(value), MAX_NAME)
