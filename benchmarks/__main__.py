"""``python -m benchmarks``: measure, print the tables, write the JSON file, draw the picture."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from benchmarks import document, plot, report
from benchmarks.case import PLAIN, TLS, Case, measure, measure_idle
from benchmarks.contenders import HTTP, OURS, SLEEP
from benchmarks.crowd import CrowdCase, measure_crowd, measure_dag_size
from benchmarks.imports import measure_imports
from benchmarks.machine import machine
from dev.processes import exit_on_termination

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "performance.json"
DOCUMENT = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "images" / "performance.png"
SMOKE = ROOT / "build" / "bench"
WAITS = (1, 10, 100, 1_000, 5_000)
TRIGGERS = {"ours": OURS, "http": HTTP}
TRANSPORTS = {"tls": TLS, "plain": PLAIN}


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parse(given)
    # What it prints is kept in files, too: as wide as the table is.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 170)
    if options.show is not None:
        results = json.loads(options.show.read_text())
        report.show(console, results)
        plot.draw(results["cases"], options.picture)
        if options.show.resolve() == RESULTS:
            document.write(DOCUMENT, results)
        return 0
    if options.only_imports or options.only_crowd:
        results = json.loads(options.json.read_text())
        if options.only_imports:
            results["imports"] = _timed(console, "imports", measure_imports)
        if options.only_crowd:
            results["crowd"] = _measure_crowd(console, options)
        return _write(console, options, results)
    results = {
        "command": shlex.join(["python", "-m", "benchmarks", *given]),
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "settings": {name: getattr(options, name) for name in ("seconds", "interval", "spread")},
        "cases": [],
        "idle": [],
        "imports": None,
        "crowd": None,
    }
    began_at = time.monotonic()
    with exit_on_termination():
        _measure(console, options, results)
    results["took_seconds"] = round(time.monotonic() - began_at)
    return _write(console, options, results)


def _write(console: Console, options: argparse.Namespace, results: dict[str, Any]) -> int:
    """Keep the figures and show them; return the exit code."""
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=1) + "\n")
    report.show(console, results)
    plot.draw(results["cases"], options.picture)
    if options.json == RESULTS:
        document.write(DOCUMENT, results)
    console.print(f"Written: {options.json}, {options.picture}", soft_wrap=True)
    return 1 if any(case.get("failure") for case in results["cases"]) else 0


def _measure(console: Console, options: argparse.Namespace, results: dict[str, Any]) -> None:
    # The big cases come last: what they may leave to the system to clean up disturbs nobody then.
    cases = [
        Case(trigger, transport, waits, options.seconds, options.interval, options.spread)
        for waits in options.waits
        for transport in options.transports
        for trigger in options.triggers
    ]
    console.print(f"{len(cases)} cases, about {_estimate(cases, options):.0f} minutes")
    if options.imports:
        results["imports"] = _timed(console, "imports", measure_imports)
    for trigger in (SLEEP, *options.triggers) if options.idle else ():
        results["idle"].append(_timed(console, f"idle {trigger}", partial(measure_idle, trigger)))
    for case in cases:
        name = f"{case.contender}, {case.waits:,} over {case.transport}"
        results["cases"].append(_timed(console, name, partial(_attempt, case)))
    if options.crowd:
        results["crowd"] = _measure_crowd(console, options)


def _measure_crowd(console: Console, options: argparse.Namespace) -> dict[str, Any]:
    case = CrowdCase(options.crowd, options.crowd, seconds=options.seconds)
    figures = _timed(console, f"{case.waits:,} waits in a real triggerer", partial(measure_crowd, case))
    figures["dag_sizes"] = [
        _timed(console, f"a DAG of {sensors} sensors", partial(measure_dag_size, sensors))
        for sensors in (20, 300)
    ]
    return figures


def _attempt(case: Case) -> dict[str, Any]:
    """Measure a case; one that fails says why, and the others go on."""
    try:
        return measure(case)
    except Exception as error:  # noqa: BLE001 (an hour's figures are not to be lost by it)
        return {**asdict(case), "failure": "\n".join([repr(error), *getattr(error, "__notes__", ())])}


def _timed(console: Console, name: str, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    began_at = time.monotonic()
    result = act()
    console.print(f"  {name}: done in {time.monotonic() - began_at:.0f} s")
    return result


def _estimate(cases: Sequence[Case], options: argparse.Namespace) -> float:
    """Return the minutes that it takes, by experience: some seconds around each window, more for many waits."""
    seconds = sum(case.seconds + 4 + case.waits / 100 for case in cases)
    return float(seconds + 40 * options.imports + 75 * options.idle + options.crowd / 5) / 60


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--waits", type=int, nargs="+", default=WAITS, metavar="NUMBER", help="how many at once"
    )
    parser.add_argument(
        "--triggers", choices=TRIGGERS, nargs="+", default=list(TRIGGERS), help="default: both"
    )
    parser.add_argument(
        "--transports", choices=TRANSPORTS, nargs="+", default=list(TRANSPORTS), help="default: both"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the window (default: 60)")
    parser.add_argument(
        "--interval", type=float, default=10.0, help="seconds between two looks (default: 10)"
    )
    parser.add_argument(
        "--spread", type=float, default=0.0, help="seconds over which waits begin (default: all at once)"
    )
    parser.add_argument("--no-idle", dest="idle", action="store_false", help="leave out the idle waits")
    parser.add_argument("--no-imports", dest="imports", action="store_false", help="leave out the imports")
    parser.add_argument(
        "--only-imports",
        action="store_true",
        help="measure the imports alone, and put them in place of those that the file of figures has",
    )
    parser.add_argument(
        "--crowd",
        type=int,
        default=1000,
        metavar="NUMBER",
        help="waits that begin in a real triggerer, and as many that workers hand over (default: 1000; 0: none)",
    )
    parser.add_argument(
        "--only-crowd",
        action="store_true",
        help="measure the real triggerer alone, and put it in place of what the file of figures has",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: few waits, short windows")
    parser.add_argument("--json", type=Path, help="where the figures go (default: docs/performance.json)")
    parser.add_argument(
        "--picture", type=Path, help="where the picture goes (default: docs/images/performance.png)"
    )
    parser.add_argument(
        "--show", type=Path, metavar="JSON", help="measure nothing; show and draw these figures"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.waits, options.seconds, options.interval, options.idle = (1, 20), 4.0, 2.0, False
        options.crowd = min(options.crowd, 50)
    options.triggers = [TRIGGERS[name] for name in options.triggers]
    options.transports = [TRANSPORTS[name] for name in options.transports]
    # The figures of the documentation come from a whole run, never from a smoke run by accident.
    options.json = options.json or (SMOKE / "performance.json" if options.quick else RESULTS)
    options.picture = options.picture or (SMOKE / "performance.png" if options.quick else PICTURE)
    return options


if __name__ == "__main__":
    sys.exit(main())
