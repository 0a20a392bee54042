"""
The earlier attempts of a task instance at a write, and how long the outcome of one is uncertain.

Tallyfy has no idempotency key. A request that got no clear answer may be carried out late, and reads may show a state
that is some seconds old. So the outcome counts as certain only :data:`INDETERMINATE_WINDOW` seconds after the request
began: what no read shows by then did not happen.

Airflow 3.3's ``task_state_store`` survives a worker that was killed and a retry, and is deleted with the DAG run. It
holds what was attempted and when a request began, *before* the request is sent. It may be emptied when a task is
cleared (apache/airflow#72100), and older versions have none. So if it holds nothing at any try but the first, the try
before may have sent a request a moment ago.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.protocol.idempotency_key import CLOCK_SKEW, IdempotencyKey
from airflow_provider_tallyfy.version_compat import (
    never_expire,
    not_begun_before,
    task_state_store,
    was_cleared,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.waiting.evidence import Log

INDETERMINATE_WINDOW = 60.0
"""Seconds after which a request was carried out or never will be; gateways rarely wait longer."""
READ_LAG_PAUSES = (1.0, 2.0, 4.0)
"""Seconds between reads of something that Tallyfy confirmed, and that a lagging read may not show yet."""
_WINDOW_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


@dataclass(frozen=True, slots=True)
class PriorAttempts:
    """
    What is known of the attempts of earlier tries.

    :param run_id: the run that was launched, if that is known.
    :param key: the idempotency key that was sent, if that is known.
    :param since: the earliest time at which one may have been made; ``None`` if that is not known.
    :param sent_at: when a request was last sent, in seconds since the epoch; ``None`` if none was.
    """

    run_id: str | None = None
    key: str | None = None
    since: datetime | None = None
    sent_at: float | None = None

    @property
    def uncertain_for(self) -> float:
        """
        Seconds for which the outcome may still be uncertain.

        The time was noted by another worker, whose clock may differ by :data:`CLOCK_SKEW`. Only a request that is older
        than that is certain to be over; for any other one the whole window is waited, by this worker's own clock.
        """
        if (
            self.sent_at is None
            or time.time() - self.sent_at > INDETERMINATE_WINDOW + CLOCK_SKEW.total_seconds()
        ):
            return 0.0
        return INDETERMINATE_WINDOW


class AttemptStore:
    """
    Keeps what is known of one write of a task instance, from try to try.

    :param context: of the task instance.
    :param name: of what is stored.
    :param target: what is written to; a task that was cleared may write to something else now.
    :param log: the task's.
    :param key: the idempotency key to search for if nothing is known of the tries before.
    :param per_try: whether each try does a write of its own.
    """

    def __init__(
        self,
        context: Context,
        name: str,
        target: Mapping[str, Any],
        log: Log,
        *,
        key: str | None = None,
        per_try: bool = False,
    ) -> None:
        self._context = context
        self._name = name
        self._target = dict(target)
        self._log = log
        self._key = key
        self._per_try = per_try
        self._store = task_state_store(context)

    @classmethod
    def of_launch(cls, context: Context, checklist_id: str, key: IdempotencyKey, log: Log) -> AttemptStore:
        """Return the store of a launch."""
        return cls(
            context,
            "tallyfy_launch",
            {"checklist_id": checklist_id, "try_number": key.try_number},
            log,
            key=key.prefix if was_cleared(context) else key.value,
            per_try=key.try_number is not None,
        )

    @classmethod
    def of_completion(cls, context: Context, run_id: str, task: str, log: Log) -> AttemptStore:
        """Return the store of a completion."""
        return cls(context, "tallyfy_completion", {"run_id": run_id, "task": task}, log)

    def prior(self) -> PriorAttempts | None:
        """Return what is known of earlier attempts; ``None`` if it is certain that nothing was sent."""
        if (own := self._own()) is not None:
            if own.get("sent_at") is None and own.get("launched") is None:
                return None
            return PriorAttempts(
                run_id=own.get("launched"),
                key=own.get("key"),
                since=datetime.fromtimestamp(own["began_at"], UTC),
                sent_at=own.get("sent_at"),
            )
        if self._per_try or getattr(self._context.get("ti"), "try_number", 1) <= 1:
            return None
        # A store that is not empty holds the last write, which was to something else.
        return PriorAttempts(
            key=self._key,
            since=not_begun_before(self._context),
            sent_at=time.time() if self._stored() is None else None,
        )

    def begin(self) -> None:
        """Record that an attempt began, and has sent nothing yet."""
        if self._own() is None:
            self._keep(sent_at=None)

    def mark_sending(self, key: str | None = None) -> None:
        """Record that a request begins now."""
        self._keep(sent_at=time.time(), **({} if key is None else {"key": key}))

    def mark_declined(self) -> None:
        """Record that the request changed nothing."""
        self._keep_if_possible(sent_at=None)

    def mark_done(self, run_id: str | None = None) -> None:
        """Record that the write was applied, and which run it launched, if any."""
        self._keep_if_possible(**({} if run_id is None else {"launched": run_id}))

    def uploaded(self) -> Mapping[str, Any]:
        """Return the files that were uploaded for it, by key."""
        uploads: Mapping[str, Any] = (self._own() or {}).get("uploads", {})
        return uploads

    def mark_uploaded(self, key: str, file: Mapping[str, Any]) -> None:
        """Record what Tallyfy returned for an upload."""
        self._keep_if_possible(uploads={**self.uploaded(), key: dict(file)})

    def _stored(self) -> dict[str, Any] | None:
        stored = self._store.get(self._name) if self._store is not None else None
        return stored if isinstance(stored, dict) else None

    def _own(self) -> dict[str, Any] | None:
        stored = self._stored()
        return stored if stored is not None and stored.items() >= self._target.items() else None

    def _keep(self, **changes: Any) -> None:
        if self._store is not None:
            kept = self._own() or {"began_at": time.time()}
            self._store.set(self._name, {**kept, **changes, **self._target}, retention=never_expire())

    def _keep_if_possible(self, **changes: Any) -> None:
        try:
            self._keep(**changes)
        except Exception as error:  # noqa: BLE001 (whatever the store raises, the outcome of the write stays the same)
            self._log.warning(
                "Airflow's task state store did not keep the outcome (%s)", type(error).__name__
            )


def polls(seconds: float) -> Iterator[float]:
    """
    Yield the seconds that are left: at once, after each of ever longer pauses, and at the end, when none are left.

    They are counted on the monotonic clock, so that a jump of the wall clock does not prolong them.
    """
    ends_at = time.monotonic() + seconds
    for pause in _WINDOW_PAUSES:
        left = ends_at - time.monotonic()
        yield max(left, 0.0)
        if left <= 0:
            return
        time.sleep(min(pause, left))
    yield 0.0
