// The list of documents: upload with progress, state, warnings, delete.
import { call, upload } from "./api.js";
import { announce, byId, keep, make, notice } from "./dom.js";
import { knows, text } from "./language.js";
import { forget } from "./messages.js";
import { complain, sentenceOf } from "./problems.js";
import * as reading from "./reading.js";

const LOOK = 2000; // milliseconds between two looks at a document that is being read
const WAITING = new Set(["offline", "invalid_api_key"]); // what another try mends once the assistant is back, or has its key
const FINAL = new Set(["empty", "bad_name", "too_large"]); // what another try with the same file can't mend
const KINDS = {
  "application/pdf": "PDF",
  "text/html": "HTML",
  "text/markdown": "Markdown",
  "text/plain": "TXT",
  "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "DOCX",
  "application/vnd.ms-word.document.macroenabled.12": "DOCM",
};

let known = [];
let timer = null;
const uploads = []; // { key, file, share, problem, controller }

// ---- what a row says

function failureOf(one) {
  const key = `failed_${one.error_code}`;
  return knows(key) ? text(key) : text("failed_unknown", { message: one.error });
}

function stateOf(one) {
  if (one.state === "failed") return text("failed", { why: failureOf(one) });
  if (one.error) return failureOf(one);
  if (one.state === "searchable") return text("searchable", { percent: Math.floor(100 * one.progress) });
  if (one.state === "ready") return one.pages === 1 ? text("ready_one") : text("ready", { pages: one.pages });
  return text("received");
}

// "3–7, 9": where a warning is of many pages, it is said once.
function ranges(numbers) {
  const spans = [];
  for (const number of numbers) {
    if (spans.at(-1)?.[1] === number - 1) spans.at(-1)[1] = number;
    else spans.push([number, number]);
  }
  return spans.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ");
}

function flagsOf(warnings) {
  const values = new Map();
  for (const warning of warnings) {
    const [name, value] = warning.split(/:(.*)/);
    values.set(name, [...(values.get(name) ?? []), value]);
  }
  if (values.has("hidden-instructions")) values.delete("hidden-text"); // said by the other
  return [...values].map(([name, all]) => {
    if (!knows(`flag_${name}`)) return text("flag_unknown", { value: name });
    return text(`flag_${name}`, { value: name.endsWith("-page") ? ranges(all.map(Number)) : (KINDS[all[0]] ?? all[0] ?? "") });
  });
}

const hasText = (one) => one.state === "searchable" || one.state === "ready";
const isDone = (one) => one.state === "ready" || one.state === "failed" || Boolean(one.error);

function rowOf(one) {
  const share = isDone(one) ? 1 : one.state === "received" ? null : one.progress;
  const label = text("remove_named", { name: one.name });
  const read = hasText(one) ? () => reading.open(one) : null;
  return { key: one.id, name: one.name, state: stateOf(one), share, bad: Boolean(one.error), flags: flagsOf(one.warnings), label, remove: () => removeOne(one), read };
}

function rowOfUpload(one) {
  const { key, file, share, problem } = one;
  const state = problem ? sentenceOf(problem) : text("uploading", { percent: Math.floor(100 * share) });
  const label = text(problem ? "discard_named" : "cancel_named", { name: file.name });
  const remove = problem ? () => take(one) : () => one.controller.abort();
  return { key, name: file.name, state, share: problem ? 1 : share, bad: Boolean(problem), flags: [], label, remove, retry: problem && !FINAL.has(problem.code) ? () => start(one) : null };
}

// ---- rows as elements

function build() {
  const parts = {
    name: make("span", { className: "name", dir: "auto" }),
    remove: make("button", { className: "quiet remove", type: "button", textContent: "✕" }),
    state: make("span", { className: "state" }),
    bar: make("progress", { max: 1 }),
    retry: make("button", { className: "quiet retry", type: "button", says: "retry" }),
    read: make("button", { className: "quiet read", type: "button", says: "read_this" }),
    flags: make("ul", { className: "flags" }),
  };
  return Object.assign(make("li", {}, ...Object.values(parts)), { parts });
}

function update(row, { name, state, share, bad, flags, label, remove, retry, read }) {
  const { parts } = row;
  row.classList.toggle("bad", bad);
  Object.assign(parts.name, { textContent: name, title: name });
  Object.assign(parts.remove, { ariaLabel: label, onclick: remove });
  parts.state.textContent = state;
  parts.bar.hidden = share === 1;
  parts.bar.ariaLabel = text("tell", { name, state });
  if (share === null) parts.bar.removeAttribute("value");
  else parts.bar.value = share;
  parts.retry.hidden = !retry;
  Object.assign(parts.retry, { onclick: retry, ariaLabel: text("retry_named", { name }) });
  parts.read.hidden = !read;
  Object.assign(parts.read, { onclick: read, ariaLabel: text("read_named", { name }), ariaHasPopup: "dialog" });
  parts.flags.hidden = !flags.length;
  const shown = [...parts.flags.children].map((flag) => flag.lastChild.textContent);
  if (flags.join() === shown.join()) return;
  parts.flags.replaceChildren(...flags.map((flag) => make("li", {}, make("span", { ariaHidden: "true", textContent: "⚠ " }), make("b", { textContent: text("warning") }), " ", make("span", { textContent: flag }))));
}

export function show() {
  const rows = [...known.map(rowOf), ...uploads.map(rowOfUpload)];
  keep(byId("documents"), rows, { key: (row) => row.key, build, update, empty: "no_documents", otherwise: byId("file") });
}

// ---- what is done

export async function refresh() {
  clearTimeout(timer);
  let wait = LOOK;
  try {
    const before = new Map(known.map((one) => [one.id, isDone(one)]));
    known = (await call("GET", "v1/documents")).data;
    for (const one of known) if (isDone(one) && before.get(one.id) === false) announce(text("tell", { name: one.name, state: stateOf(one) }));
  } catch (problem) {
    if (problem.code === "rate_limit") wait = 1000 * problem.values.seconds;
    else complain(problem);
  }
  show();
  clearTimeout(timer);
  if (!known.every(isDone)) timer = setTimeout(refresh, wait);
}

async function removeOne(one) {
  if (!confirm(text("sure", { name: one.name }))) return;
  try {
    await call("DELETE", `v1/documents/${one.id}`);
  } catch (problem) {
    if (problem.code !== "no_document") return complain(problem);
  }
  forget(one.id);
  announce(text("deleted", { name: one.name }));
  await refresh();
}

function take(one) {
  uploads.splice(uploads.indexOf(one), 1);
  show();
}

async function start(one) {
  Object.assign(one, { share: 0, problem: null, controller: new AbortController() });
  show();
  try {
    const progress = (share) => {
      one.share = share;
      show();
    };
    const made = await upload(one.file, progress, one.controller.signal);
    if (known.some((document) => document.id === made.id)) notice(() => text("already", { name: made.name }), { good: true, seconds: 10 });
    take(one);
    await refresh();
  } catch (problem) {
    if (problem.name === "AbortError") return take(one);
    one.problem = problem;
    show();
    if (WAITING.has(problem.code)) complain(problem);
    announce(text("tell", { name: one.file.name, state: sentenceOf(problem) }));
  }
}

let count = 0;

export async function add(files) {
  const added = files.map((file) => ({ key: `upload-${++count}`, file, share: 0, problem: null, controller: new AbortController() }));
  uploads.push(...added);
  show();
  for (const one of added) if (uploads.includes(one)) await start(one);
}

// Goes on with what waited for the assistant.
export async function resume() {
  await refresh();
  for (const one of uploads.filter((upload) => WAITING.has(upload.problem?.code))) await start(one);
}

export function listen() {
  byId("file").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
  });
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("over");
    if (!holdsFiles(event)) return;
    event.preventDefault();
    add([...event.dataTransfer.files]);
  });
  addEventListener("beforeunload", (event) => {
    if (uploads.some((one) => !one.problem)) event.preventDefault();
  });
}
