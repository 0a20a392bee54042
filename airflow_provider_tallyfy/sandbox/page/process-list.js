/** The list of processes: which there are, how far each is, and what it waits for. */

import { list, nextTask } from "./api.js";
import { html, note } from "./dom.js";
import { counted, distance, isPast, ownerNames, progress, runStatus, when } from "./words.js";

const PAGE_SIZE = 50;

/** The filters, by the API's own statuses; a running process has one of three. */
const FILTERS = {
  running: {
    label: "Running",
    statuses: ["active", "delayed", "problem"],
    empty: "No process is running. Launch one here, or run a DAG that does.",
  },
  finished: { label: "Finished", statuses: ["complete"], empty: "No process is finished yet." },
  archived: { label: "Archived", statuses: ["archived"], empty: "No process is archived." },
};

/** The filter, the search text and the length of the list. */
export const choice = { filter: "running", query: "", most: PAGE_SIZE };

/** Choose another filter or search text; both begin at the top again. */
export function choose(changes) {
  Object.assign(choice, { most: PAGE_SIZE }, changes);
}

/** Show more of a long list. */
export function showMore() {
  choice.most += PAGE_SIZE;
}

/** Get the processes of the chosen filter, and how many each of the others has. */
export async function load(session) {
  const { filter, query, most } = { ...choice };
  // The older format of next_task does not name the owners of the task; the tasks do.
  const includes = session.next_task === "object" ? "next_task,tasks" : "next_task";
  const wanted = Object.entries(FILTERS).flatMap(([name, { statuses }]) => statuses.map((status) => [name, status]));
  const lists = await Promise.all(
    wanted.map(([name, status]) => {
      const params = { status, q: query, sort: "-created_at", with: name === filter ? includes : undefined };
      return list("runs", params, name === filter ? most : 1);
    }),
  );
  const counts = {};
  const runs = [];
  wanted.forEach(([name], index) => {
    counts[name] = lists[index].total + (counts[name] ?? 0);
    if (name === filter) runs.push(...lists[index].items);
  });
  runs.sort((one, other) => other.created_at.localeCompare(one.created_at));
  return { filter, query, counts, runs: runs.slice(0, most) };
}

/** The title of the list in the browser's tab. */
export function title() {
  return "Processes";
}

/** The list as HTML. */
export function view({ filter, query, counts, runs }, { directory }) {
  const none = query ? `Nothing here is called “${query}”.` : FILTERS[filter].empty;
  const rows = runs.map((run) => row(run, directory));
  const more = html`
    <p class="more" data-key="more">
      <span>${runs.length} of ${counted(counts[filter], "process", "processes")} shown</span>
      <button type="button" class="button" data-action="more">Show more</button>
    </p>`;
  return html`
    <div class="heading" data-key="heading">
      <h1 tabindex="-1" id="page-title">Processes</h1>
      <form role="search" data-submit="search" class="search">
        <label class="visually-hidden" for="search">Search processes by name</label>
        <input type="search" id="search" name="search" value=${query} placeholder="Search by name"
          autocomplete="off" data-input="search">
      </form>
    </div>
    <nav class="filters" aria-label="Which processes" data-key="filters">
      ${Object.entries(FILTERS).map(
        ([name, { label }]) => html`
          <button type="button" class="filter" data-action="filter" data-filter=${name} data-key=${name}
            aria-pressed=${String(name === filter)}>
            ${label} <span class="count">${counts[name]}</span>
          </button>`,
      )}
    </nav>
    ${runs.length > 0 ? html`<ul class="processes" data-key="processes">${rows}</ul>` : note("empty", none)}
    ${counts[filter] > runs.length && more}`;
}

/** What is different in `after`, in sentences. */
export function changes(before, after) {
  if (before.filter !== after.filter || before.query !== after.query) return [];
  const known = new Map(before.runs.map((run) => [run.id, run]));
  return after.runs.flatMap((run) => {
    const earlier = known.get(run.id);
    if (earlier === undefined) return [`${run.name} is now in this list.`];
    if (earlier.status !== run.status) return [`${run.name}: ${runStatus(run)}.`];
    return progress(earlier) === progress(run) ? [] : [`${run.name}: ${progress(run)}.`];
  });
}

function row(run, directory) {
  return html`
    <li class="process" data-key=${run.id} data-run=${run.id}>
      <div>
        <h2><a href="#/processes/${encodeURIComponent(run.id)}">${run.name}</a></h2>
        <p class="quiet">${run.checklist_title}</p>
      </div>
      <div>
        <p class="progress">${progressText(run)}</p>
        ${progressBar(run, `Progress of ${run.name}`)}
      </div>
      <div>${next(run, directory)}</div>
    </li>`;
}

/** A run's status, and how many of its tasks are done. */
export function progressText(run) {
  return html`<span class="badge" data-status=${run.status}>${runStatus(run)}</span><span>${progress(run)}</span>`;
}

/** How many of a run's tasks are done, as a bar. */
export function progressBar({ progress: { complete = 0, total = 0 } }, label) {
  return html`<progress value=${complete} max=${Math.max(total, 1)} aria-label=${label}></progress>`;
}

function next(run, directory) {
  const task = nextTask(run);
  if (run.archived_at) return html`<p class="quiet">Archived ${when(run.archived_at)}</p>`;
  if (task === null)
    return html`<p class="quiet">${run.completed_at ? `Finished ${when(run.completed_at)}` : "Nothing left to do"}</p>`;
  const owners = task.owners ?? run.tasks?.data.find(({ id }) => id === task.id)?.owners;
  return html`
    <p class="next-title"><span class="quiet">Next: </span>${task.title}</p>
    <p class="quiet">${ownerNames(owners, directory)}${task.deadline && [" · ", due(task.deadline)]}</p>`;
}

/** A deadline with its distance, marked when it has passed. */
export function due(deadline) {
  return html`
    <time datetime=${deadline} class=${isPast(deadline) && "late"}>due ${when(deadline)}, ${distance(deadline)}</time>`;
}
