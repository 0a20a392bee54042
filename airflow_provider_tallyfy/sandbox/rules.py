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
    Task,
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
            if action.verb in ("show", "hide"):
                hidden[action.target_step_id] = action.verb == "hide"
            elif task is not None and (rule.id, number) not in run.done_actions:
                run.done_actions.add((rule.id, number))
                if _act(action, task, now):
                    changed.append((task, action.verb))
    for step_id, task in tasks.items():
        hide = hidden.get(step_id, False)
        if task.completed_at is None and task.hidden != hide:
            task.hidden = hide
            changed.append((task, "hide" if hide else "show"))
    return changed


def _act(action: Action, task: Task, now: datetime) -> bool:
    """Do an action that is not about visibility, and return whether it changed the task."""
    if action.verb == "reopen":
        if task.completed_at is None:
            return False
        task.reopen()
    elif task.completed_at is not None:
        return False
    elif action.verb == "deadline":
        if task.deadline_set_by_hand or action.deadline is None:
            return False
        task.deadline = now + action.deadline
    else:
        before = task.owners
        task.owners = _owners(action, before)
        return task.owners != before
    return True


def _owners(action: Action, before: Owners) -> Owners:
    if action.verb in ("assign_only", "clear_assignees"):
        return action.assignees if action.verb == "assign_only" else Owners()
    after: dict[str, tuple[Any, ...]] = {}
    for kind in ("users", "guests", "groups"):
        old, named = getattr(before, kind), getattr(action.assignees, kind)
        if action.verb == "unassign":
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
    if condition.subject == "Step":
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
    if condition.statement == "any_time":
        return True
    if task.completed_at is None or task.deadline is None:
        return False
    early = task.deadline - task.completed_at
    clauses = {
        "on-time": early >= timedelta(),
        "early_24": early >= _DAY,
        "late_24": early <= -_DAY,
    }
    return any(condition.statement == clause for clause, holds in clauses.items() if holds)


def _field_value(condition: Condition, run: Run) -> tuple[FormField | None, Any]:
    forms = [(task.captures, task.taskdata) for task in run.tasks.values()]
    if condition.subject == "Prerun":
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
    "completed": lambda task: task.completed_at is not None,
    "reopened": lambda task: task.completed_at is None and task.reopened,
    "approved": lambda task: task.completed_at is not None and task.is_approved is True,
    "rejected": lambda task: task.completed_at is not None and task.is_approved is False,
    "acknowledged": lambda task: task.expires and task.is_approved is True,
    "expired": lambda task: task.expires and task.is_approved is False,
    "not_assigned": lambda task: not task.owners,
}
_FIELD_OPERATIONS: Mapping[Operation, Callable[[str, str], bool]] = {
    "equals": lambda text, statement: text == statement,
    "not_equals": lambda text, statement: text != statement,
    "equals_any": lambda text, statement: text in [each.strip() for each in statement.split(",")],
    "contains": lambda text, statement: statement in text,
    "not_contains": lambda text, statement: statement not in text,
    "greater_than": lambda text, statement: _number(text) > _number(statement),
    "less_than": lambda text, statement: _number(text) < _number(statement),
    "is_empty": lambda text, statement: text == "",
    "is_not_empty": lambda text, statement: text != "",
}
