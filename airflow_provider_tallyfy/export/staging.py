"""
Where an export keeps what it has read until all of it is there, in storage that a retry on another worker sees.

A folder of its own beside the files to be, named by the task instance, holds *segments*: gzipped JSON Lines of a few
hundred records each, complete or absent. A retry goes on behind the last one. The files are made from the segments at
the end, under temporary names in that folder, and then moved to where they belong.
"""

from __future__ import annotations

import gzip
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from airflow_provider_tallyfy.export.listing import Place
from airflow_provider_tallyfy.export.writers import json_line

_PLAN = "export.json"
_SEGMENT = re.compile(r"segment-(\d{6})-(\d+)-(\d+)\.jsonl\.gz")


class Folder:
    """
    A folder in object storage, as far as an export uses it.

    :param fs: the file system, as fsspec has it.
    :param path: of the folder, as the file system has it.
    """

    def __init__(self, fs: Any, path: str) -> None:
        self._fs = fs
        self.path = path.rstrip("/") or "/"

    def __truediv__(self, name: str) -> Folder:
        return Folder(self._fs, posixpath.join(self.path, name))

    def _join(self, name: str) -> str:
        return posixpath.join(self.path, name)

    def names(self) -> list[str]:
        """Return the names of what is in the folder; none if there is no folder."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(name.rstrip("/")) for name in found)

    def exists(self, name: str) -> bool:
        """Tell whether there is such a file."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._join(name)))

    def create(self, name: str) -> Any:
        """Open a file for writing; object stores have no folders, other file systems may need one first."""
        path = self._join(name)
        try:
            return self._fs.open(path, "wb")
        except FileNotFoundError:
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
            return self._fs.open(path, "wb")

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        file: IO[bytes] = self._fs.open(self._join(name), "rb")
        return file

    def write(self, name: str, content: bytes) -> None:
        """Write a file that is there whole or not at all."""
        with self.create(f"{name}.tmp") as file:
            file.write(content)
        self.move(f"{name}.tmp", self, name)

    def move(self, name: str, folder: Folder, new_name: str) -> None:
        """Move a file, in place of one that has the new name."""
        target = folder._join(new_name)
        try:
            self._fs.mv(self._join(name), target)
        except FileNotFoundError:
            self._fs.makedirs(posixpath.dirname(target), exist_ok=True)
            self._fs.mv(self._join(name), target)

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        try:
            self._fs.rm_file(self._join(name))
        except FileNotFoundError:
            return

    def remove_all(self) -> None:
        """Delete the folder with all that is in it."""
        try:
            self._fs.rm(self.path, recursive=True)
        except FileNotFoundError:
            return


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What an export does, kept with its segments: a retry goes on only with the same.

    :param began_at: when the first try began, ISO 8601 in UTC; what changed later belongs to the next load.
    :param since: what the export is told to begin with, ISO 8601 in UTC.
    :param request: all else that decides which records there are.
    """

    began_at: str
    since: str | None
    request: Mapping[str, Any]


class Staging:
    """
    The segments of one export.

    :param folder: the folder that holds them and nothing else.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._next = 1

    def resume(self, plan: Plan) -> Plan | None:
        """Return the plan of the try before if it had the same request; delete what any other left."""
        try:
            with self.folder.open(_PLAN) as file:
                kept = Plan(**json.load(file))
        except (FileNotFoundError, ValueError, TypeError):
            kept = None
        if kept is None or kept.request != json.loads(json.dumps(plan.request)):
            self.remove_all()
            return None
        return kept

    def begin(self, plan: Plan) -> None:
        """Keep the plan of a new export."""
        kept = {"began_at": plan.began_at, "since": plan.since, "request": plan.request}
        self.folder.write(_PLAN, json.dumps(kept).encode())

    def remove_all(self) -> None:
        """Delete everything, the plan first: no try goes on with what is left if the deletion is interrupted."""
        self.folder.remove(_PLAN)
        self.folder.remove_all()

    def add(self, lines: list[bytes], place: Place) -> None:
        """Keep some records, with where in the list they end."""
        name = f"segment-{self._next:06}-{place.listing}-{place.page}.jsonl.gz"
        self.folder.write(name, gzip.compress(b"".join(lines), compresslevel=1, mtime=0))
        self._next += 1

    def place(self) -> Place:
        """Return where the last segment ends."""
        numbers = [found.groups() for name in self.folder.names() if (found := _SEGMENT.fullmatch(name))]
        if not numbers:
            return Place()
        number, listing, page = max((int(each[0]), int(each[1]), int(each[2])) for each in numbers)
        self._next = number + 1
        return Place(listing, page)

    def records(self) -> Iterator[dict[str, Any]]:
        """Give all records that were kept, in their order."""
        for name in self.folder.names():
            if _SEGMENT.fullmatch(name):
                with self.folder.open(name) as packed, gzip.open(packed) as file:
                    yield from map(json.loads, file)


class SegmentBuffer:
    """
    Records that are on their way to a segment.

    :param staging: where the segment goes.
    """

    MAX_RECORDS = 1_000
    MAX_BYTES = 4 * 1024 * 1024
    MAX_AGE = 300.0
    """Seconds of work that a killed worker may lose."""

    def __init__(self, staging: Staging, now: float) -> None:
        self._staging = staging
        self._lines: list[bytes] = []
        self._bytes = 0
        self._begun_at = now

    def add(self, records: list[dict[str, Any]], place: Place, now: float) -> None:
        """Take the records of one run; these go to the same segment."""
        lines = list(map(json_line, records))
        self._lines += lines
        self._bytes += sum(map(len, lines))
        is_large = len(self._lines) >= self.MAX_RECORDS or self._bytes >= self.MAX_BYTES
        if is_large or now - self._begun_at >= self.MAX_AGE:
            self.flush(place, now)

    def flush(self, place: Place, now: float) -> None:
        """Write the segment, if there is anything for it."""
        if self._lines:
            self._staging.add(self._lines, place)
        self._lines, self._bytes, self._begun_at = [], 0, now
