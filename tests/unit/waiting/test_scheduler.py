"""What the plan asks for, on a Tallyfy of plain values and a clock of its own."""

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

from .simulation import (
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
    """A simulation with so many waits that the feed is followed, and all of them looked at once."""
    simulation = Simulation(runs, **options)
    simulation.wait_for()
    simulation.pass_time(SETTLED)
    return simulation


def without_feed(runs=1000):
    """The same where the person behind the token may not see the feed."""
    simulation = Simulation(runs)
    simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
    simulation.wait_for()
    simulation.pass_time(SETTLED)
    return simulation


def always_in_the_list():
    """The same where reading the list takes longer than the time in which all of it is due again."""
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
        assert simulation.tallyfy.kinds() == {"FetchRun": 3 * 6}

    def test_a_run_that_five_tasks_wait_for_is_read_once(self):
        simulation = Simulation(1)
        for _ in range(5):
            simulation.wait_for(simulation.run(0))
        simulation.pass_time(60)
        assert simulation.tallyfy.requests() == 6
        assert all(len(wait.sights) == 6 for wait in simulation.waits)

    def test_looks_that_fall_due_close_together_are_made_together(self):
        simulation = Simulation(1)
        for _ in range(5):
            simulation.wait_for(simulation.run(0))
            simulation.pass_time(2)
        simulation.tallyfy.asked.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.requests() == 6

    def test_each_wait_is_looked_for_at_its_own_pace(self):
        simulation = Simulation(2)
        quick = simulation.wait_for(simulation.run(0), poke_interval=5)
        slow = simulation.wait_for(simulation.run(1), poke_interval=20)
        simulation.pass_time(60)
        assert (len(quick.sights), len(slow.sights)) == (12, 3)

    def test_a_pace_of_zero_is_a_second(self):
        simulation = Simulation(1)
        simulation.wait_for(simulation.run(0), poke_interval=0)
        simulation.pass_time(10)
        assert simulation.tallyfy.requests() <= 11

    def test_exponential_backoff_is_the_wait_s_own(self):
        simulation = Simulation(1)
        backing_off = simulation.wait_for(simulation.run(0), exponential_backoff=True, poke_interval=10)
        simulation.pass_time(1000)
        assert 4 <= len(backing_off.sights) <= 9

    def test_a_look_is_made_shortly_before_the_end(self):
        simulation = Simulation(1)
        wait = simulation.wait_for(simulation.run(0), poke_interval=3600)
        wait.last_poll_at = START + 95
        simulation.scheduler.remove(wait)
        simulation.scheduler.add(wait)
        simulation.pass_time(100)
        assert [at for at, _ in simulation.tallyfy.asked] == pytest.approx([START, START + 95])


class TestManyWaits:
    def test_they_are_found_in_the_list_when_that_takes_fewer_requests(self):
        simulation = without_feed(1000)
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 1, "FetchRunPage": 10}
        assert all(len(wait.sights) == 1 for wait in simulation.waits)

    def test_the_list_is_not_walked_where_it_takes_more(self):
        simulation = Simulation(2000)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for(*(simulation.run(number) for number in range(10)))
        simulation.pass_time(60)
        assert simulation.tallyfy.requests(FetchRunPage) == 1  # to learn how long it is
        assert simulation.tallyfy.requests(FetchRun) == 10 * 6

    def test_the_list_is_walked_no_farther_than_it_pays(self):
        simulation = Simulation(2000)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for(*(simulation.run(1999 - number) for number in range(60)))
        simulation.pass_time(SETTLED)
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 1, "FetchRunPage": 1}

    def test_runs_are_looked_for_in_the_list_of_their_status(self):
        simulation = Simulation(1000)
        for run in simulation.tallyfy.runs.values():
            run.status = "delayed"
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for()
        simulation.pass_time(SETTLED)
        # The list of active runs is empty, which takes a request to know.
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 1, "FetchRunPage": 11}
        simulation.tallyfy.asked.clear()
        simulation.pass_time(INTERVAL)
        assert simulation.tallyfy.kinds() == {"FetchRunPage": 10}

    def test_a_list_that_does_not_say_how_long_it_is_is_left_for_good(self):
        simulation = Simulation(600)
        for run in simulation.tallyfy.runs.values():
            run.status = "issue"
        simulation.tallyfy.pages_are_counted = False
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for(*(simulation.run(number) for number in range(20)))
        simulation.pass_time(60)
        assert min(len(wait.sights) for wait in simulation.waits) >= 5
        assert simulation.tallyfy.requests(FetchRunPage) < 20

    def test_what_the_list_does_not_show_is_read_by_itself(self):
        simulation = without_feed(1000)
        done, archived = simulation.waits[3], simulation.waits[4]
        simulation.run(3).done = simulation.run(3).total
        simulation.run(4).archived = True
        simulation.pass_time(3 * INTERVAL + 1)
        assert isinstance(done.outcome, Met)
        assert isinstance(archived.outcome, Unreachable)

    def test_what_looks_new_in_the_list_is_read_by_itself(self):
        simulation = without_feed(1000)
        simulation.complete(simulation.run(3))
        simulation.tallyfy.asked.clear()
        simulation.pass_time(INTERVAL + 1)
        assert isinstance(simulation.waits[3].outcome, Met)
        assert simulation.tallyfy.kinds() == {"FetchRunPage": 10, "FetchRun": 1}

    def test_a_list_that_lacks_next_tasks_wakes_nobody(self):
        simulation = Simulation(100)
        simulation.tallyfy.list_lacks_next_task = True
        simulation.wait_for()
        simulation.pass_time(120)
        assert all(wait.over_at is None for wait in simulation.waits)

    def test_runs_are_read_by_themselves_while_the_list_does_not_say_which_task_is_next(self):
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
        assert not any(wait.blanks for wait in simulation.waits)

    def test_a_wait_that_needs_more_than_a_list_shows_has_its_run_read_by_itself(self):
        simulation = Simulation(100)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for()
        wait = simulation.wait_for(simulation.run(5), with_=("tasks",))
        simulation.pass_time(SETTLED)
        assert [sight.is_from_list for sight in wait.sights] == [False]
        asked = [question for _, question in simulation.tallyfy.asked if isinstance(question, FetchRun)]
        assert [(question.run_id, question.with_) for question in asked] == [("run5", ("next_task", "tasks"))]

    def test_a_page_that_fails_halfway_is_asked_for_again(self):
        simulation = Simulation(1000)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for()
        simulation.pass_time(0.3)
        unread = [wait for wait in simulation.waits if not wait.sights]
        assert 0 < len(unread) < 1000
        simulation.tallyfy.broken["FetchRunPage"] = UNAVAILABLE
        simulation.pass_time(0.5)
        del simulation.tallyfy.broken["FetchRunPage"]
        simulation.pass_time(SETTLED)
        assert all(wait.sights and not wait.blanks for wait in simulation.waits)
        # One run is read by itself, to find out whether everything fails.
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 1, "FetchRunPage": 11, "FetchRun": 1}

    @pytest.mark.parametrize("error", [UNAVAILABLE, UNREADABLE, FORBIDDEN])
    def test_a_list_that_keeps_failing_is_given_up_for_a_while(self, error, caplog):
        simulation = Simulation(50)
        simulation.tallyfy.broken = {"FetchFeedPage": FORBIDDEN, "FetchRunPage": error}
        simulation.wait_for()
        simulation.pass_time(60)
        assert simulation.tallyfy.requests(FetchRunPage) == (1 if error is FORBIDDEN else 3)
        assert all(wait.sights for wait in simulation.waits)
        assert len([line for line in warnings(caplog) if "list of runs" in line]) == 1
        simulation.tallyfy.broken.clear()
        simulation.pass_time(MAX_DISABLED)
        simulation.tallyfy.asked.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.requests() == 6


class TestVeryManyWaits:
    def test_a_look_is_one_request_and_one_for_each_change(self):
        simulation = followed(1000)
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 1, "FetchRunPage": 10}
        simulation.tallyfy.asked.clear()
        for number in range(20):
            simulation.pass_time(3)
            simulation.complete(simulation.run(number * 7))
        simulation.pass_time(INTERVAL)
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 7, "FetchRun": 20}
        assert sum(wait.over_at is not None for wait in simulation.waits) == 20

    def test_five_times_as_many_cost_the_same(self):
        simulation = followed(5000)
        simulation.pass_time(5)
        simulation.tallyfy.asked.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 6}

    def test_a_change_is_seen_at_the_next_look(self):
        simulation = followed(1000)
        simulation.pass_time(2.5)
        simulation.complete(simulation.run(500))
        simulation.pass_time(INTERVAL + 1)
        assert simulation.waits[500].over_at - simulation.run(500).changed_at <= INTERVAL + 2 * LATENCY

    def test_every_run_is_polled_in_a_list_now_and_then_whatever_the_feed_says(self):
        simulation = followed(1000)
        simulation.tallyfy.asked.clear()
        simulation.pass_time(MAX_STALENESS)
        assert simulation.tallyfy.requests(FetchRunPage) == 10

    def test_every_run_is_read_by_itself_whatever_list_and_feed_say(self):
        simulation = followed(1000)
        simulation.tallyfy.asked.clear()
        simulation.pass_time(MAX_STALENESS + 1000 * LATENCY * 2)
        alone = {
            question.run_id for _, question in simulation.tallyfy.asked if isinstance(question, FetchRun)
        }
        assert len(alone) == 1000

    def test_a_change_that_the_feed_does_not_tell_is_seen_within_the_bound(self):
        simulation = followed(1000)
        simulation.tallyfy.feed_lies = True
        simulation.complete(simulation.run(500))
        simulation.pass_time(MAX_STALENESS + 1)
        assert isinstance(simulation.waits[500].outcome, Met)

    def test_a_feed_that_is_late_is_followed_nevertheless(self, caplog):
        simulation = followed(1000)
        simulation.tallyfy.feed_delay = 30
        for number in range(20):
            simulation.complete(simulation.run(number))
            simulation.pass_time(20)
        simulation.pass_time(60)
        delays = [
            simulation.waits[number].over_at - simulation.run(number).changed_at for number in range(20)
        ]
        assert max(delays) <= 30 + INTERVAL + 1
        assert warnings(caplog) == []

    def test_a_late_entry_counts_though_newer_ones_were_read(self):
        simulation = followed(1000)
        simulation.tallyfy.feed_delay = 15
        simulation.complete(simulation.run(1))
        simulation.tallyfy.feed_delay = 0
        simulation.comment(simulation.run(2))
        simulation.pass_time(30)
        assert simulation.waits[1].over_at is not None

    @pytest.mark.parametrize("error", [FORBIDDEN, UNREADABLE, UNAVAILABLE])
    def test_a_feed_that_fails_is_given_up_and_the_list_walked(self, error, caplog):
        simulation = Simulation(400)
        simulation.tallyfy.broken["FetchFeedPage"] = error
        simulation.wait_for()
        simulation.pass_time(60)
        assert len(warnings(caplog)) == 1
        assert "waits go on without it" in warnings(caplog)[0]
        assert simulation.tallyfy.requests(FetchFeedPage) == (1 if error is FORBIDDEN else 3)
        assert 24 <= simulation.tallyfy.requests(FetchRunPage) <= 28
        simulation.tallyfy.broken.clear()
        simulation.pass_time(MAX_DISABLED)
        simulation.tallyfy.asked.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.requests(FetchRunPage) == 0

    def test_a_feed_of_a_busy_organization_is_read_to_where_it_was(self):
        simulation = followed(1000)
        simulation.complete(simulation.run(500))
        for _ in range(250):
            simulation.tallyfy.happened("elsewhere", simulation.now)
        simulation.tallyfy.asked.clear()
        simulation.pass_time(INTERVAL)
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 3, "FetchRun": 1}
        assert simulation.waits[500].over_at is not None

    def test_a_feed_that_cannot_be_read_to_where_it_was_makes_every_run_be_read(self, caplog):
        simulation = followed(1000)
        simulation.complete(simulation.run(500))
        for _ in range(5):
            for _ in range(700):
                simulation.tallyfy.happened("elsewhere", simulation.now)
            simulation.pass_time(INTERVAL)
        assert simulation.waits[500].over_at - simulation.run(500).changed_at < 2 * INTERVAL
        assert len(warnings(caplog)) == 1  # it is given up: more trouble than help

    def test_a_run_that_the_feed_told_of_is_looked_at_twice_if_nothing_is_new(self):
        """The entry may be quicker than the change."""
        simulation = followed(1000)
        simulation.comment(simulation.run(500))
        simulation.tallyfy.asked.clear()
        simulation.pass_time(10 * INTERVAL)
        assert simulation.tallyfy.requests(FetchRun) == 2

    def test_a_small_organization_s_list_is_read_and_not_its_feed(self):
        simulation = Simulation(200)
        simulation.wait_for()
        simulation.pass_time(SETTLED)
        simulation.tallyfy.asked.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.kinds() == {"FetchRunPage": 12}

    def test_runs_that_no_list_serves_are_not_counted_as_if_one_did(self):
        simulation = Simulation(200)
        simulation.wait_for(*map(simulation.run, range(10)))
        simulation.wait_for(*map(simulation.run, range(10, 110)), with_=("next_task", "tasks"))
        simulation.pass_time(2 * SETTLED)
        simulation.tallyfy.asked.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 6}

    def test_what_a_worker_has_just_looked_at_is_read_only_when_the_feed_tells_of_it(self):
        simulation = followed(1000)
        simulation.pass_time(120)
        runs = [simulation.launch() for _ in range(50)]
        simulation.tallyfy.asked.clear()
        waits = simulation.wait_for(*runs, looked_at=simulation.now - 1)
        simulation.pass_time(60)
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 6}
        simulation.complete(runs[7])
        simulation.pass_time(INTERVAL + 1)
        assert waits[7].over_at is not None

    def test_what_changed_between_a_worker_s_look_and_the_wait_is_seen(self):
        simulation = followed(1000)
        simulation.pass_time(120)
        run = simulation.run(500)
        baseline, looked_at = run.next_id, simulation.now - 1
        simulation.complete(run)
        simulation.pass_time(INTERVAL + 1)  # the feed has told of it by now
        wait = simulation.wait_for(run, looked_at=looked_at)
        wait.baseline = baseline
        simulation.pass_time(1)
        assert wait.over_at is not None

    def test_what_the_feed_told_of_before_a_wait_s_first_look_is_seen_at_that_look(self):
        """Though another wait of the same run has the run read, and is told, before."""
        simulation = followed(1000)
        simulation.pass_time(120)
        run = simulation.run(500)
        wait = simulation.wait_for(run, looked_at=simulation.now)
        simulation.complete(run)
        simulation.pass_time(INTERVAL + 1)
        assert simulation.waits[500].over_at < wait.begins_at
        assert wait.over_at is not None

    def test_a_quicker_wait_makes_the_feed_be_looked_at_at_its_pace(self):
        simulation = Simulation(1000)
        simulation.wait_for(poke_interval=200)
        simulation.pass_time(270)
        run = simulation.launch()
        wait = simulation.wait_for(run, looked_at=simulation.now)
        simulation.complete(run)
        simulation.pass_time(INTERVAL + 1)
        assert wait.over_at is not None

    def test_a_wait_of_the_same_pace_does_not(self):
        simulation = followed(1000)
        simulation.pass_time(70)
        simulation.tallyfy.asked.clear()
        for _ in range(30):
            simulation.wait_for(simulation.launch(), looked_at=simulation.now)
            simulation.pass_time(1)
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 3}

    def test_what_changed_before_the_look_of_a_worker_whose_clock_is_fast_is_seen(self):
        simulation = followed(1000)
        simulation.pass_time(120)
        run = simulation.run(500)
        baseline = run.next_id
        simulation.complete(run)
        simulation.pass_time(30)
        wait = simulation.wait_for(run, looked_at=simulation.now - 1)
        wait.baseline = baseline
        simulation.pass_time(INTERVAL + 1)
        assert wait.over_at is not None

    def test_the_feed_is_followed_for_fewer_runs_where_the_list_is_given_up(self):
        simulation = Simulation(200)
        simulation.wait_for()
        simulation.pass_time(SETTLED)
        simulation.tallyfy.broken["FetchRunPage"] = FORBIDDEN
        simulation.pass_time(60)
        simulation.tallyfy.asked.clear()
        simulation.pass_time(60)
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 6}

    def test_the_feed_is_not_followed_where_all_waits_are_slow(self):
        simulation = Simulation(1000)
        simulation.wait_for(poke_interval=2 * MAX_STALENESS)
        simulation.pass_time(3600)
        assert simulation.tallyfy.requests(FetchFeedPage) == 0

    def test_what_a_worker_looked_at_long_ago_is_read(self):
        simulation = followed(1000)
        simulation.pass_time(120)
        simulation.tallyfy.asked.clear()
        simulation.wait_for(simulation.launch(), looked_at=simulation.now - 86400)
        simulation.pass_time(1)
        assert simulation.tallyfy.requests(FetchRun) == 1


class TestSlowTallyfy:
    """Looks may take longer than the time in which they are due again; then all get their turn."""

    def test_a_list_is_read_to_its_end_although_other_runs_keep_falling_due(self):
        simulation = Simulation(400, latency=3)
        quick = [simulation.launch(checklist_id="quick", status="problem") for _ in range(3)]
        simulation.wait_for(*quick, poke_interval=1)
        simulation.pass_time(30)
        simulation.wait_for(*list(simulation.tallyfy.runs.values())[:400])
        simulation.pass_time(120)
        assert all(wait.sights for wait in simulation.waits)

    def test_what_is_new_in_a_list_is_read_although_the_list_is_due_again_at_its_end(self):
        simulation = always_in_the_list()
        changed = [simulation.run(number) for number in range(0, 60, 10)]
        for run in changed:
            simulation.complete(run)
        simulation.pass_time(100)
        assert [wait.run_id for wait in simulation.waits if wait.over_at] == [run.id for run in changed]

    @pytest.mark.parametrize("options", [{"with_": ("tasks",)}, {}])
    def test_so_are_runs_that_are_in_no_list(self, options):
        simulation = always_in_the_list()
        of_another_status = [simulation.launch(status="problem") for _ in range(5)]
        waits = simulation.wait_for(*of_another_status, **options)
        simulation.pass_time(300)
        assert min(len(wait.sights) for wait in waits) > 3

    def test_every_run_is_read_where_there_is_time_for_half_of_them(self):
        simulation = Simulation(100, latency=0.2)
        simulation.tallyfy.broken = {"FetchFeedPage": FORBIDDEN, "FetchRunPage": FORBIDDEN}
        simulation.wait_for()
        simulation.pass_time(200)
        assert min(len(wait.sights) for wait in simulation.waits) >= 5

    def test_the_feed_is_looked_at_although_it_tells_of_more_than_can_be_read(self):
        simulation = followed(1000)
        simulation.latency = 2
        for _ in range(60):
            for number in range(8):
                simulation.comment(simulation.run(number))
            simulation.pass_time(1)
        assert simulation.tallyfy.requests(FetchFeedPage, since=START + SETTLED) >= 5
        assert simulation.tallyfy.requests(FetchRun, since=START + SETTLED) >= 5


class TestOutages:
    @pytest.mark.parametrize("error", [DOWN, UNAVAILABLE, too_many()])
    @pytest.mark.parametrize("runs", [1, 1000])
    def test_they_end_nothing_and_take_few_requests(self, error, runs):
        simulation = Simulation(runs)
        simulation.wait_for()
        simulation.pass_time(SETTLED)
        simulation.tallyfy.broken["all"] = error
        simulation.tallyfy.asked.clear()
        simulation.pass_time(600)
        assert simulation.tallyfy.requests() < 100
        assert all(wait.over_at is None and wait.blanks for wait in simulation.waits)
        simulation.complete(simulation.run(0))
        del simulation.tallyfy.broken["all"]
        simulation.pass_time(30 + INTERVAL + SETTLED)
        assert simulation.waits[0].over_at is not None

    @pytest.mark.parametrize("error", [DOWN, UNAVAILABLE, UNREADABLE, too_many()])
    def test_neither_list_nor_feed_is_given_up_for_them(self, error, caplog):
        simulation = followed(1000)
        for _ in range(3):
            simulation.tallyfy.broken["all"] = error
            simulation.pass_time(MAX_STALENESS)
            simulation.tallyfy.broken.clear()
            simulation.pass_time(MAX_STALENESS)
        assert warnings(caplog) == []

    @pytest.mark.parametrize("kind", ["FetchRunPage", "FetchFeedPage"])
    @pytest.mark.parametrize("error", [DOWN, UNAVAILABLE, UNREADABLE, too_many(1)])
    def test_what_fails_alone_is_given_up_in_whatever_way_it_fails(self, error, kind, caplog):
        simulation = followed(400)
        simulation.tallyfy.broken[kind] = error
        simulation.pass_time(MAX_STALENESS + 60)
        assert 1 <= len(warnings(caplog)) <= 2
        simulation.complete(simulation.run(7))
        simulation.pass_time(40)
        assert simulation.waits[7].over_at is not None

    def test_all_pause_for_as_long_as_tallyfy_says(self):
        simulation = Simulation(3)
        simulation.wait_for()
        simulation.tallyfy.broken["all"] = too_many(120)
        simulation.pass_time(1)
        simulation.tallyfy.broken.clear()
        simulation.pass_time(118)
        assert simulation.tallyfy.requests() == 1
        assert all(len(wait.blanks) == 1 for wait in simulation.waits)
        simulation.pass_time(5)
        assert all(len(wait.sights) == 1 for wait in simulation.waits)

    def test_one_run_that_cannot_be_read_holds_nobody_else_up(self):
        simulation = Simulation(3)
        simulation.tallyfy.broken_runs["run1"] = UNAVAILABLE
        simulation.wait_for()
        simulation.pass_time(60)
        assert all(len(simulation.waits[number].sights) >= 6 for number in (0, 2))
        assert simulation.waits[1].over_at is None
        assert 3 <= len(simulation.waits[1].blanks) <= 12

    def test_one_run_that_cannot_be_read_does_not_hide_that_only_the_list_fails(self):
        simulation = Simulation(100)
        simulation.tallyfy.broken_runs["run0"] = UNAVAILABLE
        simulation.tallyfy.broken |= {"FetchFeedPage": FORBIDDEN, "FetchRunPage": UNAVAILABLE}
        simulation.wait_for()
        simulation.pass_time(60)
        assert all(wait.sights for wait in simulation.waits[1:])

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
        assert wait.sights

    def test_but_not_sooner_than_tallyfy_asked(self):
        simulation = Simulation(3)
        simulation.tallyfy.broken_runs["run1"] = unavailable_for(600)
        simulation.wait_for()
        simulation.pass_time(60)
        del simulation.tallyfy.broken_runs["run1"]
        wait = simulation.wait_for(simulation.run(1))
        simulation.pass_time(530)
        assert not wait.sights
        simulation.pass_time(30)
        assert wait.sights

    def test_runs_that_fail_one_after_the_other_are_no_outage(self):
        simulation = Simulation(4)
        simulation.wait_for()
        for number in (1, 2, 3):
            simulation.tallyfy.broken_runs = {f"run{number}": UNAVAILABLE}
            simulation.pass_time(INTERVAL)
        assert simulation.waits[0].blanks == []

    def test_an_endpoint_that_works_in_between_is_not_given_up(self, caplog):
        simulation = without_feed(1000)
        for _ in range(4):
            simulation.tallyfy.broken["FetchRunPage"] = UNAVAILABLE
            simulation.pass_time(INTERVAL)
            del simulation.tallyfy.broken["FetchRunPage"]
            simulation.pass_time(2 * INTERVAL)
        assert simulation.tallyfy.requests(FetchRunPage, since=simulation.now - 2 * INTERVAL) >= 10

    def test_the_pauses_of_an_outage_begin_anew_at_the_next(self):
        simulation = Simulation(1)
        wait = simulation.wait_for(poke_interval=300)
        simulation.tallyfy.broken["all"] = DOWN
        simulation.pass_time(1000)
        simulation.tallyfy.broken.clear()
        while not wait.sights:
            simulation.pass_time(10)
        simulation.tallyfy.broken["all"] = DOWN
        simulation.tallyfy.asked.clear()
        simulation.pass_time(300 + 10)
        assert simulation.tallyfy.requests() >= 3

    def test_a_refusal_of_the_token_is_told_to_all(self):
        simulation = Simulation(3)
        simulation.tallyfy.broken["all"] = UNAUTHENTICATED
        simulation.wait_for()
        simulation.pass_time(3 * DENIED_AFTER_SECONDS)
        assert all(isinstance(wait.outcome, Denied) for wait in simulation.waits)
        assert not simulation.scheduler

    @pytest.mark.parametrize("kind", ["FetchRunPage", "FetchFeedPage"])
    def test_a_token_that_only_the_list_or_the_feed_refuses_ends_nothing(self, kind, caplog):
        simulation = Simulation(1000)
        simulation.tallyfy.broken[kind] = UNAUTHENTICATED
        simulation.wait_for()
        simulation.pass_time(120)
        assert all(wait.over_at is None and wait.sights for wait in simulation.waits)
        assert len(warnings(caplog)) == 1

    def test_a_token_that_is_refused_in_the_midst_of_many_waits_is_told_to_all(self):
        simulation = followed(1000)
        simulation.tallyfy.broken["all"] = UNAUTHENTICATED
        simulation.pass_time(INTERVAL + 4 * DENIED_AFTER_SECONDS)
        assert all(isinstance(wait.outcome, Denied) for wait in simulation.waits)

    def test_a_refusal_of_one_run_is_told_to_those_who_wait_for_it(self):
        simulation = Simulation(3)
        simulation.tallyfy.broken_runs["run1"] = FORBIDDEN
        simulation.wait_for()
        simulation.pass_time(4 * DENIED_AFTER_SECONDS)
        assert [wait.over_at is None for wait in simulation.waits] == [True, False, True]


class TestStart:
    def come_one_after_the_other(self, simulation, number, *, every):
        for run in list(simulation.tallyfy.runs.values())[:number]:
            wait = simulation.wait_for(run)
            simulation.scheduler.remove(wait)
            wait.begins_at = wait.due_at = simulation.now + 0.5  # as the watcher has it
            simulation.scheduler.add(wait)
            simulation.pass_time(every)

    def test_waits_that_come_in_quick_succession_are_looked_for_together(self):
        simulation = Simulation(2000)
        self.come_one_after_the_other(simulation, 1000, every=0.003)
        simulation.pass_time(SETTLED)
        assert simulation.tallyfy.kinds() == {"FetchFeedPage": 1, "FetchRunPage": 20}

    def test_the_first_look_is_put_off_by_some_seconds_at_most(self):
        simulation = Simulation(2000)
        self.come_one_after_the_other(simulation, 100, every=0.3)
        assert simulation.tallyfy.asked[0][0] - START <= 5.5 + LATENCY

    def test_a_wait_that_begins_much_later_is_not_waited_for(self):
        simulation = Simulation(2)
        first = simulation.wait_for(simulation.run(0))
        simulation.wait_for(simulation.run(1), looked_at=simulation.now)
        simulation.pass_time(1)
        assert len(first.sights) == 1


class TestMembership:
    def test_nobody_is_told_what_was_asked_for_before_they_came(self):
        simulation = Simulation(1)
        simulation.wait_for(simulation.run(0))
        question = simulation.scheduler.next_request(simulation.now)
        asked_at, simulation.now = simulation.now, simulation.now + LATENCY
        late = simulation.wait_for(simulation.run(0))
        answer = simulation.tallyfy.answer(question, asked_at)
        told = simulation.scheduler.handle_response(question, answer, asked_at, simulation.now)
        assert [watch for watch, _ in told] == [simulation.waits[0]]
        simulation.pass_time(1)
        assert len(late.sights) == 1

    def test_a_wait_that_leaves_in_the_middle_of_a_look_leaves_no_trace(self):
        simulation = Simulation(1000)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        waits = simulation.wait_for()
        simulation.pass_time(0.3)  # within the list
        question = simulation.scheduler.next_request(simulation.now)
        for wait in waits:
            simulation.scheduler.remove(wait)
            simulation.scheduler.remove(wait)
        answer = simulation.tallyfy.answer(question, simulation.now)
        assert (
            simulation.scheduler.handle_response(question, answer, simulation.now, simulation.now + 1) == []
        )
        assert not simulation.scheduler
        assert simulation.scheduler.next_request(simulation.now) == float("inf")

    def test_a_run_whose_last_wait_leaves_in_the_midst_of_a_list_is_not_asked_for(self):
        simulation = Simulation(1000)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.wait_for()
        simulation.pass_time(0.3)  # within the list
        for wait in simulation.waits[:5]:
            simulation.scheduler.remove(wait)
            del simulation.tallyfy.runs[wait.run_id]
        simulation.pass_time(INTERVAL)
        assert simulation.tallyfy.requests(FetchRun) == 0
        assert all(wait.sights for wait in simulation.waits[5:])

    def test_one_of_two_leaves_and_the_other_goes_on(self):
        simulation = Simulation(1)
        first, second = simulation.wait_for(simulation.run(0)), simulation.wait_for(simulation.run(0))
        simulation.pass_time(1)
        simulation.scheduler.remove(first)
        simulation.pass_time(20)
        assert (len(first.sights), len(second.sights)) == (1, 3)

    def test_many_waits_of_one_run_do_not_look_at_each_other(self, monkeypatch):
        reckoned = []
        due = PollScheduler._due_at_for
        monkeypatch.setattr(
            PollScheduler, "_due_at_for", lambda *arguments: reckoned.append(1) or due(*arguments)
        )
        simulation = Simulation(1)
        waits = [simulation.wait_for(simulation.run(0)) for _ in range(300)]
        for wait in waits:
            simulation.scheduler.request_fresh_read(wait, simulation.now)
        assert len(reckoned) <= 2 * 300

    def test_what_was_learned_is_forgotten_when_another_person_looks(self):
        simulation = followed(1000)
        simulation.tallyfy.feed_lies = True
        simulation.complete(simulation.run(500))
        simulation.scheduler.forget()
        simulation.pass_time(INTERVAL + SETTLED)
        assert simulation.waits[500].over_at is not None


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


class TestIsolation:
    """One bad thing delays nothing else."""

    def test_runs_that_fail_delay_no_other(self):
        simulation = Simulation(23)
        simulation.tallyfy.broken = {"FetchFeedPage": FORBIDDEN, "FetchRunPage": FORBIDDEN}
        for number in range(3):
            simulation.tallyfy.broken_runs[f"run{number}"] = UNAVAILABLE
        simulation.wait_for(poke_interval=300)
        simulation.pass_time(60)
        for number in range(3, 23):
            simulation.complete(simulation.run(number))
        simulation.pass_time(310)
        assert [wait.over_at is not None for wait in simulation.waits] == [False] * 3 + [True] * 20

    @pytest.mark.parametrize("kind", ["FetchFeedPage", "FetchRunPage"])
    @pytest.mark.parametrize("error", [unavailable_for(900), too_many(900)])
    def test_the_pause_of_an_optional_endpoint_is_its_own(self, kind, error):
        simulation = followed(400)
        simulation.tallyfy.broken[kind] = error
        for number in range(0, 400, 10):
            simulation.complete(simulation.run(number))
            simulation.pass_time(INTERVAL)
        simulation.pass_time(4 * INTERVAL)
        woken = [wait for wait in simulation.waits if wait.over_at is not None]
        assert len(woken) == 40
        assert max(wait.over_at - simulation.tallyfy.runs[wait.run_id].changed_at for wait in woken) < 60

    def test_a_feed_that_is_read_while_entries_arrive_is_followed_on(self, caplog):
        simulation = followed(1000)
        simulation.tallyfy.entries_per_request = 42  # 250 a minute, at 10 s
        for _ in range(30):
            simulation.pass_time(INTERVAL)
        simulation.complete(simulation.run(7))
        simulation.pass_time(INTERVAL + 1)
        assert simulation.waits[7].over_at is not None
        assert warnings(caplog) == []

    def test_the_feed_is_polled_at_the_pace_that_waits_want_now(self):
        simulation = Simulation(4)
        simulation.tallyfy.broken["FetchRunPage"] = FORBIDDEN
        simulation.wait_for(poke_interval=5, exponential_backoff=True, max_wait=3600)
        simulation.pass_time(3600)
        simulation.tallyfy.asked.clear()
        simulation.pass_time(3600)
        assert simulation.tallyfy.requests() <= 120

    def test_lists_that_lag_for_ever_hide_no_change(self):
        simulation = Simulation(60)
        simulation.tallyfy.broken["FetchFeedPage"] = FORBIDDEN
        simulation.tallyfy.freeze_lists()
        simulation.wait_for()
        simulation.pass_time(60)
        for run in list(simulation.tallyfy.runs.values()):
            simulation.complete(run)
        simulation.pass_time(MAX_STALENESS + INTERVAL)
        assert all(wait.over_at is not None for wait in simulation.waits)

    def test_a_run_that_fails_is_polled_once_more_before_its_wait_ends(self):
        simulation = Simulation(2)
        simulation.tallyfy.broken_runs["run0"] = UNAVAILABLE
        wait, _ = simulation.wait_for(poke_interval=60)
        wait.last_poll_at = simulation.now + 4000
        simulation.pass_time(4200)
        asked = [at for at, request in simulation.tallyfy.asked if request.run_id == "run0"]
        assert any(wait.last_poll_at <= at < wait.last_poll_at + 1 for at in asked)
        assert max(later - earlier for earlier, later in pairwise(asked)) > 2 * 60


class TestBudget:
    @pytest.mark.parametrize("runs", [3, 60, 1000])
    @pytest.mark.parametrize("broken", [{}, {"FetchFeedPage": FORBIDDEN}])
    def test_no_hour_has_more_requests(self, runs, broken):
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
            wait.over_at - simulation.tallyfy.runs[wait.run_id].changed_at for wait in simulation.waits
        ]
        assert median(latencies) < 50 * 60
        assert max(latencies) < 100 * 60

    def test_a_few_waits_at_the_default_pace_are_not_delayed(self):
        simulation = Simulation(3, requests_per_hour=500)
        simulation.wait_for(poke_interval=60)
        simulation.pass_time(7200)
        assert simulation.scheduler.delayed == 0

    def test_each_run_is_read_by_itself_though_the_budget_is_used_up(self):
        simulation = Simulation(60, requests_per_hour=500)
        simulation.wait_for(poke_interval=5)
        simulation.pass_time(3600)
        read = {question.run_id for _, question in simulation.tallyfy.asked if isinstance(question, FetchRun)}
        assert len(read) == 60

    def test_the_last_requests_of_a_minute_are_left_to_others(self):
        simulation = Simulation(1)
        simulation.wait_for(poke_interval=1)
        for _ in range(60):
            simulation.scheduler.budget.heed_remaining(3, simulation.now)
            simulation.pass_time(1)
        assert simulation.tallyfy.requests() <= 12

    def test_a_ceiling_after_none_begins_with_a_burst(self):
        simulation = Simulation(100)
        simulation.wait_for(poke_interval=10)
        simulation.scheduler.budget.set_limit(500)
        simulation.pass_time(60)
        simulation.scheduler.budget.set_limit(0)
        simulation.pass_time(7200)
        assert simulation.tallyfy.requests() > 1000
        simulation.scheduler.budget.set_limit(500)
        set_at = simulation.now
        simulation.pass_time(30)
        assert simulation.tallyfy.requests(since=set_at) >= 3

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
            over_at = simulation.waits[number].over_at
            delays.append((simulation.now if over_at is None else over_at) - completed_at)
        assert median(delays) < 100
        assert max(delays) < MAX_STALENESS

    def test_each_run_is_read_by_itself_in_time_while_the_budget_is_ample(self):
        simulation = Simulation(30, requests_per_hour=2000)
        simulation.tallyfy.feed_lies = True
        simulation.wait_for(poke_interval=60)
        simulation.pass_time(10)
        simulation.tallyfy.freeze_lists()
        assert simulation.scheduler.budget.is_ample(simulation.now)
        began_at = simulation.now
        for run in list(simulation.tallyfy.runs.values()):
            simulation.complete(run)
        simulation.pass_time(MAX_STALENESS + 60)
        assert all(wait.over_at is not None for wait in simulation.waits)
        assert max(wait.over_at for wait in simulation.waits) < began_at + MAX_STALENESS + 10
