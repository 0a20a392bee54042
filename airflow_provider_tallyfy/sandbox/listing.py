"""Lists: filters, order and pages, with the documented ``meta``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field
from starlette.datastructures import URL

from airflow_provider_tallyfy.sandbox import processes, tasks
from airflow_provider_tallyfy.sandbox.access import Caller
from airflow_provider_tallyfy.sandbox.model import Activity, Checklist, Owners, Run, Task
from airflow_provider_tallyfy.sandbox.serializers import is_due_soon, is_late
from airflow_provider_tallyfy.sandbox.store import Store

MOST_PER_PAGE = 100
_Item = TypeVar("_Item")
_LAST = datetime.max.replace(tzinfo=UTC)


class Paging(BaseModel):
    """The query parameters that every list takes."""

    page: int = Field(1, ge=1)
    per_page: int = Field(10, ge=1)
    without_pagination: bool = False
    q: str | None = None


class RunQuery(Paging):
    """The documented filters of a list of runs."""

    status: (
        Literal["active", "complete", "problem", "issue", "improvement", "delayed", "archived", "starred"]
        | None
    ) = None
    owners: str | None = None
    checklist_id: str | None = None
    blueprint_id: str | None = None
    folder: str | None = None
    tag: str | None = None
    tag_ids: str | None = None
    untagged: bool = False
    groups: str | None = None
    type: str | None = None
    starred: bool | None = None
    archived: str | None = None
    sort: str | None = None
    sort_by: str | None = None
    form_fields_values: bool = False


class TaskQuery(Paging):
    """The documented filters of the lists of tasks."""

    status: (
        Literal[
            "all",
            "complete",
            "completed",
            "active",
            "active_visible",
            "incomplete",
            "inprogress",
            "in-progress",
            "not-started",
            "hasproblem",
            "overdue",
            "due_soon",
        ]
        | None
    ) = None
    owners: str | None = None
    guests: str | None = None
    groups: str | None = None
    tag: str | None = None
    unassigned: bool = False
    is_oneoff: bool | None = None
    archived: str | None = None
    deadline_on: date | None = None
    deadline_before: date | None = None
    deadline_after: date | None = None
    deadline_start_range: date | None = None
    deadline_end_range: date | None = None
    sort: str | None = None
    sort_by: str | None = None


class ChecklistQuery(Paging):
    """The documented filters of the list of templates."""

    folder: str | None = None
    tag: str | None = None
    type: str | None = None
    starred: bool | None = None


class FolderQuery(Paging):
    """The documented filter of the list of folders."""

    folder_type: Literal["checklist", "run"] | None = None


class ActivityQuery(BaseModel):
    """The documented filters of the activity feed."""

    entity_type: Literal["checklist", "run", "step", "task", "thread"] | None = None
    entity_id: str | None = None
    type: str | None = None
    verb: str | None = None
    actor_type: str | None = None
    actor_id: int | None = None
    actor_email: str | None = None
    source: str | None = None
    created_after: date | None = None
    created_before: date | None = None
    search: str | None = Field(None, min_length=2, max_length=100)
    page: int = Field(1, ge=1)
    per_page: int = Field(20, ge=1)
    sort: str | None = None


Pages = Annotated[Paging, Query()]
RunFilters = Annotated[RunQuery, Query()]
TaskFilters = Annotated[TaskQuery, Query()]
ChecklistFilters = Annotated[ChecklistQuery, Query()]
FolderFilters = Annotated[FolderQuery, Query()]
ActivityFilters = Annotated[ActivityQuery, Query()]


def page(
    items: Sequence[_Item], show: Callable[[_Item], dict[str, Any]], query: Paging | ActivityQuery, url: URL
) -> dict[str, Any]:
    """Return one page of a list; only the items of that page are serialized."""
    if isinstance(query, Paging) and query.without_pagination:
        return {"data": [show(item) for item in items]}
    per_page = min(query.per_page, MOST_PER_PAGE)
    total_pages = max(1, -(-len(items) // per_page))
    data = [show(item) for item in items[(query.page - 1) * per_page : query.page * per_page]]
    links = {}
    if query.page > 1:
        links["previous"] = str(url.include_query_params(page=query.page - 1))
    if query.page < total_pages:
        links["next"] = str(url.include_query_params(page=query.page + 1))
    pagination: dict[str, Any] = {
        "total": len(items),
        "count": len(data),
        "per_page": per_page,
        "current_page": query.page,
        "total_pages": total_pages,
        # An empty map is an empty list in PHP, and so in Tallyfy's JSON.
        "links": links or [],
    }
    return {"data": data, "meta": {"pagination": pagination}}


def checklists(store: Store, query: ChecklistQuery) -> list[Checklist]:
    """Return the templates that match a query."""
    text = (query.q or "").casefold()
    return [
        checklist
        for checklist in store.checklists.values()
        if text in checklist.title.casefold()
        and (query.folder is None or checklist.folder_id in _names(query.folder))
        and (query.tag is None or query.tag in checklist.tags)
        and query.type in (None, checklist.type)
        and query.starred in (None, checklist.starred)
    ]


def runs(store: Store, caller: Caller, query: RunQuery) -> list[Run]:
    """Return the runs that match a query, the newest first by default."""
    found = [run for run in store.runs.values() if store.may_see(run, caller)]
    for condition in _run_conditions(store, query):
        found = [run for run in found if condition(run)]
    return _sorted_runs(found, query.sort or query.sort_by or "-created_at")


def tasks_found(store: Store, items: Iterable[Task], query: TaskQuery, *, sort: str) -> list[Task]:
    """Return the tasks that match a query.

    :param sort: the order if the query has none.
    """
    found = list(items)
    for condition in _task_conditions(store, query):
        found = [task for task in found if condition(task)]
    return _sorted_tasks(found, query.sort or query.sort_by or sort)


def organization_tasks(store: Store, caller: Caller, archived_too: str | None = None) -> Iterator[Task]:
    """Return all tasks that a caller may see, of runs and one-off.

    :param archived_too: ``true`` to include archived ones, ``only`` for only those.
    """
    for task in store.tasks.values():
        run = store.run_of(task)
        archived = task.archived_at is not None or (run is not None and run.archived_at is not None)
        if not task.hidden and _archive_wanted(archived_too, archived) and store.may_see_task(task, caller):
            yield task


def activities(store: Store, query: ActivityQuery) -> list[Activity]:
    """Return the entries of the feed that match a query, without those that a test withholds."""
    found = [entry for entry in store.activities if _is_published(store, entry)]
    for condition in _activity_conditions(store, query):
        found = [entry for entry in found if condition(entry)]
    if query.sort != "created_at":
        found.reverse()
    return found


def _archive_wanted(wanted: str | None, archived: bool) -> bool:
    if wanted == "only":
        return archived
    return not archived or wanted in ("true", "1")


def _names(text: str | None) -> set[str]:
    return {name.strip() for name in (text or "").split(",")} - {""}


def _is_owned(owners: Owners, users: set[str]) -> bool:
    return any(str(user) in users for user in owners.users)


def _run_conditions(store: Store, query: RunQuery) -> Iterator[Callable[[Run], bool]]:
    now = store.now()
    if query.status == "archived":
        yield lambda run: run.archived_at is not None
    else:
        yield lambda run: _archive_wanted(query.archived, run.archived_at is not None)
    if query.status == "starred" or query.starred:
        yield lambda run: run.starred
    elif query.starred is False:
        yield lambda run: not run.starred
    if query.status == "problem":
        yield lambda run: processes.status(run, now) in ("problem", "issue")
    elif query.status not in (None, "archived", "starred"):
        yield lambda run: processes.status(run, now) == query.status
    if query.q:
        text = query.q.casefold()
        yield lambda run: text in run.name.casefold()
    if checklist_id := query.checklist_id or query.blueprint_id:
        yield lambda run: run.checklist.id == checklist_id
    if users := _names(query.owners):
        yield (
            lambda run: (
                str(run.owner_id) in users
                or any(_is_owned(task.owners, users) for task in run.tasks.values())
            )
        )
    if groups := _names(query.groups):
        yield lambda run: any(groups & set(task.owners.groups) for task in run.tasks.values())
    if folders := _names(query.folder):
        yield lambda run: bool(folders & set(run.folders))
    if tags := _names(query.tag) | _names(query.tag_ids):
        yield lambda run: bool(tags & set(run.tags))
    if query.untagged:
        yield lambda run: not run.tags
    if query.type:
        yield lambda run: run.checklist.type == query.type


def _task_conditions(store: Store, query: TaskQuery) -> Iterator[Callable[[Task], bool]]:
    if query.status not in (None, "all"):
        yield _status_condition(store, query.status)
    if query.q:
        text = query.q.casefold()
        yield lambda task: text in task.title.casefold()
    if users := _names(query.owners):
        yield lambda task: _is_owned(task.owners, users)
    if guests := _names(query.guests):
        yield lambda task: bool(guests & set(task.owners.guests))
    if groups := _names(query.groups):
        yield lambda task: bool(groups & set(task.owners.groups))
    if query.tag:
        yield lambda task: query.tag in {store.tags[tag].title for tag in task.tags}
    if query.unassigned:
        yield lambda task: not task.owners
    if query.is_oneoff is not None:
        yield lambda task: (task.step_id is None) == query.is_oneoff
    yield lambda task: _deadline_fits(task, query)


def _status_condition(store: Store, status: str) -> Callable[[Task], bool]:
    now = store.now()
    match status:
        case "complete" | "completed":
            return lambda task: task.completed_at is not None
        case "incomplete" | "active_visible":
            return lambda task: task.is_pending
        case "active":
            return lambda task: tasks.status(task, now) in ("active", "in-progress", "hasproblem")
        case "inprogress" | "in-progress":
            return lambda task: tasks.status(task, now) == "in-progress"
        case "overdue":
            return lambda task: is_late(task, now)
        case "due_soon":
            return lambda task: is_due_soon(task, now)
        case _:
            return lambda task: tasks.status(task, now) == status


def _deadline_fits(task: Task, query: TaskQuery) -> bool:
    day = None if task.deadline is None else task.deadline.date()
    if query.deadline_on is not None:
        return day == query.deadline_on
    bounds = (
        query.deadline_before,
        query.deadline_after,
        query.deadline_start_range,
        query.deadline_end_range,
    )
    if day is None:
        return not any(bounds)
    before, after, start, end = bounds
    return (
        (before is None or day < before)
        and (after is None or day > after)
        and (start is None or day >= start)
        and (end is None or day <= end)
    )


def _activity_conditions(store: Store, query: ActivityQuery) -> Iterator[Callable[[Activity], bool]]:
    if query.entity_type is not None:
        kind = f"App\\Models\\{query.entity_type.capitalize()}"
        # A run's feed holds what happened to its tasks.
        yield lambda entry: kind in (entry.auditable_type, entry.parentable_type)
    if query.entity_id is not None:
        yield lambda entry: query.entity_id in (entry.auditable_id, entry.parentable_id)
    if query.type is not None:
        yield lambda entry: entry.type == query.type
    if query.verb is not None:
        yield lambda entry: entry.verb == query.verb
    if query.actor_type is not None:
        yield lambda entry: query.actor_type == "user"
    if query.actor_id is not None:
        yield lambda entry: entry.actor_id == query.actor_id
    if query.actor_email is not None:
        actors = {member.id for member in store.members.values() if member.email == query.actor_email}
        yield lambda entry: entry.actor_id in actors
    if query.source is not None:
        yield lambda entry: query.source == "Member"
    if query.created_after is not None:
        created_after = query.created_after
        yield lambda entry: entry.created_at.date() >= created_after
    if query.created_before is not None:
        created_before = query.created_before
        yield lambda entry: entry.created_at.date() <= created_before
    if query.search is not None:
        text = query.search.casefold()
        yield lambda entry: text in entry.description.casefold()


def _is_published(store: Store, entry: Activity) -> bool:
    faults = store.feed_faults
    age = (store.now() - entry.created_at).total_seconds()
    return age >= faults.delay and entry.verb not in faults.missing_verbs


def _sorted_runs(found: list[Run], sort: str) -> list[Run]:
    keys: dict[str, Callable[[Run], Any]] = {
        "created_at": lambda run: (run.created_at, run.increment_id),
        "name": lambda run: run.name.casefold(),
    }
    key = keys.get(sort.lstrip("-"))
    return found if key is None else sorted(found, key=key, reverse=sort.startswith("-"))


def _sorted_tasks(found: list[Task], sort: str) -> list[Task]:
    keys: dict[str, Callable[[Task], Any]] = {
        "position": lambda task: task.position,
        "deadline": lambda task: _moment(task.deadline),
        "newest": lambda task: -task.created_at.timestamp(),
        "problems": lambda task: not task.has_open_issue,
        "completed_newest": lambda task: -(task.completed_at.timestamp() if task.completed_at else 0),
    }
    key = keys.get(sort.lstrip("-"))
    return found if key is None else sorted(found, key=key, reverse=sort.startswith("-"))


def _moment(moment: datetime | None) -> datetime:
    return _LAST if moment is None else moment
