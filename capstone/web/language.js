// Which language the page speaks, and every sentence on it that changes with that.
import { TEXTS } from "./texts.js";

const SAYS = Symbol("what an element's properties say");
const VIETNAMESE = /[ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]/i;

const chosen = localStorage.getItem("language");
let current = chosen in TEXTS ? chosen : navigator.language.startsWith("vi") ? "vi" : "en";

export const language = () => current;

// Values stand for themselves, whichever way they are written: a right-to-left name turns nothing else around.
export function text(key, values = {}) {
  const known = TEXTS[current][key] ?? key;
  return known.replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "string" ? `\u2068${values[name]}\u2069` : String(values[name])));
}

// A time, in seconds since 1970, as the page's language writes it.
export const dateOf = (seconds) => new Date(1000 * seconds).toLocaleString(current, { dateStyle: "medium", timeStyle: "short" });

export const knows = (key) => key in TEXTS[current];

// Which language a voice should read a text in.
export const tongueOf = (content) => (VIETNAMESE.test(content.normalize("NFC")) ? "vi" : "en");

// Which way a text is written, by its first letter. (The browser's own dir="auto" takes half a minute for a pasted megabyte.)
export const directionOf = (content) => (/^[^\p{L}]*[\u0590-\u08ff\ufb1d-\ufefc]/u.test(content.slice(0, 200)) ? "rtl" : "ltr");

// Lets `element[property]` say something now, and again whenever the language changes: a key, or a function that gives the sentence.
export function say(element, sentence, property = "textContent") {
  const told = typeof sentence === "function" ? sentence : () => text(sentence);
  (element[SAYS] ??= {})[property] = told;
  element.dataset.says = "";
  element[property] = told();
  return element;
}

export function speak(wanted) {
  current = wanted;
  localStorage.setItem("language", current);
  document.documentElement.lang = current;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  for (const element of document.querySelectorAll("[data-placeholder]")) element.placeholder = text(element.dataset.placeholder);
  for (const element of document.querySelectorAll("[data-says]"))
    for (const [property, told] of Object.entries(element[SAYS])) element[property] = told();
}
