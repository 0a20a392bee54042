"""
``make check-wheel``: build the wheel and check it.

It builds reproducibly, its metadata passes ``twine check --strict``, it holds the package and nothing else, and what
DAG files import is quick to import.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.imports import OWN, measure_imports

ROOT = Path(__file__).parents[1]
PACKAGE = "airflow_provider_tallyfy"
#: A moment in 2020, for the files of the second build to be of another day and another owner's umask.
_ANOTHER_DAY = 1_600_000_000


class BadWheelError(Exception):
    """The wheel fails a check."""


def tracked_files() -> list[str]:
    """Return the names of the existing files that git tracks or would add."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())


def build_wheel(to: Path, *, source: Path = ROOT, kind: str = "wheel") -> Path:
    """Build the wheel, or the ``sdist``, with the build backend that constraints/build.txt pins, and return it."""
    constraints = ROOT / "constraints" / "build.txt"
    command = (sys.executable, "-m", "uv", "build", "--quiet", f"--{kind}", "--out-dir", str(to))
    subprocess.run((*command, "--build-constraints", str(constraints), str(source)), check=True)
    [built] = to.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def check_reproducible(first: Path, folder: Path) -> None:
    """Build once more from files in another place, of another day and with other rights, and compare."""
    copy = folder / "elsewhere"
    for name in tracked_files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
        (copy / name).chmod(0o600)
        os.utime(copy / name, (_ANOTHER_DAY, _ANOTHER_DAY))
    second = build_wheel(folder / "second", source=copy)
    if _digest(first) != _digest(second):
        raise BadWheelError("Two builds of the same files differ.")


def check_contents(wheel: Path) -> int:
    """Check that the wheel holds the package's files and its metadata, and nothing else; return the number of files."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    [information] = {name.split("/")[0] for name in names if ".dist-info/" in name}
    metadata = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    wanted = {f"{information}/{name}" for name in metadata}
    wanted |= {name for name in tracked_files() if name.startswith(f"{PACKAGE}/")}
    if names != wanted:
        raise BadWheelError(f"Missing: {sorted(wanted - names)}. Unexpected: {sorted(names - wanted)}.")
    if f"{PACKAGE}/py.typed" not in names:
        raise BadWheelError("py.typed is missing, without which users get no types.")
    return len(names)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_with(*command: str) -> None:
    subprocess.run((sys.executable, "-m", *command), check=True)


def main() -> int:
    with TemporaryDirectory(prefix="tallyfy-wheel-") as temporary:
        folder = Path(temporary)
        wheel = build_wheel(folder / "dist")
        sdist = build_wheel(folder / "dist", kind="sdist")
        try:
            check_reproducible(wheel, folder)
            number = check_contents(wheel)
        except BadWheelError as error:
            print(f"{wheel.name} fails a check. {error}", file=sys.stderr)
            return 1
        _check_with("twine", "check", "--strict", str(wheel), str(sdist))
        _check_with("check_wheel_contents", str(wheel))
        print(f"{wheel.name}: {number} files, {wheel.stat().st_size / 1000:.0f} kB, SHA-256 {_digest(wheel)}")
    began = time.monotonic()
    imports = measure_imports(OWN, times=3)
    print(f"Imports, the median of {imports['times']}, measured in {time.monotonic() - began:.0f} s:")
    print(f"  {imports['base_classes_ms']:8.2f} ms  Airflow's own base classes")
    for module, milliseconds in imports["beyond_ms"].items():
        print(f"  {milliseconds:8.2f} ms  beyond them: {module}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
