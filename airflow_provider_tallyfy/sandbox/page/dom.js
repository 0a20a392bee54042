/**
 * Building and patching the document. What is shown is built again as elements for every change, then the page is
 * made equal to them node by node: what stays the same stays the same node, with its focus and scroll position,
 * and a control that a person has changed keeps what they entered. Text only ever becomes text nodes.
 */

const templates = new WeakMap();
// A private-use character, which no template has, marks where a value goes.
const HOLE = /\uE000(\d+)\uE000/;

/**
 * Build what a template literal says: one element, or a list of them.
 *
 * An attribute whose value is null, undefined or false is left out, and true makes it present. In the content, lists
 * are flattened, and nulls, undefined and false left out. Line breaks with their indentation are no content.
 */
export function html(strings, ...values) {
  if (!templates.has(strings)) {
    const template = document.createElement("template");
    template.innerHTML = strings.reduce((text, next, index) => `${text}\uE000${index - 1}\uE000${next}`);
    templates.set(strings, template);
  }
  const content = document.importNode(templates.get(strings).content, true);
  const walker = document.createTreeWalker(content, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  for (const node of nodes) {
    if (node.nodeType === Node.TEXT_NODE) node.replaceWith(...filled(node.data, values));
    else for (const attribute of [...node.attributes]) fillAttribute(node, attribute, values);
  }
  return content.childNodes.length === 1 ? content.firstChild : [...content.childNodes];
}

function filled(text, values) {
  return text
    .split(HOLE)
    .map((part, index) => (index % 2 ? values[part] : part.replace(/^\s*\n\s*|\s*\n\s*$/g, "")))
    .flat(Infinity)
    .filter((part) => part !== null && part !== undefined && part !== false && part !== "");
}

function fillAttribute(element, { name, value }, values) {
  const parts = value.split(HOLE);
  if (parts.length === 1) return;
  const isWhole = parts.length === 3 && parts[0] === "" && parts[2] === "";
  const wanted = isWhole ? values[parts[1]] : parts.map((part, index) => (index % 2 ? values[part] : part)).join("");
  if (wanted === null || wanted === undefined || wanted === false) element.removeAttribute(name);
  else element.setAttribute(name, wanted === true ? "" : wanted);
}

/** Make the children of `root` equal to `content`. */
export function patch(root, ...content) {
  const entered = controls(root)
    .filter(isChanged)
    .map((control) => [control, control.value, control.checked]);
  const wanted = document.createElement(root.tagName);
  wanted.append(...content.flat(Infinity).filter(Boolean));
  patchChildren(root, wanted);
  for (const [control, value, checked] of entered) {
    if (!control.isConnected) continue;
    if (control.type === "checkbox" || control.type === "radio") control.checked = checked;
    else if (control.value !== value) control.value = value;
  }
}

/** The inputs, text areas and selects within an element. */
export function controls(root) {
  return [...root.querySelectorAll("input, textarea, select")];
}

/** Whether a person has entered something else than what the page put there. */
export function isChanged(control) {
  if (control.type === "checkbox" || control.type === "radio") return control.checked !== control.defaultChecked;
  if (control.tagName === "SELECT")
    return [...control.options].some((option) => option.selected !== option.defaultSelected);
  return control.value !== control.defaultValue;
}

/** Remember what a form holds now; the function returned makes that the state a person's changes are counted from. */
export function remember(form) {
  const sent = controls(form).map((control) => [
    control,
    control.value,
    control.checked,
    [...(control.options ?? [])].map((option) => option.selected),
  ]);
  return () => {
    for (const [control, value, checked, selected] of sent) {
      if (control.type === "checkbox" || control.type === "radio") control.defaultChecked = checked;
      else if (control.tagName === "SELECT")
        selected.forEach((each, index) => {
          control.options[index].defaultSelected = each;
        });
      else control.defaultValue = value;
    }
    forgetTouches(form);
  };
}

/** Let a form that is as the page made it follow the server again, although a person typed in it. */
export function forgetTouches(form) {
  if (!controls(form).some(isChanged)) form.reset();
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}

function isSameThing(current, wanted) {
  return current.nodeName === wanted.nodeName && keyOf(current) === keyOf(wanted);
}

function patchChildren(current, wanted) {
  const keys = new Set([...wanted.children].map(keyOf));
  for (const child of [...current.children]) {
    if (keyOf(child) !== null && !keys.has(keyOf(child))) child.remove();
  }
  let position = current.firstChild;
  for (const child of [...wanted.childNodes]) {
    const match = findMatch(current, position, child);
    if (match === null) {
      current.insertBefore(child, position);
      continue;
    }
    // What goes is taken out rather than what stays moved, since a moved element loses the focus.
    while (position !== match && position !== null && keyOf(position) === null) position = removed(position);
    if (match === position) position = position.nextSibling;
    else current.insertBefore(match, position);
    patchNode(match, child);
  }
  while (position !== null) position = removed(position);
}

function removed(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

function findMatch(parent, position, wanted) {
  const key = keyOf(wanted);
  if (key !== null)
    return [...parent.children].find((child) => keyOf(child) === key && isSameThing(child, wanted)) ?? null;
  return position !== null && isSameThing(position, wanted) ? position : null;
}

function patchNode(current, wanted) {
  if (current.nodeType !== Node.ELEMENT_NODE) {
    if (current.data !== wanted.data) current.data = wanted.data;
    return;
  }
  for (const { name } of [...current.attributes]) {
    // Whether a section is open is the person's choice.
    if (!wanted.hasAttribute(name) && name !== "open") current.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (current.getAttribute(name) !== value) current.setAttribute(name, value);
  }
  patchChildren(current, wanted);
}
