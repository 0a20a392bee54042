"""The responses of the API: dictionaries of the documented keys, and of those that ``with`` adds.

Plain dictionaries rather than models, since a sandbox with thousands of runs has to stay quick. Keys that are named as
the attributes of the model stand in tables. What ``with`` adds is wrapped as ``{"data": …}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from airflow_provider_tallyfy.sandbox import fields, model
from airflow_provider_tallyfy.sandbox.clock import as_text
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION, Store, association_id

JSON = dict[str, Any]


class Includes:
    """The includes of a ``with`` parameter, with dots for nested ones.

    :param text: comma-separated names, such as ``next_task,tasks.form_fields``; unknown ones are ignored.
    """

    def __init__(self, text: str | None = None) -> None:
        self._names = {name.strip() for name in (text or "").split(",")} - {""}

    def __contains__(self, name: str) -> bool:
        return name in self._names or any(each.startswith(f"{name}.") for each in self._names)

    def within(self, name: str) -> Includes:
        """Return the includes that are nested in one."""
        prefix = f"{name}."
        nested = (each.removeprefix(prefix) for each in self._names if each.startswith(prefix))
        return Includes(",".join(nested))

    def add(self, shown: JSON, values: Mapping[str, Callable[[], Any]]) -> JSON:
        """Add the values of the includes to a response, and return it.

        :param values: what each include adds, by its name.
        """
        if self._names:
            shown |= {name: value() for name, value in values.items() if name in self}
        return shown


NOTHING = Includes()


class _Attributes:
    """Shows attributes of an item by their names, with dates as text, and keys that are the same for all items."""

    def __init__(self, names: str, **constants: Any) -> None:
        self._names = names.split()
        self._get = attrgetter(*self._names)
        self._constants = constants

    def __call__(self, item: object) -> JSON:
        shown = {
            name: as_text(value) if isinstance(value, datetime) else value
            for name, value in zip(self._names, self._get(item), strict=True)
        }
        return shown | self._constants


def _nulls(names: str) -> JSON:
    return dict.fromkeys(names.split())


_run = _Attributes(
    "id increment_id name summary started_by owner_id prerun starred created_at last_updated archived_at"
    " completed_at has_open_issue is_public users groups parent_id custom_fields"
)
_task = _Attributes(
    "id increment_id run_id checklist_id step_id alias task_type is_approved position started_at deadline"
    " created_at last_updated completed_at archived_at starter_id completer_id taskdata everyone_must_complete"
    " can_complete_only_assignees max_assignable prevent_guest_comment webhook top_secret custom_fields status",
    completer_guest_id=None,
)
_form_field = _Attributes("id alias label field_type required guidance")
_checklist = _Attributes(
    "id title summary starred guidance alias folder_id owner_id created_at last_updated archived_at type users groups",
    is_public=False,
    is_public_kickoff=False,
    is_pinned=False,
    status="active",
    **_nulls("webhook kickoff_title kickoff_description icon default_process_name_format explanation_video"),
)
_step = _Attributes("id alias title summary step_type position can_complete_only_assignees", archived_at=None)
_member = _Attributes(
    "id email first_name last_name full_name role job_title disabled_at",
    type="standard",
    timezone="UTC",
    UTC_offset="+00:00",
    date_format="YYYY-MM-DD",
    **_nulls("profile_pic phone"),
)
_guest = _Attributes(
    "id email first_name last_name associated_members created_at",
    **_nulls("deleted_at last_accessed_at last_known_ip last_known_country"),
)
_group = _Attributes("id name description members guests created_at", logo=None)
_tag = _Attributes("id title color created_at", auto_generated=False, deleted_at=None)
_folder = _Attributes("id name parent_id folder_type position")
_activity = _Attributes(
    "id auditable_type auditable_id parentable_type parentable_id",
    organization_id=ORGANIZATION,
    source=["Member"],
    actor_type=["App\\Models\\User"],
    undoable=False,
    **_nulls("field old_value references origin"),
)
custom_field_key = _Attributes("id key applies_to field_type key_type is_required is_active created_at")
# A comment or an issue.
thread = _Attributes(
    "id content author_id task_id run_id label state sent_to resolve_id created_at updated_at",
    author_type="App\\Models\\User",
    archived_at=None,
)


def run(
    store: Store, item: model.Run, includes: Includes = NOTHING, *, form_fields_values: bool = False
) -> JSON:
    """Show a run."""
    now = store.now()
    visible = [task for task in item.tasks.values() if not task.hidden]
    due_date = max((task.deadline for task in visible if task.deadline), default=None)
    due = due_date if item.completed_at is None else None
    progress = _progress(item, visible)
    shown = _run(item) | {
        "checklist_id": item.checklist.id,
        "checklist_title": item.checklist.title,
        "status": item.status(now),
        "progress": progress,
        "whole_progress": progress,
        "prerun_status": "incomplete" if item.kickoff_is_open else "complete",
        "prerun_length": len(item.checklist.prerun),
        "prerun_completed_at": None if item.kickoff_is_open else as_text(item.created_at),
        "prerun_completed_by": None if item.kickoff_is_open else item.started_by,
        "started_at": as_text(item.created_at),
        "due_date": as_text(due_date),
        "due_date_passed": due is not None and due < now,
        "due_soon": due is not None and now <= due <= now + model.DUE_SOON,
        "late_tasks": sum(1 for task in visible if task.is_late(now)),
        "collaborators": sorted({user for task in item.tasks.values() for user in task.owners.users}),
        "type": item.checklist.type,
        "can_add_oot": item.archived_at is None,
    }
    if form_fields_values:
        # The documentation names the parameter and not its shape: one entry for each field of each visible task.
        shown["form_fields_values"] = _captures(store, item)
    nested = includes.within("tasks")
    return includes.add(
        shown,
        {
            "next_task": lambda: next_task(store, item),
            "tasks": lambda: _collection(task(store, each, nested) for each in item.visible_tasks),
            "checklist": lambda: {"data": checklist(store, item.checklist, includes.within("checklist"))},
            "tags": lambda: _collection(tagged(store, item)),
            "folders": lambda: _collection(
                folder(store, store.folders[each]) for each in item.folders if each in store.folders
            ),
            "ko_form_fields": lambda: kickoff_form(store, item),
            "form_fields": lambda: _captures(store, item),
            "tasks_meta": lambda: {"data": progress},
            **_empty("permissions assets stages member_watchers guest_watchers"),
        },
    )


def next_task(store: Store, item: model.Run) -> JSON | None:
    """Show a run's next task, in the format of :attr:`Behavior.next_task`.

    ``collection`` is the documentation since 2026-03: by deadline, in a list. ``object`` is that of 2025-10: by
    position, bare, and ``null`` when all is done.
    """
    pending = [task for task in item.visible_tasks if task.is_pending]
    is_collection = store.behavior.next_task == "collection"
    if not pending:
        return {"data": []} if is_collection else None
    if is_collection:
        pending.sort(key=lambda task: (task.deadline is None, task.deadline or task.created_at))
    first = pending[0]
    shown: JSON = {
        "id": first.id,
        "title": _filled(store, first, first.title),
        "deadline": as_text(first.deadline),
    }
    if not is_collection:
        return shown | {"position": first.position, "status": first.status}
    shown |= {"increment_id": first.increment_id, "alias": first.alias, "owners": owners(store, first.owners)}
    return {"data": [shown]}


def task(store: Store, item: model.Task, includes: Includes = NOTHING, *, with_summary: bool = False) -> JSON:
    """Show a task, with its summary if ``with`` includes it or ``with_summary`` is true."""
    of = store.run_of(item)
    is_blocked = item.has_open_issue or (of is not None and of.has_open_issue)
    shown = _task(item) | {
        "title": _filled(store, item, item.title),
        "original_title": item.title,
        "status_label": item.status.replace("-", " ").capitalize(),
        "is_oneoff_task": item.step_id is None,
        "is_completable": item.is_pending and not is_blocked,
        **dict.fromkeys(("problem", "has_issues"), item.has_open_issue),
        "owners": owners(store, item.owners),
        "run_status": of.status(store.now()) if of else None,
    }
    if with_summary or "summary" in includes:
        shown["summary"] = _filled(store, item, item.summary)
    values: dict[str, Callable[[], Any]] = {
        "form_fields": lambda: _collection(form_field(store, each, item.taskdata) for each in item.captures),
        "tags": lambda: _collection(tagged(store, item)),
        **dict.fromkeys(("threads", "comments"), lambda: _collection(map(thread, item.threads))),
        "issues": lambda: _collection(thread(each) for each in item.threads if each.is_open_issue),
        "threads_count": lambda: len(item.threads),
        **_empty("assets folders roles activities member_watchers guest_watchers"),
    }
    if of is not None:
        steps = {each.id: each for each in of.checklist.steps}
        values["run"] = lambda: {"data": run(store, of, includes.within("run"))}
        values["ko-form-fields"] = lambda: kickoff_form(store, of)
        if item.step_id is not None:
            values["step"] = lambda: {"data": step(store, of.checklist, steps[item.step_id or ""])}
    return includes.add(shown, values)


def form_field(store: Store, item: model.FormField, values: JSON | None = None) -> JSON:
    """Show a form field, with its answer if values are given; see :attr:`Behavior.answers`."""
    shown = _form_field(item) | {
        "options": [
            {"id": option.id, "text": option.text, "value": None, "required": False}
            for option in item.options
        ],
        "columns": [{"id": column.id, "label": column.label} for column in item.columns],
        **item.settings,
    }
    if values is not None:
        shown[store.behavior.answers] = values.get(item.id)
    return shown


def kickoff_form(store: Store, item: model.Run) -> JSON:
    """Show the kick-off fields of a run with their answers."""
    return _collection(form_field(store, field, item.prerun) for field in item.checklist.prerun)


def owners(store: Store, item: model.Owners) -> JSON:
    """Show assignees; see :attr:`Behavior.owners`."""
    users: Iterable[Any] = item.users
    if store.behavior.owners == "objects":
        users = [
            {"id": member.id, "full_name": member.full_name, "email": member.email, "profile_pic": None}
            for member in (store.members[user] for user in item.users)
        ]
    return {"users": users, "guests": item.guests, "groups": item.groups}


def checklist(store: Store, item: model.Checklist, includes: Includes = NOTHING) -> JSON:
    """Show a template; kick-off fields and rules are always there, steps and tags on request."""
    shown = _checklist(item) | {
        "prerun": [
            {"checklist_id": item.id, "position": position, **form_field(store, field)}
            for position, field in enumerate(item.prerun, start=1)
        ],
        "created_by": item.owner_id,
        "automated_actions": [rule(each) for each in item.rules],
        "steps_count": len(item.steps),
        **item.settings,
    }

    def wrapped(items: Iterable[JSON]) -> JSON | list[JSON]:
        return _collection(items) if store.behavior.template_lists == "wrapped" else list(items)

    place = store.folders.get(item.folder_id or "")
    return includes.add(
        shown,
        {
            "steps": lambda: wrapped(step(store, item, each) for each in item.steps),
            "tags": lambda: wrapped(tagged(store, item)),
            "folder": lambda: {"data": folder(store, place)} if place else None,
        },
    )


def step(store: Store, of: model.Checklist, item: model.Step) -> JSON:
    """Show a step of a template."""
    deadline = item.deadline_after
    return _step(item) | {
        "checklist_id": of.id,
        "captures": [capture(store, item, field) for field in item.captures],
        "assignees": item.owners.users,
        "guests": item.owners.guests,
        "groups": item.owners.groups,
        "deadline": None if deadline is None else _length(deadline) | {"option": "from"},
        "start_date": _length(item.start_after),
        "is_hidden_by_default": item.hidden_by_default,
        "assign_run_starter": not item.owners,
        "created_at": as_text(of.created_at),
        "last_updated": as_text(of.last_updated),
        **item.settings,
    }


def capture(store: Store, of: model.Step, item: model.FormField) -> JSON:
    """Show a form field of a step."""
    return {"step_id": of.id, "position": 1 + of.captures.index(item), **form_field(store, item)}


def rule(item: model.Rule) -> JSON:
    """Show a rule of a template."""
    conditions = [
        {"id": f"{item.id}-{position}", **asdict(condition), "position": position}
        for position, condition in enumerate(item.conditions, start=1)
    ]
    actions = []
    for position, action in enumerate(item.then_actions, start=1):
        option = "from" if action.deadline and action.deadline > timedelta() else "before"
        shown = {"id": f"{item.id}-then-{position}", **asdict(action), "position": position}
        shown["action_type"] = model.ACTION_TYPES[action.action_verb]
        shown["deadline"] = action.deadline and _length(abs(action.deadline)) | {"option": option}
        actions.append(shown)
    return {
        "id": item.id,
        "automated_alias": item.automated_alias,
        "conditions": conditions,
        "then_actions": actions,
    }


def member(store: Store, item: model.Member) -> JSON:
    """Show a user of the organization."""
    is_active = item.disabled_at is None
    return _member(item) | {
        "username": item.email.partition("@")[0],
        "is_active": is_active,
        "status": "active" if is_active else "disabled",
        "is_default_admin": item.id == min(store.members),
        **item.settings,
    }


def guest(store: Store, item: model.Guest) -> JSON:
    """Show a guest."""
    return _guest(item) | {
        "link": f"https://go.tallyfy.com/{ORGANIZATION}/guest/{model.guest_code(item.email)}",
        "details": {
            "status": "active" if item.disabled_at is None else "disabled",
            "disabled_at": as_text(item.disabled_at),
            **_nulls("company_name phone_1 phone_2 timezone"),
            **item.settings,
        },
    }


def group(store: Store, item: model.Group) -> JSON:
    """Show a group."""
    return _group(item) | {"last_updated": as_text(item.created_at)}


def tag(store: Store, item: model.Tag) -> JSON:
    """Show a tag, with how often it is used."""
    runs = [each.archived_at is not None for each in store.runs.values() if item.id in each.tags]
    uses = {
        "active_template": sum(1 for each in store.checklists.values() if item.id in each.tags),
        "archived_template": 0,
        "active_process": runs.count(False),
        "archived_process": runs.count(True),
    }
    return _tag(item) | {"statistics": {"data": uses}}


def tagged(store: Store, item: model.Run | model.Task | model.Checklist) -> Iterator[JSON]:
    """Show the associations of an item with its tags; their ids are integers."""
    for tag_id in item.tags:
        if tag_id in store.tags:  # an older version of an item may have a deleted one
            yield tag(store, store.tags[tag_id]) | {"id": association_id(item.id, tag_id), "tag_id": tag_id}


def folder(store: Store, item: model.Folder) -> JSON:
    """Show a folder, with the folders in it and the number of things in it."""
    if item.folder_type == "run":
        total = sum(1 for each in store.runs.values() if item.id in each.folders)
    else:
        total = sum(1 for each in store.checklists.values() if each.folder_id == item.id)
    inside = (folder(store, each) for each in store.folders.values() if each.parent_id == item.id)
    return _folder(item) | {"total": total, "children": _collection(inside)}


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


def activity(store: Store, item: model.Activity) -> JSON:
    """Show an entry of the activity feed."""
    actor = store.members.get(item.actor_id)
    names = ("email", "username", "first_name", "last_name", "full_name", "profile_pic")
    person = {name: value for name, value in member(store, actor).items() if name in names} if actor else {}
    return _activity(item) | {
        "verb": [item.verb],
        "actor_id": [item.actor_id],
        "actor": [person | {"resize_profile_pic": None}] if person else [],
        "type": [item.type],
        "description": [item.description],
        "created_at": f"{item.created_at:%Y-%m-%d %H:%M:%S}",
        "text": None if item.text is None else [item.text],
        "audit": {"data": {"id": item.auditable_id}},
        "parent": {"data": {"id": item.parentable_id}},
    }


def _collection(items: Iterable[JSON]) -> JSON:
    """Wrap a list as the API does with includes."""
    return {"data": list(items)}


def _empty(names: str) -> dict[str, Callable[[], JSON]]:
    return dict.fromkeys(names.split(), lambda: {"data": []})


def _progress(item: model.Run, visible: list[model.Task]) -> JSON:
    done = [each for each in visible if each.completed_at is not None]
    share = len(done) / len(visible) if visible else float(item.completed_at is not None)
    decisions = [each.is_approved for each in done if each.task_type == "approval"]
    return {
        "complete": len(done),
        "total": len(visible),
        "percent": round(100 * share),
        "approved": decisions.count(True),
        "rejected": decisions.count(False),
    }


def _captures(store: Store, item: model.Run) -> JSON:
    return _collection(
        {"task_id": each.id, "step_id": each.step_id, **form_field(store, field, each.taskdata)}
        for each in item.visible_tasks
        for field in each.captures
    )


def _filled(store: Store, item: model.Task, text: str) -> str:
    """Replace each ``{{alias}}`` in a text of a task by the answer that it names."""
    of = store.run_of(item)
    if of is None or "{{" not in text:
        return text
    form_fields, values = [*of.checklist.prerun], dict(of.prerun)
    for each in of.tasks.values():
        form_fields += each.captures
        values |= each.taskdata
    return fields.fill_in(text, form_fields, values)


def _length(time: timedelta) -> JSON:
    return {"value": int(time.total_seconds() // 3600), "unit": "hours"}
