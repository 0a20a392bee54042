"""
What a task instance knows of its own earlier attempts at a launch.

Airflow 3.3's ``task_state_store`` outlives a worker that was killed, a retry and a clearing. What is kept there: when a
request to launch began, *before* it is sent, and the run that it launched. Older versions keep nothing; there, any try
but the first has to take it that the try before it sent a request a moment ago.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_provider_tallyfy.acting.launching import Past
from airflow_provider_tallyfy.protocol.launch_mark import LaunchMark
from airflow_provider_tallyfy.version_compat import never_expire, not_begun_before, task_state_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.providers.common.compat.sdk import Context

_KEY = "tallyfy_launch"


def launch_mark(context: Context, task_id: str, *, is_of_every_try: bool) -> LaunchMark:
    """
    Return the mark of what a task instance launches.

    :param is_of_every_try: whether all its tries launch the same run.
    """
    task_instance = context.get("ti")
    if task_instance is None:  # called by hand, where nothing tells one call from another
        return LaunchMark("none", f"by hand, {uuid4()}", task_id)
    return LaunchMark(
        task_instance.dag_id,
        task_instance.run_id,
        task_instance.task_id,
        -1 if task_instance.map_index is None else task_instance.map_index,
        try_number=None if is_of_every_try else task_instance.try_number,
    )


class LaunchRecord:
    """
    The record of one task instance's launch of one template.

    :param context: of the task instance.
    :param checklist_id: the template; a task that was cleared may launch another one now.
    :param mark: the mark of the launch.
    :param warn: takes a line for the log, as a logger's ``warning`` does.
    """

    def __init__(
        self, context: Context, checklist_id: str, mark: LaunchMark, warn: Callable[..., object]
    ) -> None:
        self._context = context
        self._launch = {"checklist_id": checklist_id, "mark": mark.token}
        self._is_of_one_try = mark.try_number is not None
        self._warn = warn
        self._store = task_state_store(context)

    def past(self) -> Past | None:
        """Return what is known of earlier attempts; ``None`` where it is certain that there were none."""
        kept = self._kept()
        if kept is not None:
            return Past(
                run_id=kept.get("run_id"),
                since=datetime.fromtimestamp(kept["first_sent_at"], UTC),
                sent_at=kept["sent_at"],
            )
        if self._is_first_try:
            return None
        return Past(
            since=not_begun_before(self._context), sent_at=0.0 if self._store is not None else time.time()
        )

    def sending(self, moment: float) -> None:
        """Keep that a request begins now."""
        first = (self._kept() or {}).get("first_sent_at", moment)
        self._keep(first_sent_at=first, sent_at=moment)

    def declined(self) -> None:
        """Keep that it is certain that the request changed nothing."""
        self._keep_if_possible(sent_at=0.0)

    def launched(self, run_id: str) -> None:
        """Keep what was launched; if that fails, the mark still tells."""
        self._keep_if_possible(run_id=run_id)

    @property
    def _is_first_try(self) -> bool:
        task_instance = self._context.get("ti")
        return self._is_of_one_try or task_instance is None or task_instance.try_number <= 1

    def _kept(self) -> dict[str, Any] | None:
        kept = self._store.get(_KEY) if self._store is not None else None
        is_of_this = isinstance(kept, dict) and kept.items() >= self._launch.items()
        return kept if is_of_this else None

    def _keep(self, **what: Any) -> None:
        if self._store is not None:
            now = time.time()
            kept = self._kept() or {"first_sent_at": now, "sent_at": 0.0}
            self._store.set(_KEY, {**kept, **what, **self._launch}, retention=never_expire())

    def _keep_if_possible(self, **what: Any) -> None:
        try:
            self._keep(**what)
        except Exception as error:  # noqa: BLE001 - whatever a store raises, the launch went as it went
            self._warn(
                "Airflow's task state store did not keep what became of the launch (%s)", type(error).__name__
            )
