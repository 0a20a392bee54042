"""The wait in the triggerer, on looks that the tests choose."""

from __future__ import annotations

import asyncio
import logging

import pytest

from airflow_provider_tallyfy import exceptions
from airflow_provider_tallyfy.waiting import wait as wait_module
from airflow_provider_tallyfy.waiting.looks import Blank, Sight
from airflow_provider_tallyfy.waiting.next_task import NextTaskCondition
from airflow_provider_tallyfy.waiting.pace import Pace
from airflow_provider_tallyfy.waiting.verdicts import Lost, Over, Refused, Waiting

DOWN = Blank(exceptions.TallyfyConnectionError("nothing came back"))
REFUSED = Blank(exceptions.TallyfyAuthError("401"))


def seen(next_task_id, **fields):
    return Sight({"id": "run", "next_task": next_task_id and {"id": next_task_id}, **fields})


@pytest.fixture
def waited(monkeypatch, caplog):
    def wait(looks, from_task_id="a", **options):
        async def watch(*_):
            for look in looks:
                yield look

        monkeypatch.setattr(wait_module, "watch", watch)
        caplog.set_level(logging.INFO)
        log = logging.getLogger("test_wait")
        return asyncio.run(
            wait_module.wait("conn", "run", NextTaskCondition(from_task_id), Pace(1), log, **options)
        )

    return wait


def test_it_ends_with_the_first_change(waited):
    verdict = waited([seen("a"), seen("a"), seen("b"), seen("a")])
    assert isinstance(verdict, Over)
    assert verdict.result["next_task"] == {"id": "b"}
    assert verdict.result["from_task_id"] == "a"


def test_the_baseline_of_the_first_sight_is_handed_back_to_be_kept(waited):
    assert waited([DOWN, seen("x"), seen("y")], from_task_id=None) == Waiting(NextTaskCondition("x"))


def test_without_a_baseline_a_run_with_nothing_left_is_over(waited):
    assert isinstance(waited([seen(None)], from_task_id=None), Over)


def test_an_outage_is_told_in_few_lines_and_so_is_its_end(waited, caplog):
    waited([seen("a"), *[DOWN] * 1000, seen("a"), seen(None)])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 10  # 1, 2, 4, … 512
    assert "nothing came back" in warnings[0]
    assert "after 1000 failed looks" in caplog.text


def test_each_sight_is_one_line(waited, caplog):
    waited([seen("a"), seen("a"), seen(None)])
    assert [record.getMessage() for record in caplog.records] == [
        "Run run: next is 'untitled' (a)",
        "Run run: next is 'untitled' (a)",
        "Run run: no task is left",
    ]


def test_a_lost_run_ends_it(waited):
    assert isinstance(waited([seen("a"), seen("a", archived_at="2026-01-01")]), Lost)


def test_a_refusal_ends_it_unless_it_is_to_be_outlived(waited):
    assert waited([seen("a"), REFUSED]) == Refused(REFUSED.error)
    assert isinstance(waited([REFUSED, REFUSED, seen("b")], outlives_refusals=True), Over)
