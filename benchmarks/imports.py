"""How long it takes to import what DAG files import, beyond what Airflow's own base classes take."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

OWN = (
    "airflow_provider_tallyfy.sensors.tallyfy",
    "airflow_provider_tallyfy.operators.tallyfy",
)
BESIDE = (
    "airflow.providers.http.sensors.http",
    "airflow.providers.http.operators.http",
)
_TIMES = 5
_PROGRAM = """
import sys, time
began = time.perf_counter()
from airflow.providers.common.compat.sdk import BaseHook, BaseOperator, BaseOperatorLink, BaseSensorOperator
base = time.perf_counter()
__import__(sys.argv[1])
print(base - began, time.perf_counter() - base)
"""


def measure_imports(modules: Sequence[str] = (*OWN, *BESIDE), times: int = _TIMES) -> dict[str, Any]:
    """Import each module in fresh interpreters, alone, and return the medians in milliseconds."""
    base: list[float] = []
    beyond: dict[str, list[float]] = {module: [] for module in modules}
    with TemporaryDirectory(prefix="tallyfy-bench-") as home:
        for number in range(times + 1):
            for module in modules:
                of_base, of_module = _import(module, home)
                if number:  # the first time compiles them, as an installation does
                    base.append(of_base)
                    beyond[module].append(of_module)
    return {
        "times": times,
        "base_classes_ms": _median(base),
        "beyond_ms": {module: _median(samples) for module, samples in beyond.items()},
    }


def _import(module: str, home: str) -> tuple[float, float]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, module],
        env={**environment, "AIRFLOW_HOME": home, "PYTHONPYCACHEPREFIX": f"{home}/compiled"},
        capture_output=True,
        text=True,
        check=True,
    )
    base, beyond = done.stdout.split()[-2:]
    return float(base), float(beyond)


def _median(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1000, 2)
