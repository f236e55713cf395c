"""What is measured in the assistant's page, as JavaScript that returns what is wrong, and what its sources must name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from assistant.api.app import WEB
from playwright.sync_api import Page

REPO = Path(__file__).resolve().parents[2]
# Codes of errors that the page's own requests can't lead to.
NOT_THE_PAGES = {"no_question", "no_schema", "bad_text", "gone", "no_file", "bad_shape", "database", "invalid_api_key"}

# [share, words] of every state of a progress bar in the list of documents.
RECORD_PROGRESS = """() => {
  window.progress = [];
  const look = () => document.querySelectorAll("#documents li").forEach((row) => {
    const bar = row.querySelector("progress");
    if (bar && !bar.hidden && bar.hasAttribute("value")) window.progress.push([bar.value, row.querySelector(".state").textContent]);
  });
  const all = { subtree: true, childList: true, attributes: true, characterData: true };
  new MutationObserver(look).observe(document.getElementById("documents"), all);
}"""

# A DataTransfer with files: [[name, base64], …].
FILES = """(files) => {
  const transfer = new DataTransfer();
  for (const [name, content] of files) transfer.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
  return transfer;
}"""

# Whatever reaches beyond the window's right edge.
SIDEWAYS = """() => {
  const wide = [...document.body.querySelectorAll("*")].filter((element) => {
    const box = element.getBoundingClientRect();
    return element.checkVisibility() && !element.closest(".skip") && box.width > 1 && box.right > innerWidth + 1;
  });
  const scrolls = [document.documentElement, ...document.querySelectorAll("#side, #messages, #viewer, #viewer-text")];
  return [...wide, ...scrolls.filter((one) => one.scrollWidth > one.clientWidth + 1)].map((one) => one.outerHTML.slice(0, 120));
}"""

# Every text that a reader sees or a screen reader says.
EVERYTHING_SAID = """() => {
  const said = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (let node = walk.currentNode; node; node = walk.nextNode()) {
    const element = node.nodeType === Node.TEXT_NODE ? node.parentElement : node;
    if (!(element.checkVisibility() || element.tagName === "OPTION") || element.closest("script, noscript")) continue;
    if (node === element) said.push(element.ariaLabel, element.placeholder, element.title);
    else said.push(node.data.trim());
  }
  return [...new Set(said.filter(Boolean))];
}"""

# Text below 4.5:1, and edges of controls below 3:1, to the ground that they stand on (WCAG 2.2, 1.4.3 and 1.4.11).
PALE = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  const read = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return { rgb: [r, g, b], alpha: a / 255 };
  };
  const over = (top, below) => top.rgb.map((value, i) => value * top.alpha + below[i] * (1 - top.alpha));
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const own = read(getComputedStyle(element).backgroundColor);
    return own.alpha === 1 ? own.rgb : over(own, ground(element.parentElement));
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const pale = [];
  const hold = (colour, element, behind, least, what) => {
    const below = ground(behind);
    const found = ratio(over(read(colour), below), below);
    if (found < least) pale.push(`${found.toFixed(2)}:1 ${what} ${element.tagName}#${element.id}.${element.className}`);
  };
  let texts = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest(".unseen, .skip, script, noscript, option")) continue;
    texts += 1;
    hold(getComputedStyle(element).color, element, element, 4.5, node.data.trim().slice(0, 40));
  }
  for (const box of document.querySelectorAll("button, select, textarea, input:not(.unseen), #drop label")) {
    if (!box.checkVisibility()) continue;
    const style = getComputedStyle(box);
    if (box.placeholder) hold(getComputedStyle(box, "::placeholder").color, box, box, 4.5, "placeholder");
    if (box.tagName !== "BUTTON") hold(style.color, box, box, 4.5, "value");
    if (style.borderTopWidth !== "0px") hold(style.borderTopColor, box, box.parentElement, 3, "edge");
  }
  if (texts < 20) pale.push(`only ${texts} texts were looked at`);
  return pale;
}"""

# Identifiers, references between elements, the order of headings, the page's language.
STRUCTURE = """() => {
  const wrong = [];
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  ids.filter((id, place) => ids.indexOf(id) !== place).forEach((id) => wrong.push(`two elements are #${id}`));
  for (const name of ["for", "aria-labelledby", "aria-describedby", "aria-controls"])
    for (const element of document.querySelectorAll(`[${name}]`))
      for (const id of element.getAttribute(name).split(" "))
        if (!document.getElementById(id)) wrong.push(`${name} names no element: ${id}`);
  let before = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    if (!heading.checkVisibility()) continue;
    const level = Number(heading.tagName[1]);
    if (level > before + 1) wrong.push(`${heading.outerHTML} follows a heading of level ${before}`);
    before = level;
  }
  if (document.querySelectorAll("h1").length !== 1) wrong.push("there is not one h1");
  if (!document.documentElement.lang) wrong.push("the page has no language");
  if (document.querySelectorAll("[tabindex]:not([tabindex='0'], [tabindex='-1'])").length) wrong.push("an order of focus of its own");
  return wrong;
}"""

WHERE = """() => {
  const element = document.activeElement;
  const shown = element.classList.contains("unseen") ? document.querySelector(`label[for=${element.id}]`) : element;
  const all = [...document.querySelectorAll("*")];
  const { outlineStyle, outlineWidth } = getComputedStyle(shown);
  const ring = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
  return { place: all.indexOf(element), name: element.outerHTML.slice(0, 90), ring };
}"""


def walk(page: Page) -> list[str]:
    """Go through the page with Tab: what comes out of its order, or shows no focus."""
    wrong: list[str] = []
    page.evaluate("document.activeElement.blur()")
    page.locator("#skip").focus()
    before = -1
    names: list[str] = []
    for _ in range(80):
        at = page.evaluate(WHERE)
        if at["name"].startswith("<body"):
            break
        if at["place"] <= before:
            wrong.append(f"out of order: {at['name']}")
        if not at["ring"]:
            wrong.append(f"no visible focus: {at['name']}")
        before = at["place"]
        names.append(at["name"])
        if 'id="send"' in at["name"]:
            break
        page.keyboard.press("Tab")
    for wanted in ("language", "file", "new", "theme", "messages", "question", "send"):
        if not any(f'id="{wanted}"' in name for name in names):
            wrong.append(f"Tab does not come to #{wanted}")
    return wrong


def nameless(snapshot: str) -> list[str]:
    """The lines of an ARIA snapshot (Playwright's own computation) that are things to work with, and have no name."""
    roles = "button|link|textbox|combobox|checkbox|progressbar|dialog|region|complementary|main|list"
    lines = [line for line in snapshot.splitlines() if re.match(rf"\s*- ({roles})\b", line)]
    assert len(lines) > 1, snapshot
    return [line for line in lines if not re.match(r'\s*- \w+ ("|/)', line) and not re.match(r"\s*- list\b", line)]


def sentences(page: Page, language: str) -> Callable[[str], bool]:
    """Whether a text is one of a language's sentences, and not the other's too."""
    tables = page.evaluate("import('/web/texts.js').then((module) => module.TEXTS)")
    other = tables["vi" if language == "en" else "en"]
    own = [text for key, text in tables[language].items() if other[key] != text and text.strip("{}a-z: ")]
    patterns = [re.compile(re.sub(r"\\\{\w+\\\}", ".*", re.escape(text)), re.DOTALL) for text in own]
    return lambda said: any(pattern.fullmatch(said) for pattern in patterns)


def missing_texts(tables: dict[str, dict[str, str]]) -> list[str]:
    """What one language says and the other does not, and what page, API and parsers name and no language says."""
    english, vietnamese = tables["en"], tables["vi"]
    wrong = [f"only in one language: {key}" for key in english.keys() ^ vietnamese.keys()]
    fields = {key: set(re.findall(r"\{(\w+)\}", text)) for key, text in english.items()}
    wrong += [f"other values: {key}" for key in fields if fields[key] != set(re.findall(r"\{(\w+)\}", vietnamese.get(key, "")))]
    page = "\n".join(path.read_text("utf-8") for path in WEB.iterdir() if path.suffix in (".js", ".html") and path.name != "texts.js")
    named = set(re.findall(r'data-(?:text|placeholder)="(\w+)"|\btext\("(\w+)"|says: "(\w+)"|notice\("(\w+)"', page))
    wrong += [f"the page says {key}, which no language knows" for names in named for key in names if key and key not in english]
    api = "\n".join(path.read_text("utf-8") for path in (REPO / "capstone/assistant").rglob("*.py"))
    parsers = "\n".join(path.read_text("utf-8") for path in (REPO / "shared/hybridlab/rag/parse").glob("*.py"))
    errors = set(re.findall(r'Refusal\(\s*\d+,\s*"(\w+)"|\banswer\((?!status)[^\n]*?, "(\w+)"[,)]', api)) | set(
        re.findall(r'DocumentError\(\s*"(\w+)"()', api)
    )
    wrong += [
        f"no sentence for error {code}"
        for codes in errors
        for code in codes
        if code and code not in NOT_THE_PAGES and f"error_{code}" not in english
    ]
    failures = set(re.findall(r'DocumentError\(\s*"(\w+)"', parsers)) | {"internal", "not_embedded"}
    wrong += [f"no sentence for a document that is {code}" for code in failures if f"failed_{code}" not in english]
    flags = (
        set(re.findall(r'append\(f?"([a-z-]+)(?:[":])', parsers))
        | set(re.findall(r'INSTRUCTIONS = "([\w-]+)", "([\w-]+)"', api)[0])
        | {"encoding"}
    )
    wrong += [f"no sentence for the warning {flag}" for flag in flags if f"flag_{flag}" not in english]
    if len(errors) < 10 or len(failures) < 12 or len(flags) < 8:
        wrong.append(f"the codes are no longer found in the sources: {errors} {failures} {flags}")
    return sorted(wrong)
