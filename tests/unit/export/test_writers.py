"""Other readers find what was written: json line by line, csv, pyarrow and DuckDB."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_tallyfy.export import writers
from airflow_provider_tallyfy.export.columns import Column, ColumnType, Layout
from airflow_provider_tallyfy.protocol.forms.fields import FormField

COLUMNS = tuple(Column(kind.name.lower(), kind) for kind in ColumnType)
ODD = [
    "",
    "a\nb",
    "a\r\nb\r",
    'say "hi", twice',
    "\u2028\x85",
    "🎉 e\u0301",
    "x" * 30_000,
    "?;\t|",
    "=1+1",
    "\\N",
    "null",
    "\0",
    "a\ud800b",
]
READERS = {"jsonl": "read_json", "csv": "read_csv", "parquet": "read_parquet"}
EMPTY = dict.fromkeys(column.name for column in COLUMNS)


def row(text):
    return {
        "text": text,
        "integer": -(2**63),
        "number": 0.5,
        "boolean": False,
        "datetime": "2026-01-31T16:00:00.123Z",
        "texts": [text, "b"],
        "json": {"rows": [[text], None]},
    }


def written(file_format, records, name="x"):
    file = io.BytesIO()
    writers.write_records(file, name, file_format, COLUMNS, iter(records))
    assert not file.closed
    return file.getvalue()


@pytest.mark.parametrize("ending", [".jsonl.gz", ".JSONL.GZ"])
def test_ending_gz_compresses_without_a_time(ending):
    packed = written("jsonl", [row("a")], f"x{ending}")
    assert gzip.decompress(packed) == written("jsonl", [row("a")])
    assert packed == written("jsonl", [row("a")], f"y{ending}")
    assert gzip.decompress(written("csv", [EMPTY], "x.csv.gz")) == written("csv", [EMPTY])


def test_csv_has_lists_and_objects_as_json():
    first, second = csv.DictReader(io.StringIO(written("csv", [row("a"), EMPTY]).decode(), newline=""))
    assert (first["integer"], first["number"], first["boolean"]) == (str(-(2**63)), "0.5", "false")
    assert json.loads(first["texts"]) == ["a", "b"]
    assert json.loads(first["json"]) == {"rows": [["a"], None]}
    assert set(second.values()) == {""}


def test_parquet_has_its_own_types():
    records = [row("a")] * 4_000 + [EMPTY]
    table = pq.read_table(io.BytesIO(written("parquet", records)))
    assert [str(kind) for kind in table.schema.types] == [
        "string",
        "int64",
        "double",
        "bool",
        "timestamp[ms, tz=UTC]",
        "list<element: string>",
        "string",
    ]
    rows = table.to_pylist()
    assert len(rows) == len(records)
    assert rows[0]["datetime"].isoformat() == "2026-01-31T16:00:00.123000+00:00"
    assert rows[-1] == EMPTY


def in_duckdb(path, reader):
    """Return the columns and the rows that DuckDB finds in a file, without guessing the types of texts."""
    options = {
        "read_csv": ", header=true, delim=',', quote='\"', escape='\"', all_varchar=true",
        "read_json": ", format='newline_delimited', maximum_depth=1",  # each value is JSON
    }.get(reader, "")
    found = duckdb.sql(f"from {reader}('{path}'{options})")
    rows = found.fetchall()
    if reader == "read_json":
        rows = [[value and json.loads(value) for value in row] for row in rows]
    return found.columns, [dict(zip(found.columns, row, strict=True)) for row in rows]


def without_empty(row):
    """Return a row as CSV has it, where nothing and an empty text are the same."""
    return {name: value or None for name, value in row.items()}


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4))
@example([(text, text) for text in ODD])
@example([("same", "a"), ("same", "b"), ("Same", "c"), ("id", "d"), ("other_values", "e")])
@example([("Name\nof\r\nit", "\r"), ('"', "'"), (",", "🎉"), ("\ud800", "a")])
def test_readers_find_any_answer_under_any_label(entered):
    fields = [FormField(str(number), "", label, "text") for number, (label, _) in enumerate(entered)]
    fields += [FormField("m", "", "chosen", "multiselect"), FormField("t", "", "rows", "table")]
    texts = [text for _, text in entered]
    stored = [*texts, [{"id": 1, "text": texts[0], "selected": True}], [texts]]
    layout = Layout((Column("id", ColumnType.TEXT),), [fields])
    record = layout.lay_out({"id": "r"}, list(zip(fields, stored, strict=True)))
    names = [column.name for column in layout.columns]
    # Lists and objects are JSON in Parquet and CSV, except the list of texts in Parquet.
    as_json = {
        column.name: value if value is None else json.dumps(value, ensure_ascii=False)
        for column in layout.columns
        if column.type in (ColumnType.JSON, ColumnType.TEXTS)
        for value in [record[column.name]]
    }
    in_csv = without_empty({**record, **as_json})
    in_parquet = {**record, **as_json, **{name: record[name] for name in names if name.startswith("chosen")}}
    expected = {"jsonl": record, "csv": in_csv, "parquet": in_parquet}

    with TemporaryDirectory() as folder:
        paths = {file_format: Path(folder, f"x.{file_format}") for file_format in READERS}
        for file_format, path in paths.items():
            with path.open("wb") as file:
                writers.write_records(file, path.name, file_format, layout.columns, iter([record]))

        [line] = paths["jsonl"].read_text().splitlines()
        assert json.loads(line) == record
        with paths["csv"].open(newline="") as file:
            assert [without_empty(row) for row in csv.DictReader(file)] == [in_csv]
        assert pq.read_table(paths["parquet"]).to_pylist() == [in_parquet]
        for file_format, reader in READERS.items():
            columns, rows = in_duckdb(paths[file_format], reader)
            assert columns == names
            assert [without_empty(row) for row in rows] == [without_empty(expected[file_format])]


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_file_without_records_can_be_read(file_format):
    content = written(file_format, [])
    if file_format == "csv":
        assert content.decode().rstrip().split(",") == [column.name for column in COLUMNS]
    elif file_format == "parquet":
        assert pq.read_table(io.BytesIO(content)).num_rows == 0
    else:
        assert content == b""


def test_parquet_without_pyarrow_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"airflow-provider-tallyfy\[parquet\]"):
        writers.check_format("parquet")


def test_parquet_writes_long_answers_in_small_batches():
    metadata = pq.read_metadata(io.BytesIO(written("parquet", (row("x" * 30_000) for _ in range(2_000)))))
    assert metadata.num_rows == 2_000
    largest = max(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
    assert largest * 30_000 < 16 * 1024 * 1024
