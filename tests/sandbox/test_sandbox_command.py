from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.server import listen

COMMAND = [sys.executable, "-m", "airflow_provider_tallyfy.sandbox"]


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command and give it with all that it printed up to its last line."""
    with subprocess.Popen(
        [*COMMAND, "--port", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            printed = ""
            for line in process.stdout:
                printed += line
                if line.startswith("Stop it"):
                    break
            yield process, printed
        finally:
            process.kill()


def address(printed: str) -> str:
    match = re.search(r"API base: +(http://127\.0\.0\.1:\d+/api)$", printed, re.MULTILINE)
    assert match is not None, printed
    return match[1]


def session(printed: str) -> dict[str, str]:
    root = address(printed).removesuffix("/api")
    answer: dict[str, str] = requests.get(f"{root}/_page/session", timeout=10).json()
    return answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_prints_how_to_connect_and_stops_on_signal(number):
    with started() as (process, printed):
        base = address(printed)
        headers = {"Authorization": "Bearer sandbox-token", "X-Tallyfy-Client": "APIClient"}
        # It listens by the time it says so: no waiting here.
        assert (
            requests.get(f"{base}/organizations/sandbox/runs", headers=headers, timeout=10).status_code == 200
        )
        assert requests.get(f"{base.removesuffix('/api')}/_sandbox/stats", timeout=10).status_code == 404
        with requests.get(f"{base.removesuffix('/api')}/_page/events", stream=True, timeout=10) as stream:
            lines = stream.iter_lines(chunk_size=1)
            next(lines)
            process.send_signal(number)
            output, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (0, "")
        assert "Traceback" not in output


def test_the_printed_connection_works():
    with started() as (_, printed):
        match = re.search(r"^ *export AIRFLOW_CONN_TALLYFY_DEFAULT='(.+)'$", printed, re.MULTILINE)
        assert match is not None
        assert json.loads(match[1]) == {
            "conn_type": "tallyfy",
            "host": address(printed),
            "login": "sandbox",
            "password": "sandbox-token",
            "extra": {"web_url": address(printed).removesuffix("/api")},
        }


def test_the_options():
    with started("--next-task", "object", "--seed", "empty", "--test-controls") as (_, printed):
        base = address(printed)
        assert session(printed)["next_task"] == "object"
        headers = {"Authorization": "Bearer sandbox-token", "X-Tallyfy-Client": "APIClient"}
        runs = requests.get(f"{base}/organizations/sandbox/runs", headers=headers, timeout=10).json()
        assert runs["data"] == []
        assert requests.get(f"{base.removesuffix('/api')}/_sandbox/stats", timeout=10).json()["total"] == 1


def test_the_options_for_what_the_sources_disagree_on():
    options = (
        "--run-lag",
        "2.5",
        "--list-lag",
        "9",
        "--second-completion",
        "overwrite",
        "--errors",
        "structured",
    )
    with started("--test-controls", *options) as (_, printed):
        url = address(printed).removesuffix("/api")
        assert requests.get(f"{url}/_sandbox/behavior", timeout=10).json() == Behavior().model_dump() | {
            "run_lag": 2.5,
            "list_lag": 9,
            "second_completion": "overwrite",
            "errors": "structured",
        }


@pytest.mark.parametrize(
    "option", ["--run-lag=-1", "--list-lag=inf", "--run-lag=long", "--second-completion=x", "--errors=x"]
)
def test_refuses_an_invalid_option(option):
    ended = subprocess.run([*COMMAND, option], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"argument {option.partition('=')[0]}" in ended.stderr


def test_taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*COMMAND, "--port", port], capture_output=True, text=True, timeout=30, check=False
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_refuses_an_invalid_port(port):
    ended = subprocess.run(
        [*COMMAND, f"--port={port}"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "argument --port" in ended.stderr


def test_responses_are_sent_at_once():
    # Only a socket that names its protocol gets TCP_NODELAY from asyncio, without which each answer takes 40 ms.
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_missing_library_error_names_the_extra(missing):
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from airflow_provider_tallyfy.sandbox.__main__ import main; sys.exit(main(['--port', '0']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"{missing} is not installed" in ended.stderr
    assert "airflow-provider-tallyfy[sandbox]" in ended.stderr
    assert "Traceback" not in ended.stderr
