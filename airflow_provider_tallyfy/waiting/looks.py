"""What somebody who looked at a run saw, or why nothing was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_tallyfy.exceptions import (
    TallyfyAuthError,
    TallyfyConfigurationError,
    TallyfyConnectionError,
    TallyfyError,
    TallyfyNotFoundError,
    TallyfyRateLimitError,
    TallyfyResponseError,
    TallyfyServerError,
)

_PASSING = (TallyfyRateLimitError, TallyfyServerError, TallyfyConnectionError, TallyfyResponseError)
_EVERYBODYS = (TallyfyRateLimitError, TallyfyConnectionError, TallyfyAuthError, TallyfyConfigurationError)


@dataclass(frozen=True, slots=True)
class Sight:
    """
    A run was seen.

    :param run: as :meth:`~airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook.get_run` gives it.
    :param is_from_list: whether it stood in a list of many. That is enough to see that nothing is new; whatever looks
        like news is to be read by itself before anybody decides on it.
    """

    run: dict[str, Any]
    is_from_list: bool = False


@dataclass(frozen=True, slots=True)
class Blank:
    """
    Nothing was seen.

    :param error: why.
    """

    error: TallyfyError

    @property
    def is_passing(self) -> bool:
        """Whether the reason says nothing about what was asked for: an outage, or a 404 not in Tallyfy's own words."""
        is_elses = isinstance(self.error, TallyfyNotFoundError) and not self.error.is_from_tallyfy
        return is_elses or isinstance(self.error, _PASSING)

    @property
    def is_refusal(self) -> bool:
        """Whether Tallyfy does not let this connection look, so that a look with it read anew is due."""
        return not self.is_passing and not isinstance(self.error, TallyfyNotFoundError)

    @property
    def may_be_the_connections_fault(self) -> bool:
        """Whether the connection is to be read anew before the next look; too many requests are no fault of its."""
        return not isinstance(self.error, TallyfyRateLimitError)

    @property
    def is_everybodys(self) -> bool:
        """Whether anything else would have met the same: the reason lies in the way to Tallyfy, or in the token."""
        return isinstance(self.error, _EVERYBODYS)


Look = Sight | Blank
