"""The page about performance shows the figures in the file."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks import budget, events, export, program
from benchmarks.__main__ import PARTS as WAIT_PARTS

PARTS = {**WAIT_PARTS, **events.PARTS, **export.PARTS, **budget.PARTS}
PAGE = program.DOCS / "performance.md"
RESULTS = json.loads((program.DOCS / "performance.json").read_text())


def section(page, name):
    [text] = re.findall(f"<!-- figures: {name} -->(.*?)<!-- end of figures: {name} -->", page, re.DOTALL)
    return text.strip()


@pytest.mark.parametrize("name", PARTS)
def test_page_shows_the_figures_of(name):
    expected = program.markdown(PARTS[name], RESULTS["parts"][name])
    assert section(PAGE.read_text(), name) == expected.strip()


def test_page_names_the_machine():
    assert section(PAGE.read_text(), "machine") == program.describe_machine(RESULTS["machine"])


def test_no_case_failed():
    assert not any(case.get("failure") for case in RESULTS["parts"]["waits"]["figures"])


def test_replaces_a_section_and_nothing_else():
    page = "before\n<!-- figures: a -->old<!-- end of figures: a -->\nafter <!-- figures: b -->\n"
    new = program.replace_section(page, "a", r"1 \1")
    assert (
        new
        == "before\n<!-- figures: a -->\n\n1 \\1\n\n<!-- end of figures: a -->\nafter <!-- figures: b -->\n"
    )
    assert program.replace_section(new, "a", r"1 \1") == new


def test_refuses_a_page_without_the_section():
    with pytest.raises(ValueError, match="0 sections"):
        program.replace_section("<!-- figures: a -->", "a", "new")


@pytest.fixture
def docs(tmp_path, monkeypatch):
    sections = "".join(
        f"<!-- figures: {name} --><!-- end of figures: {name} -->" for name in ("a", "machine")
    )
    (tmp_path / "performance.md").write_text(sections)
    monkeypatch.setattr(program, "DOCS", tmp_path)
    return tmp_path


def run(*arguments, **parts):
    assert program.main("benchmarks.test", "A test.", parts, arguments=arguments) == 0


def part(figures):
    return program.Part(lambda options, known: [*(known or ()), figures], lambda shown: [f"Shown: {shown}"])


def test_writes_figures_and_page(docs):
    run(a=part(1))
    result = json.loads((docs / "performance.json").read_text())["parts"]["a"]
    assert (result["figures"], result["command"]) == ([1], "python -m benchmarks.test")
    assert "Shown: [1]\nMeasured on" in (docs / "performance.md").read_text()


def test_gives_a_part_the_figures_that_the_file_has(docs):
    run(a=part(1))
    run(a=part(2))
    assert "Shown: [1, 2]" in (docs / "performance.md").read_text()


def test_measures_only_the_given_parts(docs):
    run("--only", "a", a=part(1), b=part(2))
    assert [*json.loads((docs / "performance.json").read_text())["parts"]] == ["a"]


def test_show_measures_nothing(docs):
    run(a=part(1))
    (docs / "performance.md").write_text((docs / "performance.md").read_text().replace("Shown", "Old"))
    run("--show", a=part(2))
    assert "Shown: [1]" in (docs / "performance.md").read_text()


def test_quick_run_leaves_the_documentation_alone(docs, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "QUICK", tmp_path / "quick")
    before = (docs / "performance.md").read_text()
    run("--quick", a=part(1))
    assert (docs / "performance.md").read_text() == before
    assert (tmp_path / "quick" / "performance.json").exists()
