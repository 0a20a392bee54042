"""Evaluates a condition for a run that every poll shows alike."""

from __future__ import annotations

from airflow_provider_tallyfy.waiting.evidence import Evidence
from airflow_provider_tallyfy.waiting.outcomes import Unconfirmed


def evaluate(condition, run_id, result):
    """Return the outcome as soon as it is certain."""
    evidence = Evidence(run_id, condition)
    polled_at = 0.0
    while isinstance(outcome := evidence.evaluate(result, polled_at), Unconfirmed):
        polled_at += outcome.recheck_after
        assert polled_at < 100
    return outcome
