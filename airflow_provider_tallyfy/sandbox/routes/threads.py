"""Comments and issues on tasks and on runs."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import schemas, serializers, threads
from airflow_provider_tallyfy.sandbox.model import ThreadLabel
from airflow_provider_tallyfy.sandbox.routes.dependencies import (
    Member,
    SandboxStore,
    Subject,
    ThisTask,
    answer,
)

router = APIRouter(prefix="/organizations/{organization}")


@router.post("/tasks/{task_id}/bot-comment")
@router.post("/tasks/{task_id}/comment")
@router.post("/runs/{run_id}/comment")
async def comment(
    store: SandboxStore, caller: Member, subject: Subject, body: schemas.WriteComment
) -> JSONResponse:
    """Comment; the label ``problem`` reports an issue."""
    thread = threads.comment(store, caller, subject, **dict(body))
    return answer(serializers.thread(thread), 201)


@router.put("/tasks/{task_id}/comment/{thread_id}")
async def edit_comment(
    store: SandboxStore, caller: Member, task: ThisTask, thread_id: str, body: schemas.WriteComment
) -> JSONResponse:
    """Change the text of a comment, or its state."""
    return answer(
        serializers.thread(threads.edit(store, caller, task, thread_id, body.content, state=body.state))
    )


@router.delete("/tasks/{task_id}/comment/{thread_id}")
async def delete_comment(store: SandboxStore, caller: Member, task: ThisTask, thread_id: str) -> Response:
    """Delete a comment."""
    threads.delete(store, caller, task, thread_id)
    return Response(status_code=204)


@router.post("/tasks/{task_id}/problem")
@router.post("/runs/{run_id}/problem")
async def report_issue(
    store: SandboxStore, caller: Member, subject: Subject, body: schemas.WriteComment
) -> JSONResponse:
    """Report an issue: the task, or each task of the run, cannot be completed until it is resolved."""
    thread = threads.comment(store, caller, subject, body.content, label=ThreadLabel.PROBLEM)
    return answer(serializers.thread(thread), 201)


@router.post("/tasks/{task_id}/resolved-threads")
@router.post("/runs/{run_id}/resolved-threads")
async def resolve_issue(
    store: SandboxStore, caller: Member, subject: Subject, body: schemas.ResolveIssue
) -> JSONResponse:
    """Resolve an issue."""
    thread = threads.resolve(store, caller, subject, **dict(body))
    return answer(serializers.thread(thread), 201)
