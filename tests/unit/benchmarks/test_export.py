"""The smallest cases of the benchmark of exports, so that they still work when they are wanted."""

from __future__ import annotations

import pytest

from benchmarks import export


@pytest.mark.parametrize(
    ("kind", "requests"), [(export.OURS, 4), (export.OURS_DETAILS, 4 + 30), (export.SCRIPT, 1 + 30)]
)
def test_a_case_exports_all_runs(kind, requests):
    figures = export.measure(kind, 30, "csv" if kind == export.SCRIPT else "jsonl")
    assert (figures["records"], figures["requests"]) == (30, requests)
    assert figures["mib"] > 0
    assert export.markdown({"cases": [figures], "machine": export.machine(), "began_at": "2026-01-01"})
