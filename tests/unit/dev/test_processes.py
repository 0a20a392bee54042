"""Child processes that end with their parent."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from dev.processes import TIMEOUT, wait_until

PROGRAM = """
import os, pathlib, sys, time
from dev.processes import ChildProcess
child = ChildProcess("sleep", ["sleep", "600"], log=pathlib.Path(sys.argv[1]), environment=os.environ)
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="uses prctl")
def test_child_ends_with_a_parent_that_is_killed(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()

    def has_ended():
        return not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE

    wait_until(has_ended, TIMEOUT, "the child to end")
