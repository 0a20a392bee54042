"""Files go to Tallyfy and come from it piece by piece, whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import requests

from airflow_provider_tallyfy.exceptions import (
    TallyfyConnectionError,
    TallyfyIndeterminateError,
    TallyfyNotFoundError,
    TallyfyRateLimitError,
    TallyfyResponseError,
    TallyfyValidationError,
)
from airflow_provider_tallyfy.hooks import files

API = "https://tallyfy.test/api/organizations/acme"
DOWNLOAD = f"{API}/file/f1/dl"
ASSET = {"id": "f1", "filename": "report.pdf", "source": "local"}


def test_download_into_a_folder_or_to_a_path(hook, requests_mock, tmp_path):
    name = {"Content-Disposition": 'attachment; filename="report.pdf"'}
    requests_mock.get(DOWNLOAD, content=b"x" * 700_000, headers=name)
    path = hook.download_file("f1", tmp_path)
    assert path == tmp_path / "report.pdf"
    assert path.read_bytes() == b"x" * 700_000
    assert hook.download_file("f1", tmp_path / "other") == tmp_path / "other"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other", "report.pdf"]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("", "f1"),
        ("attachment", "f1"),
        ('attachment; filename="../r\xc3\xa9sum\xc3\xa9.pdf"', "_résumé.pdf"),
        ("attachment; filename*=UTF-8''r%C3%A9sum%C3%A9.pdf", "résumé.pdf"),
        ("attachment; filename=\"_.pdf\"; filename*=utf-8''%E8%AA%9E.pdf", "語.pdf"),
        ("attachment; filename*=no-such-charset''a.pdf", "a.pdf"),
    ],
)
def test_name_of_a_downloaded_file(hook, requests_mock, tmp_path, header, name):
    requests_mock.get(DOWNLOAD, content=b"x", headers={"Content-Disposition": header})
    assert hook.download_file("f1", tmp_path) == tmp_path / name


def test_broken_download_is_repeated(hook, requests_mock, tmp_path):
    requests_mock.get(
        DOWNLOAD, [{"status_code": 503}, {"exc": requests.ConnectionError}, {"content": b"whole"}]
    )
    assert hook.download_file("f1", tmp_path / "x").read_bytes() == b"whole"
    assert requests_mock.call_count == 3


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ({"status_code": 404, "json": {"message": "No such file."}}, TallyfyNotFoundError),
        ({"content": b"short", "headers": {"Content-Length": "50"}}, TallyfyConnectionError),
        ({"status_code": 302, "headers": {"Location": "https://elsewhere.test"}}, TallyfyResponseError),
    ],
)
def test_failed_download_leaves_no_file(connect, requests_mock, tmp_path, response, error):
    requests_mock.get(DOWNLOAD, **response)
    with pytest.raises(error):
        connect(retries=0).download_file("f1", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_error_of_the_disk_is_raised_unchanged(hook, requests_mock, pauses):
    requests_mock.get(DOWNLOAD, content=b"x")

    def create():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        files.download(hook, "f1", create)
    assert (requests_mock.call_count, pauses) == (1, [])


def test_download_is_bounded_in_size_and_time(hook, requests_mock, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILE_SIZE", 1024)
    requests_mock.get(DOWNLOAD, content=b"x" * 1025)
    with pytest.raises(TallyfyResponseError, match="larger"):
        hook.download_file("f1", tmp_path / "x")
    monkeypatch.setattr(files, "MAX_DURATION", -1.0)
    requests_mock.get(DOWNLOAD, content=b"x")
    with pytest.raises(TallyfyResponseError, match="not complete after"):
        hook.download_file("f1", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def report(tmp_path):
    path = tmp_path / 'my "report".pdf'
    path.write_bytes(b"content\r\n" * 100_000)
    return path


def sent(request):
    body = b"".join(request.body)
    assert request.headers["Content-Length"] == str(len(body))
    return body


def test_upload_sends_a_multipart_form(hook, requests_mock, report):
    requests_mock.post(f"{API}/assets", json={"data": ASSET}, status_code=201)
    assert hook.upload_file(report, checklist_id="c1") == ASSET
    body = sent(requests_mock.last_request)
    assert b'name="subject_type"\r\n\r\nChecklist\r\n' in body
    assert b'name="uploaded_from"\r\n\r\nko_field\r\n' in body
    assert b'filename="my _report_.pdf"' in body
    assert report.read_bytes() in body

    hook.upload_file(report, checklist_id="c1", run_id="r1", step_id="s1", field_id="f1", name="x.pdf")
    body = sent(requests_mock.last_request)
    for name, value in {
        "subject_type": "Run",
        "subject_id": "r1",
        "step_id": "s1",
        "uploaded_from": "f1",
    }.items():
        assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in body


def test_upload_is_repeated_only_after_429(hook, requests_mock, report):
    requests_mock.post(f"{API}/assets", [{"status_code": 429}, {"json": {"data": ASSET}}])
    assert hook.upload_file(report, checklist_id="c1") == ASSET
    assert sent(requests_mock.request_history[0]) != b""
    requests_mock.post(f"{API}/assets", status_code=502)
    with pytest.raises(TallyfyIndeterminateError):
        hook.upload_file(report, checklist_id="c1")
    requests_mock.post(f"{API}/assets", status_code=422, json={"message": "The type is not allowed."})
    with pytest.raises(TallyfyValidationError, match="type is not allowed"):
        hook.upload_file(report, checklist_id="c1")
    assert requests_mock.call_count == 4


def test_invalid_upload_is_refused_before_it_is_sent(hook, requests_mock, tmp_path, monkeypatch, report):
    (tmp_path / "empty").touch()
    (tmp_path / "secret").write_text("x")
    monkeypatch.setattr(files, "MAX_FILE_SIZE", 1024)
    open_path = Path.open

    def opened(path, *arguments):
        if path.name == "secret":
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_path(path, *arguments)

    monkeypatch.setattr(Path, "open", opened)
    for path, message in (
        (tmp_path / "none", "no file"),
        (tmp_path, "no file"),
        (tmp_path / "empty", "0 bytes"),
        (report, "900,000 bytes"),
        (tmp_path / "secret", "secret' cannot be read on this machine: Permission denied"),
        (tmp_path / ("x" * 300), "cannot be read on this machine: File name too long"),
    ):
        with pytest.raises(ValueError, match=message):
            hook.upload_file(path, checklist_id="c1")
    with pytest.raises(ValueError, match="run_id and field_id"):
        hook.upload_file(report, checklist_id="c1", run_id="r1")
    assert requests_mock.call_count == 0


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../../x", "a/b\\c", "x" * 400, "a\0b\r\n", "\ud800", "語" * 200 + ".pdf"]
)
def test_safe_name(name):
    safe = files.safe_name(name)
    assert safe not in ("", ".", "..")
    assert not set(safe) & set('/\\\0\r\n"')
    assert len(safe.encode()) <= 200  # a file system takes 255 bytes
    assert safe.endswith(".pdf") or not name.endswith(".pdf")


def test_upload_fails_after_the_last_429(connect, requests_mock, report):
    requests_mock.post(f"{API}/assets", status_code=429)
    with pytest.raises(TallyfyRateLimitError):
        connect(retries=1).upload_file(report, checklist_id="c1")
