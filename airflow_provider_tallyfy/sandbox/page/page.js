/**
 * The page as a whole: the view of the address, its state, and the actions of the user.
 *
 * Every change goes one way: something happened, so the view's data is fetched again and the document is patched.
 */

import { call, get, openSession, Refusal, Unreachable } from "./api.js";
import { Directory } from "./directory.js";
import { forgetTouches, html, patch, remember } from "./dom.js";
import { readChanges } from "./fields.js";
import * as launch from "./launch.js";
import { follow } from "./live.js";
import * as process from "./process.js";
import * as processList from "./process-list.js";

const EVENTS_TOGETHER = 150;
const SEARCH_PAUSE = 200;
const ANNOUNCED_FOR = 6000;
const CLOCK_TICK = 30_000;
const RETRY_AFTER = 2000;

const main = document.getElementById("main");
const dialog = document.getElementById("launch");
const outage = document.getElementById("outage");
const announcements = document.getElementById("announcements");

let session = null;
let directory = new Directory();
let shown = null; // { runId, module, loaded }: what the document shows
let launching = null; // the state of the launch dialog
let listScroll = 0;
const problems = new Map(); // what the server refused, by task or run id: { message, fields }
const busy = new Set(); // ids with an action under way

// ---------------------------------------------------------------- views

/** The id of the process in the address; `null` for the list. */
function addressed() {
  return /^#\/processes\/([^/?]+)/.exec(location.hash)?.[1] ?? null;
}

/** Return a function that does some work once it has not been called for some milliseconds. */
function debounced(delay, work) {
  let timer = null;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(work, delay, ...values);
  };
}

const retry = debounced(RETRY_AFTER, refreshSoon);

async function fetchView() {
  const runId = addressed();
  const module = runId === null ? processList : process;
  try {
    if (session === null) await begin();
    const loaded = await (runId === null ? processList.load(session) : process.load(runId));
    if (runId !== addressed()) return;
    const before = shown;
    shown = { runId, module, loaded };
    reportOutage(null);
    render();
    if (before !== null && before.runId === runId) announce(module.changes(before.loaded, loaded));
    else arrive(before);
  } catch (error) {
    if (!(error instanceof Refusal || error instanceof Unreachable)) throw error;
    // A restarted sandbox may have another token and other people.
    session = null;
    reportOutage(error);
    retry();
  }
}

async function begin() {
  const opened = await openSession();
  const [me, known] = await Promise.all([get("/me"), Directory.load()]);
  session = opened;
  directory = known;
  document.getElementById("acting").textContent = `Acting as ${me.full_name}`;
  patch(
    document.getElementById("bottom"),
    html`
      <p>The stand-in for Tallyfy's own app, on this machine. What is in it is gone when the sandbox stops.</p>
      <p>
        API <code>${location.origin}/api</code> · organization <code>${session.organization}</code> · next_task
        as <code>${session.next_task}</code>
      </p>`,
  );
}

let fetching = Promise.resolve();
let nextFetch = null;

/** Fetch and show the present state; resolves when a fetch that began after this call is over. */
function refresh() {
  nextFetch ??= fetching
    .catch(() => {})
    .then(() => {
      nextFetch = null;
      fetching = fetchView();
      return fetching;
    });
  return nextFetch;
}

let eventTimer = null;

function refreshSoon() {
  eventTimer ??= setTimeout(() => {
    eventTimer = null;
    refresh();
  }, EVENTS_TOGETHER);
}

function render() {
  const focused = document.activeElement;
  const home = focused.closest("[data-focus-home]");
  if (shown !== null) {
    const { runId, module, loaded } = shown;
    patch(main, module.view(loaded, { directory, problems, busy, runId }));
    document.title = `${module.title(loaded)} · Tallyfy sandbox`;
  }
  patch(dialog, launching === null ? [] : launch.view(launching, { directory }));
  // A button that is gone takes the focus with it: it goes to the heading of where it was.
  if (!focused.isConnected)
    (home?.isConnected ? home : main).querySelector("[tabindex='-1']")?.focus({ preventScroll: true });
}

function arrive(before) {
  scrollTo(0, shown.runId === null ? listScroll : 0);
  if (before !== null && !dialog.open) document.getElementById("page-title").focus({ preventScroll: true });
}

function reportOutage(error) {
  const text = error === null ? "" : `${error.message} Trying again every two seconds; what you typed stays.`;
  if (outage.textContent !== text) outage.textContent = text;
  outage.hidden = error === null;
}

const hideAnnouncements = debounced(ANNOUNCED_FOR, () => {
  announcements.textContent = "";
});

function announce(sentences) {
  if (sentences.length === 0) return;
  announcements.textContent = sentences.slice(0, 3).join(" ");
  hideAnnouncements();
}

// ---------------------------------------------------------------- actions of the user

/** Do something for one task or run, once at a time, and show why the server refused it. */
async function perform(id, work) {
  if (busy.has(id)) return;
  busy.add(id);
  problems.delete(id);
  render();
  try {
    await work();
  } catch (error) {
    problems.set(id, problemOf(error));
  } finally {
    busy.delete(id);
  }
  await refresh();
  render();
  if (problems.has(id)) focusProblem(document.getElementById(`task-${id}`));
}

function problemOf(error) {
  if (!(error instanceof Refusal || error instanceof Unreachable)) throw error;
  const fields = {};
  const others = [];
  for (const [name, messages] of Object.entries(error.errors ?? {})) {
    const [, fieldId] = /^(?:taskdata|prerun)\.(.+)$/.exec(name) ?? [];
    if (fieldId === undefined) others.push(...messages);
    else fields[fieldId] = messages.join(" ");
  }
  return { fields, message: Object.keys(fields).length > 0 ? others.join(" ") : error.message };
}

function focusProblem(container) {
  container?.querySelector("[aria-invalid='true']")?.focus();
}

function shownTask(taskId) {
  return shown.loaded.tasks.find(({ id }) => id === taskId);
}

function runEndpoint(rest = "") {
  return `runs/${encodeURIComponent(shown.runId)}${rest}`;
}

async function save(taskId) {
  const form = process.taskForm(taskId);
  if (form === null) return false;
  const taskdata = changedValues(form, shownTask(taskId).form_fields.data, "taskdata");
  if (Object.keys(taskdata).length === 0) return false;
  const accept = remember(form);
  await call("PUT", runEndpoint(`/tasks/${taskId}`), { body: { taskdata } });
  accept();
  return true;
}

function changedValues(form, fields, surface) {
  const { values, errors } = readChanges(form, fields, directory);
  const refused = Object.entries(errors).map(([fieldId, message]) => [`${surface}.${fieldId}`, [message]]);
  if (refused.length > 0) throw new Refusal(422, refused[0][1][0], Object.fromEntries(refused));
  return values;
}

/** Complete a task with what was entered in its form, and an approval with its decision. */
function complete(taskId, decision = {}) {
  return perform(taskId, async () => {
    await save(taskId);
    await call("POST", runEndpoint("/completed-tasks"), { body: { task_id: taskId, ...decision } });
  });
}

const actions = {
  skip: () => main.focus(),
  filter({ filter }) {
    processList.choose({ filter });
    return refresh();
  },
  more() {
    processList.showMore();
    return refresh();
  },
  complete: ({ task }) => complete(task),
  approve: ({ task }) => complete(task, { is_approved: true }),
  reject: ({ task }) => complete(task, { is_approved: false }),
  reopen: ({ task }) => perform(task, () => call("DELETE", runEndpoint(`/completed-tasks/${task}`))),
  resolve: ({ task, thread }) =>
    perform(task, () =>
      call("POST", `tasks/${task}/resolved-threads`, { body: { thread_id: thread, content: "Resolved." } }),
    ),
  archive: () => perform(shown.runId, () => call("DELETE", runEndpoint())),
  restore: () => perform(shown.runId, () => call("PUT", runEndpoint("/activate"))),
  async "open-launch"() {
    try {
      launching ??= await launch.load();
    } catch (error) {
      announce([problemOf(error).message]);
      return;
    }
    render();
    dialog.showModal();
    document.getElementById("launch-template")?.focus();
  },
  "close-launch"() {
    dialog.close();
    launching = null;
    render();
  },
};

const submissions = {
  search: () => refresh(),
  save: ({ dataset: { task } }) =>
    perform(task, async () => {
      announce([(await save(task)) ? "Saved." : "Nothing has changed since it was saved."]);
    }),
  comment(form) {
    const { task } = form.dataset;
    return perform(task, async () => {
      const content = form.elements.content.value.trim();
      if (content === "") throw new Refusal(422, "Write something before adding the comment.");
      await call("POST", `tasks/${task}/comment`, { body: { content } });
      form.reset();
    });
  },
  async launch(form) {
    if (launching.busy) return;
    const { checklist } = launching;
    Object.assign(launching, { busy: true, problem: {} });
    try {
      const prerun = changedValues(form, checklist.prerun, "prerun");
      const name = form.elements.name.value.trim();
      const { data } = await call("POST", "runs", {
        body: { checklist_id: checklist.id, prerun, ...(name && { name }) },
      });
      launching = null;
      dialog.close();
      location.hash = `#/processes/${encodeURIComponent(data.id)}`;
    } catch (error) {
      Object.assign(launching, { busy: false, problem: problemOf(error) });
    }
    render();
    focusProblem(dialog);
  },
};

const inputs = {
  search: debounced(SEARCH_PAUSE, ({ value }) => {
    processList.choose({ query: value.trim() });
    refresh();
  }),
  async template({ value }) {
    const checklist = value === "" ? null : await launch.loadChecklist(value);
    if (launching === null) return;
    Object.assign(launching, { checklist, problem: {} });
    render();
  },
};

document.addEventListener("click", (event) => {
  const element = event.target.closest("[data-action]");
  if (element === null) return;
  event.preventDefault();
  actions[element.dataset.action](element.dataset);
});

document.addEventListener("submit", (event) => {
  event.preventDefault();
  submissions[event.target.dataset.submit](event.target);
});

document.addEventListener("input", ({ target }) => {
  inputs[target.dataset.input]?.(target);
  const fieldId = target.closest("[data-field]")?.dataset.field;
  if (fieldId === undefined) return;
  // What was refused is no longer what stands there.
  delete problems.get(target.form.dataset.task)?.fields[fieldId];
  if (dialog.contains(target)) delete launching.problem.fields?.[fieldId];
  render();
});

document.addEventListener("focusout", ({ target }) => {
  if (target.form?.dataset.submit === "save") forgetTouches(target.form);
});

addEventListener("hashchange", () => {
  if (shown?.runId === null) listScroll = scrollY;
  problems.clear();
  refresh();
});

// The provider links to where the process would be in Tallyfy's own app.
const linked = /^\/[^/]+\/processes\/([^/]+)\/?$/.exec(location.pathname);
if (linked !== null) history.replaceState(null, "", `/#/processes/${linked[1]}`);

setInterval(render, CLOCK_TICK);
follow(refreshSoon);
