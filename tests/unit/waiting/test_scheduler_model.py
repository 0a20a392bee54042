"""
No interleaving of changes, faults and looks loses a change, or wakes a wait without one.

hypothesis plays Tallyfy, the network, the people and the triggerer against a plan, and looks after every step whether
what is promised still holds. A wait on a run that has moved on must end within the bound, counted from when the run
moved on and Tallyfy could be reached.
"""

from __future__ import annotations

from math import inf

import pytest
from airflow_provider_tallyfy.waiting.feed import LONGEST_LATENESS
from airflow_provider_tallyfy.waiting.plan import LONGEST_UNREAD
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from .simulation import (
    DOWN,
    FORBIDDEN,
    GONE,
    INTERVAL,
    LATENCY,
    UNAVAILABLE,
    UNREADABLE,
    Simulation,
    too_many,
)

RUNS = 450  # five pages of them: enough for the feed to be followed
LONGEST_PAUSE = 45.0
"""Seconds for which a fault may go on holding looks up after it is mended: back-off, or what a 429 asked for."""
PASSING = (DOWN, UNAVAILABLE, UNREADABLE, too_many())

runs = st.integers(0, RUNS - 1)


class PlanMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.simulation = Simulation(RUNS, templates=3)
        self.simulation.wait_for(*list(self.simulation.tallyfy.runs.values())[::2])
        self.tallyfy = self.simulation.tallyfy
        self.mended_at = self.simulation.now
        self.slowest = LATENCY

    # People.

    @rule(number=runs)
    def somebody_completes_a_task(self, number):
        self.simulation.complete(self.simulation.run(number))

    @rule(number=runs)
    def somebody_completes_a_task_and_the_feed_lacks_it(self, number):
        lies, self.tallyfy.feed_lies = self.tallyfy.feed_lies, True
        self.simulation.complete(self.simulation.run(number))
        self.tallyfy.feed_lies = lies

    @rule(number=runs)
    def somebody_writes_a_comment(self, number):
        self.simulation.comment(self.simulation.run(number))

    @rule(number=runs)
    def somebody_reopens_a_task(self, number):
        self.simulation.reopen(self.simulation.run(number))

    @rule(number=runs)
    def somebody_completes_the_last_task(self, number):
        run = self.simulation.run(number)
        run.done = run.total - 1
        self.simulation.complete(run)

    @rule(first=runs)
    def somebody_completes_many(self, first):
        for number in range(first, min(first + 60, RUNS), 10):
            self.simulation.complete(self.simulation.run(number))

    @rule(entries=st.integers(1, 700))
    def much_happens_elsewhere(self, entries):
        for _ in range(entries):
            self.tallyfy.happened("elsewhere", self.simulation.now)

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
        looked_at = -inf if seconds_ago is None else self.simulation.now - seconds_ago
        wait = self.begin(run, looked_at=looked_at)
        if wait is not None and looked_at < run.changed_at:  # the worker saw the run as it was before
            wait.baseline = f"{run.id}-{run.done - 1}"

    @rule(
        number=runs,
        interval=st.sampled_from([0.0, 1.0, 3.0, 60.0, 250.0]),
        backs_off=st.booleans(),
        with_=st.sampled_from([("next_task",), ("next_task", "tasks")]),
        is_looked_at=st.booleans(),
    )
    def an_unlike_wait_begins(self, number, interval, backs_off, with_, is_looked_at):
        pace = {"poke_interval": interval, "exponential_backoff": backs_off, "max_wait": 60.0}
        looked_at = self.simulation.now if is_looked_at else -inf
        self.begin(self.simulation.run(number), looked_at=looked_at, with_=with_, **pace)

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
        self.simulation.plan.leave(wait)
        self.simulation.waits.remove(wait)

    @rule()
    def the_connection_is_changed(self):
        self.simulation.plan.forget()

    # Tallyfy and the network.

    @rule(
        kind=st.sampled_from(["FetchRun", "FetchRunPage", "FetchFeedPage", "all"]),
        error=st.sampled_from(PASSING),
    )
    def something_fails(self, kind, error):
        self.tallyfy.broken[kind] = error

    @rule(kind=st.sampled_from(["FetchRunPage", "FetchFeedPage"]), error=st.sampled_from([FORBIDDEN, GONE]))
    def an_endpoint_is_refused(self, kind, error):
        self.tallyfy.broken[kind] = error

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.2, 0.5]))
    def tallyfy_answers_at_this_pace(self, seconds):
        self.simulation.latency = seconds
        self.slowest = max(self.slowest, seconds)

    @rule()
    def all_works_again(self):
        if self.tallyfy.broken:
            self.tallyfy.broken.clear()
            self.mended_at = self.simulation.now

    @rule(seconds=st.sampled_from([0.0, 5.0, 40.0, 3 * LONGEST_LATENESS]))
    def the_feed_is_late(self, seconds):
        self.tallyfy.feed_delay = seconds

    # Time.

    @rule(questions=st.integers(1, 12))
    def a_few_questions_are_asked(self, questions):
        for _ in range(questions):
            self.simulation.step(self.simulation.now + INTERVAL)

    @rule(seconds=st.sampled_from([1.0, INTERVAL, 60.0, LONGEST_UNREAD]))
    def time_passes(self, seconds):
        self.simulation.pass_time(seconds)

    # What is promised.

    @property
    def waiting(self):
        return [wait for wait in self.simulation.waits if wait.over_at is None]

    @property
    def bound(self):
        # The last two are the time that it takes to read every run by itself, and all the while the feed in turn.
        return LONGEST_UNREAD + LONGEST_PAUSE + INTERVAL + 2.2 * RUNS * self.slowest

    @property
    def is_reachable(self):
        return not {"all", "FetchRun"} & self.tallyfy.broken.keys()

    @invariant()
    def nobody_is_woken_without_a_change(self):
        for wait in self.simulation.waits:
            assert wait.over_at is None or wait.baseline != wait.woken_by

    @invariant()
    def no_change_is_seen_later_than_the_bound(self):
        if not self.is_reachable:
            return
        for wait in self.waiting:
            run = self.tallyfy.runs[wait.run_id]
            if wait.baseline != run.next_id:
                since = max(run.changed_at, wait.begins_at, self.mended_at)
                assert self.simulation.now - since <= self.bound, wait

    def teardown(self):
        self.all_works_again()
        self.simulation.pass_time(self.bound)
        self.nobody_is_woken_without_a_change()
        for wait in self.waiting:
            assert wait.baseline == self.tallyfy.runs[wait.run_id].next_id, (wait, self.simulation.now)


TestPlanLosesNothing = pytest.mark.usefixtures("untraced")(PlanMachine.TestCase)
TestPlanLosesNothing.settings = settings(
    max_examples=150, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
