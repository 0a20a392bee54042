"""The bodies of requests, one model for each. Unknown fields are ignored, as at Tallyfy."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from airflow_provider_tallyfy.sandbox.model import CommentState, Owners, TaskType, ThreadLabel


def _map_from_php(value: Any) -> Any:
    # PHP has one array type, so an empty list stands for an empty map.
    return {} if value == [] else value


def _wall_clock(value: Any) -> datetime:
    """Read a date as Tallyfy does: an offset is dropped, and the time taken for UTC."""
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    except TypeError:
        raise ValueError("it must be a text with a date") from None


Moment = Annotated[datetime, BeforeValidator(_wall_clock)]
Values = Annotated[dict[str, Any], BeforeValidator(_map_from_php)]
Text = Annotated[str, Field(min_length=1)]
Title = Annotated[str, Field(min_length=1, max_length=600)]
Users = tuple[int, ...]
Ids = tuple[str, ...]


class Body(BaseModel):
    """A request's body."""

    def given(self, *without: str) -> dict[str, Any]:
        """Return the fields that were sent and are not null, by name.

        :param without: fields to leave out.
        """
        return {
            name: value
            for name, value in self
            if name in self.model_fields_set and name not in without and value is not None
        }


class TaskOverride(Body):
    """What a launch can change in the task of a step."""

    owners: Owners | None = None
    deadline: Moment | None = None
    deadline_set_by_hand: bool = False


class RunProperties(Body):
    """The properties of a run that a launch and an update can set."""

    name: str | None = Field(None, max_length=550)
    summary: str | None = None
    owner_id: int | None = None
    starred: bool | None = None
    is_public: bool | None = None
    users: Users | None = None
    groups: Ids | None = None
    prerun: Values | None = None


class LaunchRun(RunProperties):
    """``POST …/runs``."""

    checklist_id: Text
    user_id: int | None = None
    parent_id: str | None = None
    tasks: Annotated[dict[str, TaskOverride], BeforeValidator(_map_from_php)] = {}
    tags: Ids | None = None
    folders: Ids | None = None


class CompleteTask(Body):
    """``POST …/completed-tasks``."""

    task_id: Text
    is_approved: bool | None = None
    override_user: int | None = None
    taskdata: Any = None

    @model_validator(mode="after")
    def _is_completion_only(self) -> CompleteTask:
        if self.taskdata is not None:
            raise ValueError("form values and the completion must be sent one after the other")
        return self


class TaskProperties(Body):
    """The properties that a new one-off task and an update of a task can set."""

    started_at: Moment | None = None
    max_assignable: int | None = Field(None, ge=0)
    prevent_guest_comment: bool | None = None
    webhook: str | None = None
    top_secret: bool | None = None


class UpdateTask(TaskProperties):
    """``PUT …/tasks/{task}``, of a run or one-off."""

    title: Title | None = None
    summary: str | None = None
    deadline: Moment | None = None
    owners: Owners | None = None
    position: int | None = None
    taskdata: Values | None = None
    status: Any = None

    @model_validator(mode="after")
    def _is_no_completion(self) -> UpdateTask:
        if self.taskdata is not None and self.status in ("complete", "completed"):
            raise ValueError("form values and the completion must be sent one after the other")
        return self


class CreateTask(TaskProperties):
    """``POST …/tasks``."""

    title: Title
    task_type: TaskType
    owners: Owners
    deadline: Moment
    description: str | None = None
    summary: str | None = None
    everyone_must_complete: bool = False
    can_complete_only_assignees: bool = False
    tags: Ids = ()
    form_fields: list[dict[str, Any]] = []
    run_id: str | None = None
    separate_task_for_each_assignee: bool = False


class WriteComment(Body):
    """``POST …/comment`` and ``…/problem``, ``PUT …/comment/{thread}``."""

    content: Text
    label: ThreadLabel = "comment"
    state: CommentState | None = None
    sent_to: Users = ()


class ResolveIssue(Body):
    """``POST …/resolved-threads``."""

    thread_id: Text
    content: Text
    state: CommentState | None = None
