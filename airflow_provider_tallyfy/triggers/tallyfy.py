"""The triggers behind the sensors. All of a wait is in :mod:`airflow_provider_tallyfy.waiting`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_tallyfy.waiting.events import to_event
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.pace import Pace


class TallyfyNextTaskTrigger(BaseTrigger):
    """
    Fires once, as soon as another task of a run is next, none is left, or it is certain that neither will come.

    Without ``from_task_id`` it fires at the first sight of a task, for the sensor to keep that one and wait on.

    Everything it needs to begin anew after a restart of the triggerer is in its arguments, and no secret is.

    :param tallyfy_conn_id: id of the Airflow connection.
    :param run_id: id of the run.
    :param from_task_id: id of the task to move on from, or ``None`` while it is not known.
    :param poke_interval: seconds between two looks.
    :param exponential_backoff: let that time double from look to look; it begins anew after a restart.
    :param max_wait: seconds that it does not go beyond, or ``None``.
    :param looked_at: when the sensor looked before it deferred, in seconds since the epoch, so that the next look comes
        an interval later; at once where that has passed, as after a restart.
    :param ends_at: when the sensor times out, likewise, so that a last look comes shortly before.
    :param silent_fail: go on even when Tallyfy refuses the connection's credentials.
    """

    def __init__(
        self,
        *,
        tallyfy_conn_id: str,
        run_id: str,
        from_task_id: str | None,
        poke_interval: float,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        looked_at: float | None = None,
        ends_at: float | None = None,
        silent_fail: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tallyfy_conn_id = tallyfy_conn_id
        self.run_id = run_id
        self.from_task_id = from_task_id
        self.poke_interval = poke_interval
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.looked_at = looked_at
        self.ends_at = ends_at
        self.silent_fail = silent_fail

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, as plain JSON."""
        names = (
            "tallyfy_conn_id",
            "run_id",
            "from_task_id",
            "poke_interval",
            "exponential_backoff",
            "max_wait",
            "looked_at",
            "ends_at",
            "silent_fail",
        )
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {name: getattr(self, name) for name in names},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire one event."""
        from airflow_provider_tallyfy.waiting.wait import wait

        pace = Pace(self.poke_interval, self.exponential_backoff, self.max_wait, self.ends_at)
        verdict = await wait(
            self.tallyfy_conn_id,
            self.run_id,
            NextTaskCondition(self.from_task_id),
            pace,
            self.log,
            looked_at=self.looked_at,
            outlives_refusals=self.silent_fail,
        )
        yield TriggerEvent(to_event(verdict))
