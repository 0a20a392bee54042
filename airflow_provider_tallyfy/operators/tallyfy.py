"""Operators that act on Tallyfy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_tallyfy.operators.links import TallyfyProcessLink, push_run_url

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook


class TallyfyGetRunOperator(BaseOperator):
    """
    Read a run and return it, so that it is the task's XCom.

    The run is Tallyfy's own object (API page "Get process"), with ``next_task`` always ``None`` or one task.

    :param run_id: id of the run. (templated)
    :param with_: what to include, as a sequence of names or one comma-separated string; see
        :meth:`~airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook.get_run`. (templated)
    :param form_fields_values: include the values of all form fields.
    :param tallyfy_conn_id: id of the Airflow connection. (templated)
    :param multiple_outputs: push each field of the run under its own key too, so that downstream tasks can take
        ``get_run.output["next_task"]``, ``get_run.output["status"]`` and so on.
    :raises TallyfyNotFoundError: there is no such run, or the connection's person does not see it.
    """

    template_fields: Sequence[str] = ("run_id", "with_", "tallyfy_conn_id")
    operator_extra_links = (TallyfyProcessLink(),)
    ui_color = "#e8f5ee"

    def __init__(
        self,
        *,
        run_id: str,
        with_: Sequence[str] | str = ("next_task",),
        form_fields_values: bool = False,
        tallyfy_conn_id: str = "tallyfy_default",
        # Without it, Airflow fails a task that takes a key whose value is None, as next_task is in the end.
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.run_id = run_id
        self.with_ = with_
        self.form_fields_values = form_fields_values
        self.tallyfy_conn_id = tallyfy_conn_id

    @cached_property
    def hook(self) -> TallyfyHook:
        """The hook, made at the first use: DAG files are parsed all day, and need no ``requests`` for that."""
        from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

        return TallyfyHook(self.tallyfy_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the run and return it."""
        push_run_url(context, self.hook.run_url(self.run_id))
        return self.hook.get_run(self.run_id, with_=self.with_, form_fields_values=self.form_fields_values)
