"""
One real Airflow, and the sandboxes that its connections lead to, for all system tests of a session.

With ``--production`` it is an Airflow on PostgreSQL, Redis, two Celery workers and two triggerers.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from dev.backends import ProductionBackend
from dev.forwarder import Forwarder
from dev.real_airflow import RealAirflow
from dev.rewriter import Rewriter
from dev.sandbox import running_sandbox
from dev.statsd import StatsdServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.airflow_api import DagRun
    from dev.sandbox import SandboxClient

# Airflow before 3.3 runs one of the DAGs, for `make test-matrix`.
DAGS = Path(__file__).parent / ("dags" if AIRFLOW_V_3_3_PLUS else "dags_of_every_airflow")
SOON = 60.0


@dataclass(frozen=True)
class Wait:
    """A process in the sandbox, and a DAG run whose task ``wait`` waits for its next task."""

    sandbox: SandboxClient
    run_id: str
    first: dict[str, Any] | None
    dag_run: DagRun

    def until(self, *states: str) -> dict[str, Any]:
        """Wait until the sensor's task instance is in one of the states, and return it; a retry is a failure."""
        instance = self.dag_run.wait_for_task("wait", {*states, "up_for_retry"}, SOON)
        assert instance["state"] in states, self.log()
        return instance

    @property
    def first_id(self) -> str | None:
        """The id of the task that was next when the DAG run began."""
        return self.first["id"] if self.first else None

    def complete_next(self) -> dict[str, Any] | None:
        """Do the work that is next, and return what is next then."""
        return self.sandbox.complete_next(self.run_id)

    def result(self) -> dict[str, Any]:
        """Return what the sensor returned, after its success at the first try."""
        assert self.until("success")["try_number"] == 1
        result: dict[str, Any] = self.dag_run.xcom("wait")
        return result

    def moves_on(self) -> dict[str, Any]:
        """Do the work that is next, check that the sensor tells that change, and return what is next then."""
        following = self.complete_next()
        assert following is not None
        result = self.result()
        assert result["from_task_id"] == self.first_id
        assert result["next_task"]["id"] == following["id"]
        return following

    def log(self) -> str:
        return self.dag_run.log("wait")


@dataclass(frozen=True)
class Site:
    """Where the system tests take place."""

    airflow: RealAirflow
    sandbox: SandboxClient
    #: Answers a run's next task as an object, as Tallyfy did in 2025.
    object_sandbox: SandboxClient
    #: The connection ``tallyfy_outage`` leads to the sandbox through this.
    forwarder: Forwarder
    #: Airflow sends its metrics here.
    statsd: StatsdServer
    _begun: dict[tuple[str, str, int], list[Wait]] = field(default_factory=dict)

    def begin(self, dag_id: str, *, sandbox: SandboxClient | None = None, done: int = 0) -> None:
        """
        Begin what :meth:`wait_in` returns later.

        Airflow needs some seconds between a deferral and what resumes the task. They pass for all waits at once.
        """
        key = (dag_id, (sandbox or self.sandbox).url, done)
        self._begun.setdefault(key, []).append(self._begin(dag_id, sandbox, done))

    def wait_in(self, dag_id: str, *, sandbox: SandboxClient | None = None, done: int = 0) -> Wait:
        """
        Start a process and a DAG run that waits for it, unless one was begun already.

        :param sandbox: where; the usual one unless told
        :param done: how many of the process's three tasks to complete before
        """
        begun = self._begun.get((dag_id, (sandbox or self.sandbox).url, done))
        return begun.pop(0) if begun else self._begin(dag_id, sandbox, done)

    def _begin(self, dag_id: str, sandbox: SandboxClient | None, done: int) -> Wait:
        sandbox = sandbox or self.sandbox
        run_id = sandbox.launch(f"Run for {dag_id}")
        for _ in range(done):
            sandbox.complete_next(run_id)
        first = sandbox.next_task(run_id)
        return Wait(sandbox, run_id, first, self.airflow.trigger(dag_id, {"run_id": run_id}))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("production"):
        skip = pytest.mark.skip(reason="needs the production shape: make test-production")
        for item in items:
            if item.get_closest_marker("production"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    shape: dict[str, Any] = {}
    if request.config.getoption("production"):
        shape = {"backend": ProductionBackend(), "triggerers": 2}
    with ExitStack() as stack:
        sandbox = stack.enter_context(running_sandbox("collection"))
        object_sandbox = stack.enter_context(running_sandbox("object"))
        forwarder = stack.enter_context(Forwarder(urlsplit(sandbox.url).port or 0))
        rewriter = stack.enter_context(Rewriter(sandbox.url))
        statsd = stack.enter_context(StatsdServer())
        environment = {
            **statsd.settings(),
            "AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection(),
            "AIRFLOW_CONN_TALLYFY_OBJECT": object_sandbox.connection(),
            "AIRFLOW_CONN_TALLYFY_OUTAGE": sandbox.connection(forwarder.url),
            "AIRFLOW_CONN_TALLYFY_ODD": sandbox.connection(rewriter.url),
        }
        if shape:
            # Fewer than the waits of a test, so that both triggerers hold some.
            environment["AIRFLOW__TRIGGERER__CAPACITY"] = "40"
        airflow = stack.enter_context(RealAirflow(DAGS, environment=environment, parallelism=8, **shape))
        yield Site(airflow, sandbox, object_sandbox, forwarder, statsd)
