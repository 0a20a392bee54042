"""
The idempotency key of a launch, in the notes of the run.

Tallyfy's API takes no idempotency key. Its documentation says to check whether the process exists before launching it
again (page "Handling idempotency"). A key in the run's notes makes that check possible: it is the same for every try of
a task instance, and differs for any other one, also for one of a DAG run that was deleted and created again with the
same id.

The key is in the run's ``summary`` (the process notes), not in its name: users read the name in every list, and the
template may make it from kick-off values. Lists hold each run's summary (page "List processes") and can be filtered by
template and sorted by ``-created_at``, so that few pages have to be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from json import dumps
from typing import Any

from airflow_provider_tallyfy.protocol.formatting import shortened
from airflow_provider_tallyfy.protocol.responses import parse_datetime

CLOCK_SKEW = timedelta(hours=1)
"""How far two clocks may differ: those of two workers, and Tallyfy's."""
_NOTE_BEGINS = "Launched by Airflow:"


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """
    The idempotency key of what one task instance, or one callback, launches.

    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param task_id: the task.
    :param map_index: the index of a mapped task instance; -1 if it is not mapped.
    :param callback: for a notifier: what Airflow calls it for, and what it was given.
    :param try_number: the try, if each one launches a run of its own; otherwise ``None``.
    :param dag_run_identity: what distinguishes the DAG run from one with the same id, and stays when it is cleared.
    :param started_at: when the DAG run started. That distinguishes it from any with the same id, but a clear moves it.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    callback: str = ""
    try_number: int | None = None
    dag_run_identity: str = ""
    started_at: str = ""

    @property
    def prefix(self) -> str:
        """
        The part of the key that stays the same when the DAG run is cleared.

        It has only letters, digits and a hyphen, so that HTML and the editor in which people change the notes keep it
        whole, and always the same length, so that none is the beginning of another.
        """
        parts = [self.dag_id, self.run_id, self.task_id, self.map_index, self.callback]
        parts += [part for part in (self.try_number, self.dag_run_identity) if part not in (None, "")]
        return f"airflow-{_digest(parts, 20)}"

    @property
    def value(self) -> str:
        """The key itself: the prefix, and the start of the DAG run if that is known."""
        return f"{self.prefix}-{_digest([self.started_at], 8)}" if self.started_at else self.prefix

    @property
    def note(self) -> str:
        """The key as it is in the notes, after words that say the same to people."""
        mapped = f" [{self.map_index}]" if self.map_index >= 0 else ""
        task = f", task {_shown(self.task_id)}{mapped}" if self.task_id else ""
        attempt = "" if self.try_number is None else f", try {self.try_number}"
        names = f"DAG {_shown(self.dag_id)}{task}, run {_shown(self.run_id)}{attempt}"
        return f"{_NOTE_BEGINS} {names} ({self.value})"

    def append_note(self, summary: str | None) -> str:
        """Return the user's summary, if any, with the note after it; once, if it is there already."""
        summary = summary or ""
        if _has_key(summary, self.value):
            return summary
        return f"{summary}\n\n{self.note}" if summary.strip() else self.note


def search_filters(checklist_id: str) -> tuple[dict[str, str], ...]:
    """
    Return the filters of the lists that are searched for a key: a template's runs, the newest first.

    Archived runs are included: a run that was archived was launched all the same. Only the official SDK knows
    ``archived`` (tallyfy 3.1.0: ``true`` for those too), only the documentation ``status=archived`` (page "List
    processes"), so both are requested.
    """
    newest_first = {"checklist_id": checklist_id, "sort": "-created_at"}
    return {**newest_first, "archived": "true"}, {**newest_first, "status": "archived"}


def find_launched(
    pages: Iterable[Sequence[Mapping[str, Any]]], key: str, since: datetime | None = None
) -> Mapping[str, Any] | None:
    """
    Return the newest run that has a key in its notes, or ``None``. Pages are taken only as far as necessary.

    :param pages: one of the lists that :func:`search_filters` asks for, page by page.
    :param key: :attr:`IdempotencyKey.value` or :attr:`IdempotencyKey.prefix`.
    :param since: when the first attempt to launch was made, in UTC if it has no zone. Pages that are older by more than
        :data:`CLOCK_SKEW` are not read. ``None`` reads all. A list in another order is read to its end.
    """
    oldest = None if since is None else in_utc(since) - CLOCK_SKEW
    for page in pages:
        if found := next((run for run in page if _has_key(str(run.get("summary")), key)), None):
            return found
        created = [moment for run in page if (moment := parse_datetime(run.get("created_at"))) is not None]
        is_newest_first = all(first >= second for first, second in pairwise(created))
        if oldest is not None and created and created[-1] < oldest and is_newest_first:
            return None
    return None


def _has_key(summary: str, key: str) -> bool:
    """Return whether notes have a key; only the last note of Airflow's counts, since they may quote another run's."""
    return key in summary.rpartition(_NOTE_BEGINS)[2]


def _digest(parts: Sequence[Any], length: int) -> str:
    return sha256(dumps(parts).encode()).hexdigest()[:length]


def in_utc(moment: datetime) -> datetime:
    """Return an instant with a time zone, UTC if it has none."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _shown(name: str) -> str:
    """Return a name that needs no quoting in HTML, which the notes are."""
    return shortened("".join(" " if character in "<>&\"'" else character for character in name), 80)
