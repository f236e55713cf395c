// "Read this": a document is streamed through the long reader, in a dialog: how far it is, what it marks, and at the end what it holds
// beside what search alone finds. Closing the dialog ends the reading.
import { events } from "./api.js";
import { byId, make } from "./dom.js";
import { language, say, text, tongueOf } from "./language.js";
import { warningOf } from "./messages.js";
import { complain, sentenceOf } from "./problems.js";
import { openCitation } from "./viewer.js";

const QUARTER = 25; // percent between two times that a screen reader hears how far it is
const ELSEWHERE = new Set(["offline", "invalid_api_key"]); // problems for which the page does something as well

let subject = null; // the document
let running = null;
let at = null; // the last progress
let shown = 0; // marks in the list

const dialog = byId("reading");
const count = (number) => Math.round(number).toLocaleString(language());
const percentOf = ({ characters, of_characters }) => (of_characters ? Math.floor((100 * characters) / of_characters) : 100);
const secondsOf = ({ seconds }) => seconds.toLocaleString(language(), { maximumFractionDigits: seconds < 10 ? 1 : 0 });
const tell = (sentence) => say(byId("reading-status"), sentence);

function busy(controller) {
  const focused = [byId("reading-stop"), byId("reading-again")].includes(document.activeElement);
  running = controller;
  byId("reading-stop").hidden = !controller;
  byId("reading-again").hidden = Boolean(controller);
  if (focused) byId(controller ? "reading-stop" : "reading-again").focus();
}

// ---- what comes

function progress(step) {
  const before = at ? percentOf(at) : 0;
  const { tokens, characters, of_characters, page, pages, marks, seconds } = (at = step);
  const percent = percentOf(step);
  byId("reading-bar").value = of_characters ? characters / of_characters : 1;
  const left = characters ? seconds * (of_characters / characters - 1) : 0;
  say(byId("reading-figures"), () => {
    const values = { percent, tokens: count(tokens), seconds: secondsOf(step), rate: count(tokens / (seconds || 1)), page: count(page), pages: count(pages) };
    return `${text("reading_figures", values)}${left > 1 ? ` ${text("reading_left", { seconds: count(left) })}` : ""}`;
  });
  if (percent < 100 && Math.floor(percent / QUARTER) > Math.floor(before / QUARTER)) tell(() => text("reading_at", { percent }));
  more(marks);
}

function more(marks) {
  byId("reading-more").hidden = marks <= shown;
  if (marks > shown) say(byId("reading-more"), () => text("reading_more", { count: count(marks - shown) }));
}

const placeOf = ({ page, page_index }) => (page ? text("reading_page", { page: count(page) }) : text("reading_part", { page: count(page_index + 1) }));
const show = (place) => openCitation({ document_id: subject.id, document: subject.name, heading: [], suspicious: false, ...place });

function mark(step) {
  const pair = step.key ? [make("b", { textContent: `${step.key} -> ${step.value}` }), " "] : [];
  const kind = () => `${placeOf(step)} · ${text(`mark_${step.kind}`, { earlier: step.earlier })}`;
  const passage = make("q", { dir: "auto", lang: tongueOf(step.passage), textContent: step.passage.trim() });
  const open = make("button", { className: "source", type: "button", onclick: () => show(step) }, make("span", { className: "place", says: kind }), ...pair, passage);
  if (step.suspicious) open.append(warningOf());
  byId("reading-marks").querySelector(".empty")?.remove();
  byId("reading-marks").append(make("li", {}, open));
  shown++;
}

function answer({ key, value, probability, marked, times, apart, retrieved }) {
  const held = () => {
    if (value) return text("reading_value", { value, percent: Math.floor(100 * probability) });
    return marked ? text("reading_lost", { value: marked }) : text("reading_nothing");
  };
  const reader = make("td", {}, make("span", { says: held }));
  if (times > 1) reader.append(make("small", { says: () => text("reading_times", { times: count(times), apart: count(apart) }) }));
  if (value && value !== marked) reader.append(make("small", { says: () => text("reading_last", { value: marked }) }));
  const found = make("td");
  if (retrieved) {
    const values = retrieved.values.join(", ");
    const open = make("button", { className: "ref", type: "button", textContent: values, onclick: () => show(retrieved) });
    found.append(say(open, () => text("reading_open", { value: values, key }), "ariaLabel"), make("small", { says: () => placeOf(retrieved) }));
  } else found.append(make("span", { says: "reading_nothing" }));
  byId("reading-answers").append(make("tr", {}, make("th", { scope: "row", textContent: key }), reader, found));
  byId("reading-end").hidden = false;
}

const HEARD = { progress, mark, answer };

// ---- what is done

function clear() {
  [at, shown] = [null, 0];
  byId("reading-bar").value = 0;
  byId("reading-end").hidden = byId("reading-more").hidden = true;
  byId("reading-answers").replaceChildren();
  byId("reading-marks").replaceChildren(make("li", { className: "empty", says: "reading_no_marks" }));
  say(byId("reading-figures"), () => "");
  say(byId("reading-bar"), "reading_bar", "ariaLabel");
}

async function read() {
  const controller = new AbortController();
  const { signal } = controller;
  running?.abort();
  busy(controller);
  clear();
  tell("reading_begun");
  let end;
  try {
    for await (const step of events(`v1/documents/${subject.id}/reading`, {}, signal)) if (!signal.aborted) HEARD[step.event](step);
    const last = at;
    const said = byId("reading-answers").children.length ? "reading_done" : "reading_none";
    end = () => text(said, { tokens: count(last.tokens), seconds: secondsOf(last), marks: count(last.marks) });
  } catch (problem) {
    end = problemOf(problem);
    if (ELSEWHERE.has(problem.code)) complain(problem);
  }
  if (running !== controller) return; // another one has begun, or the dialog is closed
  tell(end);
  busy(null);
}

function problemOf(problem) {
  const percent = at ? percentOf(at) : 0;
  if (problem.name === "AbortError") return () => text("reading_stopped", { percent });
  if (problem.code === "cut") return () => text("reading_cut", { percent });
  return () => sentenceOf(problem);
}

export function open(one) {
  subject = one;
  say(byId("reading-title"), () => text("reading", { name: one.name }));
  byId("reading-words").hidden = one.state === "ready";
  dialog.showModal();
  byId("reading-stop").hidden = false;
  byId("reading-stop").focus();
  read();
}

export const close = () => dialog.close();

export function listen() {
  byId("reading-stop").addEventListener("click", () => running?.abort());
  byId("reading-again").addEventListener("click", read);
  dialog.addEventListener("close", () => {
    running?.abort();
    running = null;
  });
}
