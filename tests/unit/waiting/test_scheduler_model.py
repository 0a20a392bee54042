"""
No interleaving of changes, faults and polls loses a change, ends a wait without one, or exceeds the budget.

hypothesis simulates Tallyfy, the network, the users and the triggerer, and checks a scheduler after every step: a wait
on a run that has moved on must end within the bound, counted from when the run moved on and could be read.
"""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_provider_tallyfy.waiting.evidence import CONFIRMATION_SECONDS
from airflow_provider_tallyfy.waiting.scheduler.scheduler import MAX_STALENESS
from tests.support.simulation import (
    DOWN,
    FORBIDDEN,
    GONE,
    INTERVAL,
    LATENCY,
    UNAVAILABLE,
    UNREADABLE,
    Simulation,
    too_many,
    unavailable_for,
)

PER_PAGE = 20  # in place of 100, so that few runs fill many pages
RUNS = 90  # five pages of them: enough for the feed to be followed
MAX_PAUSE = 45.0
"""Seconds for which a fault may delay polls after it is gone: back-off, or ``Retry-After``."""
TRANSIENT = (DOWN, UNAVAILABLE, UNREADABLE, too_many())
MAX_LAG = 5.0
BUDGET = 400
"""Requests an hour: fewer than the scheduler sends without a ceiling."""
KINDS = 5
"""Kinds of requests that take turns."""

runs = st.integers(0, RUNS - 1)


class SchedulerMachine(RuleBasedStateMachine):
    requests_per_hour = 0

    def __init__(self):
        super().__init__()
        self.simulation = Simulation(RUNS, requests_per_hour=self.requests_per_hour, per_page=PER_PAGE)
        self.simulation.wait_for(*list(self.simulation.tallyfy.runs.values())[::2])
        self.tallyfy = self.simulation.tallyfy
        self.works_since = self.simulation.now
        self.run_works_since = {}
        self.slowest = LATENCY

    # Users.

    @rule(number=runs)
    def a_task_is_completed(self, number):
        self.simulation.complete(self.simulation.run(number))

    @rule(number=runs)
    def a_task_is_completed_and_the_feed_lacks_it(self, number):
        self.tallyfy.feed_is_incomplete = True
        self.simulation.complete(self.simulation.run(number))
        self.tallyfy.feed_is_incomplete = False

    @rule(number=runs)
    def a_comment_is_written(self, number):
        self.simulation.comment(self.simulation.run(number))

    @rule(number=runs)
    def a_task_is_reopened(self, number):
        self.simulation.reopen(self.simulation.run(number))

    @rule(number=runs)
    def the_last_task_is_completed(self, number):
        run = self.simulation.run(number)
        run.done = run.total - 1
        self.simulation.complete(run)

    @rule(first=runs)
    def many_tasks_are_completed(self, first):
        for number in range(first, min(first + 12, RUNS), 2):
            self.simulation.complete(self.simulation.run(number))

    @rule(entries=st.integers(1, 7 * PER_PAGE))
    def much_happens_elsewhere(self, entries):
        for _ in range(entries):
            self.tallyfy.publish("elsewhere", self.simulation.now)

    @rule(entries=st.integers(0, 8))
    def entries_arrive_between_pages_of_the_feed(self, entries):
        self.tallyfy.entries_per_request = entries

    @rule(number=runs)
    def a_deadline_passes(self, number):
        self.simulation.run(number).status = "delayed"

    @rule()
    def a_process_is_launched(self):
        self.simulation.launch()

    # The triggerer.

    @rule(number=runs, seconds_ago=st.sampled_from([None, 0.0, 2.0, 30.0, 86400.0]))
    def a_wait_begins(self, number, seconds_ago):
        run = self.simulation.run(number)
        worker_polled_at = -inf if seconds_ago is None else self.simulation.now - seconds_ago
        wait = self.begin(run, worker_polled_at=worker_polled_at)
        if (
            wait is not None and worker_polled_at < run.changed_at and run.done
        ):  # the worker saw the run as it was before
            wait.baseline = f"{run.id}-{run.done - 1}"

    @rule(
        number=runs,
        interval=st.sampled_from([0.0, 1.0, 3.0, 60.0, 250.0]),
        backs_off=st.booleans(),
        with_=st.sampled_from([("next_task",), ("next_task", "tasks")]),
        worker_polled=st.booleans(),
    )
    def a_wait_of_another_kind_begins(self, number, interval, backs_off, with_, worker_polled):
        schedule = {"poke_interval": interval, "exponential_backoff": backs_off, "max_wait": 60.0}
        worker_polled_at = self.simulation.now if worker_polled else -inf
        self.begin(self.simulation.run(number), worker_polled_at=worker_polled_at, with_=with_, **schedule)

    def begin(self, run, **options):
        return self.simulation.wait_for(run, **options) if run.next_id is not None else None

    @rule(first=runs)
    def many_waits_that_need_more_than_a_list_begin(self, first):
        for number in range(first, min(first + 8, RUNS)):
            self.begin(self.simulation.run(number), with_=("next_task", "tasks"))

    @rule(data=st.data())
    @precondition(lambda self: self.waiting)
    def a_wait_is_cancelled(self, data):
        wait = data.draw(st.sampled_from(self.waiting))
        self.simulation.scheduler.remove(wait)
        self.simulation.waits.remove(wait)

    @rule()
    def the_connection_is_changed(self):
        self.simulation.scheduler.forget()

    # Tallyfy and the network.

    @rule(
        kind=st.sampled_from(["FetchRun", "FetchRunPage", "FetchFeedPage", "all"]),
        error=st.sampled_from(TRANSIENT),
    )
    def something_fails(self, kind, error):
        self.tallyfy.broken[kind] = error

    @rule(
        kind=st.sampled_from(["FetchRunPage", "FetchFeedPage"]),
        error=st.sampled_from([FORBIDDEN, GONE, unavailable_for(900.0), too_many(900.0)]),
    )
    def an_optional_endpoint_is_refused(self, kind, error):
        self.tallyfy.broken[kind] = error

    @rule(first=runs, error=st.sampled_from([UNAVAILABLE, UNREADABLE, DOWN]))
    def some_runs_fail(self, first, error):
        for number in range(first, min(first + 12, RUNS), 2):
            self.tallyfy.broken_runs[f"run{number}"] = error

    @rule(lags=st.booleans())
    def lists_lag(self, lags):
        self.tallyfy.freeze_lists() if lags else self.tallyfy.lists.clear()

    @rule(shown=st.sampled_from([None, "none", "other"]))
    def lists_order_tasks_otherwise(self, shown):
        self.tallyfy.list_next_task = shown

    @rule(seconds=st.sampled_from([0.0, 1.0, MAX_LAG]))
    def every_other_read_is_older(self, seconds):
        self.tallyfy.lag = seconds

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.2]))
    def responses_take_this_long(self, seconds):
        self.simulation.latency = seconds
        self.slowest = max(self.slowest, seconds)

    @rule()
    def all_works_again(self):
        if self.tallyfy.broken:
            self.tallyfy.broken.clear()
            self.works_since = self.simulation.now
        for run_id in self.tallyfy.broken_runs:
            self.run_works_since[run_id] = self.simulation.now
        self.tallyfy.broken_runs.clear()

    @rule(seconds=st.sampled_from([0.0, 5.0, 40.0, 180.0]))
    def the_feed_is_late(self, seconds):
        self.tallyfy.feed_delay = seconds

    # Time.

    @rule(requests=st.integers(1, 12))
    def a_few_requests_are_sent(self, requests):
        for _ in range(requests):
            self.simulation.step(self.simulation.now + INTERVAL)

    @rule(seconds=st.sampled_from([1.0, INTERVAL, 60.0, MAX_STALENESS]))
    def time_passes(self, seconds):
        self.simulation.pass_time(seconds)

    # Promises.

    @property
    def waiting(self):
        return [wait for wait in self.simulation.waits if wait.ended_at is None]

    @property
    def bound(self):
        # The last is the time that it takes to read every run by itself, with feed and lists in turn, and those runs
        # that fail again and again.
        return (
            MAX_STALENESS
            + MAX_PAUSE
            + 2 * CONFIRMATION_SECONDS
            + MAX_LAG
            + INTERVAL
            + 6 * RUNS * self.slowest
        )

    @property
    def is_reachable(self):
        return not {"all", "FetchRun"} & self.tallyfy.broken.keys()

    @invariant()
    def no_wait_ends_without_a_change(self):
        for wait in self.simulation.waits:
            assert wait.ended_at is None or wait.had_moved_on, wait.outcome

    @invariant()
    def no_change_is_seen_later_than_the_bound(self):
        if not self.is_reachable:
            return
        for wait in self.waiting:
            run = self.tallyfy.runs[wait.run_id]
            if wait.baseline != run.next_id and run.id not in self.tallyfy.broken_runs:
                works_since = max(self.works_since, self.run_works_since.get(run.id, -inf))
                since = max(run.changed_at, wait.begins_at, works_since)
                assert self.simulation.now - since <= self.bound, wait

    def teardown(self):
        self.all_works_again()
        self.tallyfy.lag = 0.0
        self.simulation.pass_time(self.bound)
        self.no_wait_ends_without_a_change()
        for wait in self.waiting:
            assert wait.baseline == self.tallyfy.runs[wait.run_id].next_id, (wait, self.simulation.now)


class BudgetMachine(SchedulerMachine):
    """The same with a ceiling on requests."""

    requests_per_hour = BUDGET

    @property
    def bound(self):
        # A fetch may take two requests.
        return super().bound + 2 * RUNS * KINDS * self.simulation.scheduler.budget.pause

    def teardown(self):
        super().teardown()
        spent = [at for at, requests in self.simulation.spent for _ in range(requests)]
        assert all(later - first > 3600 for first, later in zip(spent, spent[BUDGET:], strict=False))


TestSchedulerKeepsTheBudget = pytest.mark.usefixtures("untraced")(BudgetMachine.TestCase)
TestSchedulerKeepsTheBudget.settings = settings(
    max_examples=12, stateful_step_count=20, suppress_health_check=list(HealthCheck)
)
TestSchedulerLosesNothing = pytest.mark.usefixtures("untraced")(SchedulerMachine.TestCase)
TestSchedulerLosesNothing.settings = settings(
    max_examples=100, stateful_step_count=25, suppress_health_check=list(HealthCheck)
)
