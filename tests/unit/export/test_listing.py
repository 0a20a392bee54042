"""Runs that changed are found in lists that change while they are read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tallyfy.export.listing import Position, RunListing
from airflow_provider_tallyfy.protocol.responses import Page

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def at(minutes):
    return BEGIN + timedelta(minutes=minutes)


class Tallyfy:
    """A list of runs, and what happens to it between two reads."""

    def __init__(self, runs, *, honours=("created_at", "last_updated"), per_page=10, knows_archived=True):
        self.runs = {run["id"]: run for run in runs}
        self.honours = honours
        self.per_page = per_page
        self.knows_archived = knows_archived
        self.is_stable = True
        self.reads = []
        self.changes = {}

    def read(self, number, params):
        for change in self.changes.pop(len(self.reads), ()):
            change()
        self.reads.append((number, dict(params)))
        is_archive = params.get("status") == "archived" and self.knows_archived
        found = [run for run in self.runs.values() if bool(run["archived_at"]) == is_archive]
        key = params["sort"].lstrip("-")
        key = key if key in self.honours else "created_at"
        found.sort(key=lambda run: (run[key], run["id"] if self.is_stable else ""), reverse=True)
        first = (number - 1) * self.per_page
        is_last = number * self.per_page >= len(found)
        return Page(tuple(map(dict, found[first : first + self.per_page])), is_last, total=len(found))

    def update(self, run_id, minutes):
        self.runs[run_id]["last_updated"] = at(minutes).isoformat()


def run(number, created, updated=None, archived=None):
    return {
        "id": f"r{number:03}",
        "created_at": at(created).isoformat(),
        "last_updated": at(created if updated is None else updated).isoformat(),
        "archived_at": archived and at(archived).isoformat(),
    }


def listing(tallyfy, since=None, until=None, seen=None, start=None):
    return RunListing(
        tallyfy.read,
        {},
        since=None if since is None else at(since),
        until=None if until is None else at(until),
        seen=set() if seen is None else seen,
        start=start or Position(),
        log=lambda *_: None,
    )


def ids(found):
    return [each["id"] for each in found]


def many(count=60, changed=lambda number: number * 7919 % 1009 / 10 + 200):
    """Return runs whose order of creation differs from that of the last change."""
    return [run(number, number, changed(number)) for number in range(count)]


def test_yields_all_runs_once_with_archived_ones():
    tallyfy = Tallyfy([*many(25), run(90, 90, 95, archived=95)])
    assert sorted(ids(listing(tallyfy))) == [*(f"r{number:03}" for number in range(25)), "r090"]
    assert [params["sort"] for _, params in tallyfy.reads] == ["-created_at"] * 4


def test_stops_at_the_first_page_of_unchanged_runs():
    tallyfy = Tallyfy(many(600))
    for number in (3, 300, 599):
        tallyfy.update(f"r{number:03}", 1000 + number)
    assert ids(listing(tallyfy, since=500)) == ["r599", "r300", "r003"]
    pages = [
        number for number, params in tallyfy.reads if "status" not in params and "archived" not in params
    ]
    assert pages == [1]


def test_reads_the_whole_list_if_tallyfy_ignores_the_order():
    tallyfy = Tallyfy(many(200), honours=("created_at",))
    tallyfy.update("r000", 1000)
    assert ids(listing(tallyfy, since=500)) == ["r000"]
    assert max(number for number, _ in tallyfy.reads) == 20


def test_order_of_creation_proves_nothing():
    """The list is in the order of creation, and all runs but one, on a late page, changed when they were created."""
    tallyfy = Tallyfy([run(number, number) for number in range(200)], honours=("created_at",))
    tallyfy.update("r005", 1000)
    assert ids(listing(tallyfy, since=190)) == [*(f"r{number:03}" for number in range(199, 189, -1)), "r005"]


def test_finds_a_run_that_moves_to_the_front_meanwhile():
    tallyfy = Tallyfy(many(60))
    last = min(tallyfy.runs.values(), key=lambda run: run["last_updated"])["id"]
    tallyfy.changes = {3: [lambda: tallyfy.update(last, 5000)]}
    assert sorted(ids(listing(tallyfy, since=0))) == [f"r{number:03}" for number in range(60)]


def test_finds_a_run_that_moves_to_the_front_if_both_orders_are_the_same():
    """The list is in the order of the last change, which is that of creation, too."""
    tallyfy = Tallyfy([run(number, number) for number in range(60)])
    tallyfy.changes = {3: [lambda: tallyfy.update("r000", 5000)]}
    assert sorted(ids(listing(tallyfy, since=0))) == [f"r{number:03}" for number in range(60)]


@pytest.mark.parametrize("count", [3, 25])
@pytest.mark.parametrize("since", [None, 0])
def test_runs_that_are_deleted_between_two_pages_hide_no_others(count, since):
    """Also if they move the others by more than a page."""
    tallyfy = Tallyfy(many(60, changed=lambda number: 200 + number * 7919 % 60))
    by = "created_at" if since is None else "last_updated"
    gone = sorted(tallyfy.runs.values(), key=lambda run: run[by], reverse=True)[:count]
    tallyfy.changes = {4: [lambda: [tallyfy.runs.pop(each["id"]) for each in gone]]}
    assert sorted(ids(listing(tallyfy, since=since))) == [f"r{number:03}" for number in range(60)]


def test_runs_of_the_same_second_may_be_in_another_order_on_each_page():
    """A database that sorts by a time alone repeats some of them on the next page, and leaves out others."""
    tallyfy = Tallyfy([run(number, 5) for number in range(30)])
    read = tallyfy.read

    def reordered(number, params):
        tallyfy.runs = dict(reversed(tallyfy.runs.items())) if len(tallyfy.reads) == 1 else tallyfy.runs
        return read(number, params)

    tallyfy.read = reordered
    tallyfy.is_stable = False
    assert sorted(ids(listing(tallyfy))) == [f"r{number:03}" for number in range(30)]


def test_run_that_is_restored_while_the_archive_is_read_hides_no_other():
    tallyfy = Tallyfy([run(number, number, archived=100) for number in range(30)])
    read = tallyfy.read

    def lags(number, params):
        page = read(number, params)
        if number == 2 and params.get("status") == "archived":
            page.items[0]["archived_at"] = None
        return page

    tallyfy.read = lags
    assert len(ids(listing(tallyfy))) == 30


def test_run_that_is_deleted_while_another_is_launched_hides_no_other():
    tallyfy = Tallyfy(many(60))

    def delete_and_launch():
        tallyfy.runs.pop("r059")
        tallyfy.runs["launched"] = {**run(0, 500), "id": "launched"}

    tallyfy.changes = {2: [delete_and_launch]}
    assert set(ids(listing(tallyfy))) >= {f"r{number:03}" for number in range(60)}


def test_ignored_archive_filter_repeats_no_runs():
    tallyfy = Tallyfy(many(30), knows_archived=False)
    assert len(ids(listing(tallyfy))) == 30
    assert len(tallyfy.reads) == 3 + 2


def test_interval_includes_its_start_but_not_its_end():
    tallyfy = Tallyfy([run(1, 1, 10), run(2, 2, 20), run(3, 3, 30)])
    assert ids(listing(tallyfy, since=10, until=30)) == ["r002", "r001"]


def test_yields_a_run_without_last_updated():
    tallyfy = Tallyfy([run(1, 1, 10)])
    tallyfy.runs["r001"]["last_updated"] = None
    tallyfy.honours = ("created_at",)
    assert ids(listing(tallyfy, since=500)) == ["r001"]


def test_resumes_where_it_stopped():
    tallyfy = Tallyfy(many(60))
    seen = {f"r{number:03}" for number in range(59, 29, -1)}
    tallyfy.runs["new"] = {**run(0, 500), "id": "new"}
    found = ids(listing(tallyfy, seen=seen, start=Position(0, 3)))
    assert sorted(found) == [f"r{number:03}" for number in range(30)]
    assert [number for number, params in tallyfy.reads if "status" not in params][:2] == [3, 3]


def test_resumes_on_an_earlier_page_if_runs_were_deleted():
    tallyfy = Tallyfy(many(60))
    seen = {f"r{number:03}" for number in range(59, 29, -1)}
    for number in range(59, 44, -1):
        tallyfy.runs.pop(f"r{number:03}")
    found = ids(listing(tallyfy, seen=seen, start=Position(0, 3)))
    assert sorted(found) == [f"r{number:03}" for number in range(30)]


@given(
    st.integers(1, 80),
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(["update", "add"]), st.integers(0, 79)), max_size=12
    ),
    st.booleans(),
    st.integers(0, 300),
)
def test_misses_nothing_that_changed_before(count, changes, is_honoured, since):
    """Users change and launch runs while the list is read; what changed before is yielded."""
    honours = ("created_at", "last_updated") if is_honoured else ("created_at",)
    tallyfy = Tallyfy(many(count, lambda number: 100 + number * 7919 % 301), honours=honours)
    expected = {each["id"] for each in tallyfy.runs.values() if each["last_updated"] >= at(since).isoformat()}
    for moment, (when, what, number) in enumerate(changes):
        if what == "update" and number < count:
            change = lambda number=number, moment=moment: tallyfy.update(f"r{number:03}", 1000 + moment)  # noqa: E731
        else:
            new = run(500 + moment, 900 + moment)
            change = lambda new=new: tallyfy.runs.__setitem__(new["id"], new)  # noqa: E731
        tallyfy.changes.setdefault(when, []).append(change)
    found = ids(listing(tallyfy, since=since))
    assert len(found) == len(set(found))
    assert expected <= set(found)


@pytest.mark.parametrize("total", [None, 60])
def test_reads_pages_without_a_total_to_the_last(total, monkeypatch):
    tallyfy = Tallyfy(many(60))
    read = tallyfy.read
    monkeypatch.setattr(
        tallyfy,
        "read",
        lambda number, params: replace(page := read(number, params), total=total and page.total),
    )
    assert len(ids(listing(tallyfy))) == 60
