"""
Who work is given to: members of the organization, guests, and groups.

Tallyfy takes ``{"users": [12345], "guests": ["guest@example.com"], "groups": ["group_id"]}`` (pages "Launch process"
and "Update task"). Names and e-mail addresses are looked up in a :class:`Directory`: the e-mail address of a member
means the member, any other a guest. A name that fits several is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any, TypeVar

from airflow_provider_tallyfy.protocol.formatting import described, listed, quoted, quoter
from airflow_provider_tallyfy.protocol.lookup import Index, Rank, index, normalized
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, is_id
from airflow_provider_tallyfy.protocol.urls import is_identifier
from airflow_provider_tallyfy.protocol.validation import InvalidValueError

T = TypeVar("T")

KINDS = ("users", "guests", "groups")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True, slots=True)
class Member:
    """A user of the organization."""

    id: int
    email: str
    name: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.name, f"<{self.email}>" if self.email else f"(member {self.id})")))


@dataclass(frozen=True, slots=True)
class Group:
    """People that work is given to together: members by id, guests by e-mail address."""

    id: int | str
    name: str
    members: tuple[int, ...] = ()
    guests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Directory:
    """The members and groups of the organization, all of them."""

    members: tuple[Member, ...] = ()
    groups: tuple[Group, ...] = ()

    def member(self, name: str) -> Member:
        """
        Return the member with this id, e-mail address or full name.

        :raises InvalidValueError: there is none, or more than one.
        """
        if len(found := self.members_called(name)) == 1:
            return found[0]
        # Not which members there are: a log is no place for their addresses.
        there_are = f": none of the {len(self.members):,} has this id, e-mail address or full name"
        shown = quoter([name, *(known for member in self.members for known in (member.email, member.name))])(
            name
        )
        raise InvalidValueError(_problem(found, shown, "member", there_are, lambda m: f"{m.id} ({m.email})"))

    def group(self, name: str) -> Group:
        """
        Return the group with this id or name.

        :raises InvalidValueError: there is none, or more than one.
        """
        if len(found := self.groups_called(name)) == 1:
            return found[0]
        shown, groups = self.shown_beside_groups(name)
        raise InvalidValueError(_problem(found, shown, "group", f"; there are {groups}", lambda g: str(g.id)))

    def shown_beside_groups(self, name: str) -> tuple[str, str]:
        """Return a name and those of all groups as a message shows them."""
        quote = quoter([name, *(group.name for group in self.groups)])
        return quote(name), listed(quote(group.name) for group in self.groups) or "none"

    def members_called(self, name: str) -> tuple[Member, ...]:
        """Return the members with this id, e-mail address or full name."""
        return self._members.matches(name)

    def groups_called(self, name: str) -> tuple[Group, ...]:
        """Return the groups with this id or name."""
        return self._groups.matches(name)

    @cached_property
    def _members(self) -> Index[Member]:
        return index(
            self.members,
            Rank(lambda member: (str(member.id),)),
            Rank(lambda member: (member.email,), normalized),
            Rank(lambda member: (member.name,)),
            Rank(lambda member: (member.name,), normalized),
        )

    @cached_property
    def _groups(self) -> Index[Group]:
        return index(
            self.groups,
            Rank(lambda group: (str(group.id),)),
            Rank(lambda group: (group.name,)),
            Rank(lambda group: (group.name,), normalized),
        )


def read_directory(
    members: Iterable[Mapping[str, Any]], groups: Iterable[Mapping[str, Any]] = ()
) -> Directory:
    """
    Return the directory of the API's lists of members and groups (pages "List members" and "List groups").

    Lists are read page by page, so they may hold an item twice.

    :raises MalformedResponseError: one of them has no id.
    """
    by_id = {
        (user_id := _user_id(item)): Member(user_id, str(item.get("email") or ""), _full_name(item))
        for item in members
    }
    groups_by_id = {
        (group_id := _id(item)): Group(
            group_id,
            str(item.get("name") or ""),
            tuple(filter(None, map(_number, _items(item.get("members"))))),
            tuple(guest for guest in _items(item.get("guests")) if isinstance(guest, str)),
        )
        for item in groups
    }
    return Directory(tuple(by_id.values()), tuple(groups_by_id.values()))


def is_email(value: object) -> bool:
    """Tell whether a value is an e-mail address."""
    text = value.strip() if isinstance(value, str) else ""
    return text.isprintable() and _EMAIL.fullmatch(text) is not None


def needs_directory(assignees: Any) -> bool:
    """Tell whether there is anything in a value for assignees that must be looked up in a directory."""
    return any(
        isinstance(entry, str) and kind != "guests" and _number(entry) is None
        for kind, entry in _entries(assignees)
    )


def encode_assignees(assignees: Any, directory: Directory | None = None) -> dict[str, list[Any]]:
    """
    Return assignees as Tallyfy takes them.

    :param assignees: one or more of: an e-mail address, the id or the full name of a member, the id or the name of a
        group; or a mapping with lists of them under ``users``, ``guests`` and ``groups``, all of them optional.
    :param directory: to look up e-mail addresses and names. Without it, the id of a group is taken as it is, and so
        are the e-mail addresses under ``guests``.
    :raises InvalidValueError: an assignee is none of these, is ambiguous, or cannot be looked up.
    """
    encoded: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    problems: list[str] = []
    for kind, entry in _entries(assignees):
        try:
            encoded_as, name = _encoded(kind, entry, directory)
        except InvalidValueError as error:
            problems.extend(error.problems)
            continue
        if name not in encoded[encoded_as]:
            encoded[encoded_as].append(name)
    if problems:
        raise InvalidValueError(*problems)
    return encoded


def _entries(assignees: Any) -> Iterator[tuple[str | None, Any]]:
    """Give each of the assignees with the list that it stands under, if it does."""
    if isinstance(assignees, Mapping) and "id" not in assignees:
        for kind, entries in assignees.items():
            for entry in _each(entries if entries is not None else ()):
                yield str(kind), entry
    else:
        for entry in _each(assignees):
            yield None, entry


def _each(entries: Any) -> Iterable[Any]:
    several = isinstance(entries, (Sequence, Set)) and not isinstance(entries, (str, bytes, bytearray))
    return entries if several else (entries,)


def _encoded(kind: str | None, entry: Any, directory: Directory | None) -> tuple[str, Any]:
    # In Tallyfy's responses, a user is an object with an id.
    entry = entry["id"] if isinstance(entry, Mapping) and is_id(entry.get("id")) else entry
    match kind or _kind_of(entry, directory):
        case "users":
            return "users", _user(entry, directory)
        case "guests":
            return "guests", _guest(entry)
        case "groups":
            return "groups", _group(entry, directory)
    raise InvalidValueError(f"{quoted(kind or '')} is none of the lists {', '.join(KINDS)}")


def _kind_of(entry: Any, directory: Directory | None) -> str:
    if _number(entry) is not None:
        return "users"
    if not isinstance(entry, str):
        raise InvalidValueError(
            f"an assignee is an e-mail address, or the id or name of a member or a group, not {described(entry)}"
        )
    if directory is None:
        if "@" in entry:
            raise InvalidValueError(f"whether {quoted(entry)} is a member's is not known without the members")
        return "groups"
    members, groups = directory.members_called(entry), directory.groups_called(entry)
    if members and groups:
        ids = {"users": [member.id for member in members], "groups": [group.id for group in groups]}
        raise InvalidValueError(f"{quoted(entry)} is the name of a member and of a group; use an id: {ids}")
    if not members and not groups and "@" not in entry:
        shown, known = directory.shown_beside_groups(entry)
        raise InvalidValueError(
            f"{shown} is no e-mail address, and neither a member nor a group; the groups are {known}"
        )
    return "users" if members else "groups" if groups else "guests"


def _user(entry: Any, directory: Directory | None) -> int:
    number = _number(entry)
    if number is None and not isinstance(entry, str):
        raise InvalidValueError(
            f"a member is named by id, e-mail address or full name, not by {described(entry)}"
        )
    if directory is not None:
        return directory.member(str(entry) if number is None else str(number)).id
    if number is None:
        raise InvalidValueError(f"the member {quoted(entry)} cannot be looked up without the members")
    return number


def _guest(entry: Any) -> str:
    if not is_email(entry):
        raise InvalidValueError(f"a guest is named by e-mail address, not by {described(entry)}")
    return str(entry).strip()


def _group(entry: Any, directory: Directory | None) -> int | str:
    if not is_id(entry):
        raise InvalidValueError(f"a group is named by id or name, not by {described(entry)}")
    if directory is not None:
        return directory.group(str(entry)).id
    if isinstance(entry, str) and not is_identifier(entry):
        raise InvalidValueError(f"the group {quoted(entry)} cannot be looked up without the groups")
    group: int | str = entry
    return group


def _number(entry: Any) -> int | None:
    """Return a member's id if the entry is one: a positive whole number, as the official SDK has it."""
    if isinstance(entry, Integral) and not isinstance(entry, bool):
        return int(entry) if 0 < int(entry) < 10**18 else None
    if isinstance(entry, str) and entry.isascii() and entry.isdigit() and len(entry) < 19:
        return int(entry)
    return None


def _problem(found: tuple[T, ...], shown: str, what: str, there_are: str, named: Callable[[T], str]) -> str:
    if not found:
        return f"{shown} is no {what}{there_are}"
    return f"{shown} is ambiguous: {len(found)} {what}s are called so; use an id: {listed(map(named, found))}"


def _items(value: Any) -> list[Any]:
    """Return the items of a list, or nothing: who is not known to be in a group is not in it."""
    return value if isinstance(value, list) else []


def _full_name(item: Mapping[str, Any]) -> str:
    names = (item.get("first_name"), item.get("last_name"))
    return str(item.get("full_name") or " ".join(str(name) for name in names if name))


def _user_id(item: Mapping[str, Any]) -> int:
    number = _number(item.get("id"))
    if number is None:
        raise MalformedResponseError("a member has no id")
    return number


def _id(item: Mapping[str, Any]) -> int | str:
    identifier: int | str | None = item.get("id")
    if identifier is None or not is_id(identifier):
        raise MalformedResponseError("a group has no id")
    return identifier
