"""
What is known of earlier attempts at a write, and how long the outcome of one can be uncertain.

Tallyfy has no idempotency key. A request that got no clear answer may be carried out late, and reads may show a state
that is some seconds old. So the outcome counts as certain only :data:`INDETERMINATE_WINDOW` seconds after the request
began: what no read shows by then did not happen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from airflow_provider_tallyfy.protocol.launch_mark import CLOCK_SKEW

INDETERMINATE_WINDOW = 60.0
"""Seconds after which a request was carried out or never will be; gateways rarely wait longer."""
READ_LAG_PAUSES = (1.0, 2.0, 4.0)
"""Seconds between reads of something that Tallyfy confirmed, and that a lagging read may not show yet."""
_WINDOW_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


@dataclass(frozen=True, slots=True)
class PriorAttempts:
    """
    What is known of earlier attempts.

    :param run_id: the run that was launched, if that is known.
    :param token: the mark's token that was sent, if that is known.
    :param since: no attempt was made before; ``None`` if that is not known.
    :param sent_at: when a request was last sent, in seconds since the epoch; ``None`` if none was.
    """

    run_id: str | None = None
    token: str | None = None
    since: datetime | None = None
    sent_at: float | None = None

    @property
    def uncertain_for(self) -> float:
        """
        Seconds for which the outcome may still be uncertain.

        The time was noted by another worker, whose clock may differ by :data:`CLOCK_SKEW`. Only a request that is older
        than that is certain to be over; for any other one the whole window is waited, by this worker's own clock.
        """
        if (
            self.sent_at is None
            or time.time() - self.sent_at > INDETERMINATE_WINDOW + CLOCK_SKEW.total_seconds()
        ):
            return 0.0
        return INDETERMINATE_WINDOW


class AttemptStore(Protocol):
    """Keeps what became of a write, for the next attempt."""

    def prior(self) -> PriorAttempts | None:
        """Return what is known of earlier attempts; ``None`` if it is certain that nothing was sent."""

    def begin(self) -> None:
        """Keep that an attempt began, and sent nothing yet; nothing is sent if this raises."""

    def mark_sending(self, token: str | None = None) -> None:
        """Keep that a request begins now; nothing is sent if this raises."""

    def mark_declined(self) -> None:
        """Keep that the request changed nothing."""

    def mark_done(self, run_id: str | None = None) -> None:
        """Keep that the write was applied."""

    def uploaded(self) -> Mapping[str, Any]:
        """Return the files that were uploaded for it, by key."""

    def mark_uploaded(self, key: str, file: Mapping[str, Any]) -> None:
        """Keep what Tallyfy returned for an upload."""


def polls(seconds: float) -> Iterator[float]:
    """
    Pause between polls, longer each time, and yield the seconds that are left: at once, and last when none are.

    The seconds are those of this process's monotonic clock, so that no jump of the wall clock makes it more.
    """
    ends_at = time.monotonic() + seconds
    for pause in _WINDOW_PAUSES:
        left = ends_at - time.monotonic()
        yield max(left, 0.0)
        if left <= 0:
            return
        time.sleep(min(pause, left))
    yield 0.0
