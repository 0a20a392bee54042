from __future__ import annotations

import logging

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_tallyfy import version_compat
from airflow_provider_tallyfy.exceptions import TallyfyNotFoundError
from airflow_provider_tallyfy.links.tallyfy import TallyfyProcessLink
from airflow_provider_tallyfy.operators.tallyfy import TallyfyGetRunOperator

API = "https://tallyfy.test/api/organizations/acme"


def test_returns_the_run_with_one_next_task(connection, context, requests_mock):
    requests_mock.get(
        f"{API}/runs/r1",
        json={"data": {"id": "r1", "name": "Onboarding", "next_task": {"data": [{"id": "t1"}]}}},
    )
    operator = TallyfyGetRunOperator(
        task_id="read", run_id="r1", with_="next_task, tasks", form_fields_values=True
    )

    assert operator.execute(context) == {"id": "r1", "name": "Onboarding", "next_task": {"id": "t1"}}
    assert requests_mock.last_request.qs == {"with": ["next_task,tasks"], "form_fields_values": ["true"]}


def test_logs_the_run(connection, context, requests_mock, monkeypatch, caplog):
    run = {"id": "r1", "status": "active", "next_task": {"id": "t1", "title": "Sign"}}
    requests_mock.get(f"{API}/runs/r1", json={"data": run})
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(TallyfyGetRunOperator, "log", logging.getLogger("read"))
    TallyfyGetRunOperator(task_id="read", run_id="r1").execute(context)
    assert "active; next is 'Sign'; task t1; run r1" in caplog.messages


def test_multiple_outputs_by_default():
    """Airflow resolves ``output["next_task"]`` to a pushed ``None`` only for multiple outputs."""
    assert TallyfyGetRunOperator(task_id="read", run_id="r1").multiple_outputs is True
    assert (
        TallyfyGetRunOperator(task_id="read", run_id="r1", multiple_outputs=False).multiple_outputs is False
    )


@pytest.mark.parametrize("is_3_0", [True, False])
def test_outputs_are_pushed_for_airflow_3_0(connection, context, requests_mock, monkeypatch, is_3_0):
    requests_mock.get(f"{API}/runs/r1", json={"data": {"id": "r1", "next_task": None}})
    monkeypatch.setattr(version_compat, "IS_AIRFLOW_3_0", is_3_0)
    operator = TallyfyGetRunOperator(task_id="read", run_id="r1")

    assert operator.execute(context) == {"id": "r1", "next_task": None}

    assert ("id" in context["ti"].xcoms) is is_3_0
    assert "next_task" not in context["ti"].xcoms
    assert operator.multiple_outputs is not is_3_0


def test_link_is_pushed_even_if_the_read_fails(connection, context, requests_mock):
    requests_mock.get(f"{API}/runs/r1", status_code=404, json={"message": "Not found"})
    with pytest.raises(TallyfyNotFoundError):
        TallyfyGetRunOperator(task_id="read", run_id="r1").execute(context)
    (link,) = TallyfyGetRunOperator.operator_extra_links
    assert link == TallyfyProcessLink()
    assert link.name == "Tallyfy process"
    assert context["ti"].xcoms[link.xcom_key] == "https://go.tallyfy.com/acme/processes/r1"


def test_template_fields():
    assert TallyfyGetRunOperator.template_fields == ("run_id", "with_", "tallyfy_conn_id")


def test_missing_run_id_is_refused(connection, context):
    with pytest.raises(AirflowFailException, match=r"run_id must be a Tallyfy id .* is missing"):
        TallyfyGetRunOperator(task_id="read", run_id=None).execute(context)


def test_execute_without_task_instance(connection, requests_mock):
    requests_mock.get(f"{API}/runs/r1", json={"data": {"id": "r1", "next_task": None}})
    assert TallyfyGetRunOperator(task_id="read", run_id="r1").execute({}) == {"id": "r1", "next_task": None}
