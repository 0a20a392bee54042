"""A StatsD server that keeps all that it receives, for as long as a ``with`` block lasts."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from dev.processes import TIMEOUT, wait_until

if TYPE_CHECKING:
    from types import TracebackType

_LARGEST_DATAGRAM = 65_535


@dataclass(frozen=True)
class Line:
    """
    A value that was received.

    :param name: of the metric
    :param value: its value
    :param kind: ``c`` for a counter, ``ms`` for a timer, ``g`` for a gauge
    :param tags: as InfluxDB has them in names
    """

    name: str
    value: float
    kind: str
    tags: frozenset[tuple[str, str]] = frozenset()


class StatsdServer:
    """
    Listens on a UDP port of the loopback address.

    :param port: which; an unused one by default
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._lines: list[Line] = []
        self._thread = threading.Thread(target=self._listen, name="statsd", daemon=True)

    def __enter__(self) -> Self:
        self._socket.bind(("127.0.0.1", self._port))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self._socket.getsockname())  # an empty datagram ends it
        self._thread.join()
        self._socket.close()

    def settings(self) -> dict[str, str]:
        """Return the variables that make Airflow send its metrics here, with tags."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self._socket.getsockname()[1]),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def received(self, name: str) -> list[Line]:
        """Return all values of a metric that were received."""
        return [line for line in self._lines if line.name == name]

    def wait_for(self, name: str, *, at_least: float = 0.0, **tags: str) -> Line:
        """Wait until such a value of a metric with these tags is received, and return the last one."""

        def last() -> Line | None:
            lines = [line for line in self.received(name) if line.tags >= tags.items()]
            found = [line for line in lines if line.value >= at_least]
            return found[-1] if found else None

        return wait_until(last, TIMEOUT, f"{name} with {tags} to be sent")

    def _listen(self) -> None:
        while datagram := self._socket.recv(_LARGEST_DATAGRAM):
            self._lines += map(_read, datagram.decode("ascii").splitlines())


def _read(line: str) -> Line:
    name_with_tags, _, rest = line.rpartition(":")
    name, *tags = name_with_tags.split(",")
    value, kind, *_ = rest.split("|")
    pairs = (tag.partition("=") for tag in tags)
    return Line(name, float(value), kind, frozenset((key, text) for key, _, text in pairs))
