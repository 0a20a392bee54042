"""
Launch a run once, however often it is attempted.

Why a launch was not sent, or not sent again, is decided by :meth:`Launcher.launch_once`, and is a line in the task's
log that begins with "Not launching another process" or "Not sending the launch again":

1. An earlier try kept the id of the run that it launched in Airflow's task state store (3.3 and newer).
2. An earlier try may have sent a launch. The runs of the template are searched for the idempotency key of this task
   instance (:mod:`~airflow_provider_tallyfy.protocol.idempotency_key`), until it is certain that no run has it
   (:mod:`~airflow_provider_tallyfy.actions.attempts`).
3. The launch got no clear answer. It is searched for in the same way, and sent once more only if there is none.

A second run is launched all the same if a server carries out a request later than that, or if a user removed the key
from the run's notes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_provider_tallyfy.actions import attempts
from airflow_provider_tallyfy.actions.uploading import upload_local_files
from airflow_provider_tallyfy.exceptions import (
    TallyfyError,
    TallyfyIndeterminateError,
    TallyfyNotFoundError,
    TallyfyResponseError,
)
from airflow_provider_tallyfy.protocol.idempotency_key import IdempotencyKey, find_launched, search_filters
from airflow_provider_tallyfy.protocol.launch_request import encode_launch, needs_directory
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from airflow_provider_tallyfy.protocol.urls import is_identifier
from airflow_provider_tallyfy.version_compat import dag_run_identity, started_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_tallyfy.actions.attempts import AttemptStore
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook
    from airflow_provider_tallyfy.waiting.evidence import Log

MAX_SENDS = 2
"""How often one attempt sends at most."""
_SHORT_PAUSES = (0.0, 2.0, 4.0)
_PAUSES_UNTIL_GONE = (2.0, 4.0, 8.0, 16.0, 30.0)


@dataclass(kw_only=True, repr=False, eq=False)
class LaunchArguments:
    """The arguments of a launch, which the operator and the notifier have in common; they template all of them."""

    checklist_id: str
    name: str | None = None
    kickoff: Mapping[str, Any] | None = None
    summary: str | None = None
    owner_id: int | str | None = None
    tasks: Mapping[str, Mapping[str, Any]] | None = None
    tags: Sequence[str] | None = None
    users: Sequence[int | str] | None = None
    groups: Sequence[str] | None = None
    roles: Mapping[str, Any] | None = None
    folders: Sequence[str] | None = None
    parent_id: str | None = None


LAUNCH_FIELDS = tuple(field.name for field in fields(LaunchArguments))


def idempotency_key(context: Context, task_id: str, *, per_try: bool) -> IdempotencyKey:
    """
    Return the key of what a task instance launches.

    :param per_try: whether each of its tries launches a run of its own.
    """
    task_instance = context.get("ti")
    if task_instance is None:  # called by hand, where nothing distinguishes one call from another
        return IdempotencyKey("none", f"by hand, {uuid4()}", task_id)
    return IdempotencyKey(
        task_instance.dag_id,
        task_instance.run_id,
        task_instance.task_id,
        -1 if task_instance.map_index is None else task_instance.map_index,
        try_number=task_instance.try_number if per_try else None,
        dag_run_identity=dag_run_identity(context),
        started_at=started_at(context),
    )


@dataclass(frozen=True, slots=True)
class LaunchedRun:
    """
    A run that was launched, now or before.

    :param id: its id.
    :param shown: the run in the response to the launch, or in the list in which it was found; ``None`` if only the id
        is known.
    """

    id: str
    shown: dict[str, Any] | None = None


class Launcher:
    """
    Carries out one launch.

    :param hook: sends the requests.
    :param source: has the :class:`LaunchArguments` as attributes, rendered.
    :param key: by which the run is found again.
    :param log: the task's, or the notifier's.
    :param adapt: returns the arguments to send, from the template and the given arguments. Default: unchanged.
    """

    def __init__(
        self,
        hook: TallyfyHook,
        source: object,
        key: IdempotencyKey,
        log: Log,
        *,
        adapt: Callable[[Mapping[str, Any], dict[str, Any]], dict[str, Any]] = lambda _, arguments: arguments,
    ) -> None:
        self._hook = hook
        self._arguments = {name: getattr(source, name) for name in LAUNCH_FIELDS}
        self._checklist_id = self._arguments.pop("checklist_id")
        self._key = key
        self._log = log
        self._adapt = adapt

    def launch_once(self, store: AttemptStore) -> LaunchedRun:
        """
        Return the one run of the launch, which is launched unless it was before.

        :param store: what is known of earlier attempts.
        :raises FormValuesError: a value cannot be sent; nothing was.
        :raises TallyfyIndeterminateError: it was sent, and could not be found. The next attempt searches for it first.
        """
        if (prior := store.prior()) is not None:
            found: LaunchedRun | None
            if prior.run_id is not None:
                found, how = LaunchedRun(prior.run_id), "its id is in Airflow's task state store"
            else:
                found = self._find_until_certain(prior.since, prior.uncertain_for, prior.key)
                how = f"found by the idempotency key {prior.key or self._key.value} in its notes"
            if found is not None:
                message = "Not launching another process: an earlier try of this task launched run %s (%s)"
                self._log.info(message, found.id, how)
                store.mark_done(found.id)
                return found
        store.begin()
        launched = self._send_until_certain(self.encoded(store), store)
        store.mark_done(launched.id)
        return launched

    def launch_at_most_once(self) -> str:
        """
        Launch the run, and return its id.

        It takes less time than :meth:`launch_once`, and sends nothing again.

        :raises FormValuesError: a value cannot be sent; nothing was.
        :raises TallyfyIndeterminateError: it was sent, and could not be found within some seconds.
        """
        values = self.encoded()
        began_at = _now()
        try:
            return self.send(values).id
        except TallyfyIndeterminateError:
            for pause in _SHORT_PAUSES:
                time.sleep(pause)
                with suppress(TallyfyError):  # the launch stays in doubt, whatever becomes of the search
                    if (found := self.find(began_at)) is not None:
                        return found.id
            raise

    def encoded(self, store: AttemptStore | None = None) -> dict[str, Any]:
        """
        Return the body of the launch, checked against the template, after uploading the local files that it names.

        :param store: what an earlier attempt uploaded.
        :raises FormValuesError: a value cannot be sent.
        """
        try:
            with_ = "steps" if self._arguments["tasks"] or self._arguments["roles"] else ()
            checklist = self._hook.get_checklist(self._checklist_id, with_=with_)
            values = self._adapt(checklist, dict(self._arguments))
            form = (checklist, values.pop("kickoff"), values.pop("tasks"))
            directory = self._hook.get_directory() if needs_directory(*form, **values) else None
            encoded = encode_launch(*form, directory, **values)
        except MalformedResponseError as error:
            raise TallyfyResponseError(
                f"Nothing was sent, since template {self._checklist_id} cannot be read: {error}."
            ) from None
        if "prerun" in encoded:
            encoded["prerun"] = upload_local_files(
                encoded["prerun"],
                self._hook.check_file,
                lambda path, _: self._hook.upload_file(path, checklist_id=self._checklist_id),
                store,
            )
        return {**encoded, "summary": self._key.append_note(encoded.get("summary"))}

    def send(
        self, values: Mapping[str, Any], before_sending: Callable[[], object] = lambda: None
    ) -> LaunchedRun:
        """
        Send the launch once, and return the run.

        :param before_sending: called before each attempt of the hook, which repeats what was certainly not applied.
        :raises TallyfyIndeterminateError: the run may or may not have been launched.
        """
        run = self._hook.launch_run(self._checklist_id, before_sending=before_sending, **values)
        run_id = str(run.get("id"))
        if run.get("id") is None or not is_identifier(run_id):
            raise TallyfyIndeterminateError("The run seems to be launched, but the response has no id.")
        return LaunchedRun(run_id, run)

    def find(self, since: datetime | None, key: str | None = None) -> LaunchedRun | None:
        """
        Return the newest run with the key, if a list shows one now.

        :param since: when the first attempt was made; ``None`` if that is not known.
        :param key: the idempotency key or its prefix, if it is not the launch's own.
        """
        key = key or self._key.value
        if since is not None:
            since = min(since, _now())  # a worker's clock may have been ahead
        found = []
        for filters in search_filters(self._checklist_id):
            pages = self._hook.get_runs_pages(**filters, with_="next_task")
            if (run := find_launched(pages, key, since)) is not None:
                if key == self._key.value:
                    return LaunchedRun(str(run["id"]), dict(run))
                found.append(run)
        newest = max(found, key=lambda run: str(run.get("created_at")), default=None)
        return None if newest is None else LaunchedRun(str(newest["id"]), dict(newest))

    def read(self, launched: LaunchedRun) -> dict[str, Any]:
        """
        Return a launched run as :meth:`~airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook.get_run` gives it.

        Reads may lag. If none shows the run, it is returned as the launch showed it.

        :raises TallyfyNotFoundError: only the id is known, and several reads within a minute found no such run.
        """
        hook = self._hook
        for pause in (*(attempts.READ_LAG_PAUSES if launched.shown else _PAUSES_UNTIL_GONE), None):
            try:
                return hook.get_run(launched.id)
            except TallyfyError as error:
                if isinstance(error, TallyfyNotFoundError) and pause is not None:
                    time.sleep(pause)
                    hook = type(hook)(
                        hook.tallyfy_conn_id
                    )  # reads the connection again, since it may have changed
                elif launched.shown is None:
                    raise
                else:
                    break
        self._log.warning(
            "Run %s was launched, but cannot be read yet. Returning it as the launch showed it.", launched.id
        )
        return launched.shown or {}

    def _send_until_certain(self, values: Mapping[str, Any], store: AttemptStore) -> LaunchedRun:
        began_at = _now()
        sent_at = time.monotonic()

        def before_sending() -> None:
            nonlocal sent_at
            sent_at = time.monotonic()
            store.mark_sending(self._key.value)

        for number in range(1, MAX_SENDS + 1):
            try:
                return self.send(values, before_sending)
            except TallyfyIndeterminateError as error:
                self._log.warning(
                    "%s Searching for the run by its idempotency key %s", error, self._key.value
                )
                uncertain_for = sent_at + attempts.INDETERMINATE_WINDOW - time.monotonic()
                if (found := self._find_until_certain(began_at, uncertain_for)) is not None:
                    self._log.info("Not sending the launch again: it was carried out, as run %s", found.id)
                    return found
                if number == MAX_SENDS:
                    raise
                self._log.warning("No run has the key, so the launch was not carried out. Sending it again")
            except TallyfyError:
                store.mark_declined()
                raise
        raise AssertionError("The last attempt returns or raises.")  # pragma: no cover

    def _find_until_certain(
        self, since: datetime | None, uncertain_for: float, key: str | None = None
    ) -> LaunchedRun | None:
        """Return the run with the key; ``None`` only if it is certain that there is none."""
        # The first search reads as far back as necessary. Later ones only look for a run that was created since, or so
        # shortly before that lists did not show it yet.
        recent = _now() - timedelta(seconds=attempts.INDETERMINATE_WINDOW)
        for left in attempts.polls(uncertain_for):
            if (found := self.find(since, key)) is not None:
                return found
            since = recent if since is None else max(since, recent)
            if left:
                self._log.warning(
                    "No run has the key yet. Searching again, since Tallyfy may need up to %.0f s more", left
                )
        return None


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
