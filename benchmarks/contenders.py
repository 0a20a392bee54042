"""Who is measured: the trigger of this provider, that of the HTTP provider, and one that only sleeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_tallyfy.sandbox.access import TOKEN
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.triggers.base import BaseTrigger

    from benchmarks.organization import WaitedFor

OURS, HTTP, SLEEP = "TallyfyNextTaskTrigger", "HttpEventTrigger", "asyncio.sleep"


class Contender(Protocol):
    """
    One way to wait.

    Airflow is imported in :meth:`prepare` and later only, so that the process that measures can set its home before.
    """

    def environment(self, url: str, authority: Path | None) -> dict[str, str]:
        """Return the environment that leads to a sandbox."""

    def prepare(self) -> None:
        """Import what the waits need: a triggerer has it loaded after its first wait."""

    def trigger(self, run: WaitedFor, interval: float) -> BaseTrigger:
        """Return the trigger that waits for a run's next task."""

    def tells_a_change(self, payload: Any) -> bool:
        """Tell whether an event says that another task is next."""


class Ours:
    """The trigger behind ``TallyfyNextTaskSensor``."""

    def environment(self, url: str, authority: Path | None) -> dict[str, str]:
        connection = {
            "conn_type": "tallyfy",
            "host": f"{url}/api",
            "login": ORGANIZATION,
            "password": TOKEN,
            # Without a ceiling on requests, so that what is measured is the price of waiting.
            "extra": {"requests_per_hour": 0, **({} if authority is None else {"verify": str(authority)})},
        }
        return {"AIRFLOW_CONN_TALLYFY_DEFAULT": json.dumps(connection)}

    def prepare(self) -> None:
        pass

    def trigger(self, run: WaitedFor, interval: float) -> BaseTrigger:
        from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger

        # Without looked_at: no worker has looked before, so the first look counts too.
        return TallyfyNextTaskTrigger(
            tallyfy_conn_id="tallyfy_default",
            run_id=run.run_id,
            from_task=run.task_id,
            poke_interval=interval,
        )

    def tells_a_change(self, payload: Any) -> bool:
        return isinstance(payload, dict) and payload.get("outcome") == "met"


class Http:
    """The HTTP provider's ``HttpEventTrigger``, which asks for its run again and again."""

    def environment(self, url: str, authority: Path | None) -> dict[str, str]:
        connection = {
            "conn_type": "http",
            "host": url,
            # What it does not know among the extras, it sends as headers.
            "extra": {
                "Authorization": f"Bearer {TOKEN}",
                "Accept": "application/json",
                "X-Tallyfy-Client": "APIClient",
            },
        }
        environment = {"AIRFLOW_CONN_HTTP_DEFAULT": json.dumps(connection)}
        if authority is not None:
            # Its asynchronous half takes no CA bundle from a connection, but OpenSSL takes one from here.
            environment["SSL_CERT_FILE"] = str(authority)
        return environment

    def prepare(self) -> None:
        import airflow.providers.http.triggers.http  # noqa: F401

        import benchmarks.response_check  # noqa: F401

    def trigger(self, run: WaitedFor, interval: float) -> BaseTrigger:
        from airflow.providers.http.triggers.http import HttpEventTrigger

        return HttpEventTrigger(
            response_check_path="benchmarks.response_check.has_moved_on",
            http_conn_id="http_default",
            method="GET",
            endpoint=f"api/organizations/{ORGANIZATION}/runs/{run.run_id}",
            data={"with": "next_task"},
            poll_interval=interval,
        )

    def tells_a_change(self, payload: Any) -> bool:
        return isinstance(payload, dict) and payload.get("status") == "success"


class Sleep:
    """The floor: a trigger that waits for nothing."""

    def environment(self, url: str, authority: Path | None) -> dict[str, str]:
        return {}

    def prepare(self) -> None:
        import benchmarks.sleeping  # noqa: F401

    def trigger(self, run: WaitedFor, interval: float) -> BaseTrigger:
        from benchmarks.sleeping import SleepingTrigger

        return SleepingTrigger()

    def tells_a_change(self, payload: Any) -> bool:
        return False


CONTENDERS: dict[str, Contender] = {OURS: Ours(), HTTP: Http(), SLEEP: Sleep()}
