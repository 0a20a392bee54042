"""
The kinds of events, and how to find them in a run.

An event is derived from a field of the run or of a task: a time, or the id of a comment. The activity feed and the
lists of runs only name runs to read. So an event has the same id however and whenever it is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_tallyfy.protocol.responses import is_id, parse_datetime
from airflow_provider_tallyfy.protocol.tasks import decision, index_tasks, is_approval, read_tasks
from airflow_provider_tallyfy.protocol.urls import identifier

PROCESS_EVENTS = {
    "process.launched": "created_at",
    "process.completed": "completed_at",
    "process.archived": "archived_at",
}
"""Events of a process, each with the field of a run that says when it happened."""
TASK_EVENTS = (
    "task.completed",
    "task.reopened",
    "task.comment_added",
    "task.issue_raised",
    "task.issue_resolved",
)
THREAD_EVENTS = TASK_EVENTS[2:]
EVENTS = (*PROCESS_EVENTS, *TASK_EVENTS)
DECISIONS = ("approved", "rejected")
_ISSUE = "problem"  # the labels of threads, as the API has them
_COMMENTS = (None, "", "comment", "improvement", "advice")


@dataclass(frozen=True, slots=True)
class Event:
    """
    Something that a user did.

    :param name: one of :data:`EVENTS`.
    :param id: the same for the same event, however it is found.
    :param occurred_at: when, by Tallyfy's clock.
    :param task: the task that it happened to, or ``None`` for a process.
    :param thread: the comment or issue that it is about, if any.
    :param undone_at: for a reopened task, the time of the completion that was undone.
    """

    name: str
    id: str
    occurred_at: datetime
    task: Mapping[str, Any] | None = None
    thread: Mapping[str, Any] | None = None
    undone_at: int | None = None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """
    Which events are wanted.

    :param events: some of :data:`EVENTS`.
    :param checklist_id: only processes of this template; ``None`` for all.
    :param task: only the task with this id, alias or title; ``None`` for all.
    :param decision: only approvals that were ``approved``, or only those that were ``rejected``; ``None`` for all.
    """

    events: tuple[str, ...]
    checklist_id: str | None = None
    task: str | None = None
    decision: str | None = None

    @classmethod
    def checked(
        cls,
        events: Sequence[str] | str,
        checklist_id: str | None = None,
        task: str | None = None,
        decision: str | None = None,
    ) -> EventFilter:
        """
        Return the filter for the arguments of a trigger.

        :raises ValueError: for arguments that no event can match.
        """
        if not isinstance(events, (str, list, tuple)):  # the order of a set differs between processes
            raise ValueError(f"events is {events!r}; give a name, or a list of names.")
        names = (events,) if isinstance(events, str) else tuple(events)
        if not names:
            raise ValueError("events is empty; name at least one event.")
        if unknown := [name for name in names if name not in EVENTS]:
            raise ValueError(f"events has unknown names {unknown}; known are {', '.join(EVENTS)}.")
        of_processes = [name for name in names if name in PROCESS_EVENTS]
        if checklist_id is not None:
            checklist_id = identifier(checklist_id, "checklist_id")
        if task is not None and (not isinstance(task, str) or not task.strip()):
            raise ValueError(f"task is {task!r}; give a non-empty text, or leave it out.")
        if task is not None and of_processes:
            raise ValueError(f"task does not go with {', '.join(of_processes)}, which are about no task.")
        if decision is not None:
            if decision not in DECISIONS:
                raise ValueError(f"decision is {decision!r}; known are {', '.join(DECISIONS)}.")
            if names != ("task.completed",):
                raise ValueError("decision goes with events='task.completed' only.")
        return cls(tuple(dict.fromkeys(names)), checklist_id, task, decision)

    @property
    def needs_tasks(self) -> bool:
        """Whether a run has to be read with its tasks."""
        return any(name in TASK_EVENTS for name in self.events)

    @property
    def with_(self) -> tuple[str, ...]:
        """What a run has to include (page "Get process")."""
        if any(name in THREAD_EVENTS for name in self.events):
            return ("tasks", "tasks.threads")
        return ("tasks",) if self.needs_tasks else ()

    def matches(self, run: Mapping[str, Any]) -> bool:
        """Return whether events of this run are wanted."""
        return self.checklist_id is None or str(run.get("checklist_id")) == self.checklist_id

    def tasks_of(self, run: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        """
        Return the tasks of a run whose events are wanted.

        :raises MalformedResponseError: the run's tasks cannot be read.
        """
        tasks = read_tasks(run)
        return tasks if self.task is None else index_tasks(tasks).matches(self.task)


def find_events(
    run: Mapping[str, Any],
    wanted: EventFilter,
    completed_at: Callable[[str], int | None] = lambda task_id: None,
) -> list[Event]:
    """
    Return all wanted events of a run, the oldest first.

    :param run: with :attr:`EventFilter.with_`.
    :param wanted: which events.
    :param completed_at: returns when a task was completed, in seconds since the epoch, if it was seen completed.
    :raises MalformedResponseError: the run's tasks cannot be read.
    """
    if not wanted.matches(run) or not is_id(run.get("id")):
        return []
    found = [*_process_events(run, wanted)]
    if wanted.needs_tasks:
        for task in wanted.tasks_of(run):
            found += _task_events(run, task, wanted, completed_at(str(task["id"])))
    # The time of a reopening may be that of the completion after it.
    return sorted(found, key=lambda event: (event.occurred_at, event.undone_at is None, event.id))


def completions(run: Mapping[str, Any], wanted: EventFilter) -> Iterator[tuple[str, int]]:
    """Yield the ids of the completed tasks of a run, with the time in seconds since the epoch."""
    if wanted.matches(run):
        for task in wanted.tasks_of(run):
            if (completed_at := completion(task)) is not None:
                yield str(task["id"]), completed_at


def completion(task: Mapping[str, Any]) -> int | None:
    """Return when a task was completed, in seconds since the epoch; ``None`` if it is open."""
    moment = _moment(task.get("completed_at"))
    return None if moment is None else int(moment.timestamp())


def reopened_id(task_id: str, undone_at: int) -> str:
    """Return the id of the event that a completion was undone."""
    return _event_id("task.reopened", task_id, datetime.fromtimestamp(undone_at, UTC))


def _process_events(run: Mapping[str, Any], wanted: EventFilter) -> Iterator[Event]:
    for name, field in PROCESS_EVENTS.items():
        moment = _moment(run.get(field))
        if name in wanted.events and moment is not None:
            yield Event(name, _event_id(name, run["id"], moment), moment)


def _task_events(
    run: Mapping[str, Any], task: Mapping[str, Any], wanted: EventFilter, undone_at: int | None
) -> Iterator[Event]:
    completed_at = _moment(task.get("completed_at"))
    if "task.completed" in wanted.events and completed_at is not None and _is_wanted_decision(task, wanted):
        yield Event(
            "task.completed", _event_id("task.completed", task["id"], completed_at), completed_at, task
        )
    if "task.reopened" in wanted.events and undone_at is not None:
        changed_at = _undone_at(run, completed_at, undone_at)
        if changed_at is not None:
            yield Event(
                "task.reopened",
                reopened_id(str(task["id"]), undone_at),
                changed_at,
                task,
                undone_at=undone_at,
            )
    if any(name in wanted.events for name in THREAD_EVENTS):
        yield from _thread_events(task, wanted)


def _undone_at(run: Mapping[str, Any], completed_at: datetime | None, undone_at: int) -> datetime | None:
    """
    Return a time by which a completion was undone; ``None`` if it was not.

    If the task is open, the run may be an old state from before the completion. In that case, ``last_updated`` is
    earlier than the completion.
    """
    if completed_at is not None:
        return completed_at if int(completed_at.timestamp()) > undone_at else None
    changed_at = _moment(run.get("last_updated"))
    return changed_at if changed_at is not None and changed_at.timestamp() > undone_at + 1 else None


def _is_wanted_decision(task: Mapping[str, Any], wanted: EventFilter) -> bool:
    if wanted.decision is None:
        return True
    return is_approval(task) and decision(task) is (wanted.decision == "approved")


def _thread_events(task: Mapping[str, Any], wanted: EventFilter) -> Iterator[Event]:
    threads = {str(thread["id"]): thread for thread in _threads(task)}
    for thread_id, thread in threads.items():
        label = thread.get("label")
        if label == _ISSUE:
            name = "task.issue_raised"
            resolve_id = thread.get("resolve_id")
            if "task.issue_resolved" in wanted.events and is_id(resolve_id):
                answer = threads.get(str(resolve_id), {})
                moment = _moment(answer.get("created_at")) or _moment(thread.get("updated_at"))
                if moment is not None:
                    resolved_id = f"task.issue_resolved/{thread_id}/{resolve_id}"
                    yield Event("task.issue_resolved", resolved_id, moment, task, thread)
        elif label in _COMMENTS:
            name = "task.comment_added"
        else:
            continue
        moment = _moment(thread.get("created_at"))
        if name in wanted.events and moment is not None:
            yield Event(name, f"{name}/{thread_id}", moment, task, thread)


def _threads(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    threads = task.get("threads")
    if isinstance(threads, Mapping):
        threads = threads.get("data")
    for thread in threads if isinstance(threads, list) else ():
        if isinstance(thread, Mapping) and is_id(thread.get("id")):
            yield thread


def _moment(value: Any) -> datetime | None:
    """Return a time in UTC, or ``None`` if it is not valid there."""
    moment = parse_datetime(value)
    try:
        return None if moment is None else moment.astimezone(UTC)
    except OverflowError:
        return None


def _event_id(name: str, subject_id: Any, moment: datetime) -> str:
    # To the second: Tallyfy returns the same time with or without milliseconds.
    return f"{name}/{subject_id}/{moment:%Y%m%dT%H%M%SZ}"
