"""The installed provider, as Airflow lists it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from airflow.cli.cli_parser import get_parser

from airflow_provider_tallyfy import __version__, get_provider_info

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[2] / "example_dags"
INFORMATION = get_provider_info()
KINDS = ("hooks", "operators", "sensors", "triggers")


@pytest.fixture
def airflow(capsys):
    """Run a command of Airflow's and return its rows."""

    def run(*arguments):
        parsed = get_parser().parse_args([*arguments, "--output", "json"])
        parsed.func(parsed)
        printed = capsys.readouterr().out
        return json.loads(printed[printed.index("[{") :])

    return run


def test_airflow_lists_the_provider(airflow):
    [found] = [
        row for row in airflow("providers", "list") if row["package_name"] == "airflow-provider-tallyfy"
    ]
    assert found["version"] == __version__


def test_airflow_lists_the_connection_type(airflow):
    [found] = [row for row in airflow("providers", "hooks") if row["connection_type"] == "tallyfy"]
    assert found["class"] == "airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook"
    assert found["conn_id_attribute_name"] == "tallyfy_conn_id"
    assert found["hook_name"] == "Tallyfy"


def test_airflow_lists_the_notifiers(airflow):
    found = {
        row.get("notification_class_name", row.get("class")) for row in airflow("providers", "notifications")
    }
    assert set(INFORMATION["notifications"]) <= found


@pytest.mark.parametrize(
    "module", [name for kind in KINDS for entry in INFORMATION[kind] for name in entry["python-modules"]]
)
def test_every_listed_module_can_be_imported(module):
    import_module(module)


def test_the_examples_are_parsed_without_errors_and_warnings_of_ours():
    program = f"""
import sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for path in sys.argv[1:]:
        exec(compile(open(path).read(), path, "exec"), {{"__name__": "example"}})
ours = ("{EXAMPLES}", "airflow_provider_tallyfy")
print("WARNED", [str(warned.message) for warned in caught if any(part in warned.filename for part in ours)])
"""
    paths = [str(path) for path in sorted(EXAMPLES.glob("*.py"))]
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "WARNED []"
