"""
``make release-check``: build what a release publishes into ``dist/``, and check it.

The version has a dated heading in CHANGELOG.md, and a tag (``TAG=v1.2.3``) names it. Wheel and sdist pass the checks of
``make check-wheel``, and both work in an empty environment.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_provider_tallyfy import __version__
from dev.wheel import ROOT, build_wheel
from dev.wheel import main as check_wheel

AIRFLOW = "3.3.2"
_SHOWN = f"""
from importlib.metadata import version
from airflow.providers_manager import ProvidersManager
import airflow_provider_tallyfy.operators.tallyfy, airflow_provider_tallyfy.sensors.tallyfy
assert version("airflow-provider-tallyfy") == "{__version__}"
assert ProvidersManager().hooks["tallyfy"].hook_name == "Tallyfy"
"""


def problems(tag: str | None, changelog: str) -> list[str]:
    """Return what keeps this version from being released."""
    found = []
    if tag is not None and tag != f"v{__version__}":
        found.append(
            f"The tag is {tag}, but the version is {__version__} (airflow_provider_tallyfy/__init__.py)."
        )
    if not re.search(rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md has no heading '## [{__version__}] - YYYY-MM-DD'.")
    return found


def check_installed(distribution: Path, folder: Path) -> None:
    """Install it beside Airflow alone, and check that Airflow finds the provider."""
    python = folder / "bin" / "python"
    uv = (sys.executable, "-m", "uv")
    subprocess.run((*uv, "venv", "--quiet", "--no-python-downloads", str(folder)), check=True)
    constraints = str(ROOT / "constraints" / f"airflow-{AIRFLOW}.txt")
    packages = (str(distribution), f"apache-airflow=={AIRFLOW}", "--constraint", constraints)
    subprocess.run((*uv, "pip", "install", "--quiet", "--python", str(python), *packages), check=True)
    environment = {"AIRFLOW_HOME": str(folder / "airflow"), "PATH": str(folder / "bin")}
    subprocess.run((str(python), "-c", _SHOWN), cwd=folder, env=environment, check=True, capture_output=True)
    print(f"{distribution.name}: installs beside Airflow {AIRFLOW}, which finds the provider")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make release-check", description=__doc__)
    parser.add_argument("--tag", help="the tag of the release, v and the version")
    tag = parser.parse_args().tag
    if found := problems(tag, (ROOT / "CHANGELOG.md").read_text()):
        print(*found, sep="\n", file=sys.stderr)
        if tag is not None:
            return 1
    if check_wheel() != 0:
        return 1
    for old in (ROOT / "dist").glob("*"):
        old.unlink()
    for kind in ("wheel", "sdist"):
        distribution = build_wheel(ROOT / "dist", kind=kind)
        with TemporaryDirectory(prefix="tallyfy-release-") as folder:
            check_installed(distribution, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
