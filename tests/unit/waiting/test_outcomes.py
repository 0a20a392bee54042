from __future__ import annotations

import pytest

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.outcomes import (
    Denied,
    Met,
    Pending,
    PollFailed,
    Skipped,
    Unreachable,
    from_event,
    to_event,
)
from airflow_provider_tallyfy.waiting.polls import PollError, RunSnapshot
from tests.support.evaluation import evaluate


def outcome_of(result):
    return evaluate(NextTaskCondition("a"), "run", result)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.TallyfyRateLimitError("429", retry_after=5),
        exceptions.TallyfyServerError("503"),
        exceptions.TallyfyConnectionError("refused"),
        exceptions.TallyfyResponseError("unreadable"),
        exceptions.TallyfyNotFoundError("a proxy's 404", is_from_tallyfy=False),
    ],
    ids=str,
)
def test_an_error_that_may_pass_is_a_failed_poll(error):
    assert outcome_of(PollError(error)) == PollFailed(error)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.TallyfyAuthError("401"),
        exceptions.TallyfyPermissionError("403"),
        exceptions.TallyfyValidationError("422"),
        exceptions.TallyfyConfigurationError("no organization"),
        exceptions.TallyfyError("405"),
    ],
    ids=str,
)
def test_a_refusal_is_denied(error):
    assert outcome_of(PollError(error)) == Denied(error)


@pytest.mark.parametrize("mark", [{"archived_at": "2026-01-01T00:00:00Z"}, {"status": "archived"}])
def test_an_archived_run_is_unreachable_even_if_its_next_task_changed(mark):
    outcome = outcome_of(RunSnapshot({"id": "run", "next_task": None, **mark}))
    assert isinstance(outcome, Unreachable)
    assert "archived" in outcome.reason


def test_a_run_that_was_complete_before_it_was_archived_is_met():
    done = {"id": "run", "next_task": None, "completed_at": "2026-01-01", "archived_at": "2026-01-02"}
    assert isinstance(outcome_of(RunSnapshot(done)), Met)


def test_an_event_is_sanitized():
    """A value that msgpack or JSON refuses would end the triggerer with all its waits."""
    odd = {
        "title": "cut \ud83d",
        "\0key": "a\0\0b\\\0c\\u0000",
        "position": 2**64,
        "weight": float("nan"),
        "share": float("inf"),
    }
    event = to_event(Met({"next_task": odd}))
    assert event["result"]["next_task"] == {
        "title": "cut ?",
        "?key": "a??b\\?c\\u0000",
        "position": str(2**64),
        "weight": None,
        "share": None,
    }


def test_an_ordinary_value_is_unchanged():
    result = {"next_task": {"title": "Ünïcode 🎉", "position": 2**53, "weight": 0.5, "owners": {"users": []}}}
    assert to_event(Met(result))["result"] == result


@pytest.mark.parametrize(
    ("outcome", "name"),
    [
        (Met({"next_task": None}), "met"),
        (Unreachable("archived"), "unreachable"),
        (Skipped("hidden"), "skipped"),
        (Pending(NextTaskCondition("a")), "pending"),
    ],
)
def test_an_outcome_survives_its_event(outcome, name):
    event = to_event(outcome)
    assert event["outcome"] == name
    assert from_event(event, NextTaskCondition) == outcome


def test_a_refusal_keeps_its_class_in_an_event():
    event = to_event(Denied(exceptions.TallyfyPermissionError("not yours", status=403)))
    assert event["outcome"] == "denied"
    restored = from_event(event, NextTaskCondition)
    assert isinstance(restored, Denied)
    assert type(restored.error) is exceptions.TallyfyPermissionError
    assert str(restored.error) == "not yours"


@pytest.mark.parametrize(
    "event",
    [None, {}, "done", {"outcome": "new"}, {"outcome": "met"}, {"outcome": "pending", "condition": None}],
)
def test_an_unknown_event_has_no_outcome(event):
    """It may be of any other trigger."""
    assert from_event(event, NextTaskCondition) is None


def test_an_event_of_another_wait_has_no_outcome():
    event = to_event(Skipped("hidden"), "task_id wait")
    assert from_event(event, NextTaskCondition, "task_id wait") == Skipped("hidden")
    assert from_event(event, NextTaskCondition, "task_id other") is None
    assert from_event(event, NextTaskCondition) is None
