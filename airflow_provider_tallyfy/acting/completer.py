"""Who completed a task: what the task itself says, and otherwise what Tallyfy tells of that member."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.protocol.decisions import Person, completer, read_person

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook


def who_completed(task: Mapping[str, Any], hook: TallyfyHook, warn: Callable[..., object]) -> Person | None:
    """
    Return who completed a task, with name and e-mail address where Tallyfy tells them; ``None`` where it does not say.

    :param hook: asks who it was, where the task has only an id.
    :param warn: takes a line where that cannot be known; what was done stands, whoever did it.
    """
    person = completer(task)
    if person is None or person.is_known:
        return person
    try:
        return read_person({"id": person.id, **hook.request("GET", f"users/{person.id}")["data"]})
    except Exception as error:  # noqa: BLE001 (whatever Tallyfy or a secrets backend does, it is only the name that is missing)
        warn("The name of user %s is not known (%s)", person.id, type(error).__name__)
        return person
