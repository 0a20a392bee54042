"""The limits that Tallyfy has published: on requests, and on actions that send mail."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

# The number of requests and of seconds, the methods that count, and whether all users share it.
_Limit = tuple[int, int, str, bool]
# :attr:`Behavior.rate_limit` chooses which of them applies.
LIMITS: Mapping[str, tuple[_Limit, ...]] = {
    "off": (),
    "user": ((600, 60, "*", False),),
    "burst": ((140, 10, "*", False), (12, 5, "GET", False)),
    "organization": ((100, 60, "*", True), (1000, 3600, "*", True)),
}
# The actions that send mail, and how often the organization can do them in an hour.
HOURLY_LIMITS = {"Comment": 120, "Guest Invite": 30}


class Limiter:
    """Counts requests and actions over rolling windows of time."""

    def __init__(self) -> None:
        self._uses: dict[tuple[_Limit, str], deque[datetime]] = defaultdict(deque)

    def take(
        self, limits: Iterable[_Limit], method: str, user: str, now: datetime
    ) -> tuple[int | None, int | None]:
        """Count a request, unless it is over a limit.

        :param limits: the limits that apply.
        :return: how many requests are left, and after how many seconds to retry if this one is refused.
        """
        left: int | None = None
        windows = []
        for limit in limits:
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
