"""Measure what an export costs, beside a script that reads the pages of the list and then each run."""

from __future__ import annotations

import csv
import gc
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_tallyfy.sandbox import listing, model
from airflow_provider_tallyfy.sandbox.access import TOKEN
from airflow_provider_tallyfy.sandbox.runs import launch
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION
from benchmarks.implementations import IMPLEMENTATIONS, OURS
from benchmarks.plot import draw
from benchmarks.processes import Process
from benchmarks.program import Part, main, progress, table
from benchmarks.server import running_server

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence
    from multiprocessing.connection import Connection

    from airflow_provider_tallyfy.sandbox.store import Store

JSON = dict[str, Any]
RUNS = (1_000, 10_000, 100_000)
MAX_DETAILS = 10_000
"""More requests for one run each take long, and show nothing new."""
FIELDS = 50
JSONL, PARQUET = "export to JSON Lines", "export to Parquet"
DETAILS, SCRIPT = "export, list without answers", "script: pages, then each run"


def fill(store: Store, runs: int) -> str:
    """Fill a sandbox with runs of one task with 50 answers; return the id of their template."""
    gc.disable()  # it would search millions of new objects for garbage, again and again
    user = next(iter(store.members.values()))
    types = [model.FieldType.TEXT if number % 5 else model.FieldType.TEXTAREA for number in range(FIELDS)]
    fields = [
        model.FormField(store.new_id(), f"field_{number}", f"Field {number}", field_type)
        for number, field_type in enumerate(types)
    ]
    step = model.Step(store.new_id(), "fill_in", "Fill in", 1, captures=fields)
    checklist = model.Checklist(store.new_id(), "Benchmark", "benchmark", store.now(), steps=[step])
    store.checklists[checklist.id] = checklist
    for number in range(runs):
        run = launch(store, user, checklist.id, name=f"Run {number}")
        [task] = run.tasks.values()
        task.taskdata = {
            field.id: f"Answer {index} of run {number}, {'of some length ' * (index % 5 == 0) * 10}"
            for index, field in enumerate(fields)
        }
    _sort_once()
    gc.freeze()
    gc.enable()
    return checklist.id


def _sort_once() -> None:
    """Sort the list of runs once: they do not change, and 100,000 take longer to sort than a page to export."""
    sort, kept = listing.runs, dict[tuple[str | None, ...], list[model.Run]]()

    def runs(store: Store, caller: model.Member, query: listing.Paging) -> list[model.Run]:
        key = tuple(map(query.given, ("status", "archived", "checklist_id", "sort")))
        if key not in kept:
            kept[key] = sort(store, caller, query)
        return kept[key]

    listing.runs = runs


def measure_kinds(kinds: Iterable[str], runs: int) -> list[JSON]:
    """Measure exports from a sandbox, each in a new process."""
    figures: list[JSON] = []
    with running_server() as (folder, server, users):
        checklist_id = server.call("change", fill, runs)
        for kind in kinds:
            progress(f"{runs:,} runs: {kind}")
            users.forget_requests()
            target = folder / f"export-{len(figures)}"
            target.mkdir()
            arguments = (kind, users.url, checklist_id, str(target))
            with Process("The export", _measure, arguments, folder / "export.out") as process:
                measured = process.call("measure")
            size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
            figures.append(
                {
                    "kind": kind,
                    "runs": runs,
                    **measured,
                    "requests": users.requests(),
                    "mib": round(size / 2**20, 1),
                }
            )
    return figures


def _measure(connection: Connection, arguments: tuple[str, str, str, str]) -> None:
    """Export when it is called to, and reply with the figures; the target of the process that is measured."""
    run = _script(*arguments[1:]) if arguments[0] == SCRIPT else _export(*arguments)
    connection.recv()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins now
    before, began_at, cpu = _memory("VmRSS"), time.monotonic(), time.process_time()
    records = run()
    connection.send(
        {
            "records": records,
            "seconds": round(time.monotonic() - began_at, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "peak_mib": round(_memory("VmHWM") - before),
        }
    )


def _memory(key: str) -> float:
    """Return a figure of this process's memory in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def _export(kind: str, url: str, checklist_id: str, folder: str) -> Callable[[], int]:
    os.environ |= {
        "AIRFLOW_HOME": str(Path(folder).with_name("airflow")),
        **IMPLEMENTATIONS[OURS].environment(url, None),
    }
    from airflow_provider_tallyfy.export import records
    from airflow_provider_tallyfy.transfers.tallyfy_to_object_storage import TallyfyToObjectStorageOperator

    if kind == DETAILS:
        records.WITH = {"runs": ()}
    if kind == PARQUET:
        import pyarrow.parquet  # noqa: F401
    task = TallyfyToObjectStorageOperator(
        task_id="export",
        path=f"file://{folder}",
        checklist_id=checklist_id,
        since="2000-01-01",
        file_format="parquet" if kind == PARQUET else "jsonl",
    )
    return lambda: int(task.execute({})["records"])


def _script(url: str, checklist_id: str, folder: str) -> Callable[[], int]:
    """Export as a script does that is written in ten minutes."""
    session = requests.Session()
    session.trust_env = False
    session.headers.update({"Authorization": f"Bearer {TOKEN}", "X-Tallyfy-Client": "APIClient"})
    root = f"{url}/api/organizations/{ORGANIZATION}/runs"

    def run() -> int:
        found: list[JSON] = []
        page = pages = 1
        while page <= pages:
            params: JSON = {"checklist_id": checklist_id, "page": page, "per_page": 100}
            body = session.get(root, params=params, timeout=60).json()
            found += body["data"]
            pages = body["meta"]["pagination"]["total_pages"]
            page += 1
        rows = []
        for each in found:
            params = {"with": "form_fields"}
            run = session.get(f"{root}/{each['id']}", params=params, timeout=60).json()["data"]
            answers = {field["alias"]: field["field_value"] for field in run.pop("form_fields")["data"]}
            rows.append({**run, **answers})
        with Path(folder, "runs.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        return len(rows)

    return run


def measure_exports(options: argparse.Namespace, _: Any) -> list[JSON]:
    """Measure all kinds of exports of each size."""
    figures = []
    for runs in (200,) if options.quick else options.runs:
        kinds = [JSONL, PARQUET, *((SCRIPT, DETAILS) if runs <= options.max_details else ())]
        figures += measure_kinds(kinds, runs)
    return figures


def show_exports(cases: Sequence[JSON]) -> list[str]:
    """Return the table of the exports."""
    return table(
        ("runs", "what", "requests", "seconds", "CPU s", "peak memory, MiB", "file, MiB"),
        (
            [case[name] for name in ("runs", "kind", "requests", "seconds", "cpu_seconds", "peak_mib", "mib")]
            for case in cases
        ),
    )


def draw_exports(cases: Sequence[JSON], path: Path) -> None:
    """Draw requests and memory by the number of runs."""
    kinds = dict.fromkeys(case["kind"] for case in cases)
    panels = {"Requests": "requests", "Peak memory (MiB)": "peak_mib"}
    draw(
        path,
        "runs",
        {
            title: {
                kind: [(case["runs"], case[name]) for case in cases if case["kind"] == kind] for kind in kinds
            }
            for title, name in panels.items()
        },
    )


PARTS = {"exports": Part(measure_exports, show_exports, draw_exports)}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", type=int, nargs="+", default=RUNS, metavar="NUMBER", help="runs in the sandbox"
    )
    parser.add_argument(
        "--max-details",
        type=int,
        default=MAX_DETAILS,
        metavar="NUMBER",
        help=f"runs up to which exports with a request for each run are measured (default: {MAX_DETAILS})",
    )


if __name__ == "__main__":
    sys.exit(main("benchmarks.export", __doc__, PARTS, _add_arguments))
