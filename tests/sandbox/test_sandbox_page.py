from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from airflow_provider_tallyfy.sandbox.seeds import SEEDED_RUN_ID
from airflow_provider_tallyfy.sandbox.server import SandboxServer
from dev.processes import wait_until


def open_stream(sandbox: SandboxServer) -> requests.Response:
    return requests.get(f"{sandbox.url}/_page/events", stream=True, timeout=10)


def versions(stream: requests.Response) -> Iterator[int]:
    for line in stream.iter_lines(chunk_size=1, decode_unicode=True):
        if line.startswith("data: "):
            yield int(line.removeprefix("data: "))


@pytest.mark.parametrize("path", ["/", "/page/index.html"])
def test_the_page_is_served(sandbox, path):
    answer = requests.get(sandbox.url + path, timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")


def test_missing_file(sandbox):
    assert requests.get(f"{sandbox.url}/page/none.js", timeout=10).status_code == 404
    assert requests.get(f"{sandbox.url}/page/../server.py", timeout=10).status_code == 404
    assert requests.get(f"{sandbox.url}/page/%2e%2e/server.py", timeout=10).status_code == 404


def test_session(sandbox, object_client):
    for server, next_task in ((sandbox, "collection"), (object_client.sandbox, "object")):
        session = requests.get(f"{server.url}/_page/session", timeout=10).json()
        assert session == {"organization": "sandbox", "token": "sandbox-token", "next_task": next_task}


def test_each_change_sends_an_event_with_a_larger_version(sandbox, client):
    with open_stream(sandbox) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        received = versions(stream)
        first = next(received)
        client.complete(SEEDED_RUN_ID, "announce_release")
        second = next(received)
        client.advance(days=1)
        third = next(received)
        sandbox.reset()
        fourth = next(received)
    assert first < second < third < fourth


def test_reading_sends_no_event(sandbox, client):
    with open_stream(sandbox) as stream:
        received = versions(stream)
        first = next(received)
        client.data("/runs")
        client.launch()
        assert next(received) == first + 1


def test_an_open_stream_does_not_keep_the_server_from_stopping():
    with SandboxServer() as sandbox:
        stream = open_stream(sandbox)
        received = versions(stream)
        next(received)
        thread = sandbox._thread
    assert not thread.is_alive()
    assert list(received) == []
    stream.close()


def test_a_disconnected_reader_is_removed(sandbox, client):
    before = sandbox.change(lambda store: len(store.listeners))
    with open_stream(sandbox) as stream:
        received = versions(stream)
        next(received)
        assert sandbox.change(lambda store: len(store.listeners)) == before + 1

    def is_forgotten():
        client.launch()  # the server learns of it when it next writes
        return sandbox.change(lambda store: len(store.listeners)) == before

    wait_until(is_forgotten, 20, "the reader to be forgotten")
