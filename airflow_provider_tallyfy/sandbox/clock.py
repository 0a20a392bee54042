"""The one clock of the sandbox: every timestamp, token expiry and hourly cap is read from it, and it can be moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """Real time plus an offset, so that it goes on running after it was moved."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def now(self) -> datetime:
        """Return the sandbox's present moment, in UTC."""
        return datetime.now(UTC) + self._offset

    def advance(self, seconds: float) -> None:
        """Move the clock by so many seconds; a negative number moves it back."""
        self._offset += timedelta(seconds=seconds)

    def set(self, moment: datetime) -> None:
        """Make the given moment the present one."""
        self._offset = as_utc(moment) - datetime.now(UTC)

    def reset(self) -> None:
        """Go back to real time."""
        self._offset = timedelta()

    @property
    def offset_seconds(self) -> float:
        """How far the clock is ahead of real time."""
        return self._offset.total_seconds()


def as_utc(moment: datetime) -> datetime:
    """Take a moment without a zone as UTC, which is what Tallyfy does."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def as_text(moment: datetime | None) -> str | None:
    """Write a moment the way the API does: ``2025-05-15T14:30:00.000Z``."""
    if moment is None:
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
