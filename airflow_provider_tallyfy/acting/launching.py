"""
A run is launched once, however often it is attempted.

Tallyfy knows no idempotency key, so each launch carries a mark
(:class:`~airflow_provider_tallyfy.protocol.launch_mark.LaunchMark`), and the rule held here is: nothing is sent while
it is possible that it was sent before and was, or will yet be, carried out. That is possible

- after an earlier attempt: then the mark is looked for before anything is sent;
- after a request that got no clear answer: Tallyfy may still be at it. So the mark is looked for again and again, and
  only once :data:`SETTLED_AFTER` seconds have passed since the request began does a look that finds nothing count.

What it cannot know: that a server carries out a request even later than that, or that somebody took the mark out of the
run's notes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_tallyfy.exceptions import (
    TallyfyError,
    TallyfyIndeterminateError,
    TallyfyResponseError,
)
from airflow_provider_tallyfy.protocol.answers import UnreadableAnswerError, is_id
from airflow_provider_tallyfy.protocol.launch_mark import LaunchMark, find_marked, newest_runs
from airflow_provider_tallyfy.protocol.launches import cut_to_fit, encode_launch, needs_directory

if TYPE_CHECKING:
    from airflow_provider_tallyfy.hooks.tallyfy import TallyfyHook

SETTLED_AFTER = 60.0
"""Seconds after which a request is taken to have come to its end; gateways commonly wait no longer."""
MOST_SENT = 2
"""How often one attempt sends at most."""
_PAUSES = (1.0, 2.0, 4.0, 8.0)
_SHORT_PAUSES = (0.0, 2.0, 4.0)


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
"""What can be said of a launch, by the names that operator and notifier give it; they template all of it."""
_PEOPLE = ("owner_id", "users", "groups")
_AS_THEY_ARE = ("tags", "roles", "folders", "parent_id")


@dataclass(frozen=True, slots=True)
class Launch:
    """
    What is to be launched.

    :param checklist_id: the template.
    :param mark: by which the run is found again.
    :param kickoff: plain values by field id, alias or label.
    :param overrides: owners and deadline by step id, alias or title.
    :param summary: the notes of the run; the mark is added.
    :param people: ``owner_id``, ``users`` and ``groups``, as
        :func:`~airflow_provider_tallyfy.protocol.launches.encode_launch` takes them.
    :param values: what else Tallyfy is sent, as it is.
    :param cuts_texts: cut texts that are too long, instead of refusing them.
    """

    checklist_id: str
    mark: LaunchMark
    name: str | None = None
    kickoff: Mapping[str, Any] | None = None
    overrides: Mapping[str, Any] | None = None
    summary: str | None = None
    people: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    cuts_texts: bool = False

    @classmethod
    def of(cls, asked: object, mark: LaunchMark, *, cuts_texts: bool = False) -> Launch:
        """
        Return the launch that an operator or notifier asks for.

        :param asked: has the :data:`FIELDS` as attributes, rendered.
        """
        given = {name: getattr(asked, name) for name in FIELDS}
        return cls(
            checklist_id=given["checklist_id"],
            mark=mark,
            name=given["name"],
            kickoff=given["kickoff"],
            overrides=given["tasks"],
            summary=given["summary"],
            people={name: given[name] for name in _PEOPLE},
            values={name: given[name] for name in _AS_THEY_ARE},
            cuts_texts=cuts_texts,
        )


@dataclass(frozen=True, slots=True)
class Past:
    """
    What is known of earlier attempts at a launch.

    :param run_id: the run that was launched, where that is known.
    :param since: no attempt was made before; ``None`` where that is not known.
    :param sent_at: nothing was sent later, in seconds since the epoch; 0 where nothing ever was.
    """

    run_id: str | None = None
    since: datetime | None = None
    sent_at: float = 0.0


class Record(Protocol):
    """Where it is kept what became of a launch, for the next attempt to know."""

    def past(self) -> Past | None:
        """Return what is known of earlier attempts; ``None`` where it is certain that there were none."""

    def sending(self, moment: float) -> None:
        """Keep that a request begins now; nothing is sent if this raises."""

    def declined(self) -> None:
        """Keep that it is certain that the request changed nothing."""

    def launched(self, run_id: str) -> None:
        """Keep what was launched."""


class Launcher:
    """
    Carries out one launch.

    :param hook: the way to Tallyfy.
    :param launch: what is to be launched.
    :param warn: takes a line for the log, as a logger's ``warning`` does.
    """

    def __init__(self, hook: TallyfyHook, launch: Launch, warn: Callable[..., object]) -> None:
        self._hook = hook
        self._launch = launch
        self._warn = warn

    def launch_once(self, record: Record) -> str:
        """
        Return the id of the one run of the launch, which is launched unless it was before.

        :param record: what is known of earlier attempts.
        :raises FormValuesError: something cannot be sent; nothing was.
        :raises TallyfyIndeterminateError: it was sent, and could not be found. The next attempt looks for it first.
        """
        if (past := record.past()) is not None:
            if past.run_id is not None:
                return past.run_id
            if (run_id := self._found(past.since, past.sent_at + SETTLED_AFTER)) is not None:
                self._warn("Run %s was launched by an earlier attempt, so no other one is.", run_id)
                record.launched(run_id)
                return run_id
        run_id = self._send(self.encoded(), record)
        record.launched(run_id)
        return run_id

    def launch_at_most_once(self) -> str:
        """
        Return the id of the run, which is launched now.

        It takes less time, and in doubt nothing is sent again.

        :raises FormValuesError: something cannot be sent; nothing was.
        :raises TallyfyIndeterminateError: it was sent, and could not be found in some seconds.
        """
        values = self.encoded()
        began_at = time.time()
        try:
            return self.send(values)
        except TallyfyIndeterminateError:
            for pause in _SHORT_PAUSES:
                time.sleep(pause)
                with suppress(TallyfyError):  # the launch stays in doubt, whatever becomes of the search
                    if (run_id := self.look(datetime.fromtimestamp(began_at, UTC))) is not None:
                        return run_id
            raise

    def encoded(self) -> dict[str, Any]:
        """
        Return all that is sent, checked against the template itself.

        :raises FormValuesError: for all that is wrong.
        """
        launch = self._launch
        try:
            checklist = self._hook.get_checklist(
                launch.checklist_id, with_="steps" if launch.overrides else ()
            )
            name, kickoff = launch.name, launch.kickoff
            if launch.cuts_texts:
                name, kickoff = cut_to_fit(checklist, name, kickoff)
            given = (checklist, kickoff, launch.overrides)
            directory = self._hook.get_directory() if needs_directory(*given, **launch.people) else None
            values = encode_launch(*given, directory, name=name, summary=launch.summary, **launch.people)
        except UnreadableAnswerError as error:
            raise TallyfyResponseError(
                f"Nothing was sent, since template {launch.checklist_id} cannot be read: {error}."
            ) from None
        return {**launch.values, **values, "summary": launch.mark.added_to(values.get("summary"))}

    def send(self, values: Mapping[str, Any], before_sending: Callable[[], object] = lambda: None) -> str:
        """
        Send the launch once and return the id of the run.

        :param before_sending: called before each attempt of the hook's: it repeats what was certainly not applied.
        :raises TallyfyIndeterminateError: the run may or may not have been launched.
        """
        run = self._hook.launch_run(self._launch.checklist_id, before_sending=before_sending, **values)
        if not is_id(run.get("id")):
            raise TallyfyIndeterminateError(
                "The run was launched, as it seems, but the answer does not say its id."
            )
        return str(run["id"])

    def look(self, since: datetime | None) -> str | None:
        """Return the id of the run with the mark, if it is there now."""
        for filters in newest_runs(self._launch.checklist_id):
            pages = self._hook.get_runs_pages(**filters)
            if (run := find_marked(pages, self._launch.mark, since)) is not None:
                return str(run["id"])
        return None

    def _send(self, values: Mapping[str, Any], record: Record) -> str:
        began_at = sent_at = time.time()

        def sending() -> None:
            nonlocal sent_at
            sent_at = time.time()
            record.sending(sent_at)

        for number in range(1, MOST_SENT + 1):
            try:
                return self.send(values, sending)
            except TallyfyIndeterminateError as error:
                self._warn("%s Now it is looked for by its mark, %s.", error, self._launch.mark.token)
                run_id = self._found(datetime.fromtimestamp(began_at, UTC), sent_at + SETTLED_AFTER)
                if run_id is not None:
                    return run_id
                if number == MOST_SENT:
                    raise
                self._warn("It was not launched, so it is sent again.")
            except TallyfyError:
                record.declined()
                raise
        raise AssertionError("The last attempt returns or raises.")  # pragma: no cover

    def _found(self, since: datetime | None, settled_at: float) -> str | None:
        """Return the id of the run with the mark; ``None`` only once there will be none."""
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            remaining = settled_at - time.time()
            if (run_id := self.look(since)) is not None or remaining <= 0:
                return run_id
            self._warn("No run has the mark yet; Tallyfy may be at it for %.0f s more.", remaining)
            time.sleep(min(pause, remaining))
        raise AssertionError("There is always another pause.")  # pragma: no cover
