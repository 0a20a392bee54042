"""The base class of all operators, and the checks of their arguments when a DAG is parsed."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.rendering import TextPreservingTemplates
from airflow_provider_tallyfy.version_compat import with_outputs_pushed

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook


class TallyfyOperator(TextPreservingTemplates, BaseOperator):
    """
    An operator with an Airflow connection to Tallyfy.

    :param tallyfy_conn_id: id of the Airflow connection. (templated, if the operator says so)
    """

    ui_color = "#e8f5ee"

    def __init__(self, *, tallyfy_conn_id: str = "tallyfy_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tallyfy_conn_id = tallyfy_conn_id

    @cached_property
    def hook(self) -> TallyfyHook:
        """The hook, made at the first use: DAG files are parsed all day, and need no ``requests`` for that."""
        from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

        return TallyfyHook(self.tallyfy_conn_id)

    def _as_output(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        """Return a result as Airflow can store it, with its fields pushed if Airflow would fail to."""
        return with_outputs_pushed(self, context, sanitize_payload(result))


def check_argument(operator: Any, name: str, is_valid: bool, expected: str) -> None:
    """
    Refuse an argument that makes no sense.

    :param expected: what it must be.
    :raises ValueError: it is not valid.
    """
    if not is_valid:
        value = getattr(operator, name)
        raise ValueError(f"Task {operator.task_id!r}: {name} must be {expected}, but is {value!r}.")


def check_bools(operator: Any, *names: str) -> None:
    """Refuse arguments that are neither ``True`` nor ``False``, such as the text ``"false"``, which would be true."""
    for name in names:
        check_argument(operator, name, isinstance(getattr(operator, name), bool), "True or False")


def is_number(value: Any) -> bool:
    """Return whether a value is a number, which a boolean is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def to_seconds(duration: Any) -> Any:
    """Return a ``timedelta`` in seconds, and anything else as it is."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration
