"""Before any test imports Airflow: a home of its own, which goes when the tests end."""

from __future__ import annotations

import os
import shutil
import tempfile

_home = tempfile.mkdtemp(prefix="airflow-tests-")
os.environ["AIRFLOW_HOME"] = _home
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"


def pytest_unconfigure() -> None:
    shutil.rmtree(_home, ignore_errors=True)
