from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tallyfy.protocol.launch_mark import LaunchMark, find_marked, newest_runs

MARK = LaunchMark("onboarding", "manual__2026-01-05T12:00:00+00:00", "launch")
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def run(run_id, ago=timedelta(), summary=None):
    return {"id": run_id, "created_at": (NOW - ago).isoformat().replace("+00:00", "Z"), "summary": summary}


class TestMark:
    def test_people_can_read_it(self):
        assert str(MARK) == (
            "Launched by Airflow: DAG onboarding, task launch, run manual__2026-01-05T12:00:00+00:00 "
            f"({MARK.token})"
        )
        assert "task launch [3], run" in str(replace(MARK, map_index=3))
        assert "task launch [0], run" in str(replace(MARK, map_index=0))
        assert str(replace(MARK, try_number=2)).startswith(
            "Launched by Airflow: DAG onboarding, task launch, run manual__2026-01-05T12:00:00+00:00, try 2 ("
        )
        assert str(replace(MARK, task_id="")).startswith("Launched by Airflow: DAG onboarding, run manual__")

    def test_it_is_the_same_at_every_try(self):
        """And in every release: a task may be retried by another one. Changing this makes second processes."""
        assert MARK.token == replace(MARK).token == "airflow-e8d4c646427641bbc276"

    @pytest.mark.parametrize(
        "other",
        [
            replace(MARK, dag_id="offboarding"),
            replace(MARK, run_id="manual__2026-01-06T12:00:00+00:00"),
            replace(MARK, task_id="launch_2"),
            replace(MARK, map_index=0),
            replace(MARK, map_index=1),
            replace(MARK, deployment="staging"),
            replace(MARK, try_number=1),
            replace(MARK, try_number=2),
            replace(MARK, incarnation="1"),
            replace(MARK, incarnation="2"),
            replace(MARK, started_at="1"),
            replace(MARK, started_at="2"),
            LaunchMark("onboarding", "launch", "manual__2026-01-05T12:00:00+00:00"),
        ],
    )
    def test_it_is_another_for_every_other_task_instance(self, other):
        assert other.token != MARK.token

    def test_a_clear_that_moves_the_start_leaves_the_stem(self):
        first, cleared = (replace(MARK, incarnation="i", started_at=start) for start in "ab")
        assert first.stem == cleared.stem != MARK.stem
        assert first.token != cleared.token
        assert first.token.startswith(f"{first.stem}-")

    @given(st.text(), st.text(), st.text(), st.integers(-1, 1000))
    def test_whatever_the_ids_it_is_short_and_outlives_html(self, dag_id, run_id, task_id, map_index):
        mark = LaunchMark(dag_id, run_id, task_id, map_index)
        assert re.fullmatch("airflow-[0-9a-f]{20}", mark.token)
        assert len(str(mark)) < 350
        assert html.escape(str(mark)) == str(mark)
        assert str(mark).isprintable()

    def test_each_row_of_a_mapped_task_has_its_own(self):
        assert len({replace(MARK, map_index=number).token for number in range(-1, 10_000)}) == 10_001


class TestSummary:
    @pytest.mark.parametrize("summary", [None, "", "  \n"])
    def test_alone(self, summary):
        assert MARK.added_to(summary) == str(MARK)

    def test_after_the_users_own(self):
        assert MARK.added_to("Ask Ada first.") == f"Ask Ada first.\n\n{MARK}"

    def test_once(self):
        assert MARK.added_to(MARK.added_to("Ask Ada.")) == MARK.added_to("Ask Ada.")

    @pytest.mark.parametrize(
        "summary",
        [
            MARK.added_to("Ask Ada."),
            f"<p>Ask Ada.</p><p>{html.escape(str(MARK))}</p>",
            f"{MARK} And Ben added this.",
        ],
    )
    def test_it_is_found_in_a_run(self, summary):
        assert find_marked([[{"id": "r1", "summary": summary}]], MARK.token)

    @pytest.mark.parametrize(
        "found",
        [
            {},
            {"summary": None},
            {"summary": ""},
            {"summary": 5},
            {"summary": "Launched by Airflow: DAG onboarding"},
        ],
    )
    def test_it_is_not_found_in_another(self, found):
        assert not find_marked([[found, {"summary": str(replace(MARK, map_index=1))}]], MARK.token)


class TestFindMarked:
    def test_the_newest_runs_of_the_template_archived_or_not(self):
        assert newest_runs("c1") == (
            {"checklist_id": "c1", "sort": "-created_at", "archived": "true"},
            {"checklist_id": "c1", "sort": "-created_at", "status": "archived"},
        )

    def test_the_run_with_the_mark(self):
        mine = run("r2", timedelta(minutes=1), str(MARK))
        runs = [run("r3", summary=str(replace(MARK, map_index=1))), mine, run("r1")]
        assert find_marked([runs], MARK.token) == mine
        assert find_marked([[each] for each in runs], MARK.token) == mine
        assert find_marked([runs[::2]], MARK.token) is None
        assert find_marked([[]], MARK.token) is None
        assert find_marked([], MARK.token) is None

    @pytest.mark.parametrize("since", [NOW, NOW.replace(tzinfo=None), NOW.astimezone()])
    def test_no_further_back_than_the_first_attempt(self, since):
        taken = []

        def pages():
            for first, last in ((0, 30), (45, 59), (60, 61), (62, 63), (64, 500)):
                taken.append(last)
                yield [run(f"r{minutes}", timedelta(minutes=minutes)) for minutes in (first, last)]

        assert find_marked(pages(), MARK.token, since) is None
        assert taken == [30, 59, 61]

    def test_clocks_may_differ_by_an_hour(self):
        mine = run("r1", timedelta(minutes=59), str(MARK))
        assert find_marked([[run("r2")], [mine]], MARK.token, NOW) == mine
        assert find_marked([[run("r2", timedelta(minutes=61))], [mine]], MARK.token, NOW) is None

    def test_all_runs_where_the_first_attempt_is_not_known(self):
        mine = run("r1", timedelta(days=900), str(MARK))
        assert find_marked([[run("r2", timedelta(days=800))], [mine]], MARK.token) == mine

    @pytest.mark.parametrize(
        "ago", [(500, 400, 300), (1, 500, 2), (300, 500, 400)], ids=["oldest first", "none", "nor here"]
    )
    def test_a_list_in_another_order_is_read_to_its_end(self, ago):
        mine = run("r1", summary=str(MARK))
        page = [run(f"r{minutes}", timedelta(minutes=minutes)) for minutes in ago]
        assert find_marked([page, page, [mine]], MARK.token, NOW) == mine

    @pytest.mark.parametrize("created_at", [None, "", "yesterday", 5])
    def test_a_run_of_unknown_age_is_not_the_end(self, created_at):
        mine = run("r1", summary=str(MARK))
        assert find_marked([[{"id": "r2", "created_at": created_at}], [mine]], MARK.token, NOW) == mine

    @pytest.mark.parametrize(
        "created_at", ["2026-01-05T09:00:00.000Z", "2026-01-05 09:00:00", "2026-01-05T09:00:00+00:00"]
    )
    def test_dates_as_tallyfy_writes_them(self, created_at):
        assert (
            find_marked([[{"created_at": created_at}], [run("r1", summary=str(MARK))]], MARK.token, NOW)
            is None
        )
