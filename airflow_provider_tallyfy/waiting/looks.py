"""Looking at a run once: what was seen, or why nothing was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.exceptions import TallyfyAuthError, TallyfyError, TallyfyPermissionError

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook


@dataclass(frozen=True, slots=True)
class Sight:
    """
    A run was read.

    :param run: as :meth:`~airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook.get_run` gives it.
    """

    run: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Blank:
    """
    No run was read.

    :param error: why.
    """

    error: TallyfyError


Look = Sight | Blank


def look(hook: TallyfyHook, run_id: str, with_: Sequence[str]) -> Look:
    """
    Read a run; blocks until it is read or given up.

    :param hook: reads it.
    :param run_id: the run's id.
    :param with_: what to include.
    """
    try:
        return Sight(hook.get_run(run_id, with_=with_))
    except TallyfyError as error:
        return Blank(error)


def is_refusal(seen: Look) -> bool:
    """Tell whether Tallyfy refused the token, so that a look with a connection read anew is due."""
    return isinstance(seen, Blank) and isinstance(seen.error, TallyfyAuthError | TallyfyPermissionError)
