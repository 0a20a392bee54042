"""
Keep what an export has read until all of it is there, in storage that a retry on another worker can read.

A folder beside the files, named by the task instance, holds *segments*: gzipped JSON Lines of up to a thousand records
each, complete or absent. A retry continues after the last one. When all runs are read, the files are made from the
segments under temporary names in that folder, and then moved to their place.
"""

from __future__ import annotations

import gzip
import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any
from uuid import uuid4

from fsspec.asyn import AsyncFileSystem  # type: ignore[import-untyped]

from airflow_provider_tallyfy.export.listing import Position
from airflow_provider_tallyfy.export.writers import json_line

MAX_RECORDS = 1_000
MAX_BYTES = 4 * 1024 * 1024
MAX_AGE = 300.0
"""Seconds of reading that a killed worker may lose."""
_REQUEST, _ATTEMPT = "export.json", "attempt"
_SEGMENT = re.compile(r"segment-(\d{6})-(\d+)-(\d+)\.jsonl\.gz")


class Folder:
    """
    A folder in object storage.

    :param fs: the file system, as fsspec has it.
    :param path: of the folder, as the file system has it.
    """

    def __init__(self, fs: Any, path: str) -> None:
        self._fs = fs
        self.path = path.rstrip("/") or "/"

    def __truediv__(self, name: str) -> Folder:
        return Folder(self._fs, self._join(name))

    def _join(self, name: str) -> str:
        return posixpath.join(self.path, name)

    def names(self) -> list[str]:
        """Return the names of all files and folders in it; none if the folder does not exist."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(name.rstrip("/")) for name in found)

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._join(name)))

    def create(self, name: str) -> Any:
        """Open a file for writing."""
        path = self._join(name)
        return self._with_parent(path, lambda: self._fs.open(path, "wb"))

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        file: IO[bytes] = self._fs.open(self._join(name), "rb")
        return file

    def write(self, name: str, content: bytes) -> None:
        """Write a file that appears complete or not at all."""
        with self.create(f"{name}.tmp") as file:
            file.write(content)
        self.move(f"{name}.tmp", self, name)

    def move(self, name: str, folder: Folder, new_name: str) -> None:
        """Move a file, and replace one that has the new name. An object store copies it on its own side."""
        source, target = self._join(name), folder._join(new_name)
        if isinstance(self._fs, AsyncFileSystem):
            # An object store. Its `mv` would list folders, and take `*` and `[` for patterns.
            self._fs.cp_file(source, target)
            self._fs.rm_file(source)
        else:
            self._with_parent(target, lambda: self._fs.mv(source, target))

    def remove(self, name: str) -> None:
        """Delete a file, if it exists."""
        try:
            self._fs.rm_file(self._join(name))
        except FileNotFoundError:
            return

    def remove_all(self) -> None:
        """Delete the folder and all that is in it."""
        self._fs.invalidate_cache()
        for path in self._fs.find(self.path):
            self._fs.rm_file(path)
        if self._fs.isdir(self.path):  # only folders are left, which object stores do not have
            self._fs.rm(self.path, recursive=True)

    def _with_parent(self, path: str, make_file: Callable[[], Any]) -> Any:
        """Make a file. Object stores need no folder for it; other file systems may."""
        try:
            return make_file()
        except FileNotFoundError:
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
            return make_file()


class Staging:
    """
    The segments of one export.

    :param folder: the folder that holds them and nothing else.
    :param now: returns seconds that only grow.
    """

    def __init__(self, folder: Folder, now: Callable[[], float]) -> None:
        self.folder = folder
        self._now = now
        self._attempt = uuid4().hex.encode()
        self._next = 1
        self._lines: list[bytes] = []
        self._bytes = 0
        self._flushed_at = now()

    def begin(self, request: Mapping[str, Any], start: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """
        Return what the first attempt at a request began with, so that its segments can be continued.

        :param request: all that decides which records there are. What another request left is deleted.
        :param start: returns what to begin with, as JSON; called by the first attempt only.
        """
        request = json.loads(json.dumps(request, default=str))
        started: dict[str, Any] | None = None
        try:
            with self.folder.open(_REQUEST) as file:
                kept = json.load(file)
            if kept["request"] == request:
                started = dict(kept["start"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass
        if started is None:
            self.remove_all()
            started = start()
            self.folder.write(_REQUEST, json.dumps({"request": request, "start": started}).encode())
        self.folder.write(_ATTEMPT, self._attempt)
        return started

    def check_attempt(self) -> None:
        """
        Check that no other attempt has begun since: Airflow starts one if it does not hear from this worker.

        :raises RuntimeError: one has, so this one must not write anything.
        """
        try:
            with self.folder.open(_ATTEMPT) as file:
                if file.read() == self._attempt:
                    return
        except FileNotFoundError:
            pass
        raise RuntimeError("This attempt ends, since another attempt of the same task has begun.")

    def remove_all(self) -> None:
        """Delete everything, the request first, so that nothing continues after an incomplete deletion."""
        self.folder.remove(_REQUEST)
        self.folder.remove_all()

    def position(self) -> Position:
        """Return where in the list the last segment ends."""
        numbers = [found.groups() for name in self.folder.names() if (found := _SEGMENT.fullmatch(name))]
        if not numbers:
            return Position()
        number, listing, page = map(int, max(numbers))
        self._next = number + 1
        return Position(listing, page)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield all records that are in segments, in their order."""
        for name in self.folder.names():
            if _SEGMENT.fullmatch(name):
                with self.folder.open(name) as packed, gzip.open(packed) as file:
                    yield from map(json.loads, file)

    def add(self, records: list[dict[str, Any]], position: Position) -> None:
        """Add the records of one run, which go to the same segment."""
        lines = list(map(json_line, records))
        self._lines += lines
        self._bytes += sum(map(len, lines))
        is_large = len(self._lines) >= MAX_RECORDS or self._bytes >= MAX_BYTES
        if is_large or self._now() - self._flushed_at >= MAX_AGE:
            self.flush(position)

    def flush(self, position: Position) -> None:
        """Write the records that were added to a segment, if there are any."""
        if self._lines:
            self.check_attempt()
            name = f"segment-{self._next:06}-{position.listing}-{position.page}.jsonl.gz"
            self.folder.write(name, gzip.compress(b"".join(self._lines), compresslevel=1, mtime=0))
            self._next += 1
        self._lines, self._bytes, self._flushed_at = [], 0, self._now()
