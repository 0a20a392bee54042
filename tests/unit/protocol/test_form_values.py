"""Values by the type of their field: encoded, refused, and decoded."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from zoneinfo import ZoneInfo

import pendulum
import pytest

from airflow_provider_tallyfy.protocol.forms.encoding import LocalFile
from airflow_provider_tallyfy.protocol.forms.field_types import cleared, encode, is_blank
from airflow_provider_tallyfy.protocol.forms.field_types import decode as read
from airflow_provider_tallyfy.protocol.validation import InvalidValueError
from tests.support.forms import DIRECTORY, choice, field, table

NEW_YORK = timezone(timedelta(hours=-5))
BERLIN = ZoneInfo("Europe/Berlin")


class Plan(enum.StrEnum):
    GOLD = "Gold"


class NotATime(datetime):
    """As pandas' ``NaT``: a ``datetime`` that equals nothing."""

    __hash__ = None

    def __eq__(self, other):
        return False

    def __ne__(self, other):
        return True


class WholeNumber:
    """As numpy's: no ``int``, but registered as one."""

    def __int__(self):
        return 7


def option(number, text, **more):
    return {"id": number, "text": text, "value": None, **more}


def refused(field_, value):
    with pytest.raises(InvalidValueError) as error:
        encode(field_, value, DIRECTORY)
    return str(error.value)


class TestText:
    @pytest.mark.parametrize("field_type", ["text", "textarea"])
    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            ("plain", "plain"),
            ("", ""),
            ("  kept \n", "  kept \n"),
            ("ünïcödé 🎉", "ünïcödé 🎉"),
            (Plan.GOLD, "Gold"),
            (25, "25"),
            (-3, "-3"),
            (10**30, "1" + "0" * 30),
            (1.5, "1.5"),
            (3.0, "3.0"),
            (Decimal("10.50"), "10.50"),
            (Decimal("1E+3"), "1000"),
            (True, "true"),
            (False, "false"),
            (date(2026, 1, 5), "2026-01-05"),
            (datetime(2026, 1, 5, 12, tzinfo=UTC), "2026-01-05T12:00:00+00:00"),
        ],
    )
    def test_encodes_and_decodes(self, field_type, value, sent):
        assert encode(field(field_type), value) == sent
        assert read(field(field_type), sent) == sent

    def test_integral_types_of_other_libraries(self, monkeypatch):
        from numbers import Integral

        Integral.register(WholeNumber)
        assert encode(field("text"), WholeNumber()) == "7"

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (["a"], "a text was expected, not a list of 1"),
            ({"a": 1}, "not a mapping of 1"),
            (b"a", "not bytes"),
            (object(), "not of type object"),
            (Fraction(1, 3), "not a number"),
            (1j, "not a number"),
            (float("nan"), "a number that cannot be written in full"),
            (float("inf"), "a number that cannot be written in full"),
            (Decimal("NaN"), "a number that cannot be written in full"),
            (Decimal("1E+999999"), "a number that cannot be written in full"),
            pytest.param(10**5000, "a number that cannot be written in full", id="a huge number"),
            ("a\ud800", "characters that cannot be sent"),
            (NotATime(2026, 1, 5), "a text was expected, not of type NotATime"),
        ],
    )
    def test_refuses(self, value, said):
        assert said in refused(field("text"), value)

    @pytest.mark.parametrize(("field_type", "limit"), [("text", 200), ("textarea", 30_000)])
    def test_limit(self, field_type, limit):
        assert encode(field(field_type), "é" * limit) == "é" * limit
        said = refused(field(field_type), "é" * (limit + 1))
        assert said == f"it has {limit + 1:,} characters, and {limit:,} are allowed"

    def test_empty_text_is_not_none(self):
        assert read(field("text"), "") == ""
        assert read(field("text"), None) is None


class TestEmail:
    @pytest.mark.parametrize("value", ["a@b.example", " a@b.example ", "a+b@c.d.example", "ä@b.example"])
    def test_valid(self, value):
        assert encode(field("email"), value) == value.strip()

    @pytest.mark.parametrize(
        "value", ["nobody", "a@b", "a b@c.example", "a@b.example, c@d.example", 5, ["a@b.example"], True]
    )
    def test_invalid(self, value):
        assert "an e-mail address was expected, not" in refused(field("email"), value)

    def test_decodes(self):
        assert read(field("email"), "a@b.example") == "a@b.example"
        assert read(field("email"), "") is None


class TestDate:
    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            (date(2026, 1, 5), "2026-01-05T00:00:00.000Z"),
            (date(1, 1, 1), "0001-01-01T00:00:00.000Z"),
            (datetime(2026, 1, 5, 12, 30, 15, 678_912, tzinfo=UTC), "2026-01-05T12:30:15.678Z"),
            (datetime(2026, 1, 5, 20, tzinfo=NEW_YORK), "2026-01-06T01:00:00.000Z"),
            (datetime(2026, 1, 5, 20), "2026-01-05T20:00:00.000Z"),  # noqa: DTZ001 - taken as UTC
            ("2026-01-05", "2026-01-05"),
            (" 2026-01-05 12:00:00 ", "2026-01-05 12:00:00"),
            ("2026-01-05T12:00:00Z", "2026-01-05T12:00:00Z"),
            ("2026-01-05T17:00:00+01:00", "2026-01-05T16:00:00.000Z"),
            ("2026-01-05T12:00:00.123+02:00", "2026-01-05T10:00:00.123Z"),
            (
                "2026-01-05 00:00:00+00:00",
                "2026-01-05T00:00:00.000Z",
            ),  # a template's {{ data_interval_start }}
            ("2026-12-31T20:00-0500", "2027-01-01T01:00:00.000Z"),
            (pendulum.datetime(2026, 7, 5, 9, tz="Europe/Berlin"), "2026-07-05T07:00:00.000Z"),
            (datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN), "2026-10-25T00:30:00.000Z"),
            (datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1), "2026-10-25T01:30:00.000Z"),
            (date(2024, 2, 29), "2024-02-29T00:00:00.000Z"),
            (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "9999-12-31T23:59:59.000Z"),
        ],
    )
    def test_encodes_and_decodes(self, value, sent):
        assert encode(field("date"), value) == sent
        assert read(field("date"), sent) == sent

    @pytest.mark.parametrize(
        "value",
        [
            "tomorrow",
            "05.01.2026",
            "2026-13-01",
            "2026-02-30",
            "2026-02-29",
            "0000-01-01",
            "2026-06-30T23:59:60Z",
            "20260105",
            "2026-W02-1",
            "2026-01-5",
            "2026-01-05T",
            "1767571200",
            "2026-01-05T25:00:00Z",
            "2026-01-05T12:00:00+25:00",
            "2026-01-05x12:00",
        ],
    )
    def test_texts_that_are_not_dates(self, value):
        assert (
            f"a date is written 2026-01-31 or 2026-01-31T12:00:00Z (ISO 8601), not the text '{value}'"
            == refused(field("date"), value)
        )

    @pytest.mark.parametrize(
        "value",
        [5, 1767571200.0, True, ["2026-01-05"], {"date": "2026-01-05"}, NotATime(2026, 1, 5, tzinfo=UTC)],
    )
    def test_values_of_other_types(self, value):
        assert "a date was expected, not" in refused(field("date"), value)

    @pytest.mark.parametrize(
        "value",
        [datetime.max.replace(tzinfo=NEW_YORK), "9999-12-31T23:00:00-05:00", "0001-01-01T00:00:00+01:00"],
    )
    def test_time_outside_of_the_years_1_to_9999(self, value):
        assert "years 1 to 9999" in refused(field("date"), value)

    def test_time_skipped_by_daylight_saving(self):
        skipped = datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN)
        assert "does not exist" in refused(field("date"), skipped)

    def test_empty(self):
        assert read(field("date"), "") is None
        assert read(field("date"), None) is None


class TestChoice:
    PLANS = ("Gold", "gold", "Silver", "true", "Bronze")
    FIELD = choice("dropdown", *PLANS)

    @pytest.mark.parametrize(
        ("value", "number"),
        [
            ("Gold", 1),
            ("gold", 2),
            ("SILVER", 3),
            (" silver ", 3),
            (Plan.GOLD, 1),
            ("3", 3),
            (3, 3),
            (4.0, 4),
            (True, 4),
            ({"id": 2}, 2),
            ({"id": "2"}, 2),
            ({"id": 2, "text": "gold"}, 2),
            ({"id": 2, "text": "gold", "value": None, "selected": True}, 2),
            ({"text": "Silver"}, 3),
        ],
    )
    def test_finds_by_text_or_id(self, value, number):
        text = self.PLANS[number - 1]
        assert encode(self.FIELD, value) == option(number, text)
        assert encode(choice("radio", *self.PLANS), value) == text
        assert encode(choice("multiselect", *self.PLANS), [value]) == [option(number, text, selected=True)]

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("Copper", "'Copper' is not an option; choose from 'Gold', 'gold', 'Silver', 'true', 'Bronze'"),
            ("9", "'9' is not an option"),
            ("GOLD", "'GOLD' matches 2 options: 'Gold' (id 1), 'gold' (id 2)"),
            (False, "'false' is not an option"),
            ({"id": 1, "text": "Silver"}, "an option with id '1' and text 'Silver' is not an option"),
            ({"text": "silver"}, "an option with text 'silver' is not an option"),
            ({"selected": True}, "an option with neither id nor text is not an option"),
            (b"Gold", "not bytes"),
            ("x" * 5000, f"'{'x' * 60}…' is not an option"),
        ],
    )
    @pytest.mark.parametrize("field_type", ["radio", "dropdown", "multiselect"])
    def test_refuses_unknown_and_ambiguous_options(self, field_type, value, said):
        assert said in refused(choice(field_type, *self.PLANS), value)

    @pytest.mark.parametrize("field_type", ["radio", "dropdown"])
    @pytest.mark.parametrize("value", [["Gold"], ("Gold",), {"Gold"}])
    def test_refuses_several_values_for_a_single_choice(self, field_type, value):
        assert "a text was expected, not a" in refused(choice(field_type, *self.PLANS), value)

    SEATS = choice("dropdown", "5", "10", "20")

    @pytest.mark.parametrize(
        ("value", "number"), [(5, 1), ("10", 2), (20.0, 3), ({"id": 2}, 2), ({"text": 5}, 1)]
    )
    def test_number_is_compared_with_texts_before_ids(self, value, number):
        assert encode(self.SEATS, value)["id"] == number
        assert encode(choice("radio", "5 %", "10 %", "20 %"), {"id": 3}) == "20 %"

    @pytest.mark.parametrize("value", [2, "2", 2.0])
    @pytest.mark.parametrize("texts", [("5", "10", "20"), ("5 %", "Other"), ("1,000", "10-20")])
    def test_number_is_no_id_if_an_option_is_a_number(self, texts, value):
        said = refused(choice("dropdown", *texts), value)
        assert f"is not an option; choose from '{texts[0]}', '{texts[1]}'" in said
        assert said.endswith(f"or write {{'id': 2}} for '{texts[1]}'")

    @pytest.mark.parametrize("key", ["label", "value"])
    def test_text_of_an_option_under_another_key(self, key):
        plans = field("dropdown", options=[{"id": 1, key: "Gold"}, {"id": 2, key: "Silver"}])
        assert encode(plans, "silver") == encode(plans, {"id": 2, key: "Silver"}) == option(2, "Silver")
        assert read(plans, {"id": 2, key: "Silver"}) == "Silver"

    @pytest.mark.parametrize(
        ("choices", "number"),
        [
            ([{"id": 1, "text": "Gold"}, {"id": 2, "text": "Silver"}], 2),
            ({"data": [{"id": 2, "label": "Silver"}]}, 2),
            (["Gold", "Silver"], None),
            ({"id": "l1", "items": ["Gold", "Silver"]}, None),
        ],
    )
    def test_options_in_a_list(self, choices, number):
        listed = {"options": [], "list": choices}
        assert encode(field("dropdown", **listed), "silver") == option(number, "Silver")
        assert encode(field("radio", **listed), "silver") == "Silver"
        assert encode(field("multiselect", **listed), "SILVER") == [option(number, "Silver", selected=True)]

    def test_option_without_an_id_is_not_called_none(self):
        gold = field("dropdown", options=["Gold"])
        assert encode(gold, "gold") == option(None, "Gold")
        assert refused(gold, "None") == "'None' is not an option; choose from 'Gold'"

    def test_options_in_a_hidden_list(self):
        hidden = {"options": [], "list": "5eed"}
        chosen = {"id": 3, "text": "Silver"}
        assert encode(field("dropdown", **hidden), chosen) == option(3, "Silver")
        assert encode(field("multiselect", **hidden), [chosen]) == [option(3, "Silver", selected=True)]
        assert (
            encode(field("radio", **hidden), "Silver") == encode(field("radio", **hidden), chosen) == "Silver"
        )
        assert "write {'id': …, 'text': …} instead of 'Silver'" in refused(
            field("dropdown", **hidden), "Silver"
        )

    def test_similar_options_are_shown_with_escapes(self):
        alike = choice("dropdown", "Gold", "Gold\xa0", "Go\u200bld", "Jos\xe9", "Jose\u0301", "Silver")
        said = refused(alike, "Bronze")
        assert r"'Gold', 'Gold\xa0', 'Go\u200bld', 'Jos\xe9', 'Jose\u0301', 'Silver'" in said
        assert r"'Silver\u200b' is not an option" in refused(alike, "Silver\u200b")
        assert encode(alike, "Gold\xa0") == option(2, "Gold\xa0")

    @pytest.mark.parametrize(("value", "text"), [(True, "Yes"), (False, "No")])
    def test_booleans_match_yes_and_no(self, value, text):
        assert encode(choice("radio", "Yes", "No"), value) == text

    def test_options_with_equal_texts_are_chosen_by_id(self):
        twins = choice("dropdown", "Same", "Same")
        assert "matches 2 options: 'Same' (id 1), 'Same' (id 2)" in refused(twins, "Same")
        assert encode(twins, 2) == option(2, "Same")
        assert encode(choice("multiselect", "Same", "Same"), [2, 1]) == [
            option(2, "Same", selected=True),
            option(1, "Same", selected=True),
        ]

    def test_no_options(self):
        assert refused(choice("radio"), "Gold") == "'Gold' is not an option; the field has none"

    def test_message_lists_fifty_options(self):
        said = refused(choice("radio", *(f"Option {number}" for number in range(5000))), "Gold")
        assert said.endswith("and 4950 more")
        assert len(said) < 2000

    def test_decodes(self):
        assert read(self.FIELD, option(1, "Gold")) == "Gold"
        assert read(self.FIELD, "Gold") == "Gold"
        assert read(choice("radio", "Gold"), "Gold") == "Gold"
        for field_type in ("radio", "dropdown"):
            for nothing in (None, "", [], {}, {"id": None, "text": None, "value": None}):
                assert read(choice(field_type), nothing) is None


class TestMultiselect:
    FIELD = choice("multiselect", "A", "B", "C, D")
    A, B, CD = (
        option(number, text, selected=True) for number, text in enumerate(("A", "B", "C, D"), start=1)
    )

    @pytest.mark.parametrize(
        ("value", "sent", "given"),
        [
            (["A", "B"], [A, B], ["A", "B"]),
            (["B", "A"], [B, A], ["B", "A"]),
            (("A",), [A], ["A"]),
            ({"C, D", "A"}, [A, CD], ["A", "C, D"]),
            (frozenset({"B"}), [B], ["B"]),
            (["A", "a", 1], [A], ["A"]),
            ("C, D", [CD], ["C, D"]),
            # as Tallyfy returns it
            ([A, option(2, "B", selected=False)], [A], ["A"]),
        ],
    )
    def test_encodes_and_decodes(self, value, sent, given):
        assert encode(self.FIELD, value) == sent
        assert read(self.FIELD, sent) == given

    def test_each_problem_is_reported_once(self):
        with pytest.raises(InvalidValueError) as error:
            encode(self.FIELD, ["A", "X", "Y", "X", None])
        assert [problem.split(";")[0] for problem in error.value.problems] == [
            "'X' is not an option",
            "'Y' is not an option",
            "a text was expected, not nothing",
        ]

    def test_text_is_not_split_at_commas(self):
        assert "'A, B' is not an option" in refused(self.FIELD, "A, B")

    @pytest.mark.parametrize(
        ("stored", "texts"),
        [
            (None, []),
            ("", []),
            ([], []),
            ([{"id": 1, "text": "A"}], []),
            ([{"id": 1, "text": "A", "selected": "true"}], ["A"]),
            ([{"id": 1, "text": "A", "selected": 1}, {"id": 2, "text": "B", "selected": 0}], ["A"]),
            (["A", "B"], ["A", "B"]),
            ("odd", "odd"),
        ],
    )
    def test_decodes_selected_options(self, stored, texts):
        assert read(self.FIELD, stored) == texts


class TestTable:
    FIELD = table("Item", "Qty")

    @pytest.mark.parametrize(
        ("value", "sent", "rows"),
        [
            (["Widget", "3"], ["Widget", "3"], [["Widget", "3"]]),
            (("Widget", 3), ["Widget", "3"], [["Widget", "3"]]),
            (["Widget", None], ["Widget", ""], [["Widget", ""]]),
            ({"Item": "Widget", "Qty": 3}, ["Widget", "3"], [["Widget", "3"]]),
            ({"qty": 3, "ITEM": "Widget"}, ["Widget", "3"], [["Widget", "3"]]),
            ({2: 3, "1": "Widget"}, ["Widget", "3"], [["Widget", "3"]]),
            ({"Qty": 3}, ["", "3"], [["", "3"]]),
            ([{"Item": "Widget", "Qty": 3}], ["Widget", "3"], [["Widget", "3"]]),
            ([["Widget", 3]], ["Widget", "3"], [["Widget", "3"]]),
            ({"Item": ["Widget"], "Qty": [3]}, ["Widget", "3"], [["Widget", "3"]]),
            # as many rows as columns
            (
                [["Widget", 3], ["Gadget", 5]],
                [["Widget", "Gadget"], ["3", "5"]],
                [["Widget", "3"], ["Gadget", "5"]],
            ),
            (
                [["a", 1], ["b", 2], ("c", None)],
                [["a", "b", "c"], ["1", "2", ""]],
                [["a", "1"], ["b", "2"], ["c", ""]],
            ),
            ([{"Item": "a"}, {"qty": 2}], [["a", ""], ["", "2"]], [["a", ""], ["", "2"]]),
            ({"Item": ["a", "b"], "Qty": (1, 2)}, [["a", "b"], ["1", "2"]], [["a", "1"], ["b", "2"]]),
            ({"Qty": [1, 2]}, [["", ""], ["1", "2"]], [["", "1"], ["", "2"]]),
        ],
    )
    def test_encodes_and_decodes(self, value, sent, rows):
        assert encode(self.FIELD, value) == sent
        assert read(self.FIELD, sent) == rows
        assert encode(self.FIELD, rows) == sent

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (["Widget"], "an entry for each column ('Item', 'Qty') was expected, but there is a row of 1"),
            (["Widget", "3", "x"], "but there is a row of 3"),
            ([["Widget", 3], ["Gadget"]], "but there is a row of 1"),
            ("Widget", "a row, a list of rows, or a mapping by column was expected, not the text 'Widget'"),
            (5, "not a number"),
            ({"Widget", "3"}, "not a set of 2"),
            ({"Item": "a", "Price": 5}, "'Price' is not a column; there are 'Item', 'Qty'"),
            ({"Item": "a", "item": "b"}, "the column 'Item' is given twice"),
            ({"Item": ["a", "b"], "Qty": [1]}, "columns must be lists of the same length"),
            ({"Item": ["a", "b"], "Qty": 1}, "columns must be lists of the same length"),
            (["Widget", {"a": 1}], "a text was expected, not a mapping of 1"),
            ([["Widget", [1, 2]], ["Gadget", 3]], "a text was expected, not a list of 2"),
            ([{"Item": ["a", "b"]}, {"Item": "c"}], "a text was expected, not a list of 2"),
            ([{"Item": "a"}, ["b", 1]], "a text was expected, not a mapping of 1"),
        ],
    )
    def test_refuses(self, value, said):
        assert said in refused(self.FIELD, value)

    @pytest.mark.parametrize(
        ("stored", "rows"),
        [
            ([["a", "b"], ["1"]], [["a", "1"], ["b", ""]]),
            ([["a"], "1"], [["a", "1"]]),
            (["a", None], [["a", ""]]),
            ([{"label": "Item", "value": "a"}], [{"label": "Item", "value": "a"}]),
        ],
    )
    def test_decodes_other_shapes(self, stored, rows):
        assert read(self.FIELD, stored) == rows

    def test_columns_with_equal_labels_are_named_by_id(self):
        twins = table("Same", "Same", "same")
        assert "'SAME' matches 3 columns" in refused(twins, {"SAME": 1})
        assert encode(twins, {"1": "a", "2": "b", "same": "c"}) == ["a", "b", "c"]

    @pytest.mark.parametrize("row", [{"2": "a"}, {2: "a"}])
    def test_number_is_no_id_if_a_label_is_a_number(self, row):
        years = table("2024", "2025")
        assert "'2' is not a column; there are '2024', '2025'" in refused(years, row)
        assert encode(years, {2025: "a"}) == ["", "a"]

    def test_one_column(self):
        assert encode(table("Item"), ["Widget"]) == ["Widget"]
        assert encode(table("Item"), [{"Item": "Widget"}]) == ["Widget"]
        assert encode(table("Item"), [["Widget"], ["Gadget"]]) == [["Widget", "Gadget"]]

    @pytest.mark.parametrize("stored", [None, "", [], ["", ""], ["", None]])
    def test_decodes_empty_table(self, stored):
        assert read(self.FIELD, stored) == []


class TestAssignees:
    FIELD = field("assignees_form")

    def test_encodes_and_decodes(self):
        sent = {"users": [1001], "guests": ["x@y.example"], "groups": ["g1"]}
        assert encode(self.FIELD, ["ada@example.com", "x@y.example", "release managers"], DIRECTORY) == sent
        assert encode(self.FIELD, sent, DIRECTORY) == sent
        assert read(self.FIELD, sent) == sent

    @pytest.mark.parametrize("stored", [None, "", [], {}, {"users": [], "guests": None}])
    def test_decodes_no_assignees(self, stored):
        assert read(self.FIELD, stored) == {"users": [], "guests": [], "groups": []}

    def test_decodes_missing_lists(self):
        assert read(self.FIELD, {"users": [1]}) == {"users": [1], "guests": [], "groups": []}


class TestFile:
    FIELD = field("file")
    FILE = {"id": "a1", "filename": "report.pdf", "version": 1, "subject": {"id": "c1", "type": "Checklist"}}  # noqa: RUF012

    @pytest.mark.parametrize("value", [[FILE], (FILE,), FILE])
    def test_uploaded_files_are_sent_unchanged(self, value):
        assert encode(self.FIELD, value) == [self.FILE]
        assert read(self.FIELD, [self.FILE]) == [self.FILE]

    URL = "https://files.example/q/annual%20report.pdf?x=1"

    @pytest.mark.parametrize(
        ("value", "name"),
        [
            (URL, "annual report.pdf"),
            ([URL], "annual report.pdf"),
            (f" {URL} ", "annual report.pdf"),
            ({"url": URL}, "annual report.pdf"),
            ({"filename": "r.pdf", "url": URL}, "r.pdf"),
            ({"filename": "r.pdf", "source": "url", "url": URL}, "r.pdf"),
        ],
    )
    def test_files_by_url(self, value, name):
        sent = [{"filename": name, "source": "url", "url": self.URL}]
        assert encode(self.FIELD, value) == sent
        assert encode(self.FIELD, read(self.FIELD, sent)) == sent

    def test_url_without_a_path(self):
        assert encode(self.FIELD, "https://files.example/")[0]["filename"] == "files.example"

    @pytest.mark.parametrize(
        "value",
        [
            "report.pdf",
            "http://files.example/a",
            [{"id": "a1"}],
            [{"filename": "report.pdf"}],
            {"url": 5},
            {"filename": "report.pdf", "url": 5},
            {"filename": "passwd", "url": "/etc/passwd"},
            {"filename": "report.pdf", "url": "ftp://files.example/a"},
            {"url": "javascript:alert(1)"},
            {"filename": 5, "url": "https://files.example/a"},
            [FILE, "x"],
            5,
            [None, 5],
        ],
    )
    def test_refuses_other_values(self, value):
        assert (
            "a file is an https URL, {'filename': …, 'url': …}, the absolute path of a local file, or"
            in refused(self.FIELD, value)
        )

    @pytest.mark.parametrize(
        "given", ["/data/a b.pdf", PurePosixPath("/data/a b.pdf"), {"path": "/data/a b.pdf"}]
    )
    def test_local_files(self, given):
        assert encode(self.FIELD, given) == encode(self.FIELD, [given]) == [LocalFile("/data/a b.pdf")]

    @pytest.mark.parametrize("given", [PurePosixPath("a.pdf"), {"path": "a.pdf"}, {"path": 5}])
    def test_relative_path_is_refused(self, given):
        assert "absolute" in refused(self.FIELD, given)

    def test_refuses_what_is_not_json(self):
        assert "cannot be sent as JSON (TypeError)" in refused(self.FIELD, {**self.FILE, "content": b"a"})
        assert "cannot be sent as JSON (UnicodeEncodeError)" in refused(
            self.FIELD, {**self.FILE, "filename": "\ud800"}
        )

    def test_decodes_no_files(self):
        assert read(self.FIELD, None) == []
        assert read(self.FIELD, "") == []


class TestUnknownType:
    FIELD = field("signature")

    @pytest.mark.parametrize(
        ("value", "sent"),
        [
            ("a", "a"),
            (5, 5),
            (True, True),
            ({"a": [1]}, {"a": [1]}),
            (date(2026, 1, 5), "2026-01-05"),
            (Decimal("1.5"), "1.5"),
        ],
    )
    def test_json_is_sent_unchanged(self, value, sent):
        assert encode(self.FIELD, value) == sent
        assert read(self.FIELD, sent) == sent

    @pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), [b"a"]])
    def test_other_values_are_refused(self, value):
        assert "cannot be sent as JSON" in refused(self.FIELD, value)


@pytest.mark.parametrize(
    "field_",
    [
        field("text"),
        field("date"),
        choice("radio", "A"),
        choice("multiselect", "A"),
        field("file"),
        field("assignees_form"),
    ],
)
def test_cleared_with_an_empty_text(field_):
    assert cleared(field_) == ""
    assert is_blank(read(field_, ""))


def test_table_is_cleared_by_column():
    assert cleared(table("A", "B")) == ["", ""]


@pytest.mark.parametrize(
    "value", [None, "", " \n", [], (), set(), {}, [None, ""], {"a": [], "b": None}, [[""]]]
)
def test_blank(value):
    assert is_blank(value)


@pytest.mark.parametrize("value", [0, False, 0.0, "a", ["", 0], {"a": ["b"]}, [False]])
def test_not_blank(value):
    assert not is_blank(value)
