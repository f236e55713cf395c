// One conversation: questions, streamed answers, numbered sources.
import { answer, call } from "./api.js";
import { byId, make, notice } from "./dom.js";
import { text } from "./texts.js";
import { openCitation, placeOf } from "./viewer.js";

let conversation = null;
let running = null;
let listChanged = () => {};

export const current = () => conversation;

export function whenListChanges(callback) {
  listChanged = callback;
}

function bubble(role, content = "") {
  const body = make("p", { className: "content", textContent: content });
  const article = make("article", { className: role }, make("h3", { textContent: text(role === "user" ? "you" : "assistant") }), body);
  byId("messages").append(article);
  article.scrollIntoView({ block: "end" });
  return { article, body };
}

function sources(article, citations) {
  if (!citations.length) return;
  const items = citations.map((one) => {
    const open = make("button", { className: "source", onclick: () => openCitation(one) });
    open.append(make("span", { className: "place", textContent: `${placeOf(one)}` }), make("q", { textContent: one.quote }));
    return make("li", {}, open);
  });
  article.append(make("section", { className: "sources" }, make("h4", { textContent: text("sources") }), make("ol", {}, ...items)));
}

function welcome() {
  byId("messages").replaceChildren(make("p", { className: "welcome", textContent: text("welcome") }));
}

export function begin() {
  running?.abort();
  conversation = null;
  welcome();
  byId("question").focus();
  listChanged();
}

export async function open(id) {
  running?.abort();
  const whole = await call("GET", `v1/conversations/${id}`).catch((problem) => notice(problem.message || text("offline")));
  if (!whole) return;
  conversation = id;
  byId("messages").replaceChildren();
  for (const message of whole.messages) {
    const { article } = bubble(message.role, message.complete ? message.content : `${message.content} ${text("cut")}`);
    sources(article, message.citations);
  }
  listChanged();
}

function busy(controller) {
  running = controller;
  byId("send").hidden = Boolean(controller);
  byId("stop").hidden = !controller;
}

export async function ask(question) {
  if (!conversation) {
    byId("messages").replaceChildren();
    conversation = (await call("POST", "v1/conversations", { title: question.slice(0, 80) })).id;
  }
  bubble("user", question);
  const { article, body } = bubble("assistant");
  article.setAttribute("aria-busy", "true");
  body.textContent = text("thinking");
  const controller = new AbortController();
  busy(controller);
  let cited = [];
  let said = "";
  try {
    const request = { messages: [{ role: "user", content: question }], conversation };
    for await (const chunk of answer(request, controller.signal)) {
      cited = chunk.citations || cited;
      said += chunk.choices[0]?.delta?.content || "";
      if (said) body.textContent = said;
    }
  } catch (problem) {
    if (problem.name === "AbortError") said = `${said} ${text("stopped")}`;
    else notice(problem.status ? problem.message : problem.message || text("offline"));
  }
  body.textContent = said;
  sources(article, cited);
  article.removeAttribute("aria-busy");
  article.scrollIntoView({ block: "end" });
  if (running === controller) busy(null);
  listChanged();
}

export function listen() {
  const form = byId("ask");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const question = byId("question").value.trim();
    if (!question || running) return;
    byId("question").value = "";
    await ask(question).catch((problem) => notice(problem.message || text("offline")));
    byId("question").focus();
  });
  byId("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  byId("stop").addEventListener("click", () => running?.abort());
}
