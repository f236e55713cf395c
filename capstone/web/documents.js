// The list of documents: upload with progress, state, delete.
import { call, upload } from "./api.js";
import { byId, make, notice } from "./dom.js";
import { text } from "./texts.js";

const uploads = new Map();
let known = [];
let timer = null;

function stateOf(one) {
  if (one.state === "searchable") return text("searchable", { percent: Math.floor(100 * one.progress) });
  if (one.state === "ready") return one.pages === 1 ? text("ready_one") : text("ready", { pages: one.pages });
  return one.state === "failed" ? `${text("failed")}: ${one.error}` : text("received");
}

function row(name, state, share, remove) {
  const item = make("li", {}, make("span", { className: "name", textContent: name, title: name }), make("span", { className: "state", textContent: state }));
  if (share < 1) item.append(make("progress", { value: share, max: 1, ariaLabel: `${name}: ${state}` }));
  if (remove) item.append(make("button", { className: "quiet remove", textContent: "✕", ariaLabel: `${text("remove")} ${name}`, onclick: remove }));
  return item;
}

export function show() {
  const rows = known.map((one) => {
    const share = one.state === "ready" || one.state === "failed" ? 1 : one.progress;
    const item = row(one.name, stateOf(one), share, () => removeOne(one));
    item.classList.toggle("bad", one.state === "failed");
    if (one.warnings.includes("hidden-text")) item.append(make("span", { className: "flag", textContent: `⚠ ${text("flagged")}` }));
    return item;
  });
  for (const [name, share] of uploads) rows.push(row(name, text("uploading", { percent: Math.floor(100 * share) }), Math.min(share, 0.99), null));
  byId("documents").replaceChildren(...(rows.length ? rows : [make("li", { className: "empty", textContent: text("no_documents") })]));
}

async function removeOne(one) {
  if (!confirm(text("sure", { name: one.name }))) return;
  await call("DELETE", `v1/documents/${one.id}`).catch((problem) => notice(problem.message || text("offline")));
  await refresh();
}

export async function refresh() {
  clearTimeout(timer);
  try {
    known = (await call("GET", "v1/documents")).data;
  } catch (problem) {
    notice(problem.message && problem.status ? problem.message : text("offline"));
  }
  show();
  if (known.some((one) => one.state === "received" || one.state === "searchable")) timer = setTimeout(refresh, 1500);
}

export async function add(files) {
  for (const file of files) {
    uploads.set(file.name, 0);
    show();
    try {
      await upload(file, (share) => {
        uploads.set(file.name, share);
        show();
      });
    } catch (problem) {
      notice(problem.message ? `${file.name}: ${problem.message}` : text("offline"));
    }
    uploads.delete(file.name);
    await refresh();
  }
}

export function listen() {
  byId("file").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
  });
  const over = (on) => (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", on);
  };
  document.body.addEventListener("dragover", over(true));
  document.body.addEventListener("dragleave", over(false));
  document.body.addEventListener("drop", (event) => {
    over(false)(event);
    add([...event.dataTransfer.files]);
  });
}
