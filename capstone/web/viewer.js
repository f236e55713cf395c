// Opens the page that a citation names, with the quote marked.
import { call } from "./api.js";
import { byId, make, notice } from "./dom.js";
import { text } from "./texts.js";

export function placeOf(citation) {
  const place = citation.page ? `${text("page")} ${citation.page}` : citation.heading.join(" › ");
  return place ? `${citation.document}, ${place}` : citation.document;
}

export async function openCitation(citation) {
  let page;
  try {
    page = await call("GET", `v1/documents/${citation.document_id}/pages/${citation.page_index}`);
  } catch (problem) {
    return notice(problem.message || text("offline"));
  }
  // The server counts characters, JavaScript counts UTF-16 units: cut by characters.
  const letters = Array.from(page.text);
  const cut = (from, to) => letters.slice(from, to).join("");
  const mark = make("mark", { textContent: cut(citation.start, citation.end) });
  const hiddenFrom = page.hidden.length ? page.hidden[0][0] : letters.length;
  const parts = [cut(0, citation.start), mark, cut(citation.end, hiddenFrom)];
  if (hiddenFrom < letters.length) parts.push(make("del", { textContent: cut(hiddenFrom), title: text("hidden") }));
  byId("viewer-title").textContent = placeOf(citation);
  byId("viewer-text").replaceChildren(...parts);
  byId("viewer").showModal();
  mark.scrollIntoView({ block: "center" });
}
