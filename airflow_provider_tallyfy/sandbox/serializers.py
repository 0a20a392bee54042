"""The answers of the API: dictionaries of the documented keys, and of those that ``with`` asks for.

Plain dictionaries rather than models, since a sandbox with thousands of runs has to stay quick. Everything that
``with`` adds is wrapped as ``{"data": …}``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_tallyfy.sandbox import fields, processes, tasks
from airflow_provider_tallyfy.sandbox.clock import as_text
from airflow_provider_tallyfy.sandbox.model import (
    Activity,
    Checklist,
    Folder,
    FormField,
    Group,
    Guest,
    Member,
    Option,
    Owners,
    Rule,
    Run,
    Step,
    Tag,
    Task,
    Thread,
)
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION, Store

JSON = dict[str, Any]
_SOON = timedelta(hours=24)
_STATUS_LABELS = {
    tasks.TaskStatus.NOT_STARTED: "Not started",
    tasks.TaskStatus.ACTIVE: "Active",
    tasks.TaskStatus.IN_PROGRESS: "In progress",
    tasks.TaskStatus.COMPLETED: "Completed",
    tasks.TaskStatus.AUTO_SKIPPED: "Auto-skipped",
    tasks.TaskStatus.HAS_PROBLEM: "Has problem",
}


class Includes:
    """The includes that a ``with`` parameter asks for, with dots for nested ones.

    :param text: comma-separated names, such as ``next_task,tasks.form_fields``; unknown ones are ignored.
    """

    def __init__(self, text: str | None = None) -> None:
        self._names = {name.strip() for name in (text or "").split(",")} - {""}

    def __contains__(self, name: str) -> bool:
        return name in self._names or any(asked.startswith(f"{name}.") for asked in self._names)

    def within(self, name: str) -> Includes:
        """Return the includes that are nested in one."""
        prefix = f"{name}."
        return Includes(
            ",".join(asked.removeprefix(prefix) for asked in self._names if asked.startswith(prefix))
        )


NOTHING = Includes()


def collection(items: Iterable[JSON]) -> JSON:
    """Wrap a list as the API does with includes."""
    return {"data": list(items)}


def run(store: Store, item: Run, includes: Includes = NOTHING, *, form_fields_values: bool = False) -> JSON:
    """Show a run."""
    now = store.now()
    pending = [task for task in item.tasks.values() if task.is_pending]
    due_date = max(
        (task.deadline for task in item.tasks.values() if task.deadline and not task.hidden), default=None
    )
    progress = _progress(item)
    shown: JSON = {
        "id": item.id,
        "increment_id": item.increment_id,
        "checklist_id": item.checklist.id,
        "checklist_title": item.checklist.title,
        "name": item.name,
        "summary": item.summary,
        "status": processes.status(item, now),
        "progress": progress,
        "whole_progress": progress,
        "started_by": item.started_by,
        "owner_id": item.owner_id,
        "prerun": item.prerun,
        "prerun_status": "complete",
        "prerun_length": len(item.checklist.prerun),
        "prerun_completed_at": as_text(item.created_at),
        "prerun_completed_by": item.started_by,
        "starred": item.starred,
        "created_at": as_text(item.created_at),
        "started_at": as_text(item.created_at),
        "last_updated": as_text(item.last_updated),
        "archived_at": as_text(item.archived_at),
        "completed_at": as_text(item.completed_at),
        "due_date": as_text(due_date),
        "due_date_passed": item.completed_at is None and due_date is not None and due_date < now,
        "due_soon": item.completed_at is None and due_date is not None and now <= due_date <= now + _SOON,
        "late_tasks": sum(1 for task in pending if task.deadline is not None and task.deadline < now),
        "has_open_issue": item.has_open_issue,
        "collaborators": sorted({user for task in item.tasks.values() for user in task.owners.users}),
        "type": item.checklist.type,
        "is_public": item.is_public,
        "users": list(item.users),
        "groups": list(item.groups),
        "parent_id": item.parent_id,
        "can_add_oot": item.archived_at is None,
    }
    _add_run_includes(store, item, includes, shown)
    if form_fields_values:
        # The documentation names the parameter and not its shape: one entry for each field of each visible task.
        shown["form_fields_values"] = collection(
            {"task_id": task.id, **form_field(field, task.taskdata)}
            for task in item.visible_tasks
            for field in task.captures
        )
    return shown


def next_task(store: Store, item: Run) -> JSON | None:
    """Show a run's next task, in the format that this sandbox was started with.

    ``collection`` is the documentation since 2026-03: by deadline, in a list. ``object`` is that of 2025-10: by
    position, bare, and ``null`` when all is done.
    """
    pending = [task for task in item.visible_tasks if task.is_pending]
    if store.next_task_shape == "object":
        return _next_by_position(store, pending)
    first = min(
        pending, key=lambda task: (task.deadline is None, task.deadline or task.created_at), default=None
    )
    if first is None:
        return {"data": []}
    return collection(
        [
            {
                "id": first.id,
                "increment_id": first.increment_id,
                "title": _filled(store, first, first.title),
                "alias": first.alias,
                "owners": owners(store, first.owners),
                "deadline": as_text(first.deadline),
            }
        ]
    )


def task(store: Store, item: Task, includes: Includes = NOTHING, *, with_summary: bool = False) -> JSON:
    """Show a task, and its summary if ``with`` asks for it or it is read by itself."""
    now = store.now()
    status = tasks.status(item, now)
    belongs_to = store.run_of(item)
    shown: JSON = {
        "id": item.id,
        "increment_id": item.increment_id,
        "title": _filled(store, item, item.title),
        "original_title": item.title,
        "run_id": item.run_id,
        "checklist_id": item.checklist_id,
        "step_id": item.step_id,
        "alias": item.alias,
        "status": status,
        "status_label": _STATUS_LABELS[status],
        "task_type": item.task_type,
        "is_oneoff_task": item.step_id is None,
        "is_completable": tasks.is_completable(store, item),
        "is_approved": item.is_approved,
        "problem": item.has_open_issue,
        "owners": owners(store, item.owners),
        "position": item.position,
        "started_at": as_text(item.started_at),
        "deadline": as_text(item.deadline),
        "created_at": as_text(item.created_at),
        "last_updated": as_text(item.last_updated),
        "completed_at": as_text(item.completed_at),
        "archived_at": as_text(item.archived_at),
        "starter_id": item.starter_id,
        "completer_id": item.completer_id,
        "completer_guest_id": None,
        "taskdata": item.taskdata,
        "everyone_must_complete": item.everyone_must_complete,
        "can_complete_only_assignees": item.can_complete_only_assignees,
        "max_assignable": item.max_assignable,
        "prevent_guest_comment": item.prevent_guest_comment,
        "webhook": item.webhook,
        "top_secret": item.top_secret,
        "run_status": processes.status(belongs_to, now) if belongs_to else None,
    }
    if with_summary or "summary" in includes:
        shown["summary"] = _filled(store, item, item.summary)
    _add_task_includes(store, item, belongs_to, includes, shown)
    return shown


def form_field(item: FormField, values: JSON | None = None) -> JSON:
    """Show a form field, with its value if values are given."""
    shown: JSON = {
        "id": item.id,
        "alias": item.alias,
        "label": item.label,
        "field_type": item.field_type,
        "required": item.required,
        "guidance": item.guidance,
        "options": [_option(option) for option in item.options],
        "columns": [{"id": column.id, "label": column.label} for column in item.columns],
    }
    if values is not None:
        shown["value"] = values.get(item.id)
    return shown


def owners(store: Store, item: Owners) -> JSON:
    """Show assignees."""
    return {
        "users": [
            {"id": member.id, "full_name": member.full_name, "email": member.email, "profile_pic": None}
            for member in (store.members[user] for user in item.users)
        ],
        "guests": list(item.guests),
        "groups": list(item.groups),
    }


def checklist(store: Store, item: Checklist, includes: Includes = NOTHING) -> JSON:
    """Show a template; kick-off fields and rules are always there, steps and tags on request."""
    shown: JSON = {
        "id": item.id,
        "title": item.title,
        "summary": item.summary,
        "starred": item.starred,
        "webhook": None,
        "guidance": item.guidance,
        "alias": item.alias,
        "folder_id": item.folder_id,
        "prerun": [
            {"checklist_id": item.id, "position": position, **form_field(field)}
            for position, field in enumerate(item.prerun, start=1)
        ],
        "created_by": item.owner_id,
        "owner_id": item.owner_id,
        "kickoff_title": None,
        "kickoff_description": None,
        "created_at": as_text(item.created_at),
        "last_updated": as_text(item.created_at),
        "archived_at": None,
        "is_public": False,
        "automated_actions": [_rule(rule) for rule in item.rules],
        "icon": None,
        "type": item.type,
        "is_public_kickoff": False,
        "default_process_name_format": None,
        "explanation_video": None,
        "status": "active",
        "steps_count": len(item.steps),
        "is_pinned": False,
    }
    # Bare lists, as the documentation shows them for a template.
    if "steps" in includes:
        shown["steps"] = [step(item, each) for each in item.steps]
    if "tags" in includes:
        shown["tags"] = [tag(store, store.tags[tag_id]) for tag_id in item.tags]
    if "folder" in includes:
        shown["folder"] = {"data": folder(store, store.folders[item.folder_id])} if item.folder_id else None
    return shown


def step(of: Checklist, item: Step) -> JSON:
    """Show a step of a template."""
    deadline_hours = None if item.deadline_after is None else int(item.deadline_after.total_seconds() // 3600)
    return {
        "id": item.id,
        "checklist_id": of.id,
        "alias": item.alias,
        "title": item.title,
        "summary": item.summary,
        "step_type": item.step_type,
        "position": item.position,
        "captures": [
            {"step_id": item.id, "position": position, **form_field(field)}
            for position, field in enumerate(item.captures, start=1)
        ],
        "assignees": list(item.owners.users),
        "guests": list(item.owners.guests),
        "groups": list(item.owners.groups),
        "deadline": None
        if deadline_hours is None
        else {"value": deadline_hours, "unit": "hours", "option": "from"},
        "start_date": {"value": int(item.start_after.total_seconds() // 3600), "unit": "hours"},
        "can_complete_only_assignees": item.can_complete_only_assignees,
        "is_hidden_by_default": item.hidden_by_default,
        "assign_run_starter": not item.owners,
        "created_at": as_text(of.created_at),
        "last_updated": as_text(of.created_at),
        "archived_at": None,
    }


def thread(item: Thread) -> JSON:
    """Show a comment or an issue."""
    return {
        "id": item.id,
        "content": item.content,
        "author_id": item.author_id,
        "author_type": "App\\Models\\User",
        "task_id": item.task_id,
        "run_id": item.run_id,
        "label": item.label,
        "state": item.state,
        "sent_to": list(item.sent_to),
        "resolve_id": item.resolve_id,
        "created_at": as_text(item.created_at),
        "updated_at": as_text(item.updated_at),
        "archived_at": None,
    }


def member(store: Store, item: Member) -> JSON:
    """Show a user of the organization."""
    return {
        "id": item.id,
        "email": item.email,
        "username": item.email.partition("@")[0],
        "first_name": item.first_name,
        "last_name": item.last_name,
        "full_name": item.full_name,
        "profile_pic": None,
        "is_active": True,
        "type": "standard",
        "phone": None,
        "job_title": item.job_title,
        "timezone": "UTC",
        "UTC_offset": "+00:00",
        "role": item.role,
        "status": "active",
        "date_format": "YYYY-MM-DD",
        "is_default_admin": item.id == min(store.members),
    }


def guest(item: Guest) -> JSON:
    """Show a guest."""
    return {
        "id": item.id,
        "email": item.email,
        "first_name": item.first_name,
        "last_name": item.last_name,
        "created_at": as_text(item.created_at),
        "deleted_at": None,
        "last_accessed_at": None,
        "last_known_ip": None,
        "last_known_country": None,
        "link": None,
        "details": {
            "status": "active",
            "company_name": item.company_name,
            "phone_1": item.phone_1,
            "timezone": None,
        },
    }


def group(item: Group) -> JSON:
    """Show a group."""
    return {
        "id": item.id,
        "name": item.name,
        "description": item.description,
        "logo": None,
        "members": list(item.members),
        "guests": list(item.guests),
        "created_at": as_text(item.created_at),
        "last_updated": as_text(item.created_at),
    }


def tag(store: Store, item: Tag) -> JSON:
    """Show a tag, with how often it is used."""
    tagged = [each for each in store.runs.values() if item.id in each.tags]
    archived = sum(1 for each in tagged if each.archived_at is not None)
    return {
        "id": item.id,
        "title": item.title,
        "color": item.color,
        "auto_generated": False,
        "created_at": as_text(item.created_at),
        "deleted_at": None,
        "statistics": {
            "data": {
                "active_template": sum(1 for each in store.checklists.values() if item.id in each.tags),
                "archived_template": 0,
                "active_process": len(tagged) - archived,
                "archived_process": archived,
            }
        },
    }


def folder(store: Store, item: Folder) -> JSON:
    """Show a folder."""
    inside = (
        [each for each in store.runs.values() if item.id in each.folders]
        if item.folder_type == "run"
        else [each for each in store.checklists.values() if each.folder_id == item.id]
    )
    return {
        "id": item.id,
        "name": item.name,
        "parent_id": item.parent_id,
        "folder_type": item.folder_type,
        "position": item.position,
        "total": len(inside),
        "children": collection(
            folder(store, each) for each in store.folders.values() if each.parent_id == item.id
        ),
    }


def organization(store: Store) -> JSON:
    """Show the organization."""
    return {
        "id": ORGANIZATION,
        "name": "Tallyfy sandbox",
        "description": "In memory; gone when the sandbox stops.",
        "users_count": len(store.members),
        "timezone": "UTC",
        "plan_code": "sandbox",
        "in_trial": False,
    }


def activity(store: Store, item: Activity) -> JSON:
    """Show an entry of the activity feed."""
    actor = store.members.get(item.actor_id)
    return {
        "id": item.id,
        "organization_id": ORGANIZATION,
        "verb": [item.verb],
        "source": ["Member"],
        "actor_type": ["App\\Models\\User"],
        "actor_id": [item.actor_id],
        "actor": [_actor(actor)] if actor else [],
        "auditable_type": item.auditable_type,
        "auditable_id": item.auditable_id,
        "parentable_type": item.parentable_type,
        "parentable_id": item.parentable_id,
        "type": [item.type],
        "description": [item.description],
        "field": None,
        "old_value": None,
        "created_at": as_text(item.created_at),
        "text": None if item.text is None else [item.text],
        "references": None,
        "undoable": False,
        "audit": {"data": {"id": item.auditable_id}},
        "parent": {"data": {"id": item.parentable_id}},
        "origin": None,
    }


def _add_run_includes(store: Store, item: Run, includes: Includes, shown: JSON) -> None:
    if "next_task" in includes:
        shown["next_task"] = next_task(store, item)
    if "tasks" in includes:
        shown["tasks"] = collection(
            task(store, each, includes.within("tasks")) for each in item.visible_tasks
        )
    if "checklist" in includes:
        shown["checklist"] = {"data": checklist(store, item.checklist, includes.within("checklist"))}
    if "tags" in includes:
        shown["tags"] = collection(tag(store, store.tags[tag_id]) for tag_id in item.tags)
    if "folders" in includes:
        shown["folders"] = collection(folder(store, store.folders[folder_id]) for folder_id in item.folders)
    if "ko_form_fields" in includes:
        shown["ko_form_fields"] = collection(
            form_field(field, item.prerun) for field in item.checklist.prerun
        )
    if "form_fields" in includes:
        shown["form_fields"] = collection(
            {"task_id": each.id, "step_id": each.step_id, **form_field(field, each.taskdata)}
            for each in item.visible_tasks
            for field in each.captures
        )
    if "tasks_meta" in includes:
        shown["tasks_meta"] = {"data": _progress(item)}
    if "permissions" in includes:
        shown["permissions"] = collection([])
    for empty in ("assets", "stages", "member_watchers", "guest_watchers"):
        if empty in includes:
            shown[empty] = collection([])


def _add_task_includes(
    store: Store, item: Task, belongs_to: Run | None, includes: Includes, shown: JSON
) -> None:
    if "form_fields" in includes:
        shown["form_fields"] = collection(form_field(field, item.taskdata) for field in item.captures)
    if "run" in includes and belongs_to is not None:
        shown["run"] = {"data": run(store, belongs_to, includes.within("run"))}
    if "step" in includes and belongs_to is not None and item.step_id is not None:
        of = belongs_to.checklist
        shown["step"] = {"data": next(step(of, each) for each in of.steps if each.id == item.step_id)}
    if "tags" in includes:
        shown["tags"] = collection(tag(store, store.tags[tag_id]) for tag_id in item.tags)
    for threads in ("threads", "comments"):
        if threads in includes:
            shown[threads] = collection(thread(each) for each in item.threads)
    if "issues" in includes:
        shown["issues"] = collection(thread(each) for each in item.threads if each.is_open_issue)
    if "threads_count" in includes:
        shown["threads_count"] = len(item.threads)
    if "ko-form-fields" in includes and belongs_to is not None:
        shown["ko-form-fields"] = collection(
            form_field(field, belongs_to.prerun) for field in belongs_to.checklist.prerun
        )
    for empty in ("assets", "folders", "roles", "activities", "member_watchers", "guest_watchers"):
        if empty in includes:
            shown[empty] = collection([])


def _progress(item: Run) -> JSON:
    visible = [each for each in item.tasks.values() if not each.hidden]
    complete = sum(1 for each in visible if each.completed_at is not None)
    if not visible:
        return {"complete": 0, "total": 0, "percent": 100 if item.completed_at is not None else 0}
    return {"complete": complete, "total": len(visible), "percent": round(100 * complete / len(visible))}


def _next_by_position(store: Store, pending: list[Task]) -> JSON | None:
    if not pending:
        return None
    first = pending[0]
    return {
        "id": first.id,
        "title": _filled(store, first, first.title),
        "position": first.position,
        "status": tasks.status(first, store.now()),
        "deadline": as_text(first.deadline),
    }


def _filled(store: Store, item: Task, text: str) -> str:
    belongs_to = store.run_of(item)
    if belongs_to is None or "{{" not in text:
        return text
    form_fields = [
        *belongs_to.checklist.prerun,
        *(field for each in belongs_to.tasks.values() for field in each.captures),
    ]
    values = dict(belongs_to.prerun)
    for each in belongs_to.tasks.values():
        values |= each.taskdata
    return fields.fill_in(text, form_fields, values)


def _option(item: Option) -> JSON:
    return {"id": item.id, "text": item.text, "value": None, "required": False}


def _rule(item: Rule) -> JSON:
    return {
        "id": item.id,
        "automated_alias": item.alias,
        "conditions": [
            {
                "id": f"{item.id}-{position}",
                "conditionable_id": condition.subject_id,
                "conditionable_type": condition.subject,
                "operation": condition.operation,
                "statement": condition.statement,
                "logic": "and",
                "position": position,
            }
            for position, condition in enumerate(item.conditions, start=1)
        ],
        "then_actions": [
            {
                "id": f"{item.id}-then",
                "action_type": "visibility",
                "action_verb": item.verb,
                "target_step_id": item.target_step_id,
                "position": 1,
            }
        ],
    }


def _actor(item: Member) -> JSON:
    return {
        "email": item.email,
        "username": item.email.partition("@")[0],
        "first_name": item.first_name,
        "last_name": item.last_name,
        "full_name": item.full_name,
        "profile_pic": None,
        "resize_profile_pic": None,
    }


def is_late(item: Task, now: datetime) -> bool:
    """Return whether a task is overdue."""
    return item.is_pending and item.deadline is not None and item.deadline < now


def is_due_soon(item: Task, now: datetime) -> bool:
    """Return whether a task is due within a day."""
    return item.is_pending and item.deadline is not None and now <= item.deadline <= now + _SOON
