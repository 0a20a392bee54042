"""
What a launch sends: kick-off values and changes of steps, both checked before anything is sent.

The rule held here: whatever is wrong with a launch is told in one message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_tallyfy.protocol import forms, tasks
from airflow_provider_tallyfy.protocol.form_fields import read_kickoff_fields
from airflow_provider_tallyfy.protocol.people import Directory
from airflow_provider_tallyfy.protocol.problems import FormValuesError
from airflow_provider_tallyfy.protocol.tasks import read_steps


def encode_launch(
    checklist: Mapping[str, Any],
    kickoff: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    directory: Directory | None = None,
) -> dict[str, Any]:
    """
    Return ``prerun`` and ``tasks`` for a launch, each only where there is something in it.

    :param checklist: the template, asked for ``with=steps`` where there are overrides.
    :param kickoff: plain values by field id, alias or label; see
        :func:`~airflow_provider_tallyfy.protocol.forms.encode_kickoff`.
    :param overrides: owners and deadline by step id, alias or title; see
        :func:`~airflow_provider_tallyfy.protocol.tasks.encode_overrides`.
    :param directory: where people are looked up; see :func:`needs_directory`.
    :raises FormValuesError: for all that is wrong with both.
    """
    fields, steps = read_kickoff_fields(checklist), read_steps(checklist)
    encoders: dict[str, Callable[[], dict[str, Any]]] = {
        "prerun": lambda: forms.encode_kickoff(fields, _given(kickoff), directory),
        "tasks": lambda: tasks.encode_overrides(steps, _given(overrides), directory),
    }
    encoded, errors = {}, []
    for name, encode in encoders.items():
        try:
            encoded[name] = encode()
        except FormValuesError as error:
            errors.append(error)
    if errors:
        raise FormValuesError(
            [problem for error in errors for problem in error.problems],
            [line for error in errors for line in error.choices],
        )
    return {name: value for name, value in encoded.items() if value}


def needs_directory(
    checklist: Mapping[str, Any],
    kickoff: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> bool:
    """Tell whether a launch names people whom only a directory knows; see :func:`encode_launch`."""
    fields = read_kickoff_fields(checklist)
    return forms.needs_directory(fields, _given(kickoff)) or tasks.needs_directory(_given(overrides))


def _given(values: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return {} if values is None else values
