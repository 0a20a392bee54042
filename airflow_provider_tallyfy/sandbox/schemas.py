"""The bodies of requests, one model for each. Unknown fields are ignored, as at Tallyfy."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from airflow_provider_tallyfy.sandbox.clock import as_utc
from airflow_provider_tallyfy.sandbox.model import (
    CommentState,
    FieldType,
    FormField,
    Option,
    Owners,
    TaskType,
    ThreadLabel,
)


def _map_from_php(value: Any) -> Any:
    # PHP has one array type, so an empty list stands for an empty map.
    return {} if value == [] else value


Moment = Annotated[datetime, AfterValidator(as_utc)]
Values = Annotated[dict[str, Any], BeforeValidator(_map_from_php)]
Text = Annotated[str, Field(min_length=1)]


class Assignees(BaseModel):
    """``owners`` of a task; a list that is missing is empty."""

    users: list[int] = []
    guests: list[str] = []
    groups: list[str] = []

    def owners(self) -> Owners:
        """Return the assignees as the model has them."""
        return Owners(users=tuple(self.users), guests=tuple(self.guests), groups=tuple(self.groups))


class TaskOverride(BaseModel):
    """What a launch can change in the task of a step."""

    owners: Assignees | None = None
    deadline: Moment | None = None


class RunProperties(BaseModel):
    """The properties of a run that a launch and an update can set."""

    name: str | None = Field(None, max_length=550)
    summary: str | None = None
    owner_id: int | None = None
    starred: bool | None = None
    is_public: bool | None = None
    users: list[int] | None = None
    groups: list[str] | None = None
    prerun: Values | None = None

    def properties(self, *more: str) -> dict[str, Any]:
        """Return the given properties, apart from the kick-off values, by attribute of the run.

        :param more: attributes that a subclass adds.
        """
        names = ("name", "summary", "owner_id", "starred", "is_public", "users", "groups", *more)
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


class LaunchRun(RunProperties):
    """``POST …/runs``."""

    checklist_id: Text
    user_id: int | None = None
    parent_id: str | None = None
    tasks: Annotated[dict[str, TaskOverride], BeforeValidator(_map_from_php)] | None = None
    tags: list[str] | None = None
    folders: list[str] | None = None


class UpdateRun(RunProperties):
    """``PUT …/runs/{run}``; members and groups that are not sent are removed.

    tallyfy/mcp-public quotes the server's source and measured it; the documentation says that they stay.
    """

    users: list[int] = []
    groups: list[str] = []


class CompleteTask(BaseModel):
    """``POST …/completed-tasks``."""

    task_id: Text
    is_approved: bool | None = None
    override_user: int | None = None


class TaskProperties(BaseModel):
    """The properties that a new one-off task and an update of a task can set."""

    started_at: Moment | None = None
    max_assignable: int | None = Field(None, ge=0)
    prevent_guest_comment: bool | None = None
    webhook: str | None = None
    top_secret: bool | None = None

    def properties(self, *more: str) -> dict[str, Any]:
        """Return the given properties by attribute of the task.

        :param more: attributes that a subclass adds.
        """
        names = ("started_at", "max_assignable", "prevent_guest_comment", "webhook", "top_secret", *more)
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class UpdateTask(TaskProperties):
    """``PUT …/tasks/{task}``, of a run or one-off."""

    title: str | None = Field(None, min_length=1, max_length=600)
    summary: str | None = None
    deadline: Moment | None = None
    owners: Assignees | None = None
    position: int | None = None
    taskdata: Values | None = None

    def changes(self) -> dict[str, Any]:
        """Return the given properties, apart from the form values."""
        changes = self.properties("title", "summary", "deadline", "position")
        if self.owners is not None:
            changes["owners"] = self.owners.owners()
        return changes


class NewFormField(BaseModel):
    """A form field of a new one-off task."""

    label: Text
    field_type: FieldType
    required: bool
    guidance: str | None = None
    options: list[dict[str, Any]] = []

    def form_field(self, field_id: str) -> FormField:
        """Return the form field as the model has it.

        :param field_id: its timeline id.
        """
        return FormField(
            id=field_id,
            alias=self.label.casefold().replace(" ", "-"),
            label=self.label,
            field_type=self.field_type,
            required=self.required,
            guidance=self.guidance,
            options=tuple(
                Option(int(option.get("id", position)), str(option.get("text", "")))
                for position, option in enumerate(self.options, start=1)
            ),
        )


class CreateTask(TaskProperties):
    """``POST …/tasks``."""

    title: str = Field(min_length=1, max_length=600)
    task_type: TaskType
    owners: Assignees
    deadline: Moment
    description: str | None = None
    summary: str | None = None
    everyone_must_complete: bool = False
    can_complete_only_assignees: bool = False
    tags: list[str] = []
    form_fields: list[NewFormField] = []
    run_id: str | None = None


class WriteComment(BaseModel):
    """``POST …/comment``.

    The default state is that of the server's source, as tallyfy/mcp-public quotes it; the official SDK says ``open``.
    """

    content: Text
    label: ThreadLabel = ThreadLabel.COMMENT
    state: CommentState = CommentState.HIDE_FOR_GUESTS
    sent_to: list[int] = []


class EditComment(BaseModel):
    """``PUT …/comment/{thread}``."""

    content: Text
    state: CommentState | None = None


class ReportIssue(BaseModel):
    """``POST …/problem``."""

    content: Text


class ResolveIssue(BaseModel):
    """``POST …/resolved-threads``."""

    thread_id: Text
    content: Text
    state: CommentState = CommentState.OPEN


class InviteGuest(BaseModel):
    """``POST …/guests``."""

    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")
    first_name: str | None = None
    last_name: str | None = None
    company_name: str | None = None
    phone_1: str | None = None
