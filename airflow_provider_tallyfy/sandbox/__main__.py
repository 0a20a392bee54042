"""``python -m airflow_provider_tallyfy.sandbox``: start a sandbox, and print how to reach it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

from airflow_provider_tallyfy.sandbox.access import TOKEN

_MISSING = """\
The sandbox needs FastAPI and uvicorn, and {name} is not installed. Install them with:
    pip install 'airflow-provider-tallyfy[sandbox]'"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    :param arguments: the command line without the program's name; that of the process if not given.
    """
    options = _parse(arguments)
    try:
        from airflow_provider_tallyfy.sandbox.behavior import Behavior
        from airflow_provider_tallyfy.sandbox.seeds import seeded_store
        from airflow_provider_tallyfy.sandbox.server import SandboxUvicorn, listen
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in (
            "fastapi",
            "pydantic",
            "starlette",
            "uvicorn",
        ):
            raise
        print(_MISSING.format(name=error.name), file=sys.stderr)  # noqa: T201
        return 1
    try:
        listener = listen(options.host, options.port)
    except OSError as error:
        print(  # noqa: T201
            f"The sandbox cannot listen on {options.host}:{options.port} ({error.strerror}). "
            "Give another address with --host and --port; --port 0 takes a free one.",
            file=sys.stderr,
        )
        return 1
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    server = SandboxUvicorn(
        seeded_store(
            options.seed,
            next_task_shape=options.next_task,
            behavior=Behavior(
                run_lag=options.run_lag,
                list_lag=options.list_lag,
                second_completion=options.second_completion,
                errors=options.errors,
            ),
        ),
        test_controls=options.test_controls,
        # Flushed, so that a program that starts the sandbox can read it at once.
        announce=lambda: print(_welcome(url), flush=True),  # noqa: T201
    )
    with listener:
        asyncio.run(server.serve(sockets=[listener]))
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_tallyfy.sandbox",
        description="Run a local Tallyfy in memory, with a web page to complete tasks on.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=8090, help="port; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--next-task",
        choices=("collection", "object"),
        default="collection",
        help="format of with=next_task: list (newest documentation), or object (2025-10) (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", choices=("demo", "empty"), default="demo", help="data to start with (default: %(default)s)"
    )
    parser.add_argument(
        "--second-completion",
        choices=("refuse", "accept", "overwrite"),
        default="refuse",
        help="completing a completed task: 422, 2xx without a change, or completed again (default: %(default)s)",
    )
    parser.add_argument(
        "--errors",
        choices=("message", "structured"),
        default="message",
        help="format of errors: the message on top, or all in an error object (default: %(default)s)",
    )
    for name, reads in (("--run-lag", "single runs and tasks"), ("--list-lag", "lists and the search")):
        parser.add_argument(
            name,
            type=_seconds,
            default=0,
            metavar="SECONDS",
            help=f"how old the state is that reads of {reads} show (default: %(default)s)",
        )
    parser.add_argument(
        "--test-controls",
        action="store_true",
        help="serve /_sandbox: faults, statistics, clock, behavior",
    )
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is no port: give a number from 0 to 65535")
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no lag: give seconds, 0 or more")
    return seconds


def _welcome(url: str) -> str:
    connection = json.dumps(
        {
            "conn_type": "tallyfy",
            "host": f"{url}/api",
            "login": "sandbox",
            "password": TOKEN,
            "extra": {"web_url": url},
        }
    )
    return f"""\
Tallyfy sandbox
  API base:      {url}/api
  Web page:      {url}/
  Organization:  sandbox
  Token:         {TOKEN}

Use it from Airflow:
  export AIRFLOW_CONN_TALLYFY_DEFAULT='{connection}'

Stop it with Ctrl-C. Everything in it is gone then."""


if __name__ == "__main__":
    sys.exit(main())
