"""The session of a hook: its headers, token, timeout, proxies and certificates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from airflow_provider_tallyfy.protocol import urls
from airflow_provider_tallyfy.protocol.requests import HEADERS

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.connection import TallyfyConnection


class TallyfySession(requests.Session):
    """
    A session that sends the required headers, and follows no redirect.

    The API sends none, so one would lead the token and the data to another server.
    """

    def __init__(self, connection: TallyfyConnection) -> None:
        super().__init__()
        self.headers.update(HEADERS)
        self.verify = connection.verify
        self._timeout = connection.timeout

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request, within the connection's timeout unless another one is given."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self._timeout
        if "proxies" not in kwargs:  # the request was prepared by hand, so the environment was not read
            settings = self.merge_environment_settings(request.url, {}, None, None, None)
            kwargs = {"proxies": settings["proxies"], "verify": settings["verify"], **kwargs}
        return super().send(request, **kwargs)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """
        Take proxies and certificates from the environment, with two exceptions.

        The connection's own ``verify`` takes precedence over ``REQUESTS_CA_BUNDLE``, and requests to this machine pass
        no proxy.
        """
        if verify is None and self.verify is not True:
            verify = self.verify
        hostname = urlsplit(url).hostname or ""
        if urls.is_loopback(hostname):
            proxies = {"no_proxy": hostname, **(proxies or {})}
        return super().merge_environment_settings(url, proxies, stream, verify, cert)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return no target, so that no redirect is followed."""
        return


class BearerAuth(requests.auth.AuthBase):
    """
    Add the token to requests to the API, and to no other.

    As an ``auth`` it also keeps ``requests`` from taking a password out of a ``.netrc`` file.
    """

    def __init__(self, api_url: str, token: Callable[[], str]) -> None:
        self._origin = urls.origin(api_url)
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header if the request goes to the API."""
        if urls.origin(request.url or "") == self._origin:
            request.headers["Authorization"] = f"Bearer {self._token()}"
        return request


def no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave a request without a token."""
    return request
