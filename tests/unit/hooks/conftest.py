"""A hook with any connection, a clock that tests move, and its pauses, which take no time."""

from __future__ import annotations

import json
import logging
import traceback
from types import SimpleNamespace

import pytest

from airflow_provider_tallyfy.hooks import credentials, transport
from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
from tests.support.secrets import SECRET, TOKEN


class Clock:
    """The monotonic clock; pauses move it."""

    def __init__(self):
        self.now = 1000.0
        self.pauses = []

    def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    clock = Clock()
    # Only the hook's own: a server of another test may live on in this process, by the real clock.
    time = SimpleNamespace(monotonic=lambda: clock.now, sleep=clock.sleep)
    monkeypatch.setattr(transport, "time", time)
    monkeypatch.setattr(credentials, "time", time)
    return clock


@pytest.fixture
def pauses(clock):
    return clock.pauses


@pytest.fixture(autouse=True)
def log(monkeypatch, caplog):
    """All log records, those of requests and urllib3 too."""
    monkeypatch.setattr(TallyfyHook, "log", logging.getLogger("hook-under-test"))
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture
def connect(monkeypatch):
    """Return a hook for a connection with these fields and extras."""

    def connect(extra=None, *, retries=4, **fields):
        described = {
            "conn_type": "tallyfy",
            "host": "https://tallyfy.test/api",
            "login": "acme",
            "password": TOKEN,
            **fields,
        }
        described = {name: value for name, value in described.items() if value is not None}
        if extra is not None:
            described["extra"] = extra
        monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(described))
        return TallyfyHook(retries=retries)

    return connect


@pytest.fixture
def hook(connect):
    return connect()


@pytest.fixture
def application(connect):
    """A hook that gets its tokens with an application's id and secret."""

    def application(**extra):
        return connect({"client_id": "the-client", "client_secret": SECRET, **extra}, password=None)

    return application


@pytest.fixture
def everything_shown(log):
    """Everything that the log and an error show, with the provider's variables, as error trackers show them."""

    def everything_shown(error):
        parts = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
        stack = traceback.TracebackException.from_exception(error, capture_locals=True).stack
        parts += [repr(frame.locals) for frame in stack if "/airflow_provider_tallyfy/" in frame.filename]
        parts += [record.getMessage() for record in log.records]
        return "\n".join(parts)

    return everything_shown
