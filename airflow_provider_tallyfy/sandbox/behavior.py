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

    Each field is also an option of the command and a field of the test control. ``docs/sandbox.md`` says which
    source each value is from.
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
