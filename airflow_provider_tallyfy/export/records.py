"""Make records of runs and tasks, with their answers, from what Tallyfy returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_tallyfy.export.columns import Column, ColumnType, Layout
from airflow_provider_tallyfy.protocol.forms.fields import (
    FormField,
    read_form_fields,
    read_kickoff_fields,
    read_task_fields,
    stored_values,
)
from airflow_provider_tallyfy.protocol.responses import is_id
from airflow_provider_tallyfy.protocol.tasks import decision, is_approval, is_hidden, read_steps, read_tasks
from airflow_provider_tallyfy.protocol.urls import is_identifier

RECORDS = ("runs", "tasks")
WITH: Mapping[str, tuple[str, ...]] = {
    "runs": ("ko_form_fields", "form_fields"),
    "tasks": ("tasks", "tasks.form_fields"),
}
"""What a list of runs has to include (page "List processes"), so that no run has to be read by itself."""

_T, _I, _N, _B, _D, _J = (
    ColumnType.TEXT,
    ColumnType.INTEGER,
    ColumnType.NUMBER,
    ColumnType.BOOLEAN,
    ColumnType.DATETIME,
    ColumnType.JSON,
)
RUN_COLUMNS = (
    Column("id", _T, "Id of the run"),
    Column("increment_id", _I, "Number of the run in its organization"),
    Column("name", _T, "Name of the run"),
    Column("summary", _T, "Notes of the run"),
    Column("status", _T, "active, complete, problem, issue, improvement, delayed or archived"),
    Column("type", _T, "Type of the template"),
    Column("checklist_id", _T, "Id of the template"),
    Column("checklist_title", _T, "Title of the template when the run was launched"),
    Column("parent_id", _T, "Id of the run that this one belongs to"),
    Column("owner_id", _I, "Id of the member who owns the run"),
    Column("started_by", _I, "Id of the member who launched the run"),
    Column("users", _J, "Ids of the members of the run"),
    Column("groups", _J, "Ids of the groups of the run"),
    Column("is_public", _B, "Whether everyone in the organization sees the run"),
    Column("has_open_issue", _B, "Whether an issue on the run is open"),
    Column("late_tasks", _I, "How many tasks are late"),
    Column("tasks_complete", _I, "How many tasks are completed"),
    Column("tasks_total", _I, "How many tasks there are"),
    Column("progress_percent", _N, "Share of completed tasks in percent"),
    Column("created_at", _D, "When the run was created"),
    Column("started_at", _D, "When the run was started"),
    Column("last_updated", _D, "When the run changed last"),
    Column("due_date", _D, "When the run is due"),
    Column("completed_at", _D, "When the run was completed"),
    Column("archived_at", _D, "When the run was archived"),
    Column("custom_fields", _J, "Values of the organization's custom fields"),
    Column("has_task_answers", _B, "Whether answers of tasks could be read; not once a run is archived"),
)
TASK_COLUMNS = (
    Column("id", _T, "Id of the task"),
    Column("increment_id", _I, "Number of the task in its organization"),
    Column("run_id", _T, "Id of the run"),
    Column("run_name", _T, "Name of the run"),
    Column("run_last_updated", _D, "When the run changed last"),
    Column("checklist_id", _T, "Id of the template"),
    Column("step_id", _T, "Id of the step of the template"),
    Column("title", _T, "Title of the task"),
    Column("alias", _T, "Alias of the task"),
    Column("status", _T, "not-started, in-progress or completed"),
    Column("task_type", _T, "task, approval, expiring, email or expiring_email"),
    Column("position", _I, "Position in the run"),
    Column("is_approved", _B, "What was decided on an approval"),
    Column("owners", _J, "Assignees as Tallyfy has them: users, guests and groups"),
    Column("completer_id", _I, "Id of the member who completed the task"),
    Column("created_at", _D, "When the task was created"),
    Column("started_at", _D, "When the task started"),
    Column("deadline", _D, "When the task is due"),
    Column("completed_at", _D, "When the task was completed"),
    Column("last_updated", _D, "When the task changed last"),
)
COLUMNS = {"runs": RUN_COLUMNS, "tasks": TASK_COLUMNS}
Answers = list[tuple[FormField, Any]]


def layout_of(records: str, checklists: Iterable[Mapping[str, Any]]) -> Layout:
    """
    Return the columns of an export.

    :param records: ``runs`` or ``tasks``.
    :param checklists: the templates with their steps.
    """

    def fields(checklist: Mapping[str, Any]) -> list[FormField]:
        of_steps = [field for step in read_steps(checklist) for field in read_task_fields(step)]
        return [*(read_kickoff_fields(checklist) if records == "runs" else ()), *of_steps]

    return Layout(COLUMNS[records], map(fields, checklists))


def has_task_fields(checklist: Mapping[str, Any]) -> bool:
    """Return whether the tasks of a template's runs have form fields."""
    return any(read_task_fields(step) for step in read_steps(checklist))


def listed_tasks(run: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """Return the tasks that a list shows with a run, if it shows the answers of each; otherwise ``None``."""
    tasks = read_tasks(run) if run.get("tasks") is not None else None
    if tasks is None or not all(_shows_values(task.get("form_fields")) for task in tasks):
        return None
    return list(tasks)


def listed_answers(run: Mapping[str, Any]) -> Answers | None:
    """Return the answers of all tasks that a list shows with a run; ``None`` if it does not show them."""
    entries = run.get("form_fields")
    return task_answers({"form_fields": entries}) if _shows_values(entries) else None


def task_answers(task: Mapping[str, Any]) -> Answers:
    """Return the answers of a task that was read ``with=form_fields``."""
    stored = stored_values(task)
    return [(field, stored.get(field.id)) for field in read_task_fields(task)]


def kickoff_answers(run: Mapping[str, Any], fields: Sequence[FormField]) -> Answers:
    """
    Return the answers of a run's kick-off form; each run has their values (page "List processes").

    :param fields: the fields of the template's kick-off form, if the run does not show its own.
    """
    known = {field.id: field for field in (*fields, *read_form_fields(run.get("ko_form_fields")))}
    stored = run.get("prerun")
    stored = stored if isinstance(stored, Mapping) else {}  # PHP writes an empty map as a list
    unknown = {key: FormField(str(key), "", "", "unknown") for key in stored if key not in known}
    return [(field, stored.get(key)) for key, field in (known | unknown).items()]


def run_record(
    layout: Layout, run: Mapping[str, Any], answers: Answers, *, has_task_answers: bool
) -> dict[str, Any]:
    """Return the record of a run."""
    progress = run.get("progress")
    counts = progress if isinstance(progress, Mapping) else {"percent": progress}
    values = {
        **run,
        "tasks_complete": counts.get("complete"),
        "tasks_total": counts.get("total"),
        "progress_percent": counts.get("percent"),
        "users": _ids_of(run.get("users")),
        "groups": _ids_of(run.get("groups")),
        "has_task_answers": has_task_answers,
    }
    return layout.lay_out(values, answers)


def task_record(layout: Layout, run: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a task of a run."""
    values = {
        **task,
        "run_id": run.get("id"),
        "run_name": run.get("name"),
        "run_last_updated": run.get("last_updated"),
        "checklist_id": run.get("checklist_id"),
        "is_approved": decision(task) if is_approval(task) else None,
    }
    return layout.lay_out(values, task_answers(task))


def visible(tasks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the tasks that no rule hides; a run itself does not show hidden ones either."""
    return [task for task in tasks if not is_hidden(task)]


def map_files(
    record: dict[str, Any],
    layout: Layout,
    of_answers: Answers,
    copy: Callable[[Mapping[str, Any]], str | None],
) -> None:
    """
    Copy the files that are answers of a record, and add the path of each copy to the record.

    :param copy: copies a file of Tallyfy and returns the path of the copy; ``None`` if it cannot be copied.
    """
    copies = {
        str(entry["id"]): path
        for field, value in of_answers
        if field.field_type == "file" and isinstance(value, list)
        for entry in value
        if isinstance(entry, Mapping)
        and entry.get("source") != "url"
        and is_id(entry.get("id"))
        and is_identifier(str(entry["id"]))
        and (path := copy(entry)) is not None
    }
    for column in layout.columns:
        if column.type is ColumnType.JSON:
            record[column.name] = _with_paths(record[column.name], copies)


def _with_paths(value: Any, copies: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_with_paths(item, copies) for item in value]
    if isinstance(value, dict):
        path = copies.get(str(value.get("id"))) if "filename" in value else None
        value = {key: _with_paths(item, copies) for key, item in value.items()}
        return value if path is None else {**value, "path": path}
    return value


def _entries(form_fields: Any) -> list[Mapping[str, Any]] | None:
    if isinstance(form_fields, Mapping):
        form_fields = form_fields.get("data")
    is_list = isinstance(form_fields, list) and all(isinstance(entry, Mapping) for entry in form_fields)
    return form_fields if is_list else None


def _shows_values(form_fields: Any) -> bool:
    """Return whether fields include answers, in ``field_value`` (tallyfy/mcp-public) or ``value`` (documentation)."""
    entries = _entries(form_fields)
    return entries is not None and all("field_value" in entry or "value" in entry for entry in entries)


def _ids_of(items: Any) -> Any:
    """Return the ids of members or groups, which Tallyfy returns bare or as objects."""
    items = items.get("data") if isinstance(items, Mapping) else items
    return (
        [item.get("id") if isinstance(item, Mapping) else item for item in items]
        if isinstance(items, list)
        else items
    )
