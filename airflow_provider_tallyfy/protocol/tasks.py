"""
The tasks of a run, and the steps of a template that they are made from.

A task or a step is found by its id, its alias or its title (see :mod:`~airflow_provider_tallyfy.protocol.lookup`); an
ambiguous name is refused. A launch can change ``owners`` and ``deadline`` of a step's task (page "Launch process").
Tallyfy drops a step that it does not know without an error, so an unknown name is refused too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_tallyfy.protocol import people
from airflow_provider_tallyfy.protocol.formatting import described, listed, quoted, quoter, shortened
from airflow_provider_tallyfy.protocol.lookup import Index, Rank, normalized
from airflow_provider_tallyfy.protocol.people import Directory, encode_assignees
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, is_id
from airflow_provider_tallyfy.protocol.scalars import format_datetime, plain_text
from airflow_provider_tallyfy.protocol.validation import FormValuesError, InvalidValueError, choices


class AmbiguousTaskError(ValueError):
    """A name is that of more than one task of a run."""


def index_tasks(tasks: Iterable[Mapping[str, Any]]) -> Index[Mapping[str, Any]]:
    """Return an index for :func:`find_task`, by id, alias and title; worth it if many tasks of a run are looked up."""

    def called(task: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(name for name in (task.get("alias"), task.get("title")) if isinstance(name, str))

    # An id may be a number; a name is always a text.
    return Index(
        tasks, Rank(lambda task: (str(task.get("id") or ""),)), Rank(called), Rank(called, normalized)
    )


def find_task(
    tasks: Iterable[Mapping[str, Any]] | Index[Mapping[str, Any]], name: str
) -> Mapping[str, Any] | None:
    """
    Return the task with this id, alias or title; ``None`` if there is none, or none yet.

    If several match equally well, and rules hide all but one, it is that one.

    :param tasks: the tasks of one run, as Tallyfy has them, or an index of them.
    :param name: what the task is called; see :func:`task_name`.
    :raises AmbiguousTaskError: several match equally well; the message lists them.
    """
    found = (tasks if isinstance(tasks, Index) else index_tasks(tasks)).matches(name)
    if len(found) > 1:
        found = tuple(task for task in found if not is_hidden(task)) or found
    if len(found) > 1:
        raise AmbiguousTaskError(
            f"{quoted(name)} matches {len(found)} tasks: {listed(_describe(found))}. Use an alias or an id."
        )
    return found[0] if found else None


def task_name(task: object) -> str:
    """
    Return an id, alias or title of a task as text; it may be given as a number.

    :raises InvalidValueError: it names no task.
    """
    name = plain_text(task) if isinstance(task, (int, float)) and not isinstance(task, bool) else task
    if not isinstance(name, str) or not name.strip():
        hint = " Pass its id: ['id']." if isinstance(task, Mapping) and "id" in task else ""
        raise InvalidValueError(f"task must be a task's id, alias or title, but is {described(task)}.{hint}")
    return name


def read_tasks(run: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """
    Return the tasks of a run that was read ``with=tasks``: ``data`` (page "Get process"), or a bare list.

    :raises MalformedResponseError: they are anything else.
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
        problem = f"{quoter([name, *map(_title, tasks)])(name)} is not a task of the process, or not yet."
        raise LookupError("\n".join([problem, *choices("tasks", _describe(tasks, name))]))
    return found


def is_completed(task: Mapping[str, Any]) -> bool:
    """Return whether a task is done, by ``completed_at`` or the status, which is spelled in two ways."""
    return bool(task.get("completed_at")) or task.get("status") in ("completed", "complete")


def is_hidden(task: Mapping[str, Any]) -> bool:
    """Return whether a rule hides a task (page "Get task": ``auto-skipped``)."""
    return task.get("status") == "auto-skipped"


def is_approval(task: Mapping[str, Any]) -> bool:
    """Return whether a task is completed by a decision."""
    return task.get("task_type") == "approval"


def decision(task: Mapping[str, Any]) -> bool | None:
    """Return the decision on a completed approval; ``None`` if the task has none."""
    return {"true": True, "1": True, "false": False, "0": False}.get(str(task.get("is_approved")).casefold())


def read_steps(checklist: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """
    Return the steps of a template that was read ``with=steps``: a bare list (page "Get template"), or ``data``.

    :raises MalformedResponseError: they are anything else.
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
    known = index_tasks(steps)
    quote = quoter([*map(str, overrides), *map(_title, steps)])
    encoded: dict[str, dict[str, Any]] = {}
    problems = []
    are_known = True
    for name, override in overrides.items():
        found = known.matches(str(name)) if isinstance(name, (str, int)) else ()
        if len(found) == 1 and str(found[0]["id"]) not in encoded:
            encoded[str(found[0]["id"])], wrong = _override(override, directory)
            problems += [f"step {quoted(str(name))}: {problem}" for problem in wrong]
        elif len(found) == 1:
            problems.append(f"step {named(found[0])} is named twice")
        elif found:
            problems.append(
                f"{quoted(str(name))} matches {len(found)} steps: {listed(_describe(found))}; use an id"
            )
        else:
            problems.append(f"{quote(str(name))} is not a step of the template")
            are_known = False
    if problems:
        there_are = choices("steps", _describe(steps, *map(str, overrides)))
        raise FormValuesError(problems, () if are_known else there_are)
    return encoded


def needs_directory(overrides: Mapping[str, Any]) -> bool:
    """Return whether any of the owners must be looked up in a directory."""
    return isinstance(overrides, Mapping) and any(
        isinstance(override, Mapping) and people.needs_directory(override.get("owners") or ())
        for override in overrides.values()
    )


def _override(override: Any, directory: Directory | None) -> tuple[dict[str, Any], list[str]]:
    if not isinstance(override, Mapping):
        return {}, [f"'owners' and 'deadline' were expected, not {described(override)}"]
    encoded: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in override.items():
        if key not in ("owners", "deadline"):
            problems.append(f"{quoted(str(key))} cannot be changed at a launch, only 'owners' and 'deadline'")
        elif value is not None:
            try:
                encoded[key] = (
                    encode_assignees(value, directory) if key == "owners" else format_datetime(value)
                )
            except InvalidValueError as error:
                problems.extend(error.problems)
    return encoded, problems


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


def named(thing: Mapping[str, Any], quote: Callable[[str], str] = quoted) -> str:
    """Return title, alias and id of a task or a step, for a message."""
    alias = f"alias {shortened(str(thing['alias']))}, " if thing.get("alias") else ""
    return f"{quote(_title(thing))} ({alias}id {thing.get('id')})"


def _describe(things: Iterable[Mapping[str, Any]], *beside: str) -> list[str]:
    """Return the names of tasks or steps; similar ones, also to a name ``beside`` them, have escapes."""
    things = tuple(things)
    quote = quoter([*beside, *map(_title, things)])
    return [named(thing, quote) for thing in things]


def _title(thing: Mapping[str, Any]) -> str:
    return str(thing.get("title") or "")
