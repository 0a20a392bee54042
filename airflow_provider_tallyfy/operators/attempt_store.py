"""
What a task instance knows of its own earlier attempts at a write.

Airflow 3.3's ``task_state_store`` survives a worker that was killed and a retry, and is deleted with the DAG run. The
store holds what was attempted and when a request began, *before* the request is sent. It may be emptied when a task is
cleared (apache/airflow#72100), and older versions have none. So if it holds nothing at any try but the first, the try
before may have sent a request a moment ago.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_provider_tallyfy.actions.attempts import PriorAttempts
from airflow_provider_tallyfy.protocol.launch_mark import LaunchMark
from airflow_provider_tallyfy.version_compat import (
    incarnation,
    never_expire,
    not_begun_before,
    started_at,
    task_state_store,
    was_cleared,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.providers.common.compat.sdk import Context

_LAUNCH = "tallyfy_launch"
_COMPLETION = "tallyfy_completion"


def launch_mark(context: Context, task_id: str, *, is_of_every_try: bool) -> LaunchMark:
    """
    Return the mark of what a task instance launches.

    :param is_of_every_try: whether all its tries launch the same run.
    """
    task_instance = context.get("ti")
    if task_instance is None:  # called by hand, where nothing distinguishes one call from another
        return LaunchMark("none", f"by hand, {uuid4()}", task_id)
    return LaunchMark(
        task_instance.dag_id,
        task_instance.run_id,
        task_instance.task_id,
        -1 if task_instance.map_index is None else task_instance.map_index,
        try_number=None if is_of_every_try else task_instance.try_number,
        incarnation=incarnation(context),
        started_at=started_at(context),
    )


class TaskAttemptStore:
    """
    Keeps what became of one write of a task instance.

    :param context: of the task instance.
    :param key: the key in Airflow's store.
    :param subject: what is written to; a task that was cleared may write to something else now.
    :param warn: takes a log line, as a logger's ``warning`` does.
    :param token: the token to search for if nothing is known of the tries before.
    :param is_of_one_try: whether each try does a write of its own.
    """

    def __init__(
        self,
        context: Context,
        key: str,
        subject: Mapping[str, Any],
        warn: Callable[..., object],
        *,
        token: str | None = None,
        is_of_one_try: bool = False,
    ) -> None:
        self._context = context
        self._key = key
        self._subject = dict(subject)
        self._warn = warn
        self._token = token
        self._is_of_one_try = is_of_one_try
        self._store = task_state_store(context)

    @classmethod
    def of_launch(
        cls, context: Context, checklist_id: str, mark: LaunchMark, warn: Callable[..., object]
    ) -> TaskAttemptStore:
        """Return the store of a launch."""
        return cls(
            context,
            _LAUNCH,
            {"checklist_id": checklist_id, "try_number": mark.try_number},
            warn,
            token=mark.stem if was_cleared(context) else mark.token,
            is_of_one_try=mark.try_number is not None,
        )

    @classmethod
    def of_completion(
        cls, context: Context, run_id: str, task: str, warn: Callable[..., object]
    ) -> TaskAttemptStore:
        """Return the store of a completion."""
        return cls(context, _COMPLETION, {"run_id": run_id, "task": task}, warn)

    def prior(self) -> PriorAttempts | None:
        """Return what is known of earlier attempts; ``None`` if it is certain that nothing was sent."""
        if (own := self._own()) is not None:
            if own.get("sent_at") is None and own.get("launched") is None:
                return None
            return PriorAttempts(
                run_id=own.get("launched"),
                token=own.get("token"),
                since=datetime.fromtimestamp(own["began_at"], UTC),
                sent_at=own.get("sent_at"),
            )
        if self._is_of_one_try or getattr(self._context.get("ti"), "try_number", 1) <= 1:
            return None
        # A store that is not empty holds the last write, which was to something else.
        return PriorAttempts(
            token=self._token,
            since=not_begun_before(self._context),
            sent_at=time.time() if self._stored() is None else None,
        )

    def begin(self) -> None:
        """Keep that an attempt began, and sent nothing yet."""
        if self._own() is None:
            self._keep(sent_at=None)

    def mark_sending(self, token: str | None = None) -> None:
        """Keep that a request begins now."""
        self._keep(sent_at=time.time(), **({} if token is None else {"token": token}))

    def mark_declined(self) -> None:
        """Keep that the request changed nothing."""
        self._keep_if_possible(sent_at=None)

    def mark_done(self, run_id: str | None = None) -> None:
        """Keep that the write was applied, and what it launched."""
        self._keep_if_possible(**({} if run_id is None else {"launched": run_id}))

    def uploaded(self) -> Mapping[str, Any]:
        """Return the files that were uploaded for it, by key."""
        uploads: Mapping[str, Any] = (self._own() or {}).get("uploads", {})
        return uploads

    def mark_uploaded(self, key: str, file: Mapping[str, Any]) -> None:
        """Keep what Tallyfy returned for an upload."""
        self._keep_if_possible(uploads={**self.uploaded(), key: dict(file)})

    def _stored(self) -> dict[str, Any] | None:
        stored = self._store.get(self._key) if self._store is not None else None
        return stored if isinstance(stored, dict) else None

    def _own(self) -> dict[str, Any] | None:
        stored = self._stored()
        return stored if stored is not None and stored.items() >= self._subject.items() else None

    def _keep(self, **changes: Any) -> None:
        if self._store is not None:
            kept = self._own() or {"began_at": time.time()}
            self._store.set(self._key, {**kept, **changes, **self._subject}, retention=never_expire())

    def _keep_if_possible(self, **changes: Any) -> None:
        try:
            self._keep(**changes)
        except Exception as error:  # noqa: BLE001 (whatever the store raises, the write went as it went)
            self._warn("Airflow's task state store did not keep the outcome (%s)", type(error).__name__)
