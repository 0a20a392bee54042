"""
The Python blocks of the documentation run: Airflow accepts the tasks, and the hook calls the sandbox.

A block that begins with ``# Before`` is code to migrate from. It runs too, unless it needs a package that is not
installed.
"""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, date, datetime, timedelta

import pytest
import requests
from airflow.providers.common.compat.sdk import DAG, BaseOperator, dag, task

from airflow_provider_tallyfy.exceptions import TallyfyConfigurationError
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.notifications import tallyfy as notifications
from airflow_provider_tallyfy.operators import tallyfy as operators
from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from airflow_provider_tallyfy.sensors import tallyfy as sensors
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from tests.unit.documentation.pages import PAGES, blocks, name_of


def examples():
    for page in PAGES:
        for line, block in blocks(page, "python"):
            yield pytest.param(block, id=f"{name_of(page)}:{line}")


@pytest.fixture
def names():
    """What the blocks leave out: the imports, and the tasks around an example."""
    classes = {
        name: value
        for module in (operators, sensors, notifications)
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
            **{
                name: BaseOperator(task_id=name)
                for name in ("set_up_account", "tell_sales", "publish", "page", "file_ticket", "tell_team")
            },
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
            "TallyfyHook": TallyfyHook,
            "requests": requests,
            "json": json,
            "notifier": notifications.TallyfyCommentNotifier(task_id="t1", content="Waiting."),
            "API": "https://tallyfy.test/api/organizations/acme",
            "HEADERS": {},
        }
    assert documented.tasks


def run_block(block, names):
    if "DeadlineAlert" not in block:
        block = block.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
    elif not hasattr(pytest.importorskip("airflow.sdk"), "DeadlineAlert"):
        pytest.skip("Airflow 3.1 and older have no deadlines in airflow.sdk")
    exec(compile(block, "documentation", "exec"), names)  # noqa: S102 (our own documentation)


@pytest.mark.parametrize("block", list(examples()))
def test_example_runs(block, names, sandbox):
    try:
        run_block(block, names)
    except ModuleNotFoundError as missing:
        if not block.startswith("# Before"):
            raise
        pytest.skip(f"the replaced package is not installed: {missing}")
    except (TallyfyConfigurationError, ValueError) as refused:
        if AIRFLOW_V_3_3_PLUS or not re.search("needs? Airflow|Only Airflow", str(refused)):
            raise
        pytest.skip(f"not on this Airflow: {refused}")


def define(names, function):
    """Run the example that defines a task, and return the task's function."""
    (block,) = (block for page in PAGES for _, block in blocks(page, "python") if f"def {function}(" in block)
    run_block(block, names)
    return names[function].function


def test_rename_keeps_members_and_groups(names, sandbox):
    groups = sandbox.change(lambda store: tuple(store.groups)[:1])
    people = {"users": (1002, 1003), "groups": groups}

    def assign(store):
        for name, value in people.items():
            setattr(store.runs[SEEDED_RUN_ID], name, value)

    sandbox.change(assign)
    define(names, "rename")(SEEDED_RUN_ID, "Release 2.4.1")
    run = sandbox.change(lambda store: store.runs[SEEDED_RUN_ID])
    assert (run.name, run.users, run.groups) == ("Release 2.4.1", *people.values())


def test_async_task_reads_process(names, sandbox):
    assert asyncio.run(define(names, "read_status")(SEEDED_RUN_ID)) == "active"


def test_teardown_archives_process(names, sandbox):
    (block,) = (
        block
        for page in PAGES
        for _, block in blocks(page, "python")
        if "as_teardown(setups=launch)" in block
    )
    run_block(block, names)
    archive, launch = names["archive"], names["launch"]
    assert archive.is_teardown
    assert launch.is_setup
    assert archive.trigger_rule == "all_done_setup_success"
    archive.endpoint = f"runs/{SEEDED_RUN_ID}"
    archive.execute({})
    assert sandbox.change(lambda store: store.runs[SEEDED_RUN_ID].archived_at) is not None
