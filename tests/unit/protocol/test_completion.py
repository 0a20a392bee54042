from __future__ import annotations

import pytest

from airflow_provider_tallyfy.protocol.completion import (
    Approvers,
    check_approvers,
    completer,
    read_approvers,
)
from airflow_provider_tallyfy.protocol.people import read_directory
from airflow_provider_tallyfy.protocol.validation import InvalidValueError

DIRECTORY = read_directory(
    [
        {"id": 1001, "email": "ada@example.com", "full_name": "Ada Okafor"},
        {"id": 1002, "email": "ben@example.com", "full_name": "Ben Larsen"},
        {"id": 1003, "email": "cho@example.com", "full_name": "Cho Park"},
        {"id": 1004, "email": "dee@example.com", "full_name": "Dee Roy", "status": "disabled"},
    ],
    [
        {"id": "g1", "name": "Release managers", "members": [1001, "1003"], "guests": ["client@example.org"]},
        {"id": "g2", "name": "Nobody yet"},
    ],
)
ADA, BEN, CHO = ({"completer_id": number} for number in (1001, 1002, 1003))
CLIENT, STRANGER = ({"completer_guest": f"{name}@example.org"} for name in ("Client", "stranger"))


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (ADA, "member 1001"),
        ({**ADA, "owners": {"users": [{"id": 1001, "email": "ada@example.com"}]}}, "member ada@example.com"),
        (CLIENT, "guest Client@example.org"),
        ({"completer_guest_id": 77}, "guest 77"),
    ],
)
def test_members_are_distinguished_from_guests(task, expected):
    assert completer(task).in_full == expected


def may(approvers, task, started_by=None):
    return read_approvers(approvers, DIRECTORY).find_problem(task, started_by) is None


@pytest.mark.parametrize(
    ("approvers", "allowed"),
    [
        ("ada@example.com", [ADA]),
        (" ADA@Example.com ", [ADA]),
        (1001, [ADA]),
        ("1001", [ADA]),
        ("Ada Okafor", [ADA]),
        (["ada@example.com", 1002], [ADA, BEN]),
        ("Release managers", [ADA, CHO, CLIENT]),
        ("g1", [ADA, CHO, CLIENT]),
        ("client@example.org", [CLIENT]),
        ({"users": ["ben@example.com"], "groups": ["Release managers"]}, [ADA, BEN, CHO, CLIENT]),
        ({"guests": ["client@example.org"]}, [CLIENT]),
        ({"groups": ["Release managers"], "exclude": ["ada@example.com"]}, [CHO, CLIENT]),
        ({"groups": ["Release managers"], "exclude": "client@example.org"}, [ADA, CHO]),
        ({"exclude": ["Release managers"]}, [BEN, STRANGER]),
        ("Nobody yet", []),
    ],
)
def test_approvers_may_decide_and_others_may_not(approvers, allowed):
    people = [ADA, BEN, CHO, CLIENT, STRANGER]
    assert [each for each in people if may(approvers, each)] == allowed


def test_excluding_an_empty_group_is_refused():
    with pytest.raises(InvalidValueError, match="no one is known to be in group 'Nobody yet'"):
        may({"exclude": ["Nobody yet"]}, ADA)


class TestStartedBy:
    @pytest.mark.parametrize("started_by", [1001, "1001", {"id": 1001}])
    def test_launcher_may_not_decide(self, started_by):
        approvers = {"groups": ["Release managers"], "exclude": ["started_by"]}
        assert not may(approvers, ADA, started_by)
        assert may(approvers, CHO, started_by)

    def test_others_may_decide(self):
        assert may({"exclude": ["started_by"]}, BEN, 1001)
        assert may({"exclude": ["started_by"]}, STRANGER, 1001)

    @pytest.mark.parametrize("started_by", [None, "", 0, True, {}, {"id": None}])
    def test_no_one_may_decide_if_the_launcher_is_unknown(self, started_by):
        assert not may({"exclude": ["started_by"]}, BEN, started_by)


@pytest.mark.parametrize(
    "task",
    [
        {},
        {"completer_id": None},
        {"completer_id": 0},
        {"completer_id": True},
        {"completer_id": ""},
        {"completer_guest": ""},
        {"completer_guest_id": 1001},  # a guest's number says nothing of members
        {"completer_guest_id": "ada"},
        {"completer_guest": {"email": "ada@example.com"}},
    ],
)
@pytest.mark.parametrize("approvers", [1001, "ada@example.com", {"exclude": ["started_by"]}])
def test_unknown_completer_may_not_decide(task, approvers):
    assert not may(approvers, task, 1002)


def test_guest_with_the_address_of_an_active_member_may_not_decide():
    assert not may("ada@example.com", {"completer_guest": "ada@example.com"})


class TestMemberWhoBecameAGuest:
    MEMBER, GUEST = {"completer_id": 1004}, {"completer_guest": "Dee@example.com"}

    @pytest.mark.parametrize("task", [MEMBER, GUEST], ids=["decided as a member", "decided as a guest"])
    def test_may_decide(self, task):
        for approvers in ("dee@example.com", {"guests": ["dee@example.com"]}, {"users": [1004]}):
            assert may(approvers, task)
            assert not may("ada@example.com", task)

    @pytest.mark.parametrize("excluded", ["dee@example.com", 1004])
    @pytest.mark.parametrize("task", [MEMBER, GUEST], ids=["decided as a member", "decided as a guest"])
    def test_is_excluded(self, excluded, task):
        assert not may({"exclude": [excluded]}, task)

    @pytest.mark.parametrize("task", [MEMBER, GUEST], ids=["decided as a member", "decided as a guest"])
    def test_launched_the_run(self, task):
        assert not may({"exclude": ["started_by"]}, task, started_by=1004)

    def test_is_named_as_deactivated(self):
        assert str(read_approvers(1004, DIRECTORY)) == "Dee Roy <dee@example.com> (deactivated)"


@pytest.mark.parametrize(
    "approvers",
    [
        None,
        "",
        [],
        {},
        True,
        [None],
        [""],
        ["Nobody at all"],
        4711,
        {"users": []},
        {"exclude": []},
        {"exclude": [""]},
        {"exclude": ["Nobody at all"]},
        {"people": ["ada@example.com"]},
        {"users": True},
    ],
)
def test_values_without_approvers_are_refused(approvers):
    with pytest.raises(InvalidValueError):
        read_approvers(approvers, DIRECTORY)


def test_ambiguous_name_is_refused():
    twice = read_directory(
        [{"id": number, "email": f"{number}@example.com", "full_name": "Ben Larsen"} for number in (1, 2)]
    )
    with pytest.raises(InvalidValueError, match="Ben Larsen"):
        read_approvers("Ben Larsen", twice)
    assert read_approvers("1@example.com", twice).members == {1}


@pytest.mark.parametrize("approvers", ["", [], {}, {"users": []}, {"people": [1]}, False, None])
def test_check_without_a_directory(approvers):
    with pytest.raises(InvalidValueError, match="approvers"):
        check_approvers(approvers)


def test_str_lists_approvers_and_exclusions():
    approvers = read_approvers(
        {"users": [1002], "groups": ["g1"], "guests": ["x@y.org"], "exclude": ["started_by", 1001]}, DIRECTORY
    )
    assert str(approvers) == (
        "Ben Larsen <ben@example.com>, guest x@y.org, group 'Release managers', but not Ada Okafor "
        "<ada@example.com>, the one who launched the process"
    )
    assert str(Approvers()) == "everyone"
