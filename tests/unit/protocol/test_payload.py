"""Values made fit for Airflow's events and XComs."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tallyfy.protocol.payload import sanitize_payload


class Text(str):
    __slots__ = ()


class Number(int):
    def __str__(self):
        return "many"


class Fraction(float):
    pass


class Pair(NamedTuple):
    first: object
    second: object


@pytest.mark.parametrize(
    ("value", "sanitized"),
    [
        ("a\0b", "a?b"),
        ("a\\u0000b", "a\\u0000b"),
        ("\ud83d!", "?!"),
        ("Grüße 😀", "Grüße 😀"),
        (10**18 + 1, 10**18 + 1),
        (2**63 - 1, 2**63 - 1),
        (2**64 - 1, 2**64 - 1),
        (2**64, "18446744073709551616"),
        (-(2**63), -(2**63)),
        (-(2**63) - 1, "-9223372036854775809"),
        (10**400, "1" + 400 * "0"),
        (True, True),
        (1.5, 1.5),
        (float("nan"), None),
        (float("-inf"), None),
        (None, None),
        ({"a\0": [{"b": ("\0", 2**70)}]}, {"a?": [{"b": ("?", str(2**70))}]}),
        ({"a\0", "b"}, {"a?", "b"}),
        (frozenset({2**70}), frozenset({str(2**70)})),
        (Text("a\0b"), "a?b"),
        (Number(2**64), "18446744073709551616"),
        (Fraction("nan"), None),
        (OrderedDict(a=["\0"]), {"a": ["?"]}),
        (MappingProxyType({"a": "\0"}), {"a": "?"}),
        (Pair("\0", 1), ("?", 1)),
        ({"a\0": 1, "a?": 2, "a\ud83d": 3}, {"a? (2)": 1, "a?": 2, "a? (3)": 3}),
        ({2**64: 1, str(2**64): 2}, {f"{2**64} (2)": 1, str(2**64): 2}),
    ],
)
def test_replaces_what_airflow_cannot_store(value, sanitized):
    result = sanitize_payload(value)
    assert result == sanitized
    assert type(result) is type(sanitized)


@dataclass
class NoJson:
    text: str


@pytest.mark.parametrize(
    "value",
    [
        True,
        Text("ä"),
        Number(1),
        Fraction(0.5),
        OrderedDict(a=[1]),
        MappingProxyType({"a": Text("a")}),
        Pair("a", {"b": (1, None)}),
        {"a"},
    ],
    ids=lambda value: type(value).__name__,
)
def test_unchanged_values_are_returned_themselves(value):
    assert sanitize_payload(value) is value
    assert sanitize_payload(["\0", value])[1] is value


@pytest.mark.parametrize("value", [NoJson("\0"), b"\0", object()], ids=type)
def test_other_objects_are_left_alone(value):
    assert sanitize_payload(value) is value
    assert sanitize_payload([value])[0] is value


def test_value_is_not_modified():
    value = {"a": ["\0"]}
    sanitize_payload(value)
    assert value == {"a": ["\0"]}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**66)
    | st.floats()
    | st.text()
    | st.text(st.sampled_from("a\0\ud800\udc00\\u😀")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=10,
)


def texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts([*value, *value.values()])
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


@given(JSON)
def test_any_json_can_be_stored_afterwards(value):
    sanitized = sanitize_payload(value)
    msgspec.msgpack.encode(sanitized)
    text = json.dumps(sanitized, allow_nan=False, ensure_ascii=False)
    text.encode()
    assert not any("\0" in text for text in texts(sanitized))
    assert sanitize_payload(sanitized) == sanitized
