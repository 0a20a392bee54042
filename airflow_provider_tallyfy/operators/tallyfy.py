"""Operators that act on Tallyfy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, SkipMixin

from airflow_provider_tallyfy.operators.approvals import described, in_words, skip_downstream
from airflow_provider_tallyfy.operators.links import TallyfyProcessLink, push_run_url
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyTaskSensor

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


class TallyfyApprovalOperator(TallyfyTaskSensor, SkipMixin):
    """
    Wait until an approval task of a run is decided. Approved, downstream tasks run; rejected, they are skipped.

    Returns ``{"run_id", "task_id", "title", "is_approved", "decided_by": {"id", "name", "email"}, "decided_at",
    "comment", "form_values"}``: ``comment`` is the last one that this person wrote on the task, and ``form_values`` are
    the values of the task's form by alias. What Tallyfy does not tell is ``None``.

    It waits as a :class:`~airflow_provider_tallyfy.sensors.tallyfy.TallyfyTaskSensor` does, in the same modes, and
    takes its other arguments too (``poke_interval``, ``timeout`` and so on). A task that is no approval fails it
    without retries.

    :param run_id: id of the run. (templated)
    :param task: the task's id, alias or title. (templated)
    :param fail_on_reject: let a rejection fail the task, without retries, rather than skip what is downstream.
    :param ignore_downstream_trigger_rules: skip all that is downstream, whatever its trigger rules. By default, the
        tasks next to this one are skipped, and the trigger rules of the others decide. Teardowns always run.
    :param on_skipped: what to do where a rule hides the task, so that nobody is asked: ``skip`` this one, ``fail``, or
        ``succeed`` and let downstream tasks run.
    :param tallyfy_conn_id: id of the Airflow connection. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param start_from_trigger: with ``deferrable``, begin the wait in the triggerer too. A worker always ends it.
    :raises AirflowFailException: it was rejected (with ``fail_on_reject``), or can never be decided.
    """

    inherits_from_skipmixin = True
    ui_color = "#d9efe3"
    _needs_decision = True
    _ends_in_a_worker_since = "only a worker skips what is downstream of a rejection"

    def __init__(
        self,
        *,
        run_id: str,
        task: str,
        fail_on_reject: bool = False,
        ignore_downstream_trigger_rules: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(run_id=run_id, task=task, **kwargs)
        self.fail_on_reject = fail_on_reject
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules

    # Not in the midst of a poke or of taking up an event: what is raised here is no failed look.

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait, and act on the decision."""
        return self._act_on(context, super().execute(context))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Take up what the trigger saw, and act on the decision."""
        return self._act_on(context, super().resume_execution(next_method, next_kwargs, context))

    def _act_on(self, context: Context, task: dict[str, Any]) -> dict[str, Any]:
        result = described(task, self.run_id, self.hook, self.log)
        self.log.info(in_words(result))
        if result["is_approved"] is False and self.fail_on_reject:
            raise AirflowFailException(in_words(result))
        if result["is_approved"] is False:
            skip_downstream(self, context, result, ignore_trigger_rules=self.ignore_downstream_trigger_rules)
        return result
