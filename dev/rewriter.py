"""A server in front of another that changes the JSON of its responses."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import requests

if TYPE_CHECKING:
    from collections.abc import Callable

#: Valid in JSON, and refused by PostgreSQL, UTF-8 or another parser of JSON.
ODD_VALUES = {
    "nul": "before\0after",
    "half a pair": "before\ud83dafter",
    "key\0 and \udc00": 1,
    "70 bits": 2**70,
    "400 digits": int("7" * 400),
    "not a number": float("nan"),
    "infinity": float("-inf"),
    "list": ["\0", 2**70, float("nan"), None, True, 0, "Zoë 🚀"],
}
ODD_TEXT = "\0 \ud83d"


def with_odd_values(value: Any) -> Any:
    """Return JSON with odd values in each object that has an id, and in the texts that users write."""
    if isinstance(value, list):
        return [with_odd_values(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: with_odd_values(item) for key, item in value.items()}
    if "id" in changed:
        changed["custom"] = ODD_VALUES
    for key in ("name", "summary", "field_value"):
        if isinstance(changed.get(key), str):
            changed[key] += ODD_TEXT
    if isinstance(changed.get("prerun"), dict):
        changed["prerun"] = {**changed["prerun"], "5eed": ODD_TEXT}
    return changed


class Rewriter:
    """
    Listens for as long as a ``with`` block lasts.

    :param target: the address of the other server
    :param rewrite: returns the JSON of the response from that of the other server
    """

    def __init__(self, target: str, rewrite: Callable[[Any], Any] = with_odd_values) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.target = target
        self._server.rewrite = rewrite

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class _Server(ThreadingHTTPServer):
    target: str
    rewrite: Callable[[Any], Any]
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection open does not delay the end


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with requests.Session() as session:
            session.trust_env = False  # no proxy between this machine and itself
            response = session.request(
                self.command,
                self.server.target + self.path,
                headers={name: value for name, value in self.headers.items() if name != "Host"},
                data=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
                timeout=60,
            )
        body = response.content
        if response.ok and body and "json" in response.headers["Content-Type"]:
            body = json.dumps(self.server.rewrite(response.json())).encode()
        self.send_response(response.status_code)
        self.send_header("Content-Type", response.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Write nothing."""
