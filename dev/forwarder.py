"""A TCP port in front of a server, which can be closed while the server runs."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Self


class Forwarder:
    """
    Passes connections on to a port of this machine.

    While it is closed, it refuses connections as a server does that is down.

    :param target: the server's port
    """

    def __init__(self, target: int) -> None:
        self.target = ("127.0.0.1", target)
        self._port = 0
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Server(("127.0.0.1", self._port), self.target)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}).start()

    def close(self) -> None:
        """Refuse new connections, and break existing ones."""
        if self._server is not None:
            self._server.shutdown()
            self._server.break_connections()
            self._server.server_close()
            self._server = None


class _Server(ThreadingTCPServer):
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], target: tuple[str, int]) -> None:
        self.target = target
        self.connections: set[socket.socket] = set()
        super().__init__(address, _Connection)

    def break_connections(self) -> None:
        for connection in tuple(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as upstream:
            ends = {self.request, upstream}
            self.server.connections |= ends
            back = threading.Thread(target=copy, args=(upstream, self.request))
            back.start()
            copy(self.request, upstream)
            back.join()
            self.server.connections -= ends


def copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy all data from one socket to the other, and then its end."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
