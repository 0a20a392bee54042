"""Download and upload the files of forms, streamed, so that no file is held in memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from email.message import Message
from email.utils import collapse_rfc2231_value
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import requests

from airflow_provider_tallyfy.exceptions import TallyfyResponseError
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.protocol.responses import read_item
from airflow_provider_tallyfy.protocol.urls import identifier

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

MAX_FILE_SIZE = 100 * 1024 * 1024
"""Bytes that Tallyfy accepts (page "Upload & attach file")."""
MAX_DURATION = 1800.0
"""Seconds in which a download must be complete, even if data keep arriving."""
_CHUNK = 256 * 1024
_MAX_NAME_BYTES = 200
"""File systems allow 255; an ending may be added."""


def safe_name(name: str) -> str:
    """Return a file name that is no path to another folder, and that every storage accepts."""
    cleaned = re.sub(r"[^\w.\- ]", "_", str(sanitize_payload(name))).strip(" .")
    return cleaned.encode()[-_MAX_NAME_BYTES:].decode(errors="ignore").strip(" .") or "file"


def download(hook: TallyfyHook, file_id: str, create: Callable[[], AbstractContextManager[IO[bytes]]]) -> str:
    """
    Download a file, and return its name in Tallyfy.

    :param create: opens an empty file to write to, for each attempt.
    :raises TallyfyResponseError: the file is larger than Tallyfy accepts, or takes too long.
    """
    names = [file_id]

    def receive(response: requests.Response) -> None:
        names.append(_name_of(response) or file_id)
        ends_at, size = time.monotonic() + MAX_DURATION, 0
        with response, create() as sink:
            for chunk in response.iter_content(_CHUNK):
                size += len(chunk)
                if size > MAX_FILE_SIZE or time.monotonic() > ends_at:
                    limit = f"larger than {MAX_FILE_SIZE // 1024**2} MiB"
                    reason = limit if size > MAX_FILE_SIZE else f"not complete after {MAX_DURATION:.0f} s"
                    raise TallyfyResponseError(f"File {file_id} is {reason}; it is not downloaded.")
                sink.write(chunk)
        expected = response.headers.get("Content-Length", "")
        if expected.isdigit() and "Content-Encoding" not in response.headers and int(expected) != size:
            raise requests.ConnectionError(f"received {size} of {expected} bytes")

    hook._send(
        hook._build("GET", f"file/{identifier(file_id, 'file_id')}/dl"),
        lambda body: body,
        receive=receive,
    )
    return safe_name(names[-1])


def download_to_path(hook: TallyfyHook, file_id: str, path: Path) -> Path:
    """Download a file to a path, or into a folder; see :meth:`TallyfyHook.download_file`."""
    folder = path if path.is_dir() else path.parent
    with NamedTemporaryFile(dir=folder, prefix=".tallyfy-", delete=False) as file:
        temporary = Path(file.name)
    try:
        name = download(hook, file_id, lambda: temporary.open("wb"))
        target = path / name if path.is_dir() else path
        temporary.chmod(0o644)
        return temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


def upload(
    hook: TallyfyHook,
    path: Path,
    checklist_id: str | None,
    run_id: str | None,
    step_id: str | None,
    field_id: str | None,
    name: str | None,
) -> dict[str, Any]:
    """Upload a file; see :meth:`TallyfyHook.upload_file`."""
    if (run_id is None) != (field_id is None) or (run_id is None and step_id is not None):
        raise ValueError(
            "A file for a task needs run_id and field_id; one for a kick-off form neither, nor step_id."
        )
    name = safe_name(path.name if name is None else name)
    size = check_file(path)
    fields = {"source": "local"}
    if run_id is None or checklist_id is not None:
        fields["checklist_id"] = identifier(checklist_id, "checklist_id")
    if step_id is not None:  # a one-off task has none
        fields["step_id"] = identifier(step_id, "step_id")
    if run_id is None:
        subject = {
            "subject_type": "Checklist",
            "subject_id": fields["checklist_id"],
            "uploaded_from": "ko_field",
        }
    else:
        field = identifier(field_id, "field_id")
        subject = {"subject_type": "Run", "subject_id": identifier(run_id, "run_id"), "uploaded_from": field}
    form = {**fields, **subject}
    return hook._send(
        hook._build("POST", "assets"), read_item, body=lambda: _multipart(form, path, name, size)
    )


def check_file(path: Path) -> int:
    """
    Return the size of a file that can be uploaded.

    :raises ValueError: the file does not exist, cannot be read, or is empty or too large.
    """
    try:
        if not path.is_file():
            raise ValueError(f"There is no file {str(path)!r} on this machine.")
        with path.open("rb"):  # an error while it is sent would look like one of the network
            size = path.stat().st_size
    except OSError as error:
        raise ValueError(f"File {str(path)!r} cannot be read on this machine: {error.strerror}.") from None
    if not 0 < size <= MAX_FILE_SIZE:
        raise ValueError(
            f"File {str(path)!r} has {size:,} bytes; Tallyfy takes 1 byte to {MAX_FILE_SIZE // 1024**2} MiB."
        )
    return size


class _Multipart:
    """A form with one file, which requests sends in chunks; its length is known before."""

    def __init__(self, head: bytes, path: Path, size: int, tail: bytes) -> None:
        self._head, self._path, self._size, self._tail = head, path, size, tail

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        left = self._size
        with self._path.open("rb") as file:
            # A file that grows meanwhile is cut; one that shrinks aborts the request, and nothing is stored.
            while left and (chunk := file.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk
        if left:
            raise requests.ConnectionError(f"{self._path.name} became shorter while it was sent")
        yield self._tail


def _multipart(fields: dict[str, str], path: Path, name: str, size: int) -> tuple[_Multipart, str]:
    boundary = uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="name"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    tail = f"\r\n--{boundary}--\r\n".encode()
    return _Multipart("".join(parts).encode(), path, size, tail), f"multipart/form-data; boundary={boundary}"


def _name_of(response: requests.Response) -> str | None:
    """Return the file name in a ``Content-Disposition``: the encoded one, ``filename*``, or else the plain one."""
    message = Message()
    message["Content-Disposition"] = response.headers.get("Content-Disposition", "")
    names = [value for key, value in message.get_params([], "Content-Disposition") if key == "filename"]
    encoded = next((name for name in names if isinstance(name, tuple)), None)
    if encoded is not None:
        return collapse_rfc2231_value(encoded)
    # HTTP headers are read as Latin-1, but servers write UTF-8.
    return names[0].encode("latin-1", "replace").decode("utf-8", "replace") if names else None
