from __future__ import annotations

import pytest

from airflow_provider_tallyfy.protocol.people import (
    Directory,
    Group,
    Member,
    encode_assignees,
    needs_directory,
    read_directory,
)
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from airflow_provider_tallyfy.protocol.validation import InvalidValueError
from tests.support.forms import DIRECTORY


def assigned(users=(), guests=(), groups=()):
    return {"users": list(users), "guests": list(guests), "groups": list(groups)}


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (1001, assigned([1001])),
        ("1001", assigned([1001])),
        ([1001, "1002"], assigned([1001, 1002])),
        ((1001,), assigned([1001])),
        ({1001}, assigned([1001])),
        ([1001, "ada@example.com", "1001"], assigned([1001])),
        ("1001\n", assigned([1001])),
        ("ada@example.com", assigned([1001])),
        ("ADA@Example.com", assigned([1001])),
        (" ben@example.com ", assigned([1002])),
        ("grace@example.org", assigned(guests=["grace@example.org"])),
        (" grace@example.org", assigned(guests=["grace@example.org"])),
        ("grace@example.org\n", assigned(guests=["grace@example.org"])),
        ("\tben@example.com\r\n", assigned([1002])),
        ({"guests": ["grace@example.org\n"]}, assigned(guests=["grace@example.org"])),
        ({"users": ["ada@example.com\n"]}, assigned([1001])),
        ("g1", assigned(groups=["g1"])),
        ("Release managers", assigned(groups=["g1"])),
        ("release MANAGERS", assigned(groups=["g1"])),
        ("Customer success", assigned(groups=["g2"])),
        ("customer Success", assigned(groups=["g3"])),
        (["Release managers", "ada@example.com", "x@y.example"], assigned([1001], ["x@y.example"], ["g1"])),
        ([], assigned()),
        ({}, assigned()),
        ({"users": ["ada@example.com", 1002]}, assigned([1001, 1002])),
        ({"users": 1001, "groups": None}, assigned([1001])),
        ({"groups": ["release managers", "g2"]}, assigned(groups=["g1", "g2"])),
        # as Tallyfy returns it
        ({"users": [{"id": 1001, "full_name": "Ada"}], "guests": [], "groups": []}, assigned([1001])),
        ([{"id": 1001, "full_name": "Ada"}], assigned([1001])),
        ({"id": 1001, "full_name": "Ada"}, assigned([1001])),
    ],
)
def test_encodes_assignees(value, encoded):
    assert encode_assignees(value, DIRECTORY) == encoded


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (7, "'7' is not a member: none of the 2 has this id, e-mail address or name"),
        ("7", "'7' is not a member"),
        (-1, "not a number"),
        (True, "not true"),
        (1.5, "not a number"),
        (None, "not nothing"),
        ([["a"]], "not a list of 1"),
        (b"a@b.example", "not bytes"),
        ("a@b", "a guest is named by e-mail address, not by the text 'a@b'"),
        ("a b@c.example", "a guest is named by e-mail address"),
        ("a\ud800@c.example", "a guest is named by e-mail address"),
        (
            "Release",
            "'Release' is not an e-mail address, a member or a group; the groups are 'Release managers', "
            "'Customer success', 'customer Success'",
        ),
        ("CUSTOMER SUCCESS", "'CUSTOMER SUCCESS' matches 2 groups; use an id: g2, g3"),
        ({"groups": ["Unknown"]}, "'Unknown' is not a group; there are 'Release managers'"),
        ({"users": ["x@y.example"]}, "'x@y.example' is not a member"),
        ({"users": [None]}, "a member is named by id, e-mail address or full name, not by nothing"),
        ({"guests": [1001]}, "a guest is named by e-mail address, not by a number"),
        (
            {"guests": ["ADA@example.com\n"]},
            "'ADA@example.com' is a member, not a guest; write it under 'users'",
        ),
        ("0", "'0' is not an e-mail address, a member or a group"),
        # what cannot be seen is shown
        ({"groups": ["\u200bCustomer success"]}, r"'\u200bCustomer success' is not a group"),
        ({"users": ["\u200bada@example.com"]}, r"'\u200bada@example.com' is not a member"),
        ("\u200bRelease managers", r"'\u200bRelease managers' is not an e-mail address"),
        ("\u200bada@example.com", r"not by the text '\u200bada@example.com'"),
        ({"groups": [1.5]}, "a group is named by id or name, not by a number"),
        ({"people": [1001]}, "'people' is none of the lists users, guests, groups"),
    ],
)
def test_unknown_and_ambiguous_assignees_are_refused(value, said):
    with pytest.raises(InvalidValueError) as error:
        encode_assignees(value, DIRECTORY)
    assert said in str(error.value)


def test_error_lists_all_problems():
    with pytest.raises(InvalidValueError) as error:
        encode_assignees({"users": [7, 8], "people": [1]}, DIRECTORY)
    assert len(error.value.problems) == 3


NAMES = Directory(
    members=(
        Member(1001, "ada@example.com", "Ada Okafor"),
        Member(1002, "ben@example.com", "Ben Weiß"),
        Member(1003, "ben@example.org", "ben weiß"),
        Member(1004, "kim@example.com", "Kim Lee"),
        Member(1005, "kim@example.org", "Kim Lee"),
        Member(1006, "sales@example.com", "Sales"),
        Member(1007, "li@example.com", "li@example.org"),
    ),
    groups=(Group("g1", "Sales"), Group("g2", "Legal"), Group("g3", "@ night")),
)


class TestFullNames:
    @pytest.mark.parametrize(
        ("value", "encoded"),
        [
            ("Ada Okafor", assigned([1001])),
            (" ada  OKAFOR\n", assigned([1001])),
            ({"users": ["Ada Okafor", "ada@example.com"]}, assigned([1001])),
            ("Ben Weiß", assigned([1002])),
            ("ben weiß", assigned([1003])),
            ("Legal", assigned(groups=["g2"])),
            (["Ada Okafor", "Legal", "grace@example.org"], assigned([1001], ["grace@example.org"], ["g2"])),
            ({"users": ["Sales"]}, assigned([1006])),
            ({"groups": ["Sales"]}, assigned(groups=["g1"])),
            ("@ night", assigned(groups=["g3"])),
            ("li@example.org", assigned([1007])),
        ],
    )
    def test_finds_members_by_full_name(self, value, encoded):
        assert encode_assignees(value, NAMES) == encoded

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (
                {"users": ["Kim Lee"]},
                "'Kim Lee' matches 2 members; use an id: 1004 (kim@example.com), 1005 (kim@",
            ),
            ("kim lee", "'kim lee' matches 2 members; use an id: 1004"),
            ("BEN WEISS", "'BEN WEISS' matches 2 members; use an id: 1002"),
            ("Sales", "of a member and of a group; use an id: {'users': [1006], 'groups': ['g1']}"),
            ("Ada", "'Ada' is not an e-mail address, a member or a group"),
            ({"users": ["Legal"]}, "'Legal' is not a member"),
        ],
    )
    def test_ambiguous_or_unknown_name_is_refused(self, value, said):
        with pytest.raises(InvalidValueError) as error:
            encode_assignees(value, NAMES)
        assert said in str(error.value)

    def test_full_name_needs_the_directory(self):
        assert needs_directory({"users": ["Ada Okafor"]})
        assert needs_directory("Ada Okafor")


class TestDigits:
    DIRECTORY = Directory(
        members=(Member(7, "ada@example.com"), Member(1234567890123456789, "ben@example.com")),
        groups=(Group("g1", "2024"), Group("g2", "007"), Group(5, "Staff")),
    )

    @pytest.mark.parametrize(
        ("value", "encoded"),
        [
            ("2024", assigned(groups=["g1"])),
            (["2024", 7], assigned([7], groups=["g1"])),
            ({"groups": ["2024", "007", "5"]}, assigned(groups=["g1", "g2", 5])),
            ("7", assigned([7])),
            ({"users": ["007"]}, assigned([7])),
            (1234567890123456789, assigned([1234567890123456789])),
            ("1234567890123456789", assigned([1234567890123456789])),
        ],
    )
    def test_digits_name_a_member_or_a_group(self, value, encoded):
        assert encode_assignees(value, self.DIRECTORY) == encoded

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (2024, "'2024' is not a member"),
            ({"users": ["2024"]}, "'2024' is not a member"),
            ("9", "'9' is not a member"),
            ("007", "of a member and of a group; use an id: {'users': [7], 'groups': ['g2']}"),
            (2**63, "not a number"),
        ],
    )
    def test_unknown_and_ambiguous_digits_are_refused(self, value, said):
        with pytest.raises(InvalidValueError) as error:
            encode_assignees(value, self.DIRECTORY)
        assert said in str(error.value)


class TestWithoutADirectory:
    @pytest.mark.parametrize(
        ("value", "encoded"),
        [
            ([1001, "1002"], assigned([1001, 1002])),
            (
                {"users": [7], "guests": ["ada@example.com"], "groups": ["g9", 4]},
                assigned([7], ["ada@example.com"], ["g9", 4]),
            ),
            ("g9", assigned(groups=["g9"])),
        ],
    )
    def test_encodes_ids(self, value, encoded):
        assert encode_assignees(value) == encoded

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("ada@example.com", "'ada@example.com' cannot be looked up"),
            ({"users": ["ada@example.com"]}, "the member 'ada@example.com' cannot be looked up"),
            ("Release managers", "the group 'Release managers' cannot be looked up"),
        ],
    )
    def test_names_are_refused(self, value, said):
        with pytest.raises(InvalidValueError, match=said):
            encode_assignees(value)

    @pytest.mark.parametrize(
        ("value", "needed"),
        [
            (1001, False),
            ({"users": ["1001", 1002]}, False),
            ("1001", True),
            ({"groups": ["2024"]}, True),
            ({"users": [1001], "guests": ["a@b.example"]}, True),
            (None, False),
            ([], False),
            ({}, False),
            ({"users": [{"id": 1}]}, False),
            ("ada@example.com", True),
            ([1001, "Release managers"], True),
            ({"groups": ["g1"]}, True),
            ({"users": ["ada@example.com"]}, True),
        ],
    )
    def test_needs_directory(self, value, needed):
        assert needs_directory(value) is needed


class TestDeactivatedMember:
    DIRECTORY = Directory((Member(1, "dee@example.com", "Dee Roy", is_active=False),))

    def test_may_be_a_guest_now(self):
        value = {"guests": ["dee@example.com"]}
        assert encode_assignees(value, self.DIRECTORY) == assigned(guests=["dee@example.com"])

    @pytest.mark.parametrize("value", [1, "1", "Dee Roy", "dee@example.com", {"users": ["dee@example.com"]}])
    def test_is_no_guest_unless_named_as_one(self, value):
        assert encode_assignees(value, self.DIRECTORY) == assigned([1])

    @pytest.mark.parametrize("state", [{"status": "disabled"}, {"disabled_at": "2026-01-05T12:00:00Z"}])
    def test_is_read(self, state):
        [member] = read_directory([{"id": 1, "email": "dee@example.com", **state}]).members
        assert not member.is_active


class TestReadDirectory:
    def test_reads_members_and_groups(self):
        members = [
            {"id": 1001, "email": "ada@example.com", "full_name": "Ada"},
            {"id": "1002", "email": None},
        ]
        groups = iter([{"id": "g1", "name": "Release managers"}, {"id": 5, "name": None}])
        assert read_directory(members, groups) == Directory(
            (Member(1001, "ada@example.com", "Ada"), Member(1002, "")),
            (Group("g1", "Release managers"), Group(5, "")),
        )

    def test_repeated_items_are_read_once(self):
        ada = {"id": 1001, "email": "ada@example.com", "full_name": "Ada"}
        group = {"id": "g1", "name": "Staff"}
        directory = read_directory([ada, {"id": 1002}, {**ada, "id": "1001"}], [group, group])
        assert (directory.member("Ada").id, directory.group("Staff").id) == (1001, "g1")
        assert (len(directory.members), len(directory.groups)) == (2, 1)

    @pytest.mark.parametrize(
        ("item", "name"),
        [
            ({"first_name": "Ada", "last_name": "Okafor"}, "Ada Okafor"),
            ({"full_name": "", "first_name": "Ada", "last_name": None}, "Ada"),
            ({"full_name": "Dr. Ada Okafor", "first_name": "Ada"}, "Dr. Ada Okafor"),
        ],
    )
    def test_full_name(self, item, name):
        assert read_directory([{"id": 1, **item}]).members[0].name == name

    @pytest.mark.parametrize(
        "members", [[{"email": "a@b.example"}], [{"id": None}], [{"id": True}], [{"id": "a"}]]
    )
    def test_member_without_an_id_is_refused(self, members):
        with pytest.raises(MalformedResponseError, match="member"):
            read_directory(members)

    @pytest.mark.parametrize("groups", [[{"name": "A"}], [{"id": ""}]])
    def test_group_without_an_id_is_refused(self, groups):
        with pytest.raises(MalformedResponseError, match="group"):
            read_directory([], groups)
