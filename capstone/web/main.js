// Puts the page together.
import { placeInAddress } from "./address.js";
import * as chat from "./chat.js";
import * as conversations from "./conversations.js";
import { byId } from "./dom.js";
import * as documents from "./documents.js";
import { language, speak } from "./language.js";
import * as memory from "./memory.js";
import * as problems from "./problems.js";
import * as reading from "./reading.js";

// ---- the address names the conversation

function route() {
  menu(false);
  byId("viewer").close();
  memory.close();
  reading.close();
  const { conversation, turn } = placeInAddress();
  if (conversation && turn) chat.openTurn(conversation, turn);
  else if (conversation && conversation !== chat.current()) chat.open(conversation);
  else if (!conversation) chat.begin();
}

addEventListener("hashchange", route);
byId("new").addEventListener("click", () => {
  if (location.hash.length > 1) location.hash = "";
  else route();
  byId("question").focus();
});

// ---- on a narrow screen the lists lie over the conversation

const narrow = matchMedia("(max-width: 46rem)");

function menu(open) {
  const shown = open && narrow.matches;
  byId("side").classList.toggle("open", shown);
  byId("main").inert = shown;
  byId("menu").setAttribute("aria-expanded", String(shown));
}

byId("conversations").addEventListener("click", (event) => event.target.closest("a") && menu(false)); // the open one changes no address
byId("menu").addEventListener("click", () => menu(!byId("side").classList.contains("open")));
narrow.addEventListener("change", () => menu(false));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !byId("main").inert) return;
  menu(false);
  byId("menu").focus();
});

// ---- language, colours, the way to the question

speak(language());
byId("language").value = language();
byId("language").addEventListener("change", (event) => {
  speak(event.target.value);
  documents.show();
});

function colours(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
}

byId("theme").value = localStorage.getItem("theme") || "auto";
colours(byId("theme").value);
byId("theme").addEventListener("change", (event) => colours(event.target.value));

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the conversation's
  menu(false);
  byId("question").focus();
});

// ---- begin, and begin again when the assistant is back, with the key that it wants, or when the reader is

function refresh() {
  documents.refresh();
  conversations.refresh();
}

chat.whenListChanges(conversations.refresh);
chat.listen();
documents.listen();
memory.listen();
problems.listen();
reading.listen();
addEventListener("assistant-back", () => {
  documents.resume();
  if (chat.current()) conversations.refresh();
  else route();
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());
documents.refresh();
route();
