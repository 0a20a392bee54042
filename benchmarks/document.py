"""The figures as Markdown, put into ``docs/performance.md`` so that no one copies them by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.report import CROWD_HEADINGS, crowd_rows, crowd_title, dag_sizes, figures, machine, notes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

BEGIN = "<!-- The figures from here on are written by make bench. -->\n"
END = "<!-- The figures end here. -->\n"
_HEADINGS = (
    "waits",
    "trigger",
    "requests to begin",
    "in the window",
    "in all",
    "CPU s to begin",
    "in the window",
    "KiB per wait",
    "loop late ms, p50 · p99",
    "wake-up s, median · worst",
    "missed",
    "false",
)


def write(path: Path, results: Mapping[str, Any]) -> None:
    """Put the figures into the document, in place of those that stand there."""
    replace_between(path, BEGIN, END, markdown(results))


def replace_between(path: Path, begin: str, end: str, text: str) -> None:
    """Put a text between two lines of a document, in place of what stands there."""
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def markdown(results: Mapping[str, Any]) -> str:
    """Return the figures as tables."""
    return "\n".join(_lines(results))


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    cases = results["cases"]
    for transport in dict.fromkeys(case["transport"] for case in cases):
        yield f"### Over {transport}\n"
        yield from _table(
            _HEADINGS,
            (
                (f"{case['waits']:,}", f"`{case['contender']}`", *figures(case))
                for case in cases
                if case["transport"] == transport
            ),
        )
    for note in notes(cases):
        yield f"{note}\n"
    yield "### Idle waits\n"
    yield from _table(
        ("trigger", "KiB per wait"),
        (
            (
                f"`{each['contender']}`, {each['waits']:,} of them",
                f"{each['memory_bytes_per_wait'] / 1024:.1f}",
            )
            for each in results["idle"]
        ),
    )
    if crowd := results.get("crowd"):
        yield "### In a real triggerer\n"
        yield f"{crowd_title(crowd)} (`.venv/bin/python -m benchmarks --only-crowd` measures this alone).\n"
        yield from _table(CROWD_HEADINGS, crowd_rows(crowd))
        yield f"{dag_sizes(crowd)}\n"
    imports = results["imports"]
    yield "### Imports\n"
    yield (
        f"Beyond Airflow's own base classes, which take {imports['base_classes_ms']:,.0f} ms; compiled beforehand, as "
        "by an installation (`.venv/bin/python -m benchmarks --only-imports` takes these anew):\n"
    )
    yield from _table(
        ("module", "ms"),
        ((f"`{module}`", f"{milliseconds:.1f}") for module, milliseconds in imports["beyond_ms"].items()),
    )
    yield f"Measured on {results['began_at'][:10]} in {results['took_seconds'] / 60:.0f} minutes: {machine(results)}."


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    names = list(headings)
    yield f"| {' | '.join(names)} |"
    yield f"|{' --- |' * len(names)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
