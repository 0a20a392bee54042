/** The dialog that starts a new process from a template, with the template's kick-off form. */

import { get, list } from "./api.js";
import { h } from "./dom.js";
import { fieldElement } from "./fields.js";

/** What the dialog shows; `null` while it is closed. */
export async function load() {
  const { items } = await list("checklists");
  return {
    checklists: items,
    checklist: items.length === 1 ? await loadChecklist(items[0].id) : null,
    problem: {},
    busy: false,
  };
}

/** Get a template with its kick-off fields. */
export function loadChecklist(checklistId) {
  return get(`checklists/${encodeURIComponent(checklistId)}`);
}

/** The dialog's contents as elements. */
export function view({ checklists, checklist, problem, busy }, { directory }) {
  const fields = checklist?.prerun ?? [];
  return h(
    "form",
    {
      class: "form",
      "data-key": "launch",
      "data-submit": "launch",
      novalidate: true,
      "aria-busy": busy ? "true" : null,
    },
    h(
      "div",
      { class: "heading" },
      h("h2", { id: "launch-title" }, "Launch a process"),
      h("button", { type: "button", class: "button quiet-button", "data-action": "close-launch" }, "Close"),
    ),
    checklists.length === 0
      ? h(
          "p",
          { class: "empty", "data-key": "empty" },
          "This sandbox has no templates. Start it with --seed demo to have some.",
        )
      : [
          h(
            "div",
            { class: "field", "data-key": "template" },
            h("label", { for: "launch-template" }, "Template"),
            h(
              "select",
              { id: "launch-template", "data-input": "template", name: "template" },
              h("option", { value: "", selected: checklist === null }, "Choose…"),
              checklists.map(({ id, title }) => h("option", { value: id, selected: id === checklist?.id }, title)),
            ),
          ),
          checklist?.summary && h("p", { class: "summary", "data-key": "summary" }, checklist.summary),
          checklist &&
            h(
              "div",
              { class: "field", "data-key": "name" },
              h("label", { for: "launch-name" }, "Name of the process"),
              h("input", {
                type: "text",
                id: "launch-name",
                name: "name",
                maxlength: "550",
                autocomplete: "off",
                placeholder: `${checklist.title} - today's date`,
              }),
            ),
          fields.length > 0 &&
            h(
              "div",
              { class: "fields", "data-key": checklist.id },
              h("h3", {}, "Kick-off form"),
              fields.map((field) =>
                fieldElement("launch", field, { value: null, problem: problem.fields?.[field.id], directory }),
              ),
            ),
          problem.message && h("p", { class: "refusal", role: "alert", "data-key": "refusal" }, problem.message),
          h(
            "p",
            { class: "actions", "data-key": "actions" },
            h("button", { type: "submit", class: "button primary", disabled: checklist === null }, "Launch"),
            h("button", { type: "button", class: "button", "data-action": "close-launch" }, "Cancel"),
          ),
        ],
  );
}
