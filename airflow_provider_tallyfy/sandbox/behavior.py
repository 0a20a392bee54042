"""What the sandbox does if the sources on Tallyfy disagree."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SecondCompletion = Literal["refuse", "accept", "overwrite"]
ErrorFormat = Literal["message", "structured"]


class Behavior(BaseModel):
    """The choices of one sandbox; an unknown field or value is refused.

    :param run_lag: how many seconds old the state is that a read of one run or task shows.
    :param list_lag: the same for lists and the search.
    :param second_completion: ``refuse`` answers 422, as Tallyfy's documentation says; ``accept`` answers 2xx, writes
        the feed again and leaves the task as it is, as tallyfy/mcp-public quotes the server's source; ``overwrite``
        also replaces completer, date and decision.
    :param errors: ``message`` puts the message on top of an error's body; ``structured`` puts code, message and
        details into ``error``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_lag: float = Field(default=0, ge=0, allow_inf_nan=False)
    list_lag: float = Field(default=0, ge=0, allow_inf_nan=False)
    second_completion: SecondCompletion = "refuse"
    errors: ErrorFormat = "message"
