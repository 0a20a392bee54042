"""
``make demo``: a real Airflow waits for a person in a sandbox Tallyfy, on this machine only.

The demo has passed when every task succeeded and a sensor was really seen deferred meanwhile, that is, waiting
in the triggerer without a worker.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import requests
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from dev.processes import exit_on_termination
from dev.real_airflow import RealAirflow
from dev.sandbox import running_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dev.airflow_api import DagRun
    from dev.sandbox import SandboxClient

EXAMPLES = Path(__file__).parents[1] / "example_dags"
DEFAULT_DAG = "tallyfy_wait_for_next_task"
DEADLINE = 150.0
#: With --keep, the reader has this long to do the work before the simulated person does it.
PATIENCE = 60.0
#: Without, the simulated person waits so long, for the reader to see what is going on.
PAUSE = 3.0
COLOURS = {
    "success": "green",
    "completed": "green",
    "failed": "red",
    "deferred": "magenta",
    "running": "cyan",
    "in-progress": "cyan",
}


class View:
    """A line for each event and, on a terminal, two tables below that follow the states."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._started = time.monotonic()
        is_live = self.console.is_terminal and "CI" not in os.environ
        self._live = Live(console=self.console, refresh_per_second=4) if is_live else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Add a line, which may hold rich's markup."""
        self.console.print(f"[dim]{self._elapsed()}[/]  {text}", soft_wrap=True)

    def follow(
        self, dag_run: DagRun, states: Mapping[str, str | None], tasks: Iterable[dict[str, Any]]
    ) -> None:
        """Bring the tables up to date."""
        if self._live:
            airflow = _table(f"Airflow: {dag_run.dag_id}", states.items())
            tallyfy = _table("Tallyfy: the process", ((task["title"], task["status"]) for task in tasks))
            self._live.update(Group("", airflow, tallyfy, f"[dim]{self._elapsed()}[/]"))

    def stop_following(self) -> None:
        if self._live:
            self._live.update("", refresh=True)

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._started:5.1f} s"


def _table(title: str, rows: Iterable[tuple[str, str | None]]) -> Table:
    table = Table("task", "state", title=title, title_justify="left", min_width=60)
    for name, state in rows:
        table.add_row(escape(name), _coloured(state or "not yet"))
    return table


def _coloured(state: str) -> str:
    return f"[{COLOURS.get(state, 'default')}]{state}[/]"


class Person:
    """
    Completes the task that a sensor waits for, unless the reader of the demo is quicker.

    :param patience: how many seconds the reader has
    """

    def __init__(self, view: View, sandbox: SandboxClient, run_id: str, patience: float) -> None:
        self._view = view
        self._sandbox = sandbox
        self._run_id = run_id
        self._patience = patience
        self._task: dict[str, Any] | None = None
        self._turn_ends = 0.0

    def take_turn(self) -> None:
        """Notice the task that has to be done now."""
        self._task = self._sandbox.next_task(self._run_id)
        self._turn_ends = time.monotonic() + self._patience

    @property
    def title(self) -> str:
        return escape(repr(self._task["title"])) if self._task else "nothing"

    def act(self) -> None:
        """Do the work if it is time, and nobody else did it."""
        if self._task is None:
            return
        task = self._sandbox.task(self._run_id, self._task["id"])
        if task["completed_at"]:
            self._view.say(f"[yellow]You completed [bold]{self.title}[/][/]")
        elif time.monotonic() >= self._turn_ends:
            name = task["owners"]["users"][0]["full_name"]
            verb = "approves" if task["task_type"] == "approval" else "completes"
            self._view.say(f"[yellow]{name} {verb} [bold]{self.title}[/][/]")
            self._sandbox.complete(task)
        else:
            return
        self._task = None


def run(dag_id: str, *, keep: bool) -> bool:
    """Run the demo and tell whether it passed."""
    with View() as view:
        view.say(f"Runs {dag_id} in a real Airflow {version('apache-airflow')} against a sandbox Tallyfy.")
        view.say("All of it is on this machine, takes about a minute, and is ended afterwards.")
        with running_sandbox() as sandbox:
            view.say(f"The sandbox is up: {sandbox.url}")
            view.say("Airflow is starting.")
            environment = {"AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection()}
            with RealAirflow(EXAMPLES, environment=environment) as airflow:
                view.say(f"Airflow is up, with its scheduler, triggerer and API server: {airflow.url}")
                dag_run = airflow.trigger(dag_id, {"run_id": SEEDED_RUN_ID})
                person = Person(view, sandbox, SEEDED_RUN_ID, PATIENCE if keep else PAUSE)
                passed = _follow(view, sandbox, dag_run, person, keep=keep)
                if keep:
                    view.say(f"Airflow: {airflow.url}  Sandbox: {sandbox.url}  [bold]Ctrl-C ends both.[/]")
                    while True:
                        airflow.check()
                        time.sleep(1)
    return passed


def _follow(view: View, sandbox: SandboxClient, dag_run: DagRun, person: Person, *, keep: bool) -> bool:
    states: dict[str, str | None] = {}
    deferred: set[str] = set()

    def look() -> str | None:
        state = dag_run.state()  # read first: the task states that follow are then the last ones
        for task_id, now in dag_run.task_states().items():
            if now is not None and now != states.get(task_id):
                view.say(f"[bold]{task_id}[/] → {_coloured(now)}")
                if now == "deferred":
                    deferred.add(task_id)
                    person.take_turn()
                    view.say(f"It holds no worker now. It waits for somebody to complete {person.title}.")
                    if keep:
                        view.say(
                            f"[bold]Your turn[/], for {PATIENCE:g} s: do it at {sandbox.process_url(SEEDED_RUN_ID)}"
                        )
                        view.say(f"Airflow's view of it is at {dag_run.url}")
            states[task_id] = now
        person.act()
        view.follow(dag_run, states, sandbox.tasks(SEEDED_RUN_ID))
        return state if state in ("success", "failed") else None

    state = dag_run.api.wait_for(look, DEADLINE + PATIENCE * keep, "the DAG run's end")
    view.stop_following()
    if set(states.values()) != {"success"}:
        view.console.print(dag_run.failures(), markup=False)
        view.say(f"[red]The DAG run's state is {state}[/], its tasks are {states}.")
        return False
    for task_id in states:
        _show_result(view, dag_run, task_id)
    sensors = {task_id for task_id, operator in dag_run.operators().items() if operator.endswith("Sensor")}
    if not_deferred := sensors - deferred:
        view.say(f"[red]Every task succeeded, but {', '.join(not_deferred)} was not seen deferred.[/]")
        return False
    view.say(
        "[green]Every task succeeded[/]" + "".join(f", {name} deferred while it waited" for name in sensors)
    )
    return True


def _show_result(view: View, dag_run: DagRun, task_id: str) -> None:
    try:
        value = dag_run.xcom(task_id)
    except requests.HTTPError as error:
        if error.response.status_code != requests.codes.not_found:
            raise
        return  # it returned nothing
    view.console.print(f"\n[bold]{task_id}[/] returned:")
    view.console.print_json(data=value)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.demo", description="Run an example DAG for real.")
    parser.add_argument("--dag", default=DEFAULT_DAG, help="the example DAG to run (default: %(default)s)")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="let you complete the task yourself, and leave Airflow and the sandbox up until Ctrl-C",
    )
    arguments = parser.parse_args()
    try:
        with exit_on_termination():
            return 0 if run(arguments.dag, keep=arguments.keep) else 1
    except KeyboardInterrupt:
        print("Ended; nothing is left running.", file=sys.stderr)
        return 128 + signal.SIGINT
    except (RuntimeError, TimeoutError, requests.RequestException) as error:
        print(f"The demo failed. {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
