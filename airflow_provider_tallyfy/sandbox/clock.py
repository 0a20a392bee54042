"""The clock of the sandbox, which a test can move: timestamps, lags, token expiry and hourly caps follow it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Real time plus an offset, so that it continues to run after it was moved."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def now(self) -> datetime:
        """Return the sandbox's current time, in UTC."""
        return datetime.now(UTC) + self._offset

    def advance(self, seconds: float) -> None:
        """Move the clock by a number of seconds; a negative number moves it back."""
        self._offset += timedelta(seconds=seconds)

    def set(self, moment: datetime) -> None:
        """Set the clock to a moment; one without a zone is UTC."""
        in_zone = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        self._offset = in_zone - datetime.now(UTC)

    def reset(self) -> None:
        """Return to real time."""
        self._offset = timedelta()

    @property
    def offset_seconds(self) -> float:
        """How far the clock is ahead of real time."""
        return self._offset.total_seconds()


def to_working_day(moment: datetime) -> datetime:
    """Move a moment on a weekend to Monday, 09:00.

    A weekend ends at that time, so that of two moments the earlier one never becomes the later one.
    """
    monday = moment + timedelta(days=-moment.weekday() % 7)
    start = monday.replace(hour=9, minute=0, second=0, microsecond=0)
    return start if start - timedelta(days=2, hours=9) <= moment < start else moment


def as_text(moment: datetime | None) -> str | None:
    """Format a moment as the API does: ``2025-05-15T14:30:00.000Z``."""
    if moment is None:
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
