"""The table of ``docs/gates.md``: what becomes of each shape of DAG around an approval, on each Airflow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PAGE = Path(__file__).parents[1] / "docs" / "gates.md"
_TABLE = re.compile(r"(?<=<!-- written by make test-matrix -->\n).*?(?=<!-- until here -->)", re.DOTALL)
_UNKNOWN = "not run"


def read_report(report: Path) -> dict[str, str]:
    """Return what a JUnit report of ``tests/system/test_gate_shapes.py`` says of each shape, by its title."""
    properties = ET.parse(report).getroot().iterfind(".//testcase/properties/property")  # noqa: S314 - pytest's own
    return {each.attrib["name"]: each.attrib["value"] for each in properties}


def write(airflow: str, outcomes: Mapping[str, str], airflows: Sequence[str]) -> None:
    """
    Write the column of an Airflow into the page; the others stay as they are.

    :param airflow: its version
    :param outcomes: what became of each shape, by its title
    :param airflows: all versions, in the order of their columns
    """
    page = PAGE.read_text(encoding="utf-8")
    found = _TABLE.search(page)
    rows = dict(_read(found[0] if found else ""))
    titles = [*outcomes, *(title for title in rows if title not in outcomes)]
    table = [
        f"| shape | {' | '.join(airflows)} |",
        "| --- |" + " --- |" * len(airflows),
        *(
            _row(title, {**rows.get(title, {}), airflow: outcomes.get(title, _UNKNOWN)}, airflows)
            for title in titles
        ),
    ]
    PAGE.write_text(_TABLE.sub("\n" + "\n".join(table) + "\n\n", page), encoding="utf-8")


def _row(title: str, outcomes: Mapping[str, str], airflows: Sequence[str]) -> str:
    return f"| {title} | {' | '.join(outcomes.get(each, _UNKNOWN) for each in airflows)} |"


def _read(table: str) -> Iterator[tuple[str, dict[str, str]]]:
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.strip().splitlines()]
    for title, *outcomes in lines[2:]:
        yield title, dict(zip(lines[0][1:], outcomes, strict=True))
