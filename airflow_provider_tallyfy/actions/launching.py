"""
Launch a run once, however often it is attempted.

Each run carries a mark (:class:`~airflow_provider_tallyfy.protocol.launch_mark.LaunchMark`). Nothing is sent while an
earlier request may have been, or may yet be, carried out: after an earlier attempt, and after a request that got no
clear answer, the runs of the template are searched for the mark until the outcome is certain
(:mod:`airflow_provider_tallyfy.actions.attempts`).

Two things cannot be known: that a server carries out a request later than that, and that a user removed the mark from
the run's notes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_tallyfy.actions import attempts
from airflow_provider_tallyfy.actions.attempts import AttemptStore, PriorAttempts
from airflow_provider_tallyfy.actions.uploading import UploadStore, upload_local_files
from airflow_provider_tallyfy.exceptions import (
    TallyfyError,
    TallyfyIndeterminateError,
    TallyfyNotFoundError,
    TallyfyResponseError,
)
from airflow_provider_tallyfy.protocol.launch_mark import LaunchMark, find_marked, newest_runs
from airflow_provider_tallyfy.protocol.launch_request import cut_to_fit, encode_launch, needs_directory
from airflow_provider_tallyfy.protocol.responses import MalformedResponseError
from airflow_provider_tallyfy.protocol.urls import is_identifier

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

MAX_SENDS = 2
"""How often one attempt sends at most."""
_SHORT_PAUSES = (0.0, 2.0, 4.0)
_PAUSES_UNTIL_GONE = (2.0, 4.0, 8.0, 16.0, 30.0)

FIELDS = (
    "checklist_id",
    "name",
    "kickoff",
    "summary",
    "owner_id",
    "tasks",
    "tags",
    "users",
    "groups",
    "roles",
    "folders",
    "parent_id",
)
"""The parameters of a launch, by the names that operator and notifier give them; they template all of them."""


@dataclass(frozen=True, slots=True)
class Launch:
    """
    A launch.

    :param checklist_id: the template.
    :param mark: by which the run is found again.
    :param values: the other :data:`FIELDS`, rendered.
    :param cuts_texts: cut texts that are too long, instead of refusing them.
    """

    checklist_id: str
    mark: LaunchMark
    values: Mapping[str, Any]
    cuts_texts: bool = False

    @classmethod
    def of(cls, source: object, mark: LaunchMark, *, cuts_texts: bool = False) -> Launch:
        """
        Return the launch that an operator or a notifier describes.

        :param source: has the :data:`FIELDS` as attributes, rendered.
        """
        values = {name: getattr(source, name) for name in FIELDS}
        return cls(values.pop("checklist_id"), mark, values, cuts_texts)


@dataclass(frozen=True, slots=True)
class LaunchedRun:
    """
    A run that was launched, now or before.

    :param id: its id.
    :param shown: the run as the launch, or the list in which it was found, showed it; ``None`` if only the id is known.
    """

    id: str
    shown: dict[str, Any] | None = None


class Launcher:
    """
    Carries out one launch.

    :param hook: sends the requests.
    :param launch: what to launch.
    :param warn: takes a log line, as a logger's ``warning`` does.
    """

    def __init__(self, hook: TallyfyHook, launch: Launch, warn: Callable[..., object]) -> None:
        self._hook = hook
        self._launch = launch
        self._warn = warn

    def launch_once(self, store: AttemptStore) -> LaunchedRun:
        """
        Return the one run of the launch, which is launched unless it was before.

        :param store: what is known of earlier attempts.
        :raises FormValuesError: a value cannot be sent; nothing was.
        :raises TallyfyIndeterminateError: it was sent, and could not be found. The next attempt searches for it first.
        """
        if (prior := store.prior()) is not None and (found := self._find_prior(prior)) is not None:
            if prior.run_id is None:
                self._warn("Run %s was launched by an earlier attempt, so no other one is.", found.id)
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

    def encoded(self, store: UploadStore | None = None) -> dict[str, Any]:
        """
        Return the body of the launch, checked against the template, after uploading the local files that it names.

        :param store: what an earlier attempt uploaded.
        :raises FormValuesError: a value cannot be sent.
        """
        checklist_id, values = self._launch.checklist_id, dict(self._launch.values)
        name, kickoff, overrides = values.pop("name"), values.pop("kickoff"), values.pop("tasks")
        try:
            with_ = "steps" if overrides or values["roles"] else ()
            checklist = self._hook.get_checklist(checklist_id, with_=with_)
            if self._launch.cuts_texts:
                name, kickoff = cut_to_fit(checklist, name, kickoff)
            form = (checklist, kickoff, overrides)
            directory = self._hook.get_directory() if needs_directory(*form, **values) else None
            encoded = encode_launch(*form, directory, name=name, **values)
        except MalformedResponseError as error:
            raise TallyfyResponseError(
                f"Nothing was sent, since template {checklist_id} cannot be read: {error}."
            ) from None
        if "prerun" in encoded:
            encoded["prerun"] = upload_local_files(
                encoded["prerun"],
                self._hook.check_file,
                lambda path, _: self._hook.upload_file(path, checklist_id=checklist_id),
                store,
            )
        return {**encoded, "summary": self._launch.mark.added_to(encoded.get("summary"))}

    def send(
        self, values: Mapping[str, Any], before_sending: Callable[[], object] = lambda: None
    ) -> LaunchedRun:
        """
        Send the launch once, and return the run.

        :param before_sending: called before each attempt of the hook, which repeats what was certainly not applied.
        :raises TallyfyIndeterminateError: the run may or may not have been launched.
        """
        run = self._hook.launch_run(self._launch.checklist_id, before_sending=before_sending, **values)
        run_id = str(run.get("id"))
        if run.get("id") is None or not is_identifier(run_id):
            raise TallyfyIndeterminateError("The run seems to be launched, but the response has no id.")
        return LaunchedRun(run_id, run)

    def find(self, since: datetime | None, token: str | None = None) -> LaunchedRun | None:
        """
        Return the newest run with the mark, if a list shows one now.

        :param since: when the first attempt was made; ``None`` if that is not known.
        :param token: the token of the mark, if it is not the launch's own.
        """
        token = token or self._launch.mark.token
        if since is not None:
            since = min(since, _now())  # a worker's clock may have been ahead
        found = []
        for filters in newest_runs(self._launch.checklist_id):
            pages = self._hook.get_runs_pages(**filters, with_="next_task")
            if (run := find_marked(pages, token, since)) is not None:
                if token == self._launch.mark.token:
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
            except TallyfyNotFoundError:
                if pause is None:
                    if launched.shown is None:
                        raise
                    break
                time.sleep(pause)
                hook = type(hook)(
                    hook.tallyfy_conn_id
                )  # reads the connection again: the token may be another one now
            except TallyfyError:
                if launched.shown is None:
                    raise
                break
        self._warn(
            "Run %s was launched, but cannot be read yet. It is returned as the launch showed it.",
            launched.id,
        )
        return launched.shown or {}

    def _find_prior(self, prior: PriorAttempts) -> LaunchedRun | None:
        if prior.run_id is not None:
            return LaunchedRun(prior.run_id)
        return self._find_until_certain(prior.since, prior.uncertain_for, prior.token)

    def _send_until_certain(self, values: Mapping[str, Any], store: AttemptStore) -> LaunchedRun:
        began_at = _now()
        sent_at = time.monotonic()

        def before_sending() -> None:
            nonlocal sent_at
            sent_at = time.monotonic()
            store.mark_sending(self._launch.mark.token)

        for number in range(1, MAX_SENDS + 1):
            try:
                return self.send(values, before_sending)
            except TallyfyIndeterminateError as error:
                self._warn("%s Searching for the run by its mark %s.", error, self._launch.mark.token)
                uncertain_for = sent_at + attempts.INDETERMINATE_WINDOW - time.monotonic()
                if (found := self._find_until_certain(began_at, uncertain_for)) is not None:
                    return found
                if number == MAX_SENDS:
                    raise
                self._warn("The run was not launched. Sending the launch again.")
            except TallyfyError:
                store.mark_declined()
                raise
        raise AssertionError("The last attempt returns or raises.")  # pragma: no cover

    def _find_until_certain(
        self, since: datetime | None, uncertain_for: float, token: str | None = None
    ) -> LaunchedRun | None:
        """Return the run with the mark; ``None`` only if it is certain that there is none."""
        # The first poll reads as far back as necessary. What later ones can show besides was created after it, or so
        # shortly before that lists did not show it yet.
        recent = _now() - timedelta(seconds=attempts.INDETERMINATE_WINDOW)
        for left in attempts.polls(uncertain_for):
            if (found := self.find(since, token)) is not None:
                return found
            since = recent if since is None else max(since, recent)
            if left:
                self._warn("No run has the mark yet. Tallyfy may need up to %.0f s more.", left)
        return None


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
