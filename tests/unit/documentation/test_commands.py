"""The programs accept the commands of the pages."""

from __future__ import annotations

import re
import shlex
import tomllib

import pytest
from airflow.cli.cli_parser import get_parser
from airflow.models.connection import Connection

from airflow_provider_tallyfy import __version__
from airflow_provider_tallyfy.sandbox import __main__ as sandbox
from tests.unit.documentation.pages import PAGES, ROOT, blocks, name_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
ASSIGNMENT = re.compile(r"[A-Z_]+=.*", re.DOTALL)


def commands():
    for page in PAGES:
        for number, block in blocks(page, "console"):
            for offset, line in enumerate(block.splitlines()):
                if line.startswith("$ "):
                    yield pytest.param(line[2:], id=f"{name_of(page)}:{number + offset}")


#: Programs whose arguments are not checked.
OTHERS = ("curl", "export", "git", "grep", "pip", "python")


def split_pipe(command):
    """Yield the commands of a pipe as lists of words, without the variables set for them."""
    words = shlex.split(command, comments=True)
    while words:
        end = words.index("|") if "|" in words else len(words)
        part, words = words[:end], words[end + 1 :]
        while part and ASSIGNMENT.fullmatch(part[0]):
            del part[0]
        if part:
            yield part


@pytest.mark.parametrize("command", list(commands()))
def test_program_accepts_command(command):
    for program, *arguments in split_pipe(command):
        match program:
            case "airflow":
                get_parser().parse_args(arguments)
            case "make":
                assert set(arguments) - TARGETS == {word for word in arguments if ASSIGNMENT.fullmatch(word)}
            case "python" if arguments[:2] == ["-m", "airflow_provider_tallyfy.sandbox"]:
                sandbox._parse(arguments[2:])
            case "pip":
                for requirement in arguments[1:]:
                    check_requirement(requirement)
            case "export" if arguments[0].startswith("AIRFLOW_CONN_"):
                value = arguments[0].partition("=")[2]
                connection = Connection.from_json(value) if value.startswith("{") else Connection(uri=value)
                assert connection.conn_type == "tallyfy"
            case _:
                assert program in OTHERS


def check_requirement(requirement):
    """If the requirement is this project, its file and its extra exist."""
    if match := re.fullmatch(r"(?:dist/)?airflow[-_]provider[-_]tallyfy([^\[]*)(?:\[(\w+)\])?", requirement):
        file, extra = match.groups()
        assert file in ("", f"-{__version__}-py3-none-any.whl")
        assert extra is None or extra in PROJECT["optional-dependencies"]


def test_commands_are_found():
    assert len(list(commands())) > 15
