"""Metrics on their way from a process that waits as Airflow's triggerer does, to a StatsD server."""

from __future__ import annotations

import os
import subprocess
import sys

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from dev.statsd import Line, StatsdServer

PROGRAM = f"""
import asyncio
from datetime import timedelta
from airflow.models.trigger import Trigger
from airflow_provider_tallyfy import metrics
from airflow_provider_tallyfy.waiting.scheduler.waits import PollSchedule
from airflow_provider_tallyfy.waiting.watcher import subscribe
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition

# The triggerer reads a trigger's arguments before it runs it. Since Airflow 3.2 that is what sets up metrics there.
Trigger("a.class", kwargs={{}}).kwargs

async def poll():
    with subscribe("tallyfy_default", "{SEEDED_RUN_ID}", NextTaskCondition(), PollSchedule(60)) as subscription:
        await subscription.next_result()

asyncio.run(poll())
metrics.completed("tallyfy_default", "met", timedelta(seconds=1.5))
"""


def run_program(environment):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_all_metrics_arrive_at_a_statsd_server(sandbox):
    hostname = {"AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname"}
    with StatsdServer() as statsd:
        run_program(statsd.settings() | hostname)
    # All that was sent has been read by now.
    conn_id = ("conn_id", "tallyfy_default")

    def received(name):
        (line,) = statsd.received(f"airflow.tallyfy.{name}")
        return line

    assert received("requests") == Line(
        "airflow.tallyfy.requests", 1, "c", frozenset({conn_id, ("outcome", "ok")})
    )
    assert received("polls").value == 1
    assert received("completions") == Line(
        "airflow.tallyfy.completions", 1, "c", frozenset({conn_id, ("outcome", "met")})
    )
    delay = received("detection_latency")
    assert (delay.value, delay.kind) == (1500, "ms")
    gauges = statsd.received("airflow.tallyfy.active_waits")
    assert [(gauge.value, gauge.kind) for gauge in gauges] == [(1, "g"), (0, "g")]
    assert all("hostname" in dict(gauge.tags) for gauge in gauges)


def test_nothing_is_sent_if_metrics_are_off(sandbox):
    with StatsdServer() as statsd:
        output = run_program(statsd.settings() | {"AIRFLOW__METRICS__STATSD_ON": "False"})
    # All that was sent has been read by now.
    assert statsd.received("airflow.tallyfy.requests") == []
    assert "metrics" not in output
