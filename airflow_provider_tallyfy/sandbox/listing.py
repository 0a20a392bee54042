"""Lists: filters, order and pages, with the documented ``meta``.

Each filter stands in a table by the name of its query parameter; one that is not there is ignored, as at Tallyfy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from itertools import islice
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr
from starlette.datastructures import URL

from airflow_provider_tallyfy.sandbox.errors import invalid
from airflow_provider_tallyfy.sandbox.model import Activity, Checklist, Member, Run, Task
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import Store

MAX_PER_PAGE = 100
_Item = TypeVar("_Item")
_Test = Callable[[_Item], bool]
# Makes the test that an item must pass of a parameter's value; a ValueError means that the value is invalid.
_Filters = Mapping[str, Callable[[Store, str], _Test[_Item]]]
_LAST = datetime.max.replace(tzinfo=UTC)


class Paging(BaseModel):
    """The query parameters of a list: those that every list takes, and its filters."""

    model_config = ConfigDict(extra="allow")

    page_number: int = Field(1, ge=1, alias="page")
    per_page: int | None = Field(None, ge=1)
    without_pagination: bool = False
    form_fields_values: bool = False
    q: str | None = None

    _url: URL = PrivateAttr(default_factory=URL)

    def given(self, name: str) -> str | None:
        """Return the text of a parameter; ``None`` if it is not given, or empty."""
        return self.q or None if name == "q" else (self.model_extra or {}).get(name) or None

    def page(self, items: Collection[_Item], show: Callable[[_Item], Any], *, per_page: int = 10) -> JSON:
        """Return one page of a list; only the items of that page are serialized.

        :param per_page: the length of a page if the query has none.
        """
        if self.without_pagination:
            return {"data": [show(item) for item in items]}
        number, per_page = self.page_number, min(self.per_page or per_page, MAX_PER_PAGE)
        total_pages = max(1, -(-len(items) // per_page))
        start = min((number - 1) * per_page, len(items))
        data = [show(item) for item in islice(items, start, start + per_page)]
        links = {}
        if number > 1:
            links["previous"] = str(self._url.include_query_params(page=number - 1))
        if number < total_pages:
            links["next"] = str(self._url.include_query_params(page=number + 1))
        pagination: JSON = {
            "total": len(items),
            "count": len(data),
            "per_page": per_page,
            "current_page": number,
            "total_pages": total_pages,
            # An empty map is an empty list in PHP, and so in Tallyfy's JSON.
            "links": links or [],
        }
        return {"data": data, "meta": {"pagination": pagination}}

    def answer(
        self, items: Collection[_Item], show: Callable[[_Item], Any], *, per_page: int = 10
    ) -> Response:
        """Return the answer that shows one page of a list."""
        return JSONResponse(self.page(items, show, per_page=per_page))


async def _paging(request: Request) -> Paging:
    paging = Paging.model_validate(dict(request.query_params))
    paging._url = request.url
    return paging


Pages = Annotated[Paging, Depends(_paging)]


def checklists(store: Store, query: Paging) -> list[Checklist]:
    """Return the templates that match a query."""
    items, archived = store.checklists.values(), query.given("archived")
    found = (each for each in items if _archive_wanted(archived, each.archived_at is not None))
    return _matching(store, found, query, _CHECKLIST_FILTERS)


def runs(store: Store, caller: Member, query: Paging) -> list[Run]:
    """Return the runs that match a query, the newest first by default."""
    items = (run for run in store.runs.values() if store.may_see(run, caller))
    archived = "only" if query.given("status") == "archived" else query.given("archived")
    found = (run for run in items if _archive_wanted(archived, run.archived_at is not None))
    return _sorted(_matching(store, found, query, _RUN_FILTERS), query, "-created_at", _RUN_ORDERS)


def tasks_found(store: Store, items: Iterable[Task], query: Paging, *, sort: str) -> list[Task]:
    """Return the tasks that match a query.

    :param sort: the order if the query has none.
    """
    filters = _TASK_FILTERS
    if query.given("deadline_on") is not None:
        filters = {name: filters[name] for name in filters if name not in _DEADLINE_RANGES}
    return _sorted(_matching(store, items, query, filters), query, sort, _TASK_ORDERS)


def organization_tasks(store: Store, caller: Member, archived: str | None = None) -> Iterator[Task]:
    """Return all tasks that a caller may see, of runs and one-off.

    :param archived: ``true`` to include archived ones, ``only`` for only those.
    """
    for task in store.tasks.values():
        wanted = not task.hidden and _archive_wanted(archived, store.is_archived(task))
        if wanted and store.may_see_task(task, caller):
            yield task


def activities(store: Store, query: Paging) -> list[Activity]:
    """Return the entries of the feed that match a query, without those that a test withholds."""
    faults, now = store.feed_faults, store.now()
    published = (
        entry
        for entry in store.activities
        if entry.verb not in faults.missing and (now - entry.created_at).total_seconds() >= faults.delay
    )
    found = _matching(store, published, query, _ACTIVITY_FILTERS)
    return found[::-1] if query.given("sort") == "-created_at" else found


def _matching(store: Store, items: Iterable[_Item], query: Paging, filters: _Filters[_Item]) -> list[_Item]:
    tests = []
    for name, make_test in filters.items():
        if (value := query.given(name)) is not None:
            try:
                tests.append(make_test(store, value))
            except ValueError:
                raise invalid({name: [f"The selected {name} is invalid."]}) from None
    found = list(items)
    for test in tests:
        found = [item for item in found if test(item)]
    return found


def _sorted(
    found: list[_Item], query: Paging, default: str, orders: Mapping[str, Callable[[_Item], Any]]
) -> list[_Item]:
    sort = query.given("sort") or query.given("sort_by") or default
    key = orders.get(sort.lstrip("-"))
    return found if key is None else sorted(found, key=key, reverse=sort.startswith("-"))


def _archive_wanted(wanted: str | None, archived: bool) -> bool:
    if wanted == "only":
        return archived
    return not archived or wanted in ("true", "1")


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",")} - {""}


def _flag(text: str) -> bool:
    if text not in ("true", "1", "false", "0"):
        raise ValueError(text)
    return text in ("true", "1")


def _one_of(text: str, *known: str) -> str:
    if text not in known:
        raise ValueError(text)
    return text


def _filter(
    fits: Callable[[Any, Any], Any], read: Callable[[str], Any] = str
) -> Callable[[Store, str], _Test[Any]]:
    """Make a filter that compares items with the value of its parameter.

    :param fits: whether an item, its first argument, fits the value.
    :param read: makes the value of the parameter's text.
    """

    def make_test(store: Store, text: str) -> _Test[Any]:
        value = read(text)
        return lambda item: bool(fits(item, value))

    return make_test


def _days(text: str) -> tuple[date, date]:
    first, _, last = text.partition(":")
    return date.fromisoformat(first), date.fromisoformat(last or first)


def _entity(text: str) -> str:
    return f"App\\Models\\{_one_of(text, 'checklist', 'run', 'step', 'task', 'thread').capitalize()}"


def _owner_ids(run: Run) -> set[str]:
    return {str(run.owner_id), *(str(user) for task in run.tasks.values() for user in task.owners.users)}


def _run_status(store: Store, status: str) -> _Test[Run]:
    _one_of(status, "active", "complete", "problem", "issue", "improvement", "delayed", "archived", "starred")
    if status == "archived":
        return lambda run: True
    if status == "starred":
        return lambda run: run.starred
    now, wanted = store.now(), ("problem", "issue") if status == "problem" else (status,)
    return lambda run: run.status(now) in wanted


def _has_status(wanted: str) -> _Test[Task]:
    return lambda task: task.status == wanted


def _task_status(store: Store, value: str) -> _Test[Task]:
    """Make the test of a task's status; see :attr:`Behavior.task_filter`.

    tallyfy/mcp-public measured which values filter, and how: several with commas between them, while unknown ones,
    ``completed`` among them, filter nothing, and ``auto-skipped`` gives what is not skipped.
    """
    now = store.now()
    tests: dict[str, _Test[Task]] = {
        "active": lambda task: task.completed_at is None,
        "complete": lambda task: task.completed_at is not None,
        "overdue": lambda task: task.is_late(now),
        **{status: _has_status(status) for status in ("not-started", "in-progress")},
    }
    if store.behavior.task_filter == "documented":
        tests |= {
            **dict.fromkeys(("active", "incomplete", "active_visible"), lambda task: task.is_pending),
            "inprogress": _has_status("in-progress"),
            "hasproblem": lambda task: task.has_open_issue,
            "due_soon": lambda task: task.is_due_soon(now),
        }
        return tests[_one_of(value, *tests)]
    tests |= {
        "active-visible": lambda task: task.is_pending,
        "auto-skipped": lambda task: not task.hidden,
        "due-soon": lambda task: task.is_due_soon(now),
        "on-time": lambda task: task.is_pending and not task.is_late(now),
        "has-problem": lambda task: task.has_open_issue,
        "has-improvement": lambda task: any(thread.label == "improvement" for thread in task.threads),
    }
    chosen = [tests[name] for name in _names(value) if name in tests]
    return lambda task: not chosen or any(test(task) for test in chosen)


def _task_tag(store: Store, title: str) -> _Test[Task]:
    wanted = {tag.id for tag in store.tags.values() if tag.title == title}
    return lambda task: not wanted.isdisjoint(task.tags)


def _due(fits: Callable[[date, date], bool]) -> Callable[[Store, str], _Test[Any]]:
    return _filter(
        lambda task, day: task.deadline is not None and fits(task.deadline.date(), day), date.fromisoformat
    )


def _actor_email(store: Store, email: str) -> _Test[Activity]:
    actors = {member.id for member in store.members.values() if member.email == email}
    return lambda entry: entry.actor_id in actors


_CHECKLIST_FILTERS: _Filters[Checklist] = {
    "q": _filter(lambda checklist, text: text in checklist.title.casefold(), str.casefold),
    "folder": _filter(lambda checklist, ids: checklist.folder_id in ids, _names),
    "tag": _filter(lambda checklist, ids: ids.intersection(checklist.tags), _names),
    "type": _filter(lambda checklist, wanted: checklist.type == wanted),
    "starred": _filter(lambda checklist, wanted: checklist.starred == wanted, _flag),
}
_RUN_FILTERS: _Filters[Run] = {
    "q": _filter(lambda run, text: text in run.name.casefold(), str.casefold),
    "status": _run_status,
    "starred": _filter(lambda run, wanted: run.starred == wanted, _flag),
    **dict.fromkeys(
        ("checklist_id", "blueprint_id"), _filter(lambda run, wanted: run.checklist.id == wanted)
    ),
    "owners": _filter(lambda run, ids: ids & _owner_ids(run), _names),
    "groups": _filter(
        lambda run, ids: any(ids.intersection(task.owners.groups) for task in run.tasks.values()), _names
    ),
    "folder": _filter(lambda run, ids: ids.intersection(run.folders), _names),
    **dict.fromkeys(("tag", "tag_ids"), _filter(lambda run, ids: ids.intersection(run.tags), _names)),
    "untagged": _filter(lambda run, wanted: not (wanted and run.tags), _flag),
    "type": _filter(lambda run, wanted: run.checklist.type == wanted),
}
_RUN_ORDERS: dict[str, Callable[[Run], Any]] = {
    "created_at": lambda run: (run.created_at, run.increment_id),
    "name": lambda run: run.name.casefold(),
}
_DEADLINE_RANGES: _Filters[Task] = {
    "deadline_before": _due(date.__lt__),
    "deadline_after": _due(date.__gt__),
    "deadline_start_range": _due(date.__ge__),
    "deadline_end_range": _due(date.__le__),
}
_TASK_FILTERS: _Filters[Task] = {
    "q": _filter(lambda task, text: text in task.title.casefold(), str.casefold),
    "status": _task_status,
    "owners": _filter(lambda task, ids: ids & {str(user) for user in task.owners.users}, _names),
    "guests": _filter(lambda task, ids: ids.intersection(task.owners.guests), _names),
    "groups": _filter(lambda task, ids: ids.intersection(task.owners.groups), _names),
    "tag": _task_tag,
    "unassigned": _filter(lambda task, wanted: not (wanted and task.owners), _flag),
    "is_oneoff": _filter(lambda task, wanted: (task.step_id is None) == wanted, _flag),
    "created": _filter(lambda task, days: days[0] <= task.created_at.date() <= days[1], _days),
    "deadline_on": _due(date.__eq__),
    **_DEADLINE_RANGES,
}
_TASK_ORDERS: dict[str, Callable[[Task], Any]] = {
    "position": lambda task: task.position,
    "deadline": lambda task: task.deadline or _LAST,
    "newest": lambda task: -task.created_at.timestamp(),
    "problems": lambda task: not task.has_open_issue,
    "completed_newest": lambda task: -(task.completed_at.timestamp() if task.completed_at else 0),
}
_ACTIVITY_FILTERS: _Filters[Activity] = {
    # A run's feed holds what happened to its tasks.
    "entity_type": _filter(
        lambda entry, kind: kind in (entry.auditable_type, entry.parentable_type), _entity
    ),
    "entity_id": _filter(lambda entry, wanted: wanted in (entry.auditable_id, entry.parentable_id)),
    "type": _filter(lambda entry, wanted: entry.type == wanted),
    "verb": _filter(lambda entry, wanted: entry.verb == wanted),
    "actor_type": _filter(lambda entry, wanted: wanted == "user"),
    "actor_id": _filter(lambda entry, wanted: entry.actor_id == wanted, int),
    "actor_email": _actor_email,
    "source": _filter(lambda entry, wanted: wanted == "Member"),
    "created_after": _filter(lambda entry, day: entry.created_at.date() >= day, date.fromisoformat),
    "created_before": _filter(lambda entry, day: entry.created_at.date() <= day, date.fromisoformat),
    "search": _filter(lambda entry, text: text in entry.description.casefold(), str.casefold),
}
