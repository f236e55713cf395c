// One conversation: ask, stream, stop; and whatever happens, what was typed is not lost.
import { addressOf } from "./address.js";
import { call, events, limits } from "./api.js";
import { announce, byId, make, notice, quiet } from "./dom.js";
import { directionOf, text, tongueOf } from "./language.js";
import { bubble, fill, following, note, reveal, sources, toEnd, welcome } from "./messages.js";
import { complain } from "./problems.js";

const TITLE = 80; // characters of the first question
const DOUBLE = 600; // milliseconds within which a second click is one of a double click, and not meant for Stop, which takes Ask's place
const WRITING = 1500; // milliseconds that the service may take to write down an answer that a reload has cut off

let conversation = null;
let running = null;
let begunAt = 0; // of the running answer, on the clock of events
let visit = 0;
let stale = false; // something of it was forgotten while an answer was being written
let listChanged = () => {};

export const current = () => conversation;

export function whenListChanges(callback) {
  listChanged = callback;
}

// What stands in the question's box outlives a reload.
function keepDraft() {
  const box = byId("question");
  box.dir = directionOf(box.value);
  try {
    sessionStorage.setItem("draft", box.value);
  } catch {
    // larger than the browser keeps: it stands in the box all the same
  }
}

function giveBack(question) {
  byId("question").value = [question, byId("question").value].filter(Boolean).join("\n");
  keepDraft();
}

export function begin() {
  running?.abort();
  visit++;
  stale = false;
  conversation = null;
  welcome();
  listChanged();
}

export async function open(id, turn = null) {
  running?.abort();
  stale = false;
  const mine = ++visit;
  try {
    const whole = await call("GET", `v1/conversations/${encodeURIComponent(id)}`);
    if (visit !== mine) return;
    show(whole);
    if (turn) point(turn);
    const last = whole.messages.at(-1);
    if (last && !last.complete && Date.now() / 1000 - last.created < 60) setTimeout(() => again(id, mine), WRITING);
  } catch (problem) {
    if (visit !== mine) return;
    complain(problem);
    if (problem.code !== "no_conversation") return;
    history.replaceState(null, "", addressOf(null));
    begin();
  }
}

// Shows a conversation at one of its turns.
export function openTurn(id, turn) {
  if (id !== conversation) return open(id, turn);
  if (byId("messages").querySelector(`[data-turn="${turn}"]`)) return point(turn);
  return running ? notice("still_answering") : open(id, turn);
}

function point(turn) {
  for (const article of byId("messages").querySelectorAll("article.meant")) article.classList.remove("meant");
  const article = byId("messages").querySelector(`[data-turn="${turn}"]`);
  if (!article) return notice("error_no_memory");
  article.classList.add("meant");
  article.tabIndex = -1;
  article.focus({ preventScroll: true }); // a screen reader begins to read here
  article.scrollIntoView({ block: "center" });
}

// Something was forgotten: what is on the page is read again, once no answer is being written.
export function readAgain() {
  stale = Boolean(running);
  if (conversation && !running) open(conversation);
}

function show(whole) {
  conversation = whole.id;
  byId("messages").replaceChildren();
  for (const message of whole.messages) {
    const { article, body } = bubble(message.role, message.content);
    article.dataset.turn = message.id;
    if (message.role === "assistant") fill(body, message.content, message.citations);
    if (!message.complete) note(article, "note_cut");
    sources(article, message.citations);
  }
  if (whole.messages.length) reveal(byId("messages").lastElementChild);
  listChanged();
}

async function again(id, mine) {
  const whole = await call("GET", `v1/conversations/${encodeURIComponent(id)}`).catch(() => null);
  if (whole && visit === mine && !running && byId("messages").children.length === whole.messages.length) show(whole);
}

function busy(controller) {
  const focused = document.activeElement;
  running = controller;
  byId("send").hidden = Boolean(controller);
  byId("stop").hidden = !controller;
  if (controller && focused === byId("send")) byId("stop").focus();
  if (!controller && focused === byId("stop")) byId("question").focus();
}

async function ask(question) {
  const controller = new AbortController();
  const { signal } = controller;
  const mine = visit;
  begunAt = performance.now();
  busy(controller);
  const asked = bubble("user", question);
  const { article, body } = bubble("assistant");
  body.append(make("span", { says: "thinking" }));
  article.setAttribute("aria-busy", "true");
  announce(text("thinking"));
  toEnd();
  const heard = { said: "", cited: [], finish: "", began: false };
  const notes = [];
  try {
    await begun(question, signal);
    const asks = { messages: [{ role: "user", content: question }], conversation, stream: true };
    for await (const chunk of events("v1/chat/completions", asks, signal)) hear(heard, chunk, body);
    if (heard.finish === "length") notes.push("note_length");
  } catch (problem) {
    const stopped = problem.name === "AbortError";
    if (!heard.began) giveBack(question);
    if (!heard.began && !stopped) {
      asked.article.remove();
      article.remove();
    }
    if (problem.code === "no_conversation" && visit === mine) {
      conversation = null;
      history.replaceState(null, "", addressOf(null));
    }
    notes.push(stopped ? "note_stopped" : "note_cut");
    if (!stopped && problem.code !== "cut") complain(problem);
  }
  finish(article, body, heard, notes);
  if (running === controller) {
    busy(null);
    if (stale) open(conversation);
  }
  listChanged();
}

// Sees to it that the conversation is there.
async function begun(question, signal) {
  if (conversation) return;
  const title = Array.from(question).slice(0, TITLE).join("");
  const made = await call("POST", "v1/conversations", { title }, { signal });
  signal.throwIfAborted();
  conversation = made.id;
  history.replaceState(null, "", addressOf(conversation));
}

function hear(heard, chunk, body) {
  if (!heard.began) keepDraft();
  heard.began = true;
  heard.cited = chunk.citations || heard.cited;
  heard.said += chunk.choices[0]?.delta?.content || "";
  heard.finish = chunk.choices[0]?.finish_reason || heard.finish;
  if (heard.said) following(() => (body.textContent = heard.said));
}

function finish(article, body, { said, cited }, notes) {
  following(() => {
    fill(body, said, cited);
    for (const key of notes) note(article, key);
  });
  following(
    () => sources(article, cited),
    () => reveal(article),
  );
  article.removeAttribute("aria-busy");
  if (!byId("messages").querySelector("article")) welcome();
  if (article.isConnected) announce([said, ...notes.map((key) => text(key)), cited.length ? text("sources_count", { count: cited.length }) : ""].join(" "), tongueOf(said));
}

function send() {
  const question = byId("question").value.trim().toWellFormed();
  if (running) return notice("still_answering");
  if (!question) {
    byId("question").focus();
    return notice("no_question", { seconds: 6 });
  }
  const characters = Array.from(question).length;
  const number = (count) => count.toLocaleString(document.documentElement.lang);
  if (characters > limits.characters) return notice(() => text("question_too_long", { characters: number(characters), limit: number(limits.characters) }));
  quiet();
  byId("question").value = ""; // (the draft in the session's storage stays until the answer begins)
  ask(question);
}

export function listen() {
  const box = byId("question");
  giveBack(sessionStorage.getItem("draft") || "");
  box.addEventListener("input", keepDraft);
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  byId("stop").addEventListener("click", (event) => {
    if (!event.detail || event.timeStamp - begunAt > DOUBLE) running?.abort();
  });
}
