/**
 * Form fields, of kick-off forms and of tasks alike: each type's input, the text its value is shown as, and the
 * value that the API wants back. Only what a user changed is sent, so that other answers are not overwritten.
 */

import { attributes, controls, html, isChanged } from "./dom.js";

/** A type with one line of text: how it shows a value for reading and in its input, and reads what was entered. */
function line(type, { hint, show, read = (text) => text } = {}) {
  return {
    hint,
    control: (given, field, value, directory) =>
      html`<input ${given} type=${type} value=${(show ?? asLine)(value, directory)}>`,
    read: ([input], field, directory) => read(input.value, directory),
    show: show ?? String,
  };
}

/** Each type's control, the value of what was entered in it, and the text that a value is shown as. */
const TYPES = {
  text: line("text"),
  email: line("email", { show: (value) => asLine(value).trim(), read: (text) => text.trim() }),
  // A date is the day that was written, in no particular zone.
  date: line("date", {
    show: (value) => /^\d{4}-\d\d-\d\d/.exec(value ?? "")?.[0] ?? "",
    read: (text) => (text === "" ? "" : `${text}T00:00:00.000Z`),
  }),
  file: line("text", {
    hint: "The name of a file; several with commas. The sandbox keeps the name only.",
    show: (value) => (value ?? []).map((file) => file.filename ?? file.url).join(", "),
    read: (text) => names(text).map((filename) => ({ id: `sandbox-${filename}`, filename, version: 1, url: "" })),
  }),
  assignees_form: line("text", {
    hint: "Names, email addresses or groups, with commas between them.",
    show: (value, directory) => directory.named(value),
    read: (text, directory) => directory.find(names(text)),
  }),
  textarea: {
    // The first line break in a text area is no part of its text.
    control: (given, field, value) =>
      html`<textarea ${given} rows="3">${`\n${String(value ?? "").replace(/\r\n?/g, "\n")}`}</textarea>`,
    read: ([input]) => input.value,
    show: String,
  },
  dropdown: {
    control: (given, field, value) => html`
      <select ${given}>
        <option value="" selected=${!value}>Choose…</option>
        ${field.options.map(
          (option) => html`<option value=${option.id} selected=${option.id === value?.id}>${option.text}</option>`,
        )}
      </select>`,
    read([input], field) {
      const option = field.options.find(({ id }) => String(id) === input.value);
      return option === undefined ? null : { id: option.id, text: option.text, value: null };
    },
    show: (value) => value.text ?? "",
  },
  radio: {
    group: (id, field, value, problem) => choices(id, field, "radio", problem, (option) => option.text === value),
    read: (inputs, field) => field.options.find(chosenIn(inputs)).text,
    show: String,
  },
  multiselect: {
    group(id, field, value, problem) {
      const selected = new Set((value ?? []).filter((option) => option.selected === true).map((option) => option.id));
      return choices(id, field, "checkbox", problem, (option) => selected.has(option.id));
    },
    read: (inputs, field) =>
      field.options.filter(chosenIn(inputs)).map(({ id, text }) => ({ id, text, value: null, selected: true })),
    show: (value) =>
      value
        .filter((option) => option.selected === true)
        .map((option) => option.text)
        .join(", "),
  },
  table: {
    group: (id, field, value, problem) => html`
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
    read: (inputs) => (inputs.some((input) => input.value !== "") ? inputs.map((input) => input.value) : null),
    show: (value, directory, field) =>
      field.columns.map((column, index) => `${column.label}: ${value[index] ?? ""}`).join("\n"),
  },
};

function typeOf(field) {
  return TYPES[field.field_type] ?? TYPES.text;
}

/** The element for a field, with its label, its guidance and what the server has against its value. */
export function fieldElement(prefix, field, { value, problem, directory }) {
  const id = `${prefix}-${field.id}`;
  const type = typeOf(field);
  const hint = [field.guidance, type.hint].filter(Boolean).join(" ");
  const described = [hint && `${id}-hint`, problem && `${id}-problem`].filter(Boolean).join(" ") || null;
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
  if (type.group !== undefined) {
    return html`
      <fieldset class="field" data-key=${field.id} data-field=${field.id} data-type=${field.field_type} id=${id}
        aria-describedby=${described}>
        <legend>${label}</legend>
        ${type.group(id, field, value, problem)}
        ${notes}
      </fieldset>`;
  }
  const given = attributes({
    id,
    name: id,
    autocomplete: "off",
    "aria-describedby": described,
    "aria-required": field.required && "true",
    "aria-invalid": problem && "true",
  });
  return html`
    <div class="field" data-key=${field.id} data-field=${field.id} data-type=${field.field_type}>
      <label for=${id}>${label}</label>
      <div class="control" data-key="control">${type.control(given, field, value, directory)}</div>
      ${notes}
    </div>`;
}

/** What a user changed within `form`: values by field id, and the errors of those that cannot be sent. */
export function readChanges(form, fields, directory) {
  const values = {};
  const errors = {};
  for (const field of fields) {
    const inputs = controls(form.querySelector(`[data-field="${CSS.escape(field.id)}"]`));
    if (!inputs.some(isChanged)) continue;
    try {
      values[field.id] = typeOf(field).read(inputs, field, directory);
    } catch (error) {
      errors[field.id] = error.message;
    }
  }
  return { values, errors };
}

/** A value as text, for reading only. */
export function shownValue(field, value, directory) {
  if (value === null || value === undefined || value === "") return "";
  return typeOf(field).show(value, directory, field);
}

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

/** The test whether the input of an option is checked. */
function chosenIn(inputs) {
  return (option) => inputs.find((input) => input.value === String(option.id))?.checked;
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
