// Opens what a citation names: the page with the quote marked, or the turn in its conversation.
import { addressOf, visit } from "./address.js";
import { call } from "./api.js";
import { byId, make } from "./dom.js";
import { dateOf, say, text, tongueOf } from "./language.js";
import { complain } from "./problems.js";

export const isTurn = (citation) => citation.kind === "turn";

export function placeOf(citation) {
  if (isTurn(citation)) return text(`turn_${citation.role}`, { when: dateOf(citation.created) });
  if (citation.page) return text("page", { document: citation.document, page: citation.page });
  return citation.heading.length ? text("section", { document: citation.document, heading: citation.heading.join(" › ") }) : citation.document;
}

export async function openCitation(citation) {
  if (isTurn(citation)) return visit(addressOf(citation.conversation_id, citation.turn));
  let page;
  try {
    page = await call("GET", `v1/documents/${citation.document_id}/pages/${citation.page_index}`);
  } catch (problem) {
    return complain(problem);
  }
  // The server counts characters, JavaScript counts UTF-16 units: cut by characters.
  const letters = Array.from(page.text);
  const cut = (from, to) => letters.slice(from, to).join("");
  const mark = make("mark", { tabIndex: -1, textContent: cut(citation.start, citation.end) });
  const hiddenFrom = page.hidden.length ? page.hidden[0][0] : letters.length;
  const parts = [cut(0, citation.start), mark, cut(citation.end, hiddenFrom)];
  if (hiddenFrom < letters.length) parts.push(make("strong", { className: "hidden", says: "hidden" }), make("del", { textContent: cut(hiddenFrom) }));
  say(byId("viewer-title"), () => placeOf(citation));
  byId("viewer-heading").hidden = !(citation.page && citation.heading.length);
  say(byId("viewer-heading"), () => text("heading", { heading: citation.heading.join(" › ") }));
  byId("viewer-warning").hidden = !citation.suspicious;
  byId("viewer-text").lang = tongueOf(page.text);
  byId("viewer-text").replaceChildren(...parts);
  if (!byId("viewer").open) byId("viewer").showModal();
  mark.focus({ preventScroll: true }); // a screen reader begins to read here
  mark.scrollIntoView({ block: "center" });
}
