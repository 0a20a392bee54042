"""Who completed a task: as the task says, and if it has only an id, as the member's own record says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.protocol.completion import Person, completer, read_person

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook


def who_completed(task: Mapping[str, Any], hook: TallyfyHook, warn: Callable[..., object]) -> Person | None:
    """
    Return who completed a task, with name and e-mail address if Tallyfy has them; ``None`` if it does not say.

    :param hook: reads the member if the task has only an id.
    :param warn: takes a log line if the name cannot be read; the completion stands, whoever did it.
    """
    person = completer(task)
    if person is None or person.is_known:
        return person
    try:
        return read_person({"id": person.id, **hook.request("GET", f"users/{person.id}")["data"]})
    except Exception as error:  # noqa: BLE001 (whatever Tallyfy or a secrets backend raises, only the name is missing)
        warn("The name of user %s cannot be read (%s)", person.id, type(error).__name__)
        return person
