"""The smallest cases of the benchmark of exports."""

from __future__ import annotations

import pytest

from benchmarks import export


@pytest.mark.parametrize(
    ("kind", "requests"),
    [(export.JSONL, 4), (export.PARQUET, 4), (export.DETAILS, 4 + 30), (export.SCRIPT, 1 + 30)],
)
def test_a_case_exports_all_runs(kind, requests):
    [figures] = export.measure_kinds([kind], 30)
    assert (figures["records"], figures["requests"]) == (30, requests)
    assert figures["mib"] > 0
    assert f"| 30 | {kind} | {requests} |" in "\n".join(export.show_exports([figures]))
