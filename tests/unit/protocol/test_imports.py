"""What modules import: DAG files are parsed all day, and the protocol needs neither Airflow nor sockets."""

from __future__ import annotations

import json
import subprocess
import sys
from pkgutil import walk_packages

from airflow_provider_tallyfy import protocol


def modules_after(*programs: str) -> list[set[str]]:
    """Run the programs one after the other in a new interpreter, and return the modules that are loaded after each."""
    show = "import json, sys; print(json.dumps(sorted(sys.modules)))\n"
    code = "".join(f"{program}\n{show}" for program in programs)
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    # Airflow may log in between.
    return [set(json.loads(line)) for line in shown.stdout.splitlines() if line.startswith('["')]


PROTOCOL = [
    protocol.__name__,
    *(module.name for module in walk_packages(protocol.__path__, f"{protocol.__name__}.")),
]


def test_protocol_imports_neither_airflow_nor_sockets():
    [loaded] = modules_after("\n".join(f"import {name}" for name in PROTOCOL))
    assert set(PROTOCOL) <= loaded
    banned = (
        "airflow",
        "requests",
        "urllib3",
        "httpx",
        "aiohttp",
        "asyncio",
        "socket",
        "_socket",
        "ssl",
        "http.client",
    )
    assert [name for name in banned if name in loaded] == []
    own = {name for name in loaded if name.startswith("airflow_provider_tallyfy")}
    assert own == {"airflow_provider_tallyfy", "airflow_provider_tallyfy.provider_info", *PROTOCOL}


BASES = """
from airflow.providers.common.compat.sdk import (
    AirflowException, BaseNotifier, BaseOperator, BaseOperatorLink, BaseSensorOperator, PokeReturnValue, SkipMixin,
    XCom, conf,
)
"""


def test_modules_of_dag_files_import_no_network():
    modules = {
        "airflow_provider_tallyfy.operators.tallyfy",
        "airflow_provider_tallyfy.sensors.tallyfy",
        "airflow_provider_tallyfy.notifications.tallyfy",
        "airflow_provider_tallyfy.transfers.tallyfy_to_object_storage",
    }
    before, after = modules_after(BASES, "\n".join(f"import {name}" for name in modules))
    added = after - before
    assert modules <= added
    network = {"requests", "urllib3", "httpx", "aiohttp", "fastapi", "starlette", "uvicorn"}
    assert not network & {name.split(".")[0] for name in added}
    assert not {"airflow_provider_tallyfy.hooks.tallyfy", "airflow_provider_tallyfy.metrics"} & added
    assert not [name for name in added if name.startswith("airflow_provider_tallyfy.sandbox")]
