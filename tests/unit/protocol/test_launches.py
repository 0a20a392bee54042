from __future__ import annotations

import pytest

from airflow_provider_tallyfy.protocol.launches import encode_launch, needs_directory
from airflow_provider_tallyfy.protocol.problems import FormValuesError
from tests.unit.protocol.forms_of_tests import DIRECTORY

CHECKLIST = {
    "id": "c1",
    "prerun": [
        {"id": "f1", "alias": "name", "label": "Name", "field_type": "text", "required": True},
        {"id": "f2", "alias": "team", "label": "Team", "field_type": "assignees_form"},
    ],
    "steps": [{"id": "s1", "alias": "sign", "title": "Sign"}],
}


def test_what_a_launch_sends():
    assert encode_launch(
        CHECKLIST, {"Name": "Globex", "Team": "ada@example.com"}, {"sign": {"owners": 1002}}, DIRECTORY
    ) == {
        "prerun": {"f1": "Globex", "f2": {"users": [1001], "guests": [], "groups": []}},
        "tasks": {"s1": {"owners": {"users": [1002], "guests": [], "groups": []}}},
    }


def test_what_is_empty_is_not_sent():
    assert encode_launch({"id": "c1", "prerun": []}) == {}
    assert encode_launch(CHECKLIST, {"Name": "Globex"}, {}) == {"prerun": {"f1": "Globex"}}


def test_all_that_is_wrong_with_both_is_one_message():
    with pytest.raises(FormValuesError) as error:
        encode_launch(CHECKLIST, {"Nome": "Globex"}, {"Sing": {}})
    assert str(error.value).splitlines() == [
        "Nothing was sent, since 3 things are wrong with the values:",
        "- 'Nome' is no field of the form",
        "- 'Name' (text) is required, but there is no value for it",
        "- 'Sing' is no step of the template",
        "The fields are:",
        "  'Name' (text, required; alias name, id f1)",
        "  'Team' (assignees_form; alias team, id f2)",
        "The steps are:",
        "  'Sign' (alias sign, id s1)",
    ]


def test_required_fields_are_required_without_any_values_too():
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
def test_whether_people_must_be_looked_up(kickoff, overrides, needed):
    assert needs_directory(CHECKLIST, kickoff, overrides) is needed
