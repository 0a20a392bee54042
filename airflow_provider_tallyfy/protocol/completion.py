"""
Who decided on an approval, and what they said about it.

A task says by id who completed it: a member (``completer_id``) or a guest (``completer_guest`` in the official SDK,
tallyfy 3.1.0; ``completer_guest_id`` in other answers). Names stand with the task's owners, where the person is one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from html import unescape
from typing import Any

from airflow_provider_tallyfy.protocol.people import is_email
from airflow_provider_tallyfy.protocol.responses import is_id

_REMARKS = (None, "", "comment")  # all else is an issue, or about one


@dataclass(frozen=True, slots=True)
class Person:
    """
    Somebody who completed a task, as far as is known.

    :param id: a member's or a guest's id.
    :param name: the full name.
    :param email: the e-mail address.
    """

    id: int | str
    name: str | None = None
    email: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is no need to ask who this is."""
        return self.name is not None or self.email is not None

    @property
    def in_full(self) -> str:
        """All that tells who this is, in one piece."""
        if self.name is None:
            return f"guest {self.email}" if self.email else f"member {self.id}"
        return f"{self.name} <{self.email}>" if self.email else f"{self.name} (member {self.id})"

    def as_json(self) -> dict[str, Any]:
        """Return the person as plain JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return self.name or self.email or f"user {self.id}"


def completer(task: Mapping[str, Any]) -> Person | None:
    """Return who completed a task, or ``None`` where Tallyfy does not say."""
    if is_id(user_id := task.get("completer_id")):
        owner = next((each for each in _owners(task) if str(each.get("id")) == str(user_id)), {"id": user_id})
        return read_person(owner)
    guest = next(
        (task[key] for key in ("completer_guest", "completer_guest_id") if is_id(task.get(key))), None
    )
    return None if guest is None else Person(guest, email=guest if is_email(guest) else None)


def read_person(member: Mapping[str, Any]) -> Person:
    """Return the person that a member's object describes (page "List members")."""
    names = (member.get("first_name"), member.get("last_name"))
    full_name = member.get("full_name") or " ".join(name for name in names if isinstance(name, str))
    return Person(member["id"], full_name or None, member.get("email") or None)


def last_comment(task: Mapping[str, Any], person: Person) -> str | None:
    """Return the last comment that a person wrote on a task that was asked for ``with=threads``, if any."""
    comments = [
        each
        for each in _objects(task.get("threads"))
        if each.get("label") in _REMARKS and str(each.get("author_id")) == str(person.id)
    ]
    newest = max(comments, key=lambda each: str(each.get("created_at")), default=None)
    content = None if newest is None else newest.get("content")
    return content if isinstance(content, str) and content.strip() else None


def without_comments(task: Mapping[str, Any], texts: Collection[str]) -> dict[str, Any]:
    """Return a task without the comments that hold one of the texts, whoever wrote them."""
    plain_texts = list(map(_plain, texts))
    kept = [
        each
        for each in _objects(task.get("threads"))
        if not any(text in _plain(str(each.get("content"))) for text in plain_texts)
    ]
    return {**task, "threads": kept}


def _plain(text: str) -> str:
    """Return text without what makes HTML of it: Tallyfy may return a comment as HTML, whatever was sent."""
    return "".join(unescape(re.sub("<[^>]*>", "", text)).split())


def _owners(task: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    owners = task.get("owners")
    return _objects(owners.get("users")) if isinstance(owners, Mapping) else ()


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a list, bare or under ``data``; what is none is passed over, since nothing hangs on it."""
    if isinstance(value, Mapping):
        value = value.get("data")
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []
