"""When a wait may end: one answer may be old, about something else, or not Tallyfy's own."""

from __future__ import annotations

import pytest

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from airflow_provider_tallyfy.waiting.evidence import (
    CONFIRMATION_SECONDS,
    DENIED_AFTER_SECONDS,
    GONE_AFTER_SECONDS,
    MAX_LAG,
    Evidence,
)
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.outcomes import (
    Denied,
    Met,
    Pending,
    PollFailed,
    Skipped,
    Unconfirmed,
    Unreachable,
)
from airflow_provider_tallyfy.waiting.polls import PollError, RunSnapshot
from airflow_provider_tallyfy.waiting.run_status import RunStatusCondition
from airflow_provider_tallyfy.waiting.task_done import TaskDoneCondition
from tests.support.evaluation import evaluate

EARLY, LATE = "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"


def snapshot(next_id="B", *, done=(), **fields):
    run = {
        "id": "r1",
        "status": "active",
        "progress": {"complete": 1, "total": 3},
        "next_task": next_id and {"id": next_id},
        **fields,
    }
    return RunSnapshot(run, done_tasks=dict.fromkeys(done))


def error(kind, status, message="No", **options):
    return PollError(kind(f"{status}", status=status, tallyfy_message=message, **options))


NOT_FOUND = error(exceptions.TallyfyNotFoundError, 404, "No query results")


def evidence(condition=None):
    return Evidence("r1", condition or NextTaskCondition("B"))


def kinds(evidence, *polls):
    """The kinds of outcomes of polls, each given as its time and result."""
    return [type(evidence.evaluate(result, at)) for at, result in polls]


class TestNextTask:
    def test_no_next_task_in_one_answer_does_not_end_it(self):
        assert kinds(evidence(), (0, snapshot()), (1, snapshot(None)), (2, snapshot())) == [
            Pending,
            Unconfirmed,
            Pending,
        ]

    def test_no_next_task_ends_it_if_the_run_is_complete(self):
        assert kinds(evidence(), (0, snapshot(None, status="complete"))) == [Met]

    def test_no_next_task_ends_it_if_a_second_read_agrees(self):
        assert kinds(evidence(), (0, snapshot(None)), (CONFIRMATION_SECONDS, snapshot(None))) == [
            Unconfirmed,
            Met,
        ]

    def test_two_reads_agree_only_without_another_between_them(self):
        polls = [(0, snapshot(None)), (5, snapshot()), (11, snapshot(None))]
        assert kinds(evidence(), *polls) == [Unconfirmed, Pending, Unconfirmed]

    def test_an_earlier_task_in_one_answer_does_not_end_it(self):
        assert kinds(evidence(), (0, snapshot("A")), (2, snapshot())) == [Unconfirmed, Pending]

    def test_another_task_ends_it_at_once_if_the_one_before_is_done(self):
        assert kinds(evidence(), (0, snapshot("C", done=["B"]))) == [Met]

    def test_not_if_the_run_is_older_than_the_completion(self):
        stale = RunSnapshot(snapshot("A", last_updated=EARLY).run, done_tasks={"B": LATE})
        assert kinds(evidence(), (0, stale)) == [Unconfirmed]

    def test_another_task_ends_it_if_a_second_read_agrees(self):
        assert kinds(evidence(), (0, snapshot("C")), (12, snapshot("C"))) == [Unconfirmed, Met]

    def test_an_older_answer_never_ends_it(self):
        polls = [(0, snapshot(last_updated=LATE))]
        polls += [(at, snapshot("A", done=["B"], last_updated=EARLY)) for at in range(1, 200, 20)]
        assert kinds(evidence(), *polls)[1:] == [Unconfirmed] * 10

    def test_nor_an_answer_older_than_the_worker_s_poll(self):
        evidence = Evidence("r1", NextTaskCondition("B"), LATE)
        stale = snapshot("C", done=["B"], last_updated=EARLY)
        assert kinds(evidence, (0, stale), (1, snapshot(last_updated=LATE))) == [Unconfirmed, Pending]

    def test_older_answers_count_after_the_maximum_lag(self):
        polls = [(0, snapshot(last_updated=LATE))]
        polls += [(at, snapshot("C", done=["B"], last_updated=EARLY)) for at in (1, MAX_LAG + 2)]
        assert kinds(evidence(), *polls)[-1] is Met

    def test_fewer_tasks_done_than_before_may_be_an_old_answer(self):
        polls = [
            (0, snapshot(progress={"complete": 2, "total": 3})),
            (1, snapshot("A", done=["B"])),
            (2, snapshot(progress={"complete": 2, "total": 3})),
        ]
        assert kinds(evidence(), *polls) == [Pending, Unconfirmed, Pending]

    def test_fewer_tasks_done_in_a_newer_answer_is_a_reopened_task(self):
        polls = [
            (0, snapshot(progress={"complete": 2, "total": 3}, last_updated=EARLY)),
            (1, snapshot("A", done=["B"], last_updated=LATE)),
        ]
        assert kinds(evidence(), *polls) == [Pending, Met]

    def test_an_answer_without_next_task_is_a_failed_poll(self):
        run = snapshot().run
        del run["next_task"]
        assert kinds(evidence(), (0, RunSnapshot(run))) == [PollFailed]

    def test_in_a_list_it_has_the_run_read_by_itself(self):
        run = snapshot().run
        del run["next_task"]
        outcome = evidence().evaluate(RunSnapshot(run, is_from_list=True), 0)
        assert outcome == Unconfirmed("a list of runs does not show enough", 0.0)

    def test_a_list_never_ends_it(self):
        listed = RunSnapshot(snapshot("C", done=["B"]).run, is_from_list=True)
        assert evidence().evaluate(listed, 0) == Unconfirmed("a list of runs is a hint", 0.0)


@pytest.mark.parametrize("run", [{}, {"name": "x"}, snapshot("C").run | {"id": "r2"}, {"id": None}])
@pytest.mark.parametrize(
    "condition", [NextTaskCondition("B"), TaskDoneCondition("sign"), RunStatusCondition(("complete",))]
)
def test_an_answer_about_something_else_is_a_failed_poll(run, condition):
    assert kinds(evidence(condition), (0, RunSnapshot(run)), (60, RunSnapshot(run))) == [PollFailed] * 2


class TestOtherConditions:
    def test_a_completed_task_ends_it_at_once(self):
        done = {"id": "t1", "alias": "sign", "status": "completed", "completed_at": LATE}
        assert kinds(evidence(TaskDoneCondition("sign")), (0, snapshot(tasks=[done]))) == [Met]

    def test_not_in_an_answer_older_than_one_in_which_it_was_open(self):
        opened = snapshot(tasks=[{"id": "t1", "alias": "sign"}], last_updated=LATE)
        done = snapshot(tasks=[{"id": "t1", "alias": "sign", "completed_at": EARLY}], last_updated=EARLY)
        assert kinds(evidence(TaskDoneCondition("sign")), (0, opened), (1, done), (2, opened)) == [
            Pending,
            Unconfirmed,
            Pending,
        ]

    def test_a_hidden_task_skips_if_a_second_read_agrees(self):
        hidden = snapshot(tasks=[{"id": "t1", "alias": "sign", "status": "auto-skipped"}])
        assert kinds(evidence(TaskDoneCondition("sign")), (0, hidden), (10, hidden)) == [Unconfirmed, Skipped]

    def test_two_hidden_tasks_of_one_name_do_not_agree(self):
        tasks = [{"id": task_id, "alias": "sign", "status": "auto-skipped"} for task_id in ("t1", "t2")]
        polls = [
            (at, snapshot(tasks=[task])) for at, task in zip((0, 10, 20), (*tasks, tasks[1]), strict=True)
        ]
        condition = TaskDoneCondition("sign", on_skipped="succeed")
        assert kinds(evidence(condition), *polls) == [Unconfirmed, Unconfirmed, Met]

    def test_two_reads_of_a_status_agree_whatever_is_next(self):
        polls = [(at, snapshot(next_id, status="delayed")) for at, next_id in ((0, "A"), (10, "B"))]
        assert kinds(evidence(RunStatusCondition(("delayed",))), *polls) == [Unconfirmed, Met]

    def test_an_archived_run_fails_if_a_second_read_agrees(self):
        archived = snapshot(archived_at=LATE)
        assert kinds(evidence(), (0, archived), (5, snapshot()), (6, archived), (16, archived)) == [
            Unconfirmed,
            Pending,
            Unconfirmed,
            Unreachable,
        ]


class TestErrors:
    def test_a_run_is_gone_after_several_404s_over_half_a_minute(self):
        polls = [(at, NOT_FOUND) for at in (0, 1, 2, 3, 20, GONE_AFTER_SECONDS)]
        assert kinds(evidence(), *polls) == [Unconfirmed] * 5 + [Unreachable]

    def test_two_404s_are_not_enough(self):
        assert kinds(evidence(), (0, NOT_FOUND), (3600, NOT_FOUND)) == [Unconfirmed] * 2

    def test_a_read_between_404s_resets_the_count(self):
        polls = [(0, NOT_FOUND), (20, NOT_FOUND), (25, snapshot()), (31, NOT_FOUND), (45, NOT_FOUND)]
        assert Unreachable not in kinds(evidence(), *polls)

    def test_a_wrong_base_url_is_an_error_of_the_connection(self):
        wrong = error(exceptions.TallyfyNotFoundError, 404, "API endpoint not found")
        outcome = evaluate(NextTaskCondition("B"), "r1", wrong)
        assert isinstance(outcome, Denied)
        assert isinstance(outcome.error, exceptions.TallyfyConfigurationError)

    @pytest.mark.parametrize(
        ("kind", "status"),
        [
            (exceptions.TallyfyAuthError, 401),
            (exceptions.TallyfyPermissionError, 403),
            (exceptions.TallyfyNotFoundError, 404),
            (exceptions.TallyfyNotFoundError, 410),
            (exceptions.TallyfyValidationError, 400),
            (exceptions.TallyfyError, 405),
        ],
    )
    @pytest.mark.parametrize("origin", [{"is_from_tallyfy": False}, {"message": None}])
    def test_an_answer_that_is_not_tallyfy_s_is_an_outage(self, kind, status, origin):
        polls = [(at, error(kind, status, **origin)) for at in (0, 20, 40, 60)]
        assert kinds(evidence(), *polls) == [PollFailed] * 4

    @pytest.mark.parametrize(
        ("kind", "status"), [(exceptions.TallyfyAuthError, 401), (exceptions.TallyfyPermissionError, 403)]
    )
    def test_a_refusal_ends_it_if_tallyfy_repeats_it(self, kind, status):
        polls = [(at, error(kind, status)) for at in (0, 3, DENIED_AFTER_SECONDS)]
        assert kinds(evidence(), *polls) == [Unconfirmed, Unconfirmed, Denied]

    def test_a_refusal_that_passes_does_not_end_it(self):
        refusal = error(exceptions.TallyfyPermissionError, 403)
        polls = [(0, refusal), (5, refusal), (9, snapshot()), (11, refusal), (15, refusal)]
        assert kinds(evidence(), *polls) == [Unconfirmed, Unconfirmed, Pending, Unconfirmed, Unconfirmed]

    def test_two_refusals_are_not_enough(self):
        refusal = error(exceptions.TallyfyAuthError, 401)
        assert kinds(evidence(), (0, refusal), (3600, refusal)) == [Unconfirmed] * 2

    def test_a_connection_that_cannot_be_used_ends_it_at_once(self):
        unusable = PollError(exceptions.TallyfyConfigurationError("The connection has no login"))
        assert kinds(evidence(), (0, unusable)) == [Denied]

    @pytest.mark.parametrize(
        "body",
        [
            {"message": "No."},
            {"error": {"code": "NO", "message": "No.", "details": None}},
            {"message": {"message": "No."}},
            {"errors": ["No."]},
            {"errors": {"run": [{"r1": ["No."]}]}},
        ],
    )
    @pytest.mark.parametrize(("status", "end"), [(401, Denied), (403, Denied), (404, Unreachable)])
    def test_errors_of_every_shape_are_tallyfy_s_own(self, connection, requests_mock, status, end, body):
        requests_mock.get(
            "https://tallyfy.test/api/organizations/acme/runs/r1", status_code=status, json=body
        )
        with pytest.raises(exceptions.TallyfyError) as refusal:
            TallyfyHook(retries=0).get_run("r1")
        outcome = evaluate(NextTaskCondition("B"), "r1", PollError(refusal.value))
        assert isinstance(outcome, end)
        assert "No." in str(outcome)
