from __future__ import annotations

import dataclasses
import traceback
from typing import ClassVar

import pytest

from airflow_provider_tallyfy.protocol.responses import (
    Activity,
    MalformedResponseError,
    Page,
    is_id,
    read_activities,
    read_body,
    read_item,
    read_list,
    read_next_task,
    read_page,
    read_run,
    with_one_next_task,
)

TASK = {"id": "t1", "title": "Sign"}


class TestBody:
    @pytest.mark.parametrize("content", [b"", b" ", b"\r\n\t "])
    def test_an_empty_body_is_none(self, content):
        assert read_body(content) is None

    @pytest.mark.parametrize(
        ("content", "value"),
        [
            (b'{"data": {"id": "a"}}', {"data": {"id": "a"}}),
            (b"[]", []),
            (b"null", None),
            (b' "text"\n', "text"),
            ('{"name": "é"}'.encode(), {"name": "é"}),
            (b"\xef\xbb\xbf[1]", [1]),
        ],
    )
    def test_json(self, content, value):
        assert read_body(content) == value

    @pytest.mark.parametrize(
        "content",
        [
            b"OK",
            b"Bad gateway <html>",
            b'{"data": ',
            b'{"data": {}} trailing',
            b"\xff\xfe\xfd",
            b"9" * 5000,
            b"[" * 100_000,
            b"{'a': 1}",
        ],
    )
    def test_anything_else_is_unreadable(self, content):
        with pytest.raises(MalformedResponseError, match=r"^the body is no JSON \("):
            read_body(content)

    @pytest.mark.parametrize(
        "content", [b"<html>Bad gateway</html>", b"\r\n <!DOCTYPE html>", b'<?xml version="1.0"?><Error/>']
    )
    def test_a_page_is_called_one(self, content):
        with pytest.raises(MalformedResponseError, match=r"^the body is a page of HTML or XML \("):
            read_body(content)

    @pytest.mark.parametrize("content", [b"<p>shown-to-nobody", b"shown-to-nobody", b'{"a": shown-to-nobody'])
    def test_what_it_holds_is_never_shown(self, content):
        with pytest.raises(MalformedResponseError) as error:
            read_body(content)
        assert "shown-to-nobody" not in "".join(traceback.format_exception(error.value))


class TestItem:
    def test_it_is_under_data(self):
        assert read_item({"data": {"id": "a"}, "meta": {}}) == {"id": "a"}
        assert read_item({"data": {}}) == {}

    @pytest.mark.parametrize(
        ("body", "there_is"),
        [
            (None, "nothing"),
            ([], "a list"),
            ("text", "a text"),
            (1, "a number"),
            (True, "a boolean"),
            ({}, "an object without 'data'"),
            ({"id": "a"}, "an object without 'data'"),
            ({"data": None}, "'data' of nothing"),
            ({"data": []}, "'data' of a list"),
            ({"data": "a"}, "'data' of a text"),
        ],
    )
    def test_anything_else_is_unreadable_and_described(self, body, there_is):
        with pytest.raises(MalformedResponseError) as error:
            read_item(body)
        assert str(error.value).endswith(f"there is {there_is}")


class TestNextTask:
    @pytest.mark.parametrize("value", [None, {}, [], {"data": []}, {"data": None}, {"data": {}}])
    def test_none_is_left(self, value):
        assert read_next_task(value) is None

    @pytest.mark.parametrize(
        "value", [TASK, [TASK], {"data": TASK}, {"data": [TASK]}, {"data": [TASK, {"id": "t2"}]}]
    )
    def test_one_is_next(self, value):
        assert read_next_task(value) == TASK

    def test_a_task_with_data_of_its_own_is_a_task(self):
        assert read_next_task({"id": "t1", "data": []}) == {"id": "t1", "data": []}

    def test_an_id_may_be_a_whole_number(self):
        assert read_next_task({"data": [{"id": 7}]}) == {"id": 7}

    @pytest.mark.parametrize(
        "value",
        [
            "t1",
            "",
            0,
            7,
            0.0,
            True,
            False,
            {"title": "Sign"},
            {"id": None},
            {"id": ""},
            {"id": True},
            {"id": 1.5},
            {"id": ["t1"]},
            {"id": {}, "data": [TASK]},
            [None],
            [[]],
            ["t1"],
            [{}],
            {"data": [{}]},
            {"data": ["t1"]},
            {"data": "t1"},
            {"data": False},
            {"data": {"data": [TASK]}},
            {"data": [[TASK]]},
        ],
    )
    def test_anything_else_is_unreadable_and_not_the_end(self, value):
        with pytest.raises(
            MalformedResponseError, match="'next_task' is neither empty nor a task with an id"
        ):
            read_next_task(value)

    @pytest.mark.parametrize("value", ["a", "-", 0, 1, -1, 10**30])
    def test_ids(self, value):
        assert is_id(value)

    @pytest.mark.parametrize("value", ["", None, True, False, 1.0, float("nan"), [], {}, b"a"])
    def test_no_ids(self, value):
        assert not is_id(value)


class TestRun:
    def test_only_next_task_changes(self):
        run = {
            "id": "r1",
            "next_task": {"data": [TASK]},
            "tasks": {"data": [TASK]},
            "progress": 50,
            "owner": None,
        }
        assert read_run({"data": run}) == {**run, "next_task": TASK}
        assert run["next_task"] == {"data": [TASK]}

    def test_where_tallyfy_left_it_out_nothing_is_known_of_it(self):
        assert read_run({"data": {"id": "r1"}}) == {"id": "r1"}
        assert with_one_next_task({}) == {}

    @pytest.mark.parametrize("body", [None, {}, {"data": []}, {"data": {"next_task": "t1"}}])
    def test_an_unreadable_one(self, body):
        with pytest.raises(MalformedResponseError):
            read_run(body)


def page(items=1, **pagination):
    return {"data": [{"id": number} for number in range(items)], "meta": {"pagination": pagination}}


class TestPage:
    def test_its_items(self):
        assert read_page(page(2, current_page=1, total_pages=2), 1).items == ({"id": 0}, {"id": 1})

    def test_it_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            Page((), is_last=True).is_last = False

    @pytest.mark.parametrize(
        "body", [{"data": []}, {"data": [], "meta": None}, {"data": [], "meta": []}, {"data": [], "meta": {}}]
    )
    def test_a_list_without_meta_is_its_only_page(self, body):
        assert read_page(body, 1) == Page((), is_last=True)

    @pytest.mark.parametrize(
        ("number", "total_pages", "is_last"),
        [
            (1, 1, True),
            (1, 2, False),
            (2, 2, True),
            (1, 0, True),
            (3, 2, True),
            (1, "2", False),
            (2, "2", True),
        ],
    )
    def test_the_last_page_is_told_by_total_pages(self, number, total_pages, is_last):
        body = page(current_page=number, total_pages=total_pages)
        assert read_page(body, number).is_last is is_last

    def test_total_pages_goes_before_links(self):
        links = {"next": "https://tallyfy.test/api/runs?page=2"}
        assert read_page(page(current_page=1, total_pages=1, links=links), 1).is_last
        assert not read_page(page(current_page=1, total_pages=2, links=[]), 1).is_last

    @pytest.mark.parametrize(
        ("links", "is_last"),
        [
            ([], True),
            ({}, True),
            ({"next": None}, True),
            ({"next": ""}, True),
            ({"previous": "https://tallyfy.test/api/runs?page=1"}, True),
            ({"next": "https://tallyfy.test/api/runs?page=2"}, False),
        ],
    )
    def test_and_where_it_is_absent_by_links(self, links, is_last):
        assert read_page(page(current_page=1, links=links), 1).is_last is is_last
        assert read_page(page(current_page=1, links=links, total_pages=None), 1).is_last is is_last

    def test_a_page_that_does_not_say_its_number_is_the_one_asked_for(self):
        assert not read_page(page(total_pages=3), 2).is_last
        assert read_page(page(total_pages=3), 3).is_last

    @pytest.mark.parametrize(("asked", "came"), [(2, 1), (1, 2), (2, "1")])
    def test_another_page_than_asked_for_is_unreadable(self, asked, came):
        """A server that ignores ``page`` would otherwise be read for ever, or its items be lost."""
        with pytest.raises(MalformedResponseError, match=f"page {asked} was asked for, but page {came} came"):
            read_page(page(current_page=came, total_pages=9), asked)

    @pytest.mark.parametrize(
        "body",
        [
            None,
            [],
            [{"id": "a"}],
            "text",
            {},
            {"data": None},
            {"data": {}},
            {"data": {"0": {"id": "a"}}},
            {"data": ["a"]},
            {"data": [{"id": "a"}, None]},
            {"items": []},
            {"message": "Something went wrong."},
        ],
    )
    def test_no_list_of_objects_is_unreadable_and_not_the_end(self, body):
        with pytest.raises(MalformedResponseError, match="a list of objects under 'data' was expected"):
            read_page(body, 1)

    @pytest.mark.parametrize(
        "meta",
        [
            "text",
            1,
            True,
            {"pagination": None},
            {"pagination": "text"},
            {"pagination": {"current_page": None, "total_pages": 2}},
            {"pagination": {"current_page": "one", "total_pages": 2}},
            {"pagination": {"current_page": True, "total_pages": 2}},
            {"pagination": {"current_page": 1, "total_pages": "many"}},
            {"pagination": {"current_page": 1, "total_pages": 1.5}},
            {"pagination": {"current_page": 1, "total_pages": "9" * 5000}},
            {"pagination": {"current_page": 1, "total_pages": "²"}},
            {"pagination": {"current_page": 1, "links": "text"}},
            {"pagination": {"current_page": 1, "links": ["text"]}},
        ],
    )
    def test_where_it_cannot_be_told_whether_a_page_follows_it_is_unreadable(self, meta):
        with pytest.raises(MalformedResponseError):
            read_page({"data": [{"id": "a"}], "meta": meta}, 1)

    def test_the_page_before_once_more_is_unreadable_in_a_list_without_end(self):
        more = {"links": {"next": "?page=3"}}
        first = read_page(page(2, **more), 1)
        with pytest.raises(MalformedResponseError, match="page 2 is the page before once more"):
            read_page(page(2, **more), 2, first)
        assert read_page(page(3, **more), 2, first).items[:2] == first.items
        assert read_page(page(2, total_pages=9), 2, first).items == first.items

    def test_the_same_items_in_a_list_that_grew_are_a_page(self):
        """An item that was added before them pushed them to this page."""
        more = {"links": {"next": "?page=3"}}
        first = read_page(page(2, total=9, **more), 1)
        assert read_page(page(2, total=11, **more), 2, first).items == first.items

    @pytest.mark.parametrize(
        ("given", "total"), [(153, 153), (0, 0), (None, None), ("many", None), ([], None)]
    )
    def test_the_total_is_read_if_it_is_a_number(self, given, total):
        assert read_page(page(2, total_pages=1, total=given), 1).total == total

    def test_an_empty_page_after_an_empty_page_is_none(self):
        assert read_page(page(0, total_pages=9), 2, read_page(page(0, total_pages=9), 1)).items == ()

    def test_each_item_is_made_into_what_was_asked_for(self):
        body = {"data": [{"id": "r1", "next_task": [TASK]}]}
        expected = ({"id": "r1", "next_task": TASK},)
        assert read_page(body, 1, read=with_one_next_task).items == expected
        assert read_list(body, with_one_next_task) == expected

    def test_a_whole_list_needs_no_pagination_to_be_read(self):
        assert read_list({"data": [TASK], "meta": {"pagination": "text"}}) == (TASK,)
        with pytest.raises(MalformedResponseError, match="a list of objects under 'data' was expected"):
            read_list({"data": [None]})

    def test_neither_total_pages_nor_links_tells_nothing(self):
        """100 of 250 came: to take them for all would lose 150 in silence."""
        with pytest.raises(MalformedResponseError):
            read_page(page(100, total=250, count=100, per_page=100, current_page=1), 1)


class TestActivities:
    """The documentation's example, page "Get activity feed for a process", and what else may come."""

    TASK_COMPLETED: ClassVar = {
        "id": 12345,
        "verb": ["completed"],
        "auditable_type": "App\\Models\\Task",
        "auditable_id": "task_456",
        "parentable_type": "App\\Models\\Run",
        "parentable_id": "run_789",
        "created_at": "2025-03-15T10:30:00Z",
    }

    def read(self, *items, **pagination):
        return read_activities({"data": list(items), "meta": {"pagination": pagination}}, 1)

    def test_an_entry_of_a_task_tells_of_its_run(self):
        page = self.read(self.TASK_COMPLETED, current_page=1, total_pages=8)
        assert page == Page((Activity("12345", "run_789"),), is_last=False, total_pages=8)

    def test_an_entry_of_a_run_tells_of_it(self):
        archived = {
            **self.TASK_COMPLETED,
            "auditable_type": "App\\Models\\Run",
            "auditable_id": "run_1",
            "parentable_type": "App\\Models\\Checklist",
        }
        assert self.read(archived, total_pages=1).items == (Activity("12345", "run_1"),)

    @pytest.mark.parametrize(
        "fields",
        [
            {"parentable_type": "App\\Models\\Checklist"},
            {"parentable_type": None},
            {"parentable_id": None},
            {"parentable_id": ["run_789"]},
        ],
    )
    def test_an_entry_that_names_no_run_tells_of_none(self, fields):
        assert self.read({**self.TASK_COMPLETED, **fields}, total_pages=1).items == (Activity("12345", None),)

    @pytest.mark.parametrize("id_", [None, "", [1], True])
    def test_an_entry_without_an_id_is_unreadable(self, id_):
        with pytest.raises(MalformedResponseError, match="an entry has no id"):
            self.read({**self.TASK_COMPLETED, "id": id_}, total_pages=1)

    def test_entries_in_another_order_are_unreadable(self):
        """Page 1 would show the same old entries for ever."""
        moments = ["2025-03-15T10:30:00Z", "2025-03-15T10:30:00.500Z", "2025-03-15T10:31:00"]
        entries = [
            {**self.TASK_COMPLETED, "id": number, "created_at": at} for number, at in enumerate(moments)
        ]
        assert len(self.read(*reversed(entries), total_pages=1).items) == 3
        with pytest.raises(MalformedResponseError, match="newest first"):
            self.read(*entries, total_pages=1)

    @pytest.mark.parametrize("at", [None, "yesterday", 17])
    def test_an_unreadable_time_says_nothing_of_the_order(self, at):
        entries = ({**self.TASK_COMPLETED, "created_at": at}, self.TASK_COMPLETED)
        assert len(self.read(*entries, total_pages=1).items) == 2


@pytest.mark.parametrize(("told", "total"), [(7, 7), ("7", 7), (None, None)])
def test_a_page_tells_how_many_there_are(told, total):
    body = page(current_page=1, total_pages=told, links=[])
    assert read_page(body, 1).total_pages == total
    assert read_page({"data": []}, 1).total_pages is None
