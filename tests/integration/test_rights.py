"""A token needs to be allowed no more than docs/security.md says: these are all the requests that are made."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import requests

from airflow_provider_tallyfy.notifications.tallyfy import (
    TallyfyCommentNotifier,
    TallyfyIssueNotifier,
    TallyfyLaunchRunNotifier,
)
from airflow_provider_tallyfy.operators.tallyfy import (
    TallyfyApprovalOperator,
    TallyfyCompleteTaskOperator,
    TallyfyGetRunOperator,
    TallyfyLaunchRunOperator,
)
from airflow_provider_tallyfy.sandbox.seeds import (
    COMPLETE_RUN_ID,
    ONBOARDING_CHECKLIST_ID,
    RELEASE_CHECKLIST_ID,
    SEEDED_RUN_ID,
)
from airflow_provider_tallyfy.sensors.tallyfy import (
    TallyfyNextTaskSensor,
    TallyfyRunSensor,
    TallyfyTaskSensor,
)
from airflow_provider_tallyfy.transfers.tallyfy_to_object_storage import TallyfyToObjectStorageOperator
from airflow_provider_tallyfy.waiting import worker
from tests.support.moved_time import MovedTime
from tests.unit.documentation.pages import ROOT, tables

[TABLE] = [
    rows for heading, rows in tables(ROOT / "docs" / "security.md") if heading == "Permissions of the token"
]
NAMED = {
    name: set(re.findall(r"`([A-Z]+ [^`/][^`]*)`", requests_named))
    for names, requests_named in TABLE[1:]
    for name in re.findall(r"`(\w+)`", names) or [names]
}
WAITS = NAMED["all that wait"]
UPLOADS = "launch and completion, with local files in form values"
APPROVAL = "fe1f19fb78ae59688cb843354eb32649"
PREPARATION = "0" * 32  # no task of the run, so that another one is next
COMMENTED = {"Comment": "All is well."}


def execute(kind, **arguments):
    return kind(task_id="task", **arguments).execute({})


def launch(kind=TallyfyLaunchRunOperator, **arguments):
    values = {
        "checklist_id": RELEASE_CHECKLIST_ID,
        "kickoff": {"Version": "3.0"},
        "owner_id": "ben@example.com",
    }
    return execute(kind, **values, **arguments)


def complete(run_id=SEEDED_RUN_ID, **arguments):
    values = {"run_id": run_id, "task": "Approve release", "is_approved": True}
    return execute(TallyfyCompleteTaskOperator, **values, **arguments)


CASES = {
    "get run": (lambda: execute(TallyfyGetRunOperator, run_id=SEEDED_RUN_ID), NAMED["TallyfyGetRunOperator"]),
    "next task": (lambda: execute(TallyfyNextTaskSensor, run_id=SEEDED_RUN_ID, from_task=PREPARATION), WAITS),
    "task": (lambda: execute(TallyfyTaskSensor, run_id=COMPLETE_RUN_ID, task="Approve release"), WAITS),
    "run": (lambda: execute(TallyfyRunSensor, run_id=COMPLETE_RUN_ID), WAITS),
    "approval": (
        lambda: execute(TallyfyApprovalOperator, run_id=COMPLETE_RUN_ID, task="Approve release"),
        WAITS | NAMED["TallyfyApprovalOperator"],
    ),
    "launch": (launch, NAMED["TallyfyLaunchRunOperator"]),
    "launch by a notifier": (
        lambda: TallyfyLaunchRunNotifier(checklist_id=RELEASE_CHECKLIST_ID, kickoff={"Version": "3"}).notify(
            {}
        ),
        NAMED["TallyfyLaunchRunNotifier"],
    ),
    "complete": (
        lambda: complete(form_fields=COMMENTED, override_user="ben@example.com"),
        NAMED["TallyfyCompleteTaskOperator"],
    ),
    "complete what is completed": (lambda: complete(COMPLETE_RUN_ID), NAMED["TallyfyCompleteTaskOperator"]),
    "comment": (
        lambda: TallyfyCommentNotifier(task_id=APPROVAL, content="Please.").notify({}),
        NAMED["TallyfyCommentNotifier"],
    ),
    "issue on a task": (
        lambda: TallyfyIssueNotifier(task_id=APPROVAL, content="Please.").notify({}),
        NAMED["TallyfyIssueNotifier"],
    ),
    "issue on a run": (
        lambda: TallyfyIssueNotifier(run_id=SEEDED_RUN_ID, content="Please.").notify({}),
        NAMED["TallyfyIssueNotifier"],
    ),
}


def count_requests(sandbox):
    """Return how often each request was sent, as the documentation writes it."""
    rows = requests.get(f"{sandbox.url}/_sandbox/stats", timeout=10).json()["routes"]
    return Counter(
        re.sub(
            r"\{\w+\}",
            "{id}",
            f"{row['method']} {row['path'].removeprefix('/api/organizations/{organization}/')}",
        )
        for row in rows
        for _ in range(row["count"])
    )


@pytest.mark.parametrize(("act", "named"), CASES.values(), ids=CASES)
def test_documentation_lists_all_requests(sandbox, monkeypatch, act, named):
    monkeypatch.setattr(worker, "time", MovedTime())
    act()
    sent = set(count_requests(sandbox))
    assert sent
    assert sent <= named


@pytest.mark.parametrize(("records", "last"), [("runs", "GET file/{id}/dl"), ("tasks", "GET runs")])
def test_documentation_lists_the_requests_of_uploads_and_exports(sandbox, tmp_path, records, last):
    contract = tmp_path / "contract.pdf"
    contract.write_bytes(b"%PDF-1.7")
    kickoff = {
        "customer_name": "Globex",
        "contact_email": "client@example.org",
        "region": "Europe",
        "contract": str(contract),
    }
    execute(TallyfyLaunchRunOperator, checklist_id=ONBOARDING_CHECKLIST_ID, kickoff=kickoff)
    uploaded = count_requests(sandbox)
    assert "POST assets" in uploaded
    assert set(uploaded) <= NAMED["TallyfyLaunchRunOperator"] | NAMED[UPLOADS]

    export = {"checklist_id": ONBOARDING_CHECKLIST_ID, "since": "1970-01-01", "attachments": True}
    path = f"file://{tmp_path}/export/{records}.jsonl"
    execute(TallyfyToObjectStorageOperator, path=path, records=records, **export)
    exported = count_requests(sandbox) - uploaded
    assert last in exported
    assert set(exported) <= NAMED["TallyfyToObjectStorageOperator"]
