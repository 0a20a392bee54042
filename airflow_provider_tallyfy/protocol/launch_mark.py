"""
The mark by which a run tells which task instance of which DAG run launched it.

Tallyfy knows no idempotency key: its documentation says to look whether the process exists before launching again
(page "Handling idempotency"). The rule held here: whether a launch was carried out is found out by its mark, which is
the same at every try of the task instance and after it was cleared, and in no other run. (Where every try is to launch
a run of its own, the try is part of the mark.)

The mark stands in the run's ``summary`` (people know it as the process notes, which every task shows), and not in its
name: a name is what people read in every list, and the template may make it from kick-off values where none is given.
Lists hold each run's summary (page "List processes") and can be narrowed to one template and sorted, the newest first,
so the run that an attempt may have made is among those created since that attempt. A list that comes in another order
is read to its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from json import dumps
from typing import Any

from airflow_provider_tallyfy.protocol.text import shortened

# Two clocks are compared, ours and Tallyfy's.
_SKEW = timedelta(hours=1)
_TOKEN_LENGTH = 20


@dataclass(frozen=True, slots=True)
class LaunchMark:
    """
    The mark of one task instance.

    :param dag_id: the DAG.
    :param run_id: the DAG run.
    :param task_id: the task.
    :param map_index: the index of a mapped task instance; -1 where it is not mapped.
    :param deployment: what tells this Airflow from another one with the same DAGs that launches for the same
        organization, if there is one; their DAG runs may have the same ids.
    :param try_number: the try, where every one of them launches a run of its own; otherwise ``None``.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    deployment: str = ""
    try_number: int | None = None

    @property
    def token(self) -> str:
        """
        What is looked for.

        Only letters, digits and a hyphen, so that HTML and the editor in which people change the notes leave it whole;
        and always of one length, so that none is the beginning of another.
        """
        parts = [self.dag_id, self.run_id, self.task_id, self.map_index, self.deployment]
        parts += [] if self.try_number is None else [self.try_number]
        return f"airflow-{sha256(dumps(parts).encode()).hexdigest()[:_TOKEN_LENGTH]}"

    def __str__(self) -> str:
        mapped = f" [{self.map_index}]" if self.map_index >= 0 else ""
        task = f", task {_shown(self.task_id)}{mapped}" if self.task_id else ""
        attempt = "" if self.try_number is None else f", try {self.try_number}"
        names = f"DAG {_shown(self.dag_id)}{task}, run {_shown(self.run_id)}{attempt}"
        return f"Launched by Airflow: {names} ({self.token})"

    def added_to(self, summary: str | None) -> str:
        """Return the summary of the user, if any, with the mark after it; once, if it is there already."""
        summary = summary or ""
        if self.token in summary:
            return summary
        return f"{summary}\n\n{self}" if summary.strip() else str(self)

    def is_on(self, run: Mapping[str, Any]) -> bool:
        """Tell whether a run, from a list or alone, has this mark."""
        summary = run.get("summary")
        return isinstance(summary, str) and self.token in summary


def newest_runs(checklist_id: str) -> tuple[dict[str, str], ...]:
    """
    Return the filters of the lists in which a mark is looked for: a template's runs, the newest first.

    Archived ones are among them: a run that was archived was launched all the same. Only the official SDK knows
    ``archived`` (tallyfy 3.1.0: ``true`` for those too), only the documentation ``status=archived`` (page "List
    processes"), so both are asked.
    """
    newest_first = {"checklist_id": checklist_id, "sort": "-created_at"}
    return {**newest_first, "archived": "true"}, {**newest_first, "status": "archived"}


def find_marked(
    pages: Iterable[Sequence[Mapping[str, Any]]], mark: LaunchMark, since: datetime | None = None
) -> Mapping[str, Any] | None:
    """
    Return the run with this mark, or ``None``; no more pages are taken than need be.

    :param pages: one of the lists that :func:`newest_runs` asks for, page by page.
    :param mark: the mark.
    :param since: when the first attempt to launch was made; older runs are not looked at, but for an hour that the
        clocks may differ. Without it, all are. A time without a zone is taken as UTC.
    """
    oldest = None if since is None else _in_utc(since) - _SKEW
    for page in pages:
        if found := next(filter(mark.is_on, page), None):
            return found
        created = list(_created(page))
        if oldest is not None and created and created[-1] < oldest and _is_newest_first(created):
            return None
    return None


def _created(runs: Iterable[Mapping[str, Any]]) -> Iterator[datetime]:
    return (created for run in runs if (created := _created_at(run)) is not None)


def _is_newest_first(moments: Iterable[datetime]) -> bool:
    return all(first >= second for first, second in pairwise(moments))


def _created_at(run: Mapping[str, Any]) -> datetime | None:
    try:
        return _in_utc(datetime.fromisoformat(str(run.get("created_at"))))
    except (ValueError, OverflowError):
        return None


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _shown(name: str) -> str:
    """Return a name as it can stand in HTML, which is what the notes are."""
    return shortened("".join(" " if character in "<>&\"'" else character for character in name), 80)
