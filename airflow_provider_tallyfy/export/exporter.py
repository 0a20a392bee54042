"""Run one export: read what changed, keep it, write the files, and publish them when all are complete."""

from __future__ import annotations

import json
import posixpath
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from heapq import nlargest
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_tallyfy.exceptions import TallyfyNotFoundError
from airflow_provider_tallyfy.export.client import Clock, RetryingClient
from airflow_provider_tallyfy.export.columns import ColumnType, Layout, fit
from airflow_provider_tallyfy.export.listing import RunListing, fetch_page
from airflow_provider_tallyfy.export.progress import Progress
from airflow_provider_tallyfy.export.records import (
    WITH,
    Answers,
    has_task_fields,
    kickoff_answers,
    layout_of,
    listed_answers,
    listed_tasks,
    map_files,
    run_record,
    task_answers,
    task_record,
    visible,
)
from airflow_provider_tallyfy.export.staging import Folder, Staging
from airflow_provider_tallyfy.export.writers import ENDINGS, json_line, write_records
from airflow_provider_tallyfy.hooks.files import download, safe_name
from airflow_provider_tallyfy.protocol.forms.fields import FormField, read_kickoff_fields
from airflow_provider_tallyfy.protocol.responses import parse_datetime

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

T = TypeVar("T")
MAX_KNOWN = 500
"""
Records that changed shortly before an export began, which the next one recognizes and leaves out. More would exceed
the 64 KiB above which Airflow warns of a large state.
"""
MAX_LAG = 60.0
"""Seconds by which a list may lag: an export whose ``until`` has just passed waits as long."""
_OWNER = "x-tallyfy-export"
_COLLECTED, _PUBLISHING, _ATTACHMENT = "collected", "publishing", "attachment.tmp"
_LAST_UPDATED = {"runs": "last_updated", "tasks": "run_last_updated"}
_RUN_ID = {"runs": "id", "tasks": "run_id"}


@dataclass(frozen=True, slots=True)
class Target:
    """
    Where the files of an export go.

    :param folder: the folder.
    :param stem: the files' name without number and ending.
    :param ending: the files' ending, with its dot.
    """

    folder: Folder
    stem: str
    ending: str

    def file_name(self, number: int) -> str:
        """Return the name of a file; the first has no number."""
        return f"{self.stem}{'' if number == 1 else f'-{number:05}'}{self.ending}"

    @property
    def schema_name(self) -> str:
        """The name of the schema file, which is written last."""
        return f"{self.stem}{self.ending}.schema.json"

    @property
    def attachments_name(self) -> str:
        """The name of the folder for attachments."""
        return f"{self.stem}.files"


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """
    What to export; the fields are those of the operator.

    :param since: leaves out runs that did not change since.
    :param until: leaves out runs that changed at this time or later.
    :param overlap: how long before ``since`` to begin, since lists may lag.
    """

    checklist_id: str | None
    records: str = "runs"
    file_format: str = "jsonl"
    filters: Mapping[str, Any] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    overlap: timedelta = timedelta()
    page_size: int = 100
    max_records_per_file: int = 100_000
    attachments: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ExportResult:
    """
    What an export wrote.

    :param names: names of the files, in order, without the schema file.
    :param records: how many records are in them.
    :param began_at: when the first attempt began, by Tallyfy's clock; what changed later belongs to the next load.
    :param newest: the newest ``last_updated`` among them.
    :param requests: HTTP requests of this attempt.
    :param known: fingerprints of records that changed shortly before it began, by id.
    """

    names: tuple[str, ...]
    records: int
    began_at: datetime
    newest: datetime | None
    requests: int
    known: Mapping[str, str]


def parse_target(path: str, file_format: str, default_stem: str) -> tuple[str, str, str]:
    """
    Return folder, stem and ending of the files for a path.

    :param path: a file, if it has an ending of the format, or a folder.
    :param default_stem: names the files in a folder.
    :raises ValueError: it has the ending of another format.
    """
    folder, slash, name = path.rpartition("/")
    if folder in ("", "file://"):
        folder += slash or "."  # the root, or the current directory
    for known_format, endings in ENDINGS.items():
        ending = next(
            (each for each in sorted(endings, key=len, reverse=True) if name.lower().endswith(each)), None
        )
        if ending is not None and len(name) > len(ending):
            if known_format != file_format:
                raise ValueError(f"path ends with {ending!r}, which is not file_format {file_format!r}.")
            return folder, name[: -len(ending)], name[-len(ending) :]
    return path.rstrip("/") or "/", default_stem, ENDINGS[file_format][0]


class Exporter:
    """
    Runs one export.

    :param hook: of the connection.
    :param target: where the files go.
    :param export_id: identifies the task instance, and is the same for all its attempts.
    :param log: the task's logger.
    :param known: fingerprints of records that the previous load had, by id.
    :param requests_per_hour: the ceiling, in place of the connection's.
    """

    def __init__(
        self,
        hook: TallyfyHook,
        request: ExportRequest,
        target: Target,
        export_id: str,
        *,
        log: Any,
        known: Mapping[str, str] | None = None,
        requests_per_hour: float | None = None,
        clock: Clock = time,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._request = request
        self._target = target
        self._export_id = export_id
        self._known_before = known or {}
        self._log = log
        self._clock = clock
        self._now = now
        self._progress = Progress(log.info, clock.monotonic)
        self._source = (hook.connection.api_url, hook.connection.organization)
        self._client = RetryingClient(
            hook,
            log.warning,
            requests_per_hour=requests_per_hour,
            idle=self._progress.tick,
            clock=clock,
            wall_clock=lambda: now().timestamp(),
        )
        self._staging = Staging(target.folder / f".tallyfy-export-{export_id}", clock.monotonic)
        self._checklists: dict[str, tuple[FormField, ...]] = {}
        self._list_shows_answers = False

    def run(self) -> ExportResult:
        """
        Read, write and publish; or fail, and leave what was read for the next attempt.

        :raises FileExistsError: another task instance wrote a file of this name.
        """
        self._check_target()
        self._wait_for_lists()
        start = self._staging.begin(self._fixed(), self._start)
        began_at, checklists = datetime.fromisoformat(start["began_at"]), start["checklists"]
        layout = layout_of(self._request.records, checklists)
        self._checklists = {str(each.get("id")): read_kickoff_fields(each) for each in checklists}
        known_since = str(fit((began_at - self._request.overlap).isoformat(), ColumnType.DATETIME))
        # A list that lags may leave out a record of the previous load now, and show it again later.
        known = {key: value for key, value in self._known_before.items() if value >= known_since}
        summary = _Summary(_LAST_UPDATED[self._request.records], known_since, known)
        if not self._staging.folder.exists(_COLLECTED):
            self._collect(layout, checklists, summary)
            self._staging.folder.write(_COLLECTED, b"")
        self._log.info("All runs are read; writing the files")
        names = self._write(layout, summary)
        self._publish(layout, names, summary.records, began_at)
        self._client.close()
        return ExportResult(
            names,
            summary.records,
            began_at,
            parse_datetime(summary.newest),
            self._client.requests,
            summary.latest(),
        )

    def _fixed(self) -> dict[str, Any]:
        """Return what must not differ between two attempts that share what they read."""
        request = self._request
        return {
            "source": self._source,
            "checklist_id": request.checklist_id,
            "records": request.records,
            "filters": dict(request.filters),
            "since": _text(request.since),
            "until": _text(request.until),
            "attachments": request.attachments,
            "stem": self._target.stem,
        }

    def _start(self) -> dict[str, Any]:
        """Return what all attempts share: a template may change between them, and the columns must not."""
        began_at = self._now()
        checklists = self._read_checklists()
        return {"began_at": (began_at + self._client.clock_offset).isoformat(), "checklists": checklists}

    # Reading

    def _wait_for_lists(self) -> None:
        """Wait until lists that lag show all that changed before ``until``."""
        if self._request.until is not None:
            left = (self._request.until - self._now()).total_seconds() + MAX_LAG
            if left > 0:
                self._log.info(
                    "Waiting %.0f s for lists to show all changes before %s", left, self._request.until
                )
                self._clock.sleep(left)

    def _read_checklists(self) -> list[dict[str, Any]]:
        """Read the template, or all of them, with their steps, which a list may not show."""
        if self._request.checklist_id is not None:
            ids = [self._request.checklist_id]
        else:
            listed = self._client.fetch(lambda hook: list(hook.paginate("checklists", **{"with": "steps"})))
            complete = [each for each in listed if "prerun" in each and "steps" in each]
            if len(complete) == len(listed):
                return listed
            ids = [str(each["id"]) for each in listed]
        return list(map(self._read_checklist, ids))

    def _read_checklist(self, checklist_id: str) -> dict[str, Any]:
        return self._client.fetch(lambda hook: hook.get_checklist(checklist_id, with_=("steps",)))

    def _collect(self, layout: Layout, checklists: list[dict[str, Any]], summary: _Summary) -> None:
        request = self._request
        start = self._staging.position()
        run_id = _RUN_ID[request.records]
        seen = {str(record[run_id]) for record in self._staging.records()}
        if seen:
            self._log.info("Continuing after %d runs that an earlier attempt read", len(seen))
        # Templates that are archived are not listed, and their runs may have fields.
        has_fields = request.checklist_id is None or any(map(has_task_fields, checklists))
        params = {
            **request.filters,
            **({} if request.checklist_id is None else {"checklist_id": request.checklist_id}),
            "with": ",".join(WITH[request.records]),
            "per_page": request.page_size,
        }
        listing = RunListing(
            lambda number, params: self._client.fetch(lambda hook: fetch_page(hook, number, params)),
            params,
            since=None if request.since is None else request.since - request.overlap,
            until=request.until,
            seen=seen,
            start=start,
            log=self._log.info,
        )
        try:
            for run in listing:
                found = []
                for record in self._records_of(layout, run, has_fields):
                    if self._known_before.get(str(record["id"])) == summary.fingerprint(record):
                        summary.note(record)  # for the next load
                    else:
                        found.append(record)
                self._progress.add(len(found), self._client.requests, listing.total)
                self._staging.add(found, listing.position)
        finally:
            # An interrupted attempt leaves what it has read to the next one.
            self._staging.flush(listing.position)

    def _records_of(self, layout: Layout, run: dict[str, Any], has_fields: bool) -> Iterator[dict[str, Any]]:
        if self._request.records == "tasks":
            for task in self._tasks_of(run):
                record = task_record(layout, run, task)
                yield self._with_attachments(record, layout, task_answers(task))
            return
        answers = kickoff_answers(run, self._kickoff_fields(run))
        of_tasks = self._trusted(listed_answers(run)) if has_fields else []
        is_gone = bool(run.get("archived_at")) and has_fields and not of_tasks
        if of_tasks is None and not is_gone:
            tasks = self._read_tasks(run)
            is_gone = tasks is None
            of_tasks = [answer for task in tasks or () for answer in task_answers(task)]
        answers += of_tasks or []
        has_task_answers = not is_gone
        record = run_record(layout, run, answers, has_task_answers=has_task_answers)
        yield self._with_attachments(record, layout, answers)

    def _tasks_of(self, run: dict[str, Any]) -> list[Mapping[str, Any]]:
        listed = self._trusted(listed_tasks(run))
        if listed is not None:
            return visible(listed)
        return [] if run.get("archived_at") else self._read_tasks(run) or []

    def _trusted(self, listed: list[T] | None) -> list[T] | None:
        """Return what a list shows of a run; ``None`` until it has shown something, since it may show nothing."""
        self._list_shows_answers = self._list_shows_answers or bool(listed)
        return listed if self._list_shows_answers else None

    def _read_tasks(self, run: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
        """Read the tasks of a run that the list does not show; return ``None`` if the run was deleted meanwhile."""
        try:
            tasks = self._client.fetch(lambda hook: hook.get_tasks(str(run["id"]), with_=("form_fields",)))
        except TallyfyNotFoundError:
            return None
        return visible(tasks)

    def _kickoff_fields(self, run: Mapping[str, Any]) -> tuple[FormField, ...]:
        """Return the kick-off fields of a run's template, if the run does not show its own."""
        checklist_id = str(run.get("checklist_id") or "")
        if run.get("ko_form_fields") is not None or not checklist_id:
            return ()
        if checklist_id not in self._checklists:
            try:
                checklist = self._read_checklist(checklist_id)
            except TallyfyNotFoundError:  # deleted
                checklist = {}
            self._checklists[checklist_id] = read_kickoff_fields(checklist)
        return self._checklists[checklist_id]

    def _with_attachments(self, record: dict[str, Any], layout: Layout, answers: Answers) -> dict[str, Any]:
        if self._request.attachments:
            map_files(record, layout, answers, self._copy_attachment)
        return record

    def _copy_attachment(self, entry: Mapping[str, Any]) -> str | None:
        """Copy a file to the staging folder, and return its later path, relative to the records."""
        file_id, name = str(entry["id"]), safe_name(str(entry.get("filename") or "file"))
        staged = f"{safe_name(file_id)}/{name}"
        folder = self._staging.folder
        if not (folder / "files").exists(staged):
            try:
                self._client.fetch(lambda hook: download(hook, file_id, lambda: folder.create(_ATTACHMENT)))
            except TallyfyNotFoundError as error:
                self._log.warning("File %s is not copied: %s", file_id, error)
                return None
            folder.move(_ATTACHMENT, folder / "files", staged)
        return posixpath.join(self._target.attachments_name, staged)

    # Writing

    def _check_target(self) -> None:
        if self._request.overwrite or self._owned() is not None:
            return
        taken = self._taken()
        # An attempt that was interrupted while it moved the files left some, but no schema file yet.
        if taken and not self._staging.folder.exists(_PUBLISHING):
            raise FileExistsError(
                f"File {taken[0]} exists, and another task instance wrote it; set overwrite=True to replace it."
            )

    def _taken(self) -> list[str]:
        """Return the existing files that have names of this export."""
        stem, ending = re.escape(self._target.stem), re.escape(self._target.ending)
        return [
            name for name in self._target.folder.names() if re.fullmatch(rf"{stem}(-\d{{5}})?{ending}", name)
        ]

    def _owned(self) -> list[str] | None:
        """Return the files that this task instance wrote before it was cleared; ``None`` if it wrote none."""
        try:
            with self._target.folder.open(self._target.schema_name) as file:
                written = json.load(file)[_OWNER]
            return list(written["files"]) if written["id"] == self._export_id else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _write(self, layout: Layout, summary: _Summary) -> tuple[str, ...]:
        """Write the files under temporary names, at least one, and return their names."""
        records = summary.count(self._staging.records())
        names: list[str] = []
        while (first := list(islice(records, 1))) or not names:
            names.append(self._target.file_name(len(names) + 1))
            of_file = chain(first, islice(records, self._request.max_records_per_file - 1))
            with self._staging.folder.create(f"{names[-1]}.tmp") as file:
                write_records(file, names[-1], self._request.file_format, layout.columns, of_file)
        return tuple(names)

    def _publish(self, layout: Layout, names: tuple[str, ...], records: int, began_at: datetime) -> None:
        self._check_target()  # another task may have written the same files meanwhile
        self._staging.check_attempt()
        folder, staged = self._target.folder, self._staging.folder
        replaces_all = self._request.overwrite or staged.exists(_PUBLISHING)
        stale = set(self._taken() if replaces_all else self._owned() or ()) - set(names)
        staged.write(_PUBLISHING, b"")
        folder.remove(self._target.schema_name)  # its presence says that the files are complete
        for name in names:
            staged.move(f"{name}.tmp", folder, name)
        files = staged / "files"
        attachments = folder / self._target.attachments_name
        for file_id in files.names():
            for name in (files / file_id).names():
                files.move(f"{file_id}/{name}", attachments, f"{file_id}/{name}")
        for name in stale:
            folder.remove(name)
        written = {"id": self._export_id, "files": names, "records": records, "began_at": _text(began_at)}
        schema = {**layout.json_schema(), _OWNER: written}
        folder.write(self._target.schema_name, json.dumps(schema, indent=1, ensure_ascii=False).encode())
        self._staging.remove_all()


@dataclass
class _Summary:
    """
    Counts the records, and collects the fingerprints of those that changed last.

    :param last_updated: the column that says when a record changed last. Its texts sort by time.
    :param known_since: records that changed earlier get no fingerprint.
    :param known: the fingerprints, by id.
    """

    last_updated: str
    known_since: str
    known: dict[str, str]
    records: int = 0
    newest: str = ""

    def count(self, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for record in records:
            self.records += 1
            self.note(record)
            yield record

    def fingerprint(self, record: Mapping[str, Any]) -> str:
        """Return when a record changed last, and a hash of all that it holds."""
        digest = blake2b(json_line(dict(record)), digest_size=9).hexdigest()
        return f"{record.get(self.last_updated)} {digest}"

    def note(self, record: Mapping[str, Any]) -> None:
        updated = record.get(self.last_updated) or ""
        self.newest = max(updated, self.newest)
        if updated >= self.known_since:
            self.known[str(record["id"])] = self.fingerprint(record)
            if len(self.known) > 2 * MAX_KNOWN:
                self.known = self.latest()

    def latest(self) -> dict[str, str]:
        return dict(nlargest(MAX_KNOWN, self.known.items(), key=lambda item: item[1]))


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
