// What to do when something went wrong: say it in the page's language, ask for a key, or wait until the assistant is back.
import { isAlive, hasKey, useKey } from "./api.js";
import { byId, notice, quiet } from "./dom.js";
import { knows, say, text } from "./language.js";

const LOOK = 2000; // milliseconds between two looks whether the assistant is back

let looking = null;

export function sentenceOf(problem) {
  return knows(`error_${problem.code}`) ? text(`error_${problem.code}`, problem.values) : text("error_unknown", { message: problem.message });
}

export function complain(problem) {
  if (problem.code === "invalid_api_key") askForKey();
  else if (problem.code === "offline") waitForReturn();
  else notice(() => sentenceOf(problem));
}

function waitForReturn() {
  if (looking) return;
  notice("error_offline");
  looking = setInterval(async () => {
    if (!(await isAlive()) || !looking) return;
    clearInterval(looking);
    looking = null;
    notice("back", { good: true, seconds: 6 });
    dispatchEvent(new Event("assistant-back"));
  }, LOOK);
}

function askForKey() {
  say(byId("login-why"), hasKey() ? "login_invalid" : "login_why");
  if (!byId("login").open) byId("login").showModal();
}

export function listen() {
  byId("notice-close").addEventListener("click", quiet);
  byId("login-form").addEventListener("submit", () => {
    useKey(byId("key").value);
    dispatchEvent(new Event("assistant-back"));
  });
}
