"""The data of a sandbox at the start, from ``seeds.json``, with the same ids at each start.

Dates are relative to the start: the ordinary operations create the runs, with the clock set back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from airflow_provider_tallyfy.sandbox import model, runs, tasks
from airflow_provider_tallyfy.sandbox.access import LIGHT_TOKEN, TOKEN
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.store import Store

Seed = Literal["demo", "empty"]

SEEDED_RUN_ID = "5eed5eed5eed5eed5eed5eed5eed5eed"
ONBOARDING_RUN_ID = "5eed0006000000000000000000000001"
COMPLETE_RUN_ID = "5eed0006000000000000000000000002"

RELEASE_CHECKLIST_ID = "5eed0001000000000000000000000001"
ONBOARDING_CHECKLIST_ID = "5eed0001000000000000000000000002"
INCIDENT_CHECKLIST_ID = "5eed0001000000000000000000000003"
DATA_QUALITY_CHECKLIST_ID = "5eed0001000000000000000000000004"

_DATA: dict[str, list[dict[str, Any]]] = json.loads(Path(__file__).with_name("seeds.json").read_text("utf-8"))
_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    "members": TypeAdapter(model.Member),
    "guests": TypeAdapter(model.Guest),
    "groups": TypeAdapter(model.Group),
    "tags": TypeAdapter(model.Tag),
    "folders": TypeAdapter(model.Folder),
    "custom_field_keys": TypeAdapter(model.CustomFieldKey),
    "checklists": TypeAdapter(model.Checklist),
}


def seeded_store(seed: Seed, behavior: Behavior | None = None) -> Store:
    """Return a store with members and tokens, and for ``demo`` with templates and runs too.

    :param seed: ``demo`` or ``empty``.
    :param behavior: what the sandbox does if the sources on Tallyfy disagree.
    """
    store = Store()
    # The dates below are what they are on any day of the week.
    store.behavior = Behavior(working_days="all")
    start = store.now()
    store.clock.set(start - timedelta(days=30))
    for collection in _ADAPTERS if seed == "demo" else ("members",):
        for each in _DATA[collection]:
            item = _ADAPTERS[collection].validate_python({"created_at": store.now(), **each})
            getattr(store, collection)[item.email if collection == "guests" else item.id] = item
    for each in _DATA["runs"] if seed == "demo" else ():
        store.clock.set(start - timedelta(hours=each["hours_ago"]))
        _seed_run(store, **{name: each[name] for name in each if name != "hours_ago"})
    store.clock.reset()
    store.access.grant(1001, token=TOKEN)
    store.access.grant(1004, token=LIGHT_TOKEN)
    store.behave(behavior or Behavior())
    return store


def _seed_run(
    store: Store,
    started_by: int,
    completed: list[tuple[int, int]],
    tags: Iterable[str] = (),
    folders: Iterable[str] = (),
    **properties: Any,
) -> None:
    """Launch a run, and complete its first tasks.

    :param completed: for each of those tasks, how many hours after the one before it and by whom it is completed.
    """
    starter = store.members[started_by]
    run = runs.launch(store, starter, tags=tuple(tags), folders=tuple(folders), **properties)
    for task, (hours, user_id) in zip(run.visible_tasks, completed, strict=False):
        caller = store.members[user_id]
        store.clock.advance(hours * 3600)
        for field in task.captures:
            tasks.update(store, caller, task, taskdata={field.id: "All checks passed."})
        tasks.complete(store, caller, task, is_approved=True)
