"""The metadata databases of the Airflow that tests start."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from airflow.models.trigger import Trigger
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from dev.backends import never_reuse_trigger_ids


def test_sqlite_gives_no_trigger_the_id_of_a_deleted_one():
    insert = (
        "INSERT INTO trigger (classpath, kwargs, created_date) VALUES ('a', '{}', '2026-01-01') RETURNING id"
    )
    with closing(sqlite3.connect(":memory:")) as database:
        table = Trigger.__table__
        for statement in (CreateTable(table), *map(CreateIndex, table.indexes)):
            database.execute(str(statement.compile(dialect=sqlite.dialect())))
        never_reuse_trigger_ids(database)
        [(first,)] = database.execute(insert).fetchall()
        database.execute("DELETE FROM trigger")
        [(second,)] = database.execute(insert).fetchall()
        indexes = "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND tbl_name = 'trigger'"
        assert database.execute(indexes).fetchone() == (len(table.indexes),)
    assert second > first
