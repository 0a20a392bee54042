"""What a real Airflow sends of a wait, from its triggerer and its workers, to a StatsD server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Site

pytestmark = pytest.mark.system

SOON = 60.0
DEFAULT = {"conn_id": "tallyfy_default"}


def test_a_deferred_wait_is_told_from_its_first_request_to_its_wake_up(site: Site) -> None:
    site.statsd.forget()
    wait = site.wait_in("next_task_deferred", done=2)
    wait.until("deferred")
    site.statsd.wait_for("airflow.tallyfy.requests", SOON, outcome="ok", **DEFAULT)
    held = site.statsd.wait_for("airflow.tallyfy.active_waits", SOON, **DEFAULT)
    assert held.value >= 1

    assert wait.complete_next() is None
    wait.until("success")

    assert site.statsd.wait_for("airflow.tallyfy.completions", SOON, outcome="met", **DEFAULT).value == 1
    delay = site.statsd.wait_for("airflow.tallyfy.detection_latency", SOON, **DEFAULT)
    assert delay.kind == "ms"
    assert delay.value >= 0
    assert site.statsd.received("airflow.tallyfy.polls")
    triggers = site.statsd.wait_for("airflow.triggers.running", SOON)
    assert dict(held.tags)["hostname"] == dict(triggers.tags)["hostname"]
