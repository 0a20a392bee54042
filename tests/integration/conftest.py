"""A sandbox over real HTTP for all tests, in its first state for each, that the default connection leads to."""

from __future__ import annotations

import json
import threading

import pytest

from airflow_provider_tallyfy.sandbox.server import SandboxServer


@pytest.fixture(scope="session")
def server():
    tracer = threading.gettrace()
    threading.settrace(None)  # its coverage is measured in its own tests
    with SandboxServer() as server:
        threading.settrace(tracer)
        yield server


@pytest.fixture
def sandbox(server, monkeypatch):
    server.reset()
    described = {
        "conn_type": "tallyfy",
        "host": server.base_url,
        "login": "sandbox",
        "password": "sandbox-token",
        "extra": {"timeout": 5, "requests_per_hour": 0},
    }
    monkeypatch.setenv("AIRFLOW_CONN_TALLYFY_DEFAULT", json.dumps(described))
    return server
