"""TallyfyHook, which sends every request of the provider to Tallyfy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from itertools import chain, count
from math import ceil
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

import requests
from airflow.providers.common.compat.sdk import AirflowException, BaseHook

from airflow_provider_tallyfy.exceptions import TallyfyAuthError, TallyfyResponseError
from airflow_provider_tallyfy.hooks import connection_form, files
from airflow_provider_tallyfy.hooks.connection import TallyfyConnection
from airflow_provider_tallyfy.hooks.credentials import Credentials
from airflow_provider_tallyfy.hooks.session import BearerAuth, TallyfySession
from airflow_provider_tallyfy.hooks.transport import DEFAULT_RETRIES, Transport
from airflow_provider_tallyfy.protocol import urls
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.protocol.people import Directory, read_directory
from airflow_provider_tallyfy.protocol.requests import COMMENT_STATES, Request, build_request
from airflow_provider_tallyfy.protocol.responses import (
    Activity,
    MalformedResponseError,
    Page,
    is_id,
    read_activities,
    read_item,
    read_list,
    read_page,
    read_run,
    read_threads,
    with_one_next_task,
)
from airflow_provider_tallyfy.protocol.scalars import format_datetime
from airflow_provider_tallyfy.protocol.urls import identifier

T = TypeVar("T")

_MAX_READS = 5


class TallyfyHook(BaseHook):
    """
    Call Tallyfy's REST API.

    Reads are retried after 429, 5xx and broken connections, with growing pauses; a write is retried only if it is
    certain that it was not applied, and otherwise raises
    :class:`~airflow_provider_tallyfy.exceptions.TallyfyIndeterminateError`. Every method raises a
    :class:`~airflow_provider_tallyfy.exceptions.TallyfyError` of the kind that fits, and ``ValueError`` for an
    argument that cannot be sent. Endpoints and parameters are those of Tallyfy's API documentation (pages "Code
    samples" of 2026-08), or of the source that a method names.

    :param tallyfy_conn_id: id of an Airflow connection of type ``tallyfy``. Default: ``tallyfy_default``.
    :param retries: how often a request may be retried; 0 for never. Default: 4.
    :param max_retry_after: the longest ``Retry-After`` in seconds that a request waits for; if Tallyfy asks for more,
        it fails at once. Default: ``None``, for no limit; it waits at most 120 seconds, and is retried.
    :raises ValueError: ``retries`` is below 0.
    """

    conn_name_attr = "tallyfy_conn_id"
    default_conn_name = "tallyfy_default"
    conn_type = "tallyfy"
    hook_name = "Tallyfy"

    def __init__(
        self,
        tallyfy_conn_id: str = default_conn_name,
        *,
        retries: int = DEFAULT_RETRIES,
        max_retry_after: float | None = None,
    ) -> None:
        super().__init__()
        if retries < 0:
            raise ValueError("retries must be 0 or more.")
        self.tallyfy_conn_id = tallyfy_conn_id
        self.retries = retries
        self.max_retry_after = max_retry_after

    @cached_property
    def connection(self) -> TallyfyConnection:
        """
        The settings; Airflow's connection is read at the first use, and kept for the life of the hook.

        :raises TallyfyConfigurationError: names the field that is missing or cannot be used.
        :raises AirflowNotFoundException: there is no such connection.
        """
        return TallyfyConnection.read(self.tallyfy_conn_id, self.get_connection(self.tallyfy_conn_id))

    def get_conn(self) -> requests.Session:
        """
        Return the session: it sends the token to the API's origin and the headers that Tallyfy requires.

        It limits the time of each request, but retries none; :meth:`request` does.
        """
        return self._session

    def request(
        self, method: str, endpoint: str, *, params: Mapping[str, Any] | None = None, json: Any = None
    ) -> Any:
        """
        Send any request and return the parsed body, envelope and all; ``None`` if the body is empty.

        :param method: GET, POST, PUT, PATCH or DELETE.
        :param endpoint: relative to the organization (``runs/abc/tasks``), or absolute from the API's root when it
            begins with ``/`` (``/me``). Written without quoting and without a query.
        :param params: query parameters; ``None`` leaves one out, a ``datetime`` is converted to UTC, a list becomes one
            comma-separated value. Default: none.
        :param json: the body. Default: none.
        :raises ValueError: one of them cannot be sent.
        :raises TallyfyIndeterminateError: what was not a GET may or may not have been applied.
        """
        return self._send(self._build(method, endpoint, params=params, json=json), lambda body: body)

    def paginate(self, endpoint: str, /, **params: Any) -> Iterator[dict[str, Any]]:
        """
        Yield every item of a list once; a page is read when its first item is needed.

        The list may change between two pages: an item that is added meanwhile may be missing. So may another one, if as
        many items are added as removed, or if the response has no ``total``.

        :param endpoint: as for :meth:`request`.
        :param params: query parameters, as for :meth:`request`; ``per_page`` is 100, Tallyfy's largest, unless given;
            ``page`` is refused.
        """
        return chain.from_iterable(self._pages(self._build("GET", endpoint, params=params)))

    def get_run(
        self,
        run_id: str,
        *,
        with_: Iterable[str] | str = ("next_task",),
        form_fields_values: bool = False,
    ) -> dict[str, Any]:
        """
        Return a run as Tallyfy sends it, except that ``next_task`` is always ``None`` or one task.

        :param run_id: the run's id.
        :param with_: what to include, as a sequence of names or one comma-separated string. Tallyfy knows
            ``checklist, tasks, tags, assets, next_task, permissions, tasks_meta, ko_form_fields, form_fields, stages,
            folders, member_watchers, guest_watchers`` (page "Get process"). If ``next_task`` is not among them,
            the run has no ``next_task``. Default: ``next_task`` alone.
        :param form_fields_values: include the values of all form fields. Default: ``False``.
        :raises TallyfyNotFoundError: there is no such run, or the token's user does not see it.
        """
        values = True if form_fields_values else None
        endpoint = f"runs/{identifier(run_id, 'run_id')}"
        return self._get(endpoint, read_run, with_=with_, form_fields_values=values)

    def get_next_task(self, run_id: str) -> dict[str, Any] | None:
        """
        Return the run's next task, or ``None`` if nothing is left to do.

        :param run_id: the run's id.
        :raises TallyfyNotFoundError: there is no such run, or the token's user does not see it.
        :raises TallyfyResponseError: the response has no field ``next_task``.
        """
        run = self.get_run(run_id)
        if "next_task" not in run:
            raise TallyfyResponseError(
                f"The response for run {run_id} has no next_task, although it was requested."
            )
        next_task: dict[str, Any] | None = run["next_task"]
        return next_task

    def list_runs(self, **filters: Any) -> Iterator[dict[str, Any]]:
        """
        Yield the runs of the organization once each, with ``next_task`` read as in :meth:`get_run`.

        What the list may miss if it changes meanwhile: see :meth:`paginate`.

        :param filters: ``q, status, owners, checklist_id, folder, tag, groups, type, starred, archived, sort`` and
            ``with_`` (page "List processes").
        """
        return chain.from_iterable(self.get_runs_pages(**filters))

    def get_runs_page(self, number: int, **filters: Any) -> Page[dict[str, Any]]:
        """
        Return one page of the runs that :meth:`list_runs` gives, 100 at most.

        :param number: of the page, from 1.
        :param filters: as for :meth:`list_runs`.
        """
        return self._page(self._build("GET", "runs", params=filters), number, with_one_next_task)

    def get_runs_pages(self, **filters: Any) -> Iterator[list[dict[str, Any]]]:
        """
        Yield the runs of :meth:`list_runs` page by page; each page is read when it is needed.

        :param filters: as for :meth:`list_runs`.
        """
        return self._pages(self._build("GET", "runs", params=filters), with_one_next_task)

    def get_activities_page(self, number: int) -> Page[Activity]:
        """
        Return one page of the organization's activity feed, the newest first, 100 entries at most.

        Tallyfy shows each user only what they may see (page "Get activity feed for a process").

        :param number: of the page, from 1.
        :raises TallyfyPermissionError: the token's user may not see it.
        """
        request = self._build("GET", "activity-feeds", params={"sort": "-created_at"})
        return self._send(request.page(number), partial(read_activities, number=number))

    def get_checklist(self, checklist_id: str, *, with_: Iterable[str] | str = ()) -> dict[str, Any]:
        """
        Return a template with the fields of its kick-off form, under ``prerun``.

        :param checklist_id: the template's id.
        :param with_: what to include, as names or one comma-separated string: ``steps, tags, folder`` (page "Get
            template"). Default: nothing.
        :raises TallyfyNotFoundError: there is no such template, or the token's user does not see it.
        """
        return self._get(f"checklists/{identifier(checklist_id, 'checklist_id')}", read_item, with_=with_)

    def get_task(self, run_id: str, task_id: str, *, with_: Iterable[str] | str = ()) -> dict[str, Any]:
        """
        Return a task of a run.

        :param run_id: the run's id.
        :param task_id: the task's id.
        :param with_: what to include, as names or one comma-separated string, such as ``form_fields, step, threads``
            (page "Get task"). Default: nothing.
        :raises TallyfyNotFoundError: there is no such task, or the token's user does not see it.
        """
        endpoint = f"runs/{identifier(run_id, 'run_id')}/tasks/{identifier(task_id, 'task_id')}"
        return self._get(endpoint, read_item, with_=with_)

    def get_directory(self) -> Directory:
        """
        Return all members and groups of the organization, to look up people by e-mail address or name.

        :raises TallyfyResponseError: the lists changed each time they were read, or a member or group has no id.
        """
        members, groups = self._complete("users"), self._complete("groups")
        try:
            return read_directory(members, groups)
        except MalformedResponseError as error:
            raise TallyfyResponseError(f"The lists of members and groups cannot be read: {error}.") from None

    def get_tasks(self, run_id: str, **filters: Any) -> list[dict[str, Any]]:
        """
        Return the tasks of a run, including hidden ones.

        :param run_id: the run's id.
        :param filters: ``status, owners, groups, guests, sort`` and ``with_`` (page "List process tasks").
        :raises TallyfyNotFoundError: there is no such run, or the token's user does not see it.
        """
        return list(self.paginate(f"runs/{identifier(run_id, 'run_id')}/tasks", **filters))

    def launch_run(
        self,
        checklist_id: str,
        *,
        name: str | None = None,
        prerun: Mapping[str, Any] | None = None,
        before_sending: Callable[[], object] = lambda: None,
        **values: Any,
    ) -> dict[str, Any]:
        """
        Launch a run of a template and return it.

        :param checklist_id: the template's id.
        :param name: the run's name, at most 550 characters. Default: Tallyfy makes one.
        :param prerun: kick-off values by the field's timeline id, as Tallyfy expects them. A key that matches
            no field is dropped by Tallyfy in silence. Default: none.
        :param before_sending: called before each attempt to send it; if it raises, nothing more is sent. Default: none.
        :param values: ``summary, owner_id, starred, is_public, parent_id, tasks, tags, users, groups, roles, folders``
            (page "Launch process"), as Tallyfy expects them: people and other objects by id, dates in UTC.
        :raises ValueError: one of them cannot be sent.
        :raises TallyfyValidationError: Tallyfy refuses them; nothing was launched.
        :raises TallyfyIndeterminateError: the run may or may not have been launched.
        """
        for key in ("tags", "users", "groups", "folders"):
            if not isinstance(values.get(key), (list, tuple, NoneType)):
                raise ValueError(f"{key} must be a list of ids, not {type(values[key]).__name__}.")
        template = identifier(checklist_id, "checklist_id")
        body = _without_none({"checklist_id": template, "name": name, "prerun": prerun, **values})
        return self._send(self._build("POST", "runs", json=body), read_run, before_sending)

    def update_task(
        self, run_id: str, task_id: str, *, taskdata: Mapping[str, Any] | None = None, **values: Any
    ) -> dict[str, Any]:
        """
        Change a task of a run and return it.

        :param run_id: the run's id.
        :param task_id: the task's id.
        :param taskdata: form values by the field's timeline id, as Tallyfy expects them. A key that matches no
            field is dropped by Tallyfy in silence. Default: none.
        :param values: ``title, summary, deadline, owners`` and others (page "Update task"). A deadline is a date or a
            text, and is converted to UTC. Lists that are left out of ``owners`` are emptied.
        :raises TallyfyValidationError: the task is completed, or Tallyfy refuses a value; nothing was changed.
        :raises TallyfyIndeterminateError: the change may or may not have been applied.
        """
        body = _without_none({"taskdata": taskdata, **values})
        if "deadline" in body:
            body["deadline"] = format_datetime(body["deadline"])
        endpoint = f"runs/{identifier(run_id, 'run_id')}/tasks/{identifier(task_id, 'task_id')}"
        return self._send(self._build("PUT", endpoint, json=body), read_item)

    def complete_task(
        self,
        run_id: str,
        task_id: str,
        *,
        is_approved: bool | None = None,
        override_user: int | None = None,
        before_sending: Callable[[], object] = lambda: None,
    ) -> dict[str, Any]:
        """
        Complete a task of a run and return it.

        :param run_id: the run's id.
        :param task_id: the task's id.
        :param is_approved: ``True`` approves and ``False`` rejects; required on approvals, and ignored elsewhere.
            Default: ``None``, for a task that is no approval.
        :param override_user: id of the member to record as the one who completed it. Default: the token's user.
        :param before_sending: called before each attempt to send it; if it raises, nothing more is sent. Default: none.
        :raises ValueError: one of them cannot be sent.
        :raises TallyfyValidationError: it is completed already, a required field is empty, or an issue is open.
        :raises TallyfyIndeterminateError: it may or may not have been completed.
        """
        if not isinstance(is_approved, (bool, NoneType)):
            raise ValueError(f"is_approved must be True or False, not {type(is_approved).__name__}.")
        if not isinstance(override_user, (int, NoneType)) or isinstance(override_user, bool):
            raise ValueError(
                f"override_user must be the id of a member, a number, not {type(override_user).__name__}."
            )
        endpoint = f"runs/{identifier(run_id, 'run_id')}/completed-tasks"
        task = identifier(task_id, "task_id")
        body = {"task_id": task, "is_approved": is_approved, "override_user": override_user}
        return self._send(self._build("POST", endpoint, json=_without_none(body)), read_item, before_sending)

    def comment(self, task_id: str, content: str, *, state: str = "open") -> dict[str, Any]:
        """
        Write a comment on a task and return it.

        :param task_id: the task's id, of a run or not.
        :param content: the text. Tallyfy takes at most 120 comments an hour from one organization.
        :param state: ``open``, the default, ``hide-for-guests`` or ``collapsed``.
        :raises ValueError: ``content`` is empty, or ``state`` is another word.
        :raises TallyfyRateLimitError: there were too many already.
        :raises TallyfyIndeterminateError: it may or may not have been written.
        """
        if state not in COMMENT_STATES:
            raise ValueError(f"state must be one of {', '.join(COMMENT_STATES)}, but is {state!r}.")
        endpoint = f"tasks/{identifier(task_id, 'task_id')}/comment"
        return self._send(
            self._build("POST", endpoint, json={"content": _checked_content(content), "state": state}),
            read_item,
        )

    def report_issue(
        self, content: str, *, run_id: str | None = None, task_id: str | None = None
    ) -> dict[str, Any]:
        """
        Report an issue on a run or on a task and return it; it blocks the run or task until it is resolved.

        Source: the official SDK, ``report_task_issue``.

        :param content: what is wrong.
        :param run_id: the run's id, for an issue on a run. Default: ``None``, for an issue on a task.
        :param task_id: the task's id, of a run or not, for an issue on a task. A completed task is reopened. Default:
            ``None``, for an issue on a run.
        :raises ValueError: ``content`` is empty, or not one of ``run_id`` and ``task_id`` is given.
        :raises TallyfyRateLimitError: there were too many comments and issues already.
        :raises TallyfyIndeterminateError: it may or may not have been reported.
        """
        if (run_id is None) == (task_id is None):
            raise ValueError("Give either run_id or task_id.")
        if task_id is None:
            endpoint = f"runs/{identifier(run_id, 'run_id')}/problem"
        else:
            endpoint = f"tasks/{identifier(task_id, 'task_id')}/problem"
        body = {"content": _checked_content(content)}
        return self._send(self._build("POST", endpoint, json=body), read_item)

    def get_threads(self, task_id: str) -> list[dict[str, Any]]:
        """
        Return the comments and issues on a task (official SDK, ``get_standalone_task_comments``).

        :param task_id: the task's id, of a run or not.
        :raises TallyfyNotFoundError: there is no such task, or the token's user does not see it.
        """
        return list(self._get(f"tasks/{identifier(task_id, 'task_id')}", read_threads, with_="threads"))

    def download_file(self, file_id: str, path: str | os.PathLike[str]) -> Path:
        """
        Download a file that a user uploaded, and return its path (page "Download file").

        It is streamed to a temporary file, which takes its name only when it is complete.

        :param file_id: the file's id, as in the value of a form field of type ``file``.
        :param path: the target; in a folder, the file gets its name in Tallyfy.
        :raises TallyfyResponseError: it is larger than 100 MiB, Tallyfy's limit for uploads, or incomplete.
        :raises OSError: the target cannot be written.
        """
        return files.download_to_path(self, file_id, Path(path))

    def check_file(self, path: str | os.PathLike[str]) -> int:
        """
        Return the size, in bytes, of a local file that :meth:`upload_file` can upload.

        :param path: the local file.
        :raises ValueError: there is no such file, or it cannot be read, is empty or too large.
        """
        return files.check_file(Path(path))

    def upload_file(
        self,
        path: str | os.PathLike[str],
        *,
        checklist_id: str | None = None,
        run_id: str | None = None,
        step_id: str | None = None,
        field_id: str | None = None,
        name: str | None = None,
    ) -> dict[str, Any]:
        """
        Upload a file and return Tallyfy's object for it (page "Upload & attach file").

        The object is a value for a form field of type ``file``; until it is written there, the file is attached to
        nothing. An upload is not retried in doubt: it may have arrived.

        :param path: the local file, which is streamed: 1 byte to 100 MiB.
        :param checklist_id: id of the template; needed for a kick-off form. Default: none.
        :param run_id: id of the run, for a task's form; ``field_id`` is needed too then. Default: none.
        :param step_id: id of the task's step, unless it is a one-off task. Default: none.
        :param field_id: id of the form field, for a task's form. Default: none.
        :param name: what the file is called in Tallyfy. Default: its own name.
        :raises ValueError: there is no such file, or it cannot be read, is empty or too large.
        :raises TallyfyIndeterminateError: it may or may not have arrived.
        """
        return files.upload(self, Path(path), checklist_id, run_id, step_id, field_id, name)

    def run_url(self, run_id: str) -> str:
        """
        Return the URL of the run's page in Tallyfy's web application.

        :param run_id: the run's id.
        :raises ValueError: it can be no id.
        """
        return urls.run_url(self.connection.web_url, self._organization, run_id)

    def test_connection(self) -> tuple[bool, str]:
        """
        Check to which user the token belongs and whether they see the organization; return success and a message.

        Each request is sent once, whatever ``retries`` says, since a user waits for the result. The connection is read
        again, and so is an application's token.
        """
        hook = TallyfyHook(self.tallyfy_conn_id, retries=0)
        try:
            with hook.get_conn():
                person = hook._get("/me", read_item)
                organization = hook._get(f"/organizations/{hook._organization}", read_item)
        except (AirflowException, ValueError) as error:
            return False, str(error)
        name = person.get("full_name") or person.get("username") or person.get("email") or person.get("id")
        return True, f"Connected to {organization.get('name') or hook._organization} as {name}."

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how Airflow 2.11 shows the standard fields of the connection form."""
        return connection_form.ui_field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the extra fields of the connection form for Airflow 2.11."""
        return connection_form.widgets()

    @cached_property
    def _session(self) -> requests.Session:
        session = TallyfySession(self.connection)
        session.auth = BearerAuth(self.connection.api_url, lambda: self._credentials.token())
        return session

    @cached_property
    def _transport(self) -> Transport:
        return Transport(
            self._session,
            self.connection,
            secrets=lambda: self._credentials.secrets(),
            retries=self.retries,
            max_retry_after=self.max_retry_after,
            warn=self.log.warning,
        )

    @cached_property
    def _credentials(self) -> Credentials:
        return Credentials(self.connection, self._transport)

    @property
    def _organization(self) -> str:
        return self.connection.organization

    def _build(
        self, method: str, endpoint: str, *, params: Mapping[str, Any] | None = None, json: Any = None
    ) -> Request:
        return build_request(method, endpoint, self._organization, params=params, json=json)

    def _get(self, endpoint: str, read: Callable[[Any], T], **params: Any) -> T:
        return self._send(self._build("GET", endpoint, params=params), read)

    def _send(
        self,
        request: Request,
        read: Callable[[Any], T],
        before_sending: Callable[[], object] = lambda: None,
        **content: Any,
    ) -> T:
        self._credentials.token()  # outside of the try: a token that is refused is not requested again
        try:
            return self._transport.send(request, read, before_sending=before_sending, **content)
        except TallyfyAuthError:
            # A 401 was declined, so even a write can be sent again.
            if not self._credentials.renew():
                raise
        return self._transport.send(request, read, before_sending=before_sending, **content)

    def _page(
        self,
        request: Request,
        number: int,
        read: Callable[[dict[str, Any]], dict[str, Any]] = dict,
        previous: Page[dict[str, Any]] | None = None,
    ) -> Page[dict[str, Any]]:
        return self._send(
            request.page(number), partial(read_page, number=number, previous=previous, read=read)
        )

    def _pages(
        self, request: Request, read: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> Iterator[list[dict[str, Any]]]:
        """
        Yield the items of a list, as ``read`` makes them, page by page; each page is read when it is needed.

        The list may change meanwhile. An added item moves others to the next page, where they are skipped. A removed
        one moves others to pages that were read already, so these are read again if ``total`` shrank.
        """
        if dict(request.params).get("without_pagination") == "true":
            yield list(self._send(request, partial(read_list, read=read)))
            return
        seen: set[str] = set()
        previous: Page[dict[str, Any]] | None = None
        for number in count(1):
            page = self._page(request, number, read, previous)
            pages = [page]
            if previous and previous.total is not None and page.total is not None:
                moved = ceil((previous.total - page.total) / (len(previous.items) or 1))
                pages[:0] = [self._page(request, n, read) for n in range(max(1, number - moved), number)]
            items = [item for part in pages for item in part.items if str(item.get("id")) not in seen]
            seen.update(str(item["id"]) for item in items if is_id(item.get("id")))
            yield items
            if page.is_last:
                return
            previous = page

    def _complete(self, endpoint: str) -> list[dict[str, Any]]:
        """
        Return all items of a list, even if it changes while it is read.

        Several pages count only if two reads in a row agree.
        """
        request = self._build("GET", endpoint)
        previous: set[str] = set()
        for _ in range(_MAX_READS):
            pages = list(self._pages(request))
            items = [item for page in pages for item in page]
            ids = {str(item.get("id")) for item in items}
            if len(pages) == 1 or ids == previous:
                return items
            previous = ids
        raise TallyfyResponseError(
            f"GET {request.path} gave another list each time it was read ({_MAX_READS} times), so it is being changed. "
            f"Nothing was sent. Let Airflow retry the task later, or name members and groups by id."
        )


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _checked_content(content: object) -> str:
    """Return the text of a comment or an issue, without characters that cannot be sent."""
    if not isinstance(content, str) or not content.strip():
        raise ValueError("content must be a text, and not empty.")
    return str(sanitize_payload(content))
