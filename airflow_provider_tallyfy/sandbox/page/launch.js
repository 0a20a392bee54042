/** The dialog that starts a new process from a template, with the template's kick-off form. */

import { get, list } from "./api.js";
import { html, note } from "./dom.js";
import { fieldElement } from "./fields.js";
import { refusal } from "./process.js";

const NONE = "This sandbox has no templates. Start it with --seed demo to have some.";

/** Load the state of the dialog. */
export async function load() {
  const { items } = await list("checklists");
  const checklist = items.length === 1 ? await loadChecklist(items[0].id) : null;
  return { checklists: items, checklist, problem: {}, busy: false };
}

/** Get a template with its kick-off fields. */
export function loadChecklist(checklistId) {
  return get(`checklists/${encodeURIComponent(checklistId)}`);
}

/** The dialog's contents as HTML. */
export function view({ checklists, checklist, problem, busy }, { directory }) {
  return html`
    <form class="form" data-key="launch" data-submit="launch" novalidate aria-busy=${busy && "true"}>
      <div class="heading">
        <h2 id="launch-title">Launch a process</h2>
        <button type="button" class="button" data-action="close-launch">Close</button>
      </div>
      ${checklists.length > 0 ? choice(checklists, checklist, problem, directory) : note("empty", NONE)}
    </form>`;
}

function choice(checklists, checklist, problem, directory) {
  const options = checklists.map(
    ({ id, title }) => html`<option value=${id} selected=${id === checklist?.id}>${title}</option>`,
  );
  return html`
    <div class="field" data-key="template">
      <label for="launch-template">Template</label>
      <select id="launch-template" data-input="template" name="template">
        <option value="" selected=${checklist === null}>Choose…</option>
        ${options}
      </select>
    </div>
    ${checklist && details(checklist, problem, directory)}
    ${refusal(problem.message)}
    <p class="actions" data-key="actions">
      <button type="submit" class="button primary" disabled=${checklist === null}>Launch</button>
      <button type="button" class="button" data-action="close-launch">Cancel</button>
    </p>`;
}

function details({ id, title, summary, prerun }, problem, directory) {
  const fields = prerun.map((field) =>
    fieldElement("launch", field, { value: null, problem: problem.fields?.[field.id], directory }),
  );
  return html`
    ${note("summary", summary)}
    <div class="field" data-key="name">
      <label for="launch-name">Name of the process</label>
      <input type="text" id="launch-name" name="name" maxlength="550" autocomplete="off"
        placeholder="${title} - today's date">
    </div>
    ${fields.length > 0 && html`<div class="fields" data-key=${id}><h3>Kick-off form</h3>${fields}</div>`}`;
}
