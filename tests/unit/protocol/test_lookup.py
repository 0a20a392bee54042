from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tallyfy.protocol.lookup import Index, Rank, normalized

BOTH = (Rank(lambda name: (name,)), Rank(lambda name: (name,), normalized))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Gold", " gOLD "),
        ("Café", "Cafe\u0301"),  # an accent of its own, as file names of some machines have it
        ("STRASSE", "straße"),
        ("Customer  name", "customer name"),
        ("a\u00a0b", "A B"),
        ("İstanbul", "i\u0307STANBUL"),
    ],
)
def test_similar_names_are_normalized_to_the_same(one, other):
    assert normalized(one) == normalized(other)
    assert one != other


def test_exact_match_takes_precedence():
    known = Index(["Gold", "gold", "GOLD"], *BOTH)
    assert known.matches("gold") == ("gold",)
    assert known.matches("gOLD") == ("Gold", "gold", "GOLD")
    assert known.matches("silver") == ()


def test_earlier_rank_takes_precedence():
    known = Index([("1", "2"), ("2", "3")], Rank(lambda pair: (pair[0],)), Rank(lambda pair: (pair[1],)))
    assert known.matches("2") == (("2", "3"),)
    assert known.matches("3") == (("2", "3"),)


def test_thing_with_one_name_twice_matches_once():
    known = Index(
        [("plan", "Plan")], Rank(lambda names: (*names, names[0])), Rank(lambda names: names, normalized)
    )
    assert known.matches("plan") == (("plan", "Plan"),)
    assert known.matches("PLAN") == (("plan", "Plan"),)


@pytest.mark.parametrize("name", ["", " ", "\u00a0"])
def test_empty_name_matches_nothing(name):
    assert Index(["", "a"], *BOTH).matches(name) == ()


@given(st.lists(st.text(max_size=4), max_size=8), st.text(max_size=4))
def test_matches_have_the_name(names, wanted):
    things = list(enumerate(names))
    found = Index(
        things, Rank(lambda thing: (thing[1],)), Rank(lambda thing: (thing[1],), normalized)
    ).matches(wanted)
    exactly = tuple(thing for thing in things if thing[1] == wanted and wanted)
    alike = tuple(
        thing for thing in things if normalized(thing[1]) == normalized(wanted) and normalized(wanted)
    )
    assert found == (exactly or alike)
