"""What is made of the pages of the activity feed."""

from __future__ import annotations

import pytest

from airflow_provider_tallyfy.protocol.answers import Activity, Page
from airflow_provider_tallyfy.waiting.feed import LONGEST_LATENESS, MOST_PAGES, REMEMBERED, Feed

NOW = 1000.0


def page(*entries, is_last=True):
    """A page of entries, each given as its number, or as number and run."""
    pairs = [entry if isinstance(entry, tuple) else (entry, f"run{entry}") for entry in entries]
    return Page(tuple(Activity(str(number), run_id) for number, run_id in pairs), is_last)


def full_page(start):
    return page(*range(start, start - 100, -1), is_last=False)


@pytest.fixture
def feed():
    """A feed that was looked at once."""
    feed = Feed()
    assert feed.read(page(3, 2, 1), NOW) == set()
    return feed


def test_before_it_was_looked_at_it_covers_nothing():
    assert not Feed().is_followed
    assert not Feed().covers(1e12)


def test_the_first_page_tells_what_was_known_and_no_news(feed):
    assert feed.is_followed
    assert feed.covers(NOW)
    assert not feed.covers(NOW - 0.1)


def test_an_entry_is_news_once(feed):
    assert feed.read(page(4, 3, 2, 1), NOW + 10) == {"run4"}
    assert feed.read(page(4, 3, 2, 1), NOW + 20) == set()


def test_an_entry_that_is_published_late_is_news_wherever_it_stands(feed):
    assert feed.read(page(3, (17, "late"), 2, 1), NOW + 10) == {"late"}


def test_an_entry_of_no_run_is_no_news_of_one(feed):
    assert feed.read(page((4, None), 3), NOW + 10) == set()


def test_a_page_of_nothing_but_news_leads_to_the_next(feed):
    assert len(feed.read(full_page(250), NOW + 10)) == 100
    assert feed.page == 2
    feed.read(page(150, 149, 3, is_last=False), NOW + 11)
    assert feed.page == 1
    assert feed.covers(NOW)


def test_the_last_page_ends_the_look_though_it_is_all_news(feed):
    feed.read(page(9, 8, 7, is_last=True), NOW + 10)
    assert feed.page == 1


def test_a_feed_that_cannot_be_read_to_where_it_was_begins_anew(feed):
    for number in range(MOST_PAGES):
        assert feed.covers(NOW)
        feed.read(full_page(10_000 - 100 * number), NOW + 10)
    assert feed.page == 1
    assert not feed.covers(NOW + 9)
    assert feed.covers(NOW + 10)


def test_three_such_looks_in_a_row_are_a_complaint(feed):
    for look in range(3):
        assert feed.complaint(NOW) is None
        for number in range(MOST_PAGES):
            feed.read(full_page(10_000 * (look + 1) - 100 * number), NOW + 10)
    assert "more than 500 things" in feed.complaint(NOW)


def test_a_look_between_them_that_is_short_makes_it_good(feed):
    for look in range(4):
        for number in range(MOST_PAGES):
            feed.read(full_page(10_000 * (look + 1) - 100 * number), NOW + 10)
        feed.read(page(10_000 * (look + 1)), NOW + 20)
    assert feed.complaint(NOW) is None


def test_it_is_known_for_a_while_what_it_told_of(feed):
    feed.read(page(4, 3), NOW + 10)
    assert feed.told_of("run4", NOW)
    assert not feed.told_of("run4", NOW + 11)
    assert not feed.told_of("run1", NOW)
    feed.read(page(4, 3), NOW + 11 + REMEMBERED)
    assert not feed.told_of("run4", NOW)


def test_a_change_that_it_does_not_tell_of_in_time_is_a_complaint(feed):
    feed.expect("run7", NOW)
    assert feed.complaint(NOW + LONGEST_LATENESS - 1) is None
    assert "a change of run run7" in feed.complaint(NOW + LONGEST_LATENESS)


def test_one_that_it_tells_of_late_is_none(feed):
    feed.expect("run7", NOW)
    feed.read(page(7, 3), NOW + LONGEST_LATENESS - 1)
    assert feed.complaint(NOW + LONGEST_LATENESS) is None


def test_expecting_it_again_does_not_put_the_complaint_off(feed):
    feed.expect("run7", NOW)
    feed.expect("run7", NOW + LONGEST_LATENESS - 1)
    assert feed.complaint(NOW + LONGEST_LATENESS) is not None


def test_what_it_knows_is_bounded(feed):
    for number in range(100):
        feed.read(page(*range(100 * number + 4, 100 * number + 104)), NOW)
    assert len(feed._known) <= 2000


def test_stopped_it_knows_nothing(feed):
    feed.expect("run7", NOW)
    feed.stop()
    assert not feed.is_followed
    assert feed.complaint(NOW + 1e6) is None
    assert feed.read(page(9, 8), NOW + 10) == set()
