from __future__ import annotations

import pytest

from airflow_provider_tallyfy.protocol.formatting import (
    described,
    listed,
    one_line,
    quoted,
    quoter,
    shortened,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "nothing"),
        (True, "true"),
        (5, "a number"),
        pytest.param(10**5000, "a number", id="more digits than Python writes"),
        (1.5, "a number"),
        ("gold", "the text 'gold'"),
        ("", "the text ''"),
        ("a\nb", r"the text 'a\nb'"),
        ("x" * 5000, "5,000 characters"),
        (b"secret", "bytes"),
        ([1, 2], "a list of 2"),
        ((1,), "a tuple of 1"),
        ({"a": 1}, "a mapping of 1"),
        (object(), "of type object"),
    ],
)
def test_described(value, shown):
    assert described(value) == shown


def test_text_is_shortened_to_one_line():
    assert one_line("a\x1b[31m\n b") == "a [31m b"
    assert quoted("it is\r\nmore") == "'it is more'"
    assert shortened("x" * 60) == "x" * 60
    assert shortened("x" * 61) == "x" * 60 + "…"
    assert shortened("\n" * 1000 + "x") == "…"
    assert len(quoted("x" * 10**7)) == 63


def test_similar_texts_are_quoted_with_escapes():
    quote = quoter(["Gold", "Gold ", "Gold\xa0", "G\u200bold", "\ufeffSilver", "M\xfcnchen"])
    assert [quote(text) for text in ("Gold", "Gold ", "Gold\xa0", "G\u200bold")] == [
        "'Gold'",
        "'Gold '",
        r"'Gold\xa0'",
        r"'G\u200bold'",
    ]
    assert (quote("\ufeffSilver"), quote("M\xfcnchen")) == ("'Silver'", "'M\xfcnchen'")
    long = ["x" * 100 + "a", "x" * 100 + "b"]
    assert quoter(long)(long[0]) != quoter(long)(long[1])
    assert len(quoter(["x" * 10**6, "x" * 10**6 + "y"])("x" * 10**6)) < 300


def test_listed():
    assert listed(["a", "b"]) == "a, b"
    assert listed([]) == ""
    assert listed(map(str, range(50))).endswith(", 49")
    assert listed(map(str, range(1000))).endswith(", 49 and 950 more")
