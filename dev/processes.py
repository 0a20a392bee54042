"""
Child processes that never outlive their parent.

Each child leads a session. All that it starts stays in that session and is ended with it, also a process that moves to
another process group, as Airflow's task processes do.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

import psutil  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

T = TypeVar("T")

GRACE = 5.0
#: Seconds after which a state that is not reached is a failure, however busy the machine is.
TIMEOUT = 300.0


class ProcessEndedError(RuntimeError):
    """A child process ended although it was still needed."""


class ChildProcess:
    """
    One program with its output in a file.

    :param name: its name in messages
    :param command: the program and its arguments
    :param log: where its output goes
    :param environment: its whole environment
    :param user: runs it; only root may choose one
    :param stop_signal: the signal that ends it in order
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._user = user
        self._stop_signal = stop_signal
        self._command = list(command)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process is not None:
            raise RuntimeError(f"{self.name} is running already.")
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                cwd="/" if self._user else None,  # a user may not enter each other's folders
                user=self._user,
                group=self._user and pwd.getpwnam(self._user).pw_gid,
                extra_groups=None if self._user is None else (),
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    def leads(self, pid: int) -> bool:
        """Return whether another process, such as that of a task, belongs to this one."""
        with suppress(ProcessLookupError):
            return self._process is not None and os.getsid(pid) == self._process.pid
        return False

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running.")
        return self._process.pid

    def check(self) -> None:
        """Raise :class:`ProcessEndedError`, with the end of its log, if it was started and is gone."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise ProcessEndedError(
                f"{self.name} ended with exit code {code}. Its log ends with:\n{self.tail()}"
            )

    def wait(self, timeout: float = TIMEOUT) -> None:
        """Wait until it ends by itself, which must be with exit code 0."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running.")
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"{self.name} did not end within {timeout:g} s. Its log ends with:\n{self.tail()}"
            ) from None
        if code:
            self.check()
        self.kill()

    def tail(self) -> str:
        """Return the last lines of its log."""
        return last_lines(self.log)

    def terminate(self) -> None:
        """Send its stop signal, without waiting. It ends its own children, in its own order."""
        if self._process is not None:
            self._process.send_signal(self._stop_signal)

    def kill(self) -> None:
        """End it and all processes of its session by SIGKILL."""
        if self._process is None:
            return
        while members := _session(self._process.pid):
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def has_ended(self) -> bool:
        return self._process is None or (self._process.poll() is not None and not _session(self._process.pid))


def _end_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent dies, as pytest-xdist's workers do at Ctrl-C."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def last_lines(log: Path, lines: int = 40) -> str:
    """Return the end of a log."""
    if not log.exists():
        return "(no output)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) or "(no output)"


def end(processes: Iterable[ChildProcess], grace: float = GRACE) -> None:
    """End all of them: by their stop signals, then by SIGKILL after a grace period."""
    processes = list(processes)
    with _undisturbed():
        for process in processes:
            process.terminate()
        with suppress(TimeoutError):
            wait_until(lambda: all(process.has_ended() for process in processes), grace, "the processes' end")
        for process in processes:
            process.kill()


def wait_until(
    condition: Callable[[], T | None], timeout: float, description: str, interval: float = 0.2
) -> T:
    """
    Wait until a condition returns something true, and return that.

    :param condition: is called until then
    :param timeout: seconds after which the wait fails
    :param description: of the condition, for the error message
    :param interval: seconds between the first two calls; in a long wait, they grow to five times as many, since a
        request to Airflow costs up to 20 ms of CPU time
    """
    deadline = time.monotonic() + timeout
    pause = interval
    while not (result := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"Waited {timeout:g} s for {description}.")
        time.sleep(pause)
        pause = min(1.2 * pause, 5 * interval)
    return result


@contextmanager
def exit_on_termination() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, and leave every ``with`` block in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore a second Ctrl-C: an interrupted clean-up would leave processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _session(leader: int) -> list[int]:
    """Return the ids of all running processes in the session that ``leader`` began."""
    members = []
    for process in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
    return members
