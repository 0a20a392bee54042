"""The base class of all operators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_tallyfy.exceptions import TallyfyError
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


@contextmanager
def fail_on_bad_input() -> Iterator[None]:
    """Fail the task without retries if an argument cannot be sent; no retry corrects it."""
    try:
        yield
    except TallyfyError:  # a connection that cannot be used is one too, and may be corrected meanwhile
        raise
    except ValueError as error:
        raise AirflowFailException(str(error)) from None
