"""Before any test imports Airflow: a home of its own, which goes when the tests end."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator

import pytest

_home = tempfile.mkdtemp(prefix="airflow-tests-")
os.environ["AIRFLOW_HOME"] = _home
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--production",
        action="store_true",
        help="run the system tests on PostgreSQL, Redis, Celery workers and two triggerers",
    )


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """End the tests when a signal ended one of them, as `dev.processes.exit_on_termination` lets it."""
    if call.excinfo is not None and isinstance(call.excinfo.value, SystemExit):
        item.session.shouldstop = f"exit {call.excinfo.value.code}"


def pytest_unconfigure() -> None:
    shutil.rmtree(_home, ignore_errors=True)


@pytest.fixture
def untraced() -> Iterator[None]:
    """
    Leave a test out of coverage, which would take up most of its time.

    pytest-cov's own ``no_cover`` goes on tracing in the processes of pytest-xdist.
    """
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


class ToldMetrics:
    """In place of Airflow's Stats: what it was told, each as kind, name, value and tags."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, float, dict[str, str]]] = []

    def incr(self, name: str, count: int = 1, *, tags: dict[str, str]) -> None:
        self.told.append(("counter", name, count, tags))

    def timing(self, name: str, milliseconds: float, *, tags: dict[str, str]) -> None:
        self.told.append(("timer", name, milliseconds, tags))

    def gauge(self, name: str, value: float, *, tags: dict[str, str]) -> None:
        self.told.append(("gauge", name, value, tags))

    def of(self, name: str) -> list[tuple[float, dict[str, str]]]:
        """Return what was told by one name, values with tags."""
        return [(value, tags) for _, told, value, tags in self.told if told == name]

    def counts(self, name: str) -> dict[str, float]:
        """Return the sums of a counter by outcome."""
        sums: Counter[str] = Counter()
        for count, tags in self.of(name):
            sums[tags["outcome"]] += int(count)
        return dict(sums)


@pytest.fixture
def told_metrics(monkeypatch: pytest.MonkeyPatch) -> ToldMetrics:
    from airflow.providers.common.compat import sdk

    told = ToldMetrics()
    monkeypatch.setattr(sdk, "Stats", told)
    return told
