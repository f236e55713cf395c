// The list of conversations.
import { call } from "./api.js";
import * as chat from "./chat.js";
import { byId, make, notice } from "./dom.js";
import { text } from "./texts.js";

export async function refresh() {
  let all = [];
  try {
    all = (await call("GET", "v1/conversations")).data;
  } catch (problem) {
    notice(problem.status ? problem.message : text("offline"));
  }
  const rows = all.map((one) => {
    const name = one.title || text("untitled");
    const open = make("button", { className: "quiet name", textContent: name, onclick: () => chat.open(one.id) });
    if (one.id === chat.current()) open.setAttribute("aria-current", "true");
    const remove = make("button", { className: "quiet remove", textContent: "✕", ariaLabel: `${text("remove")} ${name}`, onclick: () => removeOne(one, name) });
    return make("li", {}, open, remove);
  });
  byId("conversations").replaceChildren(...(rows.length ? rows : [make("li", { className: "empty", textContent: text("no_conversations") })]));
}

async function removeOne(one, name) {
  if (!confirm(text("sure", { name }))) return;
  await call("DELETE", `v1/conversations/${one.id}`).catch((problem) => notice(problem.message || text("offline")));
  if (one.id === chat.current()) chat.begin();
  else refresh();
}
