"""The rules of a template: they hide and show tasks, assign them, move their deadlines and reopen them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_tallyfy.sandbox import fields
from airflow_provider_tallyfy.sandbox.model import (
    Action,
    Condition,
    FormField,
    Operation,
    Owners,
    Rule,
    Run,
    Subject,
    Task,
    TimeClause,
    Verb,
)

_DAY = timedelta(days=1)


def apply_rules(run: Run, now: datetime) -> list[tuple[Task, Verb]]:
    """Do what the run's rules say, and return the tasks that changed, each with what was done.

    Steps are visible unless their template hides them by default. Of several rules on one step, the last that
    holds wins, at each call; a completed task stays as it is, as the documentation says. All other actions are done
    once per process.
    """
    changed: list[tuple[Task, Verb]] = []
    tasks = {task.step_id: task for task in run.tasks.values() if task.step_id is not None}
    hidden = {step.id: step.hidden_by_default for step in run.checklist.steps}
    for rule in run.checklist.rules:
        if not _holds(rule, run):
            continue
        for number, action in enumerate(rule.actions):
            task = tasks.get(action.target_step_id)
            if action.verb in (Verb.SHOW, Verb.HIDE):
                hidden[action.target_step_id] = action.verb is Verb.HIDE
            elif task is not None and (rule.id, number) not in run.done_actions:
                run.done_actions.add((rule.id, number))
                if _act(action, task, now):
                    changed.append((task, action.verb))
    for step_id, task in tasks.items():
        hide = hidden.get(step_id, False)
        if task.completed_at is None and task.hidden != hide:
            task.hidden = hide
            changed.append((task, Verb.HIDE if hide else Verb.SHOW))
    return changed


def _act(action: Action, task: Task, now: datetime) -> bool:
    """Do an action that is not about visibility, and return whether it changed the task."""
    if action.verb is Verb.REOPEN:
        if task.completed_at is None:
            return False
        task.reopen()
    elif task.completed_at is not None:
        return False
    elif action.verb is Verb.DEADLINE:
        if task.deadline_set_by_hand or action.deadline is None:
            return False
        task.deadline = now + action.deadline
    else:
        before = task.owners
        task.owners = _owners(action, before)
        return task.owners != before
    return True


def _owners(action: Action, before: Owners) -> Owners:
    if action.verb in (Verb.ASSIGN_ONLY, Verb.CLEAR_ASSIGNEES):
        return action.assignees if action.verb is Verb.ASSIGN_ONLY else Owners()
    after: dict[str, tuple[Any, ...]] = {}
    for kind in ("users", "guests", "groups"):
        old, named = getattr(before, kind), getattr(action.assignees, kind)
        if action.verb is Verb.UNASSIGN:
            after[kind] = tuple(each for each in old if each not in named)
        else:
            after[kind] = tuple(dict.fromkeys(old + named))
    return Owners(**after)


def _holds(rule: Rule, run: Run) -> bool:
    holds = True
    for number, condition in enumerate(rule.conditions):
        is_true = _is_true(condition, run)
        holds = holds or is_true if number and condition.logic == "or" else holds and is_true
    return holds


def _is_true(condition: Condition, run: Run) -> bool:
    if condition.subject is Subject.STEP:
        task = next((task for task in run.tasks.values() if task.step_id == condition.subject_id), None)
        happened = _STEP_OPERATIONS.get(condition.operation)
        return task is not None and happened is not None and happened(task) and _in_time(condition, task)
    form_field, value = _field_value(condition, run)
    compare = _FIELD_OPERATIONS.get(condition.operation)
    return (
        form_field is not None
        and compare is not None
        and compare(fields.render(form_field, value), condition.statement)
    )


def _in_time(condition: Condition, task: Task) -> bool:
    """Return whether a step ended when its condition says; tallyfy/mcp-public: one without a time never holds."""
    if condition.statement == TimeClause.ANY_TIME:
        return True
    if task.completed_at is None or task.deadline is None:
        return False
    early = task.deadline - task.completed_at
    clauses = {
        TimeClause.ON_TIME: early >= timedelta(),
        TimeClause.EARLY: early >= _DAY,
        TimeClause.LATE: early <= -_DAY,
    }
    return any(condition.statement == clause for clause, holds in clauses.items() if holds)


def _field_value(condition: Condition, run: Run) -> tuple[FormField | None, Any]:
    forms = [(task.captures, task.taskdata) for task in run.tasks.values()]
    if condition.subject is Subject.PRERUN:
        forms = [(run.checklist.prerun, run.prerun)]
    for form_fields, values in forms:
        for form_field in form_fields:
            if form_field.id == condition.subject_id:
                return form_field, values.get(form_field.id)
    return None, None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


_STEP_OPERATIONS: Mapping[Operation, Callable[[Task], bool]] = {
    Operation.COMPLETED: lambda task: task.completed_at is not None,
    Operation.REOPENED: lambda task: task.completed_at is None and task.reopened,
    Operation.APPROVED: lambda task: task.completed_at is not None and task.is_approved is True,
    Operation.REJECTED: lambda task: task.completed_at is not None and task.is_approved is False,
    Operation.ACKNOWLEDGED: lambda task: task.task_type.expires and task.is_approved is True,
    Operation.EXPIRED: lambda task: task.task_type.expires and task.is_approved is False,
    Operation.NOT_ASSIGNED: lambda task: not task.owners,
}
_FIELD_OPERATIONS: Mapping[Operation, Callable[[str, str], bool]] = {
    Operation.EQUALS: lambda text, statement: text == statement,
    Operation.NOT_EQUALS: lambda text, statement: text != statement,
    Operation.EQUALS_ANY: lambda text, statement: text in [each.strip() for each in statement.split(",")],
    Operation.CONTAINS: lambda text, statement: statement in text,
    Operation.NOT_CONTAINS: lambda text, statement: statement not in text,
    Operation.GREATER_THAN: lambda text, statement: _number(text) > _number(statement),
    Operation.LESS_THAN: lambda text, statement: _number(text) < _number(statement),
    Operation.IS_EMPTY: lambda text, statement: text == "",
    Operation.IS_NOT_EMPTY: lambda text, statement: text != "",
}
