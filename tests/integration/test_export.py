"""Exports from the sandbox's real server: full, incremental, interrupted, throttled, and with lists that lag."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import operator
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import duckdb
import jsonschema
import pyarrow.parquet as pq
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, Asset

from airflow_provider_tallyfy.exceptions import TallyfyServerError
from airflow_provider_tallyfy.export import client, exporter, records, staging
from airflow_provider_tallyfy.sandbox import listing as sandbox_listing
from airflow_provider_tallyfy.sandbox.model import FormField
from airflow_provider_tallyfy.sandbox.seeds import (
    COMPLETE_RUN_ID,
    ONBOARDING_CHECKLIST_ID,
    ONBOARDING_RUN_ID,
    RELEASE_CHECKLIST_ID,
    SEEDED_RUN_ID,
)
from airflow_provider_tallyfy.sandbox.server import SandboxServer
from airflow_provider_tallyfy.transfers.tallyfy_to_object_storage import TallyfyToObjectStorageOperator
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from dev.sandbox import SandboxClient
from tests.support.moved_time import MovedTime

ASSET = Asset("tallyfy_runs")
GUIDE = Path(__file__).parents[2] / "docs" / "export.md"
in_airflow_3_3 = pytest.mark.skipif(
    not AIRFLOW_V_3_3_PLUS, reason="the state of assets came with Airflow 3.3"
)


class Store(dict):
    """One of Airflow's state stores."""

    def set(self, key, value, **_):
        self[key] = json.loads(json.dumps(value))


class Exports:
    """A task that exports from the sandbox, in one DAG run after another."""

    def __init__(self, server, folder):
        self.folder = folder
        self.users = SandboxClient(server.url)
        self.asset_state = Store()
        self.of_tasks = {}

    def context(self, dag_run="scheduled__1", map_index=-1):
        ti = SimpleNamespace(dag_id="dag", task_id="export", run_id=dag_run, map_index=map_index)
        store = self.of_tasks.setdefault((dag_run, map_index), Store())
        context = {"ti": ti, "task_state_store": store}
        if AIRFLOW_V_3_3_PLUS:  # before, an asset cannot be a key either
            context["asset_state_store"] = {ASSET: self.asset_state}
        return context

    def run(self, dag_run="scheduled__1", *, map_index=-1, path=None, **arguments):
        if arguments.get("since") is None:
            arguments.setdefault("outlets", [ASSET])
        task = TallyfyToObjectStorageOperator(
            task_id="export", path=path or f"file://{self.folder}/runs", **arguments
        )
        return task.execute(self.context(dag_run, map_index))

    def everything(self, *arguments, **keywords):
        return self.run(*arguments, since="1970-01-01", **keywords)

    def launch(self, count, **body):
        body = {"count": count, "checklist_id": RELEASE_CHECKLIST_ID, "prerun": {}, **body}
        return self.users.control("POST", "/runs", body)["data"]

    def requests(self):
        counts = self.users.control("GET", "/stats")["routes"]
        self.users.control("DELETE", "/stats")
        return {row["path"].rpartition("{organization}/")[2]: row["count"] for row in counts}

    def fault(self, **fault):
        self.users.control("POST", "/faults", [fault])

    def end_faults(self):
        self.users.control("DELETE", "/faults")

    def touch(self, run_id):
        self.users.request("PUT", f"/runs/{run_id}", json={"name": f"changed {datetime.now(UTC)}"})

    def left(self):
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


def read(result):
    """Return the records of an export's files, after checking them against their schema."""
    found = []
    for name in result["paths"]:
        path = Path(name.removeprefix("file://"))
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        found += map(json.loads, content.splitlines())
    first = Path(result["paths"][0].removeprefix("file://"))
    schema = json.loads(Path(f"{first}.schema.json").read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    validator = kind(schema)
    for record in found:
        validator.validate(record)
    assert len(found) == result["records"]
    ids = [record["id"] for record in found]
    assert len(set(ids)) == len(ids)
    return {record["id"]: record for record in found}


@pytest.fixture
def clock(monkeypatch):
    """The clock of an export, whose pauses take no time."""
    clock = MovedTime()
    for made in (client.RetryingClient, exporter.Exporter):
        monkeypatch.setitem(made.__init__.__kwdefaults__, "clock", clock)
    return clock


@pytest.fixture
def exports(sandbox, tmp_path, clock):
    return Exports(sandbox, tmp_path)


def test_answers_are_columns(exports):
    result = exports.everything(checklist_id=ONBOARDING_CHECKLIST_ID)
    record = read(result)[ONBOARDING_RUN_ID]
    assert record["customer_name"] == "Globex"
    assert record["plan"] == "Business"
    assert record["modules"] == ["Reports"]
    assert record["other_values"] is None
    assert record["has_task_answers"] is True
    assert (result["since"], result["requests"]) == ("1970-01-01T00:00:00+00:00", 4)


@pytest.mark.parametrize("kind", ["runs", "tasks"])
def test_records_are_the_same_if_lists_have_no_answers(exports, monkeypatch, kind):
    exports.launch(7)
    with_answers = read(exports.everything(records=kind, checklist_id=RELEASE_CHECKLIST_ID))
    exports.requests()
    monkeypatch.setitem(records.WITH, kind, ())
    without = read(exports.everything("other", records=kind, checklist_id=RELEASE_CHECKLIST_ID))
    assert without == with_answers
    assert exports.requests()["runs/{id}/tasks"] == 9


def test_exports_tasks(exports):
    found = read(exports.everything(records="tasks", checklist_id=RELEASE_CHECKLIST_ID)).values()
    decided = next(
        each for each in found if each["run_id"] == COMPLETE_RUN_ID and each["alias"] == "approve_release"
    )
    assert (decided["is_approved"], decided["comment"], decided["status"]) == (
        True,
        "All checks passed.",
        "completed",
    )


def test_all_formats_have_the_same_records(exports, tmp_path):
    exports.launch(20)
    lines = read(exports.everything("1", path=f"{tmp_path}/x.jsonl.gz"))
    exports.everything("2", path=f"{tmp_path}/x.csv", file_format="csv")
    exports.everything("3", path=f"file://{tmp_path}/x.parquet", file_format="parquet")
    with Path(tmp_path, "x.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    table = {row["id"]: row for row in pq.read_table(tmp_path / "x.parquet").to_pylist()}
    assert rows.keys() == table.keys() == lines.keys()
    for run_id, record in lines.items():
        assert (rows[run_id]["version"] or None) == record["version"] == table[run_id]["version"]
        modules = json.loads(rows[run_id]["modules"] or "null")
        assert modules == record["modules"] == table[run_id]["modules"]
        assert datetime.fromisoformat(record["created_at"]) == table[run_id]["created_at"]
        assert rows[run_id]["name"] == record["name"] == table[run_id]["name"]


def test_splits_files_and_replaces_only_its_own(exports, tmp_path):
    exports.launch(22)
    path = f"file://{tmp_path}/runs.jsonl"
    first = exports.everything("a", path=path, max_records_per_file=10)
    assert [Path(name).name for name in first["paths"]] == [
        "runs.jsonl",
        "runs-00002.jsonl",
        "runs-00003.jsonl",
    ]
    assert len(read(first)) == 25
    assert exports.left() == [*(sorted(Path(name).name for name in first["paths"])), "runs.jsonl.schema.json"]

    with pytest.raises(AirflowFailException, match=r"runs.*\.jsonl exists, and another task instance"):
        exports.everything("b", path=path)
    again = exports.everything("a", path=path, max_records_per_file=20)
    assert exports.left() == ["runs-00002.jsonl", "runs.jsonl", "runs.jsonl.schema.json"]
    assert read(again) == read(exports.everything("b", path=path, overwrite=True))


def test_same_interval_has_the_same_records(exports):
    exports.launch(5)
    interval = {
        "since": datetime.now(UTC) - timedelta(days=3),
        "until": datetime.now(UTC) - timedelta(minutes=5),
    }
    first = exports.run(**interval)
    assert [*read(first)] == [SEEDED_RUN_ID]
    files = {name: Path(name.removeprefix("file://")).read_bytes() for name in first["paths"]}
    again = exports.run(**interval)
    assert {name: Path(name.removeprefix("file://")).read_bytes() for name in again["paths"]} == files
    assert "runs-export-2" in first["paths"][0]


@pytest.mark.parametrize("seconds", [-20, 300])
def test_waits_for_lists_that_lag_if_the_interval_has_just_ended(exports, clock, seconds):
    """Also if the worker's clock is behind the scheduler's."""
    exports.run(since="1970-01-01", until=datetime.now(UTC) + timedelta(seconds=seconds))
    assert 50 + seconds < sum(clock.pauses) <= 60 + seconds


@in_airflow_3_3
def test_next_load_has_what_changed(exports):
    exports.launch(250)
    first = exports.run("1")
    assert (first["since"], first["records"]) == (None, 253)
    launched = exports.launch(2)
    exports.touch(SEEDED_RUN_ID)
    second = exports.run("2")
    assert second["since"] == first["until"]
    assert read(second).keys() == {*launched, SEEDED_RUN_ID}
    assert exports.run("3")["records"] == 0


@in_airflow_3_3
@pytest.mark.parametrize("hours", [-1, 1])
def test_next_load_begins_by_tallyfys_clock(exports, monkeypatch, hours):
    worker_clock = lambda: datetime.now(UTC) + timedelta(hours=hours)  # noqa: E731
    monkeypatch.setitem(exporter.Exporter.__init__.__kwdefaults__, "now", worker_clock)
    until = datetime.fromisoformat(exports.run("1")["until"])
    assert abs(datetime.now(UTC) - until) < timedelta(minutes=1)


@in_airflow_3_3
@pytest.mark.parametrize("is_honoured", [True, False])
def test_incremental_load_stops_early_only_if_the_list_is_in_order_of_change(
    exports, monkeypatch, is_honoured
):
    """No source says that Tallyfy sorts by the last change; it may."""
    if is_honoured:
        order = operator.attrgetter("last_updated")
        monkeypatch.setitem(sandbox_listing._RUN_ORDERS, "last_updated", order)
    ids = exports.launch(60)
    for run_id in sorted(ids)[:30]:
        exports.touch(run_id)
    assert exports.run("1", page_size=20)["records"] == 63
    exports.requests()
    changed = sorted(ids)[-3:]
    for run_id in changed:
        exports.touch(run_id)
    assert read(exports.run("2", page_size=20, overlap=0)).keys() == set(changed)
    # Two of them about archived runs.
    assert exports.requests()["runs"] == (3 if is_honoured else 7)


@in_airflow_3_3
def test_next_load_has_answered_archived_and_restored_runs(exports):
    exports.run("1", checklist_id=RELEASE_CHECKLIST_ID)
    exports.users.complete_next(SEEDED_RUN_ID)
    second = read(exports.run("2", checklist_id=RELEASE_CHECKLIST_ID))
    assert second[SEEDED_RUN_ID]["tasks_complete"] == 2
    exports.users.archive(SEEDED_RUN_ID)
    archived = read(exports.run("3", checklist_id=RELEASE_CHECKLIST_ID))[SEEDED_RUN_ID]
    assert archived["archived_at"]
    assert archived["has_task_answers"] is False
    exports.users.request("PUT", f"/runs/{SEEDED_RUN_ID}/activate")
    restored = read(exports.run("4", checklist_id=RELEASE_CHECKLIST_ID))[SEEDED_RUN_ID]
    assert (restored["archived_at"], restored["has_task_answers"]) == (None, True)
    exports.users.archive(SEEDED_RUN_ID)
    exports.users.delete(SEEDED_RUN_ID)
    assert SEEDED_RUN_ID not in read(exports.run("5", checklist_id=RELEASE_CHECKLIST_ID))


@in_airflow_3_3
def test_the_documented_queries_find_the_last_state_of_each_run_in_duckdb(exports):
    [recipe] = re.findall(r"`(select \* from read_parquet\(.*\))`", GUIDE.read_text())
    [query] = re.findall(r"```sql\n(select .*?)```", GUIDE.read_text(), re.DOTALL)

    def load(dag_run):
        exports.run(dag_run, checklist_id=RELEASE_CHECKLIST_ID, file_format="parquet")

    exports.launch(3)
    load("1")
    exports.users.complete_next(SEEDED_RUN_ID)
    exports.touch(COMPLETE_RUN_ID)
    load("2")
    exports.users.complete_next(SEEDED_RUN_ID)
    exports.users.archive(COMPLETE_RUN_ID)
    exports.launch(1)
    load("3")
    with duckdb.connect() as database:
        files = recipe.replace("s3://bucket/folder", f"{exports.folder}/runs")
        database.sql(f"create view tallyfy_onboarding as {files}")
        [(records,)] = database.sql("select count(*) from tallyfy_onboarding").fetchall()
        found = (
            database.sql(query)
            .project("id, name, archived_at is not null, tasks_complete, comment")
            .fetchall()
        )
    parameters = {"checklist_id": RELEASE_CHECKLIST_ID, "archived": "true", "per_page": "100"}
    now = exports.users.request("GET", "/runs", params=parameters)
    assert records == 5 + 2 + 3
    assert sorted(row[:4] for row in found) == sorted(
        (run["id"], run["name"], run["archived_at"] is not None, run["progress"]["complete"]) for run in now
    )
    assert {row[0]: row[4] for row in found}[SEEDED_RUN_ID] == "Looks good to me."


@in_airflow_3_3
@pytest.mark.parametrize(
    "other",
    [{"checklist_id": ONBOARDING_CHECKLIST_ID}, {"filters": {"status": "active"}}, {"records": "tasks"}],
)
def test_loads_everything_if_the_selection_changes(exports, other):
    exports.run("1", checklist_id=RELEASE_CHECKLIST_ID)
    first = exports.run("2", **other)
    assert first["since"] is None
    assert first["records"]
    assert exports.run("3", **other)["since"] == first["until"]


@in_airflow_3_3
def test_loads_everything_if_a_task_is_corrected_and_cleared(exports):
    exports.run("1", checklist_id=RELEASE_CHECKLIST_ID)
    exports.fault(path="/runs", action="status", status=503, times=None)
    with pytest.raises(TallyfyServerError):
        exports.run("2", checklist_id=RELEASE_CHECKLIST_ID)
    exports.end_faults()
    assert [*read(exports.run("2", checklist_id=ONBOARDING_CHECKLIST_ID))] == [ONBOARDING_RUN_ID]


@in_airflow_3_3
def test_cleared_task_loads_its_own_interval_again(exports):
    exports.run("1")
    exports.touch(SEEDED_RUN_ID)
    second = exports.run("2")
    exports.touch(ONBOARDING_RUN_ID)
    third = exports.run("3")
    state = json.loads(json.dumps(exports.asset_state))
    exports.touch(COMPLETE_RUN_ID)
    for _ in ("cleared", "cleared again"):
        again = exports.run("2")
        assert (again["paths"], again["since"]) == (second["paths"], second["since"])
        assert SEEDED_RUN_ID in read(again)
        assert COMPLETE_RUN_ID not in read(again)
        assert exports.asset_state == state
    assert exports.run("4")["since"] == third["until"]


@in_airflow_3_3
def test_failed_load_keeps_the_state_and_a_lagging_list_misses_nothing(exports):
    exports.run("1")
    state = dict(exports.asset_state)
    exports.fault(path="/runs", action="status", status=503, times=None)
    with pytest.raises(TallyfyServerError):
        exports.run("2")
    assert exports.asset_state == state
    exports.end_faults()
    exports.users.behave(list_lag=30)
    exports.touch(SEEDED_RUN_ID)
    assert SEEDED_RUN_ID not in read(exports.run("2"))
    exports.users.advance_clock(31)
    assert SEEDED_RUN_ID in read(exports.run("3"))


@in_airflow_3_3
def test_full_every_loads_everything_again(exports):
    exports.run("1")
    again = exports.run("2", full_every=0)
    assert (again["since"], again["records"]) == (None, 3)


@pytest.mark.parametrize("is_killed", [False, True])
def test_retry_continues_where_the_previous_attempt_stopped(exports, monkeypatch, is_killed):
    monkeypatch.setattr(staging, "MAX_RECORDS", 20)
    flush = staging.Staging.flush
    if is_killed:  # what was not yet in a segment is lost
        monkeypatch.setattr(
            staging.Staging,
            "flush",
            lambda self, position: flush(self, position) if len(self._lines) == 20 else None,
        )
    exports.launch(100)
    monkeypatch.setitem(records.WITH, "runs", ())
    exports.fault(path="/tasks", action="status", status=503, times=None, after=63)
    with pytest.raises(TallyfyServerError):
        exports.everything(checklist_id=RELEASE_CHECKLIST_ID)
    assert [name for name in exports.left() if not name.startswith("runs/.tallyfy-export-")] == []
    exports.end_faults()
    exports.requests()
    monkeypatch.setattr(staging.Staging, "flush", flush)
    launched = exports.launch(1)
    result = exports.everything(checklist_id=RELEASE_CHECKLIST_ID)
    assert exports.requests()["runs/{id}/tasks"] <= 102 - (60 if is_killed else 63) + 1
    assert len(read(result).keys() - set(launched)) == 102
    assert len(exports.left()) == 2


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_retry_has_the_columns_of_the_first_attempt_if_the_template_changes(exports, sandbox, file_format):
    options = {"checklist_id": RELEASE_CHECKLIST_ID, "file_format": file_format}
    exports.launch(150)
    exports.fault(path="page=2", action="status", status=503, times=None)
    with pytest.raises(TallyfyServerError):
        exports.everything(**options)
    exports.end_faults()
    added = FormField("added", "added", "Added", "text")
    sandbox.change(lambda store: store.checklists[RELEASE_CHECKLIST_ID].prerun.append(added))
    for has_new_column in (False, True):  # a cleared task begins again
        result = exports.everything(**options)
        [path] = result["paths"]
        table = duckdb.sql(f"from '{path.removeprefix('file://')}'")
        assert (len(table), result["records"]) == (152, 152)
        assert ("added" in table.columns) is has_new_column


def test_filters_may_hold_a_time(exports):
    created_after = datetime(2026, 1, 1, tzinfo=UTC)
    assert exports.everything(filters={"created_after": created_after})["records"] == 3


def test_retry_completes_an_interrupted_move_of_the_files(exports, monkeypatch):
    exports.launch(22)
    move = staging.Folder.move
    moved = []

    def break_off(folder, name, target, new_name):
        if new_name.endswith(".jsonl") and len(moved) == 1:
            raise SystemExit(137)
        moved.append(new_name) if new_name.endswith(".jsonl") else None
        move(folder, name, target, new_name)

    monkeypatch.setattr(staging.Folder, "move", break_off)
    with pytest.raises(SystemExit):
        exports.everything(max_records_per_file=10)
    monkeypatch.setattr(staging.Folder, "move", move)
    exports.requests()
    result = exports.everything(max_records_per_file=10)
    assert len(read(result)) == 25
    assert "runs" not in exports.requests()
    assert len(exports.left()) == 4


def test_attempt_writes_nothing_after_another_one_continued(exports, monkeypatch):
    """Airflow starts another attempt if it does not hear from a worker, which may still run for a moment."""
    monkeypatch.setattr(staging, "MAX_RECORDS", 20)
    fetch = exporter.fetch_page
    others = []

    def let_a_retry_be_faster(hook, number, params):
        if number == 2 and not others:
            others.append("started")
            others.append(exports.everything())
        return fetch(hook, number, params)

    monkeypatch.setattr(exporter, "fetch_page", let_a_retry_be_faster)
    exports.launch(150)
    with pytest.raises(RuntimeError, match="another attempt"):
        exports.everything()
    assert len(read(others[1])) == 153
    monkeypatch.setattr(exporter, "fetch_page", fetch)
    assert len(read(exports.everything())) == 153
    assert len(exports.left()) == 2


def test_retry_after_an_interrupted_deletion_of_the_staging_folder(exports, monkeypatch):
    monkeypatch.setattr(staging, "MAX_RECORDS", 10)
    exports.launch(30)
    remove_all = staging.Folder.remove_all

    def break_off(folder):
        if segments := list(Path(folder.path).glob("segment-*")):
            segments[0].unlink()
            raise SystemExit(137)

    monkeypatch.setattr(staging.Folder, "remove_all", break_off)
    with pytest.raises(SystemExit):
        exports.everything()
    monkeypatch.setattr(staging.Folder, "remove_all", remove_all)
    assert len(read(exports.everything())) == 33
    assert len(exports.left()) == 2


def test_concurrent_exports_to_one_file_do_not_replace_each_other(exports, tmp_path, monkeypatch):
    path = f"file://{tmp_path}/runs.jsonl"
    collect = exporter.Exporter._collect
    others = []

    def let_another_be_faster(*arguments):
        if not others:
            others.append("other")
            others.append(read(exports.everything("other", path=path, checklist_id=ONBOARDING_CHECKLIST_ID)))
        return collect(*arguments)

    monkeypatch.setattr(exporter.Exporter, "_collect", let_another_be_faster)
    with pytest.raises(AirflowFailException, match="another task instance wrote it"):
        exports.everything("one", path=path, checklist_id=RELEASE_CHECKLIST_ID)
    assert others[1].keys() == {ONBOARDING_RUN_ID}
    assert [json.loads(line)["id"] for line in Path(tmp_path, "runs.jsonl").read_bytes().splitlines()] == [
        ONBOARDING_RUN_ID
    ]


def test_mapped_tasks_write_different_files(exports):
    interval = {"since": "2020-01-01", "until": datetime.now(UTC) - timedelta(minutes=5)}
    one, two = (exports.run(map_index=index, **interval)["paths"] for index in (0, 1))
    assert not set(one) & set(two)


def test_overwrite_deletes_the_files_of_a_longer_export(exports, tmp_path):
    exports.launch(22)
    path = f"file://{tmp_path}/runs.jsonl"
    exports.everything("a", path=path, max_records_per_file=10)
    exports.everything("b", path=path, overwrite=True, max_records_per_file=20)
    assert exports.left() == ["runs-00002.jsonl", "runs.jsonl", "runs.jsonl.schema.json"]


def test_no_schema_file_while_files_are_replaced(exports, monkeypatch):
    exports.everything()
    move = staging.Folder.move

    def break_off(folder, name, target, new_name):
        move(folder, name, target, new_name)
        if new_name.endswith(".jsonl"):
            raise SystemExit(137)

    monkeypatch.setattr(staging.Folder, "move", break_off)
    with pytest.raises(SystemExit):
        exports.everything()
    assert not [name for name in exports.left() if name.endswith("schema.json")]
    monkeypatch.setattr(staging.Folder, "move", move)
    assert len(read(exports.everything())) == 3
    assert len(exports.left()) == 2


def test_retry_with_another_organization_starts_again(exports, monkeypatch):
    exports.launch(150)
    exports.fault(path="page=2", action="status", status=503, times=None)
    with pytest.raises(TallyfyServerError):
        exports.everything()
    exports.end_faults()
    with SandboxServer() as other:
        described = json.loads(os.environ["AIRFLOW_CONN_TALLYFY_DEFAULT"])
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps({**described, "host": other.base_url}))
        assert len(read(exports.everything())) == 3


def test_retry_with_another_request_starts_again(exports):
    exports.fault(path="page=2", action="status", status=503, times=None)
    exports.launch(150)
    with pytest.raises(TallyfyServerError):
        exports.everything(checklist_id=RELEASE_CHECKLIST_ID)
    exports.end_faults()
    assert [*read(exports.everything(checklist_id=ONBOARDING_CHECKLIST_ID))] == [ONBOARDING_RUN_ID]
    assert len(exports.left()) == 2


def test_waits_out_many_429s(exports, clock):
    exports.launch(150)
    exports.fault(path="/runs", action="status", status=429, headers={"Retry-After": "90"}, times=5)
    assert exports.everything()["records"] == 153
    assert sum(clock.pauses) >= 5 * 90


def test_outage_fails_the_task_after_an_hour(exports, clock):
    exports.fault(path="/runs", action="drop", times=None)
    with pytest.raises(Exception, match="GET"):
        exports.everything()
    assert 3000 < sum(clock.pauses) <= client.MAX_OUTAGE


def test_requests_stay_within_the_budget(exports, clock):
    exports.launch(500)
    exports.everything(requests_per_hour=20, page_size=20)
    # 26 pages, two requests about archived runs, and a burst of four.
    assert sum(clock.pauses) > 20 * 3600 / 20


def test_the_log_says_what_is_exported(exports, caplog, monkeypatch):
    monkeypatch.setattr(TallyfyToObjectStorageOperator, "log", logging.getLogger("export-under-test"))
    caplog.set_level(logging.INFO)
    exports.run(since="2026-01-01", until="2026-01-02T03:00", checklist_id=RELEASE_CHECKLIST_ID)
    bounds = "changed since 2026-01-01 00:00:00 UTC, changed before 2026-01-02 03:00:00 UTC"
    assert f"Exporting runs of template {RELEASE_CHECKLIST_ID}, {bounds}" in caplog.messages


def test_progress_is_logged_every_half_minute(exports, clock, caplog, monkeypatch):
    monkeypatch.setattr(TallyfyToObjectStorageOperator, "log", logging.getLogger("export-under-test"))
    caplog.set_level(logging.INFO)
    exports.launch(60)
    exports.everything(requests_per_hour=20, page_size=5)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Read ")]
    assert len(lines) >= 20
    assert "requests" in lines[5]
    assert "to go" in lines[5]


def test_runs_that_change_while_the_list_is_read_are_exported_once(exports, monkeypatch):
    ids = exports.launch(60)
    fetch = exporter.fetch_page
    pages = []

    def change_and_fetch(hook, number, params):
        pages.append(number)
        exports.users.archive(ids[len(pages)])
        exports.touch(ids[-len(pages)])
        exports.launch(1)
        return fetch(hook, number, params)

    monkeypatch.setattr(exporter, "fetch_page", change_and_fetch)
    found = read(exports.everything(page_size=10))
    assert found.keys() >= {*ids, SEEDED_RUN_ID}


def test_mapped_task_needs_since(exports):
    if AIRFLOW_V_3_3_PLUS:
        with pytest.raises(AirflowFailException, match="mapped"):
            exports.run(map_index=0)
    one, two = (exports.everything(map_index=index)["paths"] for index in (0, 1))
    assert one != two


def test_object_storage_without_folders(exports, object_store):
    path = "memory://bucket/tallyfy [1] *"
    exports.launch(22)
    exports.fault(path="/runs[?].*page=2", action="status", status=503, times=None)
    with pytest.raises(TallyfyServerError):
        exports.everything(path=path, page_size=10)
    exports.end_faults()
    result = exports.everything(path=path, page_size=10, max_records_per_file=10)
    paths = [each.replace("memory:///", "memory://") for each in result["paths"]]  # as Airflow 2 writes them
    assert paths[0].startswith(f"{path}/runs-export-scheduled__1")
    found = sorted(object_store.find("/"))
    assert [f"memory:/{name}" for name in found if name.endswith(".jsonl")] == sorted(paths)
    assert len(found) == 4
    assert sum(object_store.cat_file(name).count(b"\n") for name in found if name.endswith(".jsonl")) == 25
