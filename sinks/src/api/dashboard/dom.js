// Elements without markup in strings: what comes from the server is always text.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** An HTML element. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An SVG element. */
export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** The element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Sets a text only if it differs, so that screen readers are not told again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A table of texts or elements. `columns` are `{title, number}`. */
export function table(columns, rows) {
  const heads = columns.map(({ title, number }) => h("th", { scope: "col", class: number ? "n" : null }, title));
  const cell = (value, at) =>
    h("td", { class: columns[at].number ? "n" : columns[at].nowrap ? "nowrap" : null }, value ?? "–");
  const body = rows.map((row) => h("tr", {}, row.map(cell)));
  return h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, body));
}

/** Names and values. */
export function pairs(className, list) {
  const entries = list.map(([name, value]) => h("div", { class: "pair" }, h("dt", {}, name), h("dd", {}, value)));
  return className === "pairs"
    ? h("dl", { class: "pairs" }, list.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value ?? "–")]))
    : h("dl", { class: className }, entries);
}
