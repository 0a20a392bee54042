"""The trigger behind a gate that reminds people while it waits."""

from __future__ import annotations

import asyncio
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.triggers.tallyfy import TallyfyTaskTrigger
from airflow_provider_tallyfy.waiting.threads import DaemonThreads, in_thread, log_in_thread

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

_threads = DaemonThreads(4, "tallyfy-reminders")


class TallyfyRemindingTaskTrigger(TallyfyTaskTrigger):
    """
    Fires as :class:`TallyfyTaskTrigger` does, and calls notifiers again and again until then.

    When a reminder is due follows from when the wait began, so a restart repeats none. One that was due while no
    triggerer ran is left out.

    :param reminders: ``{"notifiers": [{"class", "arguments"}], "began_at", "every", "at_most", "subject"}``, times in
        seconds; ``None`` for none.
    :param waiting: as for :class:`TallyfyTaskTrigger`.
    """

    _own_arguments: tuple[str, ...] = (*TallyfyTaskTrigger._own_arguments, "reminders")

    def __init__(self, *, reminders: dict[str, Any] | None = None, **waiting: Any) -> None:
        super().__init__(**waiting)
        self.reminders = reminders

    async def _event(self) -> TriggerEvent:
        if not self.reminders:
            return await super()._event()
        reminding = asyncio.create_task(self._remind(self.reminders))
        try:
            return await super()._event()
        finally:
            reminding.cancel()

    async def _remind(self, reminders: dict[str, Any]) -> None:
        began_at, every = reminders["began_at"], reminders["every"]
        first = max(int((time.time() - began_at) // every), 0) + 1
        for number in range(first, reminders["at_most"] + 1):
            await asyncio.sleep(max(began_at + number * every - time.time(), 0))
            subject = {**reminders["subject"], "reminder": number}
            await log_in_thread(self.log.info, "Reminder %d: there is no decision yet", number)
            for notifier in reminders["notifiers"]:
                await self._send(notifier, {"tallyfy": subject, "ti": self.task_instance})

    async def _send(self, packed: dict[str, Any], context: dict[str, Any]) -> None:
        """Call a notifier whose fields were rendered before; an error does not end the wait."""
        from airflow.providers.common.compat.sdk import BaseNotifier

        module, _, name = packed["class"].rpartition(".")
        try:
            notifier = getattr(import_module(module), name)(**packed["arguments"])
            own = getattr(type(notifier), "async_notify", None)
            if own is not None and own is not getattr(BaseNotifier, "async_notify", None):
                await notifier.async_notify(context)
            else:
                await in_thread(_threads, notifier.notify, context)
        except Exception as error:  # noqa: BLE001 (a notifier may raise anything, and the wait continues)
            message = "The reminder by %s failed (%s), still waiting for the decision"
            await log_in_thread(self.log.warning, message, name, type(error).__name__)
