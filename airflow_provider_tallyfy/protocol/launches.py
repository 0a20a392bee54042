"""
What a launch sends: kick-off values, changes of steps, and people, all checked before anything is sent.

The rule held here: whatever is wrong with a launch is told in one message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_tallyfy.protocol import forms, people, tasks
from airflow_provider_tallyfy.protocol.form_fields import read_kickoff_fields
from airflow_provider_tallyfy.protocol.people import Directory
from airflow_provider_tallyfy.protocol.plain_values import plain_text
from airflow_provider_tallyfy.protocol.problems import FormValuesError, UnfitValueError
from airflow_provider_tallyfy.protocol.tasks import read_steps

# Page "Launch process".
NAME_LIMIT = 550


def encode_launch(
    checklist: Mapping[str, Any],
    kickoff: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    directory: Directory | None = None,
    *,
    name: str | None = None,
    summary: str | None = None,
    owner_id: Any = None,
    users: Any = None,
    groups: Any = None,
) -> dict[str, Any]:
    """
    Return ``prerun``, ``tasks``, ``name``, ``summary``, ``owner_id``, ``users`` and ``groups``, as far as given.

    :param checklist: the template, asked for ``with=steps`` where there are overrides.
    :param kickoff: plain values by field id, alias or label; see
        :func:`~airflow_provider_tallyfy.protocol.forms.encode_kickoff`.
    :param overrides: owners and deadline by step id, alias or title; see
        :func:`~airflow_provider_tallyfy.protocol.tasks.encode_overrides`.
    :param directory: where people are looked up; see :func:`needs_directory`.
    :param name: what the run is called.
    :param summary: its notes.
    :param owner_id: a member, by id or e-mail address.
    :param users: members, likewise.
    :param groups: groups, by id or name.
    :raises FormValuesError: for all that is wrong with any of them.
    """
    fields, steps = read_kickoff_fields(checklist), read_steps(checklist)
    encoders: dict[str, Callable[[], Any]] = {
        "prerun": lambda: forms.encode_kickoff(fields, _given(kickoff), directory),
        "tasks": lambda: tasks.encode_overrides(steps, _given(overrides), directory),
        "name": lambda: _named("name", _encode_name, name),
        "summary": lambda: _named("summary", plain_text, summary),
        "owner_id": lambda: _named("owner_id", _encode_owner, owner_id, directory),
        "users": lambda: _named("users", _encode_listed, users, directory, kind="users"),
        "groups": lambda: _named("groups", _encode_listed, groups, directory, kind="groups"),
    }
    encoded, errors = {}, []
    for part, encode in encoders.items():
        try:
            encoded[part] = encode()
        except FormValuesError as error:
            errors.append(error)
    if errors:
        raise FormValuesError(
            [problem for error in errors for problem in error.problems],
            [line for error in errors for line in error.choices],
        )
    return {part: value for part, value in encoded.items() if value}


def needs_directory(
    checklist: Mapping[str, Any],
    kickoff: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    owner_id: Any = None,
    users: Any = None,
    groups: Any = None,
) -> bool:
    """Tell whether a launch names people whom only a directory knows; see :func:`encode_launch`."""
    fields = read_kickoff_fields(checklist)
    return (
        forms.needs_directory(fields, _given(kickoff))
        or tasks.needs_directory(_given(overrides))
        or people.needs_directory({"users": users, "groups": groups})
        or people.needs_directory({"users": owner_id})
    )


def cut_to_fit(
    checklist: Mapping[str, Any], name: Any, kickoff: Any
) -> tuple[str | None, Mapping[str, Any] | None]:
    """Return name and kick-off values with texts cut that are too long; all else is as it was given."""
    cut = name[:NAME_LIMIT] if isinstance(name, str) else name
    if not isinstance(kickoff, Mapping):
        return cut, kickoff
    return cut, forms.cut_to_fit(read_kickoff_fields(checklist), kickoff)


def _given(values: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return {} if values is None else values


def _named(part: str, encode: Callable[..., Any], value: Any, *more: Any, **options: Any) -> Any:
    """Encode what was given, if anything was; what is wrong with it is told with the name of the part."""
    if value is None:
        return None
    try:
        return encode(value, *more, **options)
    except UnfitValueError as error:
        raise FormValuesError([f"{part}: {problem}" for problem in error.problems]) from None


def _encode_name(name: Any) -> str:
    text = plain_text(name)
    if len(text) > NAME_LIMIT:
        raise UnfitValueError(f"it has {len(text):,} characters, and {NAME_LIMIT} are allowed")
    return text


def _encode_owner(owner: Any, directory: Directory | None) -> int:
    owners = _encode_listed(owner, directory, kind="users")
    if len(owners) != 1:
        raise UnfitValueError("one member was expected")
    member: int = owners[0]
    return member


def _encode_listed(who: Any, directory: Directory | None, *, kind: str) -> list[Any]:
    return people.encode_assignees({kind: who}, directory)[kind]
