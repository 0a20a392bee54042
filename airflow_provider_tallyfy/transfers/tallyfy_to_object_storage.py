"""Export runs or tasks of Tallyfy to object storage."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from math import inf
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.providers.common.compat.sdk import AirflowFailException, Asset, ObjectStoragePath

from airflow_provider_tallyfy.assets.tallyfy import ascii_name
from airflow_provider_tallyfy.exceptions import fail_on_bad_input
from airflow_provider_tallyfy.operators.base import TallyfyOperator, check_bools
from airflow_provider_tallyfy.protocol.formatting import described
from airflow_provider_tallyfy.protocol.scalars import format_datetime
from airflow_provider_tallyfy.protocol.urls import identifier
from airflow_provider_tallyfy.transfers.export_state import ExportState, Load
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.export.exporter import ExportRequest, ExportResult, Target

_FORMATS = ("jsonl", "csv", "parquet")
_RECORDS = ("runs", "tasks")
_OWN_FILTERS = ("page", "per_page", "sort", "sort_by", "with", "with_", "without_pagination", "checklist_id")


class TallyfyToObjectStorageOperator(TallyfyOperator):
    """
    Write runs or tasks, with what users filled in, to files in object storage.

    Each record has the fields of the run or task and the answers of its forms, as columns by alias. A JSON Schema
    beside the files describes the columns. Incremental by default: each DAG run loads what changed since the one
    before.

    Files appear complete or not at all. A retry continues where the previous attempt stopped, and leaves neither
    duplicates nor temporary files; give a full load that takes hours some ``retries``.

    :param path: where the files go: a URL or path of a file that ends with ``.jsonl``, ``.ndjson`` or ``.csv``, each
        also with ``.gz``, or with ``.parquet``; or of a folder. In a folder, files are named by the task, and by the
        interval if ``since`` and ``until`` are given, otherwise by the DAG run. (templated)
    :param checklist_id: id of the template. Default: all templates, with the columns of each. (templated)
    :param records: ``runs`` or ``tasks``.
    :param file_format: ``jsonl``, ``csv``, or ``parquet``, which needs the extra ``[parquet]``.
    :param since: leave out runs that did not change since: a ``datetime``, or ISO 8601 text, in UTC unless it says
        otherwise. A template that renders to nothing loads everything. Default: since the last successful load of the
        same task, which Airflow 3.3 and newer keep. (templated)
    :param until: leave out runs that changed at this time or later. If it has just passed, the task waits up to a
        minute for lists that lag. Default: no bound. (templated)
    :param filters: further filters of the list of runs, as for
        :meth:`~airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook.list_runs`; with ``status`` or ``archived`` among
        them, archived runs are exported only as these say. (templated)
    :param overwrite: replace files that another task instance wrote. A task instance always replaces its own files.
    :param max_records_per_file: after how many records the next file begins.
    :param attachments: copy files that users uploaded, too, to a folder beside the records.
    :param overlap: how long lists may lag, in seconds or as a ``timedelta``: each incremental load begins this much
        earlier, and leaves out what the previous load had in the same state. It does not apply if you give ``since``.
    :param full_every: how often an incremental export loads everything again, in seconds or as a ``timedelta``, so
        that a change that no list showed arrives at most this late; ``None`` for never.
    :param page_size: runs in one response, up to 100. Fewer need less memory if answers are very long.
    :param requests_per_hour: the most requests in an hour; 0 for no ceiling. Default: the connection's.
    :param object_storage_conn_id: id of the Airflow connection to the object storage. (templated)
    :param tallyfy_conn_id: id of the Airflow connection to Tallyfy. (templated)
    :return: ``{"paths", "records", "since", "until", "requests"}``: URLs of the files, with the id of the storage's
        connection if there is one (``s3://aws_default@bucket/…``); how many records they hold; the interval in ISO
        8601; and the number of HTTP requests of the last attempt.
    :raises AirflowFailException: an argument cannot be used, or another task instance wrote files of the same name;
        the task fails without retries, and has written no files.
    :raises ValueError: an argument cannot be used, when the DAG is parsed. Among them: no ``since`` on an Airflow
        before 3.3.
    """

    template_fields: Sequence[str] = (
        "path",
        "checklist_id",
        "since",
        "until",
        "filters",
        "object_storage_conn_id",
        "tallyfy_conn_id",
    )
    template_fields_renderers = {"filters": "json"}  # noqa: RUF012 - as Airflow's own

    def __init__(
        self,
        *,
        path: str | ObjectStoragePath,
        checklist_id: str | None = None,
        records: str = "runs",
        file_format: str = "jsonl",
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        filters: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        max_records_per_file: int = 100_000,
        attachments: bool = False,
        overlap: float | timedelta = timedelta(minutes=10),
        full_every: float | timedelta | None = timedelta(days=7),
        page_size: int = 100,
        requests_per_hour: float | None = None,
        object_storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.checklist_id = checklist_id
        self.records = records
        self.file_format = file_format
        self.since = since
        self.until = until
        self.filters = filters
        self.overwrite = overwrite
        self.max_records_per_file = max_records_per_file
        self.attachments = attachments
        self.overlap = overlap
        self.full_every = full_every
        self.page_size = page_size
        self.requests_per_hour = requests_per_hour
        self.object_storage_conn_id = object_storage_conn_id
        self._is_incremental = since is None
        check_bools(self, "overwrite", "attachments")
        for problem in self._problems():
            raise ValueError(f"Task {self.task_id!r}: {problem}")
        if self._is_incremental and not self._state_assets():
            self.outlets = [*self.outlets, Asset(ascii_name(f"tallyfy_export_{self.dag_id}_{self.task_id}"))]

    def _problems(self) -> list[str]:
        problems = []
        if self.file_format not in _FORMATS:
            problems.append(f"file_format must be one of {', '.join(_FORMATS)}, but is {self.file_format!r}.")
        if self.records not in _RECORDS:
            problems.append(f"records must be 'runs' or 'tasks', but is {self.records!r}.")
        for name, most in (("max_records_per_file", None), ("page_size", 100)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1 or value > (most or value):
                problems.append(
                    f"{name} must be a whole number from 1{f' to {most}' if most else ''}, but is {value!r}."
                )
        for name in ("overlap", "full_every", "requests_per_hour"):
            value = getattr(self, name)
            number = value.total_seconds() if isinstance(value, timedelta) else value
            is_number = isinstance(number, (int, float)) and not isinstance(value, bool) and 0 <= number < inf
            if not is_number and (value is not None or name == "overlap"):
                problems.append(f"{name} must be 0 or more, but is {value!r}.")
        if self._is_incremental and not AIRFLOW_V_3_3_PLUS:
            problems.append(
                "since is missing. Only Airflow 3.3 and newer keep where the last load ended. Write "
                "since=\"{{ prev_start_date_success - macros.timedelta(minutes=10) if prev_start_date_success else '' "
                "}}\", or since='1970-01-01' to load everything."
            )
        if self._is_incremental and self.until is not None:
            problems.append("until needs since: without it, each load ends when it begins to read.")
        return problems

    def _state_assets(self) -> list[Any]:
        return [outlet for outlet in self.outlets if isinstance(outlet, Asset)]

    def execute(self, context: Context) -> dict[str, Any]:
        """Export, and return the URLs of the files."""
        from airflow_provider_tallyfy.export.exporter import Exporter
        from airflow_provider_tallyfy.export.writers import check_format

        ti = context.get("ti")
        export_id = _export_id(ti)
        state: ExportState | None = None
        now = datetime.now(UTC)
        with fail_on_bad_input():
            check_format(self.file_format)
            since, until = _moment(self.since, "since"), _moment(self.until, "until")
            if since is not None and until is not None and since >= until:
                raise ValueError(
                    f"since ({since}) must be earlier than until ({until}). In Airflow 3, a DAG with a cron schedule "
                    "has no data interval, unless its timetable is CronDataIntervalTimetable."
                )
            # The worker's clock may be behind the scheduler's, which gave the interval.
            if until is not None and until > now + timedelta(minutes=10):
                raise ValueError(f"until ({until}) is in the future.")
            if self._is_incremental:
                if getattr(ti, "map_index", -1) not in (-1, None):
                    raise ValueError("A mapped task needs since: its instances would share one state.")
                connection = self.hook.connection
                selection = {
                    "source": (connection.api_url, connection.organization),
                    "checklist_id": self.checklist_id,
                    "records": self.records,
                    "filters": self.filters or {},
                }
                state = ExportState(context, self._state_assets()[0], _duration(self.full_every), selection)
            target, root = self._target(since, until, ti, export_id)
            load = Load(since, until) if state is None else state.next_load(now)
            request = self._request(load, overlap=None if state is None else _duration(self.overlap))
        self.log.info("%s", _describe(request))
        exporter = Exporter(
            self.hook,
            request,
            target,
            export_id,
            log=self.log,
            known=load.known,
            requests_per_hour=self.requests_per_hour,
        )
        try:
            result = exporter.run()
        except FileExistsError as error:
            raise AirflowFailException(str(error)) from None
        if state is not None:
            state.advance(load, result)
        return self._result(load, until, result, root)

    def _target(
        self, since: datetime | None, until: datetime | None, ti: Any, export_id: str
    ) -> tuple[Target, str]:
        from airflow_provider_tallyfy.export.exporter import Target, parse_target
        from airflow_provider_tallyfy.export.staging import Folder
        from airflow_provider_tallyfy.hooks.files import safe_name

        if since is not None and until is not None:
            when = f"{since:%Y%m%dT%H%M%SZ}-{until:%Y%m%dT%H%M%SZ}"
        else:
            when = getattr(ti, "run_id", export_id)
        stem = safe_name(f"{self.records}-{self.task_id}-{when}").replace(" ", "_")
        if getattr(ti, "map_index", -1) not in (-1, None):
            stem += f"-{ti.map_index}"
        if not isinstance(self.path, (str, ObjectStoragePath)) or not str(self.path).strip():
            raise ValueError(f"path must be a URL or a path, not {described(self.path)}.")
        conn_id = self.object_storage_conn_id
        if conn_id is None and not isinstance(self.path, str):
            # Airflow 2 has it among the options.
            conn_id = getattr(self.path, "conn_id", None) or self.path.storage_options.get("conn_id")
        folder, stem, ending = parse_target(str(self.path).strip(), self.file_format, stem)
        root = ObjectStoragePath(folder, conn_id=conn_id) if conn_id else ObjectStoragePath(folder)
        return Target(Folder(root.fs, root.path), stem, ending), str(root).rstrip("/")

    def _request(self, load: Load, overlap: timedelta | None) -> ExportRequest:
        from airflow_provider_tallyfy.export.exporter import ExportRequest

        filters = self.filters or {}
        if not isinstance(filters, Mapping):
            raise ValueError(f"filters must be a mapping, not {described(filters)}.")
        if own := sorted(filters.keys() & set(_OWN_FILTERS)):
            raise ValueError(f"filters must not hold {', '.join(own)}: the export sets these itself.")
        return ExportRequest(
            # An empty id would not mean all templates, but a template field that rendered to nothing.
            checklist_id=None if self.checklist_id is None else identifier(self.checklist_id, "checklist_id"),
            records=self.records,
            file_format=self.file_format,
            filters=filters,
            since=load.since,
            until=load.until,
            overlap=overlap or timedelta(),
            page_size=self.page_size,
            max_records_per_file=self.max_records_per_file,
            attachments=self.attachments,
            overwrite=self.overwrite,
        )

    def _result(self, load: Load, until: datetime | None, result: ExportResult, root: str) -> dict[str, Any]:
        from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

        paths = [f"{root}/{name}" for name in result.names]
        for path in paths:
            # The id of a connection is no part of an asset's URI.
            uri = re.sub("://[^/@]+@", "://", path)
            get_hook_lineage_collector().add_output_asset(context=self.hook, uri=uri)
        ended_at = until or result.began_at
        self.log.info(
            "Wrote %d records to %d files with %d requests", result.records, len(paths), result.requests
        )
        return {
            "paths": paths,
            "records": result.records,
            "since": load.since and load.since.isoformat(),
            "until": ended_at.isoformat(),
            "requests": result.requests,
        }


def _export_id(ti: Any) -> str:
    """Return an id of the task instance, the same for all its attempts."""
    if ti is None:
        return uuid4().hex[:16]
    parts = (ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index))
    return blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def _moment(value: Any, name: str) -> datetime | None:
    """
    Return the time that an argument is, in UTC; ``None`` if it is empty, as a rendered template may be.

    :raises ValueError: it is no time.
    """
    if value is None or (isinstance(value, str) and value.strip() in ("", "None")):
        return None
    if not isinstance(value, (str, date)):
        raise ValueError(f"{name} must be a time, not {described(value)}.")
    try:
        moment = datetime.fromisoformat(format_datetime(value))
    except ValueError as error:
        raise ValueError(f"{name} must be a time: {error}") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _describe(request: ExportRequest) -> str:
    """Return what is exported, as a line for the log."""
    template = "all templates" if request.checklist_id is None else f"template {request.checklist_id}"
    since = "" if request.since is None else f", changed since {request.since:%Y-%m-%d %H:%M:%S} UTC"
    until = "" if request.until is None else f", changed before {request.until:%Y-%m-%d %H:%M:%S} UTC"
    filters = f", filtered by {', '.join(map(str, request.filters))}" if request.filters else ""
    return f"Exporting {request.records} of {template}{since}{until}{filters}"


def _duration(value: float | timedelta | None) -> timedelta | None:
    return value if value is None or isinstance(value, timedelta) else timedelta(seconds=value)
