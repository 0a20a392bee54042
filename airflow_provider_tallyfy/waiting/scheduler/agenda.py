"""Which runs are due, and when the next one is."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from math import inf


class Agenda:
    """A priority queue of run ids by the time at which they are due; each is in it once at most."""

    def __init__(self) -> None:
        self._due_at: dict[str, float] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._numbers = count()

    def set(self, run_id: str, due_at: float) -> None:
        """Add a run, or move it to another time; infinity removes it."""
        if due_at == inf:
            self._due_at.pop(run_id, None)
        elif self._due_at.get(run_id) != due_at:
            self._due_at[run_id] = due_at
            heapq.heappush(self._heap, (due_at, next(self._numbers), run_id))

    def due_at(self, run_id: str) -> float:
        """Return when a run is due; infinity if it is not in the agenda."""
        return self._due_at.get(run_id, inf)

    def next_at(self) -> float:
        """Return when the next run is due."""
        while self._heap and self._due_at.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def first(self) -> str:
        """Return the run that is due next."""
        self.next_at()
        return self._heap[0][2]

    def take(self, until: float) -> Iterator[str]:
        """Remove and yield all runs that are due by some time, the earliest first."""
        while self.next_at() <= until:
            _, _, run_id = heapq.heappop(self._heap)
            del self._due_at[run_id]
            yield run_id
