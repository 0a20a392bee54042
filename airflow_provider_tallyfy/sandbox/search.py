"""The search for templates, processes, tasks and their parts by text and filter, with one list for each kind."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import listing, serializers
from airflow_provider_tallyfy.sandbox.dependencies import Caller, ListStore, organization_router
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid
from airflow_provider_tallyfy.sandbox.model import Member, Task
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import Store

router = organization_router("/search")

_Test = Callable[[JSON], bool]
# What is searched, and what shows the thing.
_Hit = tuple[str, Callable[[], JSON]]

# Where a hit's JSON has what a filter is about: for each kind of hit, the field by the filter's name.
_FIELDS: Mapping[str, Mapping[str, str]] = {
    "blueprint": {"title": "title", "description": "summary", "starter": "created_by", "date": "created_at"},
    "process": {"title": "name", "description": "summary", "starter": "started_by", "date": "created_at"},
    "task": {"title": "title", "starter": "starter_id"},
}
_KINDS = {"blueprint", "process", "task", "step", "capture", "snippet"}
_OPERATIONS: Mapping[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@router.get("")
async def search(request: Request, store: ListStore, caller: Caller, query: listing.Pages) -> JSONResponse:
    """Find things with the text in their names; a filter compares their dates, starters, titles or descriptions."""
    text, kinds = query.given("search"), (query.given("on") or "process").split(",")
    if not text:
        raise invalid({"search": ["The search field is required."]})
    if unknown := set(kinds) - _KINDS:
        raise invalid({"on": [f"The selected on is invalid: {', '.join(sorted(unknown))}."]})
    condition = _nested(request.query_params.multi_items())
    answer = {}
    for kind in kinds:
        found = [show for name, show in _hits(store, caller, kind) if text.casefold() in name.casefold()]
        if condition:
            test = _test(condition, _FIELDS.get(kind, {}))
            found = [show for show in found if test(show())]
        answer[kind] = query.page(found, lambda show: show())
    return JSONResponse(answer)


def _nested(params: Iterable[tuple[str, str]]) -> JSON:
    """Return ``filter[1][field]=date`` and its kin as PHP does, ``{"1": {"field": "date"}}``."""
    nested: JSON = {}
    for name, value in params:
        if name.startswith("filter["):
            *path, last = re.findall(r"\[(\w+)\]", name) or [""]
            inner: Any = nested
            for each in path:
                inner = inner.setdefault(each, {})
                if not isinstance(inner, dict):
                    raise _malformed()
            inner[last] = value
    return nested


def _malformed() -> RefusedError:
    return invalid({"filter": ["The filter is malformed."]})


def _test(condition: Any, fields: Mapping[str, str]) -> _Test:
    if not isinstance(condition, dict):
        raise _malformed()
    if "0" in condition:
        tests = [_test(each, fields) for key, each in condition.items() if key != "0"]
        operator_ = condition["0"]
        join = any if isinstance(operator_, dict) and operator_.get("value") == "OR" else all
        return lambda hit: join(test(hit) for test in tests)
    field, value = str(condition.get("field")), condition.get("value")
    compare = _OPERATIONS.get(str(condition.get("operation", "=")))
    if field not in fields or compare is None or not isinstance(value, str):
        raise invalid({"filter": [f"The filter takes these fields: {', '.join(fields)}."]})
    # The start of a date as long as the value, so that a day is compared with days.
    length = len(value) if field == "date" else None
    name = fields[field]
    return lambda hit: compare(str(hit[name])[:length], value)


def _hits(store: Store, caller: Member, kind: str) -> Iterator[_Hit]:
    """Return the names of all things of one kind, each with the function that shows it."""
    checklists = [item for item in store.checklists.values() if item.archived_at is None]
    steps = [(checklist, step) for checklist in checklists for step in checklist.steps]
    match kind:
        case "blueprint":
            for item in checklists:
                yield item.title, partial(serializers.checklist, store, item)
        case "process":
            for run in store.runs.values():
                if run.archived_at is None and store.may_see(run, caller):
                    yield run.name, partial(serializers.run, store, run)
        case "task":
            for task in listing.organization_tasks(store, caller):
                yield task.title, partial(_task, store, task)
        case "step":
            for checklist, step in steps:
                yield step.title, partial(serializers.step, store, checklist, step)
        case "capture":
            for _, step in steps:
                for field in step.captures:
                    yield field.label, partial(serializers.capture, store, step, field)


def _task(store: Store, item: Task) -> JSON:
    # tallyfy/mcp-public: a hit on a task does not say which process the task is in.
    return serializers.task(store, item) | {"run_id": None}
