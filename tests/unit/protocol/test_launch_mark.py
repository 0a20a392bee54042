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
    def test_str(self):
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

    def test_token_is_stable(self):
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
    def test_token_differs_for_other_task_instances(self, other):
        assert other.token != MARK.token

    def test_clear_changes_the_token_but_not_the_stem(self):
        first, cleared = (replace(MARK, incarnation="i", started_at=start) for start in "ab")
        assert first.stem == cleared.stem != MARK.stem
        assert first.token != cleared.token
        assert first.token.startswith(f"{first.stem}-")

    @given(st.text(), st.text(), st.text(), st.integers(-1, 1000))
    def test_mark_is_short_and_needs_no_html_quoting(self, dag_id, run_id, task_id, map_index):
        mark = LaunchMark(dag_id, run_id, task_id, map_index)
        assert re.fullmatch("airflow-[0-9a-f]{20}", mark.token)
        assert len(str(mark)) < 350
        assert html.escape(str(mark)) == str(mark)
        assert str(mark).isprintable()

    def test_mapped_task_instances_have_different_tokens(self):
        assert len({replace(MARK, map_index=number).token for number in range(-1, 10_000)}) == 10_001


class TestSummary:
    @pytest.mark.parametrize("summary", [None, "", "  \n"])
    def test_mark_without_a_summary(self, summary):
        assert MARK.added_to(summary) == str(MARK)

    def test_mark_after_a_summary(self):
        assert MARK.added_to("Ask Ada first.") == f"Ask Ada first.\n\n{MARK}"

    def test_mark_is_added_once(self):
        assert MARK.added_to(MARK.added_to("Ask Ada.")) == MARK.added_to("Ask Ada.")

    @pytest.mark.parametrize(
        "summary",
        [
            MARK.added_to("Ask Ada."),
            f"<p>Ask Ada.</p><p>{html.escape(str(MARK))}</p>",
            f"{MARK} And Ben added this.",
        ],
    )
    def test_finds_the_mark_in_a_summary(self, summary):
        assert find_marked([[{"id": "r1", "summary": summary}]], MARK.token)

    def test_quoted_mark_does_not_count(self):
        other = replace(MARK, map_index=1)
        quoting = {"id": "r1", "summary": other.added_to(f"<p>It repeats the run with this note: {MARK}</p>")}
        assert find_marked([[quoting]], MARK.token) is None
        assert find_marked([[quoting]], other.token) == quoting
        assert find_marked([[{"summary": MARK.added_to(quoting["summary"])}]], MARK.token)

    def test_finds_the_token_alone(self):
        assert find_marked([[{"summary": f"Ask Ada. {MARK.token}"}]], MARK.token)

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
    def test_other_summaries_do_not_match(self, found):
        assert not find_marked([[found, {"summary": str(replace(MARK, map_index=1))}]], MARK.token)


class TestFindMarked:
    def test_filters_list_the_newest_runs_with_archived_ones(self):
        assert newest_runs("c1") == (
            {"checklist_id": "c1", "sort": "-created_at", "archived": "true"},
            {"checklist_id": "c1", "sort": "-created_at", "status": "archived"},
        )

    def test_finds_the_marked_run(self):
        mine = run("r2", timedelta(minutes=1), str(MARK))
        runs = [run("r3", summary=str(replace(MARK, map_index=1))), mine, run("r1")]
        assert find_marked([runs], MARK.token) == mine
        assert find_marked([[each] for each in runs], MARK.token) == mine
        assert find_marked([runs[::2]], MARK.token) is None
        assert find_marked([[]], MARK.token) is None
        assert find_marked([], MARK.token) is None

    @pytest.mark.parametrize("since", [NOW, NOW.replace(tzinfo=None), NOW.astimezone()])
    def test_search_ends_at_the_first_attempt(self, since):
        taken = []

        def pages():
            for first, last in ((0, 30), (45, 59), (60, 61), (62, 63), (64, 500)):
                taken.append(last)
                yield [run(f"r{minutes}", timedelta(minutes=minutes)) for minutes in (first, last)]

        assert find_marked(pages(), MARK.token, since) is None
        assert taken == [30, 59, 61]

    def test_search_allows_for_clock_skew(self):
        mine = run("r1", timedelta(minutes=59), str(MARK))
        assert find_marked([[run("r2")], [mine]], MARK.token, NOW) == mine
        assert find_marked([[run("r2", timedelta(minutes=61))], [mine]], MARK.token, NOW) is None

    def test_search_without_a_start_reads_all_runs(self):
        mine = run("r1", timedelta(days=900), str(MARK))
        assert find_marked([[run("r2", timedelta(days=800))], [mine]], MARK.token) == mine

    @pytest.mark.parametrize(
        "ago", [(500, 400, 300), (1, 500, 2), (300, 500, 400)], ids=["oldest first", "none", "nor here"]
    )
    def test_list_in_another_order_is_read_to_its_end(self, ago):
        mine = run("r1", summary=str(MARK))
        page = [run(f"r{minutes}", timedelta(minutes=minutes)) for minutes in ago]
        assert find_marked([page, page, [mine]], MARK.token, NOW) == mine

    @pytest.mark.parametrize("created_at", [None, "", "yesterday", 5])
    def test_run_without_a_date_does_not_end_the_search(self, created_at):
        mine = run("r1", summary=str(MARK))
        assert find_marked([[{"id": "r2", "created_at": created_at}], [mine]], MARK.token, NOW) == mine

    @pytest.mark.parametrize(
        "created_at", ["2026-01-05T09:00:00.000Z", "2026-01-05 09:00:00", "2026-01-05T09:00:00+00:00"]
    )
    def test_formats_of_dates(self, created_at):
        assert (
            find_marked([[{"created_at": created_at}], [run("r1", summary=str(MARK))]], MARK.token, NOW)
            is None
        )
