"""Measure what waits cost, beside the HTTP provider's trigger."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from benchmarks import crowd, waits
from benchmarks.imports import measure_imports
from benchmarks.program import Part, main, table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping


def _show_imports(imports: Mapping[str, Any]) -> Iterator[str]:
    yield f"Airflow's own base classes take {imports['base_classes_ms']:,.0f} ms; a module adds:\n"
    yield from table(
        ("module", "ms"), ((f"`{name}`", f"{time:.1f}") for name, time in imports["beyond_ms"].items())
    )


PARTS = {
    "imports": Part(lambda *_: measure_imports(), _show_imports),
    "idle": Part(waits.measure_idle, waits.show_idle),
    "waits": Part(waits.measure_waits, waits.show_waits, waits.draw_waits),
    "crowd": Part(crowd.measure_crowds, crowd.show_crowds),
    "dag_sizes": Part(crowd.measure_dag_sizes, crowd.show_dag_sizes),
}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--waits", type=int, nargs="+", default=waits.WAITS, metavar="NUMBER", help="how many at once"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the window (default: 60)")
    parser.add_argument(
        "--crowds",
        type=crowd.parse_crowd,
        nargs="+",
        default=crowd.CASES,
        metavar="DATABASE:WAITS",
        help="waits in a real triggerer (default: sqlite:2000 postgresql:2000 postgresql:5000)",
    )


if __name__ == "__main__":
    sys.exit(main("benchmarks", __doc__, PARTS, _add_arguments))
