// Small helpers to build and keep elements. Text is always set as text, never as HTML.
import { say } from "./language.js";

export function make(tag, properties = {}, ...children) {
  const { dataset, says, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset || {});
  if (says) say(element, says);
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

// Brings a list's rows in step with `items` and leaves every row that stays where it is: focus stays too. From a row that goes, focus
// moves to the next one, or to `otherwise` where none is left.
export function keep(list, items, { key, build, update, empty, otherwise }) {
  const rows = (list.rows ??= new Map());
  const wanted = new Set(items.map(key));
  for (const [name, row] of rows) {
    if (wanted.has(name)) continue;
    const focused = row.contains(document.activeElement);
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    rows.delete(name);
    if (focused) (next?.querySelector("a, button") ?? otherwise).focus();
  }
  list.querySelector(":scope > .empty")?.remove();
  items.forEach((item, place) => {
    const name = key(item);
    if (!rows.has(name)) rows.set(name, build(item));
    const row = rows.get(name);
    update(row, item);
    if (list.children[place] !== row) list.insertBefore(row, list.children[place] ?? null);
  });
  if (!items.length) list.append(make("li", { className: "empty", says: empty }));
}

// Says something to a screen reader, and to nobody else.
export function announce(sentence, lang = "") {
  byId("status").lang = lang || document.documentElement.lang;
  byId("status").textContent = sentence;
}

let leaving = null;

// A message at the top of the page: a key or function, as for `say`. It stays until it is closed, replaced, or (`seconds`) time is up.
export function notice(sentence, { good = false, seconds = 0 } = {}) {
  clearTimeout(leaving);
  say(byId("notice-text"), sentence);
  byId("notice").classList.toggle("good", good);
  byId("notice").hidden = false;
  if (seconds) leaving = setTimeout(quiet, 1000 * seconds);
}

export function quiet() {
  clearTimeout(leaving);
  byId("notice").hidden = true;
}
