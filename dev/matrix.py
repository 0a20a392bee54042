"""
``make test-matrix``: tests of the built wheel in every supported Airflow, each in a new environment.

An environment starts as an existing Airflow, with the packages that were current at its release. The wheel is installed
into it, and the tests run from a copy of this repository without the package, so that they import the wheel.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from rich.console import Console

from dev import gate_table
from dev.processes import exit_on_termination
from dev.wheel import PACKAGE, build_wheel, tracked_files

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
#: Each Airflow with the Pythons that it allows, of those that the provider is made for.
AIRFLOWS: Mapping[str, tuple[str, ...]] = {
    "2.11.2": ("3.11", "3.12"),
    "3.0.6": ("3.11", "3.12"),
    "3.1.8": ("3.11", "3.12", "3.13"),
    "3.2.2": ("3.11", "3.12", "3.13"),
    "3.3.2": ("3.11", "3.12", "3.13"),
}
#: With --quick, all tests run on the oldest Airflow only that the Python allows. On the newest, `make test` and
#: `make test-production` run them.
NEWEST = list(AIRFLOWS)[-1]
_UV = (sys.executable, "-m", "uv")
_TABLE = re.compile(r"(?<=<!-- written by make test-matrix -->\n).*?(?=<!-- until here -->)", re.DOTALL)


class FailedError(Exception):
    """A check of a cell failed; the text is the end of its output."""


@dataclass(frozen=True)
class Cell:
    """One Airflow on one Python."""

    airflow: str
    python: str

    def __str__(self) -> str:
        return f"Airflow {self.airflow} on Python {self.python}"

    @property
    def constraints(self) -> Path:
        return ROOT / "constraints" / f"airflow-{self.airflow}.txt"


@dataclass
class Row:
    """The results of a cell's checks; without any, this machine does not have its Python."""

    cell: Cell
    results: dict[str, str] = field(default_factory=dict)
    gate_shapes: dict[str, str] = field(default_factory=dict)
    failed: bool = False


#: The checks, with their headings in the table.
CHECKS = {
    "install": "`pip install` moves nothing",
    "discovery": "found, and examples in `dag.test()`",
    "tests": "units and integration",
    "deferral": "deferral in a real Airflow",
}


class Environment:
    """
    A virtual environment for one cell.

    :param cell: the cell
    :param folder: where to make it
    :param tree: the repository without the package
    :param wheel: what to install
    """

    def __init__(self, cell: Cell, folder: Path, tree: Path, wheel: Path) -> None:
        self._cell = cell
        self._folder = folder
        self._tree = tree
        self._wheel = wheel
        self._python = folder / "bin" / "python"
        self._report = folder / "report.xml"

    def install(self) -> str:
        """Make the environment with Airflow alone, install the wheel as users do, and check what that changed."""
        self._uv("venv", "--quiet", "--no-python-downloads", "--python", self._cell.python, str(self._folder))
        airflow = f"apache-airflow=={self._cell.airflow}"
        self._install(airflow, "--constraint", str(self._cell.constraints))
        before = self._freeze()
        self._install(str(self._wheel))
        after = self._freeze()
        if moved := {name for name in before if after.get(name) != before[name]}:
            raise FailedError(f"The wheel moved {', '.join(sorted(moved))}.")
        if added := set(after) - set(before) - {"airflow-provider-tallyfy"}:
            raise FailedError(f"The wheel brought {', '.join(sorted(added))}.")
        with_tests = f"airflow-provider-tallyfy[test] @ {self._wheel.as_uri()}"
        self._install(with_tests, airflow, "--constraint", str(self._cell.constraints))
        self._check_that_the_wheel_is_used()
        return "yes"

    def discovery(self) -> str:
        """Let Airflow find the provider, and run the example DAGs."""
        examples = "tests/system/test_dag_test.py::test_example_succeeds"
        # With pytest-xdist, a whole Airflow would be started.
        return self._pytest("tests/system/test_installed_provider.py", examples)

    def tests(self) -> str:
        """Run the unit and integration tests."""
        return self._pytest("--numprocesses=2", "--dist=worksteal", "tests/unit", "tests/integration")

    def deferral(self) -> str:
        """Run DAGs whose sensors and gates are deferred in a real triggerer until users complete tasks."""
        return self._pytest("tests/system/test_every_airflow.py")

    def gates(self) -> str:
        """Run approvals in every shape of DAG in a real scheduler."""
        return self._pytest("tests/system/test_gate_shapes.py")

    @property
    def gate_shapes(self) -> dict[str, str]:
        """The results of the check of the gates, by shape."""
        return gate_table.read_report(self._report)

    def _check_that_the_wheel_is_used(self) -> None:
        shown = self._run(self._python, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)")
        if not shown.stdout.strip().startswith(str(self._folder)):
            raise FailedError(f"The tests would import {shown.stdout.strip()} in place of the wheel.")

    def _install(self, *arguments: str) -> None:
        self._uv("pip", "install", "--quiet", "--python", str(self._python), *arguments)

    def _freeze(self) -> dict[str, str]:
        lines = self._uv("pip", "freeze", "--quiet", "--python", str(self._python)).stdout.splitlines()
        return {re.split(r"==| @ ", line)[0]: line for line in lines}

    def _pytest(self, *arguments: str) -> str:
        always = ("--quiet", "-p", "no:cacheprovider", f"--junitxml={self._report}")
        self._run(self._python, "-m", "pytest", *always, *arguments)
        counts = ET.parse(self._report).getroot()[0].attrib  # noqa: S314 - written by pytest just now
        skipped = int(counts["skipped"])
        passed = f"{int(counts['tests']) - skipped} passed"
        return f"{passed}, {skipped} skipped" if skipped else passed

    def _uv(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(*_UV, *arguments)

    def _run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        path = os.pathsep.join([str(self._folder / "bin"), environment["PATH"]])
        done = subprocess.run(
            command,
            cwd=self._tree,
            env={**environment, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise FailedError("\n".join([*done.stdout.splitlines()[-60:], *done.stderr.splitlines()[-20:]]))
        return done


class Matrix:
    """
    All cells, with progress for the reader.

    :param cells: which
    :param everything: whether to run all tests in each, or on the oldest Airflow alone
    :param gates_only: whether to run only the shapes of gates
    """

    def __init__(self, cells: Iterable[Cell], *, everything: bool, gates_only: bool = False) -> None:
        self._cells = tuple(cells)
        self._everything = everything
        self._gates_only = gates_only
        self._console = Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    def run(self) -> Generator[Row]:
        """Yield the results of each cell, as soon as they are known."""
        with TemporaryDirectory(prefix="tallyfy-matrix-") as folder:
            tree = Path(folder, "tree")
            copy_without_the_package(tree)
            wheel = build_wheel(Path(folder, "dist"))
            self._say(f"Built {wheel.name}.")
            for cell in self._cells:
                yield self._run_cell(cell, Path(folder), tree, wheel)

    def _run_cell(self, cell: Cell, folder: Path, tree: Path, wheel: Path) -> Row:
        row = Row(cell)
        if not _has_python(cell.python):
            self._say(f"{cell}: not run, there is no Python {cell.python} here.")
            return row
        environment = Environment(cell, folder / "environment", tree, wheel)
        checks = {
            "install": environment.install,
            "discovery": environment.discovery,
            "tests": environment.tests,
            "deferral": environment.deferral,
            "gates": environment.gates,
        }
        if not self._everything and cell.airflow != oldest_on(cell.python):
            del checks["tests"], checks["deferral"], checks["gates"]
            if cell.airflow == NEWEST:
                del checks["discovery"]
        if self._gates_only:
            checks = {name: checks[name] for name in ("install", "gates")}
        try:
            for name, check in checks.items():
                row.results[name] = check()
                self._say(f"{cell}: {CHECKS.get(name, name)}: {row.results[name]}")
            if "gates" in row.results:
                row.gate_shapes = environment.gate_shapes
        except FailedError as error:
            row.failed = True
            row.results[name] = "**no**"
            self._console.print(str(error), markup=False)
            self._say(f"[red]{cell}: {CHECKS.get(name, name)}: no[/]")
        finally:
            shutil.rmtree(folder / "environment", ignore_errors=True)
        return row

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:6.1f} s[/]  {text}")


def copy_without_the_package(to: Path) -> None:
    """Copy the files that git tracks, without the package."""
    for name in tracked_files():
        if not name.startswith(f"{PACKAGE}/"):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def _has_python(version: str) -> bool:
    command = (*_UV, "python", "find", "--quiet", "--no-python-downloads", version)
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def lines_of(rows: Sequence[Row]) -> dict[Cell, str]:
    """Return the line of each row in Markdown."""
    return {
        row.cell: " | ".join(
            [
                f"| {row.cell.airflow} | {row.cell.python}",
                *(row.results.get(name, "not run") for name in CHECKS),
                "",
            ]
        ).rstrip()
        for row in rows
    }


def table(lines: Mapping[Cell, str]) -> Iterator[str]:
    """Yield the lines of the table in Markdown."""
    yield f"| Airflow | Python | {' | '.join(CHECKS.values())} |"
    yield "| --- | --- |" + " --- |" * len(CHECKS)
    for cell in all_cells():
        yield lines.get(cell, f"| {cell.airflow} | {cell.python} |" + " not run |" * len(CHECKS))


def write(lines: Mapping[Cell, str]) -> None:
    """Write the lines into the page; those of other cells stay as they are."""
    page = PAGE.read_text(encoding="utf-8")
    written = {
        cell: line
        for cell in all_cells()
        for line in page.splitlines()
        if line.startswith(f"| {cell.airflow} | {cell.python} |")
    }
    text = "\n".join(table({**written, **lines}))
    PAGE.write_text(_TABLE.sub(f"\n{text}\n\n", page), encoding="utf-8")


def oldest_on(python: str) -> str:
    """Return the oldest Airflow that a Python allows."""
    return next(airflow for airflow, pythons in AIRFLOWS.items() if python in pythons)


def all_cells() -> list[Cell]:
    return [Cell(airflow, python) for airflow, pythons in AIRFLOWS.items() for python in pythons]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.matrix", description=__doc__)
    parser.add_argument("--airflow", action="append", choices=AIRFLOWS, help="only this one; may be repeated")
    parser.add_argument("--python", action="append", help="only on this one, as 3.12; may be repeated")
    parser.add_argument("--quick", action="store_true", help="this Python only, all tests on the oldest only")
    parser.add_argument("--gates", action="store_true", help="run only the shapes of gates")
    parser.add_argument("--write", action="store_true", help="write the tables into the documentation")
    arguments = parser.parse_args()
    if arguments.quick and arguments.write:
        parser.error("--quick leaves checks out, so its lines are not to be written")
    if arguments.quick and not arguments.python:
        arguments.python = [f"{sys.version_info.major}.{sys.version_info.minor}"]
    cells = [
        cell
        for cell in all_cells()
        if cell.airflow in (arguments.airflow or [cell.airflow])
        and cell.python in (arguments.python or [cell.python])
    ]
    if not cells:
        parser.error(f"no Airflow is tried on Python {', '.join(arguments.python)}")
    rows = []
    matrix = Matrix(cells, everything=not arguments.quick, gates_only=arguments.gates)
    with exit_on_termination(), closing(matrix.run()) as coming:
        for row in coming:
            rows.append(row)
            # Immediately, so that a run that is ended early is not lost.
            if arguments.write and row.results and not arguments.gates:
                write(lines_of([row]))
            if arguments.write and row.gate_shapes:
                gate_table.write(row.cell.airflow, row.gate_shapes, list(AIRFLOWS))
    print("", *lines_of(rows).values(), sep="\n")
    return int(any(row.failed for row in rows) or not any(row.results for row in rows))


if __name__ == "__main__":
    sys.exit(main())
