from __future__ import annotations

from typing import Any

import pytest

from tests.support.gates import TallyfyWithOneTask, record_skipped


@pytest.fixture
def tallyfy(connection: None, requests_mock: Any, monkeypatch: pytest.MonkeyPatch) -> TallyfyWithOneTask:
    """Tallyfy, in which no pause takes time."""
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return TallyfyWithOneTask(requests_mock)


@pytest.fixture
def skipped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The task instances that a gate skipped; those downstream are not scheduled yet."""
    return record_skipped(monkeypatch)
