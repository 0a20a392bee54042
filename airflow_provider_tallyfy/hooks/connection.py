"""The settings in an Airflow connection of type ``tallyfy``, checked."""

from __future__ import annotations

import logging
import math
import re
import ssl
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from airflow_provider_tallyfy.exceptions import TallyfyConfigurationError
from airflow_provider_tallyfy.protocol import urls
from airflow_provider_tallyfy.protocol.formatting import listed, quoted
from airflow_provider_tallyfy.provider_info import get_provider_info

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

DEFAULT_TIMEOUT = 30.0
_MAX_TIMEOUT = 3600.0
DEFAULT_REQUESTS_PER_HOUR = 900
"""Nine tenths of the tightest limit that Tallyfy publishes, 1,000 an hour for an organization."""
_MAX_REQUESTS_PER_HOUR = 1_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TallyfyConnection:
    """
    The settings of a connection.

    :param conn_id: the connection's id, for messages.
    :param api_url: base URL of the API, without a slash at its end.
    :param web_url: where users work, without a slash at its end.
    :param organization: the organization's id.
    :param access_token: a user's token, or ``None`` if an application's credentials are given.
    :param client_id: an application's id, with its ``client_secret``.
    :param user_email: the user that an application acts as.
    :param token_url: where an application gets its token.
    :param timeout: seconds to wait for a connection, and then for each part of a response.
    :param verify: whether certificates are checked, or the path of a CA bundle to check them with.
    :param requests_per_hour: the most requests that a triggerer sends in an hour to poll, and as many for each export;
        0 for no ceiling.
    """

    conn_id: str
    api_url: str
    web_url: str
    organization: str
    access_token: str | None = field(repr=False)
    client_id: str | None
    client_secret: str | None = field(repr=False)
    user_email: str | None
    token_url: str
    timeout: float
    verify: bool | str
    requests_per_hour: int = DEFAULT_REQUESTS_PER_HOUR

    @classmethod
    def read(cls, conn_id: str, connection: Connection) -> TallyfyConnection:
        """
        Read an Airflow connection.

        Unknown extras are ignored with a warning, since a secrets backend may add some.

        :raises TallyfyConfigurationError: names the connection and the field that is missing or cannot be used.
        """
        try:
            return cls._read(conn_id, connection)
        except ValueError as error:
            del connection  # error trackers show variables, and Airflow's object shows its password
            raise TallyfyConfigurationError(f"Connection {conn_id!r} cannot be used: {error}") from None

    @classmethod
    def _read(cls, conn_id: str, connection: Connection) -> TallyfyConnection:
        """Return the settings; the message of a ``ValueError`` names the field."""
        extra = connection.extra_dejson
        if not isinstance(extra, dict):
            raise ValueError("extra must be a JSON object.")
        known = get_provider_info()["connection-types"][0]["conn-fields"]
        if unknown := sorted(map(str, extra.keys() - known.keys())):
            _warn_about_extras(conn_id, listed(map(quoted, unknown)), ", ".join(known))
        extra = {name: value for name, value in extra.items() if value not in (None, "")}

        def text(name: str) -> str | None:
            return _text(extra.get(name), f"extra {name!r}")

        allow_http = _bool(extra, "allow_http", default=False)
        host, schema = _text(connection.host, "host"), _text(connection.schema, "schema")
        api_url = urls.api_url(host, connection.port, schema, allow_http=allow_http)
        organization = _organization(connection.login)
        access_token = client_secret = None
        if client_id := text("client_id"):
            client_secret = _secret(extra.get("client_secret"), "extra 'client_secret'")
        elif "client_secret" in extra:
            raise ValueError("extra 'client_secret' needs extra 'client_id'.")
        else:
            access_token = _secret(connection.password, "password (the access token)")
        token_url = text("token_url") or urljoin(api_url, "/oauth/token")
        # No token goes to the web URL, so plain http may be anywhere.
        web_url = urls.checked_url(
            text("web_url") or urls.DEFAULT_WEB_URL, "extra 'web_url'", allow_http=True
        )
        return cls(
            conn_id=conn_id,
            api_url=api_url,
            web_url=web_url,
            organization=organization,
            access_token=access_token,
            client_id=client_id,
            client_secret=client_secret,
            user_email=text("user_email"),
            token_url=urls.checked_url(token_url, "extra 'token_url'", allow_http=allow_http),
            timeout=_timeout(extra.get("timeout", DEFAULT_TIMEOUT)),
            verify=_verify(extra),
            requests_per_hour=_requests_per_hour(extra.get("requests_per_hour", DEFAULT_REQUESTS_PER_HOUR)),
        )


@cache
def _warn_about_extras(conn_id: str, unknown: str, known: str) -> None:
    """Warn once in a process; a wait may read its connection many times."""
    logger.warning(
        "Connection %r has unknown extras, which are ignored: %s. Known are %s.", conn_id, unknown, known
    )


def is_token(text: str) -> bool:
    """Return whether a text can be a token: it goes into a header, so it must not hold spaces or line breaks."""
    return text != "" and all("!" <= character <= "~" for character in text)


def _organization(login: object) -> str:
    """Return the organization's id; a token that was pasted here by mistake must not be shown."""
    if login is None or login == "":
        raise ValueError("login (the organization id) is missing.")
    if not urls.is_identifier(login):
        raise ValueError("login (the organization id) must be 1 to 255 letters, digits, '_' or '-'.")
    return login


def _secret(value: object, field_name: str) -> str:
    """Return a secret that can be sent in a header; the error must not show it."""
    if value is None or value == "":
        raise ValueError(f"{field_name} is missing.")
    if not isinstance(value, str):
        raise ValueError(f"{field_name} must be a text, but is of type {type(value).__name__}.")
    stripped = value.strip()
    if not is_token(stripped):
        raise ValueError(
            f"{field_name} contains spaces or characters that a token cannot have. Copy it again."
        )
    return stripped


def _text(value: object, field_name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{field_name} must be a text, but is of type {type(value).__name__}.")
    return value and value.strip()


def _bool(extra: dict[str, Any], name: str, *, default: bool) -> bool:
    """Return true or false; a URI has them as text, and so has an unsaved form of Airflow 2."""
    value = extra.get(name, default)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "y", "false"):
        return value.strip().lower() != "false"
    raise ValueError(f"extra {name!r} must be true or false.")


def _verify(extra: dict[str, Any]) -> bool | str:
    """Return true, false, or the path of a CA bundle; one that cannot be loaded would fail each request."""
    value = extra.get("verify")
    path = value.strip() if isinstance(value, str) else ""
    if path.lower() in ("", "true", "false"):
        return _bool(extra, "verify", default=True)
    try:
        is_folder = Path(path).is_dir()
        ssl.create_default_context(cafile=None if is_folder else path, capath=path if is_folder else None)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"extra 'verify' is neither true nor false, nor the path of a CA bundle that can be read on this machine "
            f"({type(error).__name__})."
        ) from None
    return path


def _timeout(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if isinstance(value, bool) or not 0 < seconds <= _MAX_TIMEOUT:
        raise ValueError(f"extra 'timeout' must be a number of seconds above 0, up to {_MAX_TIMEOUT:.0f}.")
    return seconds


def _requests_per_hour(value: Any) -> int:
    number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,7}\s*", value) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _MAX_REQUESTS_PER_HOUR:
        raise ValueError(
            f"extra 'requests_per_hour' must be a whole number from 0 to {_MAX_REQUESTS_PER_HOUR}."
        )
    return number
