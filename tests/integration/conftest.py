"""A sandbox over real HTTP for all tests, in its first state for each, that the default connection leads to."""

from __future__ import annotations

import json
import threading

import pytest
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_tallyfy.sandbox.server import SandboxServer
from airflow_provider_tallyfy.version_compat import AIRFLOW_V_3_0_PLUS


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


class ObjectStore(AsyncFileSystemWrapper):
    """A file system in memory whose ``mv`` and ``rm`` take names for patterns, as those of S3 and GCS do."""

    def _open(self, path, mode="rb", **options):
        return self.sync_fs.open(path, mode)


@pytest.fixture
def object_store():
    """An object store for ``memory://`` paths."""
    if AIRFLOW_V_3_0_PLUS:
        from airflow.sdk.io import attach
    else:
        from airflow.io.store import attach
    memory = MemoryFileSystem()
    attach("memory", fs=ObjectStore(memory))
    yield memory
    memory.store.clear()
