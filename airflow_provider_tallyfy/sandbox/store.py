"""The sandbox's state, in memory: collections, lookups, new ids, the activity feed and the hourly caps.

It does no I/O and has no threads: one event loop uses it, and a change is one function call without an ``await``, so it
is atomic. The operations on runs, tasks and threads are in other modules.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from zlib import crc32

from pydantic import BaseModel, Field

from airflow_provider_tallyfy.sandbox import model
from airflow_provider_tallyfy.sandbox.access import HOURLY_LIMITS, Access, Limit, Limiter
from airflow_provider_tallyfy.sandbox.behavior import Behavior
from airflow_provider_tallyfy.sandbox.clock import Clock, to_working_day
from airflow_provider_tallyfy.sandbox.errors import invalid, not_found, rate_limited

ORGANIZATION = "sandbox"
_ALWAYS = datetime.min.replace(tzinfo=UTC)
_Item = TypeVar("_Item", bound=model.Run | model.Task | model.Checklist)
_Kept = TypeVar("_Kept", bound=model.Run | model.Task)


def association_id(item_id: str, other_id: str) -> int:
    """Return the number of an association, such as that of a process with a tag, by which it is removed."""
    return crc32(f"{item_id}/{other_id}".encode())


def associated(pairs: Iterable[tuple[_Item, str]], number: object) -> tuple[_Item, str]:
    """Return the item and the id that a number associates, or raise 404."""
    for item, other_id in pairs:
        if str(association_id(item.id, other_id)) == str(number):
            return item, other_id
    raise not_found()


class FeedFaults(BaseModel):
    """What is wrong with the activity feed: all appears ``delay`` seconds late, and ``missing`` verbs never do."""

    delay: float = Field(default=0, ge=0)
    missing: list[str] = []


def _snapshot(item: _Kept) -> _Kept:
    """Copy a run or task, with those of its parts that change in place."""
    changing: dict[str, Any] = {"threads": [replace(thread) for thread in item.threads]}
    if isinstance(item, model.Task):
        changing["taskdata"] = dict(item.taskdata)
    else:
        changing["prerun"] = dict(item.prerun)
        changing["tasks"] = {task.id: _snapshot(task) for task in item.tasks.values()}
    return replace(item, **changing)


@dataclass
class Store:
    """The state of one sandbox."""

    clock: Clock = field(default_factory=Clock)
    members: dict[int, model.Member] = field(default_factory=dict)
    guests: dict[str, model.Guest] = field(default_factory=dict)
    groups: dict[str, model.Group] = field(default_factory=dict)
    tags: dict[str, model.Tag] = field(default_factory=dict)
    folders: dict[str, model.Folder] = field(default_factory=dict)
    checklists: dict[str, model.Checklist] = field(default_factory=dict)
    custom_field_keys: dict[str, model.CustomFieldKey] = field(default_factory=dict)
    runs: dict[str, model.Run] = field(default_factory=dict)
    tasks: dict[str, model.Task] = field(default_factory=dict)
    # The tasks that end themselves.
    expiring: dict[str, model.Task] = field(default_factory=dict)
    files: dict[str, model.File] = field(default_factory=dict)
    watchers: dict[int, model.Watcher] = field(default_factory=dict)
    activities: list[model.Activity] = field(default_factory=list)
    feed_faults: FeedFaults = field(default_factory=FeedFaults)
    version: int = 0
    listeners: set[Callable[[], None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.access = Access(self.clock, self.members)
        self.behavior = Behavior()
        self.limiter = Limiter()
        # Of runs and one-off tasks, the state after each of their changes, for as long as a read may show it.
        self._versions: dict[str, list[tuple[datetime, model.Run | model.Task | None]]] | None = None
        self._increment = 1000

    def now(self) -> datetime:
        """Return the current time of the sandbox."""
        return self.clock.now()

    def new_id(self) -> str:
        """Return an id like Tallyfy's: 32 hexadecimal digits."""
        return uuid.uuid4().hex

    def new_increment(self) -> int:
        """Return the next of the short numbers that users see."""
        self._increment += 1
        return self._increment

    def add_tasks(self, tasks: Iterable[model.Task]) -> None:
        """Add new tasks."""
        for task in tasks:
            self.tasks[task.id] = task
            if task.expires:
                self.expiring[task.id] = task

    def remove_task(self, task_id: str) -> None:
        """Remove a task for good."""
        del self.tasks[task_id]
        self.expiring.pop(task_id, None)

    def working_time(self, moment: datetime) -> datetime:
        """Return the deadline that a moment makes, see :attr:`Behavior.working_days`."""
        return moment if self.behavior.working_days == "all" else to_working_day(moment)

    def behave(self, behavior: Behavior) -> None:
        """Change what the sandbox does.

        Reads that lag show nothing older than the state at the moment when the lag was set.
        """
        self.behavior = behavior
        if not self._longest_lag:
            self._versions = None
        elif self._versions is None:
            one_offs = (task for task in self.tasks.values() if task.run_id is None)
            items: list[model.Run | model.Task] = [*self.runs.values(), *one_offs]
            self._versions = {item.id: [(_ALWAYS, _snapshot(item))] for item in items}

    def view(self, behavior: Behavior, lag: float) -> Store:
        """Return the store for reading only, with another behavior, and the runs and tasks of some seconds ago."""
        versions = self._versions if lag > 0 else None
        if behavior is self.behavior and versions is None:
            return self
        view = copy.copy(self)
        view.behavior = behavior
        if versions is not None:
            moment = self.now() - timedelta(seconds=lag)
            view.runs, view.tasks = {}, {}
            for states in versions.values():
                item = next((item for at, item in reversed(states) if at <= moment), None)
                if isinstance(item, model.Run):
                    view.runs[item.id] = item
                    view.tasks |= item.tasks
                elif item is not None:
                    view.tasks[item.id] = item
        return view

    def changed(self, item: model.Run | model.Task | None = None) -> None:
        """Keep the new state for reads that lag, and call the listeners.

        :param item: the run or task that was changed, created or deleted.
        """
        if self._versions is not None and item is not None:
            now = self.now()
            item_id = (item.run_id or item.id) if isinstance(item, model.Task) else item.id
            kept = self.runs.get(item_id) or self.tasks.get(item_id)
            states = self._versions.setdefault(item_id, [])
            states.append((now, None if kept is None else _snapshot(kept)))
            oldest_read = now - timedelta(seconds=self._longest_lag)
            while len(states) > 1 and states[1][0] <= oldest_read:
                del states[0]
        self.version += 1
        for listener in tuple(self.listeners):
            listener()

    @property
    def _longest_lag(self) -> float:
        return max(self.behavior.run_lag, self.behavior.list_lag)

    def checklist(self, checklist_id: str) -> model.Checklist:
        """Return a template that is not archived, or raise 404."""
        checklist = self.checklists.get(checklist_id)
        if checklist is None or checklist.archived_at is not None:
            raise not_found()
        return checklist

    def run(self, run_id: str, caller: model.Member) -> model.Run:
        """Return a run that the caller may see, or raise 404."""
        run = self.runs.get(run_id)
        if run is None or not self.may_see(run, caller):
            raise not_found()
        return run

    def task(self, task_id: str, caller: model.Member, run_id: str | None = None) -> model.Task:
        """Return a task that the caller may see, or raise 404; the tasks of an archived run are gone with it.

        :param run_id: the run that the task must belong to, if the path names one.
        """
        task = self.tasks.get(task_id)
        if (
            task is None
            or run_id not in (None, task.run_id)
            or self.is_archived(task)
            or not self.may_see_task(task, caller)
        ):
            raise not_found()
        return task

    def run_of(self, task: model.Task) -> model.Run | None:
        """Return the run of a task, or ``None`` for a one-off task."""
        return None if task.run_id is None else self.runs[task.run_id]

    def is_archived(self, task: model.Task) -> bool:
        """Return whether a task is archived, by itself or with its run."""
        run = self.run_of(task)
        return task.archived_at is not None or (run is not None and run.archived_at is not None)

    def may_see(self, run: model.Run, caller: model.Member) -> bool:
        """Return whether the caller may see a run; a light member sees only those they take part in."""
        return (
            caller.role != "Light"
            or caller.id in (run.owner_id, run.started_by, *run.users)
            or any(self.is_assigned(task, caller) for task in run.tasks.values())
        )

    def may_see_task(self, task: model.Task, caller: model.Member) -> bool:
        """Return whether the caller may see a task; a light member sees those of their runs, and their own."""
        run = self.run_of(task)
        if run is not None:
            return self.may_see(run, caller)
        return caller.role != "Light" or self.is_assigned(task, caller)

    def is_assigned(self, task: model.Task, member: model.Member) -> bool:
        """Return whether a task is assigned to a member, directly or by a group."""
        return member.id in task.owners.users or any(
            member.id in self.groups[group_id].members
            for group_id in task.owners.groups
            if group_id in self.groups
        )

    def check_owners(self, owners: model.Owners, field: str = "owners.", *, users: str = "users") -> None:
        """Raise 422 unless the members and groups among assignees exist, and the guests are email addresses.

        :param field: what stands before ``users``, ``guests`` and ``groups`` in the names of the fields.
        :param users: the name of the field with the members.
        """
        errors = {}
        if any(user not in self.members for user in owners.users):
            errors[f"{field}{users}"] = ["The selected user is not a member of the organization."]
        if any("@" not in guest for guest in owners.guests):
            errors[f"{field}guests"] = ["Each guest must be a valid email address."]
        if any(group not in self.groups for group in owners.groups):
            errors[f"{field}groups"] = ["The selected group is invalid."]
        if errors:
            raise invalid(errors)

    def spend(self, action: str) -> None:
        """Count one use of an action in :data:`HOURLY_LIMITS`, or raise 429 if the hour's limit is reached."""
        limit = HOURLY_LIMITS[action]
        _, retry_after = self.limiter.take([Limit(limit, 3600)], "*", action, self.now())
        if retry_after is not None:
            reached = f"You've reached the hourly limit for {action} ({limit} per hour per organization)."
            raise rate_limited(f"{reached} Please try again later.", retry_after)

    def record(
        self,
        verb: str,
        entity: model.Task | model.Run,
        actor_id: int,
        description: str,
        *,
        text: str | None = None,
        entry_type: str | None = None,
    ) -> None:
        """Add an entry to the activity feed."""
        is_task = isinstance(entity, model.Task)
        kind = "App\\Models\\Task" if is_task else "App\\Models\\Run"
        run_id = entity.run_id if isinstance(entity, model.Task) else entity.id
        category = "Comment" if verb in ("commented", "issue-reported", "issue-resolved") else None
        self.activities.append(
            model.Activity(
                id=len(self.activities) + 1,
                verb=verb,
                type=entry_type or category or ("Task" if is_task else "Process"),
                description=description,
                actor_id=actor_id,
                auditable_type=kind,
                auditable_id=entity.id,
                parentable_type="App\\Models\\Run" if run_id else kind,
                parentable_id=run_id or entity.id,
                created_at=self.now(),
                text=text,
            )
        )
