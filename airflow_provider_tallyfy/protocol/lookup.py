"""
Find things by name: fields, options, columns, tasks, steps, members and groups.

An exact match takes precedence over one that differs only in case, spaces or the encoding of an accent. If several
things match equally well, none is chosen: the caller gets all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar
from unicodedata import normalize

T = TypeVar("T")


def normalized(name: str) -> str:
    """Return a text that is equal for names that differ only in case, spaces or the encoding of an accent."""
    return " ".join(normalize("NFC", normalize("NFD", name).casefold()).split())


class Rank(NamedTuple, Generic[T]):
    """
    One kind of name.

    :param names: returns the names of this kind that a thing has; an empty one does not count.
    :param key: converts a name before it is compared: :func:`normalized`, or ``str`` to compare it as it is.
    """

    names: Callable[[T], Iterable[str]]
    key: Callable[[str], str] = str


class Index(Generic[T]):
    """
    Things by their names.

    :param things: the things.
    :param ranks: the kinds of names; an earlier one takes precedence.
    """

    def __init__(self, things: Iterable[T], *ranks: Rank[T]) -> None:
        self._ranks: list[tuple[Rank[T], dict[str, list[T]]]] = [(rank, defaultdict(list)) for rank in ranks]
        for thing in things:
            for rank, by_name in self._ranks:
                # A thing whose alias equals its label is still one thing.
                for name in {rank.key(name) for name in rank.names(thing)} - {""}:
                    by_name[name].append(thing)

    def matches(self, name: str) -> tuple[T, ...]:
        """Return the things with this name, by the first kind of name that matches any."""
        return next(
            (tuple(by_name[key]) for rank, by_name in self._ranks if (key := rank.key(name)) in by_name), ()
        )
