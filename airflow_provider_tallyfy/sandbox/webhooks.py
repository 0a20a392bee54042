"""Webhooks, as Tallyfy sends them: one attempt each, without a signature; here to loopback addresses only."""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from urllib.parse import urlsplit

import requests

from airflow_provider_tallyfy.sandbox import serializers
from airflow_provider_tallyfy.sandbox.clock import as_text
from airflow_provider_tallyfy.sandbox.model import Activity, FormField, Run, Task, guest_code
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION, Store

_TIMEOUT = 10
# What the organization's watchers are sent, by the feed's verb and whether it is about a task.
_EVENTS = {
    ("created", False): "process.launched",
    ("completed", False): "process.completed",
    ("completed", True): "task.completed",
    ("owners-updated", True): "task.assigned",
    ("commented", True): "task.comment_added",
    ("issue-reported", True): "task.issue_raised",
    ("issue-resolved", True): "task.issue_resolved",
}


class Webhooks:
    """Sends what the activity feed shows since the last change; a listener of the store.

    :param store: returns the store, which a reset replaces.
    """

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._known = store()
        self._next = len(self._known.activities)
        self._queue: SimpleQueue[tuple[str, JSON]] = SimpleQueue()
        self._sender = threading.Thread(target=self._send, name="tallyfy-sandbox-webhooks", daemon=True)

    def __call__(self) -> None:
        """Queue the deliveries; called after each change, when its rules have run."""
        store = self._store()
        if store is not self._known:
            self._known, self._next = store, len(store.activities)
        new, self._next = store.activities[self._next :], len(store.activities)
        for url, payload in (delivery for entry in new for delivery in _deliveries(store, entry)):
            if _is_local(url):
                self._queue.put((url, payload))
                if not self._sender.is_alive():
                    self._sender.start()

    def _send(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            headers = {"X-Tallyfy-orgID": ORGANIZATION}
            while True:
                url, payload = self._queue.get()
                # A failed delivery is not repeated, as at Tallyfy, and does not end the thread.
                with contextlib.suppress(Exception):
                    session.post(url, json=payload, headers=headers, timeout=_TIMEOUT, allow_redirects=False)


def _is_local(url: str) -> bool:
    parts = urlsplit(url)
    try:
        is_loopback = parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and is_loopback


def _deliveries(store: Store, entry: Activity) -> Iterator[tuple[str, JSON]]:
    task, run = store.tasks.get(entry.auditable_id), store.runs.get(entry.parentable_id)
    if task is not None and entry.verb == "completed":
        # A task has the webhook of its step, which takes the place of the template's.
        if url := task.webhook or (run and _of_template(store, run)):
            yield url, _task_payload(store, task, run)
    elif task is None and run is not None and entry.verb in ("created", "completed"):
        url = _of_template(store, run)
        if url:
            yield url, _process_payload(store, run)
    if event := _EVENTS.get((entry.verb, task is not None)):
        # Of the body, only the event and the task's id are published, in a test of Tallyfy's n8n node.
        ids = {name: {"id": item.id} for name, item in (("task", task), ("process", run)) if item is not None}
        for watcher in store.watchers.values():
            if watcher.webhook and watcher.object_type == "organization":
                yield watcher.webhook, {"event": event, **ids}


def _of_template(store: Store, run: Run) -> str | None:
    url: str | None = store.checklists.get(run.checklist.id, run.checklist).settings.get("webhook")
    return url


def _process_payload(store: Store, run: Run) -> JSON:
    shown = serializers.run(store, run)
    percent = shown["progress"]["percent"]
    return shown | {
        "status": _status(run),
        "progress": percent,
        "whole_progress": percent,
        "users": [{"user_id": user, "full_name": store.members[user].full_name} for user in run.users],
        "groups": [
            {"group_id": each, "name": store.groups[each].name} for each in run.groups if each in store.groups
        ],
        "ko-form-fields": _by_alias(run.checklist.prerun, run.prerun),
        **_of_process(store, run),
    }


def _task_payload(store: Store, task: Task, run: Run | None) -> JSON:
    completed_by = _person(store, task.completer_id)
    completion: JSON = {
        "completed_at": as_text(task.completed_at),
        "completed_by": completed_by,
        "assets": [],
    }
    shown: JSON = {"this_task": _task(store, task) | completion, "completer": completed_by}
    if run is None:
        return shown | {"form-fields": {}, "next_task": []}
    following = next((each for each in run.visible_tasks if each.is_pending), None)
    answers = _by_alias(run.checklist.prerun, run.prerun)
    for each in run.visible_tasks:
        answers |= _by_alias(each.captures, each.taskdata)
    return shown | {
        "form-fields": answers,
        "template": {name: getattr(run.checklist, name) for name in ("id", "title", "alias", "summary")},
        "process": {
            "id": run.id,
            "organization_id": ORGANIZATION,
            "name": run.name,
            "summary": run.summary,
            "status": _status(run),
            "progress": serializers.run(store, run)["progress"]["percent"],
            "created_at": as_text(run.created_at),
            "ClientURL": f"https://go.tallyfy.com/tracker/{run.id}",
            "prerun": run.prerun,
            "process_forms": {each.step_id: _captures(each) for each in run.visible_tasks if each.captures},
            "tags": [{"id": tag, "name": store.tags[tag].title} for tag in run.tags],
        },
        # An empty map is an empty list in PHP.
        "next_task": [] if following is None else _task(store, following),
        **_of_process(store, run),
    }


def _of_process(store: Store, run: Run) -> JSON:
    guests = sorted({guest for task in run.tasks.values() for guest in task.owners.guests})
    link = f"https://go.tallyfy.com/guest-all-task/{ORGANIZATION}"
    return {
        "process-tasks": {task.alias: task.id for task in run.tasks.values()},
        "guest-links": {guest: {"link_for_guest": f"{link}/{guest_code(guest)}"} for guest in guests},
        "launcher": _person(store, run.started_by),
    }


def _task(store: Store, task: Task) -> JSON:
    shown = serializers.task(store, task, with_summary=True)
    names = ("id", "title", "alias", "status", "summary", "deadline", "position")
    users = [_person(store, user) for user in task.owners.users]
    return {
        **{name: shown[name] for name in names},
        "captures": _captures(task),
        "owners": {"users": users, "guests": list(task.owners.guests)},
    }


def _captures(task: Task) -> JSON:
    return {
        field.id: {"alias": field.alias, "label": field.label, "value": task.taskdata[field.id]}
        for field in task.captures
        if field.id in task.taskdata
    }


def _by_alias(form_fields: Iterable[FormField], values: JSON) -> JSON:
    return {field.alias: values[field.id] for field in form_fields if field.id in values}


def _person(store: Store, user_id: int | None) -> JSON:
    user = store.members.get(user_id or 0)
    return {} if user is None else {"id": user.id, "email": user.email, "full_name": user.full_name}


def _status(run: Run) -> str:
    return "in-progress" if run.completed_at is None else "completed"
