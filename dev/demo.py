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
from dev.airflow_api import DagRun
from dev.people import OF_THE_SEEDED_PROCESS, People
from dev.processes import exit_on_termination
from dev.real_airflow import RealAirflow
from dev.sandbox import running_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dev.sandbox import SandboxClient

EXAMPLES = Path(__file__).parents[1] / "example_dags"
#: The examples there start by themselves.
EVENTS = EXAMPLES / "events"
DEFAULT_DAG = "tallyfy_wait_for_next_task"
DEADLINE = 150.0
#: How the names of operators end that wait for people.
WAITING = ("Sensor", "ApprovalOperator")
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

    def tell_work(self, who: str, task: dict[str, Any]) -> None:
        """Say who completed a task."""
        verb = "approved" if task.get("task_type") == "approval" else "completed"
        self.say(f"[yellow]{who} {verb} [bold]{escape(repr(task['title']))}[/][/]")

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


def run(dag_id: str, *, keep: bool) -> bool:
    """Run the demo and tell whether it passed."""
    with View() as view:
        view.say(f"Runs {dag_id} in a real Airflow {version('apache-airflow')} against a sandbox Tallyfy.")
        view.say("All of it is on this machine, takes about a minute, and is ended afterwards.")
        with running_sandbox() as sandbox:
            view.say(f"The sandbox is up: {sandbox.url}")
            view.say("Airflow is starting.")
            people = People(sandbox, dag_id, PATIENCE if keep else PAUSE, view.tell_work)
            environment = {"AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection()}
            with RealAirflow(EXAMPLES, environment=environment) as airflow:
                view.say(f"Airflow is up, with its scheduler, triggerer and API server: {airflow.url}")
                if (EVENTS / f"{dag_id}.py").exists():
                    passed = start_by_event(view, airflow, sandbox, dag_id, keep=keep)
                else:
                    conf = {"run_id": SEEDED_RUN_ID} if dag_id in OF_THE_SEEDED_PROCESS else {}
                    passed = Demo(view, people, airflow.trigger(dag_id, conf), keep=keep).follow()
                if keep:
                    view.say(f"Airflow: {airflow.url}  Sandbox: {sandbox.url}  [bold]Ctrl-C ends both.[/]")
                    while True:
                        airflow.check()
                        time.sleep(1)
    return passed


def start_by_event(
    view: View, airflow: RealAirflow, sandbox: SandboxClient, dag_id: str, *, keep: bool
) -> bool:
    """Let a person complete a process, and tell whether the DAG started by itself and succeeded."""
    airflow.api.wait_for_dag(dag_id)
    airflow.api.unpause(dag_id)
    has_begun = "SELECT 1 FROM asset_state_store"
    airflow.api.wait_for(lambda: airflow.rows(has_begun), DEADLINE, "the watcher to begin")
    view.say(
        f"[bold]{dag_id}[/] is not triggered by anybody. Its watcher waits for what people do in Tallyfy."
    )
    run_id = sandbox.launch("Release 3.0.0")
    if keep:
        view.say(
            f"[bold]Your turn[/], for {PATIENCE:g} s: complete all tasks at {sandbox.process_url(run_id)}"
        )
    left_until = time.monotonic() + PATIENCE * keep
    while (task := sandbox.next_task(run_id)) is not None:
        if time.monotonic() < left_until:
            time.sleep(1)
            continue
        time.sleep(PAUSE)
        sandbox.complete_next(run_id)
        view.say(f"[yellow]A person completed [bold]{escape(repr(task['title']))}[/][/]")
    view.say(f"The process {sandbox.run(run_id)['name']!r} is {sandbox.run(run_id)['status']}.")

    def started() -> DagRun | None:
        runs = airflow.rows(f"SELECT run_id FROM dag_run WHERE dag_id = '{dag_id}'")  # noqa: S608
        return DagRun(airflow.api, dag_id, runs[0][0]) if runs else None

    dag_run = airflow.api.wait_for(started, DEADLINE, "the DAG to start")
    view.say(f"[bold]{dag_id}[/] has started by itself: {dag_run.dag_run_id}")
    state = dag_run.wait(DEADLINE)
    if state != "success":
        view.console.print(dag_run.failures(), markup=False)
        view.say(f"[red]The DAG run's state is {state}.[/]")
        return False
    _show_result(view, dag_run, next(iter(dag_run.task_states())))
    view.say("[green]The DAG run succeeded[/]")
    return True


class Demo:
    """
    A DAG run and the people it waits for, told to the reader as they go on.

    :param keep: leave the work to the reader for a while
    """

    def __init__(self, view: View, people: People, dag_run: DagRun, *, keep: bool) -> None:
        self._view = view
        self._people = people
        self._dag_run = dag_run
        self._keep = keep
        self._states: dict[str, str | None] = {}
        self._deferred: set[str] = set()
        self._turns = 0
        self._comments: set[str] = set()

    def follow(self) -> bool:
        """Go along until the DAG run has ended, and tell whether all went well."""
        state = self._dag_run.api.wait_for(self._look, DEADLINE + PATIENCE * self._keep, "the DAG run's end")
        self._view.stop_following()
        if state != "success":
            self._view.console.print(self._dag_run.failures(), markup=False)
            self._view.say(f"[red]The DAG run's state is {state}[/], its tasks are {self._states}.")
            return False
        for task_id in self._states:
            _show_result(self._view, self._dag_run, task_id)
        operators = self._dag_run.operators().items()
        waiting = {task_id for task_id, operator in operators if operator.endswith(WAITING)}
        if not_deferred := waiting - self._deferred:
            self._view.say(
                f"[red]The DAG run succeeded, but {', '.join(not_deferred)} was not seen deferred.[/]"
            )
            return False
        for run_id in self._people.runs():
            process = self._people.sandbox.run(run_id)
            self._view.say(f"The process {process['name']!r} is {process['status']}.")
        seen = "".join(f", {task_id} deferred while it waited" for task_id in sorted(waiting))
        self._view.say(f"[green]The DAG run succeeded[/]{seen}")
        return True

    def _look(self) -> str | None:
        state = self._dag_run.state()  # read first: the task states that follow are then the last ones
        for task_id, now in self._dag_run.task_states().items():
            if now is not None and now != self._states.get(task_id):
                self._view.say(f"[bold]{task_id}[/] → {_coloured(now)}")
                if now == "deferred":
                    self._begin_to_wait(task_id)
            self._states[task_id] = now
        for thread_id, title, content in self._people.comments():
            if thread_id not in self._comments:
                self._comments.add(thread_id)
                self._view.say(f"[blue]Comment on [bold]{escape(repr(title))}[/]: {escape(content)}[/]")
        if "deferred" in self._states.values() and self._turns:
            done = self._people.work()
            if self._people.dag_id in OF_THE_SEEDED_PROCESS:
                self._turns -= done  # one task for each time that the sensor waits
        self._view.follow(self._dag_run, self._states, self._people.tasks())
        return state if state in ("success", "failed") else None

    def _begin_to_wait(self, task_id: str) -> None:
        self._deferred.add(task_id)
        self._turns += 1
        titles = ", ".join(escape(repr(task["title"])) for task in self._people.next_tasks())
        self._view.say(f"It holds no worker now. What people have to do next: {titles}.")
        if self._keep:
            for run_id in self._people.runs():
                url = self._people.sandbox.process_url(run_id)
                self._view.say(f"[bold]Your turn[/], for {PATIENCE:g} s: do it at {url}")
            self._view.say(f"Airflow's view of it is at {self._dag_run.url}")


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
