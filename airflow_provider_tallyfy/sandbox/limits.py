"""The limits on requests that Tallyfy has published; :attr:`Behavior.rate_limit` chooses which of them applies."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Mapping
from datetime import datetime, timedelta

# The number of requests and of seconds, the methods that count, and whether all users share it.
_Limit = tuple[int, int, str, bool]
LIMITS: Mapping[str, tuple[_Limit, ...]] = {
    "off": (),
    "user": ((600, 60, "*", False),),
    "burst": ((140, 10, "*", False), (12, 5, "GET", False)),
    "organization": ((100, 60, "*", True), (1000, 3600, "*", True)),
}


class RequestLimits:
    """Counts requests over rolling windows of time."""

    def __init__(self) -> None:
        self._uses: dict[tuple[_Limit, str], deque[datetime]] = defaultdict(deque)

    def take(self, name: str, method: str, user: str, now: datetime) -> tuple[int | None, int | None]:
        """Count a request, unless it is over a limit.

        :param name: the limits that apply, a key of :data:`LIMITS`.
        :return: how many requests are left, and after how many seconds to retry if this one is refused.
        """
        left: int | None = None
        windows = []
        for limit in LIMITS[name]:
            most, seconds, counted, shared = limit
            if counted not in ("*", method):
                continue
            window, length = self._uses[limit, "" if shared else user], timedelta(seconds=seconds)
            while window and window[0] <= now - length:
                window.popleft()
            if len(window) >= most:
                return 0, math.ceil((window[0] + length - now).total_seconds())
            windows.append(window)
            left = min(most - len(window) - 1, most if left is None else left)
        for window in windows:
            window.append(now)
        return left, None
