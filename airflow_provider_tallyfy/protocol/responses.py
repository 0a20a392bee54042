"""
Read Tallyfy's responses.

A response is read in every shape that Tallyfy documents, or it is refused with
:class:`MalformedResponseError`. Nothing is guessed, and an unreadable page never counts as 'no more items'.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Generic, TypeGuard, TypeVar


class MalformedResponseError(ValueError):
    """A response does not have any shape that Tallyfy documents."""


Item = TypeVar("Item")
_JSON_TYPES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
}


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """
    One page of a list.

    :param items: its items.
    :param is_last: whether no page follows.
    :param total_pages: how many pages the list has, or ``None`` if that is not in the response.
    :param total: how many items the list has, or ``None`` if that is not in the response.
    """

    items: tuple[Item, ...]
    is_last: bool
    total_pages: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """
    An entry of the activity feed: something happened.

    :param id: the entry's id.
    :param run_id: the run that it happened to, or to one of whose tasks; ``None`` if it was neither.
    """

    id: str
    run_id: str | None


def read_body(content: bytes) -> Any:
    """
    Return the JSON value that a body holds, or ``None`` for an empty body.

    :raises MalformedResponseError: it is not JSON.
    """
    if not content.strip():
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        kind = "a page of HTML or XML" if content.lstrip().startswith(b"<") else "not JSON"
        raise MalformedResponseError(f"the body is {kind} ({type(error).__name__})") from None


def read_item(body: Any) -> dict[str, Any]:
    """
    Return the object of a response for one item: ``{"data": {…}}``.

    :raises MalformedResponseError: there is none.
    """
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        raise MalformedResponseError(
            f"an object under 'data' was expected, but there is {_kind_of_data(body)}"
        )
    return data


def read_run(body: Any) -> dict[str, Any]:
    """
    Return the run of a response, with ``next_task`` as ``None`` or one task; all else is as Tallyfy sent it.

    If the response has no ``next_task``, neither has the run: the next task is not known then.

    :raises MalformedResponseError: there is no run, or its ``next_task`` cannot be read.
    """
    return with_one_next_task(read_item(body))


def with_one_next_task(run: dict[str, Any]) -> dict[str, Any]:
    """Return the run with its ``next_task`` as ``None`` or one task; without one if the response has none."""
    return {**run, "next_task": read_next_task(run["next_task"])} if "next_task" in run else run


def read_next_task(value: Any) -> dict[str, Any] | None:
    """
    Return the next task that a run's ``next_task`` names, or ``None`` if nothing is left to do.

    Tallyfy's own sources give three formats: an object or ``null`` (documentation of 2025-10), a collection
    ``{"data": […]}`` that is empty at the end (documentation since 2026-03), and an object or ``[]``
    (webhooks; one page says ``{}``). All of them are taken.

    :raises MalformedResponseError: it has another shape, or the task has no id.
    """
    if isinstance(value, dict) and "id" not in value and "data" in value:
        value = value["data"]
    if value is None or value in ({}, []):
        return None
    if isinstance(value, list):
        value = value[0]
    if not isinstance(value, dict) or not is_id(value.get("id")):
        raise MalformedResponseError(
            f"'next_task' is neither empty nor a task with an id, but {_kind(value)}"
        )
    return value


def is_id(value: Any) -> TypeGuard[int | str]:
    """Return whether a value from a response can be an id: a non-empty string or a whole number."""
    return (isinstance(value, str) and value != "") or (
        isinstance(value, int) and not isinstance(value, bool)
    )


def read_page(
    body: Any,
    number: int,
    previous: Page[dict[str, Any]] | None = None,
    read: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Page[dict[str, Any]]:
    """
    Return one page of a response for a list: ``{"data": […], "meta": {"pagination": {…}}}``.

    A list without ``meta`` is its only page. ``current_page`` and ``total_pages`` say which page is the last; if
    ``total_pages`` is absent, an empty ``links.next`` does. ``links`` is ``[]`` when it is empty.

    :param number: the page that was requested, from 1.
    :param previous: the page before. If it had the same items and total, and the number of pages is unknown, the list
        would never end.
    :param read: what is made of each item.
    :raises MalformedResponseError: it is no list of objects, or does not say whether a page follows.
    """
    match body:
        case {"data": {"id": _}}:
            raise MalformedResponseError("it holds one object, and not a page of a list")
    items = read_list(body, read)
    meta = body.get("meta")
    if meta is None or meta in ({}, []):
        return Page(items, is_last=True)
    pagination = meta.get("pagination") if isinstance(meta, dict) else None
    if not isinstance(pagination, dict):
        raise MalformedResponseError(f"'meta.pagination' is {_kind(pagination)}")
    current = _whole_number(pagination.get("current_page", number), "current_page")
    if current != number:
        raise MalformedResponseError(f"page {number} was requested, but the response has page {current}")
    total = _parse_number(pagination.get("total"))  # it only helps to notice changes, so it may be missing
    if pagination.get("total_pages") is not None:
        total_pages = _whole_number(pagination["total_pages"], "total_pages")
        return Page(items, current >= total_pages, total_pages, total)
    links = pagination.get("links")
    if links != [] and not isinstance(links, dict):
        raise MalformedResponseError(
            f"neither 'total_pages' nor 'links' says whether a page follows page {number}"
        )
    if items and previous and (items, total) == (previous.items, previous.total):
        raise MalformedResponseError(f"page {number} is the same as the page before")
    return Page(items, not links or not links.get("next"), None, total)


def read_activities(body: Any, number: int) -> Page[Activity]:
    """
    Return one page of the activity feed, which was requested with the newest first.

    Page "Get activity feed for a process": an entry names what was acted upon (``auditable``) and what that belongs to
    (``parentable``) by model class and id.

    :param number: the page that was requested, from 1.
    :raises MalformedResponseError: it is no page, an entry has no id, or they are in another order.
    """
    page = read_page(body, number)
    moments = [
        moment for item in page.items if (moment := parse_datetime(item.get("created_at"))) is not None
    ]
    if any(first < second for first, second in pairwise(moments)):
        raise MalformedResponseError("its entries are not sorted by date, the newest first")
    return Page(tuple(map(_activity, page.items)), page.is_last, page.total_pages)


def _activity(item: dict[str, Any]) -> Activity:
    if not is_id(item.get("id")):
        raise MalformedResponseError("an entry has no id")
    runs = (
        item.get(f"{whose}_id")
        for whose in ("parentable", "auditable")
        if str(item.get(f"{whose}_type")).endswith("Run")
    )
    run_id = next((run_id for run_id in runs if is_id(run_id)), None)
    return Activity(str(item["id"]), None if run_id is None else str(run_id))


def parse_datetime(value: Any) -> datetime | None:
    """
    Return the instant that a time of Tallyfy's names, or ``None`` if it names none.

    :param value: ISO 8601, with or without milliseconds; without a zone it is in UTC.
    """
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def read_list(
    body: Any, read: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> tuple[dict[str, Any], ...]:
    """
    Return the items of a response for a list, without its pagination.

    :param read: what is made of each item.
    :raises MalformedResponseError: it is no list of objects.
    """
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise MalformedResponseError(
            f"a list of objects under 'data' was expected, but there is {_kind_of_data(body)}"
        )
    return tuple(map(read, data))


def read_threads(body: Any) -> tuple[dict[str, Any], ...]:
    """
    Return the comments and issues of a task that was read ``with=threads``.

    :raises MalformedResponseError: there is no list of them.
    """
    return read_list(read_item(body).get("threads"))


def _whole_number(value: Any, name: str) -> int:
    if (number := _parse_number(value)) is None:
        raise MalformedResponseError(f"'{name}' is {_kind(value)}, not a whole number")
    return number


def _parse_number(value: Any) -> int | None:
    """Return a whole number, also one that PHP wrote as text; ``None`` for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _kind_of_data(body: Any) -> str:
    if isinstance(body, dict):
        return f"'data' of {_kind(body['data'])}" if "data" in body else "an object without 'data'"
    return _kind(body)


def _kind(value: Any) -> str:
    return "nothing" if value is None else _JSON_TYPES.get(type(value), type(value).__name__)
