// The list of conversations.
import { addressOf } from "./address.js";
import { call } from "./api.js";
import * as chat from "./chat.js";
import { byId, keep, make } from "./dom.js";
import { say, text } from "./language.js";
import { complain } from "./problems.js";

let known = [];

export async function refresh() {
  show(); // which one is open is known at once
  try {
    known = (await call("GET", "v1/conversations")).data;
    show();
  } catch (problem) {
    complain(problem);
  }
}

function show() {
  const otherwise = byId("new");
  keep(byId("conversations"), known, { key: (one) => one.id, build, update, empty: "no_conversations", otherwise });
}

const nameOf = (one) => one.title || text("untitled");

function build(one) {
  const open = make("a", { className: "name", dir: "auto", href: addressOf(one.id), says: () => nameOf(one) });
  const remove = make("button", { className: "quiet remove", type: "button", textContent: "✕", onclick: () => removeOne(one) });
  say(remove, () => text("remove_named", { name: nameOf(one) }), "ariaLabel");
  return make("li", {}, open, remove);
}

function update(row, one) {
  if (one.id === chat.current()) row.firstChild.setAttribute("aria-current", "page");
  else row.firstChild.removeAttribute("aria-current");
}

async function removeOne(one) {
  if (!confirm(text("sure", { name: nameOf(one) }))) return;
  if (one.id === chat.current()) {
    history.replaceState(null, "", addressOf(null));
    chat.begin();
  }
  await call("DELETE", `v1/conversations/${one.id}`).catch((problem) => problem.code === "no_conversation" || complain(problem));
  refresh();
}
