"""A fake of Airflow's Stats."""

from __future__ import annotations

from collections import Counter


class RecordedMetrics:
    """Records all metrics, each as kind, name, value and tags."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, float, dict[str, str]]] = []

    def incr(self, name: str, count: int = 1, *, tags: dict[str, str]) -> None:
        self.records.append(("counter", name, count, tags))

    def timing(self, name: str, milliseconds: float, *, tags: dict[str, str]) -> None:
        self.records.append(("timer", name, milliseconds, tags))

    def gauge(self, name: str, value: float, *, tags: dict[str, str]) -> None:
        self.records.append(("gauge", name, value, tags))

    def of(self, name: str) -> list[tuple[float, dict[str, str]]]:
        """Return the values of a metric, with their tags."""
        return [(value, tags) for _, recorded, value, tags in self.records if recorded == name]

    def counts(self, name: str) -> dict[str, float]:
        """Return the sums of a counter by outcome."""
        sums: Counter[str] = Counter()
        for count, tags in self.of(name):
            sums[tags["outcome"]] += int(count)
        return dict(sums)
