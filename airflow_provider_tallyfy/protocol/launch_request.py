"""The body of a launch. All its values are checked before anything is sent, and one error lists all problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from airflow_provider_tallyfy.protocol import forms, people, tasks
from airflow_provider_tallyfy.protocol.formatting import described, quoted
from airflow_provider_tallyfy.protocol.forms.fields import read_kickoff_fields
from airflow_provider_tallyfy.protocol.people import Directory
from airflow_provider_tallyfy.protocol.scalars import plain_text
from airflow_provider_tallyfy.protocol.tasks import read_steps
from airflow_provider_tallyfy.protocol.urls import is_identifier
from airflow_provider_tallyfy.protocol.validation import FormValuesError, InvalidValueError, choices

# Page "Launch process".
MAX_NAME = 550


def encode_launch(
    checklist: Mapping[str, Any],
    kickoff: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    directory: Directory | None = None,
    *,
    roles: Mapping[str, Any] | None = None,
    **values: Any,
) -> dict[str, Any]:
    """
    Return the body of a launch without ``checklist_id``; parameters that are empty are left out.

    :param checklist: the template, with its steps if there are overrides or roles.
    :param kickoff: plain values by field id, alias or label; see
        :func:`~airflow_provider_tallyfy.protocol.forms.encode_kickoff`.
    :param overrides: owners and deadline by step id, alias or title; see
        :func:`~airflow_provider_tallyfy.protocol.tasks.encode_overrides`.
    :param directory: the people of the organization; see :func:`needs_directory`.
    :param roles: assignees by role id.
    :param values: ``name``, ``summary``, ``owner_id``, ``users``, ``groups``, ``tags``, ``folders``, ``parent_id``.
    :raises FormValuesError: something is wrong with any of them.
    """
    fields, steps = read_kickoff_fields(checklist), read_steps(checklist)
    encoders: dict[str, Callable[[Any], Any]] = {
        "prerun": lambda given: forms.encode_kickoff(fields, given, directory),
        "tasks": lambda given: tasks.encode_overrides(steps, given, directory),
        "roles": lambda given: _encode_roles(steps, given, directory),
        "name": _encode_name,
        "summary": plain_text,
        "owner_id": lambda given: _encode_owner(given, directory),
        "users": lambda given: people.encode_assignees({"users": given}, directory)["users"],
        "groups": lambda given: people.encode_assignees({"groups": given}, directory)["groups"],
        "tags": _encode_ids,
        "folders": _encode_ids,
        "parent_id": _encode_id,
    }
    # Required fields are checked without any values too.
    values = {"prerun": {} if kickoff is None else kickoff, "tasks": overrides, "roles": roles, **values}
    encoded, problems, there_are = {}, list[str](), list[str]()
    for part, value in values.items():
        if value is None:
            continue
        try:
            encoded[part] = encoders[part](value)
        except FormValuesError as error:
            problems += error.problems
            there_are += error.choices
        except InvalidValueError as error:
            problems += [f"{part}: {problem}" for problem in error.problems]
    if problems:
        raise FormValuesError(problems, there_are)
    return {part: value for part, value in encoded.items() if value}


def needs_directory(
    checklist: Mapping[str, Any],
    kickoff: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    owner_id: Any = None,
    users: Any = None,
    groups: Any = None,
    roles: Any = None,
    **_values: Any,
) -> bool:
    """Return whether people in a launch must be looked up in a directory; see :func:`encode_launch`."""
    fields = read_kickoff_fields(checklist)
    assignees = [{"users": users, "groups": groups}, {"users": owner_id}]
    assignees += list(roles.values()) if isinstance(roles, Mapping) else []
    return (
        forms.needs_directory(fields, {} if kickoff is None else kickoff)
        or tasks.needs_directory({} if overrides is None else overrides)
        or any(map(people.needs_directory, assignees))
    )


def cut_to_fit(
    checklist: Mapping[str, Any], name: Any, kickoff: Any
) -> tuple[str | None, Mapping[str, Any] | None]:
    """Return name and kick-off values, with texts cut that are too long."""
    cut = name[:MAX_NAME] if isinstance(name, str) else name
    if not isinstance(kickoff, Mapping):
        return cut, kickoff
    return cut, forms.cut_to_fit(read_kickoff_fields(checklist), kickoff)


def _encode_name(name: Any) -> str:
    text = plain_text(name)
    if len(text) > MAX_NAME:
        raise InvalidValueError(f"it has {len(text):,} characters, and {MAX_NAME} are allowed")
    return text


def _encode_owner(owner: Any, directory: Directory | None) -> int:
    owners = people.encode_assignees({"users": owner}, directory)["users"]
    if len(owners) != 1:
        raise InvalidValueError("one member was expected")
    member: int = owners[0]
    return member


def _encode_ids(ids: Any) -> list[int | str]:
    if isinstance(ids, (str, bytes)) or not isinstance(ids, (Sequence, Set)):
        example = ids if is_identifier(ids) else "an id"
        raise InvalidValueError(f"a list of ids was expected, such as {[example]}, not {described(ids)}")
    return list(dict.fromkeys(map(_encode_id, ids)))


def _encode_id(value: Any) -> int | str:
    if not is_identifier(value) and not (isinstance(value, int) and not isinstance(value, bool)):
        raise InvalidValueError(f"an id was expected, not {described(value)}")
    identifier: int | str = value
    return identifier


def _encode_roles(
    steps: Sequence[Mapping[str, Any]], roles: Any, directory: Directory | None
) -> dict[str, Any]:
    """
    Return the assignees of roles; Tallyfy ignores a role that the template does not have.

    Steps have their roles only in the official SDK (``models.py``). If no step has any, they are not checked.
    """
    if not isinstance(roles, Mapping):
        raise FormValuesError(
            [
                f"roles: a mapping such as {{'<role id>': {{'users': [1001]}}}} was expected, not {described(roles)}"
            ]
        )
    known = _role_ids(steps)
    encoded, problems = {}, []
    for role_id, assignees in roles.items():
        if known is not None and str(role_id) not in known:
            problems.append(f"roles: {quoted(str(role_id))} is not a role of the template")
            continue
        try:
            _encode_id(role_id)
            encoded[str(role_id)] = people.encode_assignees(assignees, directory)
        except InvalidValueError as error:
            problems += [f"roles: {quoted(str(role_id))}: {problem}" for problem in error.problems]
    if problems:
        raise FormValuesError(problems, [] if known is None else choices("roles", known))
    return encoded


def _role_ids(steps: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """Return the ids of the roles that steps are assigned to, or ``None`` if no step has roles."""
    if not any("roles" in step for step in steps):
        return None
    roles: list[Any] = []
    for step in steps:
        of_step = step.get("roles")
        of_step = of_step.get("data") if isinstance(of_step, Mapping) else of_step
        roles += of_step if isinstance(of_step, list) else []
    ids = (role.get("id") if isinstance(role, Mapping) else role for role in roles)
    return list(dict.fromkeys(str(role_id) for role_id in ids if role_id not in (None, "")))
