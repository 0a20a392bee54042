"""The smallest cases of the benchmark of exports."""

from __future__ import annotations

from benchmarks import export


def test_each_case_exports_all_runs():
    requests = {export.JSONL: 4, export.PARQUET: 4, export.DETAILS: 4 + 30, export.SCRIPT: 1 + 30}
    figures = export.measure_kinds(requests, 30)
    shown = "\n".join(export.show_exports(figures))
    for case, (kind, count) in zip(figures, requests.items(), strict=True):
        assert (case["kind"], case["records"], case["requests"]) == (kind, 30, count)
        assert case["mib"] > 0
        assert f"| 30 | {kind} | {count} |" in shown
