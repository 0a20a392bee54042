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

_OF_TASK = "tallyfy_export"


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
        self._key = f"tallyfy_export_{task}"
        self._of_asset: Any = asset_state_store(context, asset)
        self._of_task: Any = task_state_store(context)
        self._full_every = full_every
        content = json.dumps(selection, sort_keys=True, default=str)
        self._selection = blake2b(content.encode(), digest_size=9).hexdigest()

    def next_load(self, now: datetime) -> Load:
        """Return what this DAG run loads: the same as an earlier attempt, or what changed since the previous load."""
        state, own = self._state(), self._own()
        if own is None:
            until, full_at = state.get("until"), parse_datetime(state.get("full_at"))
            is_full = until is None or (
                self._full_every is not None and (full_at is None or now - full_at >= self._full_every)
            )
            own = {"since": None if is_full else until, "selection": self._selection}
            self._of_task.set(_OF_TASK, own, retention=never_expire())
        newest = parse_datetime(own.get("newest"))
        if newest is not None:
            return Load(parse_datetime(own["since"]), until=newest + timedelta(milliseconds=1))
        is_next = own["since"] is not None and own["since"] == state.get("until")
        return Load(parse_datetime(own["since"]), known=state.get("known") if is_next else None)

    def move_on(self, load: Load, result: ExportResult) -> None:
        """Let the next DAG run begin where this load ended."""
        state = self._state()
        began_at = _text(result.began_at)
        before = parse_datetime(state.get("until"))
        if load.until is None and (before is None or before < result.began_at):
            full_at = began_at if load.since is None else state.get("full_at", began_at)
            known = dict(result.known)
            moved = {"until": began_at, "full_at": full_at, "known": known, "selection": self._selection}
            self._of_asset.set(self._key, moved)
        newest = max(filter(None, (result.newest, result.began_at)))
        own = {
            "since": None if load.since is None else _text(load.since),
            "newest": _text(newest),
            "selection": self._selection,
        }
        self._of_task.set(_OF_TASK, own, retention=never_expire())

    def _state(self) -> dict[str, Any]:
        stored = self._of_asset.get(self._key)
        return stored if self._is_of_selection(stored) else {}

    def _own(self) -> dict[str, Any] | None:
        stored = self._of_task.get(_OF_TASK)
        return stored if self._is_of_selection(stored) else None

    def _is_of_selection(self, stored: Any) -> bool:
        return isinstance(stored, dict) and stored.get("selection") == self._selection


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
