"""Gates against the sandbox's real server: who may decide, comments, reminders and branches."""

from __future__ import annotations

import asyncio
import json

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, BaseOperator, TaskDeferred

from airflow_provider_tallyfy.notifications.tallyfy import TallyfyCommentNotifier
from airflow_provider_tallyfy.operators.tallyfy import TallyfyApprovalOperator, TallyfyBranchOperator
from airflow_provider_tallyfy.triggers.reminding import TallyfyRemindingTaskTrigger
from dev.sandbox import SandboxClient
from tests.support.gates import record_skipped
from tests.unit.conftest import TaskInstance

BEN = {"id": 1002, "name": "Ben Larsen", "email": "ben@example.com"}


@pytest.fixture
def people(sandbox):
    return SandboxClient(sandbox.url)


@pytest.fixture
def task(people):
    """A release that waits for its approval, which is Ben's; Ada launched it."""
    run_id = people.launch("Release 3.0.0")
    people.complete_next(run_id)
    return people.task(run_id, people.next_task(run_id)["id"])


@pytest.fixture
def gate(task):
    """Make a gate, and the context of its task instance."""

    def make(kind=TallyfyApprovalOperator, **arguments):
        with DAG("d", schedule=None) as dag:
            operator = kind(
                **{
                    "task_id": "gate",
                    "run_id": task["run_id"],
                    "task": "Approve release",
                    "poke_interval": 1,
                    **arguments,
                }
            )
            operator >> [BaseOperator(task_id="publish"), BaseOperator(task_id="repair")]
        ti = TaskInstance()
        ti.max_tries = 0
        return operator, {"ti": ti, "task": operator, "dag": dag}

    return make


@pytest.fixture
def decide(gate, monkeypatch):
    """Run a gate, and return its result and the tasks that it skipped."""
    skipped = record_skipped(monkeypatch)

    def run(*kind, **arguments):
        operator, context = gate(*kind, **arguments)
        return operator.execute(context), {task_id for task_id, _ in skipped}

    return run


APPROVERS = [
    "ben@example.com",
    1002,
    ["Release managers"],
    {"groups": ["Release managers"], "exclude": ["started_by"]},
    {"exclude": ["ada@example.com", "client@example.org"]},
]


@pytest.mark.parametrize("approvers", APPROVERS, ids=str)
def test_decision_of_an_approver_counts(people, task, decide, approvers):
    people.complete(task)
    result, skipped = decide(approvers=approvers)
    assert (result["is_approved"], result["decided_by"], skipped) == (True, BEN, set())


@pytest.mark.parametrize(
    "approvers",
    ["ada@example.com", "Customer success", {"exclude": ["Release managers"]}, "client@example.org"],
    ids=str,
)
@pytest.mark.parametrize("is_approved", [True, False])
def test_decision_of_anyone_else_fails(people, task, decide, approvers, is_approved):
    people.complete(task, is_approved=is_approved)
    with pytest.raises(AirflowFailException, match=r"Ben Larsen <ben@example\.com>, who may not decide"):
        decide(approvers=approvers)


def test_excluded_starter(people, task, decide):
    task["owners"]["users"] = [1001]  # Ada decides
    people.complete(task)
    with pytest.raises(AirflowFailException, match="who launched the process"):
        decide(approvers={"groups": ["Release managers"], "exclude": ["started_by"]})


def test_missing_comment_fails(people, task, decide, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    people.complete(task)
    with pytest.raises(AirflowFailException, match="wrote no comment"):
        decide(require_comment=True)


def test_comment_of_the_completer_counts(people, task, decide):
    people.request("POST", f"/tasks/{task['id']}/comment", json={"content": "All is well."})
    task["owners"]["users"] = [1001]  # Ada's comment, and Ada decides
    people.complete(task)
    assert decide(require_comment=True)[0]["comment"] == "All is well."


def test_branch_by_decision(people, task, decide):
    people.complete(task, is_approved=False)
    branches = {"approved": "publish", "rejected": "repair"}
    result, skipped = decide(TallyfyBranchOperator, branches=branches)
    assert (result["branches"], skipped) == (["repair"], {"publish"})


def test_branch_by_form_value(people, task, decide):
    people.complete(task)
    branches = {"Looks good to me.": ["publish", "repair"], "No": None}
    result, skipped = decide(TallyfyBranchOperator, branches=branches, field="comment", approvers=[1002])
    assert (result["branches"], result["decided_by"], skipped) == (["publish", "repair"], BEN, set())


def test_approval_that_was_taken_back_before_the_gate_resumes(people, task, gate):
    operator, context = gate(deferrable=True)
    people.complete(task)
    shown = people.task(task["run_id"], task["id"])
    event = {"event": {"outcome": "met", "result": {**shown, "form_values": {}}}}
    people.request("DELETE", f"/runs/{task['run_id']}/completed-tasks/{task['id']}")
    with pytest.raises(TaskDeferred):
        operator.resume_execution("execute_complete", event, context)
    people.complete(task)
    assert operator.resume_execution("execute_complete", event, context)["is_approved"] is True


def test_triggerer_sends_reminders(people, task, decide):
    notifier = TallyfyCommentNotifier(
        task_id="{{ tallyfy.task_id }}",
        content="{{ 'Again' if tallyfy.reminder else 'First' }}: {{ tallyfy.title }}",
    )
    with pytest.raises(TaskDeferred) as deferral:
        decide(notifiers=notifier, remind_every=0.5, max_reminders=1000, deferrable=True)
    path, arguments = deferral.value.trigger.serialize()
    trigger = TallyfyRemindingTaskTrigger(**json.loads(json.dumps(arguments)) | {"poke_interval": 0.5})
    assert path.endswith(type(trigger).__name__)

    def comments():
        threads = people.request("GET", f"/tasks/{task['id']}", params={"with": "threads"})["threads"]["data"]
        return sorted(each["content"] for each in threads)

    async def wait():
        event = asyncio.create_task(anext(trigger.run()))
        async with asyncio.timeout(60):
            while (await asyncio.to_thread(comments)).count("Again: Approve release") < 2:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.05)
            assert not event.done()
            await asyncio.to_thread(people.complete, task)
            return await event

    assert asyncio.run(wait()).payload["result"]["is_approved"] is True
    assert comments().count("First: Approve release") == 1
