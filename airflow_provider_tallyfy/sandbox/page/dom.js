/**
 * Building and patching the document. What is shown is built again for every change, then the page is made equal to it
 * node by node: what stays the same stays the same node, with its focus and scroll position, and a control that a user
 * has changed keeps what they entered.
 */

/** Text that is HTML already; any other text is escaped. */
class Markup {
  constructor(text) {
    this.text = text;
  }
}

/**
 * Build the HTML that a template literal describes.
 *
 * An attribute whose value is null, undefined or false is left out, and true makes it present. In the content, lists
 * are flattened, and nulls, undefined and false left out. Line breaks with their indentation are no content.
 */
export function html(strings, ...values) {
  const parts = strings.map((part) => part.replace(/(^|(?<=>))\s*\n\s*|\s*\n\s*($|(?=<))/g, ""));
  let text = parts[0];
  values.forEach((value, index) => {
    const name = /\s([\w-]+)=$/.exec(text)?.[1];
    if (name === undefined) text += content(value);
    else text = `${text.slice(0, -name.length - 1)}${attributes({ [name]: value }).text} `;
    text += parts[index + 1];
  });
  return new Markup(text);
}

/** The attributes that an object has by their names, to be put into a tag. */
export function attributes(values) {
  const given = Object.entries(values).filter(([, value]) => !isNothing(value));
  return new Markup(given.map(([name, value]) => `${name}="${content(value === true ? "" : value)}"`).join(" "));
}

/** A paragraph with a text, if there is one; its class is its key too. */
export function note(kind, text) {
  return text && html`<p class=${kind} data-key=${kind}>${text}</p>`;
}

function isNothing(value) {
  return value === null || value === undefined || value === false;
}

function content(value) {
  if (Array.isArray(value)) return value.map(content).join("");
  if (value instanceof Markup) return value.text;
  const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  return isNothing(value) ? "" : String(value).replace(/[&<>"]/g, (character) => escapes[character]);
}

/** Make the children of `root` equal to what `html` built. */
export function patch(root, built) {
  const entered = controls(root)
    .filter(isChanged)
    .map((control) => [control, control.value, control.checked]);
  const wanted = document.createElement(root.tagName);
  wanted.innerHTML = content(built);
  patchChildren(root, wanted);
  for (const [control, value, checked] of entered) {
    if (isChoice(control)) control.checked = checked;
    else if (control.value !== value) control.value = value;
  }
}

/** The inputs, text areas and selects within an element. */
export function controls(root) {
  return [...root.querySelectorAll("input, textarea, select")];
}

function isChoice(control) {
  return control.type === "checkbox" || control.type === "radio";
}

/** Whether a user has entered something else than what the page put there. */
export function isChanged(control) {
  if (isChoice(control)) return control.checked !== control.defaultChecked;
  if (control.tagName === "SELECT")
    return [...control.options].some((option) => option.selected !== option.defaultSelected);
  return control.value !== control.defaultValue;
}

/** Remember what a form holds now; the function returned makes that the state a user's changes are counted from. */
export function remember(form) {
  const sent = controls(form).map((control) => [control, control.value, control.checked]);
  return () => {
    for (const [control, value, checked] of sent) {
      if (isChoice(control)) control.defaultChecked = checked;
      else if (control.tagName !== "SELECT") control.defaultValue = value;
      else for (const option of control.options) option.defaultSelected = option.value === value;
    }
    forgetTouches(form);
  };
}

/** Let a form that is as the page made it follow the server again, although a user typed in it. */
export function forgetTouches(form) {
  if (!controls(form).some(isChanged)) form.reset();
}

/** The children of a node by what identifies them: a `data-key`, or their place among the others of their kind. */
function childrenByKey(parent) {
  const counts = {};
  return new Map(
    [...parent.childNodes].map((node) => {
      const key = node.dataset?.key;
      if (key !== undefined) return [`${node.nodeName} ${key}`, node];
      counts[node.nodeName] = 1 + (counts[node.nodeName] ?? 0);
      return [`${node.nodeName}:${counts[node.nodeName]}`, node];
    }),
  );
}

function patchChildren(current, wanted) {
  const known = childrenByKey(current);
  const children = childrenByKey(wanted);
  // What goes is taken out rather than what stays moved, since a moved element loses the focus.
  for (const [key, child] of known) if (!children.has(key)) child.remove();
  let position = current.firstChild;
  for (const [key, child] of children) {
    const match = known.get(key) ?? child;
    if (match === position) position = position.nextSibling;
    else current.insertBefore(match, position);
    if (match !== child) patchNode(match, child);
  }
}

function patchNode(current, wanted) {
  if (current.nodeType !== Node.ELEMENT_NODE) {
    if (current.data !== wanted.data) current.data = wanted.data;
    return;
  }
  for (const { name } of [...current.attributes]) {
    // Whether a section is open is the user's choice.
    if (!wanted.hasAttribute(name) && name !== "open") current.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (current.getAttribute(name) !== value) current.setAttribute(name, value);
  }
  patchChildren(current, wanted);
}
