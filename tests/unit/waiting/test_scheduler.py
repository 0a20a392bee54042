"""The requests that a scheduler sends in a simulation, and which waits they end."""

from __future__ import annotations

import logging
from itertools import pairwise
from statistics import median

import pytest

from airflow_provider_tallyfy.hooks.connection import DEFAULT_REQUESTS_PER_HOUR
from airflow_provider_tallyfy.waiting.evidence import DENIED_AFTER_SECONDS
from airflow_provider_tallyfy.waiting.outcomes import Denied, Met, Unreachable
from airflow_provider_tallyfy.waiting.polls import FetchFeedPage, FetchRun, FetchRunPage
from airflow_provider_tallyfy.waiting.scheduler.endpoint_health import MAX_DISABLED
from airflow_provider_tallyfy.waiting.scheduler.scheduler import MAX_STALENESS, PollScheduler
from tests.support.simulation import (
    DOWN,
    FORBIDDEN,
    INTERVAL,
    LATENCY,
    START,
    UNAUTHENTICATED,
    UNAVAILABLE,
    UNREADABLE,
    Simulation,
    too_many,
    unavailable_for,
)

SETTLED = 3.0
"""Seconds in which even two thousand runs are read once."""


def followed(runs=1000, **options):
    """Return a simulation with so many waits that the feed is followed, after each was polled once."""
    simulation = Simulation(runs, **options)
    simulation.wait_for()
    simulation.pass_time(SETTLED)
    return simulation


def without_feed(runs=1000):
    """Return the same for a user who may not see the feed."""
    simulation = Simulation(runs)
    simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
    simulation.wait_for()
    simulation.pass_time(SETTLED)
    return simulation


def with_a_slow_list():
    """Return the same if reading the list takes longer than until all of it is due again."""
    simulation = Simulation(400, latency=3)
    simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
    simulation.wait_for()
    simulation.pass_time(60)
    return simulation


class TestFewWaits:
    def test_each_run_is_read_by_itself(self):
        simulation = Simulation(500)
        simulation.wait_for(*(simulation.run(number) for number in range(3)))
        simulation.pass_time(60)
        assert simulation.tallyfy.requests_by_kind() == {"FetchRun": 3 * 6}

    def test_a_run_that_five_tasks_wait_for_is_read_once(self):
        simulation = Simulation(1)
        for _ in range(5):
            simulation.wait_for(simulation.run(0))
        simulation.pass_time(60)
        assert simulation.tallyfy.count_requests() == 6
        assert all(len(wait.snapshots) == 6 for wait in simulation.waits)

    def test_polls_that_fall_due_close_together_are_one_request(self):
        simulation = Simulation(1)
        for _ in range(5):
            simulation.wait_for(simulation.run(0))
            simulation.pass_time(2)
        simulation.tallyfy.received.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.count_requests() == 6

    def test_each_wait_is_polled_at_its_own_interval(self):
        simulation = Simulation(2)
        quick = simulation.wait_for(simulation.run(0), poke_interval=5)
        slow = simulation.wait_for(simulation.run(1), poke_interval=20)
        simulation.pass_time(60)
        assert (len(quick.snapshots), len(slow.snapshots)) == (12, 3)

    def test_an_interval_of_zero_is_a_second(self):
        simulation = Simulation(1)
        simulation.wait_for(simulation.run(0), poke_interval=0)
        simulation.pass_time(10)
        assert simulation.tallyfy.count_requests() <= 11

    def test_exponential_backoff(self):
        simulation = Simulation(1)
        backing_off = simulation.wait_for(simulation.run(0), exponential_backoff=True, poke_interval=10)
        simulation.pass_time(1000)
        assert 4 <= len(backing_off.snapshots) <= 9

    def test_the_last_poll_comes_shortly_before_the_timeout(self):
        simulation = Simulation(1)
        wait = simulation.wait_for(simulation.run(0), poke_interval=3600)
        wait.last_poll_at = START + 95
        simulation.scheduler.remove(wait)
        simulation.scheduler.add(wait)
        simulation.pass_time(100)
        assert [at for at, _ in simulation.tallyfy.received] == pytest.approx([START, START + 95])


class TestManyWaits:
    def test_a_list_is_read_if_that_takes_fewer_requests(self):
        simulation = without_feed(1000)
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 1, "FetchRunPage": 10}
        assert all(len(wait.snapshots) == 1 for wait in simulation.waits)

    def test_no_list_is_read_if_that_takes_more_requests(self):
        simulation = Simulation(2000)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for(*(simulation.run(number) for number in range(10)))
        simulation.pass_time(60)
        assert simulation.tallyfy.count_requests(FetchRunPage) == 1  # to find out how many pages it has
        assert simulation.tallyfy.count_requests(FetchRun) == 10 * 6

    def test_a_list_is_read_only_to_the_last_page_that_saves_requests(self):
        simulation = Simulation(2000)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for(*(simulation.run(1999 - number) for number in range(60)))
        simulation.pass_time(SETTLED)
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 1, "FetchRunPage": 1}

    def test_runs_are_found_in_the_list_of_their_status(self):
        simulation = Simulation(1000)
        for run in simulation.tallyfy.runs.values():
            run.status = "delayed"
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for()
        simulation.pass_time(SETTLED)
        # The list of active runs is empty; to find out takes a request.
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 1, "FetchRunPage": 11}
        simulation.tallyfy.received.clear()
        simulation.pass_time(INTERVAL)
        assert simulation.tallyfy.requests_by_kind() == {"FetchRunPage": 10}

    def test_a_list_without_a_number_of_pages_is_left_if_it_shows_none_of_the_runs(self):
        simulation = Simulation(600)
        for run in simulation.tallyfy.runs.values():
            run.status = "issue"
        simulation.tallyfy.pages_are_counted = False
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for(*(simulation.run(number) for number in range(20)))
        simulation.pass_time(60)
        assert min(len(wait.snapshots) for wait in simulation.waits) >= 5
        assert simulation.tallyfy.count_requests(FetchRunPage) < 20

    def test_a_run_that_the_list_does_not_show_is_read_by_itself(self):
        simulation = without_feed(1000)
        done, archived = simulation.waits[3], simulation.waits[4]
        simulation.run(3).done = simulation.run(3).total
        simulation.run(4).archived = True
        simulation.pass_time(3 * INTERVAL + 1)
        assert isinstance(done.outcome, Met)
        assert isinstance(archived.outcome, Unreachable)

    def test_a_run_that_changed_in_the_list_is_read_by_itself(self):
        simulation = without_feed(1000)
        simulation.complete(simulation.run(3))
        simulation.tallyfy.received.clear()
        simulation.pass_time(INTERVAL + 1)
        assert isinstance(simulation.waits[3].outcome, Met)
        assert simulation.tallyfy.requests_by_kind() == {"FetchRunPage": 10, "FetchRun": 1}

    @pytest.mark.parametrize("shown", ["none", "other"])
    def test_a_list_with_wrong_next_tasks_ends_no_wait(self, shown):
        simulation = Simulation(100)
        simulation.tallyfy.list_next_task = shown
        simulation.wait_for()
        simulation.pass_time(120)
        assert all(wait.ended_at is None for wait in simulation.waits)

    def test_runs_without_next_task_in_the_list_are_read_by_themselves(self):
        simulation = Simulation(30)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.tallyfy.freeze_lists()
        for shown in simulation.tallyfy.lists.values():
            del shown["next_task"]
        simulation.wait_for()
        simulation.pass_time(SETTLED)
        simulation.complete(simulation.run(3))
        simulation.pass_time(INTERVAL + SETTLED)
        assert isinstance(simulation.waits[3].outcome, Met)
        assert not any(wait.errors for wait in simulation.waits)

    def test_a_run_is_read_by_itself_if_a_wait_needs_more_than_a_list_includes(self):
        simulation = Simulation(100)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for()
        wait = simulation.wait_for(simulation.run(5), with_=("tasks",))
        simulation.pass_time(SETTLED)
        assert [snapshot.is_from_list for snapshot in wait.snapshots] == [False]
        fetches = [request for _, request in simulation.tallyfy.received if isinstance(request, FetchRun)]
        assert [(request.run_id, request.with_) for request in fetches] == [("run5", ("next_task", "tasks"))]

    def test_a_page_that_fails_is_requested_again(self):
        simulation = Simulation(1000)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for()
        simulation.pass_time(0.3)
        unread = [wait for wait in simulation.waits if not wait.snapshots]
        assert 0 < len(unread) < 1000
        simulation.tallyfy.broken["FetchRunPage"] = UNAVAILABLE
        simulation.pass_time(0.5)
        del simulation.tallyfy.broken["FetchRunPage"]
        simulation.pass_time(SETTLED)
        assert all(wait.snapshots and not wait.errors for wait in simulation.waits)
        # One run is read by itself, to find out whether it is an outage.
        assert simulation.tallyfy.requests_by_kind() == {
            "FetchFeedPage": 1,
            "FetchRunPage": 11,
            "FetchRun": 1,
        }

    @pytest.mark.usefixtures("untraced")
    @pytest.mark.parametrize("error", [UNAVAILABLE, UNREADABLE, FORBIDDEN])
    def test_a_list_that_keeps_failing_is_disabled_for_a_while(self, error, caplog):
        simulation = Simulation(50)
        simulation.tallyfy.broken = {"FetchFeedPage": FORBIDDEN, "FetchRunPage": error}
        simulation.wait_for()
        simulation.pass_time(60)
        assert simulation.tallyfy.count_requests(FetchRunPage) == (1 if error is FORBIDDEN else 3)
        assert all(wait.snapshots for wait in simulation.waits)
        assert len([line for line in warnings(caplog) if "list of runs" in line]) == 1
        simulation.tallyfy.broken.clear()
        simulation.pass_time(MAX_DISABLED)
        simulation.tallyfy.received.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.count_requests() == 6


class TestVeryManyWaits:
    def test_a_poll_is_one_request_and_one_for_each_change(self):
        simulation = followed(1000)
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 1, "FetchRunPage": 10}
        simulation.tallyfy.received.clear()
        for number in range(20):
            simulation.pass_time(3)
            simulation.complete(simulation.run(number * 7))
        simulation.pass_time(INTERVAL)
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 7, "FetchRun": 20}
        assert sum(wait.ended_at is not None for wait in simulation.waits) == 20

    def test_five_times_as_many_waits_take_no_more_requests(self):
        simulation = followed(5000)
        simulation.pass_time(5)
        simulation.tallyfy.received.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 6}

    def test_a_change_is_seen_at_the_next_poll(self):
        simulation = followed(1000)
        simulation.pass_time(2.5)
        simulation.complete(simulation.run(500))
        simulation.pass_time(INTERVAL + 1)
        assert simulation.waits[500].ended_at - simulation.run(500).changed_at <= INTERVAL + 2 * LATENCY

    def test_every_run_is_polled_in_a_list_within_the_bound_whatever_the_feed_names(self):
        simulation = followed(1000)
        simulation.tallyfy.received.clear()
        simulation.pass_time(MAX_STALENESS)
        assert simulation.tallyfy.count_requests(FetchRunPage) == 10

    def test_every_run_is_read_by_itself_whatever_list_and_feed_show(self):
        simulation = followed(1000)
        simulation.tallyfy.received.clear()
        simulation.pass_time(MAX_STALENESS + 1000 * LATENCY * 2)
        read_alone = {
            request.run_id for _, request in simulation.tallyfy.received if isinstance(request, FetchRun)
        }
        assert len(read_alone) == 1000

    def test_a_change_that_the_feed_lacks_is_seen_within_the_bound(self):
        simulation = followed(1000)
        simulation.tallyfy.feed_is_incomplete = True
        simulation.complete(simulation.run(500))
        simulation.pass_time(MAX_STALENESS + 1)
        assert isinstance(simulation.waits[500].outcome, Met)

    def test_a_feed_that_is_late_stays_in_use(self, caplog):
        simulation = followed(1000)
        simulation.tallyfy.feed_delay = 30
        for number in range(20):
            simulation.complete(simulation.run(number))
            simulation.pass_time(20)
        simulation.pass_time(60)
        delays = [
            simulation.waits[number].ended_at - simulation.run(number).changed_at for number in range(20)
        ]
        assert max(delays) <= 30 + INTERVAL + 1
        assert warnings(caplog) == []

    def test_a_late_entry_counts_after_newer_ones_were_read(self):
        simulation = followed(1000)
        simulation.tallyfy.feed_delay = 15
        simulation.complete(simulation.run(1))
        simulation.tallyfy.feed_delay = 0
        simulation.comment(simulation.run(2))
        simulation.pass_time(30)
        assert simulation.waits[1].ended_at is not None

    @pytest.mark.usefixtures("untraced")
    @pytest.mark.parametrize("error", [FORBIDDEN, UNREADABLE, UNAVAILABLE])
    def test_a_feed_that_fails_is_disabled_and_the_list_read_instead(self, error, caplog):
        simulation = Simulation(400)
        simulation.tallyfy.broken["FetchFeedPage"] = error
        simulation.wait_for()
        simulation.pass_time(60)
        assert len(warnings(caplog)) == 1
        assert "waits do without it" in warnings(caplog)[0]
        assert simulation.tallyfy.count_requests(FetchFeedPage) == (1 if error is FORBIDDEN else 3)
        assert 24 <= simulation.tallyfy.count_requests(FetchRunPage) <= 28
        simulation.tallyfy.broken.clear()
        simulation.pass_time(MAX_DISABLED)
        simulation.tallyfy.received.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.count_requests(FetchRunPage) == 0

    def test_a_long_feed_is_read_to_the_last_known_entry(self):
        simulation = followed(1000)
        simulation.complete(simulation.run(500))
        for _ in range(250):
            simulation.tallyfy.publish("elsewhere", simulation.now)
        simulation.tallyfy.received.clear()
        simulation.pass_time(INTERVAL)
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 3, "FetchRun": 1}
        assert simulation.waits[500].ended_at is not None

    def test_every_run_is_polled_if_the_feed_is_too_long(self, caplog):
        simulation = followed(1000)
        simulation.complete(simulation.run(500))
        for _ in range(5):
            for _ in range(700):
                simulation.tallyfy.publish("elsewhere", simulation.now)
            simulation.pass_time(INTERVAL)
        assert simulation.waits[500].ended_at - simulation.run(500).changed_at < 2 * INTERVAL
        assert len(warnings(caplog)) == 1  # it is disabled

    def test_a_run_that_the_feed_names_is_read_twice_if_nothing_changed(self):
        """The entry may be visible before the change."""
        simulation = followed(1000)
        simulation.comment(simulation.run(500))
        simulation.tallyfy.received.clear()
        simulation.pass_time(10 * INTERVAL)
        assert simulation.tallyfy.count_requests(FetchRun) == 2

    def test_a_short_list_is_read_instead_of_the_feed(self):
        simulation = Simulation(200)
        simulation.wait_for()
        simulation.pass_time(SETTLED)
        simulation.tallyfy.received.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.requests_by_kind() == {"FetchRunPage": 12}

    def test_the_feed_is_followed_for_runs_that_no_list_serves(self):
        simulation = Simulation(200)
        simulation.wait_for(*map(simulation.run, range(10)))
        simulation.wait_for(*map(simulation.run, range(10, 110)), with_=("next_task", "tasks"))
        simulation.pass_time(2 * SETTLED)
        simulation.tallyfy.received.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 6}

    def test_a_run_that_a_worker_just_polled_is_read_only_when_the_feed_names_it(self):
        simulation = followed(1000)
        simulation.pass_time(120)
        runs = [simulation.launch() for _ in range(50)]
        simulation.tallyfy.received.clear()
        waits = simulation.wait_for(*runs, worker_polled_at=simulation.now - 1)
        simulation.pass_time(60)
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 6}
        simulation.complete(runs[7])
        simulation.pass_time(INTERVAL + 1)
        assert waits[7].ended_at is not None

    def test_a_change_between_the_worker_s_poll_and_the_wait_is_seen(self):
        simulation = followed(1000)
        simulation.pass_time(120)
        run = simulation.run(500)
        baseline, worker_polled_at = run.next_id, simulation.now - 1
        simulation.complete(run)
        simulation.pass_time(INTERVAL + 1)  # the feed has named it by now
        wait = simulation.wait_for(run, worker_polled_at=worker_polled_at)
        wait.baseline = baseline
        simulation.pass_time(1)
        assert wait.ended_at is not None

    def test_a_change_that_the_feed_names_before_the_first_poll_is_seen_at_that_poll(self):
        """Even if the run is read for another wait before."""
        simulation = followed(1000)
        simulation.pass_time(120)
        run = simulation.run(500)
        wait = simulation.wait_for(run, worker_polled_at=simulation.now)
        simulation.complete(run)
        simulation.pass_time(INTERVAL + 1)
        assert simulation.waits[500].ended_at < wait.begins_at
        assert wait.ended_at is not None

    def test_a_wait_with_a_shorter_interval_makes_the_feed_be_polled_sooner(self):
        simulation = Simulation(1000)
        simulation.wait_for(poke_interval=200)
        simulation.pass_time(270)
        run = simulation.launch()
        wait = simulation.wait_for(run, worker_polled_at=simulation.now)
        simulation.complete(run)
        simulation.pass_time(INTERVAL + 1)
        assert wait.ended_at is not None

    def test_a_wait_with_the_same_interval_does_not(self):
        simulation = followed(1000)
        simulation.pass_time(70)
        simulation.tallyfy.received.clear()
        for _ in range(30):
            simulation.wait_for(simulation.launch(), worker_polled_at=simulation.now)
            simulation.pass_time(1)
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 3}

    def test_a_change_before_the_poll_of_a_worker_whose_clock_is_ahead_is_seen(self):
        simulation = followed(1000)
        simulation.pass_time(120)
        run = simulation.run(500)
        baseline = run.next_id
        simulation.complete(run)
        simulation.pass_time(30)
        wait = simulation.wait_for(run, worker_polled_at=simulation.now - 1)
        wait.baseline = baseline
        simulation.pass_time(INTERVAL + 1)
        assert wait.ended_at is not None

    def test_the_feed_is_followed_for_fewer_runs_if_the_list_is_disabled(self):
        simulation = Simulation(200)
        simulation.wait_for()
        simulation.pass_time(SETTLED)
        simulation.tallyfy.broken["FetchRunPage"] = FORBIDDEN
        simulation.pass_time(60)
        simulation.tallyfy.received.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 6}

    def test_the_feed_is_not_followed_if_all_intervals_are_long(self):
        simulation = Simulation(1000)
        simulation.wait_for(poke_interval=2 * MAX_STALENESS)
        simulation.pass_time(3600)
        assert simulation.tallyfy.count_requests(FetchFeedPage) == 0

    def test_a_run_that_a_worker_polled_long_ago_is_read(self):
        simulation = followed(1000)
        simulation.pass_time(120)
        simulation.tallyfy.received.clear()
        simulation.wait_for(simulation.launch(), worker_polled_at=simulation.now - 86400)
        simulation.pass_time(1)
        assert simulation.tallyfy.count_requests(FetchRun) == 1


class TestSlowTallyfy:
    """Requests may take longer than until they are due again; then they take turns."""

    def test_a_list_is_read_to_its_end_although_other_runs_keep_falling_due(self):
        simulation = Simulation(400, latency=3)
        quick = [simulation.launch(checklist_id="quick", status="problem") for _ in range(3)]
        simulation.wait_for(*quick, poke_interval=1)
        simulation.pass_time(30)
        simulation.wait_for(*list(simulation.tallyfy.runs.values())[:400])
        simulation.pass_time(120)
        assert all(wait.snapshots for wait in simulation.waits)

    def test_a_run_that_changed_is_read_although_the_list_is_always_due(self):
        simulation = with_a_slow_list()
        changed = [simulation.run(number) for number in range(0, 60, 10)]
        for run in changed:
            simulation.complete(run)
        simulation.pass_time(100)
        assert [wait.run_id for wait in simulation.waits if wait.ended_at] == [run.id for run in changed]

    @pytest.mark.parametrize("options", [{"with_": ("tasks",)}, {}])
    def test_so_is_a_run_that_is_in_no_list(self, options):
        simulation = with_a_slow_list()
        of_another_status = [simulation.launch(status="problem") for _ in range(5)]
        waits = simulation.wait_for(*of_another_status, **options)
        simulation.pass_time(300)
        assert min(len(wait.snapshots) for wait in waits) > 3

    def test_every_run_is_read_if_there_is_time_for_half_of_them(self):
        simulation = Simulation(100, latency=0.2)
        simulation.tallyfy.broken = {"FetchFeedPage": FORBIDDEN, "FetchRunPage": FORBIDDEN}
        simulation.wait_for()
        simulation.pass_time(200)
        assert min(len(wait.snapshots) for wait in simulation.waits) >= 5

    def test_the_feed_is_polled_although_it_names_more_runs_than_can_be_read(self):
        simulation = followed(1000)
        simulation.latency = 2
        for _ in range(60):
            for number in range(8):
                simulation.comment(simulation.run(number))
            simulation.pass_time(1)
        assert simulation.tallyfy.count_requests(FetchFeedPage, since=START + SETTLED) >= 5
        assert simulation.tallyfy.count_requests(FetchRun, since=START + SETTLED) >= 5


class TestOutages:
    @pytest.mark.parametrize("error", [DOWN, UNAVAILABLE, too_many()])
    @pytest.mark.parametrize("runs", [1, 1000])
    def test_they_end_no_wait_and_take_few_requests(self, error, runs):
        simulation = Simulation(runs)
        simulation.wait_for()
        simulation.pass_time(SETTLED)
        simulation.tallyfy.broken["all"] = error
        simulation.tallyfy.received.clear()
        simulation.pass_time(600)
        assert simulation.tallyfy.count_requests() < 100
        assert all(wait.ended_at is None and wait.errors for wait in simulation.waits)
        simulation.complete(simulation.run(0))
        del simulation.tallyfy.broken["all"]
        simulation.pass_time(30 + INTERVAL + SETTLED)
        assert simulation.waits[0].ended_at is not None

    @pytest.mark.usefixtures("untraced")
    @pytest.mark.parametrize("error", [DOWN, UNAVAILABLE, UNREADABLE, too_many()])
    def test_they_disable_neither_list_nor_feed(self, error, caplog):
        simulation = followed(1000)
        for _ in range(3):
            simulation.tallyfy.broken["all"] = error
            simulation.pass_time(MAX_STALENESS)
            simulation.tallyfy.broken.clear()
            simulation.pass_time(MAX_STALENESS)
        assert warnings(caplog) == []

    @pytest.mark.usefixtures("untraced")
    @pytest.mark.parametrize("kind", ["FetchRunPage", "FetchFeedPage"])
    @pytest.mark.parametrize("error", [DOWN, UNAVAILABLE, UNREADABLE, too_many(1)])
    def test_an_endpoint_that_fails_alone_is_disabled_whatever_the_error(self, error, kind, caplog):
        simulation = followed(400)
        simulation.tallyfy.broken[kind] = error
        simulation.pass_time(MAX_STALENESS + 60)
        assert 1 <= len(warnings(caplog)) <= 2
        simulation.complete(simulation.run(7))
        simulation.pass_time(40)
        assert simulation.waits[7].ended_at is not None

    def test_all_pause_for_retry_after(self):
        simulation = Simulation(3)
        simulation.wait_for()
        simulation.tallyfy.broken["all"] = too_many(120)
        simulation.pass_time(1)
        simulation.tallyfy.broken.clear()
        simulation.pass_time(118)
        assert simulation.tallyfy.count_requests() == 1
        assert all(len(wait.errors) == 1 for wait in simulation.waits)
        simulation.pass_time(5)
        assert all(len(wait.snapshots) == 1 for wait in simulation.waits)

    def test_one_run_that_fails_delays_no_other(self):
        simulation = Simulation(3)
        simulation.tallyfy.broken_runs["run1"] = UNAVAILABLE
        simulation.wait_for()
        simulation.pass_time(60)
        assert all(len(simulation.waits[number].snapshots) >= 6 for number in (0, 2))
        assert simulation.waits[1].ended_at is None
        assert 3 <= len(simulation.waits[1].errors) <= 12

    def test_the_list_is_disabled_although_one_run_fails_too(self):
        simulation = Simulation(100)
        simulation.tallyfy.broken_runs["run0"] = UNAVAILABLE
        simulation.tallyfy.broken |= {"FetchFeedPage": FORBIDDEN, "FetchRunPage": UNAVAILABLE}
        simulation.wait_for()
        simulation.pass_time(60)
        assert all(wait.snapshots for wait in simulation.waits[1:])

    @pytest.mark.usefixtures("untraced")
    def test_a_run_that_fails_is_read_again_when_the_feed_names_it(self):
        simulation = followed(1000)
        simulation.tallyfy.broken_runs["run7"] = UNAVAILABLE
        simulation.comment(simulation.run(7))
        simulation.pass_time(1800)
        del simulation.tallyfy.broken_runs["run7"]
        simulation.pass_time(1)
        simulation.complete(simulation.run(7))
        simulation.pass_time(INTERVAL + 1)
        assert isinstance(simulation.waits[7].outcome, Met)

    def test_and_when_another_wait_for_it_comes(self):
        simulation = Simulation(3)
        simulation.tallyfy.broken_runs["run1"] = UNAVAILABLE
        simulation.wait_for()
        simulation.pass_time(3600)
        del simulation.tallyfy.broken_runs["run1"]
        wait = simulation.wait_for(simulation.run(1))
        simulation.pass_time(1)
        assert wait.snapshots

    def test_but_not_before_retry_after(self):
        simulation = Simulation(3)
        simulation.tallyfy.broken_runs["run1"] = unavailable_for(600)
        simulation.wait_for()
        simulation.pass_time(60)
        del simulation.tallyfy.broken_runs["run1"]
        wait = simulation.wait_for(simulation.run(1))
        simulation.pass_time(530)
        assert not wait.snapshots
        simulation.pass_time(30)
        assert wait.snapshots

    def test_nor_does_the_only_run_that_keeps_failing_with_it(self):
        simulation = Simulation(1)
        simulation.tallyfy.broken_runs["run0"] = unavailable_for(600)
        simulation.wait_for()
        simulation.pass_time(3600)
        times = [at for at, _ in simulation.tallyfy.received]
        assert len(times) > 3
        assert min(later - earlier for earlier, later in pairwise(times)) >= 600

    def test_a_wait_that_begins_while_all_others_fail_is_polled_soon(self):
        simulation = Simulation(20)
        simulation.tallyfy.broken_runs = dict.fromkeys(simulation.tallyfy.runs, UNAVAILABLE)
        simulation.tallyfy.broken = {"FetchFeedPage": FORBIDDEN, "FetchRunPage": FORBIDDEN}
        simulation.wait_for()
        for _ in range(10):
            simulation.pass_time(600)
            wait = simulation.wait_for(simulation.launch())
            simulation.pass_time(5 * INTERVAL)
            assert wait.snapshots
            simulation.scheduler.remove(wait)

    def test_runs_that_fail_one_after_the_other_are_no_outage(self):
        simulation = Simulation(4)
        simulation.wait_for()
        for number in (1, 2, 3):
            simulation.tallyfy.broken_runs = {f"run{number}": UNAVAILABLE}
            simulation.pass_time(INTERVAL)
        assert simulation.waits[0].errors == []

    def test_an_endpoint_that_works_in_between_is_not_disabled(self, caplog):
        simulation = without_feed(1000)
        for _ in range(4):
            simulation.tallyfy.broken["FetchRunPage"] = UNAVAILABLE
            simulation.pass_time(INTERVAL)
            del simulation.tallyfy.broken["FetchRunPage"]
            simulation.pass_time(2 * INTERVAL)
        assert simulation.tallyfy.count_requests(FetchRunPage, since=simulation.now - 2 * INTERVAL) >= 10

    def test_the_pauses_start_over_at_the_next_outage(self):
        simulation = Simulation(1)
        wait = simulation.wait_for(poke_interval=300)
        simulation.tallyfy.broken["all"] = DOWN
        simulation.pass_time(1000)
        simulation.tallyfy.broken.clear()
        while not wait.snapshots:
            simulation.pass_time(10)
        simulation.tallyfy.broken["all"] = DOWN
        simulation.tallyfy.received.clear()
        simulation.pass_time(300 + 10)
        assert simulation.tallyfy.count_requests() >= 3

    def test_a_refused_token_ends_all_waits(self):
        simulation = Simulation(3)
        simulation.tallyfy.broken["all"] = UNAUTHENTICATED
        simulation.wait_for()
        simulation.pass_time(3 * DENIED_AFTER_SECONDS)
        assert all(isinstance(wait.outcome, Denied) for wait in simulation.waits)
        assert not simulation.scheduler

    @pytest.mark.parametrize("kind", ["FetchRunPage", "FetchFeedPage"])
    def test_a_token_that_only_list_or_feed_refuse_ends_no_wait(self, kind, caplog):
        simulation = Simulation(1000)
        simulation.tallyfy.broken[kind] = UNAUTHENTICATED
        simulation.wait_for()
        simulation.pass_time(120)
        assert all(wait.ended_at is None and wait.snapshots for wait in simulation.waits)
        assert len(warnings(caplog)) == 1

    def test_a_token_that_is_refused_later_ends_all_waits(self):
        simulation = followed(1000)
        simulation.tallyfy.broken["all"] = UNAUTHENTICATED
        simulation.pass_time(INTERVAL + 4 * DENIED_AFTER_SECONDS)
        assert all(isinstance(wait.outcome, Denied) for wait in simulation.waits)

    def test_a_refusal_of_one_run_ends_only_its_waits(self):
        simulation = Simulation(3)
        simulation.tallyfy.broken_runs["run1"] = FORBIDDEN
        simulation.wait_for()
        simulation.pass_time(4 * DENIED_AFTER_SECONDS)
        assert [wait.ended_at is None for wait in simulation.waits] == [True, False, True]


class TestStart:
    def begin_one_after_the_other(self, simulation, number, *, every):
        for run in list(simulation.tallyfy.runs.values())[:number]:
            wait = simulation.wait_for(run)
            simulation.scheduler.remove(wait)
            wait.begins_at = wait.due_at = simulation.now + 0.5  # as the watcher does
            simulation.scheduler.add(wait)
            simulation.pass_time(every)

    def test_waits_that_begin_in_quick_succession_are_polled_together(self):
        simulation = Simulation(2000)
        self.begin_one_after_the_other(simulation, 1000, every=0.003)
        simulation.pass_time(SETTLED)
        assert simulation.tallyfy.requests_by_kind() == {"FetchFeedPage": 1, "FetchRunPage": 20}

    def test_the_first_poll_is_delayed_by_some_seconds_at_most(self):
        simulation = Simulation(2000)
        self.begin_one_after_the_other(simulation, 100, every=0.3)
        assert simulation.tallyfy.received[0][0] - START <= 5.5 + LATENCY

    def test_a_wait_that_begins_much_later_delays_no_other(self):
        simulation = Simulation(2)
        first = simulation.wait_for(simulation.run(0))
        simulation.wait_for(simulation.run(1), worker_polled_at=simulation.now)
        simulation.pass_time(1)
        assert len(first.snapshots) == 1


class TestAddAndRemove:
    def test_a_wait_gets_no_response_to_an_earlier_request(self):
        simulation = Simulation(1)
        simulation.wait_for(simulation.run(0))
        request = simulation.scheduler.next_request(simulation.now)
        sent_at, simulation.now = simulation.now, simulation.now + LATENCY
        late = simulation.wait_for(simulation.run(0))
        response = simulation.tallyfy.respond(request, sent_at)
        deliveries = simulation.scheduler.handle_response(request, response, sent_at, simulation.now)
        assert [wait for wait, _ in deliveries] == [simulation.waits[0]]
        simulation.pass_time(1)
        assert len(late.snapshots) == 1

    def test_a_wait_that_is_removed_during_a_poll_gets_nothing(self):
        simulation = Simulation(1000)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        waits = simulation.wait_for()
        simulation.pass_time(0.3)  # within the list
        request = simulation.scheduler.next_request(simulation.now)
        for wait in waits:
            simulation.scheduler.remove(wait)
            simulation.scheduler.remove(wait)
        response = simulation.tallyfy.respond(request, simulation.now)
        assert (
            simulation.scheduler.handle_response(request, response, simulation.now, simulation.now + 1) == []
        )
        assert not simulation.scheduler
        assert simulation.scheduler.next_request(simulation.now) == float("inf")

    def test_a_run_whose_last_wait_is_removed_during_a_sweep_is_not_read(self):
        simulation = Simulation(1000)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for()
        simulation.pass_time(0.3)  # within the list
        for wait in simulation.waits[:5]:
            simulation.scheduler.remove(wait)
            del simulation.tallyfy.runs[wait.run_id]
        simulation.pass_time(INTERVAL)
        assert simulation.tallyfy.count_requests(FetchRun) == 0
        assert all(wait.snapshots for wait in simulation.waits[5:])

    def test_one_of_two_waits_is_removed(self):
        simulation = Simulation(1)
        first, second = simulation.wait_for(simulation.run(0)), simulation.wait_for(simulation.run(0))
        simulation.pass_time(1)
        simulation.scheduler.remove(first)
        simulation.pass_time(20)
        assert (len(first.snapshots), len(second.snapshots)) == (1, 3)

    def test_adding_a_wait_does_not_go_through_the_others_of_its_run(self, monkeypatch):
        computed = []
        due = PollScheduler._wait_due_at
        monkeypatch.setattr(
            PollScheduler, "_wait_due_at", lambda *arguments: computed.append(1) or due(*arguments)
        )
        simulation = Simulation(1)
        waits = [simulation.wait_for(simulation.run(0)) for _ in range(300)]
        for wait in waits:
            simulation.scheduler.request_fresh_read(wait, simulation.now)
        assert len(computed) <= 2 * 300

    def test_all_runs_are_read_again_after_forget(self):
        simulation = followed(1000)
        simulation.tallyfy.feed_is_incomplete = True
        simulation.complete(simulation.run(500))
        simulation.scheduler.forget()
        simulation.pass_time(INTERVAL + SETTLED)
        assert simulation.waits[500].ended_at is not None


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class TestIsolation:
    """One bad thing delays nothing else."""

    def test_three_runs_that_fail_delay_no_other(self):
        simulation = Simulation(23)
        simulation.tallyfy.broken = {"FetchFeedPage": FORBIDDEN, "FetchRunPage": FORBIDDEN}
        for number in range(3):
            simulation.tallyfy.broken_runs[f"run{number}"] = UNAVAILABLE
        simulation.wait_for(poke_interval=300)
        simulation.pass_time(60)
        for number in range(3, 23):
            simulation.complete(simulation.run(number))
        simulation.pass_time(310)
        assert [wait.ended_at is not None for wait in simulation.waits] == [False] * 3 + [True] * 20

    @pytest.mark.parametrize("kind", ["FetchFeedPage", "FetchRunPage"])
    @pytest.mark.parametrize("error", [unavailable_for(900), too_many(900)])
    def test_the_pause_of_an_optional_endpoint_is_its_own(self, kind, error):
        simulation = followed(400)
        simulation.tallyfy.broken[kind] = error
        for number in range(0, 400, 10):
            simulation.complete(simulation.run(number))
            simulation.pass_time(INTERVAL)
        simulation.pass_time(4 * INTERVAL)
        ended = [wait for wait in simulation.waits if wait.ended_at is not None]
        assert len(ended) == 40
        assert max(wait.ended_at - simulation.tallyfy.runs[wait.run_id].changed_at for wait in ended) < 60

    def test_a_feed_in_which_entries_arrive_between_pages_stays_in_use(self, caplog):
        simulation = followed(1000)
        simulation.tallyfy.entries_per_request = 42  # 250 a minute, at 10 s
        for _ in range(30):
            simulation.pass_time(INTERVAL)
        simulation.complete(simulation.run(7))
        simulation.pass_time(INTERVAL + 1)
        assert simulation.waits[7].ended_at is not None
        assert warnings(caplog) == []

    def test_the_feed_is_polled_at_the_current_interval_of_the_waits(self):
        simulation = Simulation(4)
        simulation.tallyfy.broken["FetchRunPage"] = FORBIDDEN
        simulation.wait_for(poke_interval=5, exponential_backoff=True, max_wait=3600)
        simulation.pass_time(3600)
        simulation.tallyfy.received.clear()
        simulation.pass_time(3600)
        assert simulation.tallyfy.count_requests() <= 120

    def test_lists_that_lag_for_ever_hide_no_change(self):
        simulation = Simulation(60)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.tallyfy.freeze_lists()
        simulation.wait_for()
        simulation.pass_time(60)
        for run in list(simulation.tallyfy.runs.values()):
            simulation.complete(run)
        simulation.pass_time(MAX_STALENESS + INTERVAL)
        assert all(wait.ended_at is not None for wait in simulation.waits)

    def test_a_run_that_fails_is_polled_once_more_before_its_wait_ends(self):
        simulation = Simulation(2)
        simulation.tallyfy.broken_runs["run0"] = UNAVAILABLE
        wait, _ = simulation.wait_for(poke_interval=60)
        wait.last_poll_at = simulation.now + 4000
        simulation.pass_time(4200)
        times = [at for at, request in simulation.tallyfy.received if request.run_id == "run0"]
        assert any(wait.last_poll_at <= at < wait.last_poll_at + 1 for at in times)
        assert max(later - earlier for earlier, later in pairwise(times)) > 2 * 60


@pytest.mark.usefixtures("untraced")
class TestBudget:
    @pytest.mark.parametrize("runs", [3, 60, 1000])
    @pytest.mark.parametrize("broken", [{}, {"FetchFeedPage": FORBIDDEN}])
    def test_no_hour_has_more_requests_than_the_budget(self, runs, broken):
        simulation = Simulation(runs, requests_per_hour=500)
        simulation.tallyfy.broken = dict(broken)
        simulation.wait_for(poke_interval=5)
        for _ in range(20):
            simulation.complete(simulation.run(0))
            simulation.pass_time(400)
        times = [at for at, requests in simulation.spent for _ in range(requests)]
        busiest = max(sum(start <= at < start + 3600 for at in times) for start in times[::50])
        assert busiest <= 500
        assert simulation.scheduler.delayed > 0

    @pytest.mark.parametrize("feed", [True, False])
    def test_a_thousand_completions_within_minutes_are_seen_about_as_fast_as_the_limit_allows(self, feed):
        simulation = Simulation(1000, requests_per_hour=DEFAULT_REQUESTS_PER_HOUR)
        if not feed:
            simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for(poke_interval=60)
        simulation.pass_time(3600)
        for run in simulation.tallyfy.runs.values():
            simulation.complete(run)
            simulation.pass_time(0.3)
        simulation.pass_time(100 * 60)
        latencies = [
            wait.ended_at - simulation.tallyfy.runs[wait.run_id].changed_at for wait in simulation.waits
        ]
        assert median(latencies) < 50 * 60
        assert max(latencies) < 100 * 60

    def test_a_few_waits_at_the_default_interval_are_not_delayed(self):
        simulation = Simulation(3, requests_per_hour=500)
        simulation.wait_for(poke_interval=60)
        simulation.pass_time(7200)
        assert simulation.scheduler.delayed == 0

    def test_each_run_is_read_by_itself_though_the_budget_is_used_up(self):
        simulation = Simulation(60, requests_per_hour=500)
        simulation.wait_for(poke_interval=5)
        simulation.pass_time(3600)
        read = {request.run_id for _, request in simulation.tallyfy.received if isinstance(request, FetchRun)}
        assert len(read) == 60

    def test_the_last_requests_of_a_minute_are_left_to_others(self):
        simulation = Simulation(1)
        simulation.wait_for(poke_interval=1)
        for _ in range(60):
            simulation.scheduler.budget.heed_remaining(3, simulation.now)
            simulation.pass_time(1)
        assert simulation.tallyfy.count_requests() <= 12

    def test_a_ceiling_after_none_begins_with_a_burst(self):
        simulation = Simulation(100)
        simulation.wait_for(poke_interval=10)
        simulation.scheduler.budget.set_limit(500)
        simulation.pass_time(60)
        simulation.scheduler.budget.set_limit(0)
        simulation.pass_time(7200)
        assert simulation.tallyfy.count_requests() > 1000
        simulation.scheduler.budget.set_limit(500)
        set_at = simulation.now
        simulation.pass_time(30)
        assert simulation.tallyfy.count_requests(since=set_at) >= 3

    def test_runs_that_fail_do_not_use_up_what_the_others_need(self):
        simulation = Simulation(110, requests_per_hour=500)
        for number in range(100, 110):
            simulation.tallyfy.broken_runs[f"run{number}"] = UNAVAILABLE
        simulation.wait_for(poke_interval=60)
        simulation.pass_time(3600)
        delays = []
        for number in range(30):
            completed_at = simulation.now
            simulation.complete(simulation.run(number))
            simulation.pass_time(MAX_STALENESS)
            ended_at = simulation.waits[number].ended_at
            delays.append((simulation.now if ended_at is None else ended_at) - completed_at)
        assert median(delays) < 100
        assert max(delays) < MAX_STALENESS

    def test_each_run_is_read_by_itself_in_time_while_the_budget_is_ample(self):
        simulation = Simulation(30, requests_per_hour=2000)
        simulation.tallyfy.feed_is_incomplete = True
        simulation.wait_for(poke_interval=60)
        simulation.pass_time(10)
        simulation.tallyfy.freeze_lists()
        assert simulation.scheduler.budget.is_ample(simulation.now)
        began_at = simulation.now
        for run in list(simulation.tallyfy.runs.values()):
            simulation.complete(run)
        simulation.pass_time(MAX_STALENESS + 60)
        assert all(wait.ended_at is not None for wait in simulation.waits)
        assert max(wait.ended_at for wait in simulation.waits) < began_at + MAX_STALENESS + 10
