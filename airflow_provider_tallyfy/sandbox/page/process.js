/** One process: its kick-off values, its tasks in order, and what a person can do with each. */

import { get, list, nextTask, Refusal } from "./api.js";
import { controls, h, isChanged } from "./dom.js";
import { fieldElement, shownValue } from "./fields.js";
import { due } from "./process-list.js";
import { counted, isDone, isHidden, isOpen, ownerNames, progress, runStatus, taskState, taskStatus, when } from "./words.js";

/** Get a process with its tasks; `null` if there is none with this id. */
export async function load(runId) {
  try {
    const run = await get(`runs/${encodeURIComponent(runId)}`, { with: "next_task,ko_form_fields" });
    return { run, tasks: run.archived_at ? [] : await loadTasks(runId) };
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) return null;
    throw error;
  }
}

function loadTasks(runId) {
  const endpoint = `runs/${encodeURIComponent(runId)}/tasks`;
  return list(endpoint, { with: "form_fields,threads,summary", sort: "position" }).then(({ items }) => items);
}

/** What the process is called in the browser's tab. */
export function title(loaded) {
  return loaded === null ? "No such process" : loaded.run.name;
}

/** The process as elements. */
export function view(loaded, context) {
  if (loaded === null) return missing(context.runId);
  const { run, tasks } = loaded;
  return [
    h("p", { class: "back", "data-key": "back" }, h("a", { href: "#/" }, "← All processes")),
    header(run, context),
    run.has_open_issue &&
      h(
        "p",
        { class: "notice", "data-key": "issue" },
        "This process has an open issue. Its tasks cannot change until it is resolved.",
      ),
    kickOff(run, context),
    run.archived_at
      ? h(
          "p",
          { class: "empty", "data-key": "archived" },
          "This process is archived and its tasks are out of sight. They come back as they were when it is restored.",
        )
      : h(
          "ol",
          { class: "tasks", "aria-label": "Tasks", "data-key": "tasks" },
          tasks.map((task) => taskCard(task, nextTask(run), context)),
        ),
  ];
}

/** What is different in `after`, in sentences. */
export function changes(before, after) {
  if (before === null || after === null) return [];
  const known = new Map(before.tasks.map((task) => [task.id, task]));
  const sentences = after.tasks.flatMap((task) => {
    const earlier = known.get(task.id);
    if (earlier === undefined) return known.size > 0 ? [`New task: ${task.title}.`] : [];
    if (taskStatus(earlier) !== taskStatus(task)) return [`${task.title}: ${taskStatus(task)}.`];
    const comments = threads(task).length - threads(earlier).length;
    return comments > 0 ? [`New comment on ${task.title}.`] : [];
  });
  if (runStatus(before.run) !== runStatus(after.run)) sentences.push(`${after.run.name}: ${runStatus(after.run)}.`);
  return sentences;
}

/** The form of a task's fields, if it is on the page. */
export function taskForm(taskId) {
  return document.getElementById(`form-${taskId}`);
}

function missing(runId) {
  return [
    h("p", { class: "back", "data-key": "back" }, h("a", { href: "#/" }, "← All processes")),
    h("h1", { tabindex: "-1", id: "page-title" }, "No such process"),
    h(
      "p",
      { class: "empty", "data-key": "missing" },
      "This sandbox has no process with the id ",
      h("code", {}, runId),
      ". What is in a sandbox is gone when it stops.",
    ),
  ];
}

function header(run, { directory, problems }) {
  const { complete = 0, total = 0 } = run.progress;
  const archived = Boolean(run.archived_at);
  return h(
    "header",
    { class: "process-header", "data-key": "header", "data-focus-home": true },
    h(
      "div",
      { class: "heading" },
      h("h1", { tabindex: "-1", id: "page-title" }, run.name),
      h(
        "div",
        { class: "actions" },
        h(
          "button",
          {
            type: "button",
            class: "button",
            "data-action": archived ? "restore" : "archive",
            "data-key": archived ? "restore" : "archive",
          },
          archived ? "Restore" : "Archive",
        ),
      ),
    ),
    problems.has(run.id) &&
      h("p", { class: "refusal", role: "alert", "data-key": "refusal" }, problems.get(run.id).message),
    run.summary && h("p", { class: "summary", "data-key": "summary" }, run.summary),
    h(
      "p",
      { class: "quiet", "data-key": "facts" },
      run.checklist_title,
      " · launched by ",
      directory.name(run.started_by),
      " ",
      when(run.started_at),
      run.completed_at && ` · finished ${when(run.completed_at)}`,
    ),
    h("p", { class: "quiet", "data-key": "id" }, "run_id ", h("code", {}, run.id)),
    h(
      "div",
      { class: "progress wide", "data-key": `progress-${run.id}` },
      h("span", { class: "badge", "data-status": run.status }, runStatus(run)),
      h("span", {}, progress(run)),
      h("progress", { value: String(complete), max: String(Math.max(total, 1)), "aria-label": "Progress" }),
    ),
  );
}

function kickOff(run, { directory }) {
  const fields = run.ko_form_fields?.data ?? [];
  if (fields.length === 0) return null;
  return h(
    "details",
    { class: "kick-off", "data-key": "kick-off" },
    h("summary", {}, "Kick-off form ", h("span", { class: "quiet" }, counted(fields.length, "field"))),
    values(fields, directory),
  );
}

function values(fields, directory) {
  return h(
    "dl",
    { class: "values" },
    fields.map((field) => {
      const text = shownValue(field, field.field_value, directory);
      return h(
        "div",
        { "data-key": field.id, "data-field": field.id },
        h("dt", {}, field.label),
        h("dd", { class: text ? null : "quiet" }, text || "—"),
      );
    }),
  );
}

function taskCard(task, next, context) {
  const hidden = isHidden(task);
  const problem = context.problems.get(task.id) ?? {};
  const isNext = task.id === next?.id;
  return h(
    "li",
    {
      class: "task",
      id: `task-${task.id}`,
      "data-key": task.id,
      "data-task": task.id,
      "data-focus-home": true,
      "data-status": taskState(task),
      "data-next": isNext,
      "data-done": isDone(task),
      "aria-busy": context.busy.has(task.id) ? "true" : null,
    },
    h(
      "div",
      { class: "task-head", "data-key": "head" },
      h("span", { class: "marker", "aria-hidden": "true" }),
      h("h2", { tabindex: "-1" }, task.title),
      h(
        "p",
        { class: "badges" },
        isNext && h("span", { class: "badge next", "data-key": "next" }, "Next"),
        task.task_type === "approval" &&
          isKindUnsaid(task) &&
          h("span", { class: "badge kind", "data-key": "kind" }, "Approval"),
        h("span", { class: "badge", "data-key": "status", "data-status": decided(task) }, taskStatus(task)),
      ),
    ),
    facts(task, context),
    task.summary && h("p", { class: "summary", "data-key": "summary" }, task.summary),
    hidden ? null : form(task, problem, context),
    problem.message && h("p", { class: "refusal", role: "alert", "data-key": "refusal" }, problem.message),
    hidden ? null : buttons(task, isNext),
    hidden ? null : comments(task, context),
  );
}

/** Whether an approval's status does not say by itself that it is one. */
function isKindUnsaid(task) {
  return isOpen(task) && taskState(task) !== "to-do";
}

function decided(task) {
  if (!isDone(task)) return taskState(task);
  return task.is_approved === false ? "rejected" : "completed";
}

function facts(task, { directory }) {
  const people = ownerNames(task.owners, directory);
  return h(
    "p",
    { class: "quiet facts", "data-key": "facts" },
    h("span", { class: "owners" }, people),
    isDone(task) &&
      h(
        "span",
        {},
        `done ${when(task.completed_at)}${task.completer_id ? ` by ${directory.name(task.completer_id)}` : ""}`,
      ),
    isOpen(task) && task.deadline && h("span", {}, due(task.deadline)),
    taskState(task) === "not-started" && task.started_at && h("span", {}, `starts ${when(task.started_at)}`),
    h("span", {}, "alias ", h("code", {}, task.alias)),
  );
}

function form(task, problem, context) {
  const fields = task.form_fields?.data ?? [];
  if (fields.length === 0) return null;
  if (isDone(task) && !hasUnsaved(task.id)) return values(fields, context.directory);
  return h(
    "form",
    {
      id: `form-${task.id}`,
      class: "form",
      "data-key": "form",
      "data-submit": "save",
      "data-task": task.id,
      novalidate: true,
      "aria-label": `Form of ${task.title}`,
    },
    h(
      "div",
      { class: "fields", "data-key": "fields" },
      fields.map((field) =>
        fieldElement(task.id, field, {
          value: field.field_value,
          problem: problem.fields?.[field.id],
          directory: context.directory,
        }),
      ),
    ),
    isDone(task) &&
      h(
        "p",
        { class: "notice", "data-key": "kept" },
        "The task was completed meanwhile. What you entered is kept here and can be saved once the task is reopened.",
      ),
  );
}

/** Whether a person entered something in a task's form that is not saved. */
export function hasUnsaved(taskId) {
  const found = taskForm(taskId);
  return found !== null && controls(found).some(isChanged);
}

function buttons(task, isNext) {
  const button = (action, label, kind = "") =>
    h(
      "button",
      {
        type: "button",
        class: `button ${kind}`.trim(),
        "data-action": action,
        "data-key": action,
        "data-task": task.id,
      },
      label,
      named(task),
    );
  if (isDone(task)) return h("div", { class: "actions", "data-key": "actions" }, button("reopen", "Reopen"));
  const main = isNext ? "primary" : "";
  const ending =
    task.task_type === "approval"
      ? [button("approve", "Approve", main), button("reject", "Reject", "danger")]
      : [button("complete", "Complete", main)];
  const hasForm = task.form_fields?.data.length > 0;
  return [
    task.is_completable === false &&
      h("p", { class: "notice", "data-key": "blocked" }, "An open issue keeps this task from being completed."),
    h(
      "div",
      { class: "actions", "data-key": "actions" },
      task.is_completable !== false && ending,
      hasForm &&
        h(
          "button",
          { type: "submit", class: "button", form: `form-${task.id}`, "data-key": "save" },
          "Save",
          named(task),
        ),
      hasForm && h("span", { class: "quiet", "data-key": "unsaved" }, hasUnsaved(task.id) ? "Not saved yet" : ""),
    ),
  ];
}

/** Which task a button is for, to those who do not see where it stands. */
function named(task) {
  return h("span", { class: "visually-hidden" }, ` “${task.title}”`);
}

function threads(task) {
  return task.threads?.data ?? [];
}

const LABELS = { problem: "Issue", resolve: "Resolved", improvement: "Improvement", advice: "Advice" };

function comments(task, { directory }) {
  const id = `comment-${task.id}`;
  const written = threads(task);
  return h(
    "details",
    { class: "comments", "data-key": "comments" },
    h("summary", {}, "Comments ", h("span", { class: "count" }, String(written.length)), named(task)),
    written.length > 0 &&
      h(
        "ul",
        { class: "threads", "data-key": "threads" },
        written.map((thread) => comment(task, thread, directory)),
      ),
    h(
      "form",
      { class: "form", "data-key": "comment", "data-submit": "comment", "data-task": task.id, novalidate: true },
      h(
        "div",
        { class: "field" },
        h("label", { for: id }, "Write a comment"),
        h("textarea", { id, name: "content", rows: 2, autocomplete: "off" }),
      ),
      h("p", {}, h("button", { type: "submit", class: "button" }, "Add comment")),
    ),
  );
}

function comment(task, thread, directory) {
  const isOpenIssue = thread.label === "problem" && !thread.resolve_id;
  return h(
    "li",
    { "data-key": thread.id, class: "thread" },
    h(
      "p",
      { class: "quiet" },
      h("strong", {}, directory.name(thread.author_id)),
      " · ",
      h("time", { datetime: thread.created_at }, when(thread.created_at)),
      LABELS[thread.label] &&
        h("span", { class: "badge", "data-status": isOpenIssue ? "issue" : thread.label }, LABELS[thread.label]),
    ),
    h("p", { class: "said" }, thread.content),
    isOpenIssue &&
      h(
        "button",
        {
          type: "button",
          class: "button small",
          "data-action": "resolve",
          "data-task": task.id,
          "data-thread": thread.id,
          "data-key": "resolve",
        },
        "Mark as resolved",
      ),
  );
}
