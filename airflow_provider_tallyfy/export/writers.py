"""Write records as JSON Lines, CSV or Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from airflow_provider_tallyfy.export.columns import Column, ColumnType
from airflow_provider_tallyfy.protocol.responses import parse_datetime

ENDINGS = {
    "jsonl": (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"),
    "csv": (".csv", ".csv.gz"),
    "parquet": (".parquet",),
}
"""File endings of each format; the first is used for files in a folder."""
_MAX_ROWS, _MAX_CHARACTERS = 2_000, 8 * 1024 * 1024
"""Limits of a batch of Parquet, which is held in memory."""
# Readers that split text at every line separator of Unicode would break a record in two.
_LINE_SEPARATORS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def write_records(
    file: IO[bytes],
    name: str,
    file_format: str,
    columns: Sequence[Column],
    records: Iterable[dict[str, Any]],
) -> None:
    """
    Write records to a file that is open for writing; the caller closes it.

    :param name: the file's name; if it ends with ``.gz``, the file is compressed.
    :param file_format: ``jsonl``, ``csv`` or ``parquet``.
    """
    write = _WRITERS[file_format]
    if not name.lower().endswith(".gz"):
        write(file, columns, records)
        return
    # Without a time in it, so that equal records make equal files.
    with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=5, mtime=0) as packed:
        write(packed, columns, records)  # type: ignore[arg-type]  # it has all that a writer uses


def json_line(record: dict[str, Any]) -> bytes:
    """Return a record as one line of JSON, with its line break."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_LINE_SEPARATORS).encode() + b"\n"


def check_format(file_format: str) -> None:
    """
    Check that a format can be written here.

    :raises ValueError: it needs a package that is not installed.
    """
    if file_format == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise ValueError(
                "file_format='parquet' needs pyarrow: install airflow-provider-tallyfy[parquet]."
            ) from None


def _write_jsonl(file: IO[bytes], columns: Sequence[Column], records: Iterable[dict[str, Any]]) -> None:
    file.writelines(map(json_line, records))


def _write_csv(file: IO[bytes], columns: Sequence[Column], records: Iterable[dict[str, Any]]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow(column.name for column in columns)
    writer.writerows([_cell(record[column.name]) for column in columns] for record in records)
    text.flush()
    text.detach()  # otherwise, closing the wrapper would close the file


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return value


def _write_parquet(file: IO[bytes], columns: Sequence[Column], records: Iterable[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        ColumnType.TEXT: pa.string(),
        ColumnType.INTEGER: pa.int64(),
        ColumnType.NUMBER: pa.float64(),
        ColumnType.BOOLEAN: pa.bool_(),
        ColumnType.DATETIME: pa.timestamp("ms", tz="UTC"),
        ColumnType.TEXTS: pa.list_(pa.string()),
        ColumnType.JSON: pa.string(),
    }
    converters: dict[ColumnType, Callable[[Any], Any]] = {
        ColumnType.DATETIME: parse_datetime,
        ColumnType.JSON: lambda value: None if value is None else json.dumps(value, ensure_ascii=False),
    }
    converter_of = [(column.name, converters.get(column.type, lambda value: value)) for column in columns]
    rows = ([convert(record[name]) for name, convert in converter_of] for record in records)
    schema = pa.schema(
        [
            pa.field(column.name, types[column.type], metadata={"description": column.description})
            for column in columns
        ]
    )
    # The system's allocator returns memory between the batches.
    pool = pa.system_memory_pool()
    with pq.ParquetWriter(file, schema, memory_pool=pool) as writer:
        for batch in _batches(rows):
            arrays = [
                pa.array(values, type=types[column.type], memory_pool=pool)
                for column, values in zip(columns, zip(*batch, strict=True), strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _batches(rows: Iterable[list[Any]]) -> Iterator[list[list[Any]]]:
    batch: list[list[Any]] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += sum(len(value) for value in row if isinstance(value, str))
        if len(batch) >= _MAX_ROWS or characters >= _MAX_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


_WRITERS: Mapping[str, Callable[[IO[bytes], Sequence[Column], Iterable[dict[str, Any]]], None]] = {
    "jsonl": _write_jsonl,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
