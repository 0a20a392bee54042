"""The rules of a template, which hide and show tasks by kick-off values, task values and decisions."""

from __future__ import annotations

from typing import Any

from airflow_provider_tallyfy.sandbox import fields
from airflow_provider_tallyfy.sandbox.model import (
    Condition,
    FormField,
    Operation,
    Rule,
    Run,
    Subject,
    Task,
    Verb,
)


def apply_rules(run: Run) -> list[Task]:
    """Hide and show the run's tasks by its rules, and return those that changed.

    Steps are visible unless their template hides them by default. Of several rules on one step, the last that
    holds wins. A completed task stays as it is, as the documentation says.
    """
    hidden = {step.id: step.hidden_by_default for step in run.checklist.steps}
    for rule in run.checklist.rules:
        if _holds(rule, run):
            hidden[rule.target_step_id] = rule.verb is Verb.HIDE
    changed = []
    for task in run.tasks.values():
        hide = hidden.get(task.step_id or "", False)
        if task.completed_at is None and task.hidden != hide:
            task.hidden = hide
            changed.append(task)
    return changed


def _holds(rule: Rule, run: Run) -> bool:
    return all(_is_true(condition, run) for condition in rule.conditions)


def _is_true(condition: Condition, run: Run) -> bool:
    if condition.subject is Subject.STEP:
        task = next((task for task in run.tasks.values() if task.step_id == condition.subject_id), None)
        return task is not None and task.completed_at is not None and _decided(condition.operation, task)
    form_field, value = _field_value(condition, run)
    if form_field is None:
        return False
    text = fields.render(form_field, value)
    match condition.operation:
        case Operation.EQUALS:
            return text == condition.statement
        case Operation.NOT_EQUALS:
            return text != condition.statement
        case Operation.CONTAINS:
            return condition.statement in text
        case Operation.IS_EMPTY:
            return text == ""
        case Operation.IS_NOT_EMPTY:
            return text != ""
        case _:
            return False


def _decided(operation: Operation, task: Task) -> bool:
    match operation:
        case Operation.COMPLETED:
            return True
        case Operation.APPROVED:
            return task.is_approved is True
        case Operation.REJECTED:
            return task.is_approved is False
        case _:
            return False


def _field_value(condition: Condition, run: Run) -> tuple[FormField | None, Any]:
    if condition.subject is Subject.PRERUN:
        sources = [(run.checklist.prerun, run.prerun)]
    else:
        sources = [(task.captures, task.taskdata) for task in run.tasks.values()]
    for form_fields, values in sources:
        for form_field in form_fields:
            if form_field.id == condition.subject_id:
                return form_field, values.get(form_field.id)
    return None, None
