"""
An HTTP proxy on this machine that records its requests.

Like a company's proxy it resolves hosts that no other process here can: a given host leads to a port of this machine,
any other is not found. TLS goes through unread (``CONNECT``), plain HTTP as RFC 9112 has it (``GET http://host/path``).
"""

from __future__ import annotations

import socket
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, urlsplit

from dev.forwarder import copy

if TYPE_CHECKING:
    from collections.abc import Mapping


class Proxy:
    """
    Listens for as long as a ``with`` block lasts.

    :param hosts: ports of this machine, each by the host that it stands for
    :param credentials: ``user:password``; whoever does not name them is refused with 407
    """

    def __init__(self, hosts: Mapping[str, int], *, credentials: str | None = None) -> None:
        self.hosts = dict(hosts)
        self.credentials = credentials
        self.passed: list[str] = []
        """What was let through, such as ``CONNECT tallyfy.test:443``."""
        self.refused: list[str] = []
        """What was not, since it named no credentials or a host that is not known."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """What stands in ``HTTPS_PROXY``, with the credentials."""
        if self.credentials is None:
            return f"http://{self.address}"
        user, _, password = self.credentials.partition(":")
        return f"http://{quote(user, safe='')}:{quote(password, safe='')}@{self.address}"


class _Server(ThreadingHTTPServer):
    proxy: Proxy
    daemon_threads = True
    block_on_close = False  # whoever keeps a connection open does not hold up the end


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_CONNECT(self) -> None:
        if (upstream := self._upstream(f"//{self.path}")) is None:
            return
        with upstream:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=copy, args=(upstream, self.connection))
            back.start()
            copy(self.connection, upstream)
            back.join()
        self.close_connection = True

    def do_GET(self) -> None:
        if (upstream := self._upstream(self.path)) is None:
            return
        parts = urlsplit(self.path)
        head = [f"{self.command} {parts._replace(scheme='', netloc='').geturl()} HTTP/1.0"]
        head += [f"{name}: {value}" for name, value in self.headers.items() if name not in _FOR_THE_PROXY]
        with upstream:
            upstream.sendall("\r\n".join([*head, "", ""]).encode("latin-1"))
            upstream.sendall(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            copy(upstream, self.connection)
        self.close_connection = True

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        """Write nothing: what went through is kept."""

    def _upstream(self, url: str) -> socket.socket | None:
        proxy = self.server.proxy
        request = f"{self.command} {self.path}"
        port = proxy.hosts.get(urlsplit(url).hostname or "")
        expected = f"Basic {b64encode((proxy.credentials or '').encode()).decode()}"
        is_known = not proxy.credentials or self.headers.get("Proxy-Authorization") == expected
        if is_known and port is not None:
            proxy.passed.append(request)
            return socket.create_connection(("127.0.0.1", port))
        proxy.refused.append(request)
        if is_known:
            self.send_error(502, "Host not found")
        else:
            self.send_error(407)
        return None


_FOR_THE_PROXY = ("Proxy-Authorization", "Connection", "Proxy-Connection")
