"""
Who may decide on an approval, and whether the user who did was allowed to.

Who decided is what the task itself says: a member by id (``completer_id``), or a guest by e-mail address
(``completer_guest``). If it says neither, the decision does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_tallyfy.protocol.completion import completer
from airflow_provider_tallyfy.protocol.formatting import described, listed, quoted
from airflow_provider_tallyfy.protocol.lookup import normalized
from airflow_provider_tallyfy.protocol.people import KINDS, Directory, encode_assignees
from airflow_provider_tallyfy.protocol.validation import InvalidValueError

STARTED_BY = "started_by"
"""Stands for the member who launched the run, among those who may not decide."""
_EXCLUDE = "exclude"


@dataclass(frozen=True)
class Approvers:
    """
    Who may decide.

    :param members: ids of members.
    :param guests: e-mail addresses of guests.
    :param names: the same people and groups, for a message; empty if everyone may decide who is not excluded.
    :param excluded: who may not decide, even if they are among the others.
    :param excludes_starter: whether the member who launched the run may not.
    """

    members: frozenset[int] = frozenset()
    guests: frozenset[str] = frozenset()
    names: tuple[str, ...] = ()
    excluded: Approvers | None = None
    excludes_starter: bool = False

    def __str__(self) -> str:
        allowed = listed(self.names) or "everyone"
        excluded = [*(self.excluded.names if self.excluded else ())]
        if self.excludes_starter:
            excluded.append("the one who launched the process")
        return f"{allowed}, but not {listed(excluded)}" if excluded else allowed

    def find_problem(self, task: Mapping[str, Any], started_by: Any = None) -> str | None:
        """
        Return why the decision on a task does not count, as a clause about the user who made it; ``None`` if it does.

        :param task: the completed task, as Tallyfy returns it by itself.
        :param started_by: who launched the run, as the run says; needed if they may not decide.
        """
        member, guest = _member_id(task.get("completer_id")), None
        if member is None:
            person = completer(task)
            guest = normalized(person.email) if person is not None and person.email else None
        if member is None and guest is None:
            return "whom Tallyfy does not name"
        if self.names and not self._includes(member, guest):
            return f"who may not decide: the approvers are {self}"
        if self.excluded and self.excluded._includes(member, guest):
            return f"who may not decide: the approvers are {self}"
        if self.excludes_starter:
            starter = _member_id(started_by.get("id") if isinstance(started_by, Mapping) else started_by)
            if starter is None:
                return "but who launched the process is not known, and may not decide"
            if starter == member:
                return "who launched the process, and so may not decide"
        return None

    def _includes(self, member: int | None, guest: str | None) -> bool:
        return member in self.members if member is not None else guest in self.guests


def check_approvers(approvers: Any) -> None:
    """
    Refuse what can name no approvers, without knowing who there is.

    :raises InvalidValueError: it is empty, or of another kind.
    """
    if not isinstance(approvers, Mapping):
        if isinstance(approvers, bool) or not (
            isinstance(approvers, int) or (isinstance(approvers, (str, list, tuple, set)) and approvers)
        ):
            raise InvalidValueError(
                "approvers must be e-mail addresses, ids, names or groups, or a mapping of them under "
                f"{listed((*KINDS, _EXCLUDE))}, but is {described(approvers)}"
            )
        return
    if unknown := [str(key) for key in approvers if key not in (*KINDS, _EXCLUDE)]:
        raise InvalidValueError(
            f"approvers takes {listed((*KINDS, _EXCLUDE))}, but not {listed(map(quoted, unknown))}"
        )
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
    return Approvers(
        frozenset((*encoded["users"], *(member for group in groups for member in group.members))),
        frozenset(map(normalized, _emails(encoded["guests"], groups))),
        tuple(names),
    )


def _emails(guests: Iterable[str], groups: Iterable[Any]) -> Iterable[str]:
    yield from guests
    for group in groups:
        yield from group.guests


def _member_id(value: Any) -> int | None:
    """Return a member's id, which some answers hold as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
