"""
Who completed a task, what they commented, and whether they may decide on an approval.

A task has the id of who completed it: a member (``completer_id``) or a guest (``completer_guest`` in the official SDK,
tallyfy 3.1.0; ``completer_guest_id`` in other responses). The task's owners have names, if the user is one of them. A
decision by an unknown user does not count.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import described, listed, quoted
from airflow_provider_tallyfy.protocol.lookup import normalized
from airflow_provider_tallyfy.protocol.people import (
    KINDS,
    Directory,
    encode_assignees,
    full_name,
    is_email,
    parse_member_id,
)
from airflow_provider_tallyfy.protocol.responses import is_id
from airflow_provider_tallyfy.protocol.validation import InvalidValueError

STARTED_BY = "started_by"
"""In ``exclude``: the member who launched the run."""
_EXCLUDE = "exclude"
_COMMENT_LABELS = (None, "", "comment")  # with any other label, it is an issue or a message about one


@dataclass(frozen=True, slots=True)
class Person:
    """
    A user who completed a task, as far as is known.

    :param id: a member's or a guest's id.
    :param name: the full name.
    :param email: the e-mail address.
    :param is_guest: whether it is a guest's id.
    """

    id: int | str
    name: str | None = None
    email: str | None = None
    is_guest: bool = False

    @property
    def is_known(self) -> bool:
        """Whether there is a name or an address."""
        return self.name is not None or self.email is not None

    @property
    def in_full(self) -> str:
        """Name and address, or id."""
        kind = "guest" if self.is_guest else "member"
        if self.name is None:
            return f"{kind} {self.email or self.id}"
        return f"{self.name} <{self.email}>" if self.email else f"{self.name} ({kind} {self.id})"

    def as_json(self) -> dict[str, Any]:
        """Return id, name and address as plain JSON."""
        return {"id": self.id, "name": self.name, "email": self.email}

    def __str__(self) -> str:
        return self.name or self.email or f"user {self.id}"


def completer(task: Mapping[str, Any]) -> Person | None:
    """Return who completed a task; ``None`` if the task does not say."""
    if is_id(user_id := task.get("completer_id")):
        owner = next((each for each in _owners(task) if str(each.get("id")) == str(user_id)), {"id": user_id})
        return read_person(owner)
    guest = next(
        (task[key] for key in ("completer_guest", "completer_guest_id") if is_id(task.get(key))), None
    )
    return None if guest is None else Person(guest, email=guest if is_email(guest) else None, is_guest=True)


def read_person(member: Mapping[str, Any]) -> Person:
    """Return the person that a member's object describes (page "List members")."""
    return Person(member["id"], full_name(member) or None, member.get("email") or None)


def last_comment(task: Mapping[str, Any], person: Person) -> str | None:
    """Return the last comment that a person wrote on a task that was read ``with=threads``, if any."""
    comments = [
        each
        for each in _objects(task.get("threads"))
        if each.get("label") in _COMMENT_LABELS and str(each.get("author_id")) == str(person.id)
    ]
    newest = max(comments, key=lambda each: str(each.get("created_at")), default=None)
    content = None if newest is None else newest.get("content")
    return content if isinstance(content, str) and content.strip() else None


def without_comments(task: Mapping[str, Any], texts: Collection[str]) -> dict[str, Any]:
    """Return a task without the comments that hold one of the texts, whoever wrote them."""
    plain_texts = list(map(_letters, texts))
    kept = [
        each
        for each in _objects(task.get("threads"))
        if not any(text in _letters(str(each.get("content"))) for text in plain_texts)
    ]
    return {**task, "threads": kept}


def without_html(text: str) -> str:
    """Return text without what makes HTML of it: Tallyfy may return a comment as HTML, whatever was sent."""
    return unescape(re.sub("<[^>]*>", " ", text))


def _letters(text: str) -> str:
    return "".join(without_html(text).split())


def _owners(task: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    owners = task.get("owners")
    return _objects(owners.get("users")) if isinstance(owners, Mapping) else ()


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a list, bare or under ``data``; anything else is ignored."""
    if isinstance(value, Mapping):
        value = value.get("data")
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


@dataclass(frozen=True)
class Approvers:
    """
    Who may decide.

    :param members: ids of members.
    :param guests: e-mail addresses of guests.
    :param names: the same people and groups, for a message; empty if everyone may decide who is not excluded.
    :param excluded: who may not decide, even if they are among the others.
    :param excludes_starter: whether the member who launched the run may not.
    :param addresses: the e-mail addresses of all members by id, if the one who launched the run may not decide.
    """

    members: frozenset[int] = frozenset()
    guests: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    excluded: Approvers | None = None
    excludes_starter: bool = False
    addresses: Mapping[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        allowed = listed(self.names) or "everyone"
        excluded = list(self.excluded.names if self.excluded else ())
        if self.excludes_starter:
            excluded.append("the one who launched the process")
        return f"{allowed}, but not {listed(excluded)}" if excluded else allowed

    def find_problem(self, task: Mapping[str, Any], started_by: Any = None) -> str | None:
        """
        Return why the decision on a task does not count, as a clause about the user who made it; ``None`` if it does.

        :param task: the completed task, as Tallyfy returns it by itself.
        :param started_by: ``started_by`` of the run; needed if that user may not decide.
        """
        member, guest = parse_member_id(task.get("completer_id")), None
        if member is None:
            person = completer(task)
            guest = normalized(person.email) if person is not None and person.email else None
        if member is None and guest is None:
            return "whom Tallyfy does not name"
        is_excluded = self.excluded is not None and self.excluded._includes(member, guest)
        if is_excluded or (self.names and not self._includes(member, guest)):
            return f"who may not decide: the approvers are {self}"
        if self.excludes_starter:
            starter = parse_member_id(started_by.get("id") if isinstance(started_by, Mapping) else started_by)
            if starter is None:
                return "who may have launched the process: Tallyfy does not say who did"
            if starter == member or (guest is not None and guest == self.addresses.get(starter)):
                return "who launched the process, and so may not decide"
        return None

    def _includes(self, member: int | None, guest: str | None) -> bool:
        return member in self.members if member is not None else guest in self.guests


def check_approvers(approvers: Any) -> None:
    """
    Refuse a value that cannot name approvers, without a directory.

    :raises InvalidValueError: it is empty, or of another kind.
    """
    keys = (*KINDS, _EXCLUDE)
    if not isinstance(approvers, Mapping):
        is_list = isinstance(approvers, (str, list, tuple, set)) and approvers
        if isinstance(approvers, bool) or not (isinstance(approvers, int) or is_list):
            raise InvalidValueError(
                f"approvers must be e-mail addresses, ids, names or groups, or a mapping of them under {listed(keys)}, "
                f"but is {described(approvers)}"
            )
        return
    if unknown := [str(key) for key in approvers if key not in keys]:
        raise InvalidValueError(f"approvers takes {listed(keys)}, but not {listed(map(quoted, unknown))}")
    for key, entries in approvers.items():
        if not entries or isinstance(entries, bool):
            raise InvalidValueError(f"approvers names no one under {quoted(str(key))}; leave that out")
    if not approvers:
        raise InvalidValueError("approvers names no one; leave it out if everyone may decide")


def read_approvers(approvers: Any, directory: Directory) -> Approvers:
    """
    Return who may decide.

    :param approvers: one or more of: a member's e-mail address, id or full name, a guest's e-mail address, a group's id
        or name; or a mapping with lists of them under ``users``, ``guests``, ``groups``, and under ``exclude`` those
        who may not decide, :data:`STARTED_BY` among them.
    :param directory: all members and groups.
    :raises InvalidValueError: someone is not known, or no one is named.
    """
    check_approvers(approvers)
    if not isinstance(approvers, Mapping):
        return _read(approvers, directory)
    allowed = {kind: entries for kind, entries in approvers.items() if kind != _EXCLUDE}
    entries = approvers.get(_EXCLUDE) or ()
    exclude = [entries] if isinstance(entries, (str, int, Mapping)) else list(entries)
    others = [each for each in exclude if each != STARTED_BY]
    read = _read(allowed, directory) if allowed else Approvers()
    return Approvers(
        read.members,
        read.guests,
        read.names,
        excluded=_read(others, directory, excludes=True) if others else None,
        excludes_starter=STARTED_BY in exclude,
        addresses={each.id: normalized(each.email) for each in directory.members}
        if STARTED_BY in exclude
        else {},
    )


def _read(people: Any, directory: Directory, *, excludes: bool = False) -> Approvers:
    encoded = encode_assignees(sorted(people, key=str) if isinstance(people, set) else people, directory)
    groups = [directory.group(str(group_id)) for group_id in encoded["groups"]]
    for group in groups:
        if excludes and not group.members and not group.guests:
            raise InvalidValueError(
                f"no one is known to be in group {quoted(group.name)}, so it excludes no one"
            )
    names: list[str] = [
        *(str(directory.member(str(member_id))) for member_id in encoded["users"]),
        *(f"guest {email}" for email in encoded["guests"]),
        *(f"group {quoted(group.name)}" for group in groups),
    ]
    if not names:
        raise InvalidValueError("approvers names no one; leave it out if everyone may decide")
    member_ids = {*encoded["users"], *(member for group in groups for member in group.members)}
    guests = {
        normalized(each) for each in (*encoded["guests"], *(one for group in groups for one in group.guests))
    }
    # Tallyfy can make a guest of a member, with the same address; that person may have decided as either.
    for member in directory.members:
        email = normalized(member.email)
        if (excludes or not member.is_active) and (member.id in member_ids or (email and email in guests)):
            member_ids.add(member.id)
            guests.add(email)
    return Approvers(frozenset(member_ids), frozenset(guests - {""}), tuple(names))
