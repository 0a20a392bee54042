"""
The triggers that are measured, with their Airflow connections.

Only ``prepare`` and what is called after it import Airflow, so that its home can be set before.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.sandbox.access import TOKEN
from airflow_provider_tallyfy.sandbox.store import ORGANIZATION

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.triggers.base import BaseTrigger

    from benchmarks.organization import RunToWaitFor

OURS, HTTP, SLEEP = "TallyfyNextTaskTrigger", "HttpEventTrigger", "asyncio.sleep"


class Ours:
    """The trigger behind ``TallyfyNextTaskSensor``."""

    def environment(self, url: str, authority: Path | None) -> dict[str, str]:
        """Return the environment variables with the connection to a sandbox."""
        connection = {
            "conn_type": "tallyfy",
            "host": f"{url}/api",
            "login": ORGANIZATION,
            "password": TOKEN,
            # Without a ceiling on requests.
            "extra": {"requests_per_hour": 0, **({} if authority is None else {"verify": str(authority)})},
        }
        return {"AIRFLOW_CONN_TALLYFY_DEFAULT": json.dumps(connection)}

    def prepare(self) -> None:
        """Import the modules that a triggerer has loaded after its first wait."""
        import airflow_provider_tallyfy.hooks.tallyfy
        import airflow_provider_tallyfy.waiting.watcher  # noqa: F401

    def trigger(self, run: RunToWaitFor, interval: float) -> BaseTrigger:
        """Return the trigger that waits for a run's next task."""
        from airflow_provider_tallyfy.triggers.tallyfy import TallyfyNextTaskTrigger

        # Without worker_polled_at, so that the first poll counts too.
        return TallyfyNextTaskTrigger(
            tallyfy_conn_id="tallyfy_default",
            run_id=run.run_id,
            from_task=run.task_id,
            poke_interval=interval,
        )

    def is_change(self, payload: Any) -> bool:
        """Return whether an event says that another task is next."""
        return isinstance(payload, dict) and payload.get("outcome") == "met"


class Http:
    """The HTTP provider's ``HttpEventTrigger``, which polls its run."""

    def environment(self, url: str, authority: Path | None) -> dict[str, str]:
        connection = {
            "conn_type": "http",
            "host": url,
            # It sends unknown extras as headers.
            "extra": {
                "Authorization": f"Bearer {TOKEN}",
                "Accept": "application/json",
                "X-Tallyfy-Client": "APIClient",
            },
        }
        environment = {"AIRFLOW_CONN_HTTP_DEFAULT": json.dumps(connection)}
        if authority is not None:
            # Its asynchronous hook takes no CA bundle from a connection, but OpenSSL takes one from here.
            environment["SSL_CERT_FILE"] = str(authority)
        return environment

    def prepare(self) -> None:
        import airflow.providers.http.triggers.http  # noqa: F401

        import benchmarks.response_check  # noqa: F401

    def trigger(self, run: RunToWaitFor, interval: float) -> BaseTrigger:
        from airflow.providers.http.triggers.http import HttpEventTrigger

        return HttpEventTrigger(
            response_check_path="benchmarks.response_check.has_moved_on",
            http_conn_id="http_default",
            method="GET",
            endpoint=f"api/organizations/{ORGANIZATION}/runs/{run.run_id}",
            data={"with": "next_task"},
            poll_interval=interval,
        )

    def is_change(self, payload: Any) -> bool:
        return isinstance(payload, dict) and payload.get("status") == "success"


class Sleep:
    """A trigger that does nothing, as the lower limit."""

    def environment(self, url: str, authority: Path | None) -> dict[str, str]:
        return {}

    def prepare(self) -> None:
        import benchmarks.sleeping  # noqa: F401

    def trigger(self, run: RunToWaitFor, interval: float) -> BaseTrigger:
        from benchmarks.sleeping import SleepingTrigger

        return SleepingTrigger()

    def is_change(self, payload: Any) -> bool:
        return False


Implementation = Ours | Http | Sleep
IMPLEMENTATIONS: dict[str, Implementation] = {OURS: Ours(), HTTP: Http(), SLEEP: Sleep()}
