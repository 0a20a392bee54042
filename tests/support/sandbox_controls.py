"""A sandbox with its test controls, and a user of it."""

from __future__ import annotations

import requests

from dev.sandbox import SandboxClient


class ControlledSandbox:
    """
    Controls a sandbox server, and counts its requests.

    :param server: runs with test controls.
    """

    def __init__(self, server):
        self.server = server
        self.people = SandboxClient(server.url)

    def control(self, method, name, **json_body):
        """Call one of the test controls, and return its response."""
        url = f"{self.server.url}/_sandbox/{name}"
        response = requests.request(method, url, json=json_body or None, timeout=30)
        response.raise_for_status()
        return response.json() if response.content else None

    def launch(self, count):
        """Launch runs, and return their ids."""
        return self.control("POST", "runs", count=count)["data"]

    def fault(self, **fault):
        """Add a fault."""
        url = f"{self.server.url}/_sandbox/faults"
        requests.post(url, json=[fault], timeout=10).raise_for_status()

    def remove_faults(self):
        """Remove all faults."""
        self.control("DELETE", "faults")

    def requests_since_last_call(self):
        """Return how many GET requests each endpoint got since the last call."""
        routes = self.control("GET", "stats")["routes"]
        self.control("DELETE", "stats")
        endpoint = "/api/organizations/{organization}/"
        return {row["path"].removeprefix(endpoint): row["count"] for row in routes if row["method"] == "GET"}
