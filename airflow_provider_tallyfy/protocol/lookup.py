"""
How a thing is found by what people call it: fields, options, columns, tasks, steps, members and groups, all alike.

An exact match comes before one that differs only in case, blanks or the way an accent is encoded. If several things
match equally well, none of them is chosen: the caller gets all of them, and decides what no match and several matches
mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar
from unicodedata import normalize

T = TypeVar("T")


def exact(name: str) -> str:
    """Return the name as it is."""
    return name


def normalized(name: str) -> str:
    """Return what is equal for names that differ only in case, blanks or the way an accent is encoded."""
    return " ".join(normalize("NFC", normalize("NFD", name).casefold()).split())


@dataclass(frozen=True, slots=True)
class Rank(Generic[T]):
    """
    One way in which a name can fit a thing.

    :param names: the names that a thing has; an empty one is none.
    :param spelled: what is made of a name before it is compared.
    """

    names: Callable[[T], Iterable[str]]
    spelled: Callable[[str], str] = exact


@dataclass(frozen=True, slots=True)
class Index(Generic[T]):
    """Things by their names, rank by rank; made by :func:`index`."""

    ranks: tuple[tuple[Callable[[str], str], Mapping[str, tuple[T, ...]]], ...]

    def matches(self, name: str) -> tuple[T, ...]:
        """Return what ``name`` fits in the first rank in which it fits anything: nothing, one thing, or several."""
        for spelled, things in self.ranks:
            if found := things.get(spelled(name)):
                return found
        return ()


def index(things: Iterable[T], *ranks: Rank[T]) -> Index[T]:
    """
    Return an index of things.

    :param things: what there is.
    :param ranks: the ways in which a name can fit, the best first.
    """
    things = tuple(things)
    return Index(tuple((rank.spelled, _by_name(things, rank)) for rank in ranks))


def _by_name(things: tuple[T, ...], rank: Rank[T]) -> Mapping[str, tuple[T, ...]]:
    found: dict[str, list[T]] = {}
    for thing in things:
        # A thing whose alias is its label too is still one thing.
        for name in dict.fromkeys(map(rank.spelled, rank.names(thing))):
            if name:
                found.setdefault(name, []).append(thing)
    return {name: tuple(same) for name, same in found.items()}
