"""What the benchmark of a real triggerer makes of its arguments and samples."""

from __future__ import annotations

import argparse

import pytest

from benchmarks import crowd


def test_reads_database_and_number_of_a_crowd():
    assert crowd.parse_crowd("postgresql:5000") == ("PostgreSQL", 5000)


@pytest.mark.parametrize("argument", ["mysql:10", "sqlite", "10", "sqlite:many", "sqlite:0"])
def test_refuses_a_crowd_that_cannot_be_read(argument):
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{argument}' is not like sqlite:2000"):
        crowd.parse_crowd(argument)


def test_keeps_the_figures_of_other_crowds(monkeypatch):
    def crowd_of(database, waits, wrong):
        return {"database": database, "in_triggerer": waits, "by_workers": waits, "wrong": wrong}

    def measure(case):
        return crowd_of(case.database, case.in_triggerer, wrong=0)

    monkeypatch.setattr(crowd, "measure_crowd", measure)
    known = [crowd_of("SQLite", 5, 1), crowd_of("PostgreSQL", 5, 1), crowd_of("PostgreSQL", 9, 1)]
    options = argparse.Namespace(quick=False, crowds=[("PostgreSQL", 18), ("SQLite", 10)])
    assert crowd.measure_crowds(options, known) == [
        crowd_of("SQLite", 5, 0),
        crowd_of("PostgreSQL", 5, 1),
        crowd_of("PostgreSQL", 9, 0),
    ]


@pytest.mark.parametrize(
    ("frame", "cause"),
    [
        ("/x/airflow_provider_tallyfy/waiting/watcher.py:1 deliver", crowd.CAUSES[0]),
        ("/x/airflow/serialization/serialized_objects.py:1 from_dict", crowd.CAUSES[1]),
        ("/x/airflow/jobs/triggerer_job_runner.py:1 _aread_frame", crowd.CAUSES[1]),
        ("/x/structlog/_output.py:1 msg", crowd.CAUSES[2]),
        ("/x/airflow/jobs/triggerer_job_runner.py:1 arun", crowd.CAUSES[3]),
    ],
)
def test_cause_of_a_delay_is_the_module_on_the_stack(frame, cause):
    assert crowd._cause(f"/x/asyncio/events.py:1 _run\n{frame}") == cause


def test_a_delay_is_divided_by_its_causes():
    ours, other = "/airflow_provider_tallyfy/hooks/a.py:1 b", "/x/y.py:1 z"
    assert crowd._parts(2.0, [ours, other, other, other]) == {crowd.CAUSES[0]: 0.5, crowd.CAUSES[-1]: 1.5}
    assert crowd._parts(0.06, []) == {}
