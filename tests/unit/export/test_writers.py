"""What other readers find in the files."""

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
]
READERS = [("jsonl", "read_json"), ("csv", "read_csv"), ("parquet", "read_parquet")]


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


EMPTY = dict.fromkeys(column.name for column in COLUMNS)


def written(file_format, records, name="x"):
    file = io.BytesIO()
    writers.writer_of(file_format, name)(file, COLUMNS, iter(records))
    assert not file.closed
    return file.getvalue()


@pytest.mark.parametrize("text", ODD)
def test_json_lines_are_read_back_line_by_line(text):
    lines = written("jsonl", [row(text), EMPTY]).decode()
    assert [json.loads(line) for line in lines.splitlines()] == [row(text), EMPTY]


def test_an_ending_compresses_and_equal_records_make_equal_files():
    packed = written("jsonl", [row("a")], "x.jsonl.gz")
    assert gzip.decompress(packed) == written("jsonl", [row("a")])
    assert packed == written("jsonl", [row("a")], "x.jsonl.gz")
    assert gzip.decompress(written("csv", [EMPTY], "x.csv.gz")) == written("csv", [EMPTY])


@pytest.mark.parametrize("text", ODD)
def test_csv_is_read_back_with_lists_and_objects_as_json(text):
    content = written("csv", [row(text), EMPTY]).decode()
    first, second = csv.DictReader(io.StringIO(content, newline=""))
    assert first["text"] == text
    assert (first["integer"], first["boolean"]) == (str(-(2**63)), "false")
    assert json.loads(first["texts"]) == [text, "b"]
    assert json.loads(first["json"]) == {"rows": [[text], None]}
    assert set(second.values()) == {""}


@settings(deadline=None)
@given(st.lists(st.text(), max_size=5))
def test_any_text_is_read_back_from_csv(texts):
    texts = [
        Layout((Column("text", ColumnType.TEXT),), ()).lay_out({"text": text}, [])["text"] for text in texts
    ]
    content = written("csv", [{**EMPTY, "text": text} for text in texts]).decode()
    assert [each["text"] for each in csv.DictReader(io.StringIO(content, newline=""))] == texts


def test_parquet_has_its_own_types(tmp_path):
    records = [row(text) for text in ODD] * 400 + [EMPTY]
    path = tmp_path / "x.parquet"
    path.write_bytes(written("parquet", records))
    table = pq.read_table(path)
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
    assert [each["text"] for each in rows[: len(ODD)]] == ODD
    assert rows[0]["datetime"].isoformat() == "2026-01-31T16:00:00.123000+00:00"
    assert rows[-1] == EMPTY


@pytest.mark.parametrize(("file_format", "reader"), READERS)
def test_duckdb_reads_all_formats(tmp_path, file_format, reader):
    path = tmp_path / f"x.{file_format}"
    path.write_bytes(written(file_format, [row(text) for text in ODD if text]))
    options = ", auto_detect=true, header=true, all_varchar=true" if file_format == "csv" else ""
    found = duckdb.sql(f"select text from {reader}('{path}'{options})").fetchall()  # noqa: S608
    assert [text for (text,) in found] == [text for text in ODD if text]


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


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4))
@example([(text, text) for text in ODD])
@example(
    [("\0", "\0"), ("\ud800", "a\ud800b"), ("Name\nof\r\nit", "\r"), ("id", "ID"), ('"', "'"), (",", "🎉")]
)
def test_other_readers_find_any_answer_under_any_label(entered):
    fields = [FormField(str(number), "", label, "text") for number, (label, _) in enumerate(entered)]
    layout = Layout((Column("id", ColumnType.TEXT),), [fields])
    record = layout.lay_out({"id": "r"}, list(zip(fields, (text for _, text in entered), strict=True)))
    names = [column.name for column in layout.columns]
    expected = {name: value or None for name, value in record.items()}

    def not_empty(row):
        return {name: value or None for name, value in row.items()}

    with TemporaryDirectory() as folder:
        paths = {file_format: Path(folder, f"x.{file_format}") for file_format in writers.ENDINGS}
        for file_format, path in paths.items():
            with path.open("wb") as file:
                writers.writer_of(file_format, path.name)(file, layout.columns, iter([record]))

        [line] = paths["jsonl"].read_text().splitlines()
        assert json.loads(line) == record
        with paths["csv"].open(newline="") as file:
            assert [not_empty(row) for row in csv.DictReader(file)] == [expected]
        assert pq.read_table(paths["parquet"]).to_pylist() == [record]
        for file_format, reader in READERS:
            columns, rows = in_duckdb(paths[file_format], reader)
            assert columns == names
            assert [not_empty(row) for row in rows] == [expected]


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "parquet"])
def test_no_records_make_a_file_that_can_be_read(file_format, tmp_path):
    content = written(file_format, [])
    if file_format == "csv":
        assert content.decode().rstrip().split(",") == [column.name for column in COLUMNS]
    elif file_format == "parquet":
        assert pq.read_table(io.BytesIO(content)).num_rows == 0
    else:
        assert content == b""


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"airflow-provider-tallyfy\[parquet\]"):
        writers.check_format("parquet")


def test_long_answers_do_not_pile_up_in_memory(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(written("parquet", (row("x" * 30_000) for _ in range(2_000))))
    metadata = pq.read_metadata(path)
    assert metadata.num_rows == 2_000
    largest = max(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
    assert largest * 30_000 < 16 * 1024 * 1024
