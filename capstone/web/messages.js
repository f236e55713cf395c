// How a conversation is shown: questions, answers with their numbered sources, and what there is to say of an answer.
import { addressOf } from "./address.js";
import { byId, make } from "./dom.js";
import { say, text, tongueOf } from "./language.js";
import { isTurn, openCitation, placeOf } from "./viewer.js";

const NEAR = 80; // pixels from the end of the conversation within which it is followed
const gone = new Set(); // documents that were deleted while this page was open

// Keeps the end of the conversation in view while `change` makes it longer, unless the reader has scrolled up.
export function following(change, scroll = toEnd) {
  const box = byId("messages");
  const near = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
  change();
  if (near) scroll();
}

export function toEnd() {
  byId("messages").scrollTop = byId("messages").scrollHeight;
}

// Brings an answer's beginning to the top, where there is enough below it: its sources do not push it away.
export function reveal(article) {
  const box = byId("messages");
  box.scrollTop = Math.max(box.scrollTop, article.offsetTop - box.offsetTop);
}

export function bubble(role, content = "") {
  const body = make("p", { className: "content", dir: "auto", lang: tongueOf(content), textContent: content });
  const article = make("article", { className: role }, make("h3", { says: role === "user" ? "you" : "assistant" }), body);
  byId("messages").querySelector(".welcome")?.remove();
  byId("messages").append(article);
  return { article, body };
}

// An answer's text, where "[2]" opens its second source.
export function fill(body, content, citations) {
  const parts = content.split(/\[(\d{1,2})\]/);
  const nodes = parts.map((part, place) => {
    const citation = place % 2 ? citations.find((one) => one.number === Number(part)) : null;
    if (!citation) return place % 2 ? `[${part}]` : part;
    const button = make("button", { className: "ref", type: "button", textContent: `[${part}]`, onclick: () => openCitation(citation) });
    return say(button, () => text("source", { number: citation.number }), "ariaLabel");
  });
  body.lang = tongueOf(content);
  body.replaceChildren(...nodes);
}

export function note(article, key) {
  article.append(make("p", { className: "note", says: key }));
}

export function sources(article, citations) {
  if (!citations.length) return;
  const rows = citations.map((one) => make("li", { dataset: { document: one.document_id ?? "" } }, one.quote && !gone.has(one.document_id) ? source(one) : lost(one)));
  article.append(make("section", { className: "sources" }, make("h4", { says: "sources" }), make("ol", {}, ...rows)));
}

function source(citation) {
  const open = isTurn(citation) ? link(citation) : make("button", { className: "source", type: "button", onclick: () => openCitation(citation) });
  open.append(heading(citation), make("q", { dir: "auto", lang: tongueOf(citation.quote), textContent: citation.quote }));
  if (citation.suspicious) open.append(warningOf());
  return open;
}

function link(citation) {
  const open = make("a", { className: "source", href: addressOf(citation.conversation_id, citation.turn) });
  open.addEventListener("click", (event) => {
    event.preventDefault();
    openCitation(citation);
  });
  return open;
}

const heading = (citation) => make("span", { className: "place" }, make("span", { className: "number", textContent: citation.number }), make("span", { says: () => placeOf(citation) }));

// In words, with a sign beside them.
export const warningOf = () => make("span", { className: "suspicious" }, make("span", { ariaHidden: "true", textContent: "⚠ " }), make("span", { says: "suspicious" }));

const lost = (citation) => make("div", { className: "source gone" }, heading(citation), make("span", { says: isTurn(citation) ? "turn_gone" : "source_gone" }));

// A document was deleted: what is on the page quotes it no longer.
export function forget(document) {
  gone.add(document);
  for (const row of byId("messages").querySelectorAll("li[data-document]")) {
    const place = row.querySelector(".place");
    if (row.dataset.document !== document || row.querySelector(".gone")) continue;
    row.replaceChildren(make("div", { className: "source gone" }, place, make("span", { says: "source_gone" })));
  }
}

export function welcome() {
  byId("messages").replaceChildren(make("p", { className: "welcome", says: "welcome" }));
}
