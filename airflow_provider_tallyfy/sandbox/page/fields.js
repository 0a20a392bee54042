/**
 * Form fields, of kick-off forms and of tasks alike: each type's input, the text its value is shown as, and the
 * value that the API wants back. Only what a person changed is sent, so that other answers are not overwritten.
 */

import { controls, h, isChanged } from "./dom.js";

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
  const hints = [field.guidance, SINGLE[field.field_type]?.hint].filter(Boolean);
  const described = [hints.length > 0 && `${id}-hint`, problem && `${id}-problem`].filter(Boolean).join(" ");
  const state = {
    id,
    name: id,
    "aria-describedby": described || null,
    "aria-required": field.required ? "true" : null,
    "aria-invalid": problem ? "true" : null,
    autocomplete: "off",
  };
  const notes = [
    hints.length > 0 && h("p", { class: "hint", id: `${id}-hint`, "data-key": "hint" }, hints.join(" ")),
    problem && h("p", { class: "problem", id: `${id}-problem`, "data-key": "problem" }, problem),
  ];
  const shell = { class: "field", "data-key": field.id, "data-field": field.id, "data-type": field.field_type };
  const group = GROUPS[field.field_type];
  if (group !== undefined) {
    const groupState = { "aria-describedby": state["aria-describedby"] };
    return h(
      "fieldset",
      { ...shell, ...groupState, id },
      h("legend", {}, labelOf(field)),
      group(id, field, value, problem),
      notes,
    );
  }
  const control = h("div", { class: "control", "data-key": "control" }, single(field, state, value, directory));
  return h("div", shell, h("label", { for: id }, labelOf(field)), control, notes);
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
  table: (id, field, value, problem) =>
    h(
      "div",
      { class: "columns" },
      field.columns.map((column, index) =>
        h(
          "label",
          { "data-key": column.id },
          h("span", {}, column.label),
          h("input", {
            type: "text",
            name: `${id}-${column.id}`,
            value: asLine(value?.[index]),
            "aria-invalid": problem ? "true" : null,
            autocomplete: "off",
          }),
        ),
      ),
    ),
};

function choices(id, field, type, problem, isChosen) {
  return h(
    "div",
    { class: "choices" },
    field.options.map((option) =>
      h(
        "label",
        { class: "choice", "data-key": option.id },
        h("input", {
          type,
          name: id,
          value: String(option.id),
          checked: isChosen(option),
          "aria-invalid": problem ? "true" : null,
        }),
        h("span", {}, option.text),
      ),
    ),
  );
}

function single(field, state, value, directory) {
  if (field.field_type === "textarea") {
    return h("textarea", { ...state, rows: 3 }, String(value ?? "").replace(/\r\n?/g, "\n"));
  }
  if (field.field_type === "dropdown") {
    return h(
      "select",
      state,
      h("option", { value: "", selected: !value }, "Choose…"),
      field.options.map((option) =>
        h("option", { value: String(option.id), selected: option.id === value?.id }, option.text),
      ),
    );
  }
  const kind = SINGLE[field.field_type] ?? SINGLE.text;
  return h("input", { ...state, type: kind.type, value: kind.show(value, directory) });
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

function labelOf(field) {
  return [
    field.label,
    field.required && h("span", { class: "required", "aria-hidden": "true", title: "Required" }, "*"),
    field.required && h("span", { class: "visually-hidden" }, " (required)"),
  ];
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
