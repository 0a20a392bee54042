"""
Complete a task once, however often it is attempted.

Tallyfy may refuse a second completion, or accept it and send webhooks and mails again; its own sources disagree. So the
task is read before each completion is sent, and no completion is sent while an earlier one of ours may have been, or
may yet be, carried out (:mod:`airflow_provider_tallyfy.actions.attempts`). A clear answer is the evidence that the task
is completed; a read may lag behind it.

A second completion is sent all the same if a user completes the task at the same moment, or if no read shows a user's
completion yet.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.actions import attempts
from airflow_provider_tallyfy.actions.uploading import upload_local_files
from airflow_provider_tallyfy.exceptions import (
    TallyfyError,
    TallyfyIndeterminateError,
    TallyfyNotFoundError,
    TallyfyResponseError,
    TallyfyValidationError,
)
from airflow_provider_tallyfy.protocol import forms, tasks
from airflow_provider_tallyfy.protocol.completion import Person, completer, read_person
from airflow_provider_tallyfy.protocol.formatting import described, one_line, quoted
from airflow_provider_tallyfy.protocol.forms.fields import read_task_fields, stored_values
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from airflow_provider_tallyfy.protocol.validation import FormValuesError, InvalidValueError

if TYPE_CHECKING:
    from airflow_provider_tallyfy.actions.attempts import AttemptStore
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.waiting.evidence import Log

_UPDATE_PAUSES = (2.0, 5.0)
"""Seconds before form values are sent again that got no clear answer; that changes nothing if they are there."""


class ConflictingDecisionError(Exception):
    """The task was completed with another decision than the one wanted."""


class _CompletedMeanwhileError(Exception):
    """A user completed the task before the completion was repeated."""

    def __init__(self, task: dict[str, Any]) -> None:
        super().__init__()
        self.task = task


@dataclass(frozen=True, slots=True)
class Completion:
    """
    The completion of a task.

    :param run_id: the run.
    :param task: the task's id, alias or title.
    :param form_fields: plain values by field id, alias or label, written before the completion.
    :param is_approved: the decision on an approval; ignored on any other task.
    :param override_user: who is recorded as the completer: a member, by id or e-mail address.
    """

    run_id: str
    task: str
    form_fields: Mapping[str, Any] | None = None
    is_approved: bool | None = None
    override_user: int | str | None = None


def who_completed(task: Mapping[str, Any], hook: TallyfyHook, log: Log) -> Person | None:
    """
    Return who completed a task, with name and e-mail address if Tallyfy has them; ``None`` if it does not say.

    :param hook: reads the member if the task has only an id.
    :param log: gets a warning if the name cannot be read; the completion stands, whoever did it.
    """
    person = completer(task)
    if person is None or person.is_known or person.is_guest:
        return person
    try:
        return read_person({"id": person.id, **hook.request("GET", f"users/{person.id}")["data"]})
    except Exception as error:  # noqa: BLE001 (whatever Tallyfy or a secrets backend raises, only the name is missing)
        log.warning("The name of user %s cannot be read (%s)", person.id, type(error).__name__)
        return person


class Completer:
    """
    Completes one task.

    :param hook: sends the requests.
    :param completion: what is wanted.
    :param store: what is known of earlier attempts.
    :param log: the task's.
    """

    def __init__(self, hook: TallyfyHook, completion: Completion, store: AttemptStore, log: Log) -> None:
        self._hook = hook
        self._wanted = completion
        self._store = store
        self._log = log

    def complete_once(self) -> dict[str, Any]:
        """
        Return the task, which is completed as wanted, now or before.

        :raises FormValuesError: a value cannot be sent; nothing was.
        :raises AmbiguousTaskError: several tasks that no rule hides have that name; nothing was sent.
        :raises ConflictingDecisionError: it was completed with another decision.
        :raises TallyfyNotFoundError: there is no such task, or not yet.
        :raises TallyfyValidationError: a rule hides it, or Tallyfy refuses to complete it.
        :raises TallyfyIndeterminateError: it may or may not be completed. The next attempt finds out before it sends.
        """
        if (prior := self._store.prior()) is None:
            self._store.begin()  # before any request: if one fails, the next try finds that nothing was sent
        task = self._find()
        if prior is not None and not tasks.is_completed(task):
            task = self._poll_until_certain(task, prior.uncertain_for)
        if tasks.is_completed(task):
            return self._as_wanted(task)
        self._store.begin()
        taskdata, override_user = self._encoded(task)
        taskdata = upload_local_files(
            taskdata, self._hook.check_file, partial(self._upload, task), self._store
        )
        task = {**task, **self._update(task, taskdata)}
        if tasks.is_completed(task):
            return self._as_wanted(task)
        return self._complete(task, override_user)

    def _find(self) -> dict[str, Any]:
        """Return the task that has the name; reads of a run that was just launched may lag."""
        wanted, name = self._wanted, self._wanted.task
        for pause in (*attempts.READ_LAG_PAUSES, None):
            try:
                return self._read(tasks.get_task(self._hook.get_tasks(wanted.run_id), name))
            except TallyfyNotFoundError:
                if pause is None:
                    raise
            except LookupError as error:
                if pause is None:
                    raise TallyfyNotFoundError(f"Process {wanted.run_id}: {error}") from None
            time.sleep(pause)
        raise AssertionError("The last read returns or raises.")  # pragma: no cover

    def _upload(self, task: Mapping[str, Any], path: Path, field_id: str) -> dict[str, Any]:
        """Upload a local file for a field of the task."""
        return self._hook.upload_file(
            path,
            checklist_id=None if task.get("checklist_id") is None else str(task["checklist_id"]),
            run_id=self._wanted.run_id,
            step_id=None if task.get("step_id") is None else str(task["step_id"]),
            field_id=field_id,
        )

    def _read(self, task: Mapping[str, Any]) -> dict[str, Any]:
        return self._hook.get_task(self._wanted.run_id, str(task["id"]), with_="form_fields")

    def _update(self, task: Mapping[str, Any], taskdata: dict[str, Any]) -> dict[str, Any]:
        """Write form values, and return the task as it is right before the completion."""
        if not taskdata:
            return self._read(task)
        for pause in (*_UPDATE_PAUSES, None):
            try:
                updated = self._hook.update_task(self._wanted.run_id, str(task["id"]), taskdata=taskdata)
            except TallyfyIndeterminateError as error:
                if pause is None:
                    raise
                self._log.warning("%s Sending the form values again in %.0f s.", error, pause)
                time.sleep(pause)
            except TallyfyValidationError:
                # A completed task cannot be changed: a user may have been faster.
                if not tasks.is_completed(shown := self._read_until_completed(task)):
                    raise
                return shown
            else:
                shown = stored_values(task) | taskdata | _taskdata(updated)
                return {**updated, "id": task["id"], "taskdata": shown}
        raise AssertionError("The last attempt returns or raises.")  # pragma: no cover

    def _complete(self, task: dict[str, Any], override_user: int | None) -> dict[str, Any]:
        task_id = str(task["id"])
        is_approved = self._wanted.is_approved if tasks.is_approval(task) else None
        is_repeated = False

        def before_sending() -> None:
            # The hook repeats what was certainly not applied, after pauses in which a user may complete the task.
            nonlocal is_repeated
            if is_repeated and tasks.is_completed(shown := self._read(task)):
                raise _CompletedMeanwhileError(shown)
            is_repeated = True
            self._store.mark_sending()

        try:
            completed = self._hook.complete_task(
                self._wanted.run_id,
                task_id,
                is_approved=is_approved,
                override_user=override_user,
                before_sending=before_sending,
            )
            if str(completed.get("id")) != task_id:
                raise TallyfyIndeterminateError(
                    f"The response to the completion of task {task_id} is not that task."
                )
        except _CompletedMeanwhileError as error:
            return self._as_wanted(error.task)
        except TallyfyIndeterminateError as error:
            self._log.warning("%s Reading the task until it is certain whether it is completed.", error)
            shown = self._poll_until_certain(task, attempts.INDETERMINATE_WINDOW)
            if not tasks.is_completed(shown):
                raise
            return self._as_wanted(shown)
        except TallyfyValidationError:
            # A user may have been faster.
            shown = self._read_until_completed(task)
            if not tasks.is_completed(shown):
                self._store.mark_declined()
                raise
            return self._as_wanted(shown)
        except TallyfyError:
            self._store.mark_declined()
            raise
        return self._read_back(task, completed)

    def _read_back(self, task: dict[str, Any], completed: dict[str, Any]) -> dict[str, Any]:
        """Return the completed task with its form; a read that lags does not count against the answer."""
        shown = {**task, **completed, "taskdata": stored_values(task) | _taskdata(completed)}
        try:
            read = self._read_until_completed(task)
        except TallyfyError as error:
            self._log.warning("The task was completed, but could not be read after it: %s", error)
            return shown
        return read if tasks.is_completed(read) else shown

    def _read_until_completed(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Return the task as soon as a read shows it completed, or as the last of a few reads shows it."""
        for pause in attempts.READ_LAG_PAUSES:
            if tasks.is_completed(shown := self._read(task)):
                return shown
            time.sleep(pause)
        return self._read(task)

    def _poll_until_certain(self, task: dict[str, Any], uncertain_for: float) -> dict[str, Any]:
        """Return the task as soon as a read shows it completed, or when it is certain that no request did that."""
        for left in attempts.polls(uncertain_for):
            if tasks.is_completed(task := self._read(task)):
                break
            if left:
                self._log.warning("The task is still open. Tallyfy may need up to %.0f s more.", left)
        return task

    def _encoded(self, task: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        """Return form values and completer as Tallyfy takes them, checked against the task itself."""
        if tasks.is_hidden(task):
            raise TallyfyValidationError(
                f"Task {quoted(str(task.get('title')))} is hidden by a rule of the template (its status is "
                f"'auto-skipped'), so it cannot be completed."
            )
        problems, choices = self._undecided(task), []
        values = self._wanted.form_fields if self._wanted.form_fields is not None else {}
        try:
            fields, stored = read_task_fields(task), stored_values(task)
            directory = self._hook.get_directory() if forms.needs_directory(fields, values) else None
            taskdata = forms.encode_task_values(fields, values, directory, stored=stored)
        except FormValuesError as error:
            problems, choices = [*problems, *error.problems], list(error.choices)
        except MalformedResponseError as error:
            raise TallyfyResponseError(
                f"Nothing was sent, since the form of task {task['id']} cannot be read: {error}."
            ) from None
        try:
            override_user = self._override_user()
        except InvalidValueError as error:
            problems += [f"override_user: {problem}" for problem in error.problems]
        if problems:
            raise FormValuesError(problems, choices)
        return taskdata, override_user

    def _undecided(self, task: Mapping[str, Any]) -> list[str]:
        if tasks.is_approval(task) and self._wanted.is_approved is None:
            return ["the task is an approval, so is_approved must be True or False"]
        return []

    def _override_user(self) -> int | None:
        user = self._wanted.override_user
        if user is None:
            return None
        if isinstance(user, str) and user.isdecimal():
            user = int(user)
        if isinstance(user, bool) or not isinstance(user, (int, str)) or (isinstance(user, int) and user < 1):
            raise InvalidValueError(f"a member's id or e-mail address was expected, not {described(user)}")
        return user if isinstance(user, int) else self._hook.get_directory().member(user).id

    def _as_wanted(self, task: dict[str, Any]) -> dict[str, Any]:
        """Return a completed task if it is completed as wanted."""
        if problems := self._undecided(task):
            raise FormValuesError(problems)
        done = _verb(tasks.decision(task)) if tasks.is_approval(task) else "completed"
        person = who_completed(task, self._hook, self._log)
        who_and_when = f"{person.in_full if person else 'an unknown user'} at {task.get('completed_at')}"
        what = one_line(f"Task {quoted(str(task.get('title')))} was {done} by {who_and_when}")
        if tasks.is_approval(task) and tasks.decision(task) is not self._wanted.is_approved:
            raise ConflictingDecisionError(f"{what}, so it cannot be {_verb(self._wanted.is_approved)}.")
        self._log.info("%s already, so nothing is sent", what)
        return task


def _taskdata(task: Mapping[str, Any]) -> dict[str, Any]:
    taskdata = task.get("taskdata")
    return taskdata if isinstance(taskdata, dict) else {}


def _verb(is_approved: bool | None) -> str:
    return "completed" if is_approved is None else "approved" if is_approved else "rejected"
