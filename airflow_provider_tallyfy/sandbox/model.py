"""The data model. People are frozen, and a template changes in a copy; runs, tasks and threads change in place."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

# The types of form fields whose values the documentation describes.
FieldType = StrEnum(
    "FieldType", "TEXT TEXTAREA EMAIL DATE RADIO DROPDOWN MULTISELECT TABLE ASSIGNEES_FORM FILE"
)
# How far ahead something is due soon.
DUE_SOON = timedelta(hours=24)
# An approval needs a decision, and a task that expires ends by itself at its deadline; an e-mail is sent then.
TaskType = Literal["task", "approval", "expiring", "email", "expiring_email"]
# The kinds of comments; an open problem blocks completion until a resolve answers it.
ThreadLabel = Literal["comment", "problem", "resolve", "improvement", "advice"]
# How a comment is shown.
CommentState = Literal["open", "hide-for-guests", "collapsed"]
# The roles of members; only an admin deletes for good, and a light member sees only their own work.
Role = Literal["Admin", "Standard", "Light"]
# What a condition of a rule is about.
Subject = Literal["Prerun", "Capture", "Step"]
# How a rule's condition compares a field, or what must have happened to a step.
_OfText = Literal["equals", "not_equals", "equals_any", "contains", "not_contains"]
_OfValue = Literal["greater_than", "less_than", "is_empty", "is_not_empty"]
_OfStep = Literal["completed", "reopened", "approved", "rejected", "acknowledged", "expired", "not_assigned"]
Operation = Literal[_OfText, _OfValue, _OfStep]
# What a rule does with its step.
Verb = Literal["show", "hide", "assign", "assign_only", "unassign", "clear_assignees", "deadline", "reopen"]


@dataclass(frozen=True, slots=True)
class Option:
    """One choice of a radio, dropdown or multiselect field."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table field."""

    id: int
    label: str


@dataclass(slots=True)
class FormField:
    """A kick-off field of a template or a capture of a step; its id is the timeline id that values are keyed by."""

    id: str
    alias: str
    label: str
    field_type: FieldType
    required: bool = False
    guidance: str | None = None
    options: tuple[Option, ...] = ()
    columns: tuple[Column, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Owners:
    """Who a step or a task is assigned to."""

    users: tuple[int, ...] = ()
    guests: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.users or self.guests or self.groups)


@dataclass(slots=True)
class Step:
    """A step of a template, from which each run makes one task."""

    id: str
    alias: str
    title: str
    position: int
    summary: str = ""
    step_type: TaskType = "task"
    captures: list[FormField] = field(default_factory=list)
    owners: Owners = Owners()
    start_after: timedelta = timedelta()
    deadline_after: timedelta | None = timedelta(days=5)
    can_complete_only_assignees: bool = False
    hidden_by_default: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


ACTION_TYPES = {
    "show": "visibility",
    "hide": "visibility",
    "deadline": "deadline",
    "reopen": "status",
    **dict.fromkeys(("assign", "assign_only", "unassign", "clear_assignees"), "assignment"),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """The IF of a rule: a kick-off field, a capture or a step, and what must be true of it.

    :param statement: what a field is compared with; of a step, when it must have ended: ``any_time``, ``on-time``,
        ``early_24`` or ``late_24``. A condition on a step without that never holds.
    :param logic: how it is joined with the condition before it, ``and`` or ``or``.
    """

    conditionable_type: Subject
    conditionable_id: str
    operation: Operation
    statement: str = ""
    logic: str = "and"


@dataclass(frozen=True, slots=True)
class Action:
    """The THEN of a rule: what it does with one step.

    :param assignees: whom it assigns or unassigns.
    :param deadline: how long after the rule's run (before it, if negative) it moves the deadline to.
    """

    action_verb: Verb
    target_step_id: str
    assignees: Owners = Owners()
    deadline: timedelta | None = None


@dataclass(slots=True)
class Rule:
    """IF the conditions hold THEN do its actions; those that are not about visibility are done once per process."""

    id: str
    automated_alias: str
    conditions: tuple[Condition, ...]
    then_actions: tuple[Action, ...]


@dataclass(slots=True)
class Checklist:
    """A template."""

    id: str
    title: str
    alias: str
    created_at: datetime
    summary: str = ""
    guidance: str = ""
    prerun: list[FormField] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    type: str = "procedure"
    owner_id: int = 1001
    folder_id: str | None = None
    tags: tuple[str, ...] = ()
    starred: bool = False
    users: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()
    last_updated: datetime | None = None
    archived_at: datetime | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Member:
    """A user of the organization."""

    id: int
    email: str
    first_name: str
    last_name: str
    role: Role
    job_title: str | None = None
    disabled_at: datetime | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def full_name(self) -> str:
        """First and last name."""
        return f"{self.first_name} {self.last_name}"


@dataclass(frozen=True, slots=True)
class Guest:
    """A person outside the organization, identified by the email address."""

    id: int
    email: str
    created_at: datetime
    first_name: str | None = None
    last_name: str | None = None
    associated_members: tuple[int, ...] = ()
    disabled_at: datetime | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)


def guest_code(email: str) -> str:
    """Return a guest's part of the links that work without a login, which the email address decides."""
    return uuid.uuid5(uuid.NAMESPACE_OID, email).hex


@dataclass(frozen=True, slots=True)
class Group:
    """Members and guests that work is assigned to together."""

    id: str
    name: str
    created_at: datetime
    description: str = ""
    members: tuple[int, ...] = ()
    guests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tag:
    """A label on templates and runs."""

    id: str
    title: str
    created_at: datetime
    color: str = "#3498db"


@dataclass(frozen=True, slots=True)
class Folder:
    """A place for templates (``checklist``) or for runs (``run``)."""

    id: str
    name: str
    folder_type: str
    position: int
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class CustomFieldKey:
    """A key of the metadata that an organization keeps on runs (``process``) or on tasks (``task``)."""

    id: str
    key: str
    applies_to: Literal["process", "task"]
    field_type: Literal["text", "textarea", "number", "boolean", "date", "email", "url"]
    created_at: datetime
    is_required: bool = False
    is_active: bool = True
    key_type: str = "org"


@dataclass(slots=True)
class Thread:
    """A comment on a task or on a run."""

    id: str
    content: str
    author_id: int
    label: ThreadLabel
    created_at: datetime
    updated_at: datetime
    task_id: str | None = None
    run_id: str | None = None
    state: CommentState = "open"
    sent_to: tuple[int, ...] = ()
    resolve_id: str | None = None

    @property
    def is_open_issue(self) -> bool:
        """Whether this is an issue that is not resolved yet."""
        return self.label == "problem" and self.resolve_id is None


@dataclass(slots=True)
class Task:
    """A step of a running process, or a one-off task when it has no run."""

    id: str
    increment_id: int
    title: str
    alias: str
    task_type: TaskType
    position: int
    owners: Owners
    created_at: datetime
    last_updated: datetime
    starter_id: int
    started_at: datetime | None = None
    deadline: datetime | None = None
    run_id: str | None = None
    checklist_id: str | None = None
    step_id: str | None = None
    summary: str = ""
    captures: list[FormField] = field(default_factory=list)
    taskdata: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    threads: list[Thread] = field(default_factory=list)
    hidden: bool = False
    in_progress: bool = False
    reopened: bool = False
    deadline_set_by_hand: bool = False
    custom_fields: dict[str, Any] = field(default_factory=dict)
    completed_at: datetime | None = None
    completer_id: int | None = None
    is_approved: bool | None = None
    archived_at: datetime | None = None
    webhook: str | None = None
    max_assignable: int = 0
    prevent_guest_comment: bool = False
    can_complete_only_assignees: bool = False
    everyone_must_complete: bool = False
    top_secret: bool = False

    def reopen(self) -> None:
        """Take a completion back."""
        self.completed_at = self.completer_id = self.is_approved = None
        self.in_progress = self.reopened = True

    @property
    def expires(self) -> bool:
        """Whether it completes itself at its deadline."""
        return self.task_type in ("expiring", "expiring_email")

    @property
    def status(self) -> str:
        """The status; tallyfy/mcp-public has only these four, and an issue is none of them."""
        if self.hidden:
            return "auto-skipped"
        if self.completed_at is not None:
            return "completed"
        return "in-progress" if self.in_progress else "not-started"

    @property
    def is_pending(self) -> bool:
        """Whether it is still to be completed; a hidden task is not."""
        return self.completed_at is None and not self.hidden

    def is_late(self, now: datetime) -> bool:
        """Return whether it is overdue."""
        return self.is_pending and self.deadline is not None and self.deadline < now

    def is_due_soon(self, now: datetime) -> bool:
        """Return whether it is due within a day."""
        return self.is_pending and self.deadline is not None and now <= self.deadline <= now + DUE_SOON

    @property
    def has_open_issue(self) -> bool:
        """Whether an issue reported on it is unresolved."""
        # Called for every task of every run at each page of a list; most have no thread.
        return bool(self.threads) and any(thread.is_open_issue for thread in self.threads)


@dataclass(slots=True)
class Run:
    """A running process."""

    id: str
    increment_id: int
    checklist: Checklist
    name: str
    owner_id: int
    started_by: int
    created_at: datetime
    last_updated: datetime
    summary: str = ""
    prerun: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    threads: list[Thread] = field(default_factory=list)
    users: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    starred: bool = False
    is_public: bool = False
    parent_id: str | None = None
    archived_at: datetime | None = None
    completed_at: datetime | None = None
    kickoff_is_open: bool = False
    custom_fields: dict[str, Any] = field(default_factory=dict)
    done_actions: set[tuple[str, int]] = field(default_factory=set)

    @property
    def has_open_issue(self) -> bool:
        """Whether an issue reported on the run itself is unresolved; it blocks every task."""
        return bool(self.threads) and any(thread.is_open_issue for thread in self.threads)

    def status(self, now: datetime) -> str:
        """Return the status: the most severe one that applies."""
        if self.archived_at is not None:
            return "archived"
        if self.has_open_issue:
            return "issue"
        # One plain pass, since a list of thousands of runs calls this for each.
        is_delayed = False
        for task in self.tasks.values():
            if task.is_pending:
                if task.has_open_issue:
                    return "problem"
                is_delayed = is_delayed or (task.deadline is not None and task.deadline < now)
        if self.completed_at is not None:
            return "complete"
        return "delayed" if is_delayed else "active"

    @property
    def visible_tasks(self) -> list[Task]:
        """The tasks that users see, by position; the tasks of an archived run are gone with it."""
        if self.archived_at is not None:
            return []
        return sorted(
            (task for task in self.tasks.values() if not task.hidden), key=lambda task: task.position
        )


@dataclass(frozen=True, slots=True)
class Activity:
    """One entry of the activity feed."""

    id: int
    verb: str
    type: str
    description: str
    actor_id: int
    auditable_type: str
    auditable_id: str
    parentable_type: str
    parentable_id: str
    created_at: datetime
    text: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded file."""

    id: str
    filename: str
    content: bytes = field(repr=False)
    uploaded_from: str
    uploaded_at: datetime
    subject_type: str
    subject_id: str
    step_id: str | None = None


@dataclass(frozen=True, slots=True)
class Watcher:
    """A member's subscription to what happens in the organization, or to one thing in it."""

    id: int
    user_id: int
    object_type: str
    object_id: str
    notification_type: str
    webhook: str | None = None
