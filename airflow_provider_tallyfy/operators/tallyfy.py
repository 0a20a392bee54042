"""Operators that act on Tallyfy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, conf

from airflow_provider_tallyfy.actions.attempts import AttemptStore
from airflow_provider_tallyfy.actions.completing import Completer, Completion, ConflictingDecisionError
from airflow_provider_tallyfy.actions.launching import LAUNCH_FIELDS, Launcher, idempotency_key
from airflow_provider_tallyfy.assets.lineage import report_lineage
from airflow_provider_tallyfy.exceptions import fail_on_bad_input
from airflow_provider_tallyfy.links.tallyfy import RUN_URL_KEY, TallyfyProcessLink, push_run_url
from airflow_provider_tallyfy.operators.base import (
    TallyfyOperator,
    check_argument,
    check_bools,
    is_number,
    to_seconds,
)
from airflow_provider_tallyfy.operators.gate import GateOperator
from airflow_provider_tallyfy.operators.gate_branches import choose_branches, read_branches
from airflow_provider_tallyfy.operators.gate_decision import format_decision
from airflow_provider_tallyfy.protocol.formatting import described
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.protocol.scalars import parse_bool
from airflow_provider_tallyfy.protocol.tasks import task_name
from airflow_provider_tallyfy.protocol.urls import identifier
from airflow_provider_tallyfy.sensors.tallyfy import TallyfyRunSensor
from airflow_provider_tallyfy.version_compat import with_outputs_pushed
from airflow_provider_tallyfy.waiting import messages
from airflow_provider_tallyfy.waiting.task_done import TaskDoneCondition

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.operators.gate_downstream import DownstreamSkipper

_MAX_SECONDS = 100 * 365 * 86400.0


class TallyfyGetRunOperator(TallyfyOperator):
    """
    Read a run and return it, so that it is the task's XCom.

    The run is Tallyfy's own object (API page "Get process"), with ``next_task`` always ``None`` or one task.

    :param run_id: id of the run. (templated)
    :param with_: what to include, as a sequence of names or one comma-separated string; see
        :meth:`~airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook.get_run`. Default: ``next_task`` alone. (templated)
    :param form_fields_values: include the values of all form fields. Default: ``False``.
    :param tallyfy_conn_id: id of the Airflow connection. Default: ``tallyfy_default``. (templated)
    :param multiple_outputs: push each field of the run under its own key too, so that downstream tasks can take
        ``get_run.output["next_task"]``, ``get_run.output["status"]`` and so on. Each of some 40 fields is a request to
        Airflow's API server then, and a row of its database. Default: ``True``.
    :raises AirflowFailException: ``run_id`` or ``with_`` cannot be sent; the task fails without retries.
    :raises TallyfyNotFoundError: there is no such run, or the connection's user does not see it.
    """

    template_fields: Sequence[str] = ("run_id", "with_", "tallyfy_conn_id")
    operator_extra_links = (TallyfyProcessLink(),)

    def __init__(
        self,
        *,
        run_id: str,
        with_: Sequence[str] | str = ("next_task",),
        form_fields_values: bool = False,
        # Without it, Airflow fails a task that takes a key whose value is None, as next_task is in the end.
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.run_id = run_id
        self.with_ = with_
        self.form_fields_values = form_fields_values
        check_bools(self, "form_fields_values")

    def execute(self, context: Context) -> dict[str, Any]:
        """Read the run and return it."""
        with fail_on_bad_input():
            push_run_url(context, self.hook.run_url(self.run_id))
            run = self.hook.get_run(self.run_id, with_=self.with_, form_fields_values=self.form_fields_values)
        self.log.info("%s; run %s", messages.describe_run_with_status(run), self.run_id)
        report_lineage(self.hook, read_runs=[self.run_id])
        return self._as_output(context, run)


class TallyfyLaunchRunOperator(TallyfyOperator):
    """
    Launch a run of a template once, and return it as ``TallyfyGetRunOperator`` does.

    One error names all mistakes in the values, and what to choose from, before anything is sent. A retried task, a
    killed worker, a request that timed out and a cleared task launch no second run: the notes of each run end with an
    idempotency key, by which a later try finds it, and on Airflow 3.3 and newer its id is kept in the task state store
    too. A run that was archived meanwhile counts as launched. A DAG run that is deleted and created again launches a
    run of its own; the documentation names the one case that cannot be distinguished.

    :param checklist_id: id of the template. (templated)
    :param name: what the run is called, at most 550 characters. Default: Tallyfy makes a name. (templated)
    :param kickoff: values of the kick-off form by field id, alias or label, as plain Python: text, numbers, booleans,
        dates (without a time zone in UTC), lists, mappings, ``None`` for nothing. Default: no values. (templated)
    :param summary: the run's notes; the idempotency key is added. Default: the key alone. (templated)
    :param owner_id: the member who owns the run, by id, e-mail address or full name. Default: the connection's user.
        (templated)
    :param tasks: ``{"owners": …, "deadline": …}`` by step id, alias or title; owners are members by id, e-mail address
        or full name, guests by e-mail address, groups by id or name. Default: as in the template. (templated)
    :param tags: ids of tags, a list. Default: none. (templated)
    :param users: members who see the run, by id, e-mail address or full name. Default: none. (templated)
    :param groups: groups that see the run, by id or name. Default: none. (templated)
    :param roles: ``{"users": […], "guests": […], "groups": […]}`` by the id of a role that a step of the template
        names. Default: none. (templated)
    :param folders: ids of folders, a list. Default: none. (templated)
    :param parent_id: id of the run that this one belongs to. Default: none. (templated)
    :param on_retry: ``adopt``, the default: one run, however often the task is tried or cleared. ``relaunch``: each try
        launches a run of its own.
    :param wait_for_completion: wait until the run is complete, and return it then. A retry waits for the same run.
        Default: ``False``.
    :param deferrable: wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param poke_interval: seconds between two polls while it waits, above 0, or a ``timedelta``. Default: 60.
    :param timeout: seconds for which it waits, above 0, or a ``timedelta``. Default: ``[sensors] default_timeout``.
    :param tallyfy_conn_id: id of the Airflow connection. Default: ``tallyfy_default``. (templated)
    :param multiple_outputs: push each field of the run under its own key too, so that downstream tasks can take
        ``launch.output["id"]``, ``launch.output["next_task"]`` and so on. Each of some 40 fields is a request to
        Airflow's API server then, and a row of its database. Default: ``True``.
    :raises AirflowFailException: something cannot be sent; the task fails without retries, and nothing was sent. Or the
        run was waited for, and was archived or deleted before it was complete.
    :raises AirflowSensorTimeout: the run was waited for, and was not complete in time.
    :raises TallyfyIndeterminateError: the launch got no clear answer twice, and no run was found a minute later. A
        retry searches again before it sends.
    :raises TallyfyNotFoundError: there is no such template; or the run that the task launched before is gone.
    :raises ValueError: ``on_retry`` is another word; or, with ``wait_for_completion``, ``poke_interval`` or ``timeout``
        is not above 0.
    """

    template_fields: Sequence[str] = (*LAUNCH_FIELDS, "tallyfy_conn_id")
    template_fields_renderers = {"kickoff": "json", "tasks": "json"}  # noqa: RUF012 - as Airflow's own
    operator_extra_links = (TallyfyProcessLink(),)

    def __init__(
        self,
        *,
        checklist_id: str,
        name: str | None = None,
        kickoff: Mapping[str, Any] | None = None,
        summary: str | None = None,
        owner_id: int | str | None = None,
        tasks: Mapping[str, Mapping[str, Any]] | None = None,
        tags: Sequence[str] | None = None,
        users: Sequence[int | str] | None = None,
        groups: Sequence[str] | None = None,
        roles: Mapping[str, Any] | None = None,
        folders: Sequence[str] | None = None,
        parent_id: str | None = None,
        on_retry: str = "adopt",
        wait_for_completion: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float | timedelta = 60.0,
        timeout: float | timedelta | None = None,
        multiple_outputs: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.checklist_id = checklist_id
        self.name = name
        self.kickoff = kickoff
        self.summary = summary
        self.owner_id = owner_id
        self.tasks = tasks
        self.tags = tags
        self.users = users
        self.groups = groups
        self.roles = roles
        self.folders = folders
        self.parent_id = parent_id
        self.on_retry = on_retry
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poke_interval = to_seconds(poke_interval)
        self.timeout = to_seconds(conf.getfloat("sensors", "default_timeout") if timeout is None else timeout)
        check_argument(self, "on_retry", on_retry in ("adopt", "relaunch"), "'adopt' or 'relaunch'")
        check_bools(self, "wait_for_completion", "deferrable")
        self._check_wait()

    def execute(self, context: Context) -> dict[str, Any]:
        """Launch the run, unless an earlier try did, and return it."""
        key = idempotency_key(context, self.task_id, per_try=self.on_retry == "relaunch")
        with fail_on_bad_input():
            self._check_wait()
            self.checklist_id = identifier(self.checklist_id, "checklist_id")
            launcher = Launcher(self.hook, self, key, self.log)
            launched = launcher.launch_once(AttemptStore.of_launch(context, self.checklist_id, key, self.log))
        push_run_url(context, self.hook.run_url(launched.id))
        report_lineage(self.hook, read_checklists=[self.checklist_id], changed_runs=[launched.id])
        if self.wait_for_completion:
            return self._as_output(context, self._wait(context, launched.id))
        run = launcher.read(launched)
        line = messages.describe_run_with_status(run)
        self.log.info("%s; run %s of template %s", line, launched.id, self.checklist_id)
        return self._as_output(context, run)

    def _check_wait(self) -> None:
        """
        Refuse a wait that would poll without pause, never, or without end.

        :raises ValueError: an argument is not a number of seconds above zero and below a hundred years.
        """
        for name in ("poke_interval", "timeout") if self.wait_for_completion else ():
            is_valid = is_number(getattr(self, name)) and 0 < getattr(self, name) < _MAX_SECONDS
            check_argument(self, name, is_valid, "a number of seconds above 0")

    def _wait(self, context: Context, run_id: str) -> Any:
        """Wait as a sensor does until the run is complete, here or in the triggerer, and return it."""
        sensor = self._sensor(run_id)
        ends_at = time.time() + self.timeout
        while not (polled := sensor.poke(context)).is_done:
            if (left := ends_at - time.time()) <= 0:
                raise AirflowSensorTimeout(f"Run {run_id} was not complete after {self.timeout:g} seconds.")
            time.sleep(min(self.poke_interval, left))
        run: Any = polled.xcom_value
        return run

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Return the run that the triggerer waited for, or fail, as a sensor does."""
        ti: Any = context["ti"]
        # After a timeout, Airflow hands over nothing else from which the run is known.
        url = ti.xcom_pull(task_ids=ti.task_id, key=RUN_URL_KEY, map_indexes=ti.map_index)
        sensor = self._sensor(str(url).rpartition("/")[2])
        return self._as_output(context, sensor.resume_execution(next_method, next_kwargs, context))

    def _sensor(self, run_id: str) -> TallyfyRunSensor:
        return TallyfyRunSensor(
            task_id=f"{self.task_id[-240:]}__wait",  # Airflow allows 250 characters
            run_id=run_id,
            tallyfy_conn_id=self.tallyfy_conn_id,
            deferrable=self.deferrable,
            poke_interval=self.poke_interval,
            timeout=self.timeout,
        )


class TallyfyCompleteTaskOperator(TallyfyOperator):
    """
    Complete, approve or reject a task of a run, and return the task with its form.

    Form values are written first. One error names all mistakes in them, and each required field that would still be
    empty, before anything is sent. If the task is completed already with the same decision, the operator succeeds and
    writes nothing.

    No completion is sent while an earlier one may have been, or may yet be, applied: Tallyfy may accept a second one,
    and send its webhooks and mails again. At a retry that takes a minute, except on Airflow 3.3 and newer after a try
    that sent nothing.

    :param run_id: id of the run. (templated)
    :param task: the task's id, alias or title; exact before one that differs only in case. (templated)
    :param form_fields: values of the task's form by field id, alias or label, as plain Python; ``None`` empties a
        field. Default: nothing is written. (templated)
    :param is_approved: ``True`` approves and ``False`` rejects; needed on an approval, ignored on any other task.
        Default: ``None``. (templated; a text ``True`` or ``False`` is taken)
    :param override_user: the member to record as the completer, by id, e-mail address or full name. Default: the
        connection's user. (templated)
    :param tallyfy_conn_id: id of the Airflow connection. Default: ``tallyfy_default``. (templated)
    :raises AirflowFailException: something cannot be sent, several tasks have that title, or the task was completed
        with another decision; the task fails without retries.
    :raises TallyfyNotFoundError: there is no such task, or not yet.
    :raises TallyfyValidationError: a rule hides the task, an issue is open, or Tallyfy refuses for another reason.
    :raises TallyfyIndeterminateError: it may or may not be completed, and was open for a minute. A retry finds out
        before it sends.
    """

    template_fields: Sequence[str] = (
        "run_id",
        "task",
        "form_fields",
        "is_approved",
        "override_user",
        "tallyfy_conn_id",
    )
    template_fields_renderers = {"form_fields": "json"}  # noqa: RUF012 - as Airflow's own
    operator_extra_links = (TallyfyProcessLink(),)

    def __init__(
        self,
        *,
        run_id: str,
        task: str,
        form_fields: Mapping[str, Any] | None = None,
        is_approved: bool | str | None = None,
        override_user: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run_id = run_id
        self.task = task
        self.form_fields = form_fields
        self.is_approved = is_approved
        self.override_user = override_user

    def execute(self, context: Context) -> dict[str, Any]:
        """Complete the task, unless it is completed, and return it."""
        with fail_on_bad_input():
            completion = Completion(
                run_id=self.run_id,
                task=task_name(self.task),
                form_fields=self.form_fields,
                is_approved=parse_bool(self.is_approved, "is_approved"),
                override_user=self.override_user,
            )
            push_run_url(context, self.hook.run_url(self.run_id))
            store = AttemptStore.of_completion(context, self.run_id, completion.task, self.log)
            try:
                task = Completer(self.hook, completion, store, self.log).complete_once()
            except ConflictingDecisionError as error:
                raise AirflowFailException(str(error)) from None
        self.log.info("%s; task %s, run %s", TaskDoneCondition.describe_result(task), task["id"], self.run_id)
        report_lineage(self.hook, changed_runs=[self.run_id])
        return self._as_output(context, task)


class TallyfyApiOperator(TallyfyOperator):
    """
    Call any endpoint of Tallyfy's API, and return the response.

    A request that changes something is sent at each try of the task: Tallyfy has no idempotency key.

    :param endpoint: relative to the organization (``runs/abc/tasks``), or absolute from the API's root when it begins
        with ``/`` (``/me``); without quoting and without a query. (templated)
    :param method: GET, the default, POST, PUT, PATCH or DELETE. (templated)
    :param query: query parameters; ``None`` leaves one out, a ``datetime`` is converted to UTC, a list becomes one
        comma-separated value. Airflow has ``params`` of its own on every operator. Default: none. (templated)
    :param json: the body. Default: none. (templated)
    :param paginate: return all items of a list, from all its pages. Only for GET without a body. Default: ``False``.
    :param response_filter: called with the parsed body, including its envelope, or with the list of all items if
        ``paginate`` is set; the task returns its result. Default: the response is returned as it is.
    :param tallyfy_conn_id: id of the Airflow connection. Default: ``tallyfy_default``. (templated)
    :raises AirflowFailException: an argument cannot be sent; the task fails without retries.
    :raises TallyfyIndeterminateError: what was not a GET may or may not have been applied.
    :raises TallyfyError: of the kind that fits what went wrong.
    """

    template_fields: Sequence[str] = ("endpoint", "method", "query", "json", "tallyfy_conn_id")
    template_fields_renderers = {"query": "json", "json": "json"}  # noqa: RUF012 - as Airflow's own

    def __init__(
        self,
        *,
        endpoint: str,
        method: str = "GET",
        query: Mapping[str, Any] | None = None,
        json: Any = None,
        paginate: bool = False,
        response_filter: Callable[[Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.method = method
        self.query = query
        self.json = json
        self.paginate = paginate
        self.response_filter = response_filter
        check_bools(self, "paginate")
        is_valid = response_filter is None or callable(response_filter)
        check_argument(self, "response_filter", is_valid, "a function")

    def execute(self, context: Context) -> Any:
        """Call the endpoint and return the response, or what the filter returns for it."""
        if self.query is not None and not isinstance(self.query, Mapping):
            raise AirflowFailException(f"query must be a mapping, not {described(self.query)}.")
        if self.paginate and (str(self.method).upper() != "GET" or self.json is not None):
            raise AirflowFailException(
                "paginate is only for GET without a body, since it asks for page after page."
            )
        query = self.query or {}
        with fail_on_bad_input():
            answer = (
                list(self.hook.paginate(self.endpoint, **{str(name): value for name, value in query.items()}))
                if self.paginate
                else self.hook.request(self.method, self.endpoint, params=query, json=self.json)
            )
        # A text itself is not logged: a user may have written it into a form.
        what = "a text" if isinstance(answer, str) else described(answer)
        self.log.info("%s %s returned %s", self.method.upper(), self.endpoint, what)
        return sanitize_payload(answer if self.response_filter is None else self.response_filter(answer))


class TallyfyApprovalOperator(GateOperator):
    """
    Wait until a user approves or rejects a task of a run; after a rejection, skip the downstream tasks.

    Returns ``{"run_id", "task_id", "title", "is_approved", "decided_by": {"id", "name", "email"}, "decided_at",
    "comment", "form_values", "timed_out", "try_number"}``: ``comment`` is the last one that this person wrote on the
    task, and ``form_values`` are the values of the task's form by alias. What Tallyfy does not have is ``None``. The
    same is in one log line, as JSON after ``tallyfy.gate.decision``.

    It waits as a :class:`~airflow_provider_tallyfy.sensors.tallyfy.TallyfyTaskSensor` does, in the same modes, and
    takes its other arguments too (``poke_interval``, ``timeout`` and so on). It fails without retries if the task is
    no approval.

    If it is mapped, in a mapped task group or has ``outlets``, a rejection skips the operator itself too, after it
    pushed its result; before Airflow 3.2.2, also if a task directly downstream is mapped. A DAG in which something
    directly downstream could run before the decision or after a rejection is refused when it is parsed.

    :param run_id: id of the run. (templated)
    :param task: the task's id, alias or title. (templated)
    :param approvers: who may decide: e-mail addresses, member ids, full names, groups by name or id; one, a list, or a
        mapping of lists under ``users``, ``guests`` and ``groups``, and under ``exclude`` those who may not, also
        ``"started_by"`` for the member who launched the run. A decision by anyone else, or by a user whom Tallyfy
        does not name, fails the task without retries. Default: everyone whom Tallyfy lets decide. (templated)
    :param require_comment: fail the task without retries if the one who decided has written no comment on the task half
        a minute after the decision. Default: ``False``.
    :param on_timeout: what to do without a decision before ``timeout``: ``fail`` without retries, ``skip`` this one and
        what is downstream, or go on as if the task were rejected (``reject``) or **approved** (``approve``). The result
        has ``timed_out`` then. A decision in the last moment counts. ``approve`` fails instead if Tallyfy cannot be
        read at that time. Default: ``fail``.
    :param notifiers: called with Airflow's context once, when the wait begins; not again after a deferral, a
        reschedule, a retry or a restart. Before Airflow 3.3, only the first try calls them. Their templates can use
        ``tallyfy.run_id``, ``.task_id``, ``.title``, ``.deadline``, ``.url`` and ``.reminder``, the number of the
        reminder. One that fails does not end the wait. Default: none.
    :param remind_every: call them again at this interval, in seconds or as a ``timedelta``. While the task is deferred,
        the triggerer does that, without a worker. Default: ``None``, for no reminders.
    :param max_reminders: how many reminders there are at most, from 1 to 1,000. Default: 10.
    :param fail_on_reject: fail the task on a rejection, without retries, instead of skipping what is downstream. Then
        trigger rules decide what runs downstream, as after any failed task. Default: ``False``.
    :param ignore_downstream_trigger_rules: skip all that is downstream, whatever its trigger rules. By default, the
        tasks directly downstream are skipped, and the trigger rules of the others decide. Teardowns always run.
    :param on_skipped: what to do if a rule hides the task, so that it is never decided: ``skip`` this one and what is
        downstream, ``fail``, or ``succeed`` and let downstream tasks run. Default: ``skip``.
    :param tallyfy_conn_id: id of the Airflow connection. Default: ``tallyfy_default``. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param start_from_trigger: with ``deferrable`` and without ``notifiers``, begin the wait in the triggerer too. A
        worker always ends it. Default: ``False``.
    :raises AirflowFailException: it was rejected (with ``fail_on_reject``), decided by someone who may not or without a
        comment, can never be decided, or could not keep closed what is downstream.
    :raises AirflowSensorTimeout: there was no decision in time.
    :raises ValueError: an argument makes no sense.
    """

    def __init__(
        self,
        *,
        fail_on_reject: bool = False,
        ignore_downstream_trigger_rules: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fail_on_reject = fail_on_reject
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules
        check_bools(self, "fail_on_reject", "ignore_downstream_trigger_rules")

    def _act(
        self, context: Context, downstream: DownstreamSkipper, decision: dict[str, Any]
    ) -> dict[str, Any]:
        if decision["is_approved"] is not False:
            self._log_decision(context, decision, "open")
            downstream.open()
            return with_outputs_pushed(self, context, decision)
        if self.fail_on_reject:
            raise self._fail(context, decision, format_decision(decision))
        self._log_decision(context, decision, "closed")
        downstream.close()
        if downstream.skips_gate:
            raise self._skip(context, decision)
        return with_outputs_pushed(self, context, decision)


class TallyfyBranchOperator(GateOperator):
    """
    Wait until a task of a run is completed, and run the branch that its decision or a value of its form names.

    As with Airflow's branch operators, the tasks directly downstream are skipped, except those of a branch that is
    followed, and those that are downstream of it too. A value that names no branch fails the task without retries, and
    so does a decision that does not count. Teardowns always run.

    Returns what a :class:`TallyfyApprovalOperator` does, with ``branches``, the task ids that it follows.

    A branch that is no task or task group directly downstream is refused when the DAG is parsed, and so is a mapped
    branch operator: put it into a mapped task group, with its branches.

    :param run_id: id of the run. (templated)
    :param task: the task's id, alias or title; without ``field`` it has to be an approval. (templated)
    :param branches: task ids or task group ids, one or a list, or ``None`` to follow none, by the value that chooses
        them. Without ``field``, the values are ``approved`` and ``rejected``.
    :param field: the form field that chooses, by alias, or by label if it has none. A field with several values
        follows all of their branches. Default: ``None``, for the decision.
    :param approvers: who may complete the task, as for :class:`TallyfyApprovalOperator`. Default: everyone whom Tallyfy
        lets complete it. (templated)
    :param require_comment: fail the task without retries if the one who completed it wrote no comment on it. Default:
        ``False``.
    :param on_timeout: what to do if it is not completed before ``timeout``: ``fail``, ``skip`` this one and what is
        downstream, or, without ``field``, follow the branch of ``approved`` (``approve``) or of ``rejected``
        (``reject``). Default: ``fail``.
    :param notifiers: called once, when the wait begins, as for :class:`TallyfyApprovalOperator`. Default: none.
    :param remind_every: call them again at this interval, in seconds or as a ``timedelta``. Default: ``None``, for no
        reminders.
    :param max_reminders: how many reminders there are at most, from 1 to 1,000. Default: 10.
    :param on_skipped: what to do if a rule hides the task: ``skip`` this one and what is downstream, or ``fail``.
        Default: ``skip``.
    :param tallyfy_conn_id: id of the Airflow connection. Default: ``tallyfy_default``. (templated)
    :param deferrable: wait in the triggerer, without a worker. Default: ``[operators] default_deferrable``.
    :param start_from_trigger: with ``deferrable`` and without ``notifiers``, begin the wait in the triggerer too. A
        worker always ends it. Default: ``False``.
    :raises AirflowFailException: the value names no branch, the decision does not count, or the task can never be
        completed.
    :raises AirflowSensorTimeout: it was not completed in time.
    :raises ValueError: an argument makes no sense.
    """

    is_tallyfy_branch = True  # for the policy that refuses DAGs
    ignore_downstream_trigger_rules = False

    def __init__(
        self,
        *,
        branches: Mapping[str, str | Sequence[str] | None],
        field: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.field = field
        self._needs_decision = field is None
        super().__init__(**kwargs)
        self.branches = read_branches(branches, is_decision=field is None)
        check_argument(
            self,
            "on_skipped",
            self.on_skipped != "succeed",
            "'skip' or 'fail', since a hidden task names no branch",
        )
        if field is not None:
            is_valid = self.on_timeout in ("fail", "skip")
            check_argument(self, "on_timeout", is_valid, "'fail' or 'skip', since field is given")

    def _act(
        self, context: Context, downstream: DownstreamSkipper, decision: dict[str, Any]
    ) -> dict[str, Any]:
        try:
            followed = choose_branches(self.branches, decision, self.field)
        except LookupError as error:
            reason = f"{error.args[0]} ({format_decision(decision)})"
            raise self._fail(context, decision, reason) from None
        decision = {**decision, "branches": followed}
        self._log_decision(context, decision, "branch")
        downstream.follow(followed)
        return with_outputs_pushed(self, context, decision)
