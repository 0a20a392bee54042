from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.sensors import tallyfy as sensors


@pytest.fixture
def clock(monkeypatch):
    """A wall clock that stands still until it is moved."""
    clock = SimpleNamespace(now=1_800_000_000.0, time=lambda: clock.now)
    monkeypatch.setattr(sensors, "time", clock)
    return clock


@pytest.fixture
def state_store(monkeypatch):
    """Airflow has a task state store, as since 3.3."""
    monkeypatch.setattr(sensors, "AIRFLOW_V_3_3_PLUS", True)
    monkeypatch.setattr(version_compat, "AIRFLOW_V_3_3_PLUS", True)
    monkeypatch.setattr(sensors, "never_expire", lambda: None)
