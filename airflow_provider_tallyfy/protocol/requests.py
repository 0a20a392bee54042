"""Requests to Tallyfy, as values; nothing is sent here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from json import dumps
from typing import Any
from urllib.parse import quote, urlencode

from airflow_provider_tallyfy.protocol.scalars import format_datetime, plain_text
from airflow_provider_tallyfy.protocol.urls import endpoint_path, segment
from airflow_provider_tallyfy.protocol.validation import InvalidValueError

HEADERS: Mapping[str, str] = {
    "Accept": "application/json",
    # Without it Tallyfy returns 401 or 'endpoint not found' (documentation, every page of the code samples).
    "X-Tallyfy-Client": "APIClient",
}

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
PER_PAGE = 100
COMMENT_STATES = ("open", "hide-for-guests", "collapsed")
"""Sources disagree about the default: ``open`` (official SDK) or ``hide-for-guests`` (MCP server), so it is sent."""


@dataclass(frozen=True, slots=True)
class Request:
    """
    One request to the API.

    :param method: in capitals.
    :param path: from the API's root, quoted, beginning with ``/``.
    :param params: the query, in order.
    :param json: the body, or ``None`` for none.
    :param form: a form-encoded body instead; the token endpoint takes only that.
    """

    method: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    json: Any = None
    form: Mapping[str, str] | None = field(default=None, repr=False)

    @property
    def target(self) -> str:
        """Path and query. Tallyfy does not read ``+`` as a space (official SDK), so it is ``%20``."""
        return f"{self.path}?{urlencode(self.params, quote_via=quote)}" if self.params else self.path

    @property
    def is_retryable(self) -> bool:
        """Whether it can be retried although an earlier attempt may have been carried out."""
        return self.method == "GET" or self.form is not None

    def page(self, number: int) -> Request:
        """
        Return the same request for one page of its list.

        :raises ValueError: its query has a page already.
        """
        params = {"per_page": str(PER_PAGE)} | dict(self.params)
        if "page" in params:
            raise ValueError("A list is read from the first page to the last; leave 'page' out of the query.")
        return replace(self, params=(*params.items(), ("page", str(number))))


def build_request(
    method: str,
    endpoint: str,
    organization: str,
    *,
    params: Mapping[str, Any] | None = None,
    json: Any = None,
) -> Request:
    """
    Return a request to any endpoint.

    :param method: one of GET, POST, PUT, PATCH, DELETE, in any case.
    :param endpoint: see :func:`~airflow_provider_tallyfy.protocol.urls.endpoint_path`.
    :param params: query parameters; ``None`` leaves one out, booleans become ``true`` and ``false``, a ``datetime`` is
        converted to UTC, and a list becomes one comma-separated value.
    :raises ValueError: the method, the endpoint, a parameter or the body cannot be sent.
    """
    verb = method.upper() if isinstance(method, str) else ""
    if verb not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, but is {method!r}.")
    try:
        dumps(json, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"json cannot be sent as JSON: {error}") from None
    return Request(verb, endpoint_path(endpoint, organization), _query(params or {}), json)


def application_token(client_id: str, client_secret: str) -> Request:
    """Request an application's token; sent to the token URL itself (page "Third-party application API access")."""
    return Request(
        "POST",
        "",
        form={
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
            "scope": "*",
        },
    )


def user_token(organization: str, user_email: str) -> Request:
    """Exchange an application's token for a user's (page "Third-party application API access")."""
    path = f"/applications/{segment(organization, 'organization')}/users/{segment(user_email, 'user_email')}/token"
    # An empty form, not JSON null: like the application's token, it can be requested twice.
    return Request("POST", path, form={})


def include_names(with_: Iterable[str] | str | None) -> tuple[str, ...]:
    """
    Return the names in a ``with`` parameter.

    :param with_: a sequence of names, or one comma-separated string; ``None`` for none.
    :raises ValueError: it is anything else.
    """
    if with_ is not None and not isinstance(with_, Iterable):
        raise ValueError(f"with_ must be a sequence of names, or one string, not {type(with_).__name__}.")
    names = with_.split(",") if isinstance(with_, str) else list(with_ or ())
    if not all(isinstance(name, str) for name in names):
        raise ValueError("with_ must be a sequence of names such as ('next_task', 'tasks'), or one string.")
    return tuple(stripped for name in names if (stripped := name.strip()))


def _query(params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the query; ``with_`` stands for ``with``, which is a keyword in Python."""
    if not isinstance(params, Mapping):
        raise ValueError(f"The query parameters must be a mapping, not {type(params).__name__}.")
    pairs = []
    for name, value in params.items():
        if name in ("with_", "with"):
            name, value = "with", ",".join(include_names(value)) or None
        if value is not None:
            try:
                pairs.append((plain_text(name), _query_value(value)))
            except InvalidValueError as error:
                raise ValueError(f"The query parameter {name!r} cannot be sent: {error}.") from None
    return tuple(pairs)


def _query_value(value: Any) -> str:
    if isinstance(value, (list, tuple)) and not any(isinstance(item, (list, tuple)) for item in value):
        return ",".join(map(_query_value, value))
    return format_datetime(value) if isinstance(value, datetime) else plain_text(value)
