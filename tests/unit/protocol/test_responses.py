from __future__ import annotations

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
    def test_empty_body_is_none(self, content):
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
    def test_other_bodies_are_malformed(self, content):
        with pytest.raises(MalformedResponseError, match=r"^the body is not JSON \("):
            read_body(content)

    @pytest.mark.parametrize(
        "content", [b"<html>Bad gateway</html>", b"\r\n <!DOCTYPE html>", b'<?xml version="1.0"?><Error/>']
    )
    def test_html_is_reported_as_such(self, content):
        with pytest.raises(MalformedResponseError, match=r"^the body is a page of HTML or XML \("):
            read_body(content)


class TestItem:
    def test_item_is_under_data(self):
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
    def test_other_bodies_are_malformed(self, body, there_is):
        with pytest.raises(MalformedResponseError) as error:
            read_item(body)
        assert str(error.value).endswith(f"there is {there_is}")


class TestNextTask:
    @pytest.mark.parametrize("value", [None, {}, [], {"data": []}, {"data": None}, {"data": {}}])
    def test_no_next_task(self, value):
        assert read_next_task(value) is None

    @pytest.mark.parametrize(
        "value", [TASK, [TASK], {"data": TASK}, {"data": [TASK]}, {"data": [TASK, {"id": "t2"}]}]
    )
    def test_one_next_task(self, value):
        assert read_next_task(value) == TASK

    def test_task_may_have_a_field_data(self):
        assert read_next_task({"id": "t1", "data": []}) == {"id": "t1", "data": []}

    def test_id_may_be_a_number(self):
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
    def test_other_values_are_malformed(self, value):
        with pytest.raises(
            MalformedResponseError, match="'next_task' is neither empty nor a task with an id"
        ):
            read_next_task(value)

    @pytest.mark.parametrize("value", ["a", "-", 0, 1, -1, 10**30])
    def test_is_id(self, value):
        assert is_id(value)

    @pytest.mark.parametrize("value", ["", None, True, False, 1.0, float("nan"), [], {}, b"a"])
    def test_is_not_id(self, value):
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

    def test_absent_next_task_stays_absent(self):
        assert read_run({"data": {"id": "r1"}}) == {"id": "r1"}
        assert with_one_next_task({}) == {}

    @pytest.mark.parametrize("body", [None, {}, {"data": []}, {"data": {"next_task": "t1"}}])
    def test_malformed_runs(self, body):
        with pytest.raises(MalformedResponseError):
            read_run(body)


def page(items=1, **pagination):
    return {"data": [{"id": number} for number in range(items)], "meta": {"pagination": pagination}}


class TestPage:
    def test_items(self):
        assert read_page(page(2, current_page=1, total_pages=2), 1).items == ({"id": 0}, {"id": 1})

    @pytest.mark.parametrize(
        "body", [{"data": []}, {"data": [], "meta": None}, {"data": [], "meta": []}, {"data": [], "meta": {}}]
    )
    def test_list_without_meta_is_the_only_page(self, body):
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
    def test_last_page_by_total_pages(self, number, total_pages, is_last):
        read = read_page(page(current_page=number, total_pages=total_pages), number)
        assert (read.is_last, read.total_pages) == (is_last, int(total_pages))

    def test_total_pages_takes_precedence_over_links(self):
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
    def test_last_page_by_links(self, links, is_last):
        assert read_page(page(current_page=1, links=links), 1).is_last is is_last
        assert read_page(page(current_page=1, links=links, total_pages=None), 1).is_last is is_last

    def test_page_without_a_number(self):
        assert not read_page(page(total_pages=3), 2).is_last
        assert read_page(page(total_pages=3), 3).is_last

    @pytest.mark.parametrize(("requested", "received"), [(2, 1), (1, 2), (2, "1")])
    def test_other_page_than_requested_is_malformed(self, requested, received):
        """A server that ignores ``page`` would otherwise be read for ever, or its items be lost."""
        with pytest.raises(
            MalformedResponseError, match=f"page {requested} was requested, but .* page {received}"
        ):
            read_page(page(current_page=received, total_pages=9), requested)

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
    def test_other_bodies_are_malformed_and_not_the_end(self, body):
        with pytest.raises(MalformedResponseError, match="a list of objects under 'data' was expected"):
            read_page(body, 1)

    def test_one_object_is_no_page(self):
        with pytest.raises(MalformedResponseError, match="it holds one object"):
            read_page({"data": TASK}, 1)

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
    def test_unreadable_pagination_is_malformed(self, meta):
        with pytest.raises(MalformedResponseError):
            read_page({"data": [{"id": "a"}], "meta": meta}, 1)

    def test_repeated_page_of_an_endless_list_is_malformed(self):
        more = {"links": {"next": "?page=3"}}
        first = read_page(page(2, **more), 1)
        with pytest.raises(MalformedResponseError, match="page 2 is the same as the page before"):
            read_page(page(2, **more), 2, first)
        assert read_page(page(3, **more), 2, first).items[:2] == first.items
        assert read_page(page(2, total_pages=9), 2, first).items == first.items

    def test_same_items_are_a_page_if_the_list_grew(self):
        """An item that was added before them pushed them to this page."""
        more = {"links": {"next": "?page=3"}}
        first = read_page(page(2, total=9, **more), 1)
        assert read_page(page(2, total=11, **more), 2, first).items == first.items

    @pytest.mark.parametrize(
        ("given", "total"),
        [(153, 153), ("153", 153), (0, 0), (None, None), ("many", None), (True, None), ([], None)],
    )
    def test_total(self, given, total):
        assert read_page(page(2, total_pages=1, total=given), 1).total == total

    def test_empty_page_after_an_empty_page(self):
        assert read_page(page(0, total_pages=9), 2, read_page(page(0, total_pages=9), 1)).items == ()

    def test_items_are_converted(self):
        body = {"data": [{"id": "r1", "next_task": [TASK]}]}
        expected = ({"id": "r1", "next_task": TASK},)
        assert read_page(body, 1, read=with_one_next_task).items == expected
        assert read_list(body, with_one_next_task) == expected

    def test_list_without_readable_pagination(self):
        assert read_list({"data": [TASK], "meta": {"pagination": "text"}}) == (TASK,)
        with pytest.raises(MalformedResponseError, match="a list of objects under 'data' was expected"):
            read_list({"data": [None]})

    def test_pagination_without_total_pages_and_links_is_malformed(self):
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

    def test_entry_of_a_task_has_its_run(self):
        page = self.read(self.TASK_COMPLETED, current_page=1, total_pages=8)
        assert page == Page((Activity("12345", "run_789"),), is_last=False, total_pages=8)

    def test_entry_of_a_run_has_it(self):
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
    def test_entry_without_a_run(self, fields):
        assert self.read({**self.TASK_COMPLETED, **fields}, total_pages=1).items == (Activity("12345", None),)

    @pytest.mark.parametrize("id_", [None, "", [1], True])
    def test_entry_without_an_id_is_malformed(self, id_):
        with pytest.raises(MalformedResponseError, match="an entry has no id"):
            self.read({**self.TASK_COMPLETED, "id": id_}, total_pages=1)

    def test_entries_in_another_order_are_malformed(self):
        """Page 1 would show the same old entries for ever."""
        moments = ["2025-03-15T10:30:00Z", "2025-03-15T10:30:00.500Z", "2025-03-15T10:31:00"]
        entries = [
            {**self.TASK_COMPLETED, "id": number, "created_at": at} for number, at in enumerate(moments)
        ]
        assert len(self.read(*reversed(entries), total_pages=1).items) == 3
        with pytest.raises(MalformedResponseError, match="newest first"):
            self.read(*entries, total_pages=1)

    @pytest.mark.parametrize("at", [None, "yesterday", 17])
    def test_entry_without_a_time_is_ignored_in_the_order(self, at):
        entries = ({**self.TASK_COMPLETED, "created_at": at}, self.TASK_COMPLETED)
        assert len(self.read(*entries, total_pages=1).items) == 2
