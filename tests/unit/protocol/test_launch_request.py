from __future__ import annotations

import pytest

from airflow_provider_tallyfy.protocol.launch_request import encode_launch, needs_directory
from airflow_provider_tallyfy.protocol.validation import FormValuesError
from tests.support.forms import DIRECTORY

CHECKLIST = {
    "id": "c1",
    "prerun": [
        {"id": "f1", "alias": "name", "label": "Name", "field_type": "text", "required": True},
        {"id": "f2", "alias": "team", "label": "Team", "field_type": "assignees_form"},
    ],
    "steps": [{"id": "s1", "alias": "sign", "title": "Sign"}],
}


def test_encodes_kickoff_and_tasks():
    assert encode_launch(
        CHECKLIST, {"Name": "Globex", "Team": "ada@example.com"}, {"sign": {"owners": 1002}}, DIRECTORY
    ) == {
        "prerun": {"f1": "Globex", "f2": {"users": [1001], "guests": [], "groups": []}},
        "tasks": {"s1": {"owners": {"users": [1002], "guests": [], "groups": []}}},
    }


def test_empty_parameters_are_left_out():
    assert encode_launch({"id": "c1", "prerun": []}) == {}
    assert encode_launch(CHECKLIST, {"Name": "Globex"}, {}) == {"prerun": {"f1": "Globex"}}


def test_one_error_lists_all_problems():
    with pytest.raises(FormValuesError) as error:
        encode_launch(CHECKLIST, {"Nome": "Globex"}, {"Sing": {}})
    assert str(error.value).splitlines() == [
        "Nothing was sent, since 3 things are wrong with the values:",
        "- 'Nome' is not a field of the form",
        "- 'Name' (text) is required, but there is no value for it",
        "- 'Sing' is not a step of the template",
        "The fields are:",
        "  'Name' (text, required; alias name, id f1)",
        "  'Team' (assignees_form; alias team, id f2)",
        "The steps are:",
        "  'Sign' (alias sign, id s1)",
    ]


def test_required_fields_are_checked_without_values():
    with pytest.raises(FormValuesError, match=r"'Name' .* is required"):
        encode_launch(CHECKLIST)


@pytest.mark.parametrize(
    ("kickoff", "overrides", "needed"),
    [
        (None, None, False),
        ({"name": "ada@example.com"}, {"sign": {"owners": 1}}, False),
        ({"team": "ada@example.com"}, None, True),
        (None, {"sign": {"owners": "ada@example.com"}}, True),
    ],
)
def test_needs_directory(kickoff, overrides, needed):
    assert needs_directory(CHECKLIST, kickoff, overrides) is needed


class TestPeopleAndName:
    def test_encodes_people_and_name(self):
        sent = encode_launch(
            {"id": "c1"},
            directory=DIRECTORY,
            name="Release 3",
            owner_id="ada@example.com",
            users=["ADA@example.com", 1002],
            groups=[DIRECTORY.groups[0].name],
        )
        assert sent == {
            "name": "Release 3",
            "owner_id": 1001,
            "users": [1001, 1002],
            "groups": [DIRECTORY.groups[0].id],
        }

    def test_ids_need_no_directory(self):
        who = {"owner_id": "1001", "users": [1002]}
        assert not needs_directory({"id": "c1"}, **who)
        assert encode_launch({"id": "c1"}, **who) == {"owner_id": 1001, "users": [1002]}

    @pytest.mark.parametrize(
        "who", [{"owner_id": "ada@example.com"}, {"users": ["ada@example.com"]}, {"groups": ["Managers"]}]
    )
    def test_names_need_a_directory(self, who):
        assert needs_directory({"id": "c1"}, **who)

    def test_problems_name_the_parameter(self):
        with pytest.raises(FormValuesError) as error:
            encode_launch(
                CHECKLIST,
                directory=DIRECTORY,
                name="x" * 551,
                owner_id=["ada@example.com", 1002],
                users=["unknown@example.com"],
                groups=["No such group"],
            )
        problems = "\n".join(error.value.problems)
        assert "'Name' (text) is required" in problems
        assert "name: it has 551 characters, and 550 are allowed" in problems
        assert "owner_id: one member was expected" in problems
        assert (
            "users: 'unknown@example.com' is not a member: none of the 2 has this id, e-mail address or name"
            in problems
        )
        assert "groups: 'No such group' is not a group; there are" in problems


WITH_ROLES = {
    **CHECKLIST,
    "steps": [{"id": "s1", "title": "Sign", "roles": ["r1"]}, {"id": "s2", "roles": {"data": [{"id": 7}]}}],
}


class TestRoles:
    def test_encodes_roles(self):
        sent = encode_launch(
            WITH_ROLES,
            {"Name": "x"},
            roles={"r1": {"users": [1001]}, 7: "ada@example.com"},
            directory=DIRECTORY,
        )
        no_others = {"guests": [], "groups": []}
        assert sent["roles"] == {"r1": {"users": [1001], **no_others}, "7": {"users": [1001], **no_others}}

    @pytest.mark.parametrize(
        ("checklist", "there_are"),
        [
            (WITH_ROLES, ["The roles are:", "  r1", "  7"]),
            ({**CHECKLIST, "steps": [{"id": "s1", "roles": []}]}, ["There are no roles."]),
        ],
    )
    def test_unknown_role_is_refused(self, checklist, there_are):
        with pytest.raises(FormValuesError) as error:
            encode_launch(checklist, {"Name": "x"}, roles={"r2": {"users": [1001]}})
        assert str(error.value).splitlines()[1:] == [
            "- roles: 'r2' is not a role of the template",
            *there_are,
        ]

    def test_roles_are_not_checked_if_no_step_names_any(self):
        sent = encode_launch(CHECKLIST, {"Name": "x"}, roles={"r2": {"users": [1001]}})
        assert sent["roles"] == {"r2": {"users": [1001], "guests": [], "groups": []}}

    @pytest.mark.parametrize("roles", ["r1", ["r1"], {"r1": {"user": [1]}}, {"r1": True}])
    def test_invalid_roles_are_refused(self, roles):
        with pytest.raises(FormValuesError, match="roles: "):
            encode_launch(WITH_ROLES, {"Name": "x"}, roles=roles)


@pytest.mark.parametrize("name", ["tags", "folders"])
def test_id_in_place_of_a_list_is_refused(name):
    with pytest.raises(FormValuesError, match=rf"{name}: a list of ids was expected, such as \['one-id'\]"):
        encode_launch(CHECKLIST, {"Name": "x"}, **{name: "one-id"})
