/** One process: its kick-off values, its tasks in order, and what a user can do with each. */

import { get, list, nextTask, Refusal } from "./api.js";
import { controls, html, isChanged, note } from "./dom.js";
import { fieldElement, shownValue } from "./fields.js";
import { due, progressBar, progressText } from "./process-list.js";
import { counted, isDone, isHidden, isOpen, ownerNames, runStatus, taskState, taskStatus, when } from "./words.js";

/** Get a process with its tasks; `null` if there is none with this id. */
export async function load(runId) {
  const endpoint = `runs/${encodeURIComponent(runId)}`;
  const includes = { with: "form_fields,threads,summary", sort: "position" };
  try {
    const run = await get(endpoint, { with: "next_task,ko_form_fields" });
    return { run, tasks: run.archived_at ? [] : (await list(`${endpoint}/tasks`, includes)).items };
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) return null;
    throw error;
  }
}

/** The title of the process in the browser's tab. */
export function title(loaded) {
  return loaded === null ? "No such process" : loaded.run.name;
}

/** The process as HTML. */
export function view(loaded, context) {
  const back = html`<p class="back" data-key="back"><a href="#/">← All processes</a></p>`;
  if (loaded === null) {
    return html`
      ${back}
      <h1 tabindex="-1" id="page-title">No such process</h1>
      <p class="empty" data-key="missing">
        This sandbox has no process with the id <code>${context.runId}</code>. What is in a sandbox is gone when it stops.
      </p>`;
  }
  const { run, tasks } = loaded;
  const next = nextTask(run);
  const issue = "This process has an open issue. Its tasks cannot change until it is resolved.";
  const archived = "This process is archived. Its tasks come back as they were when it is restored.";
  return html`
    ${back}
    ${header(run, context)}
    ${note("notice", run.has_open_issue && issue)}
    ${kickOff(run, context)}
    ${note("empty", run.archived_at && archived)}
    <ol class="tasks" aria-label="Tasks" data-key="tasks">${tasks.map((task) => taskCard(task, next, context))}</ol>`;
}

/** What is different in `after`, in sentences. */
export function changes(before, after) {
  if (before === null || after === null) return [];
  const known = new Map(before.tasks.map((task) => [task.id, task]));
  const sentences = after.tasks.flatMap((task) => {
    const earlier = known.get(task.id);
    if (earlier === undefined) return known.size > 0 ? [`New task: ${task.title}.`] : [];
    if (taskStatus(earlier) !== taskStatus(task)) return [`${task.title}: ${taskStatus(task)}.`];
    return threads(task).length > threads(earlier).length ? [`New comment on ${task.title}.`] : [];
  });
  if (runStatus(before.run) !== runStatus(after.run)) sentences.push(`${after.run.name}: ${runStatus(after.run)}.`);
  return sentences;
}

/** The form of a task's fields, if it is on the page. */
export function taskForm(taskId) {
  return document.getElementById(`form-${taskId}`);
}

/** The reason of a refusal, if there is one. */
export function refusal(message) {
  return message && html`<p class="refusal" role="alert" data-key="refusal">${message}</p>`;
}

function header(run, { directory, problems }) {
  const [action, label] = run.archived_at ? ["restore", "Restore"] : ["archive", "Archive"];
  return html`
    <header class="process-header" data-key="header" data-focus-home>
      <div class="heading">
        <h1 tabindex="-1" id="page-title">${run.name}</h1>
        <button type="button" class="button" data-action=${action} data-key=${action}>${label}</button>
      </div>
      ${refusal(problems.get(run.id)?.message)}
      ${note("summary", run.summary)}
      <p class="quiet" data-key="facts">
        ${run.checklist_title} · launched by ${directory.name(run.started_by)} ${when(run.started_at)}
        ${run.completed_at && ` · finished ${when(run.completed_at)}`}
      </p>
      <p class="quiet" data-key="id">run_id <code>${run.id}</code></p>
      <div class="progress" data-key="progress-${run.id}">${progressText(run)}${progressBar(run, "Progress")}</div>
    </header>`;
}

function kickOff(run, { directory }) {
  const fields = run.ko_form_fields?.data ?? [];
  if (fields.length === 0) return null;
  return html`
    <details class="kick-off" data-key="kick-off">
      <summary>Kick-off form <span class="quiet">${counted(fields.length, "field")}</span></summary>
      ${values(fields, directory)}
    </details>`;
}

function values(fields, directory) {
  const shown = fields.map((field) => {
    const text = shownValue(field, field.field_value, directory);
    return html`
      <div data-key=${field.id} data-field=${field.id}>
        <dt>${field.label}</dt>
        <dd class=${!text && "quiet"}>${text || "—"}</dd>
      </div>`;
  });
  return html`<dl class="values">${shown}</dl>`;
}

function taskCard(task, next, context) {
  const problem = context.problems.get(task.id) ?? {};
  const isNext = task.id === next?.id;
  // If an approval can be decided, its status shows that it is one.
  const isUnsaidApproval = task.task_type === "approval" && isOpen(task) && taskState(task) !== "to-do";
  const status = task.is_approved === false && isDone(task) ? "rejected" : taskState(task);
  return html`
    <li class="task" id="task-${task.id}" data-key=${task.id} data-task=${task.id} data-focus-home
      data-status=${taskState(task)} data-next=${isNext} aria-busy=${context.busy.has(task.id) && "true"}>
      <div class="heading" data-key="head">
        <h2 tabindex="-1">${task.title}</h2>
        <p class="badges">
          ${isNext && html`<span class="badge next" data-key="next">Next</span>`}
          ${isUnsaidApproval && html`<span class="badge" data-key="kind">Approval</span>`}
          <span class="badge" data-key="status" data-status=${status}>${taskStatus(task)}</span>
        </p>
      </div>
      ${facts(task, context)}
      ${note("summary", task.summary)}
      ${!isHidden(task) && form(task, problem, context)}
      ${refusal(problem.message)}
      ${!isHidden(task) && [buttons(task, isNext), comments(task, context)]}
    </li>`;
}

function facts(task, { directory }) {
  const completer = task.completer_id ? ` by ${directory.name(task.completer_id)}` : "";
  const isWaiting = taskState(task) === "not-started" && task.started_at;
  return html`
    <p class="quiet facts" data-key="facts">
      <span class="owners">${ownerNames(task.owners, directory)}</span>
      ${isDone(task) && html`<span>done ${when(task.completed_at)}${completer}</span>`}
      ${isOpen(task) && task.deadline && html`<span>${due(task.deadline)}</span>`}
      ${isWaiting && html`<span>starts ${when(task.started_at)}</span>`}
      <span>alias <code>${task.alias}</code></span>
    </p>`;
}

function form(task, problem, { directory }) {
  const fields = task.form_fields?.data ?? [];
  if (fields.length === 0) return null;
  if (isDone(task) && !hasUnsaved(task.id)) return values(fields, directory);
  const shown = fields.map((field) =>
    fieldElement(task.id, field, { value: field.field_value, problem: problem.fields?.[field.id], directory }),
  );
  const kept = "The task was completed meanwhile. What you entered is kept here and can be saved once it is reopened.";
  return html`
    <form id="form-${task.id}" class="form" data-key="form" data-submit="save" data-task=${task.id} novalidate
      aria-label="Form of ${task.title}">
      <div class="fields" data-key="fields">${shown}</div>
      ${note("notice", isDone(task) && kept)}
    </form>`;
}

/** Whether a user entered something in a task's form that is not saved. */
export function hasUnsaved(taskId) {
  const found = taskForm(taskId);
  return found !== null && controls(found).some(isChanged);
}

function buttons(task, isNext) {
  const button = (action, label, kind = "") => html`
    <button type="button" class="button ${kind}" data-action=${action} data-key=${action} data-task=${task.id}>
      ${label}${named(task)}
    </button>`;
  if (isDone(task)) return html`<div class="actions" data-key="actions">${button("reopen", "Reopen")}</div>`;
  const main = isNext ? "primary" : "";
  const ending =
    task.task_type === "approval"
      ? [button("approve", "Approve", main), button("reject", "Reject", "danger")]
      : [button("complete", "Complete", main)];
  const save = html`
    <button type="submit" class="button" form="form-${task.id}" data-key="save">Save${named(task)}</button>
    <span class="quiet" data-key="unsaved">${hasUnsaved(task.id) && "Not saved yet"}</span>`;
  return html`
    ${note("notice", !task.is_completable && "An open issue keeps this task from being completed.")}
    <div class="actions" data-key="actions">
      ${task.is_completable && ending}
      ${task.form_fields?.data.length > 0 && save}
    </div>`;
}

/** Which task a button is for, for screen readers. */
function named(task) {
  return html`<span class="visually-hidden"> “${task.title}”</span>`;
}

function threads(task) {
  return task.threads?.data ?? [];
}

const LABELS = { problem: "Issue", resolve: "Resolved", improvement: "Improvement", advice: "Advice" };

function comments(task, { directory }) {
  const written = threads(task).map((thread) => comment(task, thread, directory));
  return html`
    <details class="comments" data-key="comments">
      <summary>Comments <span class="count">${written.length}</span>${named(task)}</summary>
      ${written.length > 0 && html`<ul class="threads" data-key="threads">${written}</ul>`}
      <form class="form" data-key="comment" data-submit="comment" data-task=${task.id} novalidate>
        <div class="field">
          <label for="comment-${task.id}">Write a comment</label>
          <textarea id="comment-${task.id}" name="content" rows="2" autocomplete="off"></textarea>
        </div>
        <p><button type="submit" class="button">Add comment</button></p>
      </form>
    </details>`;
}

function comment(task, thread, directory) {
  const isOpenIssue = thread.label === "problem" && !thread.resolve_id;
  const label = LABELS[thread.label];
  const resolve = html`
    <button type="button" class="button" data-action="resolve" data-task=${task.id} data-thread=${thread.id}
      data-key="resolve">Mark as resolved</button>`;
  return html`
    <li data-key=${thread.id} class="thread">
      <p class="quiet">
        <strong>${directory.name(thread.author_id)}</strong> ·
        <time datetime=${thread.created_at}> ${when(thread.created_at)}</time>
        ${label && html`<span class="badge" data-status=${isOpenIssue ? "issue" : thread.label}>${label}</span>`}
      </p>
      <p class="said">${thread.content}</p>
      ${isOpenIssue && resolve}
    </li>`;
}
