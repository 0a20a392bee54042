"""A real triggerer with hundreds of waits, whose supervisor stops reading at the worst moments."""

from __future__ import annotations

import pytest

from benchmarks.crowd import CrowdCase, measure_crowd

pytestmark = pytest.mark.system


def test_a_triggerer_survives_stops_of_its_supervisor() -> None:
    """Start, restart, and complete all tasks at once: every wait ends, and none of ours blocks the event loop."""
    figures = measure_crowd(CrowdCase(in_triggerer=150, by_workers=150, stop=5.0, seconds=1.0))
    assert figures["wrong"] == 0
    late = {
        name: figures[name]["late_ms_by"]["this provider"]
        for name in ("begin", "window", "restart", "complete")
    }
    assert max(late.values()) < 1000, figures
