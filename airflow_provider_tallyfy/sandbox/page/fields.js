/**
 * Form fields, of kick-off forms and of tasks alike: each type's input, the text its value is shown as, and the
 * value that the API wants back. Only what a person changed is sent, so that other answers are not overwritten.
 */

import { controls, html, isChanged } from "./dom.js";

const LINE = { show: (value) => asLine(value), read: (text) => text };

const SINGLE = {
  text: { type: "text", ...LINE },
  email: { type: "email", show: (value) => asLine(value).trim(), read: (text) => text.trim() },
  // A date is the day that was written, in no particular zone.
  date: {
    type: "date",
    show: (value) => /^\d{4}-\d\d-\d\d/.exec(value ?? "")?.[0] ?? "",
    read: (text) => (text === "" ? "" : `${text}T00:00:00.000Z`),
  },
  file: {
    type: "text",
    hint: "The name of a file; several with commas. The sandbox keeps the name only.",
    show: (value) => (value ?? []).map((file) => file.filename ?? file.url).join(", "),
    read: (text) => names(text).map((filename) => ({ id: `sandbox-${filename}`, filename, version: 1, url: "" })),
  },
  assignees_form: {
    type: "text",
    hint: "Names, email addresses or groups, with commas between them.",
    show: (value, directory) => directory.named(value),
    read: (text, directory) => directory.find(names(text)),
  },
};

/** The element for a field, with its label, its guidance and what the server has against its value. */
export function fieldElement(prefix, field, { value, problem, directory }) {
  const id = `${prefix}-${field.id}`;
  const hint = [field.guidance, SINGLE[field.field_type]?.hint].filter(Boolean).join(" ");
  const described = [hint && `${id}-hint`, problem && `${id}-problem`].filter(Boolean).join(" ") || null;
  const group = GROUPS[field.field_type];
  const label = html`
    ${field.label}
    ${
      field.required &&
      html`
        <span class="required" aria-hidden="true" title="Required">*</span>
        <span class="visually-hidden"> (required)</span>`
    }`;
  const notes = html`
    ${hint && html`<p class="hint" id="${id}-hint" data-key="hint">${hint}</p>`}
    ${problem && html`<p class="problem" id="${id}-problem" data-key="problem">${problem}</p>`}`;
  if (group !== undefined) {
    return html`
      <fieldset class="field" data-key=${field.id} data-field=${field.id} data-type=${field.field_type} id=${id}
        aria-describedby=${described}>
        <legend>${label}</legend>
        ${group(id, field, value, problem)}
        ${notes}
      </fieldset>`;
  }
  const control = single(id, field, value, directory);
  control.setAttribute("autocomplete", "off");
  if (described) control.setAttribute("aria-describedby", described);
  if (field.required) control.setAttribute("aria-required", "true");
  if (problem) control.setAttribute("aria-invalid", "true");
  return html`
    <div class="field" data-key=${field.id} data-field=${field.id} data-type=${field.field_type}>
      <label for=${id}>${label}</label>
      <div class="control" data-key="control">${control}</div>
      ${notes}
    </div>`;
}

/** What a person changed within `form`: values by field id, and what is wrong with them before they are sent. */
export function readChanges(form, fields, directory) {
  const values = {};
  const errors = {};
  for (const field of fields) {
    const inputs = controls(form.querySelector(`[data-field="${CSS.escape(field.id)}"]`));
    if (!inputs.some(isChanged)) continue;
    try {
      values[field.id] = read(field, inputs, directory);
    } catch (error) {
      errors[field.id] = error.message;
    }
  }
  return { values, errors };
}

/** A value as text, for reading only. */
export function shownValue(field, value, directory) {
  if (value === null || value === undefined || value === "") return "";
  switch (field.field_type) {
    case "dropdown":
      return value.text ?? "";
    case "multiselect":
      return value
        .filter((option) => option.selected === true)
        .map((option) => option.text)
        .join(", ");
    case "table":
      return field.columns.map((column, index) => `${column.label}: ${value[index] ?? ""}`).join("\n");
    case "date":
    case "file":
    case "assignees_form":
      return SINGLE[field.field_type].show(value, directory);
    default:
      return String(value);
  }
}

const GROUPS = {
  radio: (id, field, value, problem) => choices(id, field, "radio", problem, (option) => option.text === value),
  multiselect: (id, field, value, problem) => {
    const selected = new Set((value ?? []).filter((option) => option.selected === true).map((option) => option.id));
    return choices(id, field, "checkbox", problem, (option) => selected.has(option.id));
  },
  table: (id, field, value, problem) => html`
    <div class="columns">
      ${field.columns.map(
        (column, index) => html`
          <label data-key=${column.id}>
            <span>${column.label}</span>
            <input type="text" name="${id}-${column.id}" value=${asLine(value?.[index])} autocomplete="off"
              aria-invalid=${problem && "true"}>
          </label>`,
      )}
    </div>`,
};

function choices(id, field, type, problem, isChosen) {
  const options = field.options.map(
    (option) => html`
      <label class="choice" data-key=${option.id}>
        <input type=${type} name=${id} value=${option.id} checked=${isChosen(option)} aria-invalid=${problem && "true"}>
        <span>${option.text}</span>
      </label>`,
  );
  return html`<div class="choices">${options}</div>`;
}

function single(id, field, value, directory) {
  if (field.field_type === "textarea")
    return html`<textarea id=${id} name=${id} rows="3">${String(value ?? "").replace(/\r\n?/g, "\n")}</textarea>`;
  if (field.field_type === "dropdown") {
    const options = field.options.map(
      (option) => html`<option value=${option.id} selected=${option.id === value?.id}>${option.text}</option>`,
    );
    return html`
      <select id=${id} name=${id}>
        <option value="" selected=${!value}>Choose…</option>
        ${options}
      </select>`;
  }
  const kind = SINGLE[field.field_type] ?? SINGLE.text;
  return html`<input id=${id} name=${id} type=${kind.type} value=${kind.show(value, directory)}>`;
}

function read(field, inputs, directory) {
  const chosen = (option) => inputs.find((input) => input.value === String(option.id))?.checked;
  switch (field.field_type) {
    case "radio":
      return field.options.find(chosen).text;
    case "multiselect":
      return field.options.filter(chosen).map(({ id, text }) => ({ id, text, value: null, selected: true }));
    case "dropdown": {
      const option = field.options.find((each) => String(each.id) === inputs[0].value);
      return option === undefined ? null : { id: option.id, text: option.text, value: null };
    }
    case "table":
      return inputs.some((input) => input.value !== "") ? inputs.map((input) => input.value) : null;
    case "textarea":
      return inputs[0].value;
    default:
      return (SINGLE[field.field_type] ?? SINGLE.text).read(inputs[0].value, directory);
  }
}

function asLine(value) {
  return String(value ?? "").replace(/[\r\n]+/g, " ");
}

function names(text) {
  return text
    .split(",")
    .map((name) => name.trim())
    .filter(Boolean);
}
