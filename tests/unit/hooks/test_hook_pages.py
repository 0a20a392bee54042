"""Lists that change while they are read, page by page."""

from __future__ import annotations

import itertools
from math import ceil

import pytest

from airflow_provider_tallyfy.exceptions import TallyfyResponseError

ORGANIZATION = "https://tallyfy.test/api/organizations/acme"


class ChangingList:
    """
    A list of the API that changes after each response.

    :param ids: of its items.
    :param changes: what happens after the first response, the second, and so on.
    :param has_total: whether the responses say how many items there are.
    """

    def __init__(self, ids, *changes, per_page=100, has_total=True):
        self.ids = list(ids)
        self.changes = iter(changes)
        self.per_page = per_page
        self.has_total = has_total
        self.pages_read = []

    def respond(self, request, context):
        number = int(request.qs["page"][0])
        per_page = min(self.per_page, int(request.qs["per_page"][0]))
        self.pages_read.append(number)
        shown = self.ids[(number - 1) * per_page : number * per_page]
        pagination = {"current_page": number, "total_pages": max(1, ceil(len(self.ids) / per_page))}
        if self.has_total:
            pagination["total"] = len(self.ids)
        next(self.changes, lambda ids: None)(self.ids)
        return {"data": list(map(self.item, shown)), "meta": {"pagination": pagination}}

    @staticmethod
    def item(item_id):
        return {"id": item_id}


class Members(ChangingList):
    """The members of an organization; each has an address and a name made of the id."""

    @staticmethod
    def item(item_id):
        return {"id": item_id, "email": f"{item_id}@example.com", "full_name": f"Member {item_id}"}


def adds(*new, at=0):
    return lambda ids: ids.__setitem__(slice(at, at), new)


def removes(*old):
    return lambda ids: [ids.remove(item) for item in old]


def replaces(old, new):
    return lambda ids: (ids.remove(old), ids.append(new))


@pytest.fixture
def listed(requests_mock):
    def listed(endpoint, changing):
        requests_mock.get(f"{ORGANIZATION}/{endpoint}", json=changing.respond)
        return changing

    return listed


READS = {
    "list_runs": ("runs", lambda hook: hook.list_runs()),
    "get_runs_pages": ("runs", lambda hook: itertools.chain.from_iterable(hook.get_runs_pages())),
    "paginate": ("tags", lambda hook: hook.paginate("tags")),
    "get_tasks": ("runs/r1/tasks", lambda hook: hook.get_tasks("r1")),
}


@pytest.fixture(params=READS)
def ids_of(request, hook, listed):
    """Read a list in each of the ways that the hook has, and give the ids in order."""
    endpoint, read = READS[request.param]

    def ids_of(changing):
        listed(endpoint, changing)
        return [item["id"] for item in read(hook)]

    return ids_of


class TestLists:
    def test_unchanged_list_is_read_once(self, ids_of):
        changing = ChangingList(map(str, range(250)))
        assert ids_of(changing) == list(map(str, range(250)))
        assert changing.pages_read == [1, 2, 3]

    def test_item_moved_to_the_next_page_is_returned_once(self, ids_of):
        changing = ChangingList(map(str, range(153)), adds("new"))
        assert ids_of(changing) == list(map(str, range(153)))
        assert changing.pages_read == [1, 2]

    def test_item_moved_to_a_previous_page_is_returned(self, ids_of):
        changing = ChangingList(map(str, range(153)), removes("7"))
        assert ids_of(changing) == list(map(str, range(153)))
        assert changing.pages_read == [1, 2, 1]

    def test_items_moved_by_more_than_a_page_are_returned(self, ids_of):
        changing = ChangingList(map(str, range(500)), lambda ids: None, removes(*map(str, range(150))))
        assert set(ids_of(changing)) == set(map(str, range(500)))
        assert changing.pages_read == [1, 2, 3, 1, 2, 4]

    def test_shrinking_list_is_read_completely(self, ids_of):
        changing = ChangingList(map(str, range(500)), *(removes(str(number)) for number in range(50)))
        assert set(ids_of(changing)) == set(map(str, range(500)))
        assert len(changing.pages_read) <= 10

    def test_last_page_disappears(self, ids_of):
        changing = ChangingList(map(str, range(101)), removes("0", "1"))
        assert set(ids_of(changing)) == set(map(str, range(101)))

    def test_items_are_unique_without_a_total(self, ids_of):
        changing = ChangingList(map(str, range(153)), adds("new"), has_total=False)
        assert ids_of(changing) == list(map(str, range(153)))

    @pytest.mark.parametrize("ids", [[{"a": 1}] * 3, [None] * 3, [""] * 3])
    def test_items_without_an_id_are_all_returned(self, hook, listed, ids):
        listed("tags", ChangingList(ids, per_page=2))
        assert [item["id"] for item in hook.paginate("tags")] == ids

    def test_repeats_on_one_page_are_kept(self, hook, listed):
        listed("tags", ChangingList(["a", "a", "b"]))
        assert [item["id"] for item in hook.paginate("tags")] == ["a", "a", "b"]

    def test_page_equals_the_one_before_after_an_addition(self, hook, listed):
        listed("tags", ChangingList(["a", "b"], adds("new")))
        assert [item["id"] for item in hook.paginate("tags", per_page=1)] == ["a", "b"]


class TestDirectory:
    @pytest.fixture(autouse=True)
    def groups(self, listed):
        return listed("groups", ChangingList(["g1"]))

    def test_one_page_is_read_once(self, hook, listed):
        members = listed("users", Members(range(1, 101)))
        assert len(hook.get_directory().members) == 100
        assert members.pages_read == [1]

    def test_several_pages_are_read_until_two_reads_agree(self, hook, listed):
        members = listed("users", Members(range(1, 251)))
        assert len(hook.get_directory().members) == 250
        assert members.pages_read == [1, 2, 3, 1, 2, 3]

    @pytest.mark.parametrize("has_total", [True, False])
    @pytest.mark.parametrize(
        "change",
        [removes(7), adds(901), adds(901, 902, 903), replaces(7, 901), removes(*range(1, 60))],
    )
    def test_moved_member_is_not_missed(self, hook, listed, change, has_total):
        listed("users", Members(range(1, 154), change, has_total=has_total))
        directory = hook.get_directory()
        assert all(directory.find_members(f"{number}@example.com") for number in range(60, 154))
        assert {directory.member(f"Member {number}").id for number in range(60, 154)} == set(range(60, 154))

    def test_changing_directory_is_an_error(self, hook, listed):
        members = listed("users", Members(range(1, 154), *(adds(number) for number in range(901, 999))))
        with pytest.raises(
            TallyfyResponseError,
            match=r"users gave another list each time .* changed\. Nothing .* name .* by id",
        ):
            hook.get_directory()
        assert len(members.pages_read) <= 20

    def test_groups_are_read_until_two_reads_agree(self, hook, listed):
        listed("users", Members([1]))
        groups = listed(
            "groups", ChangingList([f"g{number}" for number in range(153)], replaces("g7", "new"))
        )
        assert hook.get_directory().group("g100").id == "g100"
        assert len(groups.pages_read) > 2
