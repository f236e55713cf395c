// Puts the page together.
import { hasKey, useKey } from "./api.js";
import * as chat from "./chat.js";
import * as conversations from "./conversations.js";
import { byId } from "./dom.js";
import * as documents from "./documents.js";
import { language, speak } from "./texts.js";

function begin() {
  documents.refresh();
  chat.begin();
}

speak(language());
byId("language").value = language();
byId("language").addEventListener("change", (event) => {
  speak(event.target.value);
  documents.show();
  if (chat.current()) chat.open(chat.current());
  else chat.begin();
});
byId("menu").addEventListener("click", () => {
  const open = byId("side").classList.toggle("open");
  byId("menu").setAttribute("aria-expanded", String(open));
});
byId("new").addEventListener("click", chat.begin);
chat.whenListChanges(conversations.refresh);
chat.listen();
documents.listen();

if (hasKey()) begin();
else {
  byId("login").showModal();
  byId("login-form").addEventListener("submit", () => {
    useKey(byId("key").value);
    begin();
  });
}
