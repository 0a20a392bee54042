"""Files on this machine become answers in Tallyfy, and answers become files again, over real HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.actions import attempts
from airflow_provider_tallyfy.exceptions import TallyfyNotFoundError, TallyfyServerError
from airflow_provider_tallyfy.export import client, staging
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.operators.tallyfy import TallyfyCompleteTaskOperator, TallyfyLaunchRunOperator
from airflow_provider_tallyfy.sandbox.seeds import ONBOARDING_CHECKLIST_ID
from airflow_provider_tallyfy.transfers.tallyfy_to_object_storage import TallyfyToObjectStorageOperator
from dev.sandbox import SandboxClient
from tests.unit.conftest import TaskInstance, TaskStateStore

CONTENT = b"%PDF-1.7\n" * 100_000


@pytest.fixture
def users(sandbox):
    return SandboxClient(sandbox.url)


@pytest.fixture
def contract(tmp_path):
    path = tmp_path / "the contract.pdf"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setattr(version_compat, "AIRFLOW_V_3_3_PLUS", True)
    monkeypatch.setattr(attempts, "never_expire", lambda: None)
    instance = TaskInstance()
    instance.dag_id, instance.run_id, instance.task_id, instance.map_index = "dag", "manual", "launch", -1
    return {"ti": instance, "task_state_store": TaskStateStore()}


def launch(context, contract):
    kickoff = {
        "customer_name": "Globex",
        "contact_email": "client@example.org",
        "region": "Europe",
        "contract": contract,
    }
    task = TallyfyLaunchRunOperator(task_id="launch", checklist_id=ONBOARDING_CHECKLIST_ID, kickoff=kickoff)
    return task.execute(context)


def uploads(users):
    rows = users.control("GET", "/stats")["routes"]
    return sum(row["count"] for row in rows if row["method"] == "POST" and row["path"].endswith("/assets"))


def fault(sandbox, **fault):
    requests.post(f"{sandbox.url}/_sandbox/faults", json=[fault], timeout=10).raise_for_status()


def files_of(run):
    return [
        file
        for value in run["prerun"].values()
        if isinstance(value, list)
        for file in value
        if "filename" in file
    ]


@pytest.mark.parametrize("given", [str, Path, lambda path: {"path": str(path)}, lambda path: [str(path)]])
def test_local_file_in_a_kickoff_form(sandbox, users, context, contract, given, tmp_path):
    [file] = files_of(launch(context, given(contract)))
    assert file["filename"] == "the contract.pdf"
    target = TallyfyHook().download_file(file["id"], tmp_path)
    assert target.read_bytes() == CONTENT
    assert uploads(users) == 1


def test_local_file_in_the_form_of_a_task(sandbox, users, context, contract):
    run = launch(context, str(contract))
    task = next(
        each for each in users.tasks(run["id"]) if users.task(run["id"], each["id"])["form_fields"]["data"]
    )
    fields = {field["alias"]: field for field in users.task(run["id"], task["id"])["form_fields"]["data"]}
    alias = next(alias for alias, field in fields.items() if field["field_type"] == "file")
    values = {
        "customer_name_checked": "Globex",
        "plan_checked": "Business",
        alias: str(contract),
    }
    context["ti"].task_id = "complete"
    complete = TallyfyCompleteTaskOperator(
        task_id="complete", run_id=run["id"], task=task["id"], form_fields=values, is_approved=True
    )
    completed = complete.execute(context)
    [file] = completed["taskdata"][fields[alias]["id"]]
    assert (file["subject"]["type"], file["subject"]["id"]) == ("Run", run["id"])


def test_missing_file_is_refused_before_anything_is_sent(sandbox, users, context, tmp_path):
    with pytest.raises(AirflowFailException, match="There is no file"):
        launch(context, [str(tmp_path / "none.pdf"), str(tmp_path)])
    assert uploads(users) == 0


def test_retry_does_not_upload_again(sandbox, users, context, contract):
    fault(sandbox, method="POST", path="/runs$", action="status", status=403, body={"message": "Not now."})
    with pytest.raises(Exception, match="Not now"):
        launch(context, str(contract))
    context["ti"].try_number = 2
    assert files_of(launch(context, str(contract)))
    assert uploads(users) == 1


def test_upload_without_a_clear_response_is_repeated(sandbox, users, context, contract):
    fault(sandbox, method="POST", path="/assets", action="apply_then_drop")
    assert len(files_of(launch(context, str(contract)))) == 1
    assert uploads(users) == 2


def test_export_copies_attachments(sandbox, users, context, contract, tmp_path, monkeypatch):
    run = launch(context, str(contract))
    folder = tmp_path / "export"
    export = TallyfyToObjectStorageOperator(
        task_id="export",
        path=f"file://{folder}/runs.jsonl",
        checklist_id=ONBOARDING_CHECKLIST_ID,
        since="1970-01-01",
        attachments=True,
    )
    fault(sandbox, path="/dl", action="status", status=503, times=None)
    monkeypatch.setattr(client, "MAX_OUTAGE", 1.0)
    with pytest.raises(TallyfyServerError):
        export.execute({"ti": context["ti"]})
    assert [path for path in folder.rglob("*") if path.is_file() and not _is_staged(path)] == []
    users.control("DELETE", "/faults")

    export.execute({"ti": context["ti"]})
    records = map(json.loads, (folder / "runs.jsonl").read_text().splitlines())
    [file] = next(record for record in records if record["id"] == run["id"])["contract"]
    assert file["path"] == f"runs.files/{file['id']}/the contract.pdf"
    assert (folder / file["path"]).read_bytes() == CONTENT
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 3


def test_export_copies_attachments_to_an_object_store(sandbox, context, contract, object_store, monkeypatch):
    run = launch(context, str(contract))
    export = TallyfyToObjectStorageOperator(
        task_id="export",
        path="memory://bucket/tallyfy [1] */runs.jsonl",
        checklist_id=ONBOARDING_CHECKLIST_ID,
        since="1970-01-01",
        attachments=True,
    )
    move = staging.Folder.move

    def break_off(folder, name, target, new_name):
        move(folder, name, target, new_name)
        if new_name.endswith(".pdf"):
            raise SystemExit(137)

    monkeypatch.setattr(staging.Folder, "move", break_off)
    for _ in ("while it is downloaded", "while the files are moved to their place"):
        with pytest.raises(SystemExit):
            export.execute({"ti": context["ti"]})
    monkeypatch.setattr(staging.Folder, "move", move)
    export.execute({"ti": context["ti"]})

    folder = "/bucket/tallyfy [1] *"
    records = map(json.loads, object_store.cat_file(f"{folder}/runs.jsonl").splitlines())
    [file] = next(record for record in records if record["id"] == run["id"])["contract"]
    assert object_store.cat_file(f"{folder}/{file['path']}") == CONTENT
    assert len(object_store.find("/")) == 3


@pytest.mark.parametrize("name", ["backup.tmp", f"{'契約書' * 60}.pdf"])
def test_attachments_with_unusual_names(sandbox, context, tmp_path, name):
    contract = tmp_path / "short"
    contract.write_bytes(CONTENT)
    file = TallyfyHook().upload_file(contract, checklist_id=ONBOARDING_CHECKLIST_ID, name=name)
    run = launch(context, [file])
    export = TallyfyToObjectStorageOperator(
        task_id="export",
        path=f"file://{tmp_path}/runs.jsonl",
        checklist_id=ONBOARDING_CHECKLIST_ID,
        since="1970-01-01",
        attachments=True,
    )
    export.execute({"ti": context["ti"]})
    records = map(json.loads, (tmp_path / "runs.jsonl").read_text().splitlines())
    [copied] = next(record for record in records if record["id"] == run["id"])["contract"]
    assert Path(tmp_path, copied["path"]).read_bytes() == CONTENT


def _is_staged(path):
    return any(part.startswith(".tallyfy-export-") for part in path.parts)


def test_deleted_file_does_not_fail_an_export(sandbox, users, context, contract, tmp_path):
    [file] = files_of(launch(context, str(contract)))
    users.request("DELETE", f"/file/{file['id']}")
    with pytest.raises(TallyfyNotFoundError):
        TallyfyHook().download_file(file["id"], tmp_path)
    export = TallyfyToObjectStorageOperator(
        task_id="export", path=f"file://{tmp_path}/runs.jsonl", since="1970-01-01", attachments=True
    )
    assert export.execute({"ti": context["ti"]})["records"] == 4
    assert not (tmp_path / "runs.files").exists()
