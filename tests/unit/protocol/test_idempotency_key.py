from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tallyfy.protocol.idempotency_key import IdempotencyKey, find_launched, search_filters

KEY = IdempotencyKey("onboarding", "manual__2026-01-05T12:00:00+00:00", "launch")
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def run(run_id, ago=timedelta(), summary=None):
    return {"id": run_id, "created_at": (NOW - ago).isoformat().replace("+00:00", "Z"), "summary": summary}


class TestKey:
    def test_note(self):
        assert KEY.note == (
            "Launched by Airflow: DAG onboarding, task launch, run manual__2026-01-05T12:00:00+00:00 "
            f"({KEY.value})"
        )
        assert "task launch [3], run" in replace(KEY, map_index=3).note
        assert "task launch [0], run" in replace(KEY, map_index=0).note
        assert replace(KEY, try_number=2).note.startswith(
            "Launched by Airflow: DAG onboarding, task launch, run manual__2026-01-05T12:00:00+00:00, try 2 ("
        )
        assert replace(KEY, task_id="").note.startswith("Launched by Airflow: DAG onboarding, run manual__")

    def test_key_is_stable(self):
        """And in every release: a task may be retried by another one. Changing this makes second processes."""
        assert KEY.value == replace(KEY).value == "airflow-e8d4c646427641bbc276"

    @pytest.mark.parametrize(
        "other",
        [
            replace(KEY, dag_id="offboarding"),
            replace(KEY, run_id="manual__2026-01-06T12:00:00+00:00"),
            replace(KEY, task_id="launch_2"),
            replace(KEY, map_index=0),
            replace(KEY, map_index=1),
            replace(KEY, callback="failure"),
            replace(KEY, try_number=1),
            replace(KEY, try_number=2),
            replace(KEY, dag_run_identity="1"),
            replace(KEY, dag_run_identity="2"),
            replace(KEY, started_at="1"),
            replace(KEY, started_at="2"),
            IdempotencyKey("onboarding", "launch", "manual__2026-01-05T12:00:00+00:00"),
        ],
    )
    def test_key_differs_for_other_task_instances(self, other):
        assert other.value != KEY.value

    def test_clear_changes_the_key_but_not_its_prefix(self):
        first, cleared = (replace(KEY, dag_run_identity="i", started_at=start) for start in "ab")
        assert first.prefix == cleared.prefix != KEY.prefix
        assert first.value != cleared.value
        assert first.value.startswith(f"{first.prefix}-")

    @given(st.text(), st.text(), st.text(), st.integers(-1, 1000))
    def test_note_is_short_and_needs_no_html_quoting(self, dag_id, run_id, task_id, map_index):
        key = IdempotencyKey(dag_id, run_id, task_id, map_index)
        assert re.fullmatch("airflow-[0-9a-f]{20}", key.value)
        assert len(key.note) < 350
        assert html.escape(key.note) == key.note
        assert key.note.isprintable()


class TestSummary:
    @pytest.mark.parametrize("summary", [None, "", "  \n"])
    def test_note_without_a_summary(self, summary):
        assert KEY.append_note(summary) == KEY.note

    def test_note_after_a_summary(self):
        assert KEY.append_note("Ask Ada first.") == f"Ask Ada first.\n\n{KEY.note}"

    def test_note_is_added_once(self):
        assert KEY.append_note(KEY.append_note("Ask Ada.")) == KEY.append_note("Ask Ada.")

    @pytest.mark.parametrize(
        "summary",
        [
            KEY.append_note("Ask Ada."),
            f"<p>Ask Ada.</p><p>{html.escape(KEY.note)}</p>",
            f"{KEY.note} And Ben added this.",
        ],
    )
    def test_finds_the_key_in_a_summary(self, summary):
        assert find_launched([[{"id": "r1", "summary": summary}]], KEY.value)

    def test_quoted_note_does_not_count(self):
        other = replace(KEY, map_index=1)
        quoting = {
            "id": "r1",
            "summary": other.append_note(f"<p>It repeats the run with this note: {KEY.note}</p>"),
        }
        assert find_launched([[quoting]], KEY.value) is None
        assert find_launched([[quoting]], other.value) == quoting
        assert find_launched([[{"summary": KEY.append_note(quoting["summary"])}]], KEY.value)

    def test_finds_the_key_alone(self):
        assert find_launched([[{"summary": f"Ask Ada. {KEY.value}"}]], KEY.value)

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
        assert not find_launched([[found, {"summary": replace(KEY, map_index=1).note}]], KEY.value)


class TestFindLaunched:
    def test_filters_list_the_newest_runs_with_archived_ones(self):
        assert search_filters("c1") == (
            {"checklist_id": "c1", "sort": "-created_at", "archived": "true"},
            {"checklist_id": "c1", "sort": "-created_at", "status": "archived"},
        )

    def test_finds_the_run(self):
        mine = run("r2", timedelta(minutes=1), KEY.note)
        runs = [run("r3", summary=replace(KEY, map_index=1).note), mine, run("r1")]
        assert find_launched([runs], KEY.value) == mine
        assert find_launched([[each] for each in runs], KEY.value) == mine
        assert find_launched([runs[::2]], KEY.value) is None
        assert find_launched([[]], KEY.value) is None
        assert find_launched([], KEY.value) is None

    @pytest.mark.parametrize("since", [NOW, NOW.replace(tzinfo=None), NOW.astimezone()])
    def test_search_ends_at_the_first_attempt(self, since):
        taken = []

        def pages():
            for first, last in ((0, 30), (45, 59), (60, 61), (62, 63), (64, 500)):
                taken.append(last)
                yield [run(f"r{minutes}", timedelta(minutes=minutes)) for minutes in (first, last)]

        assert find_launched(pages(), KEY.value, since) is None
        assert taken == [30, 59, 61]

    def test_search_allows_for_clock_skew(self):
        mine = run("r1", timedelta(minutes=59), KEY.note)
        assert find_launched([[run("r2")], [mine]], KEY.value, NOW) == mine
        assert find_launched([[run("r2", timedelta(minutes=61))], [mine]], KEY.value, NOW) is None

    def test_search_without_a_start_reads_all_runs(self):
        mine = run("r1", timedelta(days=900), KEY.note)
        assert find_launched([[run("r2", timedelta(days=800))], [mine]], KEY.value) == mine

    @pytest.mark.parametrize(
        "ago", [(500, 400, 300), (1, 500, 2), (300, 500, 400)], ids=["oldest first", "none", "nor here"]
    )
    def test_list_in_another_order_is_read_to_its_end(self, ago):
        mine = run("r1", summary=KEY.note)
        page = [run(f"r{minutes}", timedelta(minutes=minutes)) for minutes in ago]
        assert find_launched([page, page, [mine]], KEY.value, NOW) == mine

    @pytest.mark.parametrize("created_at", [None, "", "yesterday", 5])
    def test_run_without_a_date_does_not_end_the_search(self, created_at):
        mine = run("r1", summary=KEY.note)
        assert find_launched([[{"id": "r2", "created_at": created_at}], [mine]], KEY.value, NOW) == mine

    @pytest.mark.parametrize(
        "created_at", ["2026-01-05T09:00:00.000Z", "2026-01-05 09:00:00", "2026-01-05T09:00:00+00:00"]
    )
    def test_formats_of_dates(self, created_at):
        assert (
            find_launched([[{"created_at": created_at}], [run("r1", summary=KEY.note)]], KEY.value, NOW)
            is None
        )
