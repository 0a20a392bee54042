from __future__ import annotations

from datetime import UTC, datetime

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_tallyfy.operators.tallyfy import TallyfyCompleteTaskOperator

RUN = "https://tallyfy.test/api/organizations/acme/runs/r1"


def test_numeric_id_and_answers_in_field_value(connection, requests_mock):
    form = {
        "data": [{"id": 5, "label": "Notes", "field_type": "text", "required": True, "field_value": "Done"}]
    }
    task = {"id": 7, "title": "2024", "run_id": "r1", "status": "not-started", "completed_at": None}
    done = {**task, "status": "completed", "completed_at": "2026-01-05T17:00:00.000Z", "form_fields": form}
    requests_mock.get(f"{RUN}/tasks", json={"data": [task]})
    shown = [{"json": {"data": {**task, "form_fields": form}}}] * 2 + [{"json": {"data": done}}]
    requests_mock.get(f"{RUN}/tasks/7", shown)
    completion = requests_mock.post(f"{RUN}/completed-tasks", json={"data": done})
    completed = TallyfyCompleteTaskOperator(task_id="complete", run_id="r1", task=2024).execute({})
    assert (completed["id"], completed["status"]) == (7, "completed")
    assert completion.last_request.json() == {"task_id": "7"}


@pytest.mark.parametrize("name", ["run_id", "task"])
@pytest.mark.parametrize(
    "value", [None, "", [], {"id": "t1"}, datetime(2026, 1, 5, tzinfo=UTC), True, object()]
)
def test_ids_of_other_types(connection, requests_mock, context, name, value):
    complete = TallyfyCompleteTaskOperator(task_id="complete", run_id="r1", task="t1")
    setattr(complete, name, value)  # as a template may render it
    with pytest.raises(AirflowFailException, match=f"{name} must be "):
        complete.execute(context)
    assert not requests_mock.called
    assert context["task_state_store"].kept == {}
