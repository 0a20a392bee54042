"""The assets of templates and processes, those that events update, and the lineage of tasks."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from airflow_provider_tallyfy.assets import lineage
from airflow_provider_tallyfy.assets.lineage import report_lineage
from airflow_provider_tallyfy.assets.tallyfy import (
    convert_asset_to_openlineage,
    create_asset,
    event_asset,
    sanitize_uri,
)
from airflow_provider_tallyfy.exceptions import TallyfyConfigurationError
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_3_PLUS

of_airflow_3 = pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 has no watchers")


def test_creates_assets_of_templates_and_processes():
    assert create_asset(organization="org", checklist_id="c1").uri == "tallyfy://org/checklists/c1"
    assert create_asset(organization="org", run_id="r1", extra={"a": 1}).uri == "tallyfy://org/runs/r1"
    for ids in ({}, {"run_id": "r", "checklist_id": "c"}):
        with pytest.raises(ValueError, match="either"):
            create_asset(organization="org", **ids)


@pytest.mark.parametrize(
    "uri", ["tallyfy://org/runs/r1", "tallyfy://org/runs/r1/", "tallyfy://org/runs/r1?a=b#c"]
)
def test_normalizes_a_uri(uri):
    assert sanitize_uri(urlsplit(uri)).geturl() == "tallyfy://org/runs/r1"


@pytest.mark.parametrize(
    "uri",
    [
        "tallyfy://org",
        "tallyfy:///runs/r1",
        "tallyfy://org/tasks/t",
        "tallyfy://org/runs/a/b",
        "tallyfy://a@b/runs/r",
    ],
)
def test_rejects_any_other_uri(uri):
    with pytest.raises(ValueError, match="tallyfy://"):
        sanitize_uri(urlsplit(uri))


def test_openlineage_dataset_has_the_organization_as_namespace(monkeypatch):
    from airflow.providers.common.compat.openlineage import facet

    # Where OpenLineage is not installed, this is a function that returns nothing.
    monkeypatch.setattr(facet, "Dataset", SimpleNamespace)
    dataset = convert_asset_to_openlineage(SimpleNamespace(uri="tallyfy://org/runs/r1"), None)
    assert (dataset.namespace, dataset.name) == ("tallyfy://org", "runs/r1")


@of_airflow_3
def test_name_of_an_event_asset_has_events_and_filters():
    asset = event_asset(
        "task.completed", checklist_id="c1", task="Sign", decision="approved", form_values=True
    )
    assert asset.name == "tallyfy task.completed checklist=c1 task=Sign decision=approved form_values"
    [watcher] = asset.watchers
    path, arguments = watcher.trigger.serialize()
    assert path == "airflow_provider_tallyfy.triggers.tallyfy.TallyfyEventTrigger"
    assert type(watcher.trigger)(**arguments).serialize() == (path, arguments)
    assert event_asset("process.completed").name == "tallyfy process.completed"
    assert event_asset("process.completed", name="done", tallyfy_conn_id="other").name == "done"
    assert event_asset(["process.completed"]) == event_asset("process.completed")
    assert event_asset("process.completed", tallyfy_conn_id="other") != event_asset("process.completed")


@of_airflow_3
def test_name_of_an_event_asset_is_ascii():
    """Airflow requires that on MySQL, and in 3.0 with any database."""
    asset = event_asset("task.completed", task="Prüfen")
    assert asset.name.isascii()
    assert asset != event_asset("task.completed", task="Prufen")


@of_airflow_3
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"events": "task.finished"}, "task.completed"),
        ({"poke_interval": 1}, "10 seconds"),
        ({"poke_interval": float("nan")}, "10 seconds"),
        ({"poke_interval": True}, "10 seconds"),
        ({"poke_interval": "60"}, "10 seconds"),
        ({"form_values": "yes"}, "form_values"),
        pytest.param(
            {"since": "yesterday"},
            "ISO 8601",
            marks=pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="since needs Airflow 3.3"),
        ),
    ],
)
def test_rejects_invalid_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        event_asset(**arguments)


@of_airflow_3
def test_poke_interval_may_be_a_timedelta():
    [watcher] = event_asset("process.completed", poke_interval=timedelta(minutes=5)).watchers
    assert watcher.trigger.serialize()[1]["poke_interval"] == 300


@pytest.mark.skipif(AIRFLOW_V_3_0_PLUS, reason="for Airflow 2")
def test_airflow_2_raises_a_clear_error():
    from airflow_provider_tallyfy.triggers.tallyfy import TallyfyEventTrigger

    for make in (event_asset, TallyfyEventTrigger):
        with pytest.raises(TallyfyConfigurationError, match=r"Airflow 3\.0"):
            make()


@pytest.mark.skipif(AIRFLOW_V_3_3_PLUS or not AIRFLOW_V_3_0_PLUS, reason="for Airflow 3.0 to 3.2")
def test_since_needs_airflow_3_3():
    with pytest.raises(TallyfyConfigurationError, match=r"Airflow 3\.3"):
        event_asset("process.completed", since="2026-01-01")


class Collector:
    def __init__(self, error=None):
        self.inputs, self.outputs, self.error = [], [], error

    def add_input_asset(self, context, *, uri):
        if self.error:
            raise self.error
        self.inputs.append(uri)

    def add_output_asset(self, context, *, uri):
        self.outputs.append(uri)


@pytest.fixture
def collector(monkeypatch):
    from airflow.providers.common.compat.lineage import hook

    collector = Collector()
    monkeypatch.setattr(hook, "get_hook_lineage_collector", lambda: collector)
    return collector


HOOK = SimpleNamespace(connection=SimpleNamespace(organization="org"))


def test_reports_lineage_as_assets(collector):
    report_lineage(HOOK, read_runs=["r1"], read_checklists=["c1"], changed_runs=["r2"])
    assert collector.inputs == ["tallyfy://org/checklists/c1", "tallyfy://org/runs/r1"]
    assert collector.outputs == ["tallyfy://org/runs/r2"]


def test_failing_collector_fails_no_task(collector, caplog):
    collector.error = RuntimeError("broken")
    report_lineage(HOOK, read_runs=["r1"])
    assert "broken" in caplog.text


def test_connection_is_not_read_without_a_collector():
    report_lineage(SimpleNamespace(), read_runs=["r1"])
    assert lineage.logger.name.endswith("lineage")
