"""
``python -m benchmarks.export``: what an export costs, beside a loop over pages with a request for each run.

The runs come from a small server in a process of its own, which makes each of them from its number: a sandbox with
100,000 runs of 50 answers would be busier than what it serves.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.document import replace_between
from benchmarks.machine import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

RESULTS = Path(__file__).parents[1] / "docs" / "export-performance.json"
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN = "<!-- The figures of exports from here on are written by make bench-export. -->\n"
END = "<!-- The figures of exports end here. -->\n"
RUNS = (1_000, 10_000, 100_000)
MOST_DETAILS = 10_000
"""More requests for one run each say nothing new, and take long."""
FIELDS = 50
CHECKLIST = "c" * 32
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
OURS, OURS_DETAILS, SCRIPT = "export", "export, list without answers", "pages, then each run"


def _fields(number: int | None) -> list[dict[str, Any]]:
    """Return the fields of a template's step, or with a run's answers."""
    fields: list[dict[str, Any]] = []
    for index in range(FIELDS):
        field: dict[str, Any] = {
            "id": f"{index:032x}",
            "alias": f"field_{index}",
            "label": f"Field {index}",
            "field_type": "text" if index % 5 else "textarea",
            "required": False,
        }
        if number is not None:
            field["value"] = f"Answer {index} of run {number}, " + "of some length " * (index % 5 == 0) * 10
        fields.append(field)
    return fields


@cache
def _shared_fields() -> str:
    """Return the answers of all runs, with the number of the run still to be put in."""
    return json.dumps(_fields(987654321))


def _run(number: int, *, with_answers: bool) -> str:
    changed = _BEGIN + timedelta(seconds=60 * (number * 7919 % 100_003))
    run: dict[str, Any] = {
        "id": f"{number:032x}",
        "increment_id": number,
        "name": f"Run {number}",
        "status": "active",
        "checklist_id": CHECKLIST,
        "prerun": {},
        "created_at": (_BEGIN + timedelta(seconds=number)).isoformat(),
        "last_updated": changed.isoformat(),
        "archived_at": None,
        "progress": {"complete": 1, "total": 2, "percent": 50},
    }
    text = json.dumps(run)
    if with_answers:
        answers = _shared_fields().replace("987654321", str(number))
        text = f'{text[:-1]}, "ko_form_fields": {{"data": []}}, "form_fields": {{"data": {answers}}}}}'
    return text


def _serve(connection: Connection, runs: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1
        requests = 0

        def do_GET(self) -> None:
            Handler.requests += 1
            url = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            body = _answer(url.path, query, runs).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    connection.send(server.server_address[1])
    server.serve_forever()


def _answer(path: str, query: dict[str, str], runs: int) -> str:
    parts = path.split("/organizations/acme/")[1].split("/")
    if parts[0] == "checklists":
        step = {"id": "5" * 32, "title": "Fill in", "captures": _fields(None)}
        return json.dumps({"data": {"id": CHECKLIST, "prerun": [], "steps": [step]}})
    if len(parts) > 1:
        task = {"id": f"t{parts[1]}", "title": "Fill in", "status": "completed"}
        answers = _shared_fields().replace("987654321", str(int(parts[1], 16)))
        task_text = f'{json.dumps(task)[:-1]}, "form_fields": {{"data": {answers}}}}}'
        if len(parts) == 3:
            return f'{{"data": [{task_text}]}}'
        return f'{{"data": {_run(int(parts[1], 16), with_answers=True)}}}'
    is_archive = query.get("status") == "archived" or "archived" in query
    total = 0 if is_archive else runs
    page, size = int(query.get("page", 1)), int(query.get("per_page", 10))
    numbers = range(total - (page - 1) * size, max(total - page * size, 0), -1)
    with_answers = "form_fields" in query.get("with", "")
    data = ",".join(_run(number, with_answers=with_answers) for number in numbers)
    total_pages = max(1, -(-total // size))
    pagination = {"total": total, "per_page": size, "current_page": page, "total_pages": total_pages}
    return f'{{"data": [{data}], "meta": {json.dumps({"pagination": pagination})}}}'


def _memory(key: str) -> float:
    """Return a figure of this process's memory in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def _export(url: str, folder: str, file_format: str, *, with_answers: bool) -> Callable[[], int]:
    os.environ["AIRFLOW_CONN_TALLYFY_DEFAULT"] = json.dumps(
        {
            "conn_type": "tallyfy",
            "host": f"{url}/api",
            "login": "acme",
            "password": "token",
            "extra": {"requests_per_hour": 0},
        }
    )
    from airflow_provider_tallyfy.export import records
    from airflow_provider_tallyfy.transfers.tallyfy_to_object_storage import TallyfyToObjectStorageOperator

    if not with_answers:
        records.WITH = {"runs": ()}
    task = TallyfyToObjectStorageOperator(
        task_id="export",
        path=f"file://{folder}",
        checklist_id=CHECKLIST,
        since="2000-01-01",
        file_format=file_format,
    )
    return lambda: int(task.execute({})["records"])


def _script(url: str, folder: str) -> Callable[[], int]:
    """Export as a script would that is written in ten minutes."""
    import requests

    session = requests.Session()
    session.trust_env = False
    root = f"{url}/api/organizations/acme"

    def run() -> int:
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            body = session.get(f"{root}/runs", params={"page": page, "per_page": 100}, timeout=60).json()
            found += body["data"]
            if page >= body["meta"]["pagination"]["total_pages"]:
                break
            page += 1
        rows = []
        for each in found:
            params = {"with": "form_fields"}
            run = session.get(f"{root}/runs/{each['id']}", params=params, timeout=60).json()["data"]
            answers = {field["alias"]: field["value"] for field in run.pop("form_fields")["data"]}
            rows.append({**run, **answers})
        with Path(folder, "runs.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        return len(rows)

    return run


def _measure(connection: Connection, kind: str, url: str, folder: str, file_format: str) -> None:
    requests = 0
    from requests import Session

    send = Session.send

    def counting(self: Session, *arguments: Any, **keywords: Any) -> Any:
        nonlocal requests
        requests += 1
        return send(self, *arguments, **keywords)

    Session.send = counting  # type: ignore[method-assign]
    ours = partial(_export, file_format=file_format, with_answers=kind == OURS)
    run = _script(url, folder) if kind == SCRIPT else ours(url, folder)
    if file_format == "parquet":
        import pyarrow.parquet  # noqa: F401
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins now
    before, began_at, cpu = _memory("VmRSS"), time.monotonic(), time.process_time()
    records = run()
    seconds = time.monotonic() - began_at
    connection.send(
        {
            "records": records,
            "requests": requests,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "peak_mib": round(_memory("VmHWM") - before),
        }
    )


@contextmanager
def _server(runs: int) -> Iterator[str]:
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_serve, args=(theirs, runs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def measure(kind: str, runs: int, file_format: str = "jsonl") -> dict[str, Any]:
    """Measure one export in a process of its own."""
    with _server(runs) as url, tempfile.TemporaryDirectory() as folder:
        ours, theirs = get_context("spawn").Pipe()
        arguments = (theirs, kind, url, folder, file_format)
        process = get_context("spawn").Process(target=_measure, args=arguments, daemon=True)
        process.start()
        theirs.close()
        figures = ours.recv()
        process.join()
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {"kind": kind, "runs": runs, "file_format": file_format, **figures, "mib": round(size / 2**20, 1)}


def markdown(results: dict[str, Any]) -> str:
    """Return the figures as a table."""
    lines = [
        "| runs | what | file | requests | seconds | CPU s | peak memory, MiB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {case['runs']:,} | {case['kind']} | {case['file_format']}, {case['mib']:,} MiB | {case['requests']:,} "
        f"| {case['seconds']:,} | {case['cpu_seconds']:,} | {case['peak_mib']:,} |"
        for case in results["cases"]
    ]
    made = results["machine"]
    lines += [
        "",
        f"Measured on {results['began_at'][:10]}: {made['processor']}, {made['cores']} cores, Python {made['python']}.",
    ]
    return "\n".join(lines)


def write(results: dict[str, Any]) -> None:
    """Put the figures into the documentation, in place of those that stand there."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    replace_between(DOCUMENT, BEGIN, END, f"{markdown(results)}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke run with few runs, which writes nothing"
    )
    options = parser.parse_args()
    results: dict[str, Any] = {
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "cases": [],
    }
    for runs in (200,) if options.quick else RUNS:
        cases = [(OURS, "jsonl"), (OURS, "parquet"), (SCRIPT, "csv")]
        if runs <= MOST_DETAILS:
            cases.append((OURS_DETAILS, "jsonl"))
        for kind, file_format in cases:
            case = measure(kind, runs, file_format)
            results["cases"].append(case)
            print(json.dumps(case), flush=True)
            if not options.quick:
                write(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
