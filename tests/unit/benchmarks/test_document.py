"""The page about performance says what was measured."""

from __future__ import annotations

import json

from benchmarks import document
from benchmarks.__main__ import DOCUMENT, RESULTS


def test_its_figures_are_those_that_were_measured():
    results = json.loads(RESULTS.read_text())
    assert results["command"] == "python -m benchmarks"
    assert not any(case.get("failure") for case in results["cases"])
    page = DOCUMENT.read_text()
    assert (
        page.partition(document.BEGIN)[2].partition(document.END)[0].strip()
        == document.markdown(results).strip()
    )


def test_writing_replaces_the_figures_and_nothing_else(tmp_path):
    results = json.loads(RESULTS.read_text())
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{document.BEGIN}old\n{document.END}after\n")
    document.write(page, results)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    document.write(page, results)
    assert page.read_text() == text
