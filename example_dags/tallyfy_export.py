"""
Load what users filled in into a database, every night.

`export` writes the processes of one template that changed since the previous night, with the answers of their forms as
columns. `load` puts them into SQLite, with the last state of each process, and `report` queries the answers. It runs
unchanged against the sandbox.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import gettempdir
from typing import Any

# On Airflow 3 alone, import these from airflow.sdk; this also runs on 2.11.
from airflow.providers.common.compat.sdk import Asset, ObjectStoragePath, dag, task

from airflow_provider_tallyfy.transfers.tallyfy_to_object_storage import TallyfyToObjectStorageOperator
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS

RELEASE_APPROVAL = "5eed0001000000000000000000000001"
# In production, s3://… or gs://… and your warehouse.
FOLDER = Path(gettempdir(), "tallyfy_export")
DATABASE = FOLDER / "releases.sqlite"
# Airflow 3.3 keeps where the last load ended; before, each load begins where the last successful DAG run began.
SINCE = (
    None
    if AIRFLOW_V_3_3_PLUS
    else "{{ prev_start_date_success - macros.timedelta(minutes=10) if prev_start_date_success else '' }}"
)


@dag(schedule=None, catchup=False, max_active_runs=1, tags=["tallyfy", "example"], doc_md=__doc__)
def tallyfy_export() -> None:
    # [START howto_transfer_to_object_storage]
    export = TallyfyToObjectStorageOperator(
        task_id="export",
        path=f"file://{FOLDER}/files",
        checklist_id=RELEASE_APPROVAL,
        since=SINCE,
        retries=3,
        # DAGs that are scheduled on it run after each load. On Airflow 3.3, its state holds where the load ended.
        outlets=[Asset("tallyfy_releases")],
    )
    # [END howto_transfer_to_object_storage]

    @task
    def load(exported: dict[str, Any]) -> int:
        with closing(sqlite3.connect(DATABASE)) as database, database:
            database.execute(
                "create table if not exists releases (id text primary key, last_updated text, record text)"
            )
            for path in exported["paths"]:
                with ObjectStoragePath(path).open("rb") as file:
                    for line in file.read().splitlines():
                        record = json.loads(line)
                        # An archived process has no answers of tasks any more; keep those of an earlier load.
                        if record["has_task_answers"]:
                            row = (record["id"], record["last_updated"], line.decode())
                            database.execute("insert or replace into releases values (?, ?, ?)", row)
            [count] = database.execute("select count(*) from releases").fetchone()
            return int(count)

    @task
    def report(releases: int) -> list[dict[str, Any]]:
        query = """
            select
                json_extract(record, '$.version') as version,
                json_extract(record, '$.comment') as comment,
                json_extract(record, '$.status') as status
            from releases
            order by version
        """
        with closing(sqlite3.connect(DATABASE)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(query)]

    report(load(export.output))


tallyfy_export()
