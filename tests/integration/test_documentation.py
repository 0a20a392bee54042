"""The examples of the documentation are Python that Airflow takes, and the hook's runs against the sandbox."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator, dag, task

from airflow_provider_tallyfy.operators import tallyfy as operators
from airflow_provider_tallyfy.sandbox.server import SandboxServer
from airflow_provider_tallyfy.sensors import tallyfy as sensors

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/operators-and-sensors.md")
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks():
    for page in PAGES:
        text = (ROOT / page).read_text()
        for found in _BLOCK.finditer(text):
            line = text[: found.start()].count("\n") + 2
            yield pytest.param(found[1], id=f"{page}:{line}")


@pytest.fixture
def names():
    """What the page takes for granted: the imports, and the tasks around an example."""
    classes = {
        name: value
        for module in (operators, sensors)
        for name, value in vars(module).items()
        if name.startswith("Tallyfy")
    }
    with DAG(
        "documentation", schedule=None, params={"run_id": "", "customer": "", "checks": ""}
    ) as documented:

        @task
        def run_ids():
            return []

        @task
        def read_customers():
            return []

        around = {
            "read_run": operators.TallyfyGetRunOperator(task_id="read_run_before", run_id="r1"),
            "launch": operators.TallyfyLaunchRunOperator(task_id="launch_before", checklist_id="c1"),
            **{name: BaseOperator(task_id=name) for name in ("set_up_account", "tell_sales", "publish")},
        }
        times = {"UTC": UTC, "date": date, "datetime": datetime, "timedelta": timedelta}
        yield {
            **classes,
            **times,
            **around,
            "dag": dag,
            "task": task,
            "run_ids": run_ids,
            "read_customers": read_customers,
        }
    assert documented.tasks


@pytest.mark.parametrize("block", blocks())
def test_an_example_is_what_airflow_takes(block, names, monkeypatch):
    with SandboxServer() as sandbox:
        connection = {
            "conn_type": "tallyfy",
            "host": sandbox.base_url,
            "login": "sandbox",
            "password": "sandbox-token",
        }
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(connection))
        block = block.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
        exec(compile(block, "documentation", "exec"), names)  # noqa: S102 (our own documentation)
