"""``python -m airflow_provider_tallyfy.sandbox``: start a sandbox, and print how to reach it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Any, get_args

from airflow_provider_tallyfy.sandbox.access import TOKEN

_MISSING = """\
The sandbox needs FastAPI and uvicorn, and {name} is not installed. Install them with:
    pip install 'airflow-provider-tallyfy[sandbox]'"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    :param arguments: the command line without the program's name; that of the process if not given.
    """
    try:
        from airflow_provider_tallyfy.sandbox.behavior import Behavior
        from airflow_provider_tallyfy.sandbox.seeds import seeded_store
        from airflow_provider_tallyfy.sandbox.server import SandboxUvicorn, listen
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("fastapi", "pydantic", "starlette", "uvicorn"):
            raise
        print(_MISSING.format(name=error.name), file=sys.stderr)  # noqa: T201
        return 1
    options = _parse(arguments)
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
    behavior = Behavior(**{name: getattr(options, name) for name in Behavior.model_fields})
    server = SandboxUvicorn(
        seeded_store(options.seed, behavior),
        test_controls=options.test_controls,
        # Flushed, so that a program that starts the sandbox can read it at once.
        announce=lambda: print(_welcome(url), flush=True),  # noqa: T201
    )
    with listener:
        asyncio.run(server.serve(sockets=[listener]))
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    from airflow_provider_tallyfy.sandbox.behavior import Behavior

    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_tallyfy.sandbox",
        description="Run a local Tallyfy in memory, with a web page to complete tasks on.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=port, default=8090, help="port; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", choices=("demo", "empty"), default="demo", help="data to start with (default: %(default)s)"
    )
    for name, field in Behavior.model_fields.items():
        choices = get_args(field.annotation)
        values: dict[str, Any] = {"choices": choices} if choices else {"type": seconds, "metavar": "SECONDS"}
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            default=field.default,
            help=f"{field.description} (default: %(default)s)",
            **values,
        )
    parser.add_argument(
        "--test-controls", action="store_true", help="serve /_sandbox: faults, statistics, clock, behavior"
    )
    return parser.parse_args(arguments)


# argparse names these two in its errors.
def port(text: str) -> int:
    """Read a port."""
    number = int(text)
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"{number} is not a port: give a number from 0 to 65535")
    return number


def seconds(text: str) -> float:
    """Read a lag."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a lag: give seconds, 0 or more")
    return number


def _welcome(url: str) -> str:
    account = {"conn_type": "tallyfy", "host": f"{url}/api", "login": "sandbox", "password": TOKEN}
    connection = json.dumps(account | {"extra": {"web_url": url}})
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
