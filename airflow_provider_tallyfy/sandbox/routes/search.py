"""The search for templates, processes and tasks by name, with one list for each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from airflow_provider_tallyfy.sandbox import listing, serializers
from airflow_provider_tallyfy.sandbox.access import Caller
from airflow_provider_tallyfy.sandbox.errors import invalid
from airflow_provider_tallyfy.sandbox.routes.dependencies import ListStore, Member
from airflow_provider_tallyfy.sandbox.store import Store

router = APIRouter(prefix="/organizations/{organization}/search")

_Found = tuple[Sequence[Any], Callable[[Any], dict[str, Any]]]


class SearchQuery(listing.Paging):
    """The text to search for, and the kinds of things to search."""

    search: str = Field(min_length=1)
    on: str = "process"


@router.get("")
async def search(
    request: Request, store: ListStore, caller: Member, query: Annotated[SearchQuery, Query()]
) -> JSONResponse:
    """Find things with the text in their names."""
    kinds = query.on.split(",")
    if unknown := set(kinds) - _KINDS.keys():
        raise invalid({"on": [f"The sandbox does not search for {', '.join(sorted(unknown))}."]})
    text = query.search.casefold()
    answer = {}
    for kind in kinds:
        found, represent = _KINDS[kind](store, caller, text)
        answer[kind] = listing.page(found, represent, query, request.url)
    return JSONResponse(answer)


def _checklists(store: Store, caller: Caller, text: str) -> _Found:
    found = [each for each in store.checklists.values() if text in each.title.casefold()]
    return found, lambda each: serializers.checklist(store, each)


def _runs(store: Store, caller: Caller, text: str) -> _Found:
    found = [
        each
        for each in store.runs.values()
        if each.archived_at is None and store.may_see(each, caller) and text in each.name.casefold()
    ]
    return found, lambda each: serializers.run(store, each)


def _tasks(store: Store, caller: Caller, text: str) -> _Found:
    found = [each for each in listing.organization_tasks(store, caller) if text in each.title.casefold()]
    return found, lambda each: serializers.task(store, each)


_KINDS: dict[str, Callable[[Store, Caller, str], _Found]] = {
    "blueprint": _checklists,
    "process": _runs,
    "task": _tasks,
}
