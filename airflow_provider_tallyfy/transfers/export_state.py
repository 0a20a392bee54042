"""
Keep where the last load of a task ended, from one DAG run to the next (Airflow 3.3 and newer).

That is in the state of an outlet asset, since the task state store belongs to one DAG run. It changes only when a load
is complete. What one DAG run loads is kept in its task state store, so that a retry or a cleared task loads the same
again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.protocol.responses import parse_datetime
from airflow_provider_tallyfy.version_compat import asset_state_store, never_expire, task_state_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.export.exporter import ExportResult

_TASK_KEY = "tallyfy_export"


@dataclass(frozen=True, slots=True)
class Load:
    """
    What one DAG run loads.

    :param since: where the previous load ended; ``None`` to load everything.
    :param until: where this load ended, if the task succeeded before and was cleared.
    :param known: fingerprints of records that the previous load had.
    """

    since: datetime | None
    until: datetime | None = None
    known: Mapping[str, str] | None = None


class ExportState:
    """
    Keeps where the last load of a task ended.

    :param context: of the task instance.
    :param asset: the outlet whose state is used.
    :param full_every: how often everything is loaded again; ``None`` for never.
    :param selection: what decides which records there are. If it changes, everything is loaded: the end of another
        template's load says nothing about this one.
    """

    def __init__(
        self, context: Context, asset: Any, full_every: timedelta | None, selection: Mapping[str, Any]
    ) -> None:
        ti: Any = context["ti"]
        task = blake2b(f"{ti.dag_id}\n{ti.task_id}".encode(), digest_size=12).hexdigest()
        self._asset_key = f"tallyfy_export_{task}"
        self._asset_store: Any = asset_state_store(context, asset)
        self._task_store: Any = task_state_store(context)
        self._full_every = full_every
        content = json.dumps(selection, sort_keys=True, default=str)
        self._selection = blake2b(content.encode(), digest_size=9).hexdigest()

    def next_load(self, now: datetime) -> Load:
        """Return what this DAG run loads: the same as an earlier attempt, or what changed since the previous load."""
        previous, this = self._asset_state(), self._task_state()
        if this is None:
            until, full_at = previous.get("until"), parse_datetime(previous.get("full_at"))
            is_full = until is None or (
                self._full_every is not None and (full_at is None or now - full_at >= self._full_every)
            )
            this = self._set_task_state(since=None if is_full else until)
        since, newest = parse_datetime(this["since"]), parse_datetime(this.get("newest"))
        if newest is not None:
            return Load(since, until=newest + timedelta(milliseconds=1))
        is_next = since is not None and this["since"] == previous.get("until")
        return Load(since, known=previous.get("known") if is_next else None)

    def advance(self, load: Load, result: ExportResult) -> None:
        """Let the next DAG run begin where this load ended, unless the task was cleared."""
        if load.until is not None:
            return
        previous, began_at = self._asset_state(), _text(result.began_at)
        before = parse_datetime(previous.get("until"))
        if before is None or before < result.began_at:
            full_at = began_at if load.since is None else previous.get("full_at", began_at)
            value = {"until": began_at, "full_at": full_at, "known": dict(result.known)}
            self._asset_store.set(self._asset_key, {**value, "selection": self._selection})
        newest = max(filter(None, (result.newest, result.began_at)))
        since = None if load.since is None else _text(load.since)
        self._set_task_state(since=since, newest=_text(newest))

    def _asset_state(self) -> dict[str, Any]:
        stored = self._asset_store.get(self._asset_key)
        return stored if self._is_of_selection(stored) else {}

    def _task_state(self) -> dict[str, Any] | None:
        stored = self._task_store.get(_TASK_KEY)
        return stored if self._is_of_selection(stored) else None

    def _set_task_state(self, **value: str | None) -> dict[str, Any]:
        state = {**value, "selection": self._selection}
        self._task_store.set(_TASK_KEY, state, retention=never_expire())
        return state

    def _is_of_selection(self, stored: Any) -> bool:
        return isinstance(stored, dict) and stored.get("selection") == self._selection


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
