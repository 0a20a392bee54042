"""
A task is completed once, however often it is attempted.

Tallyfy itself completes no task twice: it refuses the second attempt. So the rule held here is: look at the task; if it
is completed, by whomever, the decision tells whether that is what was wanted; and if it is not, act, and in doubt look
again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.acting.completer import who_completed
from airflow_provider_tallyfy.exceptions import (
    TallyfyIndeterminateError,
    TallyfyNotFoundError,
    TallyfyResponseError,
    TallyfyValidationError,
)
from airflow_provider_tallyfy.protocol import forms, tasks
from airflow_provider_tallyfy.protocol.answers import UnreadableAnswerError
from airflow_provider_tallyfy.protocol.form_fields import read_task_fields, stored_values
from airflow_provider_tallyfy.protocol.problems import FormValuesError, UnfitValueError
from airflow_provider_tallyfy.protocol.text import described, one_line, quoted

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

_PAUSES = (2.0, 5.0)
"""Seconds before what got no clear answer is looked at, and done, again."""


class DecidedOtherwiseError(Exception):
    """The task was completed with another decision than the one wanted."""


@dataclass(frozen=True, slots=True)
class Completion:
    """
    How a task is to be completed.

    :param run_id: the run.
    :param task: the task's id, alias or title.
    :param form_fields: plain values by field id, alias or label, written before.
    :param is_approved: the decision on an approval; ignored on any other task.
    :param override_user: who is recorded as the one who did it: a member, by id or e-mail address.
    """

    run_id: str
    task: str
    form_fields: Mapping[str, Any] | None = None
    is_approved: bool | None = None
    override_user: int | str | None = None


class Completer:
    """
    Completes one task.

    :param hook: the way to Tallyfy.
    :param completion: what is wanted.
    :param warn: takes a line for the log, as a logger's ``warning`` does.
    """

    def __init__(self, hook: TallyfyHook, completion: Completion, warn: Callable[..., object]) -> None:
        self._hook = hook
        self._wanted = completion
        self._warn = warn

    def complete_once(self) -> dict[str, Any]:
        """
        Return the task, which is completed as wanted, now or before.

        :raises FormValuesError: something cannot be sent; nothing was.
        :raises DecidedOtherwiseError: it was completed with another decision.
        :raises TallyfyNotFoundError: there is no such task, or not yet.
        :raises TallyfyValidationError: a rule hides it, or Tallyfy refuses to complete it.
        :raises TallyfyIndeterminateError: it may or may not be completed. The next attempt looks first.
        """
        for pause in (*_PAUSES, None):
            task = self._task()
            if tasks.is_completed(task):
                return self._as_wanted(task)
            try:
                self._complete(task)
            except TallyfyIndeterminateError as error:
                if pause is None:
                    raise
                self._warn("%s That is done in %.0f s.", error, pause)
                time.sleep(pause)
            except TallyfyValidationError:
                # Somebody may have been quicker, or a request of ours that got no answer.
                if not tasks.is_completed(task := self._task()):
                    raise
                return self._as_wanted(task)
            else:
                return self._task()
        raise AssertionError("The last attempt returns or raises.")  # pragma: no cover

    def _task(self) -> dict[str, Any]:
        wanted = self._wanted
        if not isinstance(wanted.task, str) or not wanted.task.strip():
            raise ValueError(f"task must be a task's id, alias or title, but is {described(wanted.task)}.")
        try:
            found = tasks.get_task(self._hook.get_tasks(wanted.run_id), wanted.task)
        except LookupError as error:
            raise TallyfyNotFoundError(f"Process {wanted.run_id}: {error}") from None
        return self._hook.get_task(wanted.run_id, str(found["id"]), with_="form_fields")

    def _complete(self, task: Mapping[str, Any]) -> None:
        if tasks.is_hidden(task):
            raise TallyfyValidationError(
                f"Task {quoted(str(task.get('title')))} is hidden by a rule of the template (its status is "
                f"'auto-skipped'), so nobody can complete it."
            )
        taskdata, override_user = self._encoded(task)
        run_id, task_id = self._wanted.run_id, str(task["id"])
        is_approved = self._wanted.is_approved if tasks.is_approval(task) else None
        if taskdata:
            self._hook.update_task(run_id, task_id, taskdata=taskdata)
        self._hook.complete_task(run_id, task_id, is_approved=is_approved, override_user=override_user)

    def _encoded(self, task: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        """Return all that is sent, checked against the task itself."""
        problems, choices = self._undecided(task), []
        values = self._wanted.form_fields if self._wanted.form_fields is not None else {}
        try:
            fields, stored = read_task_fields(task), stored_values(task)
            directory = self._hook.get_directory() if forms.needs_directory(fields, values) else None
            taskdata = forms.encode_task_values(fields, values, directory, stored=stored)
        except FormValuesError as error:
            problems, choices = [*problems, *error.problems], list(error.choices)
        except UnreadableAnswerError as error:
            raise TallyfyResponseError(
                f"Nothing was sent, since the form of task {task['id']} cannot be read: {error}."
            ) from None
        try:
            override_user = self._override_user()
        except UnfitValueError as error:
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
        if user is None or isinstance(user, int):
            return user
        if not isinstance(user, str):
            raise UnfitValueError(f"a member's id or e-mail address was expected, not {described(user)}")
        return int(user) if user.isdecimal() else self._hook.get_directory().member(user).id

    def _as_wanted(self, task: dict[str, Any]) -> dict[str, Any]:
        """Return a completed task if it is completed as wanted."""
        if problems := self._undecided(task):
            raise FormValuesError(problems)
        done = _verb(tasks.decision(task)) if tasks.is_approval(task) else "completed"
        person = who_completed(task, self._hook, self._warn)
        who_and_when = f"{person.in_full if person else 'somebody'} at {task.get('completed_at')}"
        what = one_line(f"Task {quoted(str(task.get('title')))} was {done} by {who_and_when}")
        if tasks.is_approval(task) and tasks.decision(task) is not self._wanted.is_approved:
            raise DecidedOtherwiseError(f"{what}, so it cannot be {_verb(self._wanted.is_approved)}.")
        self._warn("%s already, so nothing was sent.", what)
        return task


def _verb(is_approved: bool | None) -> str:
    return "completed" if is_approved is None else "approved" if is_approved else "rejected"
