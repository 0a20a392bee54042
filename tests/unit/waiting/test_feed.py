"""Which runs the pages of the activity feed name."""

from __future__ import annotations

import pytest

from airflow_provider_tallyfy.protocol.responses import Activity, Page
from airflow_provider_tallyfy.waiting.scheduler.feed import MAX_PAGES, REMEMBERED, Feed

NOW = 1000.0


def page(*entries, is_last=True):
    """A page of entries, each given as its number, or as number and run."""
    pairs = [entry if isinstance(entry, tuple) else (entry, f"run{entry}") for entry in entries]
    return Page(tuple(Activity(str(number), run_id) for number, run_id in pairs), is_last)


def full_page(start):
    return page(*range(start, start - 100, -1), is_last=False)


@pytest.fixture
def feed():
    """Return a feed that was polled once."""
    feed = Feed()
    assert feed.update_from(page(3, 2, 1), NOW) == set()
    return feed


def test_a_feed_that_was_never_polled_covers_nothing():
    assert not Feed().is_followed
    assert not Feed().covers(1e12)


def test_the_first_page_names_no_run(feed):
    assert feed.is_followed
    assert feed.covers(NOW)
    assert not feed.covers(NOW - 0.1)


def test_an_entry_names_its_run_once(feed):
    assert feed.update_from(page(4, 3, 2, 1), NOW + 10) == {"run4"}
    assert feed.update_from(page(4, 3, 2, 1), NOW + 20) == set()


def test_an_entry_that_is_published_late_counts(feed):
    assert feed.update_from(page(3, (17, "late"), 2, 1), NOW + 10) == {"late"}


def test_an_entry_without_a_run(feed):
    assert feed.update_from(page((4, None), 3), NOW + 10) == set()


def test_a_page_of_new_entries_is_followed_by_the_next(feed):
    assert len(feed.update_from(full_page(250), NOW + 10)) == 100
    assert feed.page == 2
    feed.update_from(page(150, 149, 3, is_last=False), NOW + 11)
    assert feed.page == 1
    assert feed.covers(NOW)


def test_the_last_page_ends_the_poll(feed):
    feed.update_from(page(9, 8, 7, is_last=True), NOW + 10)
    assert feed.page == 1


def test_a_poll_that_reaches_no_known_entry_starts_over(feed):
    for number in range(MAX_PAGES):
        assert feed.covers(NOW)
        feed.update_from(full_page(10_000 - 100 * number), NOW + 10)
    assert feed.page == 1
    assert not feed.covers(NOW + 9)
    assert feed.covers(NOW + 10)


def overflow(feed, start):
    for number in range(MAX_PAGES):
        feed.update_from(full_page(start - 100 * number), NOW + 10)


def test_polls_that_reach_no_known_entry_are_counted(feed):
    for poll in range(3):
        assert feed.overflows == poll
        overflow(feed, 10_000 * (poll + 1))
    assert feed.overflows == 3


def test_a_poll_that_reaches_a_known_entry_resets_the_count(feed):
    overflow(feed, 10_000)
    feed.update_from(page(10_001, 10_000), NOW + 20)
    assert feed.overflows == 0


def test_entries_that_arrive_between_two_pages_do_not_end_the_poll(feed):
    """They push those that were just read to the next page."""
    feed.update_from(full_page(250), NOW + 10)
    assert feed.update_from(page(*range(152, 52, -1), is_last=False), NOW + 11) == {
        f"run{number}" for number in range(150, 52, -1)
    }
    assert feed.page == 3


def test_named_runs_are_remembered_for_a_while(feed):
    feed.update_from(page(4, 3), NOW + 10)
    assert feed.has_named("run4", NOW)
    assert not feed.has_named("run4", NOW + 11)
    assert not feed.has_named("run1", NOW)
    feed.update_from(page(4, 3), NOW + 11 + REMEMBERED)
    assert not feed.has_named("run4", NOW)


def test_known_entries_are_bounded(feed):
    for number in range(100):
        feed.update_from(page(*range(100 * number + 4, 100 * number + 104)), NOW)
    assert len(feed._known) <= 2000


def test_stop_forgets_everything(feed):
    feed.stop()
    assert not feed.is_followed
    assert feed.update_from(page(9, 8), NOW + 10) == set()
