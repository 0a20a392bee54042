"""The lines of a wait in the task's log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

from airflow_provider_tallyfy.protocol.formatting import one_line
from airflow_provider_tallyfy.protocol.tasks import is_completed, is_hidden


def describe_start(goal: str, run_id: str) -> str:
    """Return the line for the beginning of a wait, in one line whatever a name contains."""
    return one_line(f"Waiting until {goal}; run {run_id}")


def checksum(line: str) -> int:
    """Return a number that identifies a line; thousands of waits remember their last line."""
    return crc32(line.encode("utf-8", "replace"))


def describe_run(run: Mapping[str, Any]) -> str:
    """Return the line for a run, as the hook returns it. Values of unknown shape are left out."""
    parts = [_progress(run.get("progress"))]
    next_task = run.get("next_task")
    if isinstance(next_task, Mapping):
        title = next_task.get("title") or "untitled"
        parts.append(f"next is '{title}'")
        if "owners" in next_task:
            parts.append(_owners(next_task["owners"]))
        parts.append(_deadline(next_task.get("deadline")))
        parts.append(f"task {next_task.get('id')}")  # last, since it is seldom needed
    elif "next_task" in run:
        parts.append("no task is left")
    return one_line("; ".join(part for part in parts if part))


def describe_run_with_status(run: Mapping[str, Any]) -> str:
    """Return the line for a run, with its status."""
    status = str(run.get("status") or "")
    if not run.get("next_task"):
        return describe_task(run, status)
    return one_line("; ".join(filter(None, [status, describe_run(run)])))


def describe_task(run: Mapping[str, Any], state: str, task: Mapping[str, Any] | None = None) -> str:
    """
    Return the line for one task of a run.

    :param run: the run.
    :param state: how the task is, in words.
    :param task: the task, if the run has it. Its owners and deadline are named while it is open.
    """
    parts = [_progress(run.get("progress")), state]
    if task is not None and not is_completed(task) and not is_hidden(task):
        parts += [_owners(task.get("owners")), _deadline(task.get("deadline"))]
    if task is not None:
        parts.append(f"task {task.get('id')}")
    return one_line("; ".join(part for part in parts if part))


def _progress(progress: Any) -> str:
    if isinstance(progress, Mapping) and "complete" in progress and "total" in progress:
        return f"{progress['complete']} of {progress['total']} tasks are done"
    if isinstance(progress, (int, float)) and not isinstance(progress, bool) and 0 <= progress <= 100:
        return f"{progress:g} % is done"
    return ""


def _owners(owners: Any) -> str:
    """Users are ids, guests are e-mail addresses, groups are ids; some answers have objects in their place."""
    if not isinstance(owners, Mapping):
        return ""
    kinds = {"users": "user", "guests": "guest", "groups": "group"}
    names = [
        f"{word} {_name(owner)}"
        for kind, word in kinds.items()
        if isinstance(owners.get(kind), list)
        for owner in owners[kind]
    ]
    return f"with {', '.join(names)}" if names else "unassigned"


def _name(owner: Any) -> str:
    if isinstance(owner, Mapping):
        return str(
            next((owner[key] for key in ("full_name", "name", "email", "id") if owner.get(key)), "unknown")
        )
    return str(owner)


def _deadline(deadline: Any) -> str:
    if not isinstance(deadline, str) or not deadline:
        return ""
    try:
        moment = datetime.fromisoformat(deadline)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return f"due {deadline}"
    return f"due {moment:%Y-%m-%d %H:%M} UTC"
