"""The metrics of a wait that a real Airflow sends to a StatsD server, from its triggerer and its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dev.statsd import StatsdServer

if TYPE_CHECKING:
    from tests.support.environment import Environment

pytestmark = pytest.mark.system

DEFAULT = {"conn_id": "tallyfy_default"}


def test_deferred_wait_reports_its_polls_and_its_completion(environment: Environment) -> None:
    with StatsdServer(environment.statsd_port) as statsd:
        wait = environment.wait_in("next_task_deferred", done=2)
        wait.until("deferred")
        statsd.wait_for("airflow.tallyfy.requests", outcome="ok", **DEFAULT)
        active_waits = statsd.wait_for("airflow.tallyfy.active_waits", at_least=1, **DEFAULT)

        assert wait.complete_next() is None
        wait.until("success")

        assert statsd.wait_for("airflow.tallyfy.completions", outcome="met", **DEFAULT).value == 1
        latency = statsd.wait_for("airflow.tallyfy.detection_latency", **DEFAULT)
        assert latency.kind == "ms"
        assert latency.value >= 0
        assert statsd.received("airflow.tallyfy.polls")
        triggers = statsd.wait_for("airflow.triggers.running")
        assert dict(active_waits.tags)["hostname"] == dict(triggers.tags)["hostname"]
