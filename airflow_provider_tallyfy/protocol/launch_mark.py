"""
The mark in a run's notes: which task instance launched it.

Tallyfy has no idempotency key. Its documentation says to check whether the process exists before launching it again
(page "Handling idempotency"). The mark makes that check possible: it is the same for every try of a task instance, and
differs for any other one, also for one of a DAG run that was deleted and created again with the same id.

The mark is in the run's ``summary`` (the process notes), not in its name: users read the name in every list, and the
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
_MARK_BEGINS = "Launched by Airflow:"
_STEM_LENGTH = 20
_START_LENGTH = 8


@dataclass(frozen=True, slots=True)
class LaunchMark:
    """
    The mark of one task instance.

    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param task_id: the task.
    :param map_index: the index of a mapped task instance; -1 if it is not mapped.
    :param deployment: what distinguishes this Airflow from another one with the same DAGs that launches for the same
        organization, if there is one; their DAG runs may have the same ids.
    :param try_number: the try, if every one of them launches a run of its own; otherwise ``None``.
    :param incarnation: what distinguishes the DAG run from one with the same id, and stays when it is cleared.
    :param started_at: when the DAG run started. That distinguishes it from any with the same id, but a clear moves it.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    deployment: str = ""
    try_number: int | None = None
    incarnation: str = ""
    started_at: str = ""

    @property
    def stem(self) -> str:
        """
        The part of the token that no clear changes.

        It has only letters, digits and a hyphen, so that HTML and the editor in which people change the notes keep it
        whole, and always the same length, so that none is the beginning of another.
        """
        parts = [self.dag_id, self.run_id, self.task_id, self.map_index, self.deployment]
        parts += [part for part in (self.try_number, self.incarnation) if part not in (None, "")]
        return f"airflow-{_digest(parts, _STEM_LENGTH)}"

    @property
    def token(self) -> str:
        """The text by which the run is found: the stem, and the start of the DAG run if that is known."""
        return f"{self.stem}-{_digest([self.started_at], _START_LENGTH)}" if self.started_at else self.stem

    def __str__(self) -> str:
        mapped = f" [{self.map_index}]" if self.map_index >= 0 else ""
        task = f", task {_shown(self.task_id)}{mapped}" if self.task_id else ""
        attempt = "" if self.try_number is None else f", try {self.try_number}"
        names = f"DAG {_shown(self.dag_id)}{task}, run {_shown(self.run_id)}{attempt}"
        return f"{_MARK_BEGINS} {names} ({self.token})"

    def added_to(self, summary: str | None) -> str:
        """Return the user's summary, if any, with the mark after it; once, if it is there already."""
        summary = summary or ""
        if _is_marked(summary, self.token):
            return summary
        return f"{summary}\n\n{self}" if summary.strip() else str(self)


def newest_runs(checklist_id: str) -> tuple[dict[str, str], ...]:
    """
    Return the filters of the lists that are searched for a mark: a template's runs, the newest first.

    Archived runs are included: a run that was archived was launched all the same. Only the official SDK knows
    ``archived`` (tallyfy 3.1.0: ``true`` for those too), only the documentation ``status=archived`` (page "List
    processes"), so both are requested.
    """
    newest_first = {"checklist_id": checklist_id, "sort": "-created_at"}
    return {**newest_first, "archived": "true"}, {**newest_first, "status": "archived"}


def find_marked(
    pages: Iterable[Sequence[Mapping[str, Any]]], token: str, since: datetime | None = None
) -> Mapping[str, Any] | None:
    """
    Return the newest run whose mark holds a token, or ``None``. Pages are taken only as far as necessary.

    :param pages: one of the lists that :func:`newest_runs` asks for, page by page.
    :param token: :attr:`LaunchMark.token` or :attr:`LaunchMark.stem`.
    :param since: when the first attempt to launch was made, in UTC if it has no zone; older pages are not read, but
        for :data:`CLOCK_SKEW`. ``None`` reads all. A list in another order is read to its end.
    """
    oldest = None if since is None else in_utc(since) - CLOCK_SKEW
    for page in pages:
        if found := next((run for run in page if _is_marked(str(run.get("summary")), token)), None):
            return found
        created = [moment for run in page if (moment := parse_datetime(run.get("created_at"))) is not None]
        is_newest_first = all(first >= second for first, second in pairwise(created))
        if oldest is not None and created and created[-1] < oldest and is_newest_first:
            return None
    return None


def _is_marked(summary: str, token: str) -> bool:
    """Tell whether notes have a mark with this token; only the last mark counts: they may quote that of another run."""
    return token in summary.rpartition(_MARK_BEGINS)[2]


def _digest(parts: Sequence[Any], length: int) -> str:
    return sha256(dumps(parts).encode()).hexdigest()[:length]


def in_utc(moment: datetime) -> datetime:
    """Return an instant with a time zone, UTC if it has none."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _shown(name: str) -> str:
    """Return a name that needs no quoting in HTML, which the notes are."""
    return shortened("".join(" " if character in "<>&\"'" else character for character in name), 80)
