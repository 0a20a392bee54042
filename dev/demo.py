"""
``make demo``: a real Airflow waits for a user of a sandbox Tallyfy, on this machine only.

The demo passes if every task succeeds and each sensor was deferred meanwhile, that is, waited in the triggerer without
a worker.
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
from dev.processes import exit_on_termination
from dev.real_airflow import RealAirflow
from dev.sandbox import running_sandbox
from dev.simulated_users import OF_THE_SEEDED_PROCESS, SimulatedUsers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dev.sandbox import SandboxClient

EXAMPLES = Path(__file__).parents[1] / "example_dags"
#: The examples there start by themselves.
EVENTS = EXAMPLES / "events"
DEFAULT_DAG = "tallyfy_wait_for_next_task"
DEADLINE = 150.0
#: How the names of waiting operators end.
WAITING = ("Sensor", "ApprovalOperator")
#: With --keep, the seconds that the reader has to complete a task before a simulated user does.
READER_DELAY = 60.0
#: Without, the seconds after which a simulated user completes a task.
DELAY = 3.0
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

    def report_work(self, who: str, task: dict[str, Any]) -> None:
        """Show who completed a task."""
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
    """Run the demo and return whether it passed."""
    with View() as view:
        view.say(f"Runs {dag_id} in a real Airflow {version('apache-airflow')} against a sandbox Tallyfy.")
        view.say("All of it is on this machine, takes about a minute, and is ended afterwards.")
        with running_sandbox() as sandbox:
            view.say(f"The sandbox is up: {sandbox.url}")
            view.say("Airflow is starting.")
            users = SimulatedUsers(sandbox, dag_id, READER_DELAY if keep else DELAY, view.report_work)
            environment = {
                "AIRFLOW_CONN_TALLYFY_DEFAULT": sandbox.connection(),
                # Watchers of a DAG that was unpaused start when its file is processed again.
                "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "15",
            }
            with RealAirflow(EXAMPLES, environment=environment) as airflow:
                view.say(f"Airflow is up, with its scheduler, triggerer and API server: {airflow.url}")
                if (EVENTS / f"{dag_id}.py").exists():
                    passed = start_by_event(view, airflow, sandbox, dag_id, keep=keep)
                else:
                    conf = {"run_id": SEEDED_RUN_ID} if dag_id in OF_THE_SEEDED_PROCESS else {}
                    passed = Demo(view, users, airflow.trigger(dag_id, conf), keep=keep).follow()
                if keep:
                    view.say(f"Airflow: {airflow.url}  Sandbox: {sandbox.url}  [bold]Ctrl-C ends both.[/]")
                    while True:
                        airflow.check()
                        time.sleep(1)
    return passed


def start_by_event(
    view: View, airflow: RealAirflow, sandbox: SandboxClient, dag_id: str, *, keep: bool
) -> bool:
    """Complete a process as its users do, and return whether the DAG then started and succeeded."""
    airflow.api.wait_for_dag(dag_id)
    airflow.api.unpause(dag_id)
    has_begun = "SELECT 1 FROM asset_state_store"
    airflow.api.wait_for(lambda: airflow.rows(has_begun), DEADLINE, "the watcher to start")
    view.say(f"[bold]{dag_id}[/] has no schedule. Its watcher waits for events in Tallyfy.")
    run_id = sandbox.launch("Release 3.0.0")
    if keep:
        view.say(
            f"[bold]Your turn[/], for {READER_DELAY:g} s: complete all tasks at {sandbox.process_url(run_id)}"
        )
    left_until = time.monotonic() + READER_DELAY * keep
    while (task := sandbox.next_task(run_id)) is not None:
        if time.monotonic() < left_until:
            time.sleep(1)
            continue
        time.sleep(DELAY)
        sandbox.complete_next(run_id)
        view.say(f"[yellow]A user completed [bold]{escape(repr(task['title']))}[/][/]")
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
    A DAG run and the users that it waits for, reported to the reader.

    :param keep: leave the work to the reader for a while
    """

    def __init__(self, view: View, users: SimulatedUsers, dag_run: DagRun, *, keep: bool) -> None:
        self._view = view
        self._users = users
        self._dag_run = dag_run
        self._keep = keep
        self._states: dict[str, str | None] = {}
        self._deferred: set[str] = set()
        self._due = 0
        self._comments: set[str] = set()

    def follow(self) -> bool:
        """Follow the DAG run to its end, and return whether the demo passed."""
        state = self._dag_run.api.wait_for(
            self._poll, DEADLINE + READER_DELAY * self._keep, "the DAG run's end"
        )
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
        for run_id in self._users.runs():
            process = self._users.sandbox.run(run_id)
            self._view.say(f"The process {process['name']!r} is {process['status']}.")
        seen = "".join(f", {task_id} deferred while it waited" for task_id in sorted(waiting))
        self._view.say(f"[green]The DAG run succeeded[/]{seen}")
        return True

    def _poll(self) -> str | None:
        state = self._dag_run.state()  # read first, so that the task states are the last ones
        for task_id, now in self._dag_run.task_states().items():
            if now is not None and now != self._states.get(task_id):
                self._view.say(f"[bold]{task_id}[/] → {_coloured(now)}")
                if now == "deferred":
                    self._start_waiting(task_id)
            self._states[task_id] = now
        for thread_id, title, content in self._users.comments():
            if thread_id not in self._comments:
                self._comments.add(thread_id)
                self._view.say(f"[blue]Comment on [bold]{escape(repr(title))}[/]: {escape(content)}[/]")
        if "deferred" in self._states.values() and self._due:
            done = self._users.work()
            if self._users.dag_id in OF_THE_SEEDED_PROCESS:
                self._due -= done  # one task for each wait of the sensor
        self._view.follow(self._dag_run, self._states, self._users.tasks())
        return state if state in ("success", "failed") else None

    def _start_waiting(self, task_id: str) -> None:
        self._deferred.add(task_id)
        self._due += 1
        titles = ", ".join(escape(repr(task["title"])) for task in self._users.next_tasks())
        self._view.say(f"It holds no worker now. Open tasks: {titles}.")
        if self._keep:
            for run_id in self._users.runs():
                url = self._users.sandbox.process_url(run_id)
                self._view.say(f"[bold]Your turn[/], for {READER_DELAY:g} s: do it at {url}")
            self._view.say(f"Airflow shows it at {self._dag_run.url}")


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
