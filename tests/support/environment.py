"""A real Airflow, and the sandboxes that its connections lead to; the processes of pytest-xdist share one."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_3_PLUS
from dev.backends import ProductionBackend
from dev.real_airflow import RealAirflow
from dev.rewriter import Rewriter
from dev.sandbox import SandboxClient, running_sandbox
from dev.statsd import StatsdServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dev.airflow_api import DagRun

# Airflow before 3.3 runs some of the DAGs, for `make test-matrix`.
DAGS = Path(__file__).parents[1] / "system" / ("dags" if AIRFLOW_V_3_3_PLUS else "dags_of_every_airflow")


@dataclass(frozen=True)
class Wait:
    """A process in the sandbox, and a DAG run whose task ``wait`` waits for its next task."""

    sandbox: SandboxClient
    run_id: str
    first: dict[str, Any] | None
    dag_run: DagRun

    def until(self, *states: str) -> dict[str, Any]:
        """Wait until the sensor's task instance is in one of the states, and return it; a retry is a failure."""
        instance = self.dag_run.wait_for_task("wait", {*states, "up_for_retry"})
        assert instance["state"] in states, self.log()
        return instance

    @property
    def first_id(self) -> str | None:
        """The id of the task that was next when the DAG run began."""
        return self.first["id"] if self.first else None

    def complete_next(self) -> dict[str, Any] | None:
        """Complete the next task, and return the one that is next then."""
        return self.sandbox.complete_next(self.run_id)

    def result(self) -> dict[str, Any]:
        """Return the sensor's result, after its success at the first try."""
        assert self.until("success")["try_number"] == 1
        result: dict[str, Any] = self.dag_run.xcom("wait")
        return result

    def moves_on(self) -> dict[str, Any]:
        """Complete the next task, check that the sensor returns that change, and return the one that is next then."""
        following = self.complete_next()
        assert following is not None
        result = self.result()
        assert result["from_task_id"] == self.first_id
        assert result["next_task"]["id"] == following["id"]
        return following

    def log(self) -> str:
        return self.dag_run.log("wait")


@dataclass(frozen=True)
class Environment:
    """The Airflow and the sandboxes of the system tests."""

    airflow: RealAirflow
    sandbox: SandboxClient
    #: Returns a run's next task as an object, as Tallyfy did in 2025.
    object_sandbox: SandboxClient
    #: Airflow sends its metrics to this UDP port.
    statsd_port: int
    _started: dict[tuple[str, str, int], list[Wait]] = field(default_factory=lambda: defaultdict(list))

    @property
    def address(self) -> dict[str, Any]:
        """What another process needs to :meth:`join`, as pytest-xdist can send it."""
        return {
            "airflow": (self.airflow.url, str(self.airflow.home)),
            "sandboxes": (self.sandbox.url, self.object_sandbox.url),
            "statsd_port": self.statsd_port,
        }

    @classmethod
    def join(cls, address: dict[str, Any]) -> Environment:
        """Return the environment that another process started."""
        url, home = address["airflow"]
        sandboxes = map(SandboxClient, address["sandboxes"])
        return cls(RealAirflow.join(url, Path(home)), *sandboxes, address["statsd_port"])

    def start_wait(self, dag_id: str, *, sandbox: SandboxClient | None = None, done: int = 0) -> None:
        """
        Start what :meth:`wait_in` returns later.

        Airflow needs some seconds until a task is deferred. They pass for all waits at once.
        """
        self._started[self._key(dag_id, sandbox, done)].append(self._start_wait(dag_id, sandbox, done))

    def wait_in(self, dag_id: str, *, sandbox: SandboxClient | None = None, done: int = 0) -> Wait:
        """
        Start a process and a DAG run that waits for it, unless one was started already.

        :param sandbox: where the process is; :attr:`sandbox` by default
        :param done: how many of the process's three tasks to complete before
        """
        started = self._started[self._key(dag_id, sandbox, done)]
        return started.pop(0) if started else self._start_wait(dag_id, sandbox, done)

    def _key(self, dag_id: str, sandbox: SandboxClient | None, done: int) -> tuple[str, str, int]:
        return dag_id, (sandbox or self.sandbox).url, done

    def _start_wait(self, dag_id: str, sandbox: SandboxClient | None, done: int) -> Wait:
        sandbox = sandbox or self.sandbox
        run_id = sandbox.launch(f"Run for {dag_id}")
        for _ in range(done):
            sandbox.complete_next(run_id)
        first = sandbox.next_task(run_id)
        conf = {"run_id": run_id, "from_task": first["id"] if first else ""}
        return Wait(sandbox, run_id, first, self.airflow.trigger(dag_id, conf))

    @contextmanager
    def connection(self, conn_id: str, described: str) -> Iterator[None]:
        """Keep a connection in Airflow's database for as long as the ``with`` block lasts."""
        connection = {"connection_id": conn_id, **json.loads(described)}
        connection["extra"] = json.dumps(connection["extra"])
        self.airflow.api.request("POST", "/connections", json=connection)
        try:
            yield
        finally:
            self.airflow.api.request("DELETE", f"/connections/{conn_id}")


@contextmanager
def running_environment(*, production: bool = False) -> Iterator[Environment]:
    """
    Start an environment, and end it on leaving the ``with`` block.

    :param production: on PostgreSQL, Redis, two Celery workers and two triggerers
    """
    with ExitStack() as stack:
        sandbox = stack.enter_context(running_sandbox("collection"))
        object_sandbox = stack.enter_context(running_sandbox("object"))
        rewriter = stack.enter_context(Rewriter(sandbox.url))
        with StatsdServer() as statsd:  # a test listens there again
            metrics = statsd.settings()
        environment = {
            **metrics,
            "AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection(),
            "AIRFLOW_CONN_TALLYFY_OBJECT": object_sandbox.connection(),
            "AIRFLOW_CONN_TALLYFY_ODD": sandbox.connection(rewriter.url),
        }
        shape: dict[str, Any] = {}
        if production:
            shape = {"backend": ProductionBackend(), "triggerers": 2}
            # Fewer than the waits of a test, so that both triggerers hold some.
            environment["AIRFLOW__TRIGGERER__CAPACITY"] = "200"
        airflow = stack.enter_context(RealAirflow(DAGS, environment=environment, parallelism=8, **shape))
        yield Environment(airflow, sandbox, object_sandbox, int(metrics["AIRFLOW__METRICS__STATSD_PORT"]))
