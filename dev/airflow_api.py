"""Airflow's REST API (2.11's v1 and 3's v2), for programs that start DAG runs and follow them."""

from __future__ import annotations

import fcntl
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import requests
from packaging.version import Version
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from dev.processes import TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

T = TypeVar("T")

IN_AIRFLOW_2 = Version(version("apache-airflow")).major == 2
FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


def _nothing() -> None:
    return None


class AirflowApi:
    """
    A client for one Airflow.

    :param url: the API server's address
    :param check: is called at every poll of a wait, and raises if the wait cannot end
    :param lock: a file that each client locks while it writes
    """

    def __init__(self, url: str, check: Callable[[], None] = _nothing, lock: Path | None = None) -> None:
        self.url = url
        self._check = check
        self._lock = lock
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between this machine and itself
        # SQLite refuses concurrent writes, and the API server then returns 500 without an effect.
        retries = Retry(total=9, connect=0, status_forcelist={500}, allowed_methods=None, backoff_factor=0.2)
        self._session.mount("http://", HTTPAdapter(max_retries=retries))

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send one request below the API's root and return the JSON of its response."""
        response = self._send(method, path, **arguments)
        return response.json() if response.content else None

    def text(self, path: str, **arguments: Any) -> str:
        """Get a plain text."""
        return self._send("GET", path, headers={"Accept": "text/plain"}, **arguments).text

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        root = f"{self.url}/api/{'v1' if IN_AIRFLOW_2 else 'v2'}"
        with ExitStack() as stack:
            if self._lock is not None and method != "GET":
                # With SQLite, two writes at once stop the API server for two seconds.
                fcntl.flock(stack.enter_context(self._lock.open("w")), fcntl.LOCK_EX)
            response = self._session.request(method, f"{root}{path}", timeout=30, **arguments)
        if not response.ok:
            raise requests.HTTPError(
                f"{method} {path} returned {response.status_code}: {response.text[:500]}",
                response=response,
            )
        return response

    def wait_for(self, condition: Callable[[], T | None], timeout: float, description: str) -> T:
        def checked_condition() -> T | None:
            self._check()
            return condition()

        return wait_until(checked_condition, timeout, description)

    def log_in(self) -> None:
        """Get a token; with ``simple_auth_manager_all_admins``, Airflow gives one to each client."""
        if not IN_AIRFLOW_2:
            response = self._session.get(f"{self.url}/auth/token", timeout=30)
            response.raise_for_status()
            self._session.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    def health(self) -> dict[str, str | None]:
        """Return the status of each part: metadatabase, scheduler, triggerer, dag_processor."""
        path = "/health" if IN_AIRFLOW_2 else "/monitor/health"
        return {part: state["status"] for part, state in self.request("GET", path).items()}

    def wait_for_dag(self, dag_id: str, timeout: float = TIMEOUT) -> None:
        """Wait until the DAG processor has read the DAG; an import error ends the wait at once."""

        def is_ready() -> bool:
            if errors := self.request("GET", "/importErrors")["import_errors"]:
                report = [f"{error['filename']}:\n{error['stack_trace']}" for error in errors]
                raise RuntimeError("\n".join(report))
            try:
                self.request("GET", f"/dags/{quote(dag_id)}/details")  # not found until it can be run
            except requests.HTTPError as error:
                if error.response.status_code != requests.codes.not_found:
                    raise
                return False
            return True

        self.wait_for(is_ready, timeout, f"the DAG {dag_id}")

    def pause(self, dag_id: str) -> None:
        self.request("PATCH", f"/dags/{quote(dag_id)}", json={"is_paused": True})

    def unpause(self, dag_id: str) -> None:
        self.request("PATCH", f"/dags/{quote(dag_id)}", json={"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> DagRun:
        """Start a run of the DAG, which is waited for and unpaused first."""
        self.wait_for_dag(dag_id)
        self.unpause(dag_id)
        body: dict[str, Any] = {"conf": dict(conf or {})}
        if not IN_AIRFLOW_2:
            body["logical_date"] = None  # has to be there, and may not be in Airflow 2
        run = self.request("POST", f"/dags/{quote(dag_id)}/dagRuns", json=body)
        return DagRun(self, dag_id, run["dag_run_id"])


@dataclass(frozen=True)
class DagRun:
    """A DAG run."""

    api: AirflowApi = field(repr=False)
    dag_id: str
    dag_run_id: str

    @property
    def url(self) -> str:
        """The address of its page."""
        dag = f"{self.api.url}/dags/{quote(self.dag_id)}"
        run_id = quote(self.dag_run_id, safe="")
        return f"{dag}/grid?dag_run_id={run_id}" if IN_AIRFLOW_2 else f"{dag}/runs/{run_id}"

    @property
    def _path(self) -> str:
        return f"/dags/{quote(self.dag_id)}/dagRuns/{quote(self.dag_run_id)}"

    def state(self) -> str:
        return str(self.api.request("GET", self._path)["state"])

    def wait(self, timeout: float = TIMEOUT) -> str:
        """Wait for the run's end and return its state."""

        def final_state() -> str | None:
            state = self.state()
            return state if state in ("success", "failed") else None

        return self.api.wait_for(final_state, timeout, f"the end of {self.dag_run_id} of {self.dag_id}")

    def task_states(self) -> dict[str, str | None]:
        """Return the state of each task instance by task id; ``None`` if it is not scheduled yet."""
        return {instance["task_id"]: instance["state"] for instance in self._task_instances()}

    def instance_states(self) -> dict[str, str | None]:
        """Return the state of each task instance by task id, with the map index of a mapped one: ``load[0]``."""
        return {
            instance["task_id"]
            + ("" if instance["map_index"] < 0 else f"[{instance['map_index']}]"): instance["state"]
            for instance in self._task_instances()
        }

    def operators(self) -> dict[str, str]:
        """Return the name of each task's operator by task id."""
        return {
            instance["task_id"]: instance.get("operator_name") or instance["operator"]  # the first is of 3.1
            for instance in self._task_instances()
        }

    def _task_instances(self) -> list[dict[str, Any]]:
        instances: list[dict[str, Any]] = self.api.request("GET", f"{self._path}/taskInstances")[
            "task_instances"
        ]
        return instances

    def task(self, task_id: str) -> dict[str, Any]:
        """Return the task instance as the API gives it."""
        instance: dict[str, Any] = self.api.request("GET", f"{self._path}/taskInstances/{quote(task_id)}")
        return instance

    def wait_for_task(
        self, task_id: str, states: str | Collection[str], timeout: float = TIMEOUT
    ) -> dict[str, Any]:
        """
        Wait until the task instance is in one of the states.

        A task that finishes in another state ends the wait at once, with the failed tasks' logs in the error.
        """
        wanted = {states} if isinstance(states, str) else set(states)
        goal = f"{task_id} of {self.dag_id} to be {' or '.join(sorted(wanted))}"

        def reached() -> dict[str, Any] | None:
            instance = self.task(task_id)
            if instance["state"] in wanted:
                return instance
            if instance["state"] in FINISHED:
                raise AssertionError(f"Waited for {goal}, but it is {instance['state']}.\n{self.failures()}")
            return None

        try:
            return self.api.wait_for(reached, timeout, goal)
        except TimeoutError as error:
            error.add_note(f"It is {self.task(task_id)['state']}. Its log:\n{self.log(task_id)}")
            raise

    def mapped_tasks(self, task_id: str) -> list[dict[str, Any]]:
        """Return the instances of a mapped task as the API gives them."""
        return [instance for instance in self._task_instances() if instance["task_id"] == task_id]

    def wait_for_mapped_tasks(
        self, task_id: str, state: str, *, number: int, timeout: float = TIMEOUT
    ) -> None:
        """Wait until a number of a mapped task's instances are in a state."""

        def all_reached() -> bool:
            return [instance["state"] for instance in self.mapped_tasks(task_id)].count(state) == number

        self.api.wait_for(all_reached, timeout, f"{number} instances of {task_id} to be {state}")

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        """Return the value that the task pushed, as JSON holds it."""
        path = f"{self._path}/taskInstances/{quote(task_id)}/xcomEntries/{quote(key)}"
        return self.api.request("GET", path, params={"deserialize": True, "stringify": False})["value"]

    def extra_links(self, task_id: str) -> dict[str, str | None]:
        response = self.api.request("GET", f"{self._path}/taskInstances/{quote(task_id)}/links")
        links: dict[str, str | None] = response if IN_AIRFLOW_2 else response["extra_links"]
        return links

    def log(self, task_id: str, try_number: int | None = None) -> str:
        """Return the task's log of one try, by default the latest, as readable lines."""
        number = try_number or self.task(task_id)["try_number"]
        path = f"{self._path}/taskInstances/{quote(task_id)}/logs/{number}"
        if IN_AIRFLOW_2:
            return self.api.text(path, params={"full_content": True})
        response = self.api.request("GET", path, params={"full_content": True})
        return "\n".join(_log_line(entry) for entry in response["content"])

    def failures(self, lines: int = 30) -> str:
        """Return the names of the tasks that failed, each with the last lines of its log."""
        failed = [task_id for task_id, state in self.task_states().items() if state == "failed"]
        reports = (
            f"{task_id} failed. Its log ends with:\n{self._log_end(task_id, lines)}" for task_id in failed
        )
        return "\n".join(reports) or "No task failed."

    def _log_end(self, task_id: str, lines: int) -> str:
        return "\n".join(self.log(task_id).splitlines()[-lines:])

    def clear(self, *task_ids: str) -> None:
        """Clear these tasks, whatever their states are, and no others."""
        body = {
            "dry_run": False,
            "only_failed": False,
            "reset_dag_runs": True,
            "dag_run_id": self.dag_run_id,
            "task_ids": list(task_ids),
        }
        self.api.request("POST", f"/dags/{quote(self.dag_id)}/clearTaskInstances", json=body)

    def set_task_state(self, task_id: str, state: str) -> None:
        """Mark the task ``success``, ``failed`` or ``skipped``, as a user does in the UI."""
        self.api.request("PATCH", f"{self._path}/taskInstances/{quote(task_id)}", json={"new_state": state})


def _log_line(entry: Mapping[str, Any] | str) -> str:
    if isinstance(entry, str):
        return entry
    head = " ".join(str(part) for part in (entry.get("timestamp"), entry.get("level")) if part)
    lines = [f"{head} {entry['event']}".lstrip()]
    lines += [f"  {error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ()]
    return "\n".join(lines)
