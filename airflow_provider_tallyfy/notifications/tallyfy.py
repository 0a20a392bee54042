"""
Notifiers for ``on_failure_callback`` and its kin, for deadlines, and for whatever else calls a notifier.

A notifier neither delays nor fails what it is called from. Whatever goes wrong is an error in the log, a long
``Retry-After`` is not waited for, and a request that may have been applied is not repeated.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, BaseNotifier

from airflow_provider_tallyfy import rendering
from airflow_provider_tallyfy.actions.launching import LAUNCH_FIELDS, LaunchArguments, Launcher
from airflow_provider_tallyfy.exceptions import TallyfyError, TallyfyIndeterminateError
from airflow_provider_tallyfy.notifications.callback import Callback
from airflow_provider_tallyfy.protocol.completion import without_html
from airflow_provider_tallyfy.protocol.formatting import quoted
from airflow_provider_tallyfy.protocol.forms import text_keys
from airflow_provider_tallyfy.protocol.forms.fields import read_kickoff_fields
from airflow_provider_tallyfy.protocol.idempotency_key import find_launched, search_filters
from airflow_provider_tallyfy.protocol.launch_request import cut_to_fit
from airflow_provider_tallyfy.protocol.requests import COMMENT_STATES

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.protocol.idempotency_key import IdempotencyKey

MAX_RETRY_AFTER = 15.0
"""Seconds that Tallyfy may ask to wait; a callback of a DAG takes a place in the DAG processor meanwhile."""
_RETRIES = 2
_PAUSES = (0.0, 2.0, 4.0)
_threads = ThreadPoolExecutor(4, thread_name_prefix="tallyfy-notifiers")


class UnrenderedText(str):
    """The text of a template that could not be rendered."""

    __slots__ = ()


@dataclass(kw_only=True, repr=False, eq=False)
class TallyfyNotifier(BaseNotifier):
    """
    Send something to Tallyfy, and log an error if that fails.

    Each call renders the fields for itself, so one notifier can serve many callbacks, also at the same time. A template
    that cannot be rendered stays as it is, with an error in the log.

    :param tallyfy_conn_id: id of the Airflow connection. (templated)
    :param context: what templates are rendered with; Airflow gives it to the callback of a ``DeadlineAlert``.
    """

    not_sent = "Nothing was sent to Tallyfy"
    in_doubt = "It is not known whether Tallyfy applied it"

    tallyfy_conn_id: str = "tallyfy_default"
    context: Context = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        context = self.context
        super().__init__()
        self.context = context or {}
        given = {name: getattr(self, name) for name in self.template_fields}
        self.fields_as_given = {"notifier": type(self).__name__, **given}  # also those of a rendered copy
        for field in fields(self):
            if field.default is MISSING and getattr(self, field.name) in (None, ""):
                raise ValueError(
                    f"{type(self).__name__} needs {field.name}, but it is {getattr(self, field.name)!r}."
                )

    def __call__(self, *args: Any) -> None:
        """Send the notification; Airflow calls this for each callback."""
        if len(args) > 1:  # sla_miss_callback of Airflow 2
            names = ("dag", "task_list", "blocking_task_list", "slas", "blocking_tis")
            args = (dict(zip(names, args, strict=True)),)
        context = args[0] if args and args[0] is not None else self.context
        self._rendered(context).notify(context)

    def __await__(self) -> Generator[Any, None, None]:
        """Send the notification, rendered with the notifier's own context; Airflow awaits this in the triggerer."""
        return self._in_thread(self, self.context).__await__()

    async def async_notify(self, context: Context) -> None:
        """Send the notification without blocking the event loop."""
        await self._in_thread(self.notify, context)

    def notify(self, context: Context) -> None:
        """Send the notification from rendered fields. Errors are logged, not raised."""
        # Imported late, since DAG files are parsed all day, and need no `requests` for that.
        from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
        from airflow_provider_tallyfy.waiting.polls import unread_connection

        name = type(self).__name__
        hook = TallyfyHook(self.tallyfy_conn_id, retries=_RETRIES, max_retry_after=MAX_RETRY_AFTER)
        try:
            hook.connection  # noqa: B018 - read now, since an error of a secrets backend may hold secrets
        except Exception as error:  # noqa: BLE001 - a failure here must not add to the one that is reported
            known = (
                error if isinstance(error, TallyfyError) else unread_connection(self.tallyfy_conn_id, error)
            )
            self.log.error("%s (%s): %s", self.not_sent, name, known)
            return
        try:
            self.send(hook, context)
        except Exception as error:  # noqa: BLE001 - likewise
            outcome = self.in_doubt if isinstance(error, TallyfyIndeterminateError) else self.not_sent
            is_explained = isinstance(error, (AirflowException, ValueError))
            reason = str(error) if is_explained else f"{type(error).__name__}: {error}"
            self.log.error("%s (%s): %s", outcome, name, reason)

    @abstractmethod
    def send(self, hook: TallyfyHook, context: Context) -> None:
        """Send the request, or the requests."""

    def _rendered(self, context: Context) -> TallyfyNotifier:
        """Return a copy with its fields rendered."""
        rendered = copy(self)
        environment = self.get_template_env(_rendering_dag(context))
        if _rendering_dag(context) is None:
            import jinja2

            environment.undefined = jinja2.StrictUndefined  # as in a DAG's own
        for name in self.template_fields:
            setattr(rendered, name, self.render_template(getattr(self, name), context, environment))
        return rendered

    def render_template(
        self, content: Any, context: Context, jinja_env: Any = None, seen_oids: set[int] | None = None
    ) -> Any:
        """Render a value; what cannot be rendered stays as it is."""
        try:
            if callable(content):
                return content(context=context, jinja_env=jinja_env)
            return super().render_template(content, context, jinja_env, seen_oids)
        except Exception as error:  # noqa: BLE001 - a template can raise anything, and the message is worth more
            self.log.error(
                "Cannot render %s (%s: %s). It is sent as it is if it is free text, and left out otherwise",
                quoted(str(content)),
                type(error).__name__,
                error,
            )
            return UnrenderedText(content)

    def _render(self, template: Any, context: Context, dag: Any = None) -> Any:
        # Past Airflow's own notifier: up to 3.0 it needs a DAG, which not every context has.
        airflow_render = super(BaseNotifier, self)._render
        return rendering.render(airflow_render, template, context, dag or _rendering_dag(context))

    @staticmethod
    async def _in_thread(call: Any, context: Context) -> None:
        from airflow_provider_tallyfy.waiting.threads import in_thread

        await in_thread(_threads, call, context)


@dataclass(kw_only=True, repr=False, eq=False)
class TallyfyLaunchRunNotifier(LaunchArguments, TallyfyNotifier):
    """
    Launch a run of a template, so that people take care of what went wrong.

    .. code-block:: python

        on_failure_callback = TallyfyLaunchRunNotifier(
            checklist_id="5eed0001000000000000000000000001",
            name="{{ dag.dag_id }} failed",
            kickoff={"What happened": "{{ exception }}", "Log": "{{ ti.log_url }}"},
        )

    One failure launches one run, however often Airflow calls back for it: the run's notes hold a key, by which it is
    found before another is launched. Each try of a task that fails is a failure of its own, and so is a DAG run that is
    cleared and fails again. A text that is too long for its field, as an error message may be, is cut.

    The parameters are those of :class:`~airflow_provider_tallyfy.operators.tallyfy.TallyfyLaunchRunOperator`, all of
    them templated, with what Airflow gives to callbacks (``exception`` for tasks, ``reason`` for DAGs).

    :param checklist_id: id of the template.
    :param name: what the run is called.
    :param kickoff: values of the kick-off form by field id, alias or label.
    :param summary: the run's notes; the idempotency key is added.
    :param owner_id: the member who owns the run, by id or e-mail address.
    :param tasks: ``{"owners": …, "deadline": …}`` by step id, alias or title.
    :param tags: ids of tags.
    :param users: members who see the run, by id or e-mail address.
    :param groups: groups that see the run, by id or name.
    :param roles: assignees by the id of a role of the template.
    :param folders: ids of folders.
    :param parent_id: id of the run that this one belongs to.
    :param tallyfy_conn_id: id of the Airflow connection.
    :param context: what templates are rendered with; Airflow gives it to the callback of a ``DeadlineAlert``.
    """

    template_fields = (*LAUNCH_FIELDS, "tallyfy_conn_id")
    can_remind = False  # at a gate with remind_every
    not_sent = "No process was launched"
    in_doubt = "A process may or may not have been launched; check in Tallyfy before you launch another"

    def send(self, hook: TallyfyHook, context: Context) -> None:
        """Launch the run, unless an earlier call for the same event did."""
        callback = Callback.from_context(context)
        key = callback.idempotency_key(self.fields_as_given)
        if (run_id := self._launched_before(hook, key, callback.since)) is not None:
            self.log.info("A process was launched for this already: %s", hook.run_url(run_id))
            return
        launcher = Launcher(hook, self, key, self.log, adapt=self._adapt)
        self.log.info("Launched a process in Tallyfy: %s", hook.run_url(launcher.launch_at_most_once()))

    def _adapt(self, checklist: Mapping[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments with free text cut to fit, and without other values that could not be rendered."""
        kickoff = arguments["kickoff"]
        if isinstance(kickoff, Mapping):
            kickoff = _keep_text(kickoff, text_keys(read_kickoff_fields(checklist), kickoff))
        given = _keep_text({**arguments, "kickoff": kickoff}, {"name", "summary"})
        kept = {name: _without_unrendered(value) for name, value in given.items()}
        name, kickoff = cut_to_fit(checklist, kept["name"], kept["kickoff"])
        return {**kept, "name": name, "kickoff": kickoff}

    def _launched_before(self, hook: TallyfyHook, key: IdempotencyKey, since: datetime | None) -> str | None:
        newest, *_ = search_filters(self.checklist_id)
        try:
            run = find_launched(hook.get_runs_pages(**newest), key.value, since)
        except TallyfyError as error:  # two processes are better than none
            self.log.warning("Launching without knowing whether an earlier callback did: %s", error)
            return None
        return None if run is None else str(run["id"])


@dataclass(kw_only=True, repr=False, eq=False)
class TallyfyCommentNotifier(TallyfyNotifier):
    """
    Write a comment on a task in Tallyfy, of which its assignees are notified.

    If Airflow calls back twice for one failure, the comment is written twice: it has no idempotency key. Tallyfy
    takes 120 comments an hour from one organization; above that, nothing is written, with an error in the log.

    :param task_id: id of the task in Tallyfy, of a run or not. (templated)
    :param content: what the comment says. (templated)
    :param state: ``open``, ``hide-for-guests``, or ``collapsed``. A template that gives none of them hides the comment
        from guests. (templated)
    :param tallyfy_conn_id: id of the Airflow connection. (templated)
    :param context: what templates are rendered with; Airflow gives it to the callback of a ``DeadlineAlert``.
    """

    template_fields = ("task_id", "content", "state", "tallyfy_conn_id")
    not_sent = "No comment was written"
    in_doubt = "The comment may or may not have been written; check the task in Tallyfy"

    task_id: str
    content: str
    state: str = "open"

    def __post_init__(self) -> None:
        super().__post_init__()
        is_template = not isinstance(self.state, str) or "{" in self.state
        if self.state is None or (self.state not in COMMENT_STATES and not is_template):
            raise ValueError(f"state must be one of {', '.join(COMMENT_STATES)}, but is {self.state!r}.")

    def send(self, hook: TallyfyHook, context: Context) -> None:
        """Write the comment."""
        state = self.state
        if state not in COMMENT_STATES:
            self.log.error("state is %r, so the comment is hidden from guests", state)
            state = "hide-for-guests"
        hook.comment(self.task_id, _as_text(self.content), state=state)
        self.log.info("Commented on task %s in Tallyfy", self.task_id)


@dataclass(kw_only=True, repr=False, eq=False)
class TallyfyIssueNotifier(TallyfyNotifier):
    """
    Report an issue on a run or on a task in Tallyfy, which blocks it until a person resolves the issue.

    An issue on a task that says the same and is still open is not reported again, so one failure reports one issue,
    however often Airflow calls back for it with the same text. The issues of a run cannot be read, so there it is
    reported at each call. Issues count among the 120 comments an hour that Tallyfy takes from one organization.

    :param run_id: id of the run, for an issue on a run; give this or ``task_id``. (templated)
    :param task_id: id of the task, of a run or not, for an issue on a task. A completed task is reopened. (templated)
    :param content: what is wrong. (templated)
    :param tallyfy_conn_id: id of the Airflow connection. (templated)
    :param context: what templates are rendered with; Airflow gives it to the callback of a ``DeadlineAlert``.
    """

    template_fields = ("run_id", "task_id", "content", "tallyfy_conn_id")
    not_sent = "No issue was reported"
    in_doubt = "The issue may or may not have been reported; check the task or process in Tallyfy"

    run_id: str | None = None
    task_id: str | None = None
    content: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.run_id is None) == (self.task_id is None):
            raise ValueError("Give either run_id, for an issue on a run, or task_id, for one on a task.")

    def send(self, hook: TallyfyHook, context: Context) -> None:
        """Report the issue, unless the same one is open on the task."""
        subject = f"process {self.run_id}" if self.task_id is None else f"task {self.task_id}"
        if self._is_open(hook):
            self.log.info("The same issue is open on %s in Tallyfy already", subject)
            return
        try:
            hook.report_issue(_as_text(self.content), run_id=self.run_id, task_id=self.task_id)
        except TallyfyIndeterminateError:
            if not self._was_reported(hook):
                raise
        self.log.info("Reported an issue on %s in Tallyfy", subject)

    def _was_reported(self, hook: TallyfyHook) -> bool:
        for pause in _PAUSES if self.task_id is not None else ():
            time.sleep(pause)
            if self._is_open(hook):
                return True
        return False

    def _is_open(self, hook: TallyfyHook) -> bool:
        if self.task_id is None:
            return False
        try:
            threads = hook.get_threads(self.task_id)
        except TallyfyError as error:
            self.log.warning("Cannot read the issues that are open on task %s: %s", self.task_id, error)
            return False
        reported = [
            str(thread.get("content"))
            for thread in threads
            if thread.get("label") == "problem" and not thread.get("resolve_id")
        ]
        sent = str(self.content).split()
        return any(sent in (content.split(), without_html(content).split()) for content in reported)


def _rendering_dag(context: Context) -> Any:
    """Return the DAG that templates are rendered with; ``airflow dags test`` gives a serialized one, which cannot."""
    dag = context.get("dag")
    return dag if hasattr(dag, "get_template_env") else None


def _as_text(content: Any) -> Any:
    """Return content as text, which it need not be in a DAG that renders to native Python objects."""
    return content if content is None else str(content)


def _keep_text(values: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Return values in which a template of free text that could not be rendered is a text like any other."""
    return {
        name: str(value) if name in names and isinstance(value, UnrenderedText) else value
        for name, value in values.items()
    }


def _without_unrendered(value: Any) -> Any:
    """Return a value without the texts that could not be rendered, and ``None`` if nothing is left of it."""
    if isinstance(value, UnrenderedText):
        return None
    if isinstance(value, Mapping):
        kept = {key: _without_unrendered(item) for key, item in value.items()}
        kept = {key: item for key, item in kept.items() if item is not None or value[key] is None}
        return kept if kept or not value else None
    if isinstance(value, (list, tuple)):
        kept_items = [kept for item in value if (kept := _without_unrendered(item)) is not None]
        return kept_items if kept_items or not value else None
    return value
