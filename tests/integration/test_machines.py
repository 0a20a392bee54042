"""
A wait that begins on one machine, waits on a second, and ends on a third, which share nothing but what Airflow carries.

Each is a process of its own, with the provider as its wheel leaves it there without extras: no sandbox, no FastAPI, no
DAG files. Every write to a disk is detected.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import requests

import airflow_provider_tallyfy
from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from dev.sandbox import SandboxClient

MACHINE = """
import importlib.abc, json, os, sys

ABSENT = {"fastapi", "starlette", "uvicorn", "requests_mock", "dev", "tests"}
writes = []


class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def record(event, arguments):
    if event == "open":
        path, _, flags = arguments
        if not isinstance(path, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and path != os.devnull:
            writes.append([event, str(path)])
    elif event in ("os.mkdir", "os.rename", "os.symlink", "os.link", "sqlite3.connect"):
        writes.append([event, str(arguments[0])])


from airflow.providers.common.compat.sdk import BaseSensorOperator, TaskDeferred  # Airflow's own, and what it writes
from airflow.triggers.base import BaseTrigger
import airflow.serialization.serialized_objects  # with Airflow 3.0 a sensor needs it, and it FastAPI

for name in [name for name in sys.modules if name.partition(".")[0] in ABSENT]:
    del sys.modules[name]
sys.meta_path.insert(0, Absent())
sys.addaudithook(record)
job = json.load(sys.stdin)
if job.get("writes_a_file"):
    open("left-behind", "w").close()


class Store:
    get = job["kept"].get
    delete = job["kept"].pop

    def set(self, key, value, **_):
        job["kept"][key] = value


class TaskInstance:
    start_date = None

    def xcom_push(self, key, value):
        job["pushed"][key] = value

    def get_first_reschedule_date(self, context):
        return None


def sensor():
    from airflow_provider_tallyfy.sensors.tallyfy import TallyfyNextTaskSensor

    return TallyfyNextTaskSensor(task_id="wait", deferrable=True, poke_interval=1, **job["sensor"])


context = {"ti": TaskInstance(), "task_state_store": Store()}
match job["step"]:
    case "import":
        import importlib, pkgutil

        import airflow_provider_tallyfy

        names = pkgutil.walk_packages(airflow_provider_tallyfy.__path__, "airflow_provider_tallyfy.")
        job["imported"] = [importlib.import_module(module.name).__name__ for module in names]
    case "begin":
        try:
            sensor().execute(context)
        except TaskDeferred as deferred:
            job.update(trigger=deferred.trigger.serialize(), method=deferred.method_name, arguments=deferred.kwargs)
    case "wait":
        import asyncio, importlib

        path, arguments = job["trigger"]
        module, _, name = path.rpartition(".")
        kind = getattr(importlib.import_module(module), name)

        async def fire():
            return (await asyncio.wait_for(anext(kind(**arguments).run()), 30)).payload

        async def triggerer():
            return await asyncio.gather(*(fire() for _ in range(job.get("waits", 1))))

        job["event"], *others = asyncio.run(triggerer())
        assert all(event == job["event"] for event in others)
    case "end":
        arguments = {**(job["arguments"] or {}), "event": job["event"]}
        job["result"] = getattr(sensor(), job["method"])(context, **arguments)

import airflow_provider_tallyfy

job.update(writes=writes, place=airflow_provider_tallyfy.__file__, modules=sorted(sys.modules))
print("\\n" + json.dumps(job))
"""


@pytest.fixture
def machine(tmp_path):
    """Do one step of a wait on a machine that has never seen the ones before."""
    number = iter(range(10))

    def machine(step, job):
        place = tmp_path / f"machine-{next(number)}"
        for folder in ("home", "cwd", "temporary"):
            (place / folder).mkdir(parents=True)
        package = Path(airflow_provider_tallyfy.__file__).parent
        shutil.copytree(
            package,
            place / "wheel" / package.name,
            ignore=shutil.ignore_patterns("sandbox", "__pycache__"),
        )
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(place / "home"),
            "TMPDIR": str(place / "temporary"),
            "AIRFLOW_HOME": str(place / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_TALLYFY_DEFAULT": os.environ["AIRFLOW_CONN_TALLYFY_DEFAULT"],
            "PYTHONPATH": str(place / "wheel"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", MACHINE],
            input=json.dumps({"kept": {}, "pushed": {}, **job, "step": step}),
            capture_output=True,
            text=True,
            timeout=120,
            cwd=place / "cwd",
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        assert Path(result.pop("place")).is_relative_to(place)
        folders = ("home", "cwd", "temporary")
        left = [str(path.relative_to(place)) for name in folders for path in (place / name).rglob("*")]
        return {**result, "left": left}

    return machine


def test_a_wait_needs_no_disk_no_dag_file_and_no_extra(machine, sandbox):
    people = SandboxClient(sandbox.url)
    first = people.next_task(SEEDED_RUN_ID)
    begun = machine("begin", {"sensor": {"run_id": SEEDED_RUN_ID}})
    assert begun["trigger"][1]["from_task"] == first["id"]

    following = people.complete_next(SEEDED_RUN_ID)
    waited = machine("wait", {"trigger": begun["trigger"]})
    ended = machine(
        "end",
        {
            **{name: begun[name] for name in ("sensor", "method", "arguments", "kept")},
            "event": waited["event"],
        },
    )

    assert ended["result"]["from_task_id"] == first["id"]
    assert ended["result"]["next_task"]["id"] == following["id"]
    if AIRFLOW_V_3_3_PLUS:  # for a retry, if this is not recorded
        assert ended["kept"]["tallyfy_from_task"]["from_task_id"] == first["id"]
    for result in (begun, waited, ended):
        assert (result["writes"], result["left"]) == ([], [])
        assert not [name for name in result["modules"] if name.startswith("airflow_provider_tallyfy.sandbox")]


def test_waits_of_one_triggerer_share_requests_and_those_of_two_do_not(machine, sandbox):
    completed = SandboxClient(sandbox.url).tasks(SEEDED_RUN_ID)[0]["id"]
    trigger = TallyfyNextTaskTrigger(
        tallyfy_conn_id="tallyfy_default",
        run_id=SEEDED_RUN_ID,
        from_task=completed,
        poke_interval=60.0,
    )
    for number in (1, 2):
        machine("wait", {"trigger": trigger.serialize(), "waits": 5})
        stats = requests.get(f"{sandbox.url}/_sandbox/stats", timeout=10).json()
        assert (
            sum(row["count"] for row in stats["requests"]) == 2 * number
        )  # the run, and the task that was waited for


def test_every_module_can_be_imported_without_extras(machine, sandbox):
    result = machine("import", {})
    package = Path(airflow_provider_tallyfy.__file__).parent
    files = [
        path.relative_to(package.parent)
        for path in package.rglob("*.py")
        if "sandbox" not in path.relative_to(package).parts
    ]
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    assert {*result["imported"], package.name} == modules
    assert (result["writes"], result["left"]) == ([], [])


def test_writes_are_detected(machine, sandbox):
    result = machine("begin", {"sensor": {"run_id": SEEDED_RUN_ID}, "writes_a_file": True})
    assert (result["writes"], result["left"]) == ([["open", "left-behind"]], ["cwd/left-behind"])
