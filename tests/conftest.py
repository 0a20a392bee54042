"""Sets a temporary ``AIRFLOW_HOME`` before a test imports Airflow."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

import pytest

from tests.support.metrics import RecordedMetrics

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
    """End the session if `dev.processes.exit_on_termination` turned a signal into the exit of a test."""
    if call.excinfo is not None and isinstance(call.excinfo.value, SystemExit):
        item.session.shouldstop = f"exit {call.excinfo.value.code}"


def pytest_unconfigure() -> None:
    shutil.rmtree(_home, ignore_errors=True)


@pytest.fixture
def untraced() -> Iterator[None]:
    """
    Measure no coverage in a test that would be slow with it.

    pytest-cov's ``no_cover`` does not stop tracing in the processes of pytest-xdist.
    """
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.fixture
def recorded_metrics(monkeypatch: pytest.MonkeyPatch) -> RecordedMetrics:
    from airflow.providers.common.compat import sdk

    recorded = RecordedMetrics()
    monkeypatch.setattr(sdk, "Stats", recorded)
    return recorded
