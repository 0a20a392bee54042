"""What the sandbox does if the sources on Tallyfy disagree."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


def _lag(reads: str) -> float:
    default: float = Field(
        0, ge=0, allow_inf_nan=False, description=f"how many seconds old the state is that {reads} show"
    )
    return default


class Behavior(BaseModel):
    """The choices of one sandbox; an unknown field or value is refused.

    Each field is also an option of the command and a field of the test control. ``docs/sandbox.md`` names the
    source of each value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    next_task: Literal["collection", "object"] = Field(
        default="collection",
        description="format of with=next_task: list (newest documentation), or object (2025-10)",
    )
    run_lag: float = _lag("reads of single runs and tasks")
    list_lag: float = _lag("lists and the search")
    second_completion: Literal["refuse", "accept", "overwrite"] = Field(
        default="refuse",
        description="completing a completed task: 422, 2xx without a change, or completed again",
    )
    errors: Literal["message", "structured"] = Field(
        default="message", description="format of errors: the message on top, or all in an error object"
    )
    answers: Literal["field_value", "value"] = Field(
        default="field_value", description="key of a form field's answer"
    )
    owners: Literal["ids", "objects"] = Field(
        default="ids", description="how the users among a task's owners are shown"
    )
    template_lists: Literal["wrapped", "bare"] = Field(
        default="wrapped", description="with=steps,tags of a template: in an object with data, or bare lists"
    )
    task_filter: Literal["measured", "documented"] = Field(
        default="measured", description="the status filter of tasks: unknown values are ignored, or 422"
    )
    run_update: Literal["replace", "keep"] = Field(
        default="replace", description="members and groups that PUT runs/{id} does not send: removed, or kept"
    )
    comment_state: Literal["hide-for-guests", "open"] = Field(
        default="hide-for-guests", description="state of a comment that is sent without one"
    )
    working_days: Literal["weekdays", "all"] = Field(
        default="weekdays", description="deadlines on other days move to 09:00 of the next of these days"
    )
    rate_limit: Literal["off", "user", "burst", "organization"] = Field(
        default="off",
        description=(
            "published limit that applies: 600 a minute for each user; 140 in 10 s and 12 GETs in 5 s; "
            "100 a minute and 1,000 an hour for the organization"
        ),
    )
