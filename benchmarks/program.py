"""
What the benchmarks have in common: the arguments, the file of figures, and the page that shows them.

A benchmark consists of parts. The figures of each part are in ``docs/performance.json`` under its name, and its tables
in ``docs/performance.md`` between two comments with its name.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from dev.processes import exit_on_termination

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

JSON = dict[str, Any]
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
QUICK = ROOT / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Part:
    """
    Figures that are measured together.

    :param measure: returns the figures, as plain JSON. Its arguments are those of the command, and the figures that the
        file has, or ``None``.
    :param show: returns the lines of Markdown that show them
    :param draw: draws a plot of them into a file
    """

    measure: Callable[[argparse.Namespace, Any], Any]
    show: Callable[[Any], Iterable[str]]
    draw: Callable[[Any, Path], None] | None = None


def main(
    module: str,
    description: str | None,
    parts: Mapping[str, Part],
    add_arguments: Callable[[argparse.ArgumentParser], object] = lambda _: None,
    arguments: Sequence[str] | None = None,
) -> int:
    """
    Measure the parts of a benchmark, and write the figures, the page and the plots after each.

    :param module: its name, as for ``python -m``
    :param description: what it measures, for ``--help``
    :param parts: by their names, in the order in which they are measured
    :param add_arguments: adds the arguments that this benchmark alone takes
    :param arguments: of the command; by default those of this process
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    add_arguments(parser)
    parser.add_argument(
        "--only", choices=parts, nargs="+", default=list(parts), help="parts to measure (default: all)"
    )
    parser.add_argument("--quick", action="store_true", help="a short run that writes to build/bench/")
    parser.add_argument("--show", action="store_true", help="only write the page and the plots again")
    options = parser.parse_args(given)
    docs = QUICK if options.quick else DOCS
    (docs / "images").mkdir(parents=True, exist_ok=True)
    file = docs / "performance.json"
    results = _read(file)
    command = shlex.join(["python", "-m", module, *given])
    with exit_on_termination():
        for name in options.only:
            if not options.show:
                began_at, started = datetime.now(UTC), time.monotonic()
                known = results["parts"].get(name, {}).get("figures")
                figures = parts[name].measure(options, known)
                results = _read(file)  # another benchmark may have written meanwhile
                results["machine"] = machine()
                results["parts"][name] = {
                    "command": command,
                    "began_at": began_at.isoformat(timespec="seconds"),
                    "took_seconds": round(time.monotonic() - started),
                    "figures": figures,
                }
                file.write_text(json.dumps(results, indent=1) + "\n")
            if name in results["parts"]:
                _publish(name, parts[name], results, docs)
    return 0


def _read(file: Path) -> JSON:
    results: JSON = json.loads(file.read_text()) if file.exists() else {"parts": {}}
    return results


def _publish(name: str, part: Part, results: JSON, docs: Path) -> None:
    """Print the tables of a part, and put them into the page; draw its plot."""
    tables = markdown(part, results["parts"][name])
    print(f"\n{name}\n\n{tables}", flush=True)
    if part.draw is not None:
        part.draw(results["parts"][name]["figures"], docs / "images" / f"performance-{name}.png")
    if docs == DOCS:
        page = DOCS / "performance.md"
        text = replace_section(page.read_text(), name, tables)
        page.write_text(replace_section(text, "machine", describe_machine(results["machine"])))


def markdown(part: Part, result: Mapping[str, Any]) -> str:
    """Return the tables of a part, with the command that measures it."""
    minutes = max(1, round(result["took_seconds"] / 60))
    measured = f"Measured on {result['began_at'][:10]} by `{result['command']}` in {minutes} min."
    return "\n".join([*part.show(result["figures"]), measured])


def replace_section(page: str, name: str, text: str) -> str:
    """
    Put text into a page, in place of the text between the two comments of a section.

    :raises ValueError: the page does not have both comments once
    """
    begin, end = f"<!-- figures: {name} -->", f"<!-- end of figures: {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    replaced, count = pattern.subn(lambda _: f"{begin}\n\n{text}\n\n{end}", page)
    if count != 1:
        raise ValueError(f"The page has {count} sections {begin} … {end}.")
    return replaced


def table(headings: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Return a table as lines of Markdown: an integer with separators, and nothing for ``None``."""
    names = list(headings)
    return [
        f"| {' | '.join(names)} |",
        f"|{' --- |' * len(names)}",
        *(f"| {' | '.join(map(_cell, row))} |" for row in rows),
        "",
    ]


def _cell(value: object) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def summarize_latency(seconds: Sequence[float]) -> JSON:
    """Return median and worst of latencies as a figure, ``None`` if there are none."""
    return {
        "median": round(median(seconds), 2) if seconds else None,
        "worst": round(max(seconds), 2) if seconds else None,
    }


def show_latency(latency: Mapping[str, float | None]) -> str:
    """Return the cell of a table for such a figure."""
    return "none" if latency["median"] is None else f"{latency['median']:.1f} · {latency['worst']:.1f}"


def describe_machine(machine: Mapping[str, Any]) -> str:
    """Return what the figures were measured with."""
    packages = machine["packages"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; Python {machine['python']}, "
        f"Airflow {packages['apache-airflow']}, HTTP provider {packages['apache-airflow-providers-http']}."
    )


def progress(text: str) -> None:
    """Print what is done, with the time."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)
