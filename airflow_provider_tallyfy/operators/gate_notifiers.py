"""
The notifiers of a gate: called once when its wait begins, and again as reminders while it waits.

Airflow 3.3's ``task_state_store`` keeps that they were called, through reschedules, retries and restarts. Older
versions have no such store: there, only the first try of a task instance calls them.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier

from airflow_provider_tallyfy.protocol.completion import without_comments
from airflow_provider_tallyfy.protocol.payload import sanitize_payload
from airflow_provider_tallyfy.version_compat import never_expire, task_state_store, was_rescheduled

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.waiting.evidence import Log

CONTEXT_KEY = "tallyfy"
"""What notifiers find in Airflow's context: the run, the task, the address, and the number of the reminder."""
_STORE_KEY = "tallyfy_notified"


class GateNotifiers:
    """
    Calls the notifiers of one gate.

    :param notifiers: each is called with the context.
    :param describe: returns what notifiers find under :data:`CONTEXT_KEY`, as plain JSON: for a given task, or without
        one for the gate's task as it can be read now.
    :param remind_every: seconds between two reminders; ``None`` for no reminders.
    :param max_reminders: how many there are at most.
    :param log: the task's.
    """

    def __init__(
        self,
        notifiers: Sequence[Callable[[Any], object]],
        describe: Callable[..., dict[str, Any]],
        remind_every: float | None,
        max_reminders: int,
        log: Log,
    ) -> None:
        self._notifiers = notifiers
        self._describe = describe
        self._remind_every = remind_every
        self._max_reminders = max_reminders
        self._log = log
        self._subject: dict[str, Any] = {}
        self._record: dict[str, Any] | None = None

    def notify(self, context: Context) -> None:
        """
        Call the notifiers if they were not called for this wait, or if a reminder is due.

        No error of theirs ends the wait. A worker that dies in the middle does not call them again.
        """
        if not self._notifiers:
            return
        if self._record is None:
            self._record = self._recall(context)
        if self._record is None:
            self._keep(context, {"began_at": time.time(), "reminder": 0})
            self._call(context, 0)
        elif (due := self._due(time.time())) > self._record["reminder"]:
            self._keep(context, {**self._record, "reminder": due})
            self._call(context, due)

    def as_reminders(self, context: Context) -> dict[str, Any]:
        """Return the reminders as plain JSON, for a trigger."""
        record = self._record or self._recall(context) or {"began_at": time.time()}
        subject = self._read_subject()
        context[CONTEXT_KEY] = {**subject, "reminder": 1}  # type: ignore[literal-required]
        return {
            "notifiers": [
                packed for each in self._notifiers if _reminds(each) and (packed := self._pack(each, context))
            ],
            "began_at": record["began_at"],
            "every": self._remind_every,
            "at_most": self._max_reminders,
            "subject": subject,
        }

    def without_comments(self, task: dict[str, Any], context: Context) -> dict[str, Any]:
        """
        Return a task without the comments that the notifiers wrote during this wait.

        They are comments of the connection's user, who may be the one who decides.
        """
        from airflow_provider_tallyfy.notifications.tallyfy import TallyfyCommentNotifier

        texts = set()
        notifiers = [each for each in self._notifiers if isinstance(each, TallyfyCommentNotifier)]
        subject = self._describe(task) if notifiers else {}
        for notifier in notifiers:
            for reminder in range((self._max_reminders if self._remind_every else 0) + 1):
                context[CONTEXT_KEY] = {**subject, "reminder": reminder}  # type: ignore[literal-required]
                rendered = copy(notifier)
                try:
                    rendered.render_template_fields(context)
                except Exception:  # noqa: BLE001, S112 (a template may raise anything, and then wrote nothing)
                    continue
                texts.add(str(rendered.content).strip())
        return without_comments(task, texts - {""}) if texts else task

    def _read_subject(self) -> dict[str, Any]:
        """Return what notifiers find of the task; it is read again if it could not be read before."""
        if self._subject.get("task_id") is None:
            self._subject = self._describe()
        return self._subject

    def _due(self, now: float) -> int:
        if self._remind_every is None or self._record is None:
            return 0
        return min(int((now - self._record["began_at"]) // self._remind_every), self._max_reminders)

    def _call(self, context: Context, reminder: int) -> None:
        context[CONTEXT_KEY] = {**self._read_subject(), "reminder": reminder}  # type: ignore[literal-required]
        for notifier in self._notifiers:
            if reminder and not _reminds(notifier):
                continue
            try:
                copy(notifier)(context)  # a copy, since a notifier renders its own fields for good
            except Exception as error:  # noqa: BLE001 (a notifier may raise anything, and the wait continues)
                message = "%s failed (%s), still waiting for the decision"
                self._log.warning(message, _name(notifier), type(error).__name__)

    def _pack(self, notifier: Any, context: Context) -> dict[str, Any] | None:
        try:
            rendered = copy(notifier)
            rendered.render_template_fields(context)
            return pack_notifier(rendered)
        except Exception as error:  # noqa: BLE001 (a template may raise anything, and the wait continues)
            self._log.warning("%s sends no reminders (%s)", _name(notifier), type(error).__name__)
            return None

    def _recall(self, context: Context) -> dict[str, Any] | None:
        if (store := task_state_store(context)) is None:
            return None if _is_first_try(context) else {"began_at": time.time(), "reminder": 0}
        kept = store.get(_STORE_KEY)
        if not isinstance(kept, dict) or kept.get("of") != self._identity(context):
            return None
        return {name: kept[name] for name in ("began_at", "reminder")}

    def _keep(self, context: Context, record: dict[str, Any]) -> None:
        self._record = record
        if (store := task_state_store(context)) is not None:
            kept = {**record, "of": self._identity(context)}
            store.set(_STORE_KEY, kept, retention=never_expire())

    def _identity(self, context: Context) -> list[Any]:
        """Return the identity of this wait; a clear starts another one, and adds tries to the task instance."""
        task: Any = context.get("task")  # a task that was cleared may wait for another one
        return [task.run_id, task.task, getattr(context.get("ti"), "max_tries", None)]


def pack_notifier(notifier: Any) -> dict[str, Any]:
    """
    Return a notifier's class and arguments as plain JSON, from which a triggerer can make it again.

    :raises ValueError: it is no notifier, an argument is not kept in an attribute of its own name, or is not plain
        JSON, or the class cannot be imported by name.
    """
    kind = type(notifier)
    if not isinstance(notifier, BaseNotifier):
        raise ValueError(f"{_name(notifier)} is no notifier of Airflow's")
    path = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.startswith(("unusual_prefix_", "__main__")) or "<locals>" in path:
        raise ValueError(f"class {kind.__name__} is in a DAG file, which a triggerer does not import")
    arguments = {}
    for parameter in _parameters(kind):
        if hasattr(notifier, parameter.name):
            arguments[parameter.name] = getattr(notifier, parameter.name)
        elif parameter.default is inspect.Parameter.empty:
            raise ValueError(f"{kind.__name__} has no attribute {parameter.name!r} for its argument")
    try:
        # Airflow encodes no subclasses of text, as some templates render to.
        plain = json.loads(json.dumps(arguments, allow_nan=False))
    except (TypeError, ValueError):
        raise ValueError(f"the arguments of {kind.__name__} are not plain JSON") from None
    return {"class": path, "arguments": sanitize_payload(plain)}


def _parameters(kind: type) -> list[inspect.Parameter]:
    """Return the parameters of a class, and of its base classes as far as it passes others on to them."""
    found: dict[str, inspect.Parameter] = {}
    for each in kind.__mro__:
        if "__init__" not in vars(each):
            continue
        parameters = list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter)
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            break
    found.pop("context", None)
    return list(found.values())


def _reminds(notifier: Any) -> bool:
    """Return whether a notifier is to be called again; one that launches a process does that once."""
    return getattr(notifier, "can_remind", True)


def _name(notifier: Any) -> str:
    return getattr(notifier, "__name__", None) or type(notifier).__name__


def _is_first_try(context: Context) -> bool:
    """Return whether this is the first poll since the task began, or was cleared, which gives it more tries."""
    ti: Any = context.get("ti")
    if ti is None:
        return True
    task: Any = context["task"]
    is_first = ti.try_number == ti.max_tries - (task.retries or 0) + 1
    return is_first and not (task.reschedule and was_rescheduled(context))
