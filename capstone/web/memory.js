// What is remembered of all conversations: listed, searched, forgotten, in a dialog.
import { addressOf, visit } from "./address.js";
import { call } from "./api.js";
import * as chat from "./chat.js";
import { byId, keep, make } from "./dom.js";
import { dateOf, say, text, tongueOf } from "./language.js";
import { complain, sentenceOf } from "./problems.js";

const AT_ONCE = 50; // turns of the list
const FOUND = 20; // turns of a search
const LISTED = 300; // characters of a turn that are listed: it opens in whole in its conversation
const NAMED = 60; // characters of a turn that stand for it
const ELSEWHERE = new Set(["offline", "invalid_api_key"]); // problems that are told outside of the dialog

let known = [];
let older = null; // what the next page of the list begins before; null where there is none
let asked = ""; // what is searched for; empty: all is listed
let look = 0;

const dialog = byId("memory");
const begin = (content, characters) => (content.length > characters ? `${Array.from(content).slice(0, characters).join("")}…` : content);
const nameOf = (one) => begin(one.content, NAMED);

function tell(sentence) {
  say(byId("memory-status"), sentence);
}

function fail(problem) {
  if (!ELSEWHERE.has(problem.code)) return tell(() => sentenceOf(problem));
  dialog.close();
  complain(problem);
}

function show() {
  const empty = () => text(asked ? "memory_not_found" : "memory_none");
  keep(byId("memories"), known, { key: (one) => one.id, build, update: () => {}, empty, otherwise: byId("memory-query") });
  byId("memory-older").hidden = older === null;
  byId("memory-all").hidden = !known.length && !asked;
}

function build(one) {
  const address = addressOf(one.conversation_id, one.id);
  const open = make("a", { className: "name", dir: "auto", lang: tongueOf(one.content), href: address, textContent: begin(one.content, LISTED) });
  open.addEventListener("click", (event) => {
    event.preventDefault();
    dialog.close();
    visit(address);
  });
  const said = make("span", { className: "state", says: () => text(`turn_${one.role}`, { when: dateOf(one.created) }) });
  const remove = make("button", { className: "quiet remove", type: "button", textContent: "✕", onclick: () => forget(one) });
  say(remove, () => text("memory_forget", { content: nameOf(one) }), "ariaLabel");
  return make("li", {}, open, said, remove);
}

// Shows the first page anew, or what is searched for.
async function refresh() {
  const mine = ++look;
  const search = () => call("POST", "v1/memories/search", { query: asked, k: FOUND, conversation: chat.current() });
  try {
    const found = await (asked ? search() : call("GET", `v1/memories?limit=${AT_ONCE}`));
    if (look !== mine) return;
    known = found.data;
    older = found.next ?? null;
    show();
    byId("memories").scrollTop = 0;
    if (asked) tell(() => text("memory_found", { count: known.length }));
  } catch (problem) {
    fail(problem);
  }
}

async function more() {
  const mine = look;
  try {
    const found = await call("GET", `v1/memories?limit=${AT_ONCE}&before=${older}`);
    if (look !== mine) return;
    const last = known.length;
    known = [...known, ...found.data];
    older = found.next;
    show();
    byId("memories").children[last]?.querySelector("a")?.focus();
  } catch (problem) {
    fail(problem);
  }
}

async function forget(one) {
  if (!confirm(text("memory_sure", { content: nameOf(one) }))) return;
  try {
    await call("DELETE", `v1/memories/${one.id}`);
  } catch (problem) {
    if (problem.code !== "no_memory") return fail(problem);
  }
  known = known.filter((other) => other.id !== one.id);
  show();
  tell("memory_gone");
  chat.readAgain();
}

async function forgetAll() {
  if (!confirm(text("memory_all_sure"))) return;
  history.replaceState(null, "", addressOf(null));
  chat.begin(); // an answer that is being written ends, and is not kept
  try {
    await call("DELETE", "v1/memories");
  } catch (problem) {
    return fail(problem);
  }
  search("");
  byId("memory-query").focus();
  tell("memory_all_gone");
  chat.begin();
}

function search(query) {
  byId("memory-query").value = query;
  asked = query.trim().toWellFormed();
  return refresh();
}

export function open() {
  known = [];
  tell(() => "");
  search("");
  dialog.showModal();
}

export const close = () => dialog.close();

export function listen() {
  byId("remember").addEventListener("click", open);
  byId("memory-older").addEventListener("click", more);
  byId("memory-all").addEventListener("click", forgetAll);
  byId("memory-search").addEventListener("submit", (event) => {
    event.preventDefault();
    search(byId("memory-query").value);
  });
}
