// Small helpers to build elements. Text is always set as text, never as HTML.
export function make(tag, properties = {}, ...children) {
  const { dataset, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset || {});
  element.append(...children);
  return element;
}

export const byId = (id) => document.getElementById(id);

export function notice(message) {
  const box = byId("notice");
  box.textContent = message;
  box.hidden = !message;
  if (message) setTimeout(() => box.textContent === message && (box.hidden = true), 8000);
}
