"""Arguments of the export that are rejected when a DAG is parsed or a task starts, and its outlets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, Asset

from airflow_provider_tallyfy.export.exporter import parse_target
from airflow_provider_tallyfy.transfers import tallyfy_to_object_storage as module
from airflow_provider_tallyfy.transfers.tallyfy_to_object_storage import TallyfyToObjectStorageOperator
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS


def task(**arguments):
    return TallyfyToObjectStorageOperator(
        **{"task_id": "export", "path": "file:///tmp/x", "since": "2026-01-01", **arguments}
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"file_format": "xml"}, "file_format must be one of jsonl, csv, parquet"),
        ({"records": "steps"}, "records must be 'runs' or 'tasks'"),
        ({"max_records_per_file": 0}, "max_records_per_file must be a whole number from 1"),
        ({"page_size": 101}, "page_size must be a whole number from 1 to 100"),
        ({"page_size": True}, "page_size"),
        ({"since": None, "until": "2026-01-02"}, "since"),
        ({"overlap": -600}, "overlap must be 0 or more"),
        ({"overlap": timedelta(minutes=-10)}, "overlap must be 0 or more"),
        ({"overlap": None}, "overlap must be 0 or more"),
        ({"full_every": "7 days"}, "full_every must be 0 or more"),
        ({"requests_per_hour": float("nan")}, "requests_per_hour must be 0 or more"),
        ({"overwrite": "false"}, "overwrite must be True or False"),
        ({"attachments": 0}, "attachments must be True or False"),
    ],
)
def test_invalid_arguments_fail_when_the_dag_is_parsed(arguments, message):
    with pytest.raises(ValueError, match=message):
        task(**arguments)


def test_older_airflow_needs_since(monkeypatch):
    monkeypatch.setattr(module, "AIRFLOW_V_3_3_PLUS", False)
    with pytest.raises(ValueError, match=r"since is missing.*prev_start_date_success"):
        task(since=None)
    assert task(since="{{ data_interval_start }}").outlets == []


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="the state of assets came with Airflow 3.3")
def test_incremental_export_has_an_outlet():
    with DAG("nightly", schedule=None):
        assert [outlet.name for outlet in task(since=None).outlets] == ["tallyfy_export_nightly_export"]
        [outlet] = task(task_id="läuft", since=None).outlets
        assert outlet.name.isascii()
    own = Asset("own")
    assert task(since=None, outlets=[own]).outlets == [own]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"since": "yesterday"}, "since must be a time"),
        ({"since": "2026-01-02", "until": "2026-01-01"}, "must be earlier than until"),
        ({"since": "2026-01-02", "until": "2026-01-02"}, "CronDataIntervalTimetable"),
        ({"checklist_id": ""}, "checklist_id"),
        ({"checklist_id": "a/b"}, "checklist_id"),
        ({"until": datetime.now(UTC) + timedelta(days=1)}, "in the future"),
        ({"filters": {"per_page": 5}}, "filters must not hold per_page"),
        ({"filters": ["active"]}, "filters must be a mapping"),
        ({"path": "file:///tmp/x.csv"}, r"path ends with '\.csv'"),
        ({"path": " "}, "path must be a URL or a path"),
        ({"path": "gopher://x/y"}, "gopher"),
    ],
)
def test_invalid_arguments_fail_the_task_without_retries(arguments, message):
    with pytest.raises(AirflowFailException, match=message):
        task(**arguments).execute({})


@pytest.mark.parametrize("value", [None, "", " None "])
def test_template_that_renders_to_nothing_is_no_bound(value):
    assert module._moment(value, "since") is None


@pytest.mark.parametrize(
    "value", ["2026-01-05T17:00:00+01:00", "2026-01-05T16:00:00", datetime(2026, 1, 5, 16, tzinfo=UTC)]
)
def test_times_are_converted_to_utc(value):
    assert module._moment(value, "since") == datetime(2026, 1, 5, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://b/dir", ("s3://b/dir", "stem", ".jsonl")),
        ("s3://b/dir/", ("s3://b/dir", "stem", ".jsonl")),
        ("s3://b/dir/x.y.jsonl.gz", ("s3://b/dir", "x.y", ".jsonl.gz")),
        ("s3://b/x.JSONL", ("s3://b", "x", ".JSONL")),
        ("/data/v1.2", ("/data/v1.2", "stem", ".jsonl")),
        ("x.jsonl", (".", "x", ".jsonl")),
        ("/x.jsonl", ("/", "x", ".jsonl")),
        ("file:///x.jsonl", ("file:///", "x", ".jsonl")),
        ("s3://b/.jsonl", ("s3://b/.jsonl", "stem", ".jsonl")),
    ],
)
def test_path_is_a_file_or_a_folder(path, expected):
    assert parse_target(path, "jsonl", "stem") == expected


def test_templated_fields():
    assert {"path", "since", "until", "checklist_id", "filters"} <= set(
        TallyfyToObjectStorageOperator.template_fields
    )
