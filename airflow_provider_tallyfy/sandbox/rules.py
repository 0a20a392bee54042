"""The rules of a template: they hide and show tasks, assign them, move their deadlines and reopen them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_tallyfy.sandbox import fields, model

_DAY = timedelta(days=1)


def apply_rules(run: model.Run, now: datetime) -> list[tuple[model.Task, model.Verb]]:
    """Do what the run's rules say, and return the tasks that changed, each with what was done.

    Steps are visible unless their template hides them by default. Of several rules on one step, the last that
    holds wins, at each call; a completed task stays as it is (documentation). All other actions are done
    once per process.
    """
    changed: list[tuple[model.Task, model.Verb]] = []
    tasks = {task.step_id: task for task in run.tasks.values() if task.step_id is not None}
    hidden = {step.id: step.hidden_by_default for step in run.checklist.steps}
    for rule in run.checklist.rules:
        if not _holds(rule, run):
            continue
        for number, action in enumerate(rule.then_actions):
            task = tasks.get(action.target_step_id)
            if action.action_verb in ("show", "hide"):
                hidden[action.target_step_id] = action.action_verb == "hide"
            elif task is not None and (rule.id, number) not in run.done_actions:
                run.done_actions.add((rule.id, number))
                if _act(action, task, now):
                    changed.append((task, action.action_verb))
    for step_id, task in tasks.items():
        hide = hidden.get(step_id, False)
        if task.completed_at is None and task.hidden != hide:
            task.hidden = hide
            changed.append((task, "hide" if hide else "show"))
    return changed


def _act(action: model.Action, task: model.Task, now: datetime) -> bool:
    """Do an action that is not about visibility, and return whether it changed the task."""
    if action.action_verb == "reopen":
        if task.completed_at is None:
            return False
        task.reopen()
    elif task.completed_at is not None:
        return False
    elif action.action_verb == "deadline":
        if task.deadline_set_by_hand or action.deadline is None:
            return False
        task.deadline = now + action.deadline
    else:
        before = task.owners
        task.owners = _owners(action, before)
        return task.owners != before
    return True


def _owners(action: model.Action, before: model.Owners) -> model.Owners:
    if action.action_verb in ("assign_only", "clear_assignees"):
        return action.assignees if action.action_verb == "assign_only" else model.Owners()
    after: dict[str, tuple[Any, ...]] = {}
    for kind in ("users", "guests", "groups"):
        old, named = getattr(before, kind), getattr(action.assignees, kind)
        if action.action_verb == "unassign":
            after[kind] = tuple(each for each in old if each not in named)
        else:
            after[kind] = tuple(dict.fromkeys(old + named))
    return model.Owners(**after)


def _holds(rule: model.Rule, run: model.Run) -> bool:
    holds = True
    for number, condition in enumerate(rule.conditions):
        is_true = _is_true(condition, run)
        holds = holds or is_true if number and condition.logic == "or" else holds and is_true
    return holds


def _is_true(condition: model.Condition, run: model.Run) -> bool:
    if condition.conditionable_type == "Step":
        task = next((task for task in run.tasks.values() if task.step_id == condition.conditionable_id), None)
        happened = _STEP_OPERATIONS.get(condition.operation)
        return task is not None and happened is not None and happened(task) and _in_time(condition, task)
    form_field, value = _field_value(condition, run)
    compare = _FIELD_OPERATIONS.get(condition.operation)
    return (
        form_field is not None
        and compare is not None
        and compare(fields.render(form_field, value), condition.statement)
    )


def _in_time(condition: model.Condition, task: model.Task) -> bool:
    """Return whether a step ended at the time of a condition; one without a time never holds (tallyfy/mcp-public)."""
    if condition.statement == "any_time":
        return True
    if task.completed_at is None or task.deadline is None:
        return False
    early = task.deadline - task.completed_at
    clauses = {"on-time": early >= timedelta(), "early_24": early >= _DAY, "late_24": early <= -_DAY}
    return clauses.get(condition.statement, False)


def _field_value(condition: model.Condition, run: model.Run) -> tuple[model.FormField | None, Any]:
    forms = [(task.captures, task.taskdata) for task in run.tasks.values()]
    if condition.conditionable_type == "Prerun":
        forms = [(run.checklist.prerun, run.prerun)]
    for form_fields, values in forms:
        for form_field in form_fields:
            if form_field.id == condition.conditionable_id:
                return form_field, values.get(form_field.id)
    return None, None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


_STEP_OPERATIONS: Mapping[model.Operation, Callable[[model.Task], bool]] = {
    "completed": lambda task: task.completed_at is not None,
    "reopened": lambda task: task.completed_at is None and task.reopened,
    "approved": lambda task: task.completed_at is not None and task.is_approved is True,
    "rejected": lambda task: task.completed_at is not None and task.is_approved is False,
    "acknowledged": lambda task: task.expires and task.is_approved is True,
    "expired": lambda task: task.expires and task.is_approved is False,
    "not_assigned": lambda task: not task.owners,
}
_FIELD_OPERATIONS: Mapping[model.Operation, Callable[[str, str], bool]] = {
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
