from __future__ import annotations

from math import inf

import pytest

from airflow_provider_tallyfy.waiting.schedule import MAX_RETRY_AFTER, PollSchedule


def test_a_steady_pace():
    assert [PollSchedule(60).after_poll(n) for n in (1, 2, 1000)] == [60, 60, 60]


def test_exponential_backoff_doubles_up_to_max_wait():
    pace = PollSchedule(10, exponential_backoff=True, max_wait=100)
    for count, least in [(1, 5), (2, 10), (3, 20), (4, 40)]:
        assert least <= pace.after_poll(count) <= 2 * least
    assert pace.after_poll(5) <= 100
    assert pace.after_poll(100_000) == 100


def test_exponential_backoff_waits_a_second_at_least():
    assert PollSchedule(0, exponential_backoff=True).after_poll(1) >= 1


def test_after_a_failure_the_next_look_comes_soon_and_then_at_the_usual_pace():
    pace = PollSchedule(60)
    assert 1 <= pace.after_failure(1, None) <= 1.5
    assert 8 <= pace.after_failure(4, None) <= 12
    assert 60 <= pace.after_failure(100_000, None) <= 90


@pytest.mark.parametrize(("asked", "waits"), [(30, 30), (86_400, MAX_RETRY_AFTER)])
def test_tallyfy_is_not_asked_sooner_than_it_says_within_a_ceiling(asked, waits):
    assert PollSchedule(1).after_failure(1, asked) == waits


def test_a_pace_of_zero_does_not_become_a_busy_loop_in_an_outage():
    assert PollSchedule(0).after_failure(5, None) >= 1


@pytest.mark.parametrize(
    ("looked_at", "pause"),
    [
        (None, 0),  # nobody has looked yet
        (1000, 60),  # just now
        (970, 30),
        (940, 0),  # an interval ago
        (0, 0),  # long ago: the triggerer was away
        (5000, 60),  # in the future: a clock jumped
    ],
)
def test_a_wait_that_was_handed_over_looks_an_interval_after_the_last_look(looked_at, pause):
    assert PollSchedule(60).until_first_poll(looked_at, now=1000) == pause


@pytest.mark.parametrize(
    ("now", "pause"),
    [
        (0, 995),
        (500, 495),
        (996, inf),  # that look was made; the end may come
        (2000, inf),  # past the end, as after a clock jumped
    ],
)
def test_the_last_look_comes_shortly_before_the_wait_times_out(now, pause):
    assert PollSchedule(60, ends_at=1000).until_last_poll(now) == pause


def test_without_an_end_there_is_no_last_look():
    assert PollSchedule(60).until_last_poll(now=0) == inf
