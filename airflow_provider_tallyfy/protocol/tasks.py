"""
The tasks of a run, and the steps of a template that they are made from, by the names that people know.

The rule held here: a task or a step is named by its id, its alias or its title, exact before case-folded, and two that
match equally well are told apart by nobody but the caller. What a launch may change in a step's task is ``owners`` and
``deadline`` (page "Launch process"); a step that Tallyfy does not know, it drops without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from airflow_provider_tallyfy.protocol import people
from airflow_provider_tallyfy.protocol.formatting import described, listed, quoted, shortened
from airflow_provider_tallyfy.protocol.lookup import Index, Rank, index, normalized
from airflow_provider_tallyfy.protocol.people import Directory, encode_assignees
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, is_id
from airflow_provider_tallyfy.protocol.scalars import format_datetime
from airflow_provider_tallyfy.protocol.validation import FormValuesError, InvalidValueError, choices


class AmbiguousTaskError(ValueError):
    """A name is that of more than one task of a run."""


def index_tasks(tasks: Iterable[Mapping[str, Any]]) -> Index[Mapping[str, Any]]:
    """Return an index in which :func:`find_task` finds tasks; worth it where many are looked up in the same run."""
    return _by_name(tasks)


def find_task(
    tasks: Iterable[Mapping[str, Any]] | Index[Mapping[str, Any]], name: str
) -> Mapping[str, Any] | None:
    """
    Return the task with this id, alias or title; ``None`` if there is none, or none yet.

    Of several that match equally well, it is the only one that no rule hides.

    :param tasks: the tasks of one run, as Tallyfy has them, or an index of them.
    :param name: what the task is called.
    :raises AmbiguousTaskError: several match equally well; the message lists them.
    """
    found = (tasks if isinstance(tasks, Index) else _by_name(tasks)).matches(name)
    if len(found) > 1:
        found = tuple(task for task in found if not is_hidden(task)) or found
    if len(found) > 1:
        raise AmbiguousTaskError(
            f"{quoted(name)} names {len(found)} tasks alike: {listed(map(named, found))}. Say the alias or the id."
        )
    return found[0] if found else None


def read_tasks(run: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """
    Return the tasks of a run that was asked for ``with=tasks``: ``data`` (page "Get process"), or a bare list.

    :raises MalformedResponseError: where they are anything else.
    """
    return _included(run, "tasks")


def get_task(tasks: Iterable[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """
    Return the task with this id, alias or title.

    :raises LookupError: there is none; the message lists those that there are.
    :raises AmbiguousTaskError: several match equally well.
    """
    tasks = tuple(tasks)
    found = find_task(tasks, name)
    if found is None:
        there_are = choices("The tasks are:", list(map(named, tasks))) or ["There are no tasks."]
        raise LookupError("\n".join([f"{quoted(name)} is no task of the process, or not yet.", *there_are]))
    return found


def is_completed(task: Mapping[str, Any]) -> bool:
    """Tell whether a task is done: ``completed_at`` says so, and the status, which is spelled in two ways."""
    return bool(task.get("completed_at")) or task.get("status") in ("completed", "complete")


def is_hidden(task: Mapping[str, Any]) -> bool:
    """Tell whether a rule hides a task (page "Get task": ``auto-skipped``)."""
    return task.get("status") == "auto-skipped"


def is_approval(task: Mapping[str, Any]) -> bool:
    """Tell whether a task is completed by a decision."""
    return task.get("task_type") == "approval"


def decision(task: Mapping[str, Any]) -> bool | None:
    """Return what was decided on a completed approval, ``None`` where the task does not tell."""
    return {"true": True, "1": True, "false": False, "0": False}.get(str(task.get("is_approved")).casefold())


def read_steps(checklist: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """
    Return the steps of a template that was asked for ``with=steps``: a bare list (page "Get template"), or ``data``.

    :raises MalformedResponseError: where they are anything else.
    """
    return _included(checklist, "steps")


def encode_overrides(
    steps: Iterable[Mapping[str, Any]],
    overrides: Mapping[str, Mapping[str, Any]],
    directory: Directory | None = None,
) -> dict[str, dict[str, Any]]:
    """
    Return ``tasks`` for a launch: owners and deadline by step id, as Tallyfy takes them.

    :param steps: the steps of the template.
    :param overrides: ``{"owners": …, "deadline": …}`` by step id, alias or title. Owners are as for
        :func:`~airflow_provider_tallyfy.protocol.people.encode_assignees`, and replace those of the step; a deadline is
        as for :func:`~airflow_provider_tallyfy.protocol.scalars.format_datetime`. ``None`` leaves the step's own.
    :param directory: where owners are looked up; see :func:`needs_directory`.
    :raises FormValuesError: for all that is wrong.
    """
    if not isinstance(overrides, Mapping):
        raise FormValuesError([f"tasks are given by step id, alias or title, not as {described(overrides)}"])
    steps = tuple(steps)
    known = _by_name(steps)
    encoded: dict[str, dict[str, Any]] = {}
    problems = []
    are_known = True
    for name, override in overrides.items():
        found = known.matches(name) if isinstance(name, str) else ()
        if len(found) == 1 and str(found[0]["id"]) not in encoded:
            encoded[str(found[0]["id"])], wrong = _override(override, directory)
            problems += [f"step {quoted(name)}: {problem}" for problem in wrong]
        elif len(found) == 1:
            problems.append(f"step {named(found[0])} is named twice")
        elif found:
            problems.append(
                f"{quoted(name)} names {len(found)} steps alike: {listed(map(named, found))}; say the id"
            )
        else:
            problems.append(f"{quoted(str(name))} is no step of the template")
            are_known = False
    if problems:
        there_are = choices("The steps are:", list(map(named, steps))) or ["There are no steps."]
        raise FormValuesError(problems, () if are_known else there_are)
    return encoded


def needs_directory(overrides: Mapping[str, Any]) -> bool:
    """Tell whether among the owners there are people whom only a directory knows."""
    return isinstance(overrides, Mapping) and any(
        isinstance(override, Mapping) and people.needs_directory(override.get("owners") or ())
        for override in overrides.values()
    )


def _override(override: Any, directory: Directory | None) -> tuple[dict[str, Any], list[str]]:
    if not isinstance(override, Mapping):
        return {}, [f"'owners' and 'deadline' were expected, not {described(override)}"]
    encoded: dict[str, Any] = {}
    problems = [
        f"{quoted(str(key))} cannot be changed at a launch, only 'owners' and 'deadline'"
        for key in override
        if key not in ("owners", "deadline")
    ]
    try:
        if (owners := override.get("owners")) is not None:
            encoded["owners"] = encode_assignees(owners, directory)
    except InvalidValueError as error:
        problems.extend(error.problems)
    try:
        if (deadline := override.get("deadline")) is not None:
            encoded["deadline"] = _deadline(deadline)
    except InvalidValueError as error:
        problems.extend(error.problems)
    return encoded, problems


def _deadline(deadline: Any) -> str:
    if not isinstance(deadline, (str, date)):
        raise InvalidValueError(f"a deadline is a date with a time, not {described(deadline)}")
    return format_datetime(deadline)


def _included(whole: Mapping[str, Any], name: str) -> tuple[Mapping[str, Any], ...]:
    things = whole.get(name)
    if isinstance(things, dict) and "data" in things:
        things = things["data"]
    if things is None or things == {}:
        return ()
    if not isinstance(things, list) or not all(
        isinstance(thing, dict) and is_id(thing.get("id")) for thing in things
    ):
        raise MalformedResponseError(f"a list of {name} was expected, but there is {described(things)}")
    return tuple(things)


def _by_name(things: Iterable[Mapping[str, Any]]) -> Index[Mapping[str, Any]]:
    """Return an index of tasks or steps by id, alias and title."""

    def called(thing: Mapping[str, Any]) -> tuple[str, ...]:
        return _text(thing, "alias"), _text(thing, "title")

    # An id may be a number; whoever names a thing by it has its text.
    return index(
        things, Rank(lambda thing: (str(thing.get("id") or ""),)), Rank(called), Rank(called, normalized)
    )


def _text(thing: Mapping[str, Any], key: str) -> str:
    value = thing.get(key)
    return value if isinstance(value, str) else ""


def named(thing: Mapping[str, Any]) -> str:
    """Return all the names of a task or a step, for people."""
    alias = f"alias {shortened(str(thing['alias']))}, " if thing.get("alias") else ""
    return f"{quoted(str(thing.get('title') or ''))} ({alias}id {thing.get('id')})"
