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

from airflow_provider_tallyfy.sandbox.__main__ import main
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.server import listen

HEADERS = {"Authorization": "Bearer sandbox-token", "X-Tallyfy-Client": "APIClient"}


@contextmanager
def started(*options: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Start the command, and yield it with its address and all that it printed up to its last line."""
    command = [sys.executable, "-m", "airflow_provider_tallyfy.sandbox", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            printed = ""
            for line in process.stdout:
                printed += line
                if line.startswith("Stop it"):
                    break
            match = re.search(r"API base: +(http://127\.0\.0\.1:\d+)/api$", printed, re.MULTILINE)
            assert match is not None, printed
            yield process, match[1], printed
        finally:
            process.kill()


def assert_stops(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert "Traceback" not in output


def test_prints_how_to_connect_and_stops_on_ctrl_c():
    with started() as (process, url, printed):
        match = re.search(r"^ *export AIRFLOW_CONN_TALLYFY_DEFAULT='(.+)'$", printed, re.MULTILINE)
        assert match is not None
        assert json.loads(match[1]) == {
            "conn_type": "tallyfy",
            "host": f"{url}/api",
            "login": "sandbox",
            "password": "sandbox-token",
            "extra": {"web_url": url},
        }
        # It listens by the time it says so: no waiting here.
        runs = requests.get(f"{url}/api/organizations/sandbox/runs", headers=HEADERS, timeout=10)
        assert runs.status_code == 200
        assert requests.get(f"{url}/_sandbox/stats", timeout=10).status_code == 404
        with requests.get(f"{url}/_page/events", stream=True, timeout=10) as stream:
            next(stream.iter_lines(chunk_size=1))
            assert_stops(process, signal.SIGINT)


def test_follows_its_options_and_stops_on_sigterm():
    behavior = {
        "next_task": "object",
        "run_lag": 2.5,
        "list_lag": 9,
        "second_completion": "overwrite",
        "errors": "structured",
    }
    options = [f"--{name.replace('_', '-')}={value}" for name, value in behavior.items()]
    with started("--seed", "empty", "--test-controls", *options) as (process, url, _):
        assert requests.get(f"{url}/_sandbox/behavior", timeout=10).json() == (
            Behavior().model_dump() | behavior
        )
        runs = requests.get(f"{url}/api/organizations/sandbox/runs", headers=HEADERS, timeout=10).json()
        assert runs["data"] == []
        assert requests.get(f"{url}/_sandbox/stats", timeout=10).json()["total"] == 1
        assert_stops(process, signal.SIGTERM)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--run-lag=-1", "-1 is not a lag: give seconds, 0 or more"),
        ("--list-lag=inf", "inf is not a lag: give seconds, 0 or more"),
        ("--run-lag=long", "invalid seconds value: 'long'"),
        ("--second-completion=x", "invalid choice: 'x'"),
        ("--errors=x", "invalid choice: 'x'"),
        ("--port=70000", "70000 is not a port: give a number from 0 to 65535"),
        ("--port=-1", "-1 is not a port: give a number from 0 to 65535"),
        ("--port=http", "invalid port value: 'http'"),
    ],
)
def test_refuses_an_invalid_option(capsys, option, message):
    with pytest.raises(SystemExit, match=r"^2$"):
        main([option])
    output, errors = capsys.readouterr()
    assert output == ""
    assert f"argument {option.partition('=')[0]}: {message}" in errors


def test_taken_port(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"The sandbox cannot listen on 127.0.0.1:{port} (Address already in use).")
    assert "--port 0" in errors


def test_responses_are_sent_at_once():
    # Only a socket that names its protocol gets TCP_NODELAY from asyncio, without which each answer takes 40 ms.
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_missing_library_error_names_the_extra(capsys, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    for module in ("server", "application"):  # they import both, but have been imported
        monkeypatch.delitem(sys.modules, f"airflow_provider_tallyfy.sandbox.{module}")
    assert main(["--port", "0"]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert f"{missing} is not installed" in errors
    assert "airflow-provider-tallyfy[sandbox]" in errors
