"""
Assignees: members of the organization, guests, and groups.

Tallyfy takes ``{"users": [12345], "guests": ["guest@example.com"], "groups": ["group_id"]}`` (pages "Launch process"
and "Update task"). Names and e-mail addresses are looked up in a :class:`Directory`: the e-mail address of a member
means the member, any other a guest. An ambiguous name is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import described, listed, quoted, quoter
from airflow_provider_tallyfy.protocol.lookup import Index, Rank, normalized
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError, is_id
from airflow_provider_tallyfy.protocol.scalars import items_of
from airflow_provider_tallyfy.protocol.urls import is_identifier
from airflow_provider_tallyfy.protocol.validation import InvalidValueError

KINDS = ("users", "guests", "groups")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True, slots=True)
class Member:
    """
    A user of the organization.

    The list of members holds deactivated ones too (``tallyfy/mcp-public``); such a person may be a guest with the same
    address now (page "Convert member to guest").
    """

    id: int
    email: str
    name: str = ""
    is_active: bool = True

    def __str__(self) -> str:
        address = f"<{self.email}>" if self.email else f"(member {self.id})"
        return " ".join(filter(None, (self.name, address, "" if self.is_active else "(deactivated)")))


@dataclass(frozen=True, slots=True)
class Group:
    """A group of members, by id, and guests, by e-mail address."""

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
        found = self.find_members(name)
        if len(found) > 1:
            ids = listed(f"{member.id} ({member.email})" for member in found)
            raise InvalidValueError(f"{quoted(name)} matches {len(found)} members; use an id: {ids}")
        if not found:
            # The members are not listed: their addresses do not belong in a log.
            quote = quoter([name, *(known for each in self.members for known in (each.email, each.name))])
            raise InvalidValueError(
                f"{quote(name)} is not a member: none of the {len(self.members):,} has this id, e-mail address or name"
            )
        return found[0]

    def group(self, name: str) -> Group:
        """
        Return the group with this id or name.

        :raises InvalidValueError: there is none, or more than one.
        """
        found = self.find_groups(name)
        if len(found) > 1:
            ids = listed(str(group.id) for group in found)
            raise InvalidValueError(f"{quoted(name)} matches {len(found)} groups; use an id: {ids}")
        if not found:
            shown, known = self.shown_beside_groups(name)
            raise InvalidValueError(f"{shown} is not a group; there are {known}")
        return found[0]

    def shown_beside_groups(self, name: str) -> tuple[str, str]:
        """Return a name and the names of all groups, quoted for a message."""
        quote = quoter([name, *(group.name for group in self.groups)])
        return quote(name), listed(quote(group.name) for group in self.groups) or "none"

    def find_members(self, name: str) -> tuple[Member, ...]:
        """Return the members with this id, e-mail address or full name."""
        return self._members.matches(name)

    def find_groups(self, name: str) -> tuple[Group, ...]:
        """Return the groups with this id or name."""
        return self._groups.matches(name)

    @cached_property
    def _members(self) -> Index[Member]:
        return Index(
            self.members,
            Rank(lambda member: (str(member.id),)),
            Rank(lambda member: (member.email,), normalized),
            Rank(lambda member: (member.name,)),
            Rank(lambda member: (member.name,), normalized),
        )

    @cached_property
    def _groups(self) -> Index[Group]:
        return Index(
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
    members_by_id: dict[int, Member] = {}
    for item in members:
        if (member_id := parse_member_id(item.get("id"))) is None:
            raise MalformedResponseError("a member has no id")
        is_active = item.get("status") != "disabled" and not item.get("disabled_at")
        members_by_id[member_id] = Member(member_id, str(item.get("email") or ""), full_name(item), is_active)
    groups_by_id: dict[int | str, Group] = {}
    for item in groups:
        if not is_id(group_id := item.get("id")):
            raise MalformedResponseError("a group has no id")
        # Whoever is not listed in a group is not in it.
        listed_members, guests = (
            each if isinstance(each, list) else [] for each in (item.get("members"), item.get("guests"))
        )
        groups_by_id[group_id] = Group(
            group_id,
            str(item.get("name") or ""),
            tuple(filter(None, map(parse_member_id, listed_members))),
            tuple(guest for guest in guests if isinstance(guest, str)),
        )
    return Directory(tuple(members_by_id.values()), tuple(groups_by_id.values()))


def is_email(value: object) -> bool:
    """Return whether a value is an e-mail address."""
    text = value.strip() if isinstance(value, str) else ""
    return text.isprintable() and _EMAIL.fullmatch(text) is not None


def parse_member_id(value: Any) -> int | None:
    """Return a member's id, a positive whole number as in the official SDK; ``None`` if the value is none."""
    if isinstance(value, str) and value.isascii() and value.strip().isdigit() and len(value) < 30:
        value = int(value)
    is_number = isinstance(value, Integral) and not isinstance(value, bool)
    return int(value) if is_number and 0 < int(value) < 2**63 else None


def full_name(member: Mapping[str, Any]) -> str:
    """Return the full name in a member's object (page "List members"); empty if there is none."""
    names = (member.get("first_name"), member.get("last_name"))
    return str(member.get("full_name") or " ".join(str(name) for name in names if name))


def needs_directory(assignees: Any) -> bool:
    """
    Return whether any of the assignees must be looked up in a directory.

    These are all texts but the ids under ``users``: digits may be the name of a group, and an address under ``guests``
    may be a member's.
    """
    return any(
        isinstance(entry, str) and (kind != "users" or parse_member_id(entry) is None)
        for kind, entry in _entries(assignees)
    )


def encode_assignees(assignees: Any, directory: Directory | None = None) -> dict[str, list[Any]]:
    """
    Return assignees as Tallyfy takes them.

    :param assignees: one or more of: an e-mail address, the id or the full name of a member, the id or the name of a
        group; or a mapping with lists of them under ``users``, ``guests`` and ``groups``, all of them optional.
    :param directory: to look up e-mail addresses and names. Without it, the id of a group is taken as it is, digits
        mean a member, and an address under ``guests`` is not checked.
    :raises InvalidValueError: an assignee is none of these, is ambiguous, or cannot be looked up.
    """
    encoded: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    problems: list[str] = []
    for kind, entry in _entries(assignees):
        try:
            encoded_kind, assignee = _encoded(kind, entry, directory)
        except InvalidValueError as error:
            problems.extend(error.problems)
            continue
        if assignee not in encoded[encoded_kind]:
            encoded[encoded_kind].append(assignee)
    if problems:
        raise InvalidValueError(*problems)
    return encoded


def _entries(assignees: Any) -> Iterator[tuple[str | None, Any]]:
    """Yield each assignee with the key of its list, or ``None`` if it has no key."""
    if isinstance(assignees, Mapping) and "id" not in assignees:
        for kind, entries in assignees.items():
            for entry in items_of(entries if entries is not None else ()):
                yield str(kind), entry
    else:
        for entry in items_of(assignees):
            yield None, entry


def _encoded(kind: str | None, entry: Any, directory: Directory | None) -> tuple[str, Any]:
    # In Tallyfy's responses, a user is an object with an id.
    entry = entry["id"] if isinstance(entry, Mapping) and is_id(entry.get("id")) else entry
    match kind or _kind_of(entry, directory):
        case "users":
            return "users", _user(entry, directory)
        case "guests":
            return "guests", _guest(entry, directory)
        case "groups":
            return "groups", _group(entry, directory)
    raise InvalidValueError(f"{quoted(kind or '')} is none of the lists {', '.join(KINDS)}")


def _kind_of(entry: Any, directory: Directory | None) -> str:
    member_id = parse_member_id(entry)
    if member_id is not None and (directory is None or not isinstance(entry, str)):
        return "users"
    if not isinstance(entry, str):
        raise InvalidValueError(
            f"an assignee is an e-mail address, or the id or name of a member or a group, not {described(entry)}"
        )
    if directory is None:
        if "@" in entry:
            raise InvalidValueError(f"the address {quoted(entry)} cannot be looked up without the members")
        return "groups"
    members = directory.find_members(entry if member_id is None else str(member_id))
    groups = directory.find_groups(entry)
    if members and groups:
        ids = {"users": [member.id for member in members], "groups": [group.id for group in groups]}
        raise InvalidValueError(f"{quoted(entry)} is the name of a member and of a group; use an id: {ids}")
    if members or groups:
        return "users" if members else "groups"
    if member_id is None and "@" not in entry:
        shown, known = directory.shown_beside_groups(entry)
        raise InvalidValueError(
            f"{shown} is not an e-mail address, a member or a group; the groups are {known}"
        )
    return "guests" if member_id is None else "users"


def _user(entry: Any, directory: Directory | None) -> int:
    member_id = parse_member_id(entry)
    if member_id is None and not isinstance(entry, str):
        raise InvalidValueError(
            f"a member is named by id, e-mail address or full name, not by {described(entry)}"
        )
    if directory is not None:
        return directory.member(entry if member_id is None else str(member_id)).id
    if member_id is None:
        raise InvalidValueError(f"the member {quoted(entry)} cannot be looked up without the members")
    return member_id


def _guest(entry: Any, directory: Directory | None) -> str:
    if not is_email(entry):
        raise InvalidValueError(f"a guest is named by e-mail address, not by {described(entry)}")
    address = str(entry).strip()
    members = directory.find_members(address) if directory is not None else ()
    if any(normalized(member.email) == normalized(address) for member in members if member.is_active):
        raise InvalidValueError(f"{quoted(address)} is a member, not a guest; write it under 'users'")
    return address


def _group(entry: Any, directory: Directory | None) -> int | str:
    if not is_id(entry):
        raise InvalidValueError(f"a group is named by id or name, not by {described(entry)}")
    if directory is not None:
        return directory.group(str(entry)).id
    if isinstance(entry, str) and not is_identifier(entry):
        raise InvalidValueError(f"the group {quoted(entry)} cannot be looked up without the groups")
    group: int | str = entry
    return group
