"""Uploaded files, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Form, Response, UploadFile

from airflow_provider_tallyfy.sandbox.clock import as_text
from airflow_provider_tallyfy.sandbox.dependencies import Caller, SandboxStore, organization_router
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid, not_found
from airflow_provider_tallyfy.sandbox.model import File, Member
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import Store

MAX_BYTES = 100 * 1024 * 1024
_Text = Annotated[str, Form(min_length=1)]

router = organization_router()


@router.post("/assets")
@router.post("/file")
async def upload(
    store: SandboxStore,
    caller: Caller,
    name: UploadFile,
    uploaded_from: _Text,
    subject_type: _Text,
    subject_id: _Text,
    step_id: Annotated[str | None, Form()] = None,
) -> JSON:
    """Store a file; it is not in a form field before a task's ``taskdata`` or a ``prerun`` names it."""
    if (name.size or 0) > MAX_BYTES:
        raise invalid({"name": ["The name may not be greater than 102400 kilobytes."]})
    _check_subject(store, caller, subject_type, subject_id)
    content, filename = await name.read(), name.filename or "file"
    subject = (subject_type, subject_id, step_id)
    file = File(store.new_id(), filename, content, uploaded_from, store.now(), *subject)
    store.files[file.id] = file
    return _shown(file)


@router.get("/assets/{file_id}")
async def get_file(store: SandboxStore, file_id: str) -> JSON:
    return _shown(_file(store, file_id))


@router.get("/file/{file_id}/dl")
async def download(store: SandboxStore, file_id: str) -> Response:
    file = _file(store, file_id)
    # A header is Latin-1, so a name with other characters is escaped.
    filename = file.filename.encode("ascii", "backslashreplace").decode().replace('"', "'")
    headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
    return Response(file.content, media_type="application/octet-stream", headers=headers)


@router.delete("/file/{file_id}")
@router.delete("/assets/{file_id}")
async def delete_file(store: SandboxStore, file_id: str) -> Response:
    del store.files[_file(store, file_id).id]
    return Response()


def _file(store: Store, file_id: str) -> File:
    if file_id not in store.files:
        raise not_found()
    return store.files[file_id]


def _check_subject(store: Store, caller: Member, subject_type: str, subject_id: str) -> None:
    find: dict[str, Callable[[], object]] = {
        "Checklist": lambda: store.checklist(subject_id),
        "Run": lambda: store.run(subject_id, caller),
        "Task": lambda: store.task(subject_id, caller),
    }
    try:
        find[subject_type]()
    except KeyError:
        raise invalid({"subject_type": ["The selected subject type is invalid."]}) from None
    except RefusedError:
        raise invalid({"subject_id": ["The selected subject id is invalid."]}) from None


def _shown(file: File) -> JSON:
    return {
        "id": file.id,
        "filename": file.filename,
        "version": 1,
        "uploaded_from": file.uploaded_from,
        "uploaded_at": as_text(file.uploaded_at),
        "step_id": file.step_id,
        "source": "local",
        "system": None,
        "uploaded_to_s3": True,
        "subject": {"id": file.subject_id, "type": file.subject_type},
        "url": f"organizations/sandbox/file/{file.id}/dl",
    }
